//! The queue of tasks that come from outside the workers.
//!
//! Anyone pushes with one compare-and-swap on a linked list of the tasks themselves. A worker that
//! is out of work takes the whole list, turns it into order of arrival, keeps a batch, and leaves the
//! rest for the next one; the lock is only for those who take. This is cheaper than a queue that can
//! be taken from one by one, because the word that producers fight over is touched once a batch.

use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use crossbeam_utils::CachePadded;

use super::header::{Header, Task};
use super::lock::Lock;

pub(crate) struct Injector {
    /// Newest first.
    pushed: CachePadded<AtomicPtr<Header>>,
    /// Oldest first; older than all in `pushed`.
    rest: Lock<Chain>,
    has_rest: AtomicBool,
}

struct Chain(*mut Header);

// SAFETY: a chain owns a reference to each of its tasks.
unsafe impl Send for Chain {}

impl Injector {
    pub(crate) fn new() -> Self {
        Self {
            pushed: CachePadded::new(AtomicPtr::new(ptr::null_mut())),
            rest: Lock::new(Chain(ptr::null_mut())),
            has_rest: AtomicBool::new(false),
        }
    }

    pub(crate) fn push(&self, task: Task) {
        let header = task.into_raw();
        // SAFETY: the list owns the reference from here on.
        unsafe { self.push_chain(header.as_ptr(), header.as_ptr()) };
    }

    /// Pushes all with one operation, the first one to come out first.
    pub(crate) fn push_all(&self, tasks: impl IntoIterator<Item = Task>) {
        let mut newest = ptr::null_mut();
        let mut oldest = ptr::null_mut::<Header>();
        for task in tasks {
            task.next.store(newest, Ordering::Relaxed);
            newest = task.into_raw().as_ptr();
            if oldest.is_null() {
                oldest = newest;
            }
        }
        if !newest.is_null() {
            // SAFETY: they're linked, and the list owns their references from here on.
            unsafe { self.push_chain(newest, oldest) };
        }
    }

    /// # Safety
    ///
    /// The caller gives away a reference to each task from `newest` to `oldest`, linked in that
    /// order.
    unsafe fn push_chain(&self, newest: *mut Header, oldest: *mut Header) {
        let mut head = self.pushed.load(Ordering::Relaxed);
        loop {
            // SAFETY: it's still the caller's.
            unsafe { (*oldest).next.store(head, Ordering::Relaxed) };
            // Sequentially consistent, so that the pusher then sees who sleeps (`Sleepers::wake_one`).
            match self.pushed.compare_exchange_weak(
                head,
                newest,
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pushed.load(Ordering::SeqCst).is_null() && !self.has_rest.load(Ordering::SeqCst)
    }

    /// Hands out up to `limit` tasks, oldest first. True where some are left.
    pub(crate) fn take(&self, limit: usize, mut each: impl FnMut(Task)) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut rest = self.rest.lock();
        let mut taken = 0;
        while taken < limit {
            if rest.0.is_null() {
                rest.0 = self.take_pushed();
                if rest.0.is_null() {
                    break;
                }
            }
            // SAFETY: the chain owns its tasks.
            unsafe {
                let task = Task::from_raw(ptr::NonNull::new_unchecked(rest.0));
                rest.0 = task.next.load(Ordering::Relaxed);
                each(task);
            }
            taken += 1;
        }
        self.has_rest.store(!rest.0.is_null(), Ordering::SeqCst);
        !rest.0.is_null()
    }

    /// Drops the tasks that aren't wanted and leaves the others as they are. It is at no time empty
    /// meanwhile, unless it stays so.
    pub(crate) fn retain(&self, wanted: impl Fn(&Task) -> bool) {
        if self.is_empty() {
            return;
        }
        let mut rest = self.rest.lock();
        self.has_rest.store(true, Ordering::SeqCst);
        let mut chains = [mem::replace(&mut rest.0, ptr::null_mut()), self.take_pushed()];
        let mut last: *mut Header = ptr::null_mut();
        for next in &mut chains {
            while let Some(header) = ptr::NonNull::new(*next) {
                // SAFETY: the chains owned their tasks; now we do.
                let task = unsafe { Task::from_raw(header) };
                *next = task.next.load(Ordering::Relaxed);
                if !wanted(&task) {
                    continue;
                }
                task.next.store(ptr::null_mut(), Ordering::Relaxed);
                let header = task.into_raw().as_ptr();
                match last.is_null() {
                    true => rest.0 = header,
                    // SAFETY: it's in the chain, which owns it.
                    false => unsafe { (*last).next.store(header, Ordering::Relaxed) },
                }
                last = header;
            }
        }
        self.has_rest.store(!rest.0.is_null(), Ordering::SeqCst);
    }

    /// Takes the pushed list and turns it round.
    fn take_pushed(&self) -> *mut Header {
        let mut newest = self.pushed.swap(ptr::null_mut(), Ordering::Acquire);
        let mut oldest = ptr::null_mut();
        while !newest.is_null() {
            // SAFETY: the list owned its tasks; now we do.
            let next = unsafe { &(*newest).next };
            let older = next.swap(oldest, Ordering::Relaxed);
            oldest = newest;
            newest = older;
        }
        oldest
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        while self.take(usize::MAX, drop) {}
    }
}
