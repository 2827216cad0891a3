//! What a task waits for between attempts, and how a task stands in all.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::context;
use super::header::{Extras, Task, TaskRef};
use super::hook::Moment;
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

impl Extras {
    /// What a parked task is parked for.
    pub(crate) fn is_parked_for(&self, why: Parked) -> bool {
        self.parked.load(Ordering::Relaxed) == why as u8
    }
}

/// The current task is parked while this lives.
pub(crate) struct Parking(Option<Task>);

impl Parking {
    /// For a limit.
    pub(crate) fn for_limit() -> Self {
        Self::current(Parked::Limit, None)
    }

    /// Until the attempt with this number, where the first has 0.
    pub(crate) fn until(attempt: u32, delay: Duration) -> Self {
        Self::current(Parked::Delay, Some((attempt, delay)))
    }

    fn current(why: Parked, next: Option<(u32, Duration)>) -> Self {
        let task = context::current_task();
        if let Some(task) = &task {
            let extras = task.make_extras();
            extras.parked.store(why as u8, Ordering::Relaxed);
            if let Some((attempt, delay)) = next {
                let due = task.core().now().saturating_add(delay).as_nanos();
                extras.attempt.store(attempt, Ordering::Relaxed);
                extras.due.store(u64::try_from(due).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
            let state = task.state.set(PARKED);
            let attempt = extras.attempt.load(Ordering::Relaxed);
            task.core().hook.tell(task.as_ref(), state, Moment::Parked { why, attempt });
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
            let state = task.state.clear(PARKED);
            if !task.waiters.is_doomed() {
                task.core().hook.tell(task.as_ref(), state, Moment::Unparked);
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
        let is_delayed = task.extras().is_some_and(|extras| extras.is_parked_for(Parked::Delay));
        return if is_delayed { Status::Delayed } else { Status::Ready };
    }
    if state & (QUEUED | STARTED) == QUEUED { Status::Ready } else { Status::Running }
}
