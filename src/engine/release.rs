//! How tasks go: the last user, the last reference, and what is dropped with them.
//!
//! Dropping a value, a future or an input runs foreign code, which may drop further handles, and so
//! on, for a million tasks in a chain. So nothing here recurses: what a drop brings about is put on
//! the list of the outermost one on this thread.

use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};

use super::core::Core;
use super::finish;
use super::header::{Header, Task};
use super::state::{DETACHED, DONE, KEYED, OBSERVED, State, users};
use super::sync::thread_local;
use super::waiters::Outlook;
use crate::Error;
use crate::error::{forget_if_it_panics, panic_text};

/// Work that a drop brought about.
pub(crate) enum Job {
    /// End a doomed task that was claimed.
    End(Task),
    /// Drop the contents of an ended task that has no users.
    Clear(Task),
    /// Free an ended task that the last user alone still held.
    Free(NonNull<Header>),
    /// Free an engine, with the hook and whatever else is foreign in it.
    FreeCore(Box<Core>),
}

thread_local! {
    /// The list of the outermost job under way on this thread.
    static JOBS: Cell<*mut VecDeque<Job>> = const { Cell::new(ptr::null_mut()) };
}

/// Does the job and what it brings about: now, or when the one under way on this thread is done.
pub(crate) fn defer(job: Job) {
    let under_way = JOBS.get();
    if !under_way.is_null() {
        // SAFETY: it's a local of the outermost call on this thread, which uses it only between
        // jobs; this is within a job.
        unsafe { (*under_way).push_back(job) };
        return;
    }
    hold(|| do_now(job));
}

/// Puts off what `code` brings about until it's done: for code that holds a lock.
pub(crate) fn hold<R>(code: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            JOBS.set(ptr::null_mut());
        }
    }
    if is_under_way() {
        return code();
    }
    let mut jobs = VecDeque::new();
    let list = &raw mut jobs;
    JOBS.set(list);
    let _leave = Leave;
    let result = code();
    // SAFETY: no job is under way, so nobody else uses the list.
    while let Some(job) = unsafe { (*list).pop_front() } {
        do_now(job);
    }
    result
}

/// Whether this thread is at such work: whoever blocks it now may wait for what comes after.
pub(crate) fn is_under_way() -> bool {
    !JOBS.get().is_null()
}

fn do_now(job: Job) {
    match job {
        Job::End(task) => finish::end(task),
        Job::Clear(task) => clear(&task),
        Job::FreeCore(core) => drop(core),
        Job::Free(header) => {
            // SAFETY: the last user was all that held the task, so its contents are ours.
            unsafe {
                (header.as_ref().vtable.clear)(header);
                clear_failure(header);
                (header.as_ref().vtable.dealloc)(header);
            }
        }
    }
}

/// Drops the outcome of an ended task without users.
fn clear(task: &Task) {
    let header = task.as_ref().as_ptr();
    // SAFETY: it has ended and has no users, so nobody else reaches the contents.
    unsafe {
        (task.vtable.clear)(header);
        clear_failure(header);
    }
}

/// # Safety
///
/// The task has ended and has no users.
unsafe fn clear_failure(header: NonNull<Header>) {
    // SAFETY: what keeps the header in memory is the caller's; the slot has no other reader.
    unsafe {
        let header = header.as_ref();
        if let Some(failure) = (*header.failure.get()).take() {
            if let Err(payload) = failure.discard() {
                report_panic(header.core(), payload);
            }
        }
    }
}

/// Gives up a user.
///
/// # Safety
///
/// The caller gives away a user.
pub(crate) unsafe fn user(header: NonNull<Header>) {
    // SAFETY: all users together have a memory reference.
    let task = unsafe { header.as_ref() };
    let state = task.state.load();
    if State::is_alone(state) {
        if !task.vtable.value_needs_drop && task.waiters.outlook() == Outlook::Succeeded {
            // SAFETY: nobody else has the task, and there's nothing to drop.
            unsafe { (task.vtable.dealloc)(header) };
        } else {
            defer(Job::Free(header));
        }
        return;
    }
    let before = if state & KEYED == 0 {
        task.state.drop_user()
    } else if task.state.drop_user_unless_last() {
        return;
    } else {
        // Nobody may find the key and join while the last user goes.
        task.core().store.forget_last(header)
    };
    if users(before) > 1 {
        return;
    }
    // SAFETY: the reference that all users together had.
    let task = unsafe { Task::from_raw(header) };
    if before & DONE != 0 {
        if before & DETACHED != 0 {
            report_unobserved(&task);
        }
        defer(Job::Clear(task));
    } else if before & DETACHED == 0 {
        finish::doom(task.as_ref(), Error::abandoned());
    }
}

/// Tells the hook about the error of a detached task that nobody can see.
pub(crate) fn report_unobserved(task: &Task) {
    if task.state.load() & OBSERVED != 0 {
        return;
    }
    // That a task was cancelled, or its client closed, is no news to who did it.
    if let Some(error) = task.failure().filter(finish::can_be_retried) {
        task.core().unobserved(&error);
    }
}

/// Frees a task without users or references.
///
/// # Safety
///
/// Nobody else has the task.
pub(crate) unsafe fn free(header: NonNull<Header>) {
    // SAFETY: the contents went with the last user, or with the end if that came later.
    unsafe { (header.as_ref().vtable.dealloc)(header) };
}

/// Runs foreign code that has nobody to panic to.
pub(crate) fn quietly(core: &Core, code: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(code)) {
        report_panic(core, payload);
    }
}

pub(crate) fn report_panic(core: &Core, payload: Box<dyn Any + Send>) {
    let text = panic_text(&*payload);
    forget_if_it_panics(payload);
    core.stray_panic(&text);
}
