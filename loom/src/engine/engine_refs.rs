//! The references of tasks to their engine: the engine's own, in the models of them. The other models keep their engine longer
//! than its tasks, and have no such references, which spares them millions of executions.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::engine::core::Core;

#[path = "../../../src/engine/core/engine_refs.rs"]
mod own;

pub(crate) use own::PooledRefs;

/// Not one of loom's, as it's set before the first execution of a model.
static COUNTED: AtomicBool = AtomicBool::new(false);

pub(crate) fn set_counted(counted: bool) {
    COUNTED.store(counted, Ordering::Relaxed);
}

fn are_counted() -> bool {
    COUNTED.load(Ordering::Relaxed)
}

pub(crate) fn acquire(core: &Core) -> NonNull<Core> {
    if are_counted() { own::acquire(core) } else { core.origin() }
}

/// # Safety
///
/// As for the engine's own.
pub(crate) unsafe fn release(core: NonNull<Core>) {
    if are_counted() {
        // SAFETY: the caller's promise.
        unsafe { own::release(core) };
    }
}

pub(crate) fn drain(core: &Core) {
    if are_counted() {
        own::drain(core);
    }
}
