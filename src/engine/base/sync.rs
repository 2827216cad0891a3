//! What the engine's protocols between threads are made of.
//!
//! These are the standard library's. They have a module of their own so that others can take their place: in the models of
//! `loom/`, which run the engine's files through all orders of events, and in `shuttle/`, which runs all of the engine under
//! random schedules.

pub(crate) use std::cell::{Cell, UnsafeCell};
pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicIsize, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
    Ordering, fence,
};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use std::thread::{self, yield_now};
pub(crate) use std::thread_local;
pub(crate) use std::time::Instant;

/// How often a thread that looks for its wake reads the clock at most. The clock ends a look; those of the models stand still.
pub(crate) const ROUNDS: usize = usize::MAX;

/// Whether a panic hook may read thread locals. Those of simulated threads may not exist there.
pub(crate) const HOOKS_HAVE_LOCALS: bool = true;
