//! The tasks that can be found by their keys.
//!
//! The store holds no interest in them: an entry is a pointer that goes, under the lock of its shard,
//! before the last user does. Tasks without a key of their own never come here. The key itself stands in
//! the task only, and is hashed once for an operation, outside the lock.

use std::hash::BuildHasher;
use std::ptr::NonNull;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

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

#[derive(Default)]
struct Shard(HashTable<Entry>);

struct Entry {
    task: NonNull<Header>,
    hash: u64,
}

// SAFETY: an entry is used under the lock only, where its task has a user.
unsafe impl Send for Entry {}

impl Entry {
    fn task(&self) -> TaskRef<'_> {
        // SAFETY: the last user takes the entry out, under the lock.
        unsafe { TaskRef::new(self.task) }
    }

    fn to_user(&self) -> Option<User> {
        // SAFETY: the user that was just added.
        self.task().state.try_add_user().then(|| unsafe { User::from_raw(self.task) })
    }
}

impl Shard {
    fn find_mut(&mut self, hash: u64, key: &str) -> Option<&mut Entry> {
        self.0.find_mut(hash, |entry| entry.hash == hash && **entry.task().key() == *key)
    }

    /// Takes out this very task, if it's there.
    fn remove(&mut self, hash: u64, task: NonNull<Header>) {
        if let Ok(entry) = self.0.find_entry(hash, |entry| entry.task == task) {
            entry.remove();
        }
    }
}

impl Store {
    pub(crate) fn new() -> Self {
        let shards = std::array::from_fn(|_| Lock::default());
        Self { shards, hasher: RandomState::default() }
    }

    fn shard(&self, key: &str) -> (&Lock<Shard>, u64) {
        let hash = self.hasher.hash_one(key);
        // The table uses the top and the bottom bits, so these are from between.
        (&self.shards[(hash >> 32) as usize % SHARDS], hash)
    }

    pub(crate) fn get(&self, key: &str) -> Option<User> {
        let (shard, hash) = self.shard(key);
        shard.lock().find_mut(hash, key).and_then(|entry| entry.to_user())
    }

    /// Joins the task of this key, unless it has failed or is about to; else enters the one that
    /// `make` makes, with the user it was made for.
    pub(crate) fn join_or_insert(&self, key: &Key, make: impl FnOnce() -> User) -> Joined {
        // Making a task may be what frees another engine, and foreign code with it.
        hold(|| self.join_or_insert_now(key, make))
    }

    fn join_or_insert_now(&self, key: &Key, make: impl FnOnce() -> User) -> Joined {
        let (shard, hash) = self.shard(key);
        let mut shard = shard.lock();
        let found = shard.find_mut(hash, key);
        if let Some(entry) = &found {
            if !entry.task().waiters.is_doomed() {
                if let Some(user) = entry.to_user() {
                    return Joined::Existing(user);
                }
            }
        }
        let user = make();
        let new = Entry { task: user.task().as_ptr(), hash };
        match found {
            // What was there has failed: it's found no more.
            Some(entry) => *entry = new,
            None => {
                shard.0.insert_unique(hash, new, |entry| entry.hash);
            }
        }
        Joined::New(user)
    }

    /// Takes out a task that was cancelled: its key is free again.
    pub(crate) fn forget(&self, task: TaskRef<'_>) {
        let (shard, hash) = self.shard(task.key());
        shard.lock().remove(hash, task.as_ptr());
    }

    /// Gives up what may be the last user of a task, and takes the task out if it is. Returns the state
    /// before.
    pub(crate) fn forget_last(&self, header: NonNull<Header>) -> u64 {
        // SAFETY: all users together keep the task, and the caller is one until `drop_user`.
        let (task, state) = unsafe { (TaskRef::new(header), &header.as_ref().state) };
        let (shard, hash) = self.shard(task.key());
        let mut shard = shard.lock();
        let before = state.drop_user();
        if users(before) == 1 {
            shard.remove(hash, header);
        }
        before
    }
}

#[must_use]
pub(crate) enum Joined {
    Existing(User),
    New(User),
}
