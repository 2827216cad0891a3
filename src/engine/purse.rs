//! What keeps an engine in memory: a count, and a purse on each thread.
//!
//! Every task has a reference to its engine, but counting them one by one on a shared counter would
//! cost two contended operations a task. So a thread draws references in bulk into its purse, hands
//! them to the tasks it makes and takes back those of the tasks it frees.
//!
//! A purse holds references to one engine at a time. It is emptied when the thread turns to another
//! engine or ends, and when it sees that the engine was closed.

use std::cell::{Cell, RefCell};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::core::Core;

/// Drawn at a time. Large enough to make the shared counter disappear from profiles.
const BULK: usize = 256;

/// What a purse holds; its thread writes it, others read it to know how many tasks there are.
#[derive(Default)]
pub(crate) struct Held(AtomicUsize);

impl Held {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

struct Purse {
    core: Cell<*const Core>,
    held: RefCell<Arc<Held>>,
}

thread_local! {
    static PURSE: Purse = Purse {
        core: Cell::new(ptr::null()),
        held: RefCell::default(),
    };
}

impl Purse {
    /// Makes this a purse for `core`, which the caller has a reference to.
    ///
    /// Emptying it may free another engine and run foreign code, which may use this purse. So that comes
    /// last, and the caller looks again.
    fn turn_to(&self, core: NonNull<Core>) {
        let before = self.put_down();
        // SAFETY: the caller's reference keeps it.
        unsafe { core.as_ref() }.purses.lock().push(self.held.borrow().clone());
        self.core.set(core.as_ptr());
        before.give_back();
    }

    fn put_down(&self) -> Contents {
        let Some(core) = NonNull::new(self.core.replace(ptr::null()).cast_mut()) else {
            return Contents(None);
        };
        let held = self.held.take();
        // SAFETY: the one that was drawn for the purse itself keeps it.
        let purses = unsafe { &core.as_ref().purses };
        purses.lock().retain(|other| !Arc::ptr_eq(other, &held));
        Contents(Some((core, held.get())))
    }
}

/// What was in a purse.
#[must_use]
struct Contents(Option<(NonNull<Core>, usize)>);

impl Contents {
    fn give_back(self) {
        if let Some((core, n)) = self.0 {
            // SAFETY: they were the purse's.
            unsafe { Core::drop_refs(core, n) };
        }
    }
}

impl Drop for Purse {
    fn drop(&mut self) {
        self.put_down().give_back();
    }
}

/// A reference for a new task.
pub(crate) fn take(core: &Core) -> NonNull<Core> {
    let pointer = NonNull::from(core);
    let taken = PURSE.try_with(|purse| {
        while purse.core.get() != pointer.as_ptr() {
            purse.turn_to(pointer);
        }
        let held = &purse.held.borrow().0;
        let mut now = held.load(Ordering::Relaxed);
        // One stays, for the purse itself.
        if now < 2 {
            core.add_refs(BULK);
            now += BULK;
        }
        held.store(now - 1, Ordering::Relaxed);
    });
    if taken.is_err() {
        // The thread is ending.
        core.add_refs(1);
    }
    pointer
}

/// Gives back the reference of a task that is freed.
///
/// # Safety
///
/// The caller gives away a reference, and doesn't use the engine after this.
pub(crate) unsafe fn give(core: NonNull<Core>) {
    let given = PURSE.try_with(|purse| {
        // SAFETY: the caller's reference keeps it.
        let closed = unsafe { core.as_ref() }.is_closed();
        while purse.core.get() != core.as_ptr() {
            if closed {
                return false;
            }
            purse.turn_to(core);
        }
        let held = purse.held.borrow();
        let now = held.get() + 1;
        held.0.store(now, Ordering::Relaxed);
        if closed {
            drop(held);
            purse.put_down().give_back();
        } else if now > 2 * BULK {
            held.0.store(now - BULK, Ordering::Relaxed);
            drop(held);
            // SAFETY: they are ours, and more are left.
            unsafe { Core::drop_refs(core, BULK) };
        }
        true
    });
    if !matches!(given, Ok(true)) {
        // SAFETY: the caller's reference.
        unsafe { Core::drop_refs(core, 1) };
    }
}

/// Empties this thread's purse if it's for this engine: before the engine is closed or left.
pub(crate) fn empty(core: &Core) {
    let _ = PURSE.try_with(|purse| {
        if ptr::eq(purse.core.get(), core) {
            purse.put_down().give_back();
        }
    });
}
