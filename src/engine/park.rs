//! What a task waits for between attempts, and how a task stands in all.

use std::sync::atomic::Ordering;

use super::context;
use super::header::{Task, TaskRef};
use super::state::{PARKED, QUEUED, RUNNING, STARTED};
use super::waiters::Outlook;
use crate::{ErrorKind, Status};

/// Why a task is parked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parked {
    /// For a limit.
    Limit = 0,
    /// Until its next attempt.
    Delay = 1,
}

impl Parked {
    fn status(self) -> Status {
        match self {
            Self::Limit => Status::Ready,
            Self::Delay => Status::Delayed,
        }
    }
}

/// The current task is parked while this lives.
pub(crate) struct Parking(Option<Task>);

impl Parking {
    pub(crate) fn current(why: Parked) -> Self {
        let task = context::current_task();
        if let Some(task) = &task {
            task.make_extras().parked.store(why as u8, Ordering::Relaxed);
            task.state.set(PARKED);
            task.core().hook.tell(task.as_ref(), || why.status());
            if task.core().is_closed() {
                // Closing looks for parked tasks, and may have looked before this one was.
                task.core().refuse(task);
            }
        }
        Self(task)
    }
}

impl Drop for Parking {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.state.clear(PARKED);
            if !task.waiters.is_doomed() {
                task.core().hook.tell(task.as_ref(), || Status::Running);
            }
        }
    }
}

pub(crate) fn status(task: TaskRef<'_>) -> Status {
    match task.waiters.outlook() {
        Outlook::Succeeded => return Status::Finished,
        Outlook::Failed => {
            let kind = task.failure().map(|error| error.kind());
            if matches!(kind, Some(ErrorKind::Cancelled | ErrorKind::Closed)) {
                return Status::Cancelled;
            }
            return Status::Failed;
        }
        Outlook::Open | Outlook::Doomed => {}
    }
    if task.count.is_waiting() {
        return Status::Waiting;
    }
    let state = task.state.load();
    if state & PARKED != 0 && state & RUNNING == 0 {
        let why = task.extras().map_or(0, |extras| extras.parked.load(Ordering::Relaxed));
        let delay = why == Parked::Delay as u8;
        return if delay { Parked::Delay.status() } else { Parked::Limit.status() };
    }
    if state & (QUEUED | STARTED) == QUEUED { Status::Ready } else { Status::Running }
}
