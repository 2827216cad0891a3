//! A worker's own queues, and stealing from them.
//!
//! | queue | contents | other workers can steal |
//! |---|---|---|
//! | `next` | the first task that a finished one made ready | no |
//! | `fresh` | further tasks that finished ones made ready, and started tasks that were woken outside the workers | yes |
//! | `queue` | submitted tasks, and those that were woken on this worker, in order | yes |
//!
//! The worker takes from `next` and `fresh` first: their inputs were just computed on this thread and are in its
//! cache. `next` may be set again by each task that was in it, and `fresh` be filled by them, so of [`CYCLE`] tasks at least
//! one is the oldest in `fresh`, and one the oldest in `queue`. The deques are changed by plain stores, so a push is
//! followed by a fence before idle workers are counted; see [`IdleWorkers`](crate::engine::queue::idle).

use std::cell::Cell;

use crossbeam_deque::{Steal, Stealer, Worker as Deque};

use crate::engine::task::header::Task;

/// Of this many tasks, one is the oldest in `queue`, if there is one, and another the oldest in `fresh`. Large enough for a
/// chain to stay on its worker, small enough to be fair.
const CYCLE: u32 = 32;

/// The number of tasks from `next` and `fresh` after which the oldest in `fresh` is taken, whatever is in `next`.
const OLDEST_FRESH: u32 = CYCLE - 2;

pub(crate) struct Local {
    /// Can't be stolen, so it's only filled where this worker is about to look for work, and published before user code
    /// runs.
    next: Cell<Option<Task>>,
    fresh: Deque<Task>,
    queue: Deque<Task>,
    /// Tasks taken from `next` and `fresh` since the last one from `queue`.
    in_a_row: Cell<u32>,
}

#[derive(Clone)]
pub(crate) struct Stealers {
    fresh: Stealer<Task>,
    queue: Stealer<Task>,
}

impl Local {
    pub(crate) fn new() -> Self {
        Self {
            next: Cell::new(None),
            fresh: Deque::new_fifo(),
            queue: Deque::new_fifo(),
            in_a_row: Cell::new(0),
        }
    }

    pub(crate) fn stealers(&self) -> Stealers {
        Stealers { fresh: self.fresh.stealer(), queue: self.queue.stealer() }
    }

    pub(crate) fn push(&self, task: Task) {
        self.queue.push(task);
    }

    /// Puts a task into `next`, where only this worker can reach it, or returns it if there is one already.
    pub(crate) fn set_next(&self, task: Task) -> Result<(), Task> {
        match self.next.take() {
            None => {
                self.next.set(Some(task));
                Ok(())
            }
            // A `Cell` of a type that isn't `Copy` can only be read by taking the value out and putting it back.
            taken => {
                self.next.set(taken);
                Err(task)
            }
        }
    }

    pub(crate) fn push_fresh(&self, task: Task) {
        self.fresh.push(task);
    }

    /// Takes a task from `next` or `fresh`, unless it's the turn of `queue`.
    pub(crate) fn pop_fresh(&self) -> Option<Task> {
        let taken = self.in_a_row.get();
        let task = match taken {
            // Before the turn of `queue`, that of `fresh`. The worker publishes the task in `next`, to the end of `fresh`.
            OLDEST_FRESH => self.fresh.pop(),
            _ if taken > OLDEST_FRESH => None,
            _ => self.next.take().or_else(|| self.fresh.pop()),
        };
        // Only this call returns none: if `queue` is empty, the next call continues with these.
        self.in_a_row.set(if task.is_some() { taken + 1 } else { 0 });
        task
    }

    pub(crate) fn pop(&self) -> Option<Task> {
        self.in_a_row.set(0);
        self.queue.pop()
    }

    /// Moves the task in `next` to where others can steal it. True if there was one: the caller wakes a worker for it.
    #[must_use]
    pub(crate) fn publish_next(&self) -> bool {
        match self.next.take() {
            Some(task) => {
                self.fresh.push(task);
                true
            }
            None => false,
        }
    }

    /// Whether other workers find nothing to steal; `next` doesn't count.
    pub(crate) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.queue.is_empty()
    }

    /// Takes all tasks, in the order in which they would have run.
    pub(crate) fn drain(&self) -> impl Iterator<Item = Task> + '_ {
        std::iter::from_fn(|| {
            self.next.take().or_else(|| self.fresh.pop()).or_else(|| self.queue.pop())
        })
    }

    /// Moves half of one of another worker's queues to this worker's, and returns the first of those tasks.
    pub(crate) fn steal_from(&self, other: &Stealers) -> Option<Task> {
        // The victim's `fresh` comes last: the victim will run those soon, with their inputs in its cache.
        for victim in [&other.queue, &other.fresh] {
            loop {
                match victim.steal_batch_and_pop(&self.queue) {
                    Steal::Success(task) => return Some(task),
                    Steal::Empty => break,
                    // Lost a race against another thief or the owner: the victim may still have tasks.
                    Steal::Retry => {}
                }
            }
        }
        None
    }
}

impl Stealers {
    pub(crate) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.queue.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.fresh.len() + self.queue.len()
    }

    pub(crate) fn steal_one(&self) -> Option<Task> {
        for victim in [&self.fresh, &self.queue] {
            loop {
                match victim.steal() {
                    Steal::Success(task) => return Some(task),
                    Steal::Empty => break,
                    Steal::Retry => {}
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Client;

    #[test]
    fn is_empty_reports_whether_there_is_something_to_steal() {
        let client = Client::builder().workers(0).build();
        let task = || client.task().priority(1).submit(async || (), ()).typed().task().to_task();
        let local = Local::new();
        let is_empty = || {
            assert_eq!(local.is_empty(), local.stealers().is_empty());
            local.is_empty()
        };
        assert!(is_empty() && !local.publish_next());
        local.push(task());
        assert!(!is_empty());
        assert!(local.stealers().steal_one().is_some());
        assert!(is_empty());
        local.push_fresh(task());
        assert!(!is_empty());
        assert!(local.pop_fresh().is_some());
        assert!(is_empty());
        // No other worker can take this one.
        assert!(local.set_next(task()).is_ok() && local.set_next(task()).is_err());
        assert!(is_empty());
        assert!(local.publish_next());
        assert!(!is_empty());
        assert_eq!(local.drain().count(), 1);
    }
}
