//! The table of tasks that have started and not ended.
//!
//! Shutdown reads it to find the tasks to abort; `idle` reads how many there are, and how many of them are *exempt*, because
//! they wait for idleness or shutdown themselves. Both numbers are in one word, so that they are always of one moment.
//! A task is inserted when it is first suspended, so one that finishes in its first poll never is. A task that waits
//! for an input of another client is inserted as well, because no other table of its own client leads to it.

use std::mem;
use std::ptr::NonNull;

use slab::Slab;

use crate::engine::base::shards::{SHARDS, Shards};
use crate::engine::base::sync::{AtomicU64, AtomicUsize, Ordering};
use crate::engine::task::header::{Header, Task, TaskRef};
use crate::engine::task::state::OWNED;
use crate::engine::task::walk::STRIDE;

#[derive(Default)]
pub(crate) struct OwnedTasks {
    shards: Shards<Slab<OwnedTask>>,
    next: AtomicUsize,
    /// The number of tasks, and in the high half that of exempt ones.
    counts: AtomicU64,
}

const TASK: u64 = 1;
const EXEMPT: u64 = 1 << 32;

/// The number of awaits up to which those that have ended stay recorded.
const FEW: usize = 4;

struct OwnedTask {
    task: NonNull<Header>,
    /// The tasks that it has begun to await. Some may have ended, or been abandoned.
    begun: Vec<Task>,
    /// The length of `begun` at which those that have ended are removed.
    full: usize,
}

// SAFETY: an entry is used only under the lock of its shard, and removed under it before its task is freed.
unsafe impl Send for OwnedTask {}

impl OwnedTasks {
    /// Whether all tasks in the table are exempt.
    pub(crate) fn are_exempt(&self) -> bool {
        let counts = self.counts.load(Ordering::SeqCst);
        counts % EXEMPT == counts / EXEMPT
    }

    /// The number of exempt tasks.
    pub(crate) fn exempt(&self) -> usize {
        (self.counts.load(Ordering::SeqCst) / EXEMPT) as usize
    }

    /// Makes a task of the table exempt. One that waits several times at once counts as one.
    pub(crate) fn begin_exemption(&self, task: &Task) {
        if task.make_extras().exempt.fetch_add(1, Ordering::SeqCst) == 0 {
            self.counts.fetch_add(EXEMPT, Ordering::SeqCst);
        }
    }

    /// Ends an exemption. Returns whether the task was exempt until now: neither if it still is, nor if it has ended.
    pub(crate) fn end_exemption(&self, task: &Task) -> bool {
        let one_less = |n: u32| n.checked_sub(1);
        let exempt = &task.make_extras().exempt;
        let is_last = exempt.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) == Ok(1);
        if is_last {
            self.counts.fetch_sub(EXEMPT, Ordering::SeqCst);
        }
        is_last
    }

    /// Inserts a task that the caller owns, with the tasks that it has begun to await.
    pub(crate) fn insert(&self, task: TaskRef<'_>, begun: Vec<Task>) {
        // Round-robin, so that the workers rarely contend for a shard.
        let shard = self.next.fetch_add(1, Ordering::Relaxed) % SHARDS;
        // Before the insertion, so that the engine is never taken for idle while the table has an entry.
        self.counts.fetch_add(TASK, Ordering::SeqCst);
        let full = (2 * begun.len()).max(FEW);
        let entry = OwnedTask { task: task.as_ptr(), begun, full };
        let at = self.shards.get(shard).lock().insert(entry);
        let slot = u32::try_from(at * SHARDS + shard)
            .expect("an engine has at most 268 million started tasks");
        task.slot.store(slot, Ordering::Relaxed);
        task.state.set(OWNED);
    }

    /// Adds the tasks that a task in the table has begun to await. The caller owns the task.
    pub(crate) fn add_begun(&self, task: &Task, mut begun: Vec<Task>) {
        let ended = self.with(task, |entry| {
            entry.begun.append(&mut begun);
            if entry.begun.len() < entry.full {
                return Vec::new();
            }
            let is_left = |task: &Task| !task.waiters.is_closed();
            let (left, ended) = mem::take(&mut entry.begun).into_iter().partition(is_left);
            entry.begun = left;
            entry.full = (2 * entry.begun.len()).max(FEW);
            ended
        });
        // Outside the lock: dropping the last reference to a task runs user code.
        drop(ended);
    }

    fn with<R>(&self, task: &Header, change: impl FnOnce(&mut OwnedTask) -> R) -> R {
        let slot = task.slot.load(Ordering::Relaxed) as usize;
        change(&mut self.shards.get(slot).lock()[slot / SHARDS])
    }

    /// Runs `code` if the task is in the table, and keeps it there meanwhile. False if it isn't in the table.
    pub(crate) fn while_owned(&self, task: &Task, code: impl FnOnce()) -> bool {
        let slot = task.slot.load(Ordering::Relaxed) as usize;
        let shard = self.shards.get(slot).lock();
        // The slot may be stale: the task may have ended, and another one may use the slot.
        let is_owned =
            shard.get(slot / SHARDS).is_some_and(|entry| entry.task == task.as_ref().as_ptr());
        if is_owned {
            code();
        }
        is_owned
    }

    /// Removes a task that the caller owns. Returns the tasks that it has begun to await, for the caller to drop where user
    /// code may run.
    #[must_use]
    pub(crate) fn remove(&self, task: &Task) -> Vec<Task> {
        let slot = task.slot.load(Ordering::Relaxed) as usize;
        let entry = self.shards.get(slot).lock().remove(slot / SHARDS);
        // A future that waits for the engine may have been moved out of the task and still exist.
        let was_exempt = task.extras().is_some_and(|it| it.exempt.swap(0, Ordering::SeqCst) > 0);
        self.counts.fetch_sub(if was_exempt { TASK + EXEMPT } else { TASK }, Ordering::SeqCst);
        entry.begun
    }

    /// Adds the tasks that a suspended task has begun to await to `tasks`. Some may have ended, or been abandoned.
    pub(crate) fn begun(&self, task: TaskRef<'_>, tasks: &mut Vec<Task>) {
        let slot = task.slot.load(Ordering::Relaxed) as usize;
        let shard = self.shards.get(slot).lock();
        // The slot may be stale: the task may end at any time.
        if let Some(entry) = shard.get(slot / SHARDS).filter(|it| it.task == task.as_ptr()) {
            tasks.extend(entry.begun.iter().map(|task| task.as_ref().to_task()));
        }
    }

    /// Returns all tasks in the table. A few under each lock, so that none is delayed.
    pub(crate) fn list(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        for shard in self.shards.iter() {
            let mut at = 0;
            loop {
                tasks.reserve(STRIDE);
                let shard = shard.lock();
                if at >= shard.capacity() {
                    break;
                }
                let entries = (at..at + STRIDE).filter_map(|slot| shard.get(slot));
                // SAFETY: a task is removed, under this lock, before the engine drops its reference.
                tasks.extend(entries.map(|entry| unsafe { TaskRef::new(entry.task) }.to_task()));
                at += STRIDE;
            }
        }
        tasks
    }
}
