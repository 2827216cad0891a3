//! What the engine's protocols between threads are made of.
//!
//! These are the standard library's. They have a module of their own so that the models in `loom/`, which run
//! the very files that are here through all orders of events, can put others in their place.

pub(crate) use std::cell::{Cell, UnsafeCell};
pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicIsize, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
    Ordering, fence,
};
pub(crate) use std::thread::yield_now;
pub(crate) use std::thread_local;
pub(crate) use std::time::Instant;
