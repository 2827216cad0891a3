//! The table of watched tasks in memory, by number.
//!
//! As in the store of keys, an entry is a pointer that is removed, under the lock of its shard, before the task is
//! freed. A lookup can add a reference to a watched task at any time, so
//! [`State::is_alone`](crate::engine::task::state::State::is_alone) never holds for one.

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

// SAFETY: an entry is used only under the lock of its shard, and removed under it before its task is freed.
unsafe impl Send for WatchedTask {}

impl Watched {
    fn shard(&self, number: u64) -> &Lock<Shard> {
        self.shards.get(number as usize)
    }

    /// Inserts a task, unless it is in the table already, as it is when a retry makes it run again.
    pub(crate) fn insert(&self, number: u64, task: TaskRef<'_>) {
        let shard = &mut self.shard(number).lock().0;
        let is_it = |entry: &(u64, WatchedTask)| entry.0 == number;
        shard
            .entry(hash(number), is_it, |(number, _)| hash(*number))
            .or_insert((number, WatchedTask(task.as_ptr())));
    }

    /// Removes a task that is about to be freed.
    pub(crate) fn remove(&self, number: u64) {
        let shard = &mut self.shard(number).lock().0;
        if let Ok(entry) = shard.find_entry(hash(number), |(other, _)| *other == number) {
            entry.remove();
        }
    }

    /// Returns the tasks in the table.
    pub(crate) fn list(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        for shard in self.shards.iter() {
            let referenced = |(_, entry): &(u64, WatchedTask)| {
                // SAFETY: as in `get`.
                let task = unsafe { TaskRef::new(entry.0) };
                // SAFETY: as in `get`.
                task.state.try_add_ref().then(|| unsafe { Task::from_raw(entry.0) })
            };
            tasks.extend(shard.lock().0.iter().filter_map(referenced));
        }
        tasks
    }

    /// Returns the task with this number, unless it's about to be freed.
    pub(crate) fn get(&self, number: u64) -> Option<Task> {
        let shard = &self.shard(number).lock().0;
        let (_, entry) = shard.find(hash(number), |(other, _)| *other == number)?;
        // SAFETY: the entry is removed, under the lock that this thread holds, before the task is freed.
        let task = unsafe { TaskRef::new(entry.0) };
        // SAFETY: this takes over the reference that was just added.
        task.state.try_add_ref().then(|| unsafe { Task::from_raw(entry.0) })
    }
}

/// Spreads the numbers, which are consecutive, over all bits.
fn hash(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
