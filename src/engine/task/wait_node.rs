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

use crate::engine::base::sync::{AtomicU8, Ordering, UnsafeCell};
use crate::engine::task::header::Task;
use crate::engine::task::waiters::Link;

pub(crate) const WAITING: u8 = 0;
/// Told, by who took it from the list.
pub(crate) const NOTIFIED: u8 = 1;
/// Given up by its handle.
pub(crate) const ABANDONED: u8 = 2;

#[repr(C)]
pub(crate) struct WaitNode {
    pub(crate) link: Link,
    pub(crate) state: AtomicU8,
    /// Guarded by the lock of the list, then by having taken the list.
    pub(crate) waiting: UnsafeCell<Waiting>,
}

pub(crate) struct Waiting {
    pub(crate) waker: Waker,
    pub(crate) awaiter: Option<Awaiter>,
}

/// The task that awaits.
pub(crate) struct Awaiter {
    pub(crate) task: Task,
    /// The poll in which it did; `None` where its blocking work waits, on its own thread.
    pub(crate) poll: Option<u32>,
}

impl Awaiter {
    pub(crate) fn again(&self) -> Self {
        Self { task: self.task.as_ref().to_task(), poll: self.poll }
    }

    /// An await lasts until the task's next poll, and a blocking one until it's over.
    pub(crate) fn still_awaits(&self) -> bool {
        self.poll.is_none_or(|poll| self.task.polls.load(Ordering::Acquire) == poll)
    }
}

/// The task that awaits through this entry.
///
/// # Safety
///
/// The link is that of a `WaitNode` in a list that is locked.
pub(crate) unsafe fn awaiter(link: NonNull<Link>) -> Option<Awaiter> {
    // SAFETY: see above; a link is the first field of its node, and the lock guards the rest.
    let awaiter = unsafe { (*link.cast::<WaitNode>().as_ref().waiting.get()).awaiter.as_ref() }?;
    Some(awaiter.again())
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
        let awaiter = (*waiting).awaiter.take();
        if node.as_ref().state.swap(NOTIFIED, Ordering::AcqRel) == ABANDONED {
            drop(Box::from_raw(node.as_ptr()));
        }
        // Before the awaiting task can go on: it then finds nothing of itself held here.
        drop(awaiter);
        waker
    }
}
