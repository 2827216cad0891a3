//! Destruction of tasks: the last interest, the last reference, and the contents dropped with them.
//!
//! Dropping contents runs user code, which may drop further handles. So every function of this module that drops
//! contents is a [deferred](crate::engine::base::deferred) job, so that a chain of a million tasks doesn't recurse.

use std::ptr::NonNull;

use crate::Error;
use crate::engine::base::deferred::{Job, defer};
use crate::engine::life::finish;
use crate::engine::task::header::{Header, Task};
use crate::engine::task::state::{DETACHED, DONE, KEYED, OBSERVED, State, interests};

/// Ends a claimed task that is aborting, once no other job runs on this thread.
pub(crate) fn end_later(task: Task) {
    unsafe fn run(header: NonNull<()>) {
        // SAFETY: the reference that `end_later` gave away.
        finish::end(unsafe { Task::from_raw(header.cast()) });
    }
    // SAFETY: the job owns the reference.
    defer(unsafe { Job::new(task.into_raw().cast(), run) });
}

/// Drops the contents of an ended task without interests, once no other job runs on this thread.
pub(crate) fn clear_later(task: Task) {
    unsafe fn run(header: NonNull<()>) {
        // SAFETY: the reference that `clear_later` gave away. The task has ended and has no interests, so nothing
        // else reaches its contents.
        unsafe {
            let task = Task::from_raw(header.cast());
            clear(task.as_ref().as_ptr());
        }
    }
    // SAFETY: the job owns the reference.
    defer(unsafe { Job::new(task.into_raw().cast(), run) });
}

/// Drops the contents of a task and frees it.
///
/// # Safety
///
/// The caller gives away the last interest in an ended task, which nothing else holds.
unsafe fn free_later(header: NonNull<Header>) {
    unsafe fn run(header: NonNull<()>) {
        let header = header.cast::<Header>();
        // SAFETY: the last interest was all that kept the task, so the job is the only one to reach it.
        unsafe {
            clear(header);
            (header.as_ref().vtable.dealloc)(header);
        }
    }
    // SAFETY: the job owns the task.
    defer(unsafe { Job::new(header.cast(), run) });
}

/// Drops the contents of the cell and the error.
///
/// # Safety
///
/// The caller keeps the header in memory; the task has ended and has no interests.
unsafe fn clear(header: NonNull<Header>) {
    // SAFETY: the caller's promise. Without interests, no other thread reads the failure slot.
    unsafe {
        (header.as_ref().vtable.clear)(header);
        let header = header.as_ref();
        if let Some(failure) = (*header.failure.get()).take() {
            if let Err(payload) = failure.discard() {
                header.core().report_panic(payload);
            }
        }
    }
}

/// Drops an interest that may be the last one, in a task that has a key or a value with a destructor.
///
/// # Safety
///
/// The caller gives away an interest.
pub(crate) unsafe fn drop_interest(header: NonNull<Header>) {
    // SAFETY: all interests together have a memory reference, and the caller has an interest.
    let task = unsafe { header.as_ref() };
    let state = task.state.load();
    if State::is_alone(state) {
        // SAFETY: the state says that nothing but this interest keeps the task.
        return unsafe { free_later(header) };
    }
    // What has no key is only dropped here if this interest is alone, which no other thread can change.
    debug_assert!(state & KEYED != 0);
    if task.state.drop_interest_unless_last() {
        return;
    }
    // Under the lock of the key, so that nothing finds the key and joins while the last interest is dropped.
    let before = task.core().store.forget_last(header);
    if interests(before) == 1 {
        // SAFETY: the state before says that this was the last interest.
        unsafe { last_interest_dropped(header, before) };
    }
}

/// Frees the result of a task whose last interest was dropped, or aborts the task if it still runs and isn't detached.
///
/// # Safety
///
/// The caller has dropped the last interest, and gives away the reference that all interests had together. `before` is
/// the state before that.
pub(crate) unsafe fn last_interest_dropped(header: NonNull<Header>, before: u64) {
    // SAFETY: the caller's promise.
    let task = unsafe { Task::from_raw(header) };
    if before & DONE != 0 {
        if before & DETACHED != 0 {
            report_unobserved(&task);
        }
        clear_later(task);
    } else if before & DETACHED == 0 {
        finish::abort(task.as_ref(), Error::abandoned());
    }
}

/// Reports the error of a detached task to the hook for unobserved errors, unless it was observed.
pub(crate) fn report_unobserved(task: &Task) {
    if task.state.load() & OBSERVED != 0 {
        return;
    }
    // A caller that cancelled the task or closed the client expects these errors.
    if let Some(error) = task.failure().filter(finish::can_be_retried) {
        task.core().unobserved(&error);
    }
}
