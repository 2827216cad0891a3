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

use crate::engine::core::Core;

/// Drawn at a time. Large enough to make the shared counter disappear from profiles.
const BULK: usize = 256;

/// What a purse holds; its thread writes it, others read it to know how many tasks there are.
#[derive(Default)]
pub(crate) struct PooledRefs(AtomicUsize);

impl PooledRefs {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

struct RefPool {
    core: Cell<*const Core>,
    refs: RefCell<Arc<PooledRefs>>,
}

thread_local! {
    static REF_POOL: RefPool = RefPool {
        core: Cell::new(ptr::null()),
        refs: RefCell::default(),
    };
}

impl RefPool {
    /// Makes this a purse for `core`, which the caller has a reference to.
    ///
    /// Emptying it may free another engine and run foreign code, which may use this purse. So that comes
    /// last, and the caller looks again.
    fn switch_to(&self, core: NonNull<Core>) {
        let before = self.detach();
        // SAFETY: the caller's reference keeps it.
        unsafe { core.as_ref() }.ref_pools.lock().push(self.refs.borrow().clone());
        self.core.set(core.as_ptr());
        before.release();
    }

    fn detach(&self) -> Contents {
        let Some(core) = NonNull::new(self.core.replace(ptr::null()).cast_mut()) else {
            return Contents(None);
        };
        let refs = self.refs.take();
        // SAFETY: the one that was drawn for the purse itself keeps it.
        let ref_pools = unsafe { &core.as_ref().ref_pools };
        ref_pools.lock().retain(|other| !Arc::ptr_eq(other, &refs));
        Contents(Some((core, refs.get())))
    }
}

/// What was in a purse.
#[must_use]
struct Contents(Option<(NonNull<Core>, usize)>);

impl Contents {
    fn release(self) {
        if let Some((core, n)) = self.0 {
            // SAFETY: they were the purse's.
            unsafe { Core::drop_refs(core, n) };
        }
    }
}

impl Drop for RefPool {
    fn drop(&mut self) {
        self.detach().release();
    }
}

/// A reference for a new task.
pub(crate) fn acquire(core: &Core) -> NonNull<Core> {
    let pointer = NonNull::from(core);
    let acquired = REF_POOL.try_with(|pool| {
        while pool.core.get() != pointer.as_ptr() {
            pool.switch_to(pointer);
        }
        let refs = &pool.refs.borrow().0;
        let mut now = refs.load(Ordering::Relaxed);
        // One stays, for the purse itself.
        if now < 2 {
            core.add_refs(BULK);
            now += BULK;
        }
        refs.store(now - 1, Ordering::Relaxed);
    });
    if acquired.is_err() {
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
pub(crate) unsafe fn release(core: NonNull<Core>) {
    let released = REF_POOL.try_with(|pool| {
        // SAFETY: the caller's reference keeps it.
        let closed = unsafe { core.as_ref() }.is_closed();
        while pool.core.get() != core.as_ptr() {
            if closed {
                return false;
            }
            pool.switch_to(core);
        }
        let refs = pool.refs.borrow();
        let now = refs.get() + 1;
        refs.0.store(now, Ordering::Relaxed);
        if closed {
            drop(refs);
            pool.detach().release();
        } else if now > 2 * BULK {
            refs.0.store(now - BULK, Ordering::Relaxed);
            drop(refs);
            // SAFETY: they are ours, and more are left.
            unsafe { Core::drop_refs(core, BULK) };
        }
        true
    });
    if !matches!(released, Ok(true)) {
        // SAFETY: the caller's reference.
        unsafe { Core::drop_refs(core, 1) };
    }
}

/// Empties this thread's purse if it's for this engine: before the engine is closed or left.
pub(crate) fn drain(core: &Core) {
    let _ = REF_POOL.try_with(|pool| {
        if ptr::eq(pool.core.get(), core) {
            pool.detach().release();
        }
    });
}
