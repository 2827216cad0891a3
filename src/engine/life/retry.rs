//! Running failed tasks again, on request.
//!
//! A failed task keeps what can be run again: its function with its inputs if it never started, or
//! with its arguments if it's fallible. To retry one that never started, the failed tasks it takes
//! its inputs from have to run again too, and theirs.

use std::collections::HashSet;

use crate::Error;
use crate::engine::base::lock::Lock;
use crate::engine::life::cell::{self, Registration};
use crate::engine::life::finish::can_be_retried;
use crate::engine::life::schedule;
use crate::engine::task::header::{Task, TaskRef};
use crate::engine::task::state::DONE;
use crate::engine::task::waiters::Resolution;

/// One retry at a time, in the whole process: they're rare, and may overlap.
static RETRYING: Lock<()> = Lock::new(());

/// Makes a failed task, and the failed ones it stands on, run again. False, and nothing is changed,
/// where it hasn't failed, one of them can't run again, or the client is closed.
pub(crate) fn retry(task: TaskRef<'_>) -> bool {
    let (tasks, reopened) = {
        let _alone = RETRYING.lock();
        let Some(tasks) = all_to_retry(task) else { return false };
        let reopened: Vec<_> = tasks.iter().map(reopen).collect();
        (tasks, reopened)
    };
    // Foreign code may run from here on: errors are dropped, and tasks may end at once.
    for (task, (inputs, error)) in tasks.iter().zip(reopened) {
        if let Some(Err(payload)) = error.map(Error::discard) {
            task.core().report_panic(payload);
        }
        if let Some(remote) = task.remote() {
            remote.retried();
        }
        let ready = cell::begin(task.core(), task.as_ref().as_ptr(), inputs);
        ready.into_iter().for_each(schedule::schedule);
    }
    true
}

/// The task and the failed ones it stands on; `None` where one of them can't run again.
fn all_to_retry(task: TaskRef<'_>) -> Option<Vec<Task>> {
    let mut seen = HashSet::from([task.as_ptr()]);
    let mut all = vec![task.to_task()];
    let mut at = 0;
    while at < all.len() {
        let task = all[at].as_ref();
        at += 1;
        let error = task.failure().filter(|_| task.waiters.resolution() == Resolution::Failed)?;
        if !can_be_retried(&error) || task.core().is_closed() {
            return None;
        }
        while task.state.load() & DONE == 0 {
            // Its last worker is at the last few instructions.
            std::thread::yield_now();
        }
        // SAFETY: it has ended and has users: the caller's handle, or the inputs of tasks before it.
        // So its contents are touched by retries only, and we're alone in that.
        unsafe {
            if !(task.vtable.keep_for_retry)(task.as_ptr()) {
                return None;
            }
            (task.vtable.edges)(task.as_ptr(), &mut |edge| {
                let from = edge.task();
                if from.waiters.resolution() == Resolution::Failed && seen.insert(from.as_ptr()) {
                    all.push(from.to_task());
                }
            });
        }
    }
    Some(all)
}

/// Makes a failed task one that is being built. Returns the number of its inputs, and its error.
fn reopen(task: &Task) -> (Registration, Option<Error>) {
    let mut inputs = 0;
    // SAFETY: as in `all_to_retry`.
    unsafe { (task.vtable.edges)(task.as_ref().as_ptr(), &mut |_| inputs += 1) };
    if inputs > 0 {
        task.count.begin(inputs);
    }
    task.state.rewind();
    let error = task.waiters.lock_failed().and_then(|mut failure| {
        failure.reopen();
        // SAFETY: the slot is ours while the word is locked.
        unsafe { (*task.failure.get()).take() }
    });
    if inputs == 0 {
        // Not before the word is open: a stale entry would find a doomed task.
        task.state.end_reopening();
    }
    (Registration::for_retry(task, inputs), error)
}
