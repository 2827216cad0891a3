//! A worker's own queues, and how others steal from them.

use std::cell::Cell;

use crossbeam_deque::{Steal, Stealer, Worker as Deque};

use crate::engine::task::header::Task;

/// After so many tasks in a row that others made ready, one that was submitted has its turn.
/// The number is a guess: large enough for a chain to stay on its worker, small enough to be fair.
const DEPTH_FIRST_IN_A_ROW: u32 = 256;

pub(crate) struct Local {
    /// The first task that a finished one has made ready. Nobody can steal it, so it's only filled
    /// where this worker is about to look for work.
    next: Cell<Option<Task>>,
    /// Further tasks that finished ones have made ready.
    fresh: Deque<Task>,
    /// Submitted and woken tasks, in order.
    queue: Deque<Task>,
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

    /// Keeps a task for this worker alone, if there's none yet.
    pub(crate) fn set_next(&self, task: Task) -> Result<(), Task> {
        match self.next.take() {
            None => {
                self.next.set(Some(task));
                Ok(())
            }
            taken => {
                self.next.set(taken);
                Err(task)
            }
        }
    }

    pub(crate) fn push_fresh(&self, task: Task) {
        self.fresh.push(task);
    }

    /// A task that a finished one has made ready, unless there were too many of them in a row.
    pub(crate) fn pop_fresh(&self) -> Option<Task> {
        if self.in_a_row.get() >= DEPTH_FIRST_IN_A_ROW {
            self.in_a_row.set(0);
            return None;
        }
        let task = self.next.take().or_else(|| self.fresh.pop())?;
        self.in_a_row.set(self.in_a_row.get() + 1);
        Some(task)
    }

    pub(crate) fn pop(&self) -> Option<Task> {
        self.in_a_row.set(0);
        self.queue.pop()
    }

    /// Makes the task that only this worker can reach one that others can steal.
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

    pub(crate) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.queue.is_empty()
    }

    /// Everything, in the order in which it would have run.
    pub(crate) fn drain(&self) -> impl Iterator<Item = Task> + '_ {
        std::iter::from_fn(|| {
            self.next.take().or_else(|| self.fresh.pop()).or_else(|| self.queue.pop())
        })
    }

    /// Moves half of another worker's tasks here and returns the first of them.
    pub(crate) fn steal_from(&self, other: &Stealers) -> Option<Task> {
        for victim in [&other.queue, &other.fresh] {
            loop {
                match victim.steal_batch_and_pop(&self.queue) {
                    Steal::Success(task) => return Some(task),
                    Steal::Empty => break,
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
    fn what_others_can_steal_is_seen() {
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
        // Nobody else can take this one.
        assert!(local.set_next(task()).is_ok() && local.set_next(task()).is_err());
        assert!(is_empty());
        assert!(local.publish_next());
        assert!(!is_empty());
        assert_eq!(local.drain().count(), 1);
    }
}
