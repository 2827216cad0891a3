//! The end of a task: completion and abort.
//!
//! [`complete`] stores the outcome, closes the waiters word, drops the engine's reference, and notifies the waiters.
//! The reference is dropped first, so that a waiter usually has the only interest and can move the value out.
//!
//! [`abort`] decides that a task ends with an error, in whatever state it is: it stores the error in the failure slot
//! and sets `ABORTING` in the waiters word. After that, the thread that owns the task ends it:
//!
//! | state at the abort | ended by |
//! |---|---|
//! | being built | its submitter, after `Count::built` |
//! | waiting for inputs | the thread that releases the last hold, after the inputs were unlinked |
//! | queued or suspended | the thread that aborts it, which claims it |
//! | running | its worker, after the poll |
//! | done | not aborted |

use std::cell::Cell;
use std::ptr::NonNull;

use crate::engine::base::sync::thread_local;
use crate::engine::base::user_code::wake;
use crate::engine::core::CoreRef;
use crate::engine::data::completion_queue;
use crate::engine::life::callback;
use crate::engine::life::drop_task::{self, clear_later, end_later};
use crate::engine::life::retry;
use crate::engine::life::schedule::{self, MadeReady};
use crate::engine::task::count::Hold;
use crate::engine::task::header::{Header, Interest, Task, TaskRef, VisitEdge};
use crate::engine::task::settled;
use crate::engine::task::state::{
    CALLBACKS, COUNTED, ClaimToEnd, DETACHED, KEYED, OBSERVED, OWNED,
};
use crate::engine::task::wait_node;
use crate::engine::task::waiters::{Taken, WaiterKind};
use crate::engine::watch::observer::TaskEvent;
use crate::{Error, Status};

/// Ends a task whose contents the caller owns: with the value that is in place, or with an error.
pub(crate) fn complete(task: Task, error: Option<Error>) {
    let (list, error) = match error {
        None => match task.waiters.close() {
            Some(list) => (list, None),
            None => {
                // Aborted during its last poll: the abort was first, so the value is dropped.
                // SAFETY: the caller owns the contents.
                unsafe { (task.vtable.clear)(task.as_ref().as_ptr()) };
                close_failed(&task, None)
            }
        },
        Some(error) => {
            // SAFETY: the caller owns the contents.
            let keep = || unsafe { (task.vtable.keep_for_retry)(task.as_ref().as_ptr()) };
            task.count.set_kept(can_be_retried(&error) && keep());
            close_failed(&task, Some(error))
        }
    };
    if let Some(error) = &error {
        // Before `finish`: a last interest that is dropped after that reports the error unless it was observed.
        if list.has_dependents() {
            task.state.set(OBSERVED);
        }
        if !can_be_retried(error) {
            // Cancelled during the poll in which it failed: the function and arguments kept for a retry are dropped.
            // SAFETY: the caller owns the contents.
            unsafe { (task.vtable.clear)(task.as_ref().as_ptr()) };
        }
    }
    let state = task.state.load();
    let waiting = if state & OWNED != 0 { leave_table(&task) } else { None };
    if state & COUNTED != 0 {
        report_end(&task, state, error.as_ref());
    }
    // Before `finish`, after which the task may be freed: callbacks get an interest.
    let for_callbacks = (state & CALLBACKS != 0).then(|| {
        task.state.revive();
        // SAFETY: this takes over the interest that was just added.
        unsafe { Interest::from_raw(task.as_ref().as_ptr()) }
    });
    // The last clone of an error to be dropped runs the error's destructor. That is to be the task's own clone,
    // unless waiters need this one.
    let error = error.filter(|_| !list.is_empty());
    if task.state.finish() {
        // `finish` dropped the engine's reference in the same operation. From here on the interests keep the task.
        let _ = task.into_raw();
    } else {
        // No interest is left, so the engine's reference is still this thread's, and so are the contents.
        if task.state.load() & DETACHED != 0 {
            drop_task::report_unobserved(&task);
        }
        clear_later(task);
    }
    // User code may run from here on, and may retry the task.
    if let Some(core) = waiting {
        core.notify_if_done();
    }
    if !list.is_empty() {
        schedule::make_ready(|ready| notify_waiters(list, error.as_ref(), for_callbacks, ready));
    }
}

