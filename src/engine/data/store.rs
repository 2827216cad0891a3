//! The table of tasks that can be found by their keys.
//!
//! The store has no interest in its tasks: an entry is a pointer that is removed, under the lock of its shard, before the
//! last interest is dropped. Tasks without a key of their own are not entered. The key itself is stored in the task only
//! and is hashed once per operation, outside the lock. A pure call is found by the digest of the call, without making the
//! text of its key.

use std::hash::BuildHasher;
use std::ptr::NonNull;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::Key;
use crate::engine::base::deferred;
use crate::engine::base::lock::Lock;
use crate::engine::base::shards::Shards;
use crate::engine::task::header::{Extras, Header, Interest, TaskRef};
use crate::engine::task::state::interests;
use crate::task::key;

pub(crate) struct Store {
    shards: Shards<Shard>,
    hasher: RandomState,
}

#[derive(Default)]
struct Shard(HashTable<KeyedTask>);

struct KeyedTask {
    task: NonNull<Header>,
    hash: u64,
    /// The digest of a pure call, which determines its key; 0 for any other task.
    digest: u128,
}

// SAFETY: an entry is used under the lock only, where its task has an interest.
unsafe impl Send for KeyedTask {}

/// What a task is looked up by.
#[derive(Clone, Copy)]
pub(crate) enum Lookup<'a> {
    Key(&'a str),
    /// A pure call: the digest, which covers the name, and the name, which was given or is that of the function.
    Derived {
        digest: u128,
        name: Option<&'a str>,
        function: fn() -> &'static str,
    },
}

impl<'a> Lookup<'a> {
    /// What a task that has a key of its own is found by.
    fn of(task: &'a Header) -> Self {
        match task.extras() {
            Some(Extras { derived: Some(digest), name, .. }) => Self::Derived {
                digest: digest.get(),
                name: name.as_deref(),
                function: task.vtable.function,
            },
            _ => Self::Key(task.key()),
        }
    }

    pub(crate) fn key(self) -> Key {
        match self {
            Self::Key(key) => key.into(),
            Self::Derived { digest, name: Some(name), .. } => key::derived(name, digest),
            Self::Derived { digest, function, .. } => {
                key::derived(&key::short_name(function()), digest)
            }
        }
    }

    fn is_of(self, entry: &KeyedTask) -> bool {
        match self {
            Self::Key(key) => **entry.task().key() == *key,
            Self::Derived { digest, .. } if entry.digest == digest => true,
            // Another task may have been given the very key that this call has.
            Self::Derived { .. } => entry.digest == 0 && *entry.task().key() == self.key(),
        }
    }

    fn digest(self) -> u128 {
        match self {
            Self::Key(_) => 0,
            Self::Derived { digest, .. } => digest,
        }
    }
}

impl KeyedTask {
    fn task(&self) -> TaskRef<'_> {
        // SAFETY: dropping the last interest removes the entry, under the lock.
        unsafe { TaskRef::new(self.task) }
    }

    /// An interest for another submission of the key, unless the task has failed or is aborting.
    fn to_join(&self) -> Option<Interest> {
        (!self.task().waiters.is_aborting()).then(|| self.task().try_to_interest()).flatten()
    }
}

impl Shard {
    fn find_mut(&mut self, hash: u64, wanted: Lookup<'_>) -> Option<&mut KeyedTask> {
        self.0.find_mut(hash, |entry| entry.hash == hash && wanted.is_of(entry))
    }

    /// Removes this very task, if it's entered.
    fn remove(&mut self, hash: u64, task: NonNull<Header>) {
        if let Ok(entry) = self.0.find_entry(hash, |entry| entry.task == task) {
            entry.remove();
        }
    }
}

impl Store {
    pub(crate) fn new() -> Self {
        Self { shards: Shards::default(), hasher: RandomState::default() }
    }

    fn shard(&self, wanted: Lookup<'_>) -> (&Lock<Shard>, u64) {
        let hash = match wanted {
            Lookup::Derived { digest, .. } => self.hasher.hash_one(digest),
            // A key that reads like that of a pure call must be found among those.
            Lookup::Key(key) => match key::digest_in(key) {
                Some(digest) => self.hasher.hash_one(digest),
                None => self.hasher.hash_one(key),
            },
        };
        // The hash table uses the top and the bottom bits, so the shard is chosen by bits in between.
        (self.shards.get((hash >> 32) as usize), hash)
    }

    pub(crate) fn get(&self, key: &str) -> Option<Interest> {
        let wanted = Lookup::Key(key);
        let (shard, hash) = self.shard(wanted);
        shard.lock().find_mut(hash, wanted).and_then(|entry| entry.task().try_to_interest())
    }

    /// Joins the task of this key, or enters the one that `make` makes.
    pub(crate) fn join_or_insert(
        &self,
        wanted: Lookup<'_>,
        make: impl FnOnce() -> Interest,
    ) -> Joined {
        let (shard, hash) = self.shard(wanted);
        if let Some(interest) =
            shard.lock().find_mut(hash, wanted).and_then(|entry| entry.to_join())
        {
            return Joined::Existing(interest);
        }
        // Making a task may free another engine, and run user code, which must not find the lock taken.
        deferred::scope(|| Self::join_or_insert_now(shard, hash, wanted, make))
    }

    fn join_or_insert_now(
        shard: &Lock<Shard>,
        hash: u64,
        wanted: Lookup<'_>,
        make: impl FnOnce() -> Interest,
    ) -> Joined {
        let mut shard = shard.lock();
        let found = shard.find_mut(hash, wanted);
        if let Some(interest) = found.as_ref().and_then(|entry| entry.to_join()) {
            return Joined::Existing(interest);
        }
        let interest = make();
        let new = KeyedTask { task: interest.task().as_ptr(), hash, digest: wanted.digest() };
        match found {
            // The entered task has failed: it isn't found any more.
            Some(entry) => *entry = new,
            None => {
                shard.0.insert_unique(hash, new, |entry| entry.hash);
            }
        }
        Joined::New(interest)
    }

    /// Visits the tasks that can be found.
    pub(crate) fn each(&self, mut visit: impl FnMut(TaskRef<'_>)) {
        for shard in self.shards.iter() {
            shard.lock().0.iter().for_each(|entry| visit(entry.task()));
        }
    }

    /// Removes a task that was cancelled: its key is free again.
    pub(crate) fn forget(&self, task: TaskRef<'_>) {
        let (shard, hash) = self.shard(Lookup::of(task.get()));
        shard.lock().remove(hash, task.as_ptr());
    }

    /// Drops what may be the last interest in a task, and removes the task if it is. Returns the previous state.
    pub(crate) fn forget_last(&self, header: NonNull<Header>) -> u64 {
        // SAFETY: all interests together keep the task in memory, and the caller has one until `drop_interest`.
        let (task, state) = unsafe { (TaskRef::new(header), &header.as_ref().state) };
        let (shard, hash) = self.shard(Lookup::of(task.get()));
        let mut shard = shard.lock();
        let before = state.drop_interest();
        if interests(before) == 1 {
            shard.remove(hash, header);
        }
        before
    }
}

#[must_use]
pub(crate) enum Joined {
    Existing(Interest),
    New(Interest),
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::ptr;

    use super::*;

    #[test]
    fn keys_are_spread_over_the_shards() {
        let store = Store::new();
        let shard = |n: u32| ptr::from_ref(store.shard(Lookup::Key(&format!("key-{n}"))).0);
        let shards: HashSet<_> = (0..1000).map(shard).collect();
        assert!(shards.len() > crate::engine::base::shards::SHARDS / 2);
    }
}
