//! The entry of an awaiting handle in a task's list of waiters.
//!
//! The entry belongs to the handle, which may be dropped at any time, and, once taken from the list, also to the
//! thread that notifies it. The last of the two to be done with it frees it:
//!
//! | state | set by | then freed by |
//! |---|---|---|
//! | waiting | the handle that registers it | |
//! | notified | the thread that took the list | the handle, when it lets go |
//! | abandoned | the handle, if the list was taken but the entry not yet notified | the notifying thread |

use std::mem;
use std::ptr::NonNull;
use std::task::Waker;

use crate::Error;
use crate::engine::base::sync::{AtomicU8, Ordering, UnsafeCell};
use crate::engine::task::header::Task;
use crate::engine::task::waiters::Link;

pub(crate) const WAITING: u8 = 0;
/// Notified by the thread that took it from the list.
pub(crate) const NOTIFIED: u8 = 1;
/// Abandoned by its handle.
pub(crate) const ABANDONED: u8 = 2;

/// No blocking work has this number.
pub(crate) const NOT_BLOCKING: u32 = 1;

#[repr(C)]
pub(crate) struct WaitNode {
    pub(crate) link: Link,
    pub(crate) state: AtomicU8,
    /// For the handle only: the number of steps of a seeded client that it has seen.
    pub(crate) seen_steps: UnsafeCell<u16>,
    /// The number of the awaiter's blocking work, if the closure of that waits for this and nothing else, or
    /// [`NOT_BLOCKING`].
    pub(crate) blocking: u32,
    /// Guarded by the lock of the list, then by having taken the list.
    pub(crate) waiting: UnsafeCell<Waiting>,
}

pub(crate) struct Waiting {
    pub(crate) waker: Waker,
    /// The task that awaits, if the waker isn't that task's own.
    pub(crate) awaiter: Option<Task>,
    /// The await closes a cycle: the result of its next poll.
    pub(crate) refused: Option<Error>,
}

/// Returns the contents of an entry.
///
/// # Safety
///
/// The link is that of a `WaitNode` in a list that stays locked during `'a`, and this is the only reference to the contents.
pub(crate) unsafe fn waiting<'a>(link: NonNull<Link>) -> &'a mut Waiting {
    // SAFETY: a link is the first field of its node, and the lock of the list guards the rest.
    unsafe { &mut *link.cast::<WaitNode>().as_ref().waiting.get() }
}

/// Returns the number of the blocking work whose closure waits with this entry and nothing else.
///
/// # Safety
///
/// The link is that of a `WaitNode` in a list that is locked.
pub(crate) unsafe fn blocking(link: NonNull<Link>) -> Option<u32> {
    // SAFETY: a link is the first field of its node, and the number never changes.
    let number = unsafe { link.cast::<WaitNode>().as_ref().blocking };
    (number != NOT_BLOCKING).then_some(number)
}

/// Takes the waker out of an entry, for the caller to wake.
///
/// # Safety
///
/// The link is that of a `WaitNode` in a taken list, and the entry hasn't been notified.
pub(crate) unsafe fn notify(link: NonNull<Link>) -> Waker {
    let node = link.cast::<WaitNode>();
    // SAFETY: until the swap, whoever notifies the entry owns all of it but for the state.
    unsafe {
        let waiting = node.as_ref().waiting.get();
        let waker = mem::replace(&mut (*waiting).waker, Waker::noop().clone());
        let left = ((*waiting).awaiter.take(), (*waiting).refused.take());
        if node.as_ref().state.swap(NOTIFIED, Ordering::AcqRel) == ABANDONED {
            drop(Box::from_raw(node.as_ptr()));
        }
        // Before the awaiting task can go on: it then finds nothing of itself held here.
        drop(left);
        waker
    }
}
