//! The tasks that have started and not ended, so that closing and waiting for idleness can find them.
//!
//! A task enters when it is first suspended, so one that finishes in its first poll never does. A
//! task that waits for one of another client enters too, since nothing of its own client leads to it.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use slab::Slab;

use crate::engine::base::shards::{SHARDS, Shards};
use crate::engine::task::header::{Header, Task, TaskRef};
use crate::engine::task::state::{AWAITS, OWNED};

/// What a task awaits.
#[derive(Default)]
pub(crate) struct Awaited {
    pub(crate) tasks: Vec<Task>,
    /// Also others, that only they themselves know of.
    pub(crate) more: bool,
    /// Blocking work of its own, which may wait for others.
    pub(crate) blocking: bool,
}

impl Awaited {
    pub(crate) fn is_nothing(&self) -> bool {
        self.tasks.is_empty() && !self.more
    }
}

#[derive(Default)]
pub(crate) struct OwnedTasks {
    shards: Shards<Slab<OwnedTask>>,
    next: AtomicUsize,
    len: AtomicUsize,
}

struct OwnedTask {
    task: NonNull<Header>,
    awaited: Awaited,
}

// SAFETY: an entry is used under the lock only, where its task is still in memory.
unsafe impl Send for OwnedTask {}

impl OwnedTasks {
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::SeqCst)
    }

    /// Enters a task that the caller owns.
    pub(crate) fn insert(&self, task: TaskRef<'_>, awaited: Awaited) {
        // Tasks of one worker come one after the other, so this spreads them well enough.
        let shard = self.next.fetch_add(1, Ordering::Relaxed) % SHARDS;
        self.len.fetch_add(1, Ordering::SeqCst);
        if awaited.is_nothing() && task.state.load() & AWAITS != 0 {
            task.state.clear(AWAITS);
        }
        let entry = OwnedTask { task: task.as_ptr(), awaited };
        let at = self.shards.get(shard).lock().insert(entry);
        let slot =
            u32::try_from(at * SHARDS + shard).expect("fewer than 268 million tasks started");
        task.slot.store(slot, Ordering::Relaxed);
        task.state.set(OWNED);
    }

    /// Notes what a listed task, which the caller owns, awaits now.
    pub(crate) fn set_awaited(&self, task: &Task, awaited: Awaited) {
        if awaited.is_nothing() {
            if task.state.load() & AWAITS == 0 {
                return;
            }
            task.state.clear(AWAITS);
        } else if task.state.load() & AWAITS == 0 {
            // It was listed in the middle of the poll, before its awaits were known.
            task.state.set(AWAITS);
        }
        let before = self.with(task, |entry| std::mem::replace(&mut entry.awaited, awaited));
        drop(before);
    }

    fn with<R>(&self, task: &Header, change: impl FnOnce(&mut OwnedTask) -> R) -> R {
        let slot = task.slot.load(Ordering::Relaxed) as usize;
        change(&mut self.shards.get(slot).lock()[slot / SHARDS])
    }

    /// Runs `code` if the task is in the list, and is so until that is done; false where it isn't.
    pub(crate) fn while_owned(&self, task: &Task, code: impl FnOnce()) -> bool {
        let slot = task.slot.load(Ordering::Relaxed) as usize;
        let shard = self.shards.get(slot).lock();
        // The slot may be stale: the task may have ended.
        let is_listed =
            shard.get(slot / SHARDS).is_some_and(|entry| entry.task == task.as_ref().as_ptr());
        if is_listed {
            code();
        }
        is_listed
    }

    /// Takes out a task that the caller owns.
    pub(crate) fn remove(&self, task: &Task) {
        let slot = task.slot.load(Ordering::Relaxed) as usize;
        let entry = self.shards.get(slot).lock().remove(slot / SHARDS);
        drop(entry);
        self.len.fetch_sub(1, Ordering::SeqCst);
    }

    /// Adds what a started task awaits to `tasks`; false where it awaits others too.
    pub(crate) fn awaited(&self, task: TaskRef<'_>, tasks: &mut Vec<Task>) -> bool {
        let slot = task.slot.load(Ordering::Relaxed) as usize;
        let shard = self.shards.get(slot).lock();
        // The slot may be stale: the task may end at any time.
        match shard.get(slot / SHARDS) {
            Some(entry) if entry.task == task.as_ptr() => {
                tasks.extend(entry.awaited.tasks.iter().map(|task| task.as_ref().to_task()));
                !entry.awaited.more
            }
            _ => true,
        }
    }

    /// Whether a started task awaits blocking work of its own.
    pub(crate) fn is_blocking(&self, task: TaskRef<'_>) -> bool {
        let slot = task.slot.load(Ordering::Relaxed) as usize;
        let shard = self.shards.get(slot).lock();
        shard
            .get(slot / SHARDS)
            .is_some_and(|entry| entry.task == task.as_ptr() && entry.awaited.blocking)
    }

    /// All of them.
    pub(crate) fn list(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        for shard in self.shards.iter() {
            // SAFETY: a task leaves the list, under this lock, before the engine lets go of it.
            let task = |entry: &OwnedTask| unsafe { TaskRef::new(entry.task) }.to_task();
            tasks.extend(shard.lock().iter().map(|(_, entry)| task(entry)));
        }
        tasks
    }
}
