//! Retries of failed tasks on request.
//!
//! A failed task keeps its function: with its inputs if it never started, or with its arguments if it's fallible. To
//! retry a task that never started, its failed inputs must run again too, and theirs in turn. So it keeps its inputs, and lets
//! them run, only if those that have failed can. An input that is taken however it ends is left as it has.

use std::collections::HashSet;

use crate::Error;
use crate::engine::base::deferred;
use crate::engine::base::lock::Lock;
use crate::engine::base::sync::yield_now;
use crate::engine::life::create::{self, Registration};
use crate::engine::life::deadline;
use crate::engine::life::finish::{self, can_be_retried};
use crate::engine::life::schedule;
use crate::engine::task::header::{Task, TaskRef};
use crate::engine::task::settled;
use crate::engine::task::state::DONE;
use crate::engine::task::waiters::Resolution;

/// Allows one retry at a time in the process: retries are rare, and the sets of tasks that they restart may overlap.
static RETRYING: Lock<()> = Lock::new(());

/// Makes a failed task and its failed inputs run again. Returns false and changes nothing if the task hasn't failed,
/// one of them can't run again, or the client is closed.
pub(crate) fn retry(task: TaskRef<'_>) -> bool {
    let reopen_all = || {
        let _alone = RETRYING.lock();
        let tasks = all_to_retry(task)?;
        let reopened: Vec<_> = tasks.iter().map(reopen).collect();
        Ok((tasks, reopened))
    };
    let (tasks, reopened) = loop {
        // What is caused by references that are dropped under the lock runs after it.
        match deferred::scope(reopen_all) {
            Ok(reopened) => break reopened,
            // The waiters word closes a few instructions before the worker releases the contents.
            Err(Refused::NotYet) if !finish::is_ending() => yield_now(),
            Err(_) => return false,
        }
    };
    // Outside the lock, because user code may run from here on: errors are dropped, and tasks may end at once.
    for (task, (inputs, errors)) in tasks.iter().zip(reopened) {
        for payload in errors.into_iter().filter_map(|error| error.discard().err()) {
            task.core().report_panic(payload);
        }
        if let Some(remote) = task.remote() {
            remote.retried();
        }
        let ready = create::begin(task.core(), task.as_ref().as_ptr(), inputs);
        ready.into_iter().for_each(schedule::schedule);
        deadline::check(task.as_ref());
    }
    true
}

/// Whether an input of a task that ends without having started has failed and can't run again: then neither can the task, and
/// needs its other inputs no more.
///
/// # Safety
///
/// The caller owns the contents of the task.
pub(crate) unsafe fn has_lost_input(task: TaskRef<'_>) -> bool {
    let has_lost = || {
        let mut lost = false;
        // SAFETY: the caller owns the contents.
        unsafe {
            (task.vtable.edges)(task.as_ptr(), &mut |edge| {
                let from = edge.task();
                let has_failed = from.waiters.resolution() == Resolution::Failed;
                lost |= has_failed && !from.count.is_kept() && !edge.settles();
            });
        }
        lost
    };
    // A retry that was just reopening the input would look the same.
    has_lost() && {
        let _alone = RETRYING.lock();
        has_lost()
    }
}

/// The reason why tasks can't be retried.
enum Refused {
    /// One of them hasn't failed, or can't run again.
    Never,
    /// One of them has failed, but isn't done: the thread that ends it is about to release the contents.
    NotYet,
}

/// Returns the task and its failed inputs, transitively.
fn all_to_retry(task: TaskRef<'_>) -> Result<Vec<Task>, Refused> {
    let mut seen = HashSet::from([task.as_ptr()]);
    let mut all = vec![task.to_task()];
    let mut at = 0;
    while at < all.len() {
        let task = all[at].as_ref();
        at += 1;
        let has_failed = task.waiters.resolution() == Resolution::Failed;
        let error = task.failure().filter(|_| has_failed).ok_or(Refused::Never)?;
        if !can_be_retried(&error) || task.core().is_closed() {
            return Err(Refused::Never);
        }
        if task.state.load() & DONE == 0 {
            return Err(Refused::NotYet);
        }
        // SAFETY: it has ended and has interests: the caller's handle, or the edges of tasks before it in the list. So
        // only retries touch its contents, and the lock admits one retry.
        unsafe {
            if !(task.vtable.keep_for_retry)(task.as_ptr()) {
                return Err(Refused::Never);
            }
            (task.vtable.edges)(task.as_ptr(), &mut |edge| {
                let from = edge.task();
                let has_failed = from.waiters.resolution() == Resolution::Failed;
                if has_failed && !edge.settles() && seen.insert(from.as_ptr()) {
                    all.push(from.to_task());
                }
            });
        }
    }
    Ok(all)
}

/// Turns a failed task into one that is being built. Returns its registration, and its former error and those of its settled
/// inputs.
fn reopen(task: &Task) -> (Registration, Vec<Error>) {
    let (mut inputs, depth) = (0, task.count.depth());
    let mut errors = Vec::new();
    // SAFETY: as in `all_to_retry`. No edge is in a list.
    unsafe {
        (task.vtable.edges)(task.as_ref().as_ptr(), &mut |edge| {
            inputs += 1;
            errors.extend(settled::take_error(edge));
        });
        deadline::arm(task.as_ref().as_ptr());
    }
    if inputs > 0 {
        task.count.begin(inputs);
    }
    task.state.rewind();
    errors.extend(task.waiters.lock_failed().and_then(|mut failure| {
        failure.reopen();
        // SAFETY: the lock of the word guards the slot.
        unsafe { (*task.failure.get()).take() }
    }));
    if inputs == 0 {
        // Not before the word is open: a stale queue entry would claim the task and find it aborting.
        task.state.end_reopening();
    }
    (Registration::for_retry(task, inputs, depth), errors)
}
