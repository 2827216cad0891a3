//! Code to run when a task ends.

use std::ptr::NonNull;

use super::header::{TaskRef, User};
use super::release::quietly;
use super::state::CALLBACKS;
use super::typed::Typed;
use super::waiters::{Kind, Link};

#[repr(C)]
pub(crate) struct Callback {
    link: Link,
    code: Box<dyn FnOnce(&mut User) + Send>,
}

/// Calls `code` once the task has ended, with one user for all callbacks; at once if it has.
fn add(user: &User, code: Box<dyn FnOnce(&mut User) + Send>) {
    let task: TaskRef<'_> = user.task();
    if let Some(mut locked) = task.waiters.lock() {
        let callback = Box::into_raw(Box::new(Callback { link: Link::new(Kind::Callback), code }));
        task.state.set(CALLBACKS);
        // SAFETY: it's new, and stays in place until it's called. A pointer to the whole is one to
        // its first field.
        unsafe { locked.push(callback.cast::<Link>()) };
        return;
    }
    let mut user = user.clone();
    quietly(task.core(), || code(&mut user));
}

/// The same, with the type of the task's value.
pub(crate) fn add_typed<T>(typed: &Typed<T>, code: impl FnOnce(&Typed<T>) + Send + 'static)
where
    T: 'static,
{
    // SAFETY: it's the same task.
    let code = |user: &mut User| code(&unsafe { Typed::new(user.clone()) });
    add(typed.user(), Box::new(code));
}

/// Calls the callback and frees it.
///
/// # Safety
///
/// The link is that of a callback in a taken list that hasn't been told.
pub(crate) unsafe fn call(link: NonNull<Link>, user: &mut User) {
    // SAFETY: `add` made it from a box.
    let Callback { code, .. } = *unsafe { Box::from_raw(link.cast::<Callback>().as_ptr()) };
    let core = user.clone();
    quietly(core.core(), || code(user));
}
