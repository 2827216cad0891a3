//! How tasks end: with a value, with an error, or before their time.
//!
//! *Completing* a task stores its outcome, closes its waiters word, lets go of it, and tells everyone
//! who waited. Letting go comes first, so that a waiter usually finds itself alone with the value and
//! can move it out.
//!
//! *Dooming* a task decides that it ends with an error, whatever it's doing: the error goes into the
//! failure slot and the word says so. From there on the one who owns the task ends it: the caller,
//! if the task waits or lies in a queue or is suspended; its worker after the poll, if it runs; its
//! submitter, if it's not complete yet.

use std::ptr::NonNull;

use crate::engine::base::user_code::run_user_code;
use crate::engine::data::completion_queue;
use crate::engine::life::callback;
use crate::engine::life::drop_task::{self, clear_later, end_later};
use crate::engine::life::schedule::{self, MadeReady};
use crate::engine::task::count::Hold;
use crate::engine::task::header::{Header, Interest, Task, TaskRef};
use crate::engine::task::state::{CALLBACKS, ClaimToEnd, DETACHED, KEYED, OBSERVED, OWNED};
use crate::engine::task::wait_node;
use crate::engine::task::waiters::{Taken, WaiterKind};
use crate::engine::watch::observer::TaskEvent;
use crate::{Error, ErrorKind, Status};

/// Ends a task whose contents the caller owns: with the value that is in place, or with an error.
pub(crate) fn complete(task: Task, error: Option<Error>) {
    let (list, error) = match error {
        None => match task.waiters.close() {
            Some(list) => (list, None),
            None => {
                // Doomed during the last poll: the value goes.
                // SAFETY: the caller owns the contents.
                unsafe { (task.vtable.clear)(task.as_ref().as_ptr()) };
                close_failed(&task, None)
            }
        },
        Some(error) => close_failed(&task, Some(error)),
    };
    if let Some(error) = &error {
        if list.has_dependents() {
            task.state.set(OBSERVED);
        }
        if !can_be_retried(error) {
            // What was kept to be run again, if it was cancelled in the poll in which it failed.
            // SAFETY: the caller owns the contents.
            unsafe { (task.vtable.clear)(task.as_ref().as_ptr()) };
        }
    }
    let state = task.state.load();
    if state & OWNED != 0 {
        let core = task.core();
        core.owned_tasks.remove(&task);
        core.end_exemption(&task);
        if core.is_awaited() || core.is_closed() {
            core.notify_if_done();
        }
    }
    let how = || match &error {
        None => Status::Finished,
        Some(error) if can_be_retried(error) => Status::Failed,
        Some(_) => Status::Cancelled,
    };
    task.core().observer.notify_ended(task.as_ref(), state, how);
    let for_callbacks = (state & CALLBACKS != 0).then(|| {
        task.state.revive();
        // SAFETY: the user just added.
        unsafe { Interest::from_raw(task.as_ref().as_ptr()) }
    });
    // The last to know of an error drops it, and that is to be the task unless others have to be told.
    let error = error.filter(|_| !list.is_empty());
    if task.state.finish() {
        // Its users keep it from here on; the reference went with the state.
        let _ = task.into_raw();
    } else {
        if task.state.load() & DETACHED != 0 {
            drop_task::report_unobserved(&task);
        }
        clear_later(task);
    }
    if !list.is_empty() {
        schedule::make_ready(|ready| notify_waiters(list, error.as_ref(), for_callbacks, ready));
    }
}

/// Closes a task that has failed with `error`, or with what it was doomed with before.
fn close_failed(task: &Task, error: Option<Error>) -> (Taken, Option<Error>) {
    let Some(locked) = task.waiters.lock() else {
        unreachable!("only the owner of a task closes it");
    };
    // SAFETY: the slot is ours while the word is locked.
    let slot = unsafe { &mut *task.failure.get() };
    if !locked.is_aborting() {
        *slot = error;
    }
    let error = slot.clone();
    (locked.close_failed(), error)
}

/// Tells everyone who waited. The task itself may be gone.
fn notify_waiters(
    list: Taken,
    error: Option<&Error>,
    mut for_callbacks: Option<Interest>,
    ready: &mut MadeReady<'_>,
) {
    // A callback may block: nothing may be left where only this worker finds it.
    ready.may_keep_one = for_callbacks.is_none();
    for link in list {
        // SAFETY: an entry of a taken list stays in place until it's told, here and once; its kind
        // says what it's the first field of.
        unsafe {
            match link.as_ref().kind() {
                WaiterKind::Edge(dependent) => {
                    let dependent = TaskRef::new(dependent);
                    if let Some(error) = error {
                        abort(dependent, error.clone());
                    }
                    if dependent.count.release(1) {
                        last_hold_released(dependent.as_ptr())
                            .into_iter()
                            .for_each(|task| ready.push(task));
                    }
                }
                WaiterKind::Wait => {
                    ready.publish_all();
                    let waker = wait_node::notify(link);
                    run_user_code(|| waker.wake());
                }
                WaiterKind::Member => {
                    ready.publish_all();
                    if let Some(waker) = completion_queue::deliver(link) {
                        run_user_code(|| waker.wake());
                    }
                }
                WaiterKind::Callback => {
                    ready.publish_all();
                    if let Some(interest) = &mut for_callbacks {
                        callback::call(link, interest);
                    }
                }
            }
        }
    }
}

