//! Callbacks that run when a task ends.

use std::ptr::NonNull;

use crate::engine::task::header::{Interest, TaskRef};
use crate::engine::task::state::CALLBACKS;
use crate::engine::task::typed::Typed;
use crate::engine::task::waiters::{Link, WaiterKind};

#[repr(C)]
pub(crate) struct Callback {
    link: Link,
    code: Box<dyn FnOnce(&mut Interest) + Send>,
}

/// Calls `code` once the task has ended: on the thread that ends it, with one interest shared by all callbacks, or at
/// once if it has ended already.
pub(crate) fn add(interest: &Interest, code: Box<dyn FnOnce(&mut Interest) + Send>) {
    let task: TaskRef<'_> = interest.task();
    if let Some(mut locked) = task.waiters.lock() {
        let callback =
            Box::into_raw(Box::new(Callback { link: Link::new(WaiterKind::Callback), code }));
        task.state.set(CALLBACKS);
        // SAFETY: the link is in no list and stays in place until `call` frees it. It is the first field, so a pointer
        // to the callback is one to the link.
        unsafe { locked.push(callback.cast::<Link>()) };
        return;
    }
    let mut interest = interest.clone();
    task.core().run_user_code(|| code(&mut interest));
}

/// As [`add`], with the type of the task's value.
pub(crate) fn add_typed<T>(typed: &Typed<T>, code: impl FnOnce(&Typed<T>) + Send + 'static)
where
    T: 'static,
{
    // SAFETY: the interest passed to `code` is one in the same task, whose value is a `T`.
    let code = |interest: &mut Interest| code(&unsafe { Typed::new(interest.clone()) });
    add(typed.interest(), Box::new(code));
}

/// Calls the callback and frees it.
///
/// # Safety
///
/// The link is that of a callback in a taken list, and hasn't been notified.
pub(crate) unsafe fn call(link: NonNull<Link>, interest: &mut Interest) {
    // SAFETY: `add` made the pointer from a box, and each callback is called once.
    let Callback { code, .. } = *unsafe { Box::from_raw(link.cast::<Callback>().as_ptr()) };
    let core = interest.clone();
    core.core().run_user_code(|| code(interest));
}
