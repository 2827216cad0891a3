//! What a worker does at the moment, as other threads see it.
//!
//! A worker that is blocked can tell nothing, and reading a clock for each poll would take as long as a small task. So a
//! worker counts its polls, by plain stores, and whoever wants to know looks twice: a count that is the same was the same
//! poll in between.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use crate::engine::task::header::{Header, TaskRef, VTable};

/// Written by the worker alone.
#[derive(Default)]
pub(crate) struct Activity {
    /// Its host is polling it. Not used for the client's own workers.
    pub(crate) is_hosted: AtomicBool,
    /// The number of polls of tasks that it has begun.
    polls: AtomicUsize,
    /// The vtable of the task that was polled last.
    vtable: AtomicPtr<VTable>,
    /// The address of the task that is being polled; null between polls.
    task: AtomicPtr<Header>,
}

/// A poll, as it was seen from another thread. It may have ended since then, and its task been freed: the address is for
/// comparisons only.
pub(crate) struct SeenPoll {
    number: usize,
    task: *mut Header,
    pub(crate) vtable: &'static VTable,
}

impl Activity {
    #[inline]
    pub(crate) fn begin_poll(&self, task: TaskRef<'_>) {
        // In this order, each released: who reads a task has the number of its poll, or a later one, and its vtable.
        self.polls.store(self.polls.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        self.vtable.store(ptr::from_ref(task.vtable).cast_mut(), Ordering::Release);
        self.task.store(task.as_ptr().as_ptr(), Ordering::Release);
    }

    #[inline]
    pub(crate) fn end_poll(&self) {
        self.task.store(ptr::null_mut(), Ordering::Release);
    }

    /// Returns the poll that the worker is in.
    pub(crate) fn poll(&self) -> Option<SeenPoll> {
        let number = self.polls.load(Ordering::Acquire);
        let task = self.task.load(Ordering::Acquire);
        let vtable = self.vtable.load(Ordering::Acquire);
        // SAFETY: null, or one of the vtables, which are static.
        let vtable = unsafe { vtable.as_ref() }?;
        let poll = SeenPoll { number, task, vtable };
        // With another number these may be of different polls.
        (!task.is_null() && self.is_in(&poll)).then_some(poll)
    }

    /// Whether the worker is still in this poll of its own, or has just ended it.
    pub(crate) fn is_in(&self, poll: &SeenPoll) -> bool {
        self.polls.load(Ordering::Acquire) == poll.number
    }
}

impl SeenPoll {
    /// Differs from that of the worker's other polls.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Whether it's a poll of this task. Certain if the worker is still in it.
    pub(crate) fn is_of(&self, task: TaskRef<'_>) -> bool {
        ptr::eq(self.task, task.as_ptr().as_ptr())
    }
}
