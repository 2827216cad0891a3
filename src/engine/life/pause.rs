//! Pauses of a task: before an attempt, for limits or rates, or between attempts.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::engine::base::nanos::nanos;
use crate::engine::core::context;
use crate::engine::task::header::{PausedFor, Task};
use crate::engine::task::state::PAUSED;
use crate::engine::watch::observer::TaskEvent;

/// Marks the current task as paused until it is dropped.
pub(crate) struct Pause(Option<Task>);

impl Pause {
    /// Begins a pause that waits for limits or rates.
    pub(crate) fn for_limit() -> Self {
        Self::current(PausedFor::Limit, None)
    }

    /// Begins a pause of `delay` before the attempt with this number; the first attempt is 0.
    pub(crate) fn until(attempt: u32, delay: Duration) -> Self {
        Self::current(PausedFor::Delay, Some((attempt, delay)))
    }

    fn current(why: PausedFor, next: Option<(u32, Duration)>) -> Self {
        let task = context::current_task();
        if let Some(task) = &task {
            let extras = task.make_extras();
            extras.paused_for.store(why as u8, Ordering::Relaxed);
            if let Some((attempt, delay)) = next {
                let due = task.core().now().saturating_add(delay);
                extras.attempt.store(attempt, Ordering::Relaxed);
                extras.due.store(nanos(due), Ordering::Relaxed);
            }
            let state = task.state.set(PAUSED);
            let attempt = extras.attempt.load(Ordering::Relaxed);
            task.core().observer.notify(task.as_ref(), state, TaskEvent::Paused { why, attempt });
            if task.core().is_closed() {
                // A shutdown aborts paused tasks, and may have listed them before this one was paused.
                task.core().abort_closed(task);
            }
        }
        Self(task)
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            let state = task.state.clear(PAUSED);
            if !task.waiters.is_aborting() {
                task.core().observer.notify(task.as_ref(), state, TaskEvent::Resumed);
            }
        }
    }
}
