//! References to an engine, pooled on each thread.
//!
//! Every task has a reference to its engine, but counting each of them on a shared counter would cost two contended
//! operations per task. So a thread acquires references in bulk into its pool, gives them to the tasks that it creates,
//! and takes back those of the tasks that it frees.
//!
//! A pool holds references to one engine at a time, one of which keeps the engine in memory for the pool itself. It is
//! emptied when the thread uses another engine or exits, and when it sees that the engine was closed, so that an idle
//! thread doesn't keep a closed engine.

use std::cell::{Cell, RefCell};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::engine::base::sync::{AtomicUsize, Ordering, thread_local};
use crate::engine::core::Core;

/// The number of references to acquire at a time. Large enough that the shared counter disappears from profiles.
const BULK: usize = 256;

/// The number of references in a pool. Only its thread writes it, so plain stores are enough; other threads read it to
/// compute the number of tasks in memory.
#[derive(Default)]
pub(crate) struct PooledRefs(AtomicUsize);

impl PooledRefs {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

struct RefPool {
    /// The engine's origin, or null.
    core: Cell<*mut Core>,
    refs: RefCell<Arc<PooledRefs>>,
}

thread_local! {
    static REF_POOL: RefPool = RefPool {
        core: Cell::new(ptr::null_mut()),
        refs: RefCell::default(),
    };
}

impl RefPool {
    /// Makes this a pool for the engine with this origin, which the caller has a reference to.
    ///
    /// Releasing the former references may free another engine and run user code, which may use this pool. So it
    /// is done last, and the caller checks the pool's engine again.
    fn switch_to(&self, core: NonNull<Core>) {
        let before = self.detach();
        // SAFETY: the caller's reference keeps the engine in memory.
        unsafe { core.as_ref() }.ref_pools.lock().push(self.refs.borrow().clone());
        self.core.set(core.as_ptr());
        before.release();
    }

    /// Takes the references out of the pool, which has no engine after this. Runs no user code.
    fn detach(&self) -> Contents {
        let Some(core) = NonNull::new(self.core.replace(ptr::null_mut())) else {
            return Contents(None);
        };
        // A new counter: `ref_pools` of the former engine must not count references to the next one.
        let refs = self.refs.take();
        // SAFETY: the pool's own reference, which is among `refs`, keeps the engine in memory.
        let ref_pools = unsafe { &core.as_ref().ref_pools };
        ref_pools.lock().retain(|other| !Arc::ptr_eq(other, &refs));
        Contents(Some((core, refs.get())))
    }
}

/// References that were in a pool, and their engine.
#[must_use]
struct Contents(Option<(NonNull<Core>, usize)>);

impl Contents {
    fn release(self) {
        if let Some((core, n)) = self.0 {
            // SAFETY: these references were the pool's and are dropped once.
            unsafe { Core::drop_refs(core, n) };
        }
    }
}

impl Drop for RefPool {
    fn drop(&mut self) {
        self.detach().release();
    }
}

/// Returns a reference for a new task.
pub(crate) fn acquire(core: &Core) -> NonNull<Core> {
    let origin = core.origin();
    let acquired = REF_POOL.try_with(|pool| {
        // A loop: user code that `switch_to` runs may have switched the pool to another engine.
        while pool.core.get() != origin.as_ptr() {
            pool.switch_to(origin);
        }
        let refs = &pool.refs.borrow().0;
        let mut now = refs.load(Ordering::Relaxed);
        // One must stay, the pool's own.
        if now < 2 {
            core.add_refs(BULK);
            now += BULK;
        }
        refs.store(now - 1, Ordering::Relaxed);
    });
    if acquired.is_err() {
        // The thread is exiting and its pool was dropped.
        core.add_refs(1);
    }
    origin
}

/// Takes back the reference of a task that is freed.
///
/// # Safety
///
/// The pointer is the engine's origin. The caller gives away a reference, and doesn't use the engine after this by that
/// reference.
pub(crate) unsafe fn release(core: NonNull<Core>) {
    let released = REF_POOL.try_with(|pool| {
        // SAFETY: the caller's reference keeps the engine in memory.
        let closed = unsafe { core.as_ref() }.is_closed();
        while pool.core.get() != core.as_ptr() {
            if closed {
                // Not worth a switch: a pool is emptied anyway when it sees that its engine is closed.
                return false;
            }
            pool.switch_to(core);
        }
        let refs = pool.refs.borrow();
        let now = refs.get() + 1;
        refs.0.store(now, Ordering::Relaxed);
        // The borrow ends before references are dropped: the last one frees the engine, and may run user code.
        if closed {
            drop(refs);
            pool.detach().release();
        } else if now > 2 * BULK {
            refs.0.store(now - BULK, Ordering::Relaxed);
            drop(refs);
            // SAFETY: these references are the pool's, and more are left to keep the engine in memory.
            unsafe { Core::drop_refs(core, BULK) };
        }
        true
    });
    if !matches!(released, Ok(true)) {
        // SAFETY: the caller's reference, which the pool didn't take.
        unsafe { Core::drop_refs(core, 1) };
    }
}

/// Empties this thread's pool if it's for this engine: when a client is dropped or closed, and when a worker exits.
pub(crate) fn drain(core: &Core) {
    let _ = REF_POOL.try_with(|pool| {
        if ptr::eq(pool.core.get(), core) {
            pool.detach().release();
        }
    });
}