/// Removes a task from the table of started tasks. Returns its engine if a caller waits for that and must be told later: the
/// task may be freed before, and the engine with it.
#[inline(never)]
fn leave_table(task: &Task) -> Option<CoreRef> {
    let core = task.core();
    let begun = core.owned_tasks.remove(task);
    let waiting = (core.is_awaited() || core.is_closed()).then(|| core.to_ref());
    // Dropping the last reference to a task may run user code.
    let _ending = Ending::begin();
    drop(begun);
    waiting
}

/// Notifies the observer of the end of a task that is counted. The task isn't done yet: a retry may make it begin again as
/// soon as it is.
///
/// Not inlined, so that the caller saves no registers for it if the task isn't counted.
#[inline(never)]
fn report_end(task: &Task, state: u64, error: Option<&Error>) {
    let status = match error {
        None => Status::Finished,
        Some(error) if can_be_retried(error) => Status::Failed,
        Some(_) => Status::Cancelled,
    };
    let _ending = Ending::begin();
    task.core().observer.notify_ended(task.as_ref(), state, status);
}

thread_local! {
    static ENDING: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as running user code in the middle of ending a task: the observer's, or a destructor.
struct Ending(bool);

impl Ending {
    fn begin() -> Self {
        Self(ENDING.replace(true))
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        ENDING.set(self.0);
    }
}

/// Whether this thread may be ending the very task that it would wait for until it's done.
pub(crate) fn is_ending() -> bool {
    ENDING.get()
}

/// Closes a task that failed with `error`, or with the error that it was aborted with before. Returns the error.
fn close_failed(task: &Task, error: Option<Error>) -> (Taken, Option<Error>) {
    let Some(locked) = task.waiters.lock() else {
        unreachable!("only the owner of a task closes it");
    };
    // SAFETY: the lock of the word guards the slot.
    let slot = unsafe { &mut *task.failure.get() };
    if !locked.is_aborting() {
        *slot = error;
    }
    let error = slot.clone();
    (locked.close_failed(), error)
}

/// Notifies the waiters in a taken list. The task itself may have been freed.
fn notify_waiters(
    list: Taken,
    error: Option<&Error>,
    mut for_callbacks: Option<Interest>,
    ready: &mut MadeReady<'_>,
) {
    // A callback may block, so no task may be left where only this worker can reach it.
    ready.may_keep_one = for_callbacks.is_none();
    for link in list {
        // SAFETY: an entry of a taken list stays in place until it's notified, which happens once, below. Its kind says
        // which type of waiter it's the first field of. It isn't touched after it was notified: its owner may free it.
        unsafe {
            match link.as_ref().kind() {
                WaiterKind::Edge(dependent) => {
                    let dependent = TaskRef::new(dependent);
                    // First: the edge still counts, so the dependent can't be queued before.
                    match error {
                        Some(error) if link.as_ref().settles() => {
                            settled::leave_error(link.as_ref(), error.clone());
                        }
                        Some(error) => {
                            abort(dependent, error.clone());
                        }
                        None => {}
                    }
                    if dependent.count.release(1) {
                        last_hold_released(dependent.as_ptr())
                            .into_iter()
                            .for_each(|task| ready.push(task));
                    }
                }
                WaiterKind::Wait => {
                    // As for callbacks: waking runs user code.
                    ready.publish_all();
                    let waker = wait_node::notify(link);
                    wake(waker);
                }
                WaiterKind::Member => {
                    ready.publish_all();
                    if let Some(waker) = completion_queue::deliver(link) {
                        wake(waker);
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

/// Returns a task that no longer waits for anything, for the caller to queue, or ends it if it's aborting.
///
/// # Safety
///
/// The caller released the last input or hold.
pub(crate) unsafe fn last_hold_released(header: NonNull<Header>) -> Option<Task> {
    // SAFETY: releasing the last hold hands over the engine's reference.
    let task = unsafe { Task::from_raw(header) };
    let state = task.state.end_reopening();
    if task.waiters.is_aborting() {
        // Its priority may have been raised just now: then it has a queue entry, and a worker may have claimed it
        // first.
        if task.state.claim_unpolled() {
            end_later(task);
        }
        return None;
    }
    task.core().observer.notify(task.as_ref(), state, TaskEvent::Ready);
    Some(task)
}

/// Decides that the task ends with `error`. False if it has its outcome or is aborting already.
pub(crate) fn abort(task: TaskRef<'_>, error: Error) -> bool {
    {
        let Some(mut locked) = task.waiters.lock() else { return false };
        if locked.is_aborting() {
            return false;
        }
        // SAFETY: the lock of the word guards the slot.
        unsafe { *task.failure.get() = Some(error) };
        locked.abort();
    }
    // The word says `ABORTING` before the state is examined, so a thread that takes the task over after this sees it.
    match task.count.hold() {
        // The submitter sees the abort when it has linked the inputs.
        Hold::Building => {}
        Hold::Held => {
            // SAFETY: this thread has a hold, and a task is aborted once.
            unsafe { unlink_inputs(task) };
        }
        Hold::Ready => {
            if let ClaimToEnd::Owned = task.state.claim_to_end() {
                // SAFETY: the claim brought a reference of the engine's.
                end_later(unsafe { Task::from_raw(task.as_ptr()) });
            }
        }
    }
    true
}

/// Cancels a task for a caller, whose reason may be empty. False if it has its outcome or is aborting already.
pub(crate) fn cancel(task: TaskRef<'_>, reason: String) -> bool {
    let cancelled = abort(task, Error::cancelled(task.subject(), reason));
    if cancelled && task.state.load() & KEYED != 0 {
        task.core().store.forget(task);
    }
    cancelled
}

/// Unlinks an aborting task from its unfinished inputs, and releases the caller's hold.
///
/// # Safety
///
/// The caller has a hold, and no other thread does this for the task.
pub(crate) unsafe fn unlink_inputs(task: TaskRef<'_>) {
    let mut released = 1;
    // SAFETY: the hold keeps the task in its waiting stage, in which threads only share its edges.
    unsafe {
        (task.vtable.edges)(task.as_ptr(), &mut |edge| {
            // An edge that is no longer linked is released by the thread that ended its input.
            if edge.unlink() {
                released += 1;
            }
        });
    }
    if task.count.release(released) {
        // SAFETY: that was the last hold.
        unsafe { last_hold_released(task.as_ptr()) }.into_iter().for_each(schedule::schedule);
    }
}

/// Adds the inputs of a waiting task to `found`. False if it doesn't wait, or is still being built.
pub(crate) fn collect_inputs(task: TaskRef<'_>, found: &mut Vec<Task>) -> bool {
    visit_inputs(task, &mut |edge| found.push(edge.task().to_task()))
}

/// Visits the inputs of a waiting task. False if it doesn't wait, or is still being built.
pub(crate) fn visit_inputs(task: TaskRef<'_>, visit: VisitEdge<'_>) -> bool {
    if !task.count.hold_if_waiting() {
        return false;
    }
    // SAFETY: the hold keeps the task in its waiting stage until this thread releases it.
    unsafe {
        (task.vtable.edges)(task.as_ptr(), visit);
        if task.count.release(1) {
            last_hold_released(task.as_ptr()).into_iter().for_each(schedule::schedule);
        }
    }
    true
}

/// Ends an aborting task that the caller has claimed.
pub(crate) fn end(task: Task) {
    let header = task.as_ref().as_ptr();
    let error = task.failure();
    // SAFETY: the claim made the caller the owner of the contents.
    unsafe {
        if error.as_ref().is_some_and(can_be_retried) {
            // At its deadline; else it hasn't started, as a dependent of a task that failed.
            (task.vtable.end)(header);
            if retry::has_lost_input(task.as_ref()) {
                (task.vtable.clear)(header);
            }
        } else {
            (task.vtable.clear)(header);
        }
    }
    // No worker takes part in this, so this thread must check whether the engine is idle now, and, if no worker is
    // left, remove the stale entry from its queue. `complete` may free the task, so the engine is kept.
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

/// Whether a task with this error may be retried: it failed, and was neither cancelled nor ended by a shutdown.
pub(crate) fn can_be_retried(error: &Error) -> bool {
    !error.is_final()
}
