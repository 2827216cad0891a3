//! The waker of a task: a memory reference whose wake puts a suspended task into a queue.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::task::{RawWaker, RawWakerVTable, Waker};

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
    unsafe { TaskRef::new(header(data)).state.add_ref() };
    RawWaker::new(data, &VTABLE)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: the caller gives the waker away, whose reference keeps the task in memory until `own` is dropped. Waking
    // a suspended task hands over the engine's reference.
    unsafe {
        let own = Task::from_raw(header(data));
        if own.state.wake() {
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
    unsafe { drop(Task::from_raw(header(data))) };
}
