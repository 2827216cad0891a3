//! The waker of a task: a memory reference whose wake puts a suspended task into a queue.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::task::{RawWaker, RawWakerVTable, Waker};

use crate::engine::life::drop_task::end_later;
use crate::engine::life::schedule::schedule;
use crate::engine::task::header::{Header, Task, TaskRef};

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

/// Returns a waker for the duration of a poll, without a reference of its own.
pub(crate) fn borrowed(task: &Task) -> ManuallyDrop<Waker> {
    let data = task.as_ref().as_ptr().as_ptr().cast_const().cast();
    // SAFETY: the functions of the vtable fulfil `RawWaker`'s contract. The caller keeps the task in memory during the
    // poll, and `ManuallyDrop` prevents the drop of a reference that wasn't counted.
    ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(data, &VTABLE)) })
}

/// # Safety
///
/// `data` is that of a waker with this vtable.
unsafe fn header(data: *const ()) -> NonNull<Header> {
    // SAFETY: `borrowed` and `clone` store the address of a header.
    unsafe { NonNull::new_unchecked(data.cast_mut().cast()) }
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: the waker that is cloned keeps the task in memory.
    let task = unsafe { TaskRef::new(header(data)) };
    task.state.add_ref();
    task.wakers.fetch_add(1, Ordering::Relaxed);
    RawWaker::new(data, &VTABLE)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: the caller gives the waker away, whose reference keeps the task in memory until `own` is dropped. Waking
    // a suspended task hands over the engine's reference.
    unsafe {
        let own = Task::from_raw(header(data));
        let must_queue = own.state.wake();
        // After the wake: whoever misses this waker in the count sees the task queued.
        uncount(own.as_ref());
        if must_queue {
            let task = Task::from_raw(header(data));
            // Before the task can run, so that it is alone once it has ended, and its value can be moved out.
            drop(own);
            schedule(task);
        }
    }
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: the waker keeps the task in memory.
    wake_task(unsafe { TaskRef::new(header(data)) });
}

/// Queues a suspended task; one that is in a poll is queued after it.
pub(crate) fn wake_task(task: TaskRef<'_>) {
    if task.state.wake() {
        // SAFETY: waking a suspended task hands over the engine's reference.
        schedule(unsafe { Task::from_raw(task.as_ptr()) });
    }
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: this drops the waker's own reference.
    let own = unsafe { Task::from_raw(header(data)) };
    uncount(own.as_ref());
}

/// Counts off a waker that's about to go. If a search for cycles waits for that, the task's next suspension makes it.
fn uncount(task: TaskRef<'_>) {
    // Sequentially consistent, as is what `cycle` does between setting the bit and reading the count.
    task.wakers.fetch_sub(1, Ordering::SeqCst);
    if task.state.is_search_due() {
        wake_task(task);
    }
}

/// Returns the task that a waker wakes; `None` for a waker that isn't a task's own, such as one of a combinator.
pub(crate) fn task_of(waker: &Waker) -> Option<TaskRef<'_>> {
    if !std::ptr::eq(waker.vtable(), &raw const VTABLE) {
        return None;
    }
    // SAFETY: it's a waker with this vtable, which keeps the task in memory.
    Some(unsafe { TaskRef::new(header(waker.data())) })
}

/// Whether a waker wakes this task.
pub(crate) fn wakes(waker: &Waker, task: TaskRef<'_>) -> bool {
    task_of(waker).is_some_and(|woken| woken.is(task))
}

/// Queues or ends a task that was woken or aborted while the caller owned it.
pub(crate) fn requeue(task: Task) {
    // An abort sets `QUEUED` of a running task, as a wake does. The claim fails if another abort was quicker.
    if !task.waiters.is_aborting() {
        schedule(task);
    } else if task.state.claim_unpolled() {
        end_later(task);
    }
}