/// A waiting task has nothing left to wait for: returns it, to be queued, or ends it if it's doomed.
///
/// # Safety
///
/// The caller released the last hold.
pub(crate) unsafe fn last_hold_released(header: NonNull<Header>) -> Option<Task> {
    // SAFETY: whoever releases the last hold gets the engine's reference.
    let task = unsafe { Task::from_raw(header) };
    let state = task.state.end_reopening();
    if task.waiters.is_aborting() {
        // If its priority was just raised, a worker may have been quicker.
        if task.state.claim().is_some() {
            end_later(task);
        }
        return None;
    }
    task.core().observer.notify(task.as_ref(), state, TaskEvent::Ready);
    Some(task)
}

/// Decides that the task ends with `error`; false where its outcome, or its doom, was decided
/// before.
pub(crate) fn abort(task: TaskRef<'_>, error: Error) -> bool {
    {
        let Some(mut locked) = task.waiters.lock() else { return false };
        if locked.is_aborting() {
            return false;
        }
        // SAFETY: the slot is ours while the word is locked.
        unsafe { *task.failure.get() = Some(error) };
        locked.abort();
    }
    match task.count.hold() {
        Hold::Building => {}
        Hold::Held => {
            // SAFETY: we have a hold, and nobody else dooms the task.
            unsafe { unlink_inputs(task) };
        }
        Hold::Ready => {
            if let ClaimToEnd::Owned = task.state.claim_to_end() {
                // SAFETY: the claim brings a reference of the engine's.
                end_later(unsafe { Task::from_raw(task.as_ptr()) });
            }
        }
    }
    true
}

/// Cancels a task on somebody's request; false where its outcome, or its doom, was decided before.
pub(crate) fn cancel(task: TaskRef<'_>) -> bool {
    let cancelled = abort(task, Error::cancelled(task.key().clone()));
    if cancelled && task.state.load() & KEYED != 0 {
        task.core().store.forget(task);
    }
    cancelled
}

/// Takes a doomed task out of the lists of all inputs that have not finished, and releases a hold.
///
/// # Safety
///
/// The caller has a hold, and is the only one to do this.
pub(crate) unsafe fn unlink_inputs(task: TaskRef<'_>) {
    let mut released = 1;
    // SAFETY: a task that is held stays in its waiting stage.
    unsafe {
        (task.vtable.edges)(task.as_ptr(), &mut |edge| {
            if edge.unlink() {
                released += 1;
            }
        });
    }
    if task.count.release(released) {
        // SAFETY: it was the last hold.
        unsafe { last_hold_released(task.as_ptr()) }.into_iter().for_each(schedule::schedule);
    }
}

/// Adds the tasks that a waiting one takes its inputs from to `found`; false where it doesn't wait, or is
/// still being built.
pub(crate) fn collect_inputs(task: TaskRef<'_>, found: &mut Vec<Task>) -> bool {
    if !task.count.hold_if_waiting() {
        return false;
    }
    // SAFETY: a task that is held stays in its waiting stage; then the hold is ours.
    unsafe {
        (task.vtable.edges)(task.as_ptr(), &mut |edge| found.push(edge.task().to_task()));
        if task.count.release(1) {
            last_hold_released(task.as_ptr()).into_iter().for_each(schedule::schedule);
        }
    }
    true
}

/// Ends a doomed task that the caller has claimed.
pub(crate) fn end(task: Task) {
    let header = task.as_ref().as_ptr();
    let error = task.failure();
    // SAFETY: a claimed task's contents are its owner's.
    unsafe {
        if error.as_ref().is_some_and(can_be_retried) {
            (task.vtable.keep_for_retry)(header);
        } else {
            (task.vtable.clear)(header);
        }
    }
    // Ending a task that is in a queue may leave the engine idle, or something dead in a queue that nobody
    // looks at any more, and no worker would notice.
    let core = task.core();
    let core = (core.is_awaited() || core.is_closed()).then(|| core.to_ref());
    complete(task, error);
    if let Some(core) = core {
        if core.is_closed() && core.has_no_workers() {
            core.sweep();
        }
        core.notify_if_idle();
    }
}

pub(crate) fn can_be_retried(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Closed)
}
