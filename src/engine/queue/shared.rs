//! The queues from which all workers take tasks of priority zero.
//!
//! | queue | contents |
//! |---|---|
//! | `submitted` | tasks that were submitted outside the workers, or handed over by a worker that exits |
//! | `woken` | tasks that have started and were woken outside the workers: by timers, sockets, other threads |
//!
//! A task that was woken has begun its work, and may hold a limit or a lock that others wait for. In one queue with those
//! that haven't started, it would wait for all that were submitted before it was woken, so a sleep of some milliseconds
//! would take as long as a backlog of thousands of tasks.

use crate::engine::queue::injector::Injector;
use crate::engine::task::header::{Task, TaskRef};
use crate::engine::task::state::STARTED;

pub(crate) struct Shared {
    pub(crate) submitted: Injector,
    pub(crate) woken: Injector,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self { submitted: Injector::new(), woken: Injector::new() }
    }

    pub(crate) fn push(&self, task: Task) {
        match task.state.load() & STARTED {
            0 => self.submitted.push(task),
            _ => self.woken.push(task),
        }
    }

    /// Pushes tasks with one atomic operation, in order, whether they have started or not.
    pub(crate) fn push_all(&self, tasks: impl IntoIterator<Item = Task>) {
        self.submitted.push_all(tasks);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.submitted.is_empty() && self.woken.is_empty()
    }

    /// Passes up to `limit` tasks of each queue to `receive`. True if it took at least one and more are left.
    pub(crate) fn take(&self, limit: usize, mut receive: impl FnMut(Task)) -> bool {
        let woken_left = self.woken.take(limit, &mut receive);
        self.submitted.take(limit, receive) || woken_left
    }

    /// Visits the tasks that can be reached.
    pub(crate) fn each(&self, mut visit: impl FnMut(TaskRef<'_>)) {
        self.woken.each(&mut visit);
        self.submitted.each(visit);
    }

    /// Drops tasks from the front of each queue up to the first wanted one.
    pub(crate) fn trim(&self, wanted: impl Fn(&Task) -> bool) {
        self.woken.trim(&wanted);
        self.submitted.trim(wanted);
    }
}
