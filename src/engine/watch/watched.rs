//! The watched tasks in memory, to be found by their numbers.
//!
//! As in the store of keys, an entry is a pointer that goes, under the lock of its shard, before the
//! task's memory does. So a watched task is never known to be alone: a reference can appear out of nowhere.

use std::ptr::NonNull;

use hashbrown::HashTable;

use crate::engine::base::lock::Lock;
use crate::engine::base::shards::Shards;
use crate::engine::task::header::{Header, Task, TaskRef};

#[derive(Default)]
pub(crate) struct Watched {
    shards: Shards<Shard>,
}

#[derive(Default)]
struct Shard(HashTable<(u64, WatchedTask)>);

#[derive(Clone, Copy)]
struct WatchedTask(NonNull<Header>);

// SAFETY: an entry is used under the lock only, where its task is in memory.
unsafe impl Send for WatchedTask {}

impl Watched {
    fn shard(&self, number: u64) -> &Lock<Shard> {
        self.shards.get(number as usize)
    }

    /// Enters a task, unless it's there: a retry begins it again.
    pub(crate) fn insert(&self, number: u64, task: TaskRef<'_>) {
        let shard = &mut self.shard(number).lock().0;
        let is_it = |entry: &(u64, WatchedTask)| entry.0 == number;
        shard
            .entry(hash(number), is_it, |(number, _)| hash(*number))
            .or_insert((number, WatchedTask(task.as_ptr())));
    }

    /// Takes out a task that is about to be freed.
    pub(crate) fn remove(&self, number: u64) {
        let shard = &mut self.shard(number).lock().0;
        if let Ok(entry) = shard.find_entry(hash(number), |(other, _)| *other == number) {
            entry.remove();
        }
    }

    /// The task with this number, unless it's about to be freed.
    pub(crate) fn get(&self, number: u64) -> Option<Task> {
        let shard = &self.shard(number).lock().0;
        let (_, entry) = shard.find(hash(number), |(other, _)| *other == number)?;
        // SAFETY: its memory goes after it has been taken out, under the lock that we have.
        let task = unsafe { TaskRef::new(entry.0) };
        // SAFETY: the reference that was just added.
        task.state.try_add_ref().then(|| unsafe { Task::from_raw(entry.0) })
    }
}

/// Numbers count up: this spreads them over all bits.
fn hash(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
