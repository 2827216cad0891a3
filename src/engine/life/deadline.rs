//! Deadlines: a task that hasn't ended in time is aborted, whatever it waits for.
//!
//! The alarm is a timer whose waker [checks](check) the task. It belongs to the task's contents, and is dropped when the task
//! ends: until then, the waker keeps the cell in memory.
//!
//! It's set while no other thread reaches the contents: before a new task is published, and before a retry reopens an ended
//! one. An alarm that goes off before that is done does nothing, so whoever begins the task checks it after that.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Wake, Waker};
use std::time::Duration;

use crate::Error;
use crate::engine::base::nanos::nanos;
use crate::engine::core::virtual_timer::VirtualTimer;
use crate::engine::data::clock;
use crate::engine::life::finish;
use crate::engine::task::attempt::{self, Held};
use crate::engine::task::header::{Deadline, Header, Task, TaskRef};

/// The due time of a task that can't have an alarm, so that it ends at once.
const REFUSED: u64 = NEVER - 1;

/// The due time of a task whose alarm isn't set yet, or goes off never.
const NEVER: u64 = u64::MAX;

/// Sets the alarm of a task that has a deadline.
///
/// # Safety
///
/// The header is that of a cell whose contents the caller owns.
pub(crate) unsafe fn arm(header: NonNull<Header>) {
    // SAFETY: the caller's promise.
    let task = unsafe { TaskRef::new(header) };
    let Some(deadline) = of(task) else { return };
    let due = nanos(task.core().now().saturating_add(deadline.after));
    // The alarm may go off at once, and an alarm of the last run may still do so.
    deadline.due.store(NEVER, Ordering::Relaxed);
    let alarm = alarm(task, deadline.after);
    let due = if alarm.is_some() || due == NEVER { due } else { REFUSED };
    // SAFETY: the caller's promise.
    unsafe { attempt::set_alarm(header, alarm) };
    // From now on the alarm may end the task: the contents are complete.
    deadline.due.store(due, Ordering::Release);
}

/// Returns the alarm of a deadline after this time; `None` if the system refuses the timer thread.
fn alarm(task: TaskRef<'_>, after: Duration) -> Option<Held> {
    let waker = Waker::from(Arc::new(Alarm(task.to_task())));
    if task.core().seeded.is_none() {
        return clock::alarm(after, waker).map(|timer| Box::new(timer) as Held);
    }
    let mut timer = VirtualTimer::new(task.core().to_ref(), after);
    timer.register(&waker);
    Some(Box::new(timer))
}

/// Aborts a task whose time is over.
pub(crate) fn check(task: TaskRef<'_>) {
    if left(task).is_some_and(|left| left.is_zero()) {
        abort(task);
    }
}

/// Returns the time that the task has left; `None` without a deadline.
pub(crate) fn left(task: TaskRef<'_>) -> Option<Duration> {
    let due = of(task)?.due.load(Ordering::Acquire);
    let now = || nanos(task.core().now());
    let left = if due == REFUSED { 0 } else { due.saturating_sub(now()) };
    Some(Duration::from_nanos(left))
}

fn of(task: TaskRef<'_>) -> Option<&Deadline> {
    task.get().extras()?.deadline.as_deref()
}

fn abort(task: TaskRef<'_>) {
    let Some(deadline) = of(task) else { return };
    let subject = task.subject();
    let error = match deadline.due.load(Ordering::Relaxed) {
        REFUSED => {
            let text = "the system refused the timer thread, which its deadline needs";
            Error::failed(subject, io::Error::other(text))
        }
        _ => Error::past_deadline(subject, deadline.after),
    };
    finish::abort(task, error);
}

/// Aborts a task when its time is over.
struct Alarm(Task);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        check(self.0.as_ref());
    }
}
