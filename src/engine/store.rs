//! The tasks that can be found by their keys.
//!
//! The store holds no interest in them: an entry is a pointer that goes, under the lock of its shard,
//! before the last user does. Tasks without a key of their own never come here.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::ptr::NonNull;

use foldhash::fast::RandomState;

use super::header::{Header, TaskRef, User};
use super::lock::Lock;
use super::release::hold;
use super::state::users;
use crate::Key;

/// More shards than submitting threads would hardly help; the number must be a power of two.
const SHARDS: usize = 16;

pub(crate) struct Store {
    shards: [Lock<Shard>; SHARDS],
    hasher: RandomState,
}

type Shard = HashMap<Key, Entry, RandomState>;

struct Entry(NonNull<Header>);

// SAFETY: an entry is used under the lock only, where its task has a user.
unsafe impl Send for Entry {}

impl Entry {
    fn task(&self) -> TaskRef<'_> {
        // SAFETY: the last user takes the entry out, under the lock.
        unsafe { TaskRef::new(self.0) }
    }

    fn to_user(&self) -> Option<User> {
        // SAFETY: the user that was just added.
        self.task().state.try_add_user().then(|| unsafe { User::from_raw(self.0) })
    }
}

impl Store {
    pub(crate) fn new() -> Self {
        let hasher = RandomState::default();
        let shards = std::array::from_fn(|_| Lock::new(Shard::with_hasher(hasher.clone())));
        Self { shards, hasher }
    }

    fn shard(&self, key: &str) -> &Lock<Shard> {
        // The map uses the top and the bottom bits, so these are from between.
        &self.shards[(self.hasher.hash_one(key) >> 32) as usize % SHARDS]
    }

    pub(crate) fn get(&self, key: &str) -> Option<User> {
        self.shard(key).lock().get(key).and_then(Entry::to_user)
    }

    /// Joins the task of this key, unless it has failed or is about to; else enters the one that
    /// `make` makes, with the user it was made for.
    pub(crate) fn join_or_insert(&self, key: &Key, make: impl FnOnce() -> User) -> Joined {
        // Making a task may be what frees another engine, and foreign code with it.
        hold(|| self.join_or_insert_now(key, make))
    }

    fn join_or_insert_now(&self, key: &Key, make: impl FnOnce() -> User) -> Joined {
        let mut shard = self.shard(key).lock();
        if let Some(entry) = shard.get(&**key) {
            if !entry.task().waiters.is_doomed() {
                if let Some(user) = entry.to_user() {
                    return Joined::Existing(user);
                }
            }
        }
        let user = make();
        shard.insert(key.clone(), Entry(user.task().as_ptr()));
        Joined::New(user)
    }

    /// Takes out a task that was cancelled: its key is free again.
    pub(crate) fn forget(&self, task: TaskRef<'_>) {
        let key = task.key();
        let mut shard = self.shard(key).lock();
        if shard.get(&**key).is_some_and(|entry| entry.0 == task.as_ptr()) {
            shard.remove(&**key);
        }
    }

    /// Gives up what may be the last user of a task, and takes the task out if it is. Returns the state
    /// before.
    pub(crate) fn forget_last(&self, header: NonNull<Header>) -> u64 {
        // SAFETY: all users together keep the task, and the caller is one until `drop_user`; the key
        // is cloned because the task may go after that.
        let (key, state) = unsafe { (header.as_ref().key().clone(), &header.as_ref().state) };
        let mut shard = self.shard(&key).lock();
        let before = state.drop_user();
        if users(before) == 1 && shard.get(&*key).is_some_and(|entry| entry.0 == header) {
            shard.remove(&*key);
        }
        before
    }
}

#[must_use]
pub(crate) enum Joined {
    Existing(User),
    New(User),
}
