//! A walk over a list of waiters of any length that never holds its lock for long.
//!
//! A list that isn't longer than a stride is visited under one lock. In a longer one, the walk leaves two entries of its own,
//! which nothing waits by: one where it has come to, and one at what was the end when it began. So it needs one step for each
//! entry, and ends though further ones are added all the time.
//!
//! A walk's entry is a [`WaitNode`] without a task. A thread that takes the list notifies it like any other, so it's freed in
//! the same way as that of a handle that was dropped.

use std::ptr::NonNull;
use std::task::Waker;

use crate::engine::base::sync::{AtomicU8, Ordering, UnsafeCell};
use crate::engine::task::wait_node::{
    ABANDONED, NOT_BLOCKING, NOTIFIED, WAITING, WaitNode, Waiting,
};
use crate::engine::task::waiters::{Link, WaiterKind, Waiters};

/// The most entries to visit while the list is locked.
pub(crate) const STRIDE: usize = 32;

/// Returns what `pick` returns for the entries that are in the list when this begins, and stay in it. It's called under the
/// lock of the list, which keeps the entry in place, for up to `stride` entries at a time.
pub(crate) fn collect<R>(
    waiters: &Waiters,
    stride: usize,
    mut pick: impl FnMut(NonNull<Link>) -> Option<R>,
) -> Vec<R> {
    let mut picked = Vec::new();
    if waiters.is_empty() {
        return picked;
    }
    picked.reserve(stride);
    let is_longer = waiters.lock().is_some_and(|locked| {
        let mut steps = 0;
        locked.any(|link| {
            steps += 1;
            if steps <= stride {
                picked.extend(pick(link));
            }
            steps > stride
        })
    });
    if !is_longer {
        return picked;
    }
    // Without the lock, as below: what was picked may run user code when it's dropped.
    picked.clear();
    let (mut place, mut end) = (Mark::new(waiters), Mark::new(waiters));
    {
        let Some(mut locked) = waiters.lock() else { return picked };
        // SAFETY: they're in no list, and stay in place until both sides are done with them.
        unsafe {
            locked.push(end.link());
            locked.push_first(place.link());
        }
        (place.was_linked, end.was_linked) = (true, true);
    }
    loop {
        picked.reserve(stride);
        let Some(mut locked) = waiters.lock() else { return picked };
        // SAFETY: as above; both are in this list or in none, since they're taken together.
        unsafe {
            if !(*place.link()).is_linked()
                || !locked
                    .advance(place.link(), end.link(), stride, |link| picked.extend(pick(link)))
            {
                return picked;
            }
        }
    }
}

/// An entry of a walk.
struct Mark<'a> {
    waiters: &'a Waiters,
    node: NonNull<WaitNode>,
    was_linked: bool,
}

impl<'a> Mark<'a> {
    fn new(waiters: &'a Waiters) -> Self {
        let waiting = Waiting { waker: Waker::noop().clone(), awaiter: None, refused: None };
        let node = Box::new(WaitNode {
            seen_steps: UnsafeCell::new(0),
            blocking: NOT_BLOCKING,
            link: Link::new(WaiterKind::Wait),
            state: AtomicU8::new(WAITING),
            waiting: UnsafeCell::new(waiting),
        });
        Self { waiters, node: NonNull::from(Box::leak(node)), was_linked: false }
    }

    fn link(&self) -> *const Link {
        self.node.as_ptr().cast()
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        // SAFETY: as in `Waitable::abandon`: the entry is this thread's alone if it was never linked, if it was unlinked, or if
        // the thread that took it has notified it; else that one frees it.
        unsafe {
            let is_alone = !self.was_linked
                || self.waiters.lock().is_some_and(|mut locked| locked.unlink(self.link()));
            if is_alone || self.node.as_ref().state.swap(ABANDONED, Ordering::AcqRel) == NOTIFIED {
                drop(Box::from_raw(self.node.as_ptr()));
            }
        }
    }
}
