//! The number that records whether a task's blocking work has a thread yet.
//!
//! | number | state of the blocking work that was submitted last |
//! |---|---|
//! | even | waits for a thread |
//! | odd | has a thread, or has returned |
//!
//! [`begin`] moves to the next even number, and [`end`] from that to the odd one after it.

use std::sync::atomic::{AtomicU32, Ordering};

/// Records that new blocking work waits for a thread, and returns its number.
pub(crate) fn begin(state: &AtomicU32) -> u32 {
    let number = (state.load(Ordering::Relaxed) | 1).wrapping_add(1);
    state.store(number, Ordering::Relaxed);
    number
}

/// Records that the blocking work with this number has a thread.
pub(crate) fn end(state: &AtomicU32, number: u32) {
    // Work of an abandoned attempt may get its thread while that of the next attempt already waits for one. The
    // number differs then, and must not change.
    let _ = state.compare_exchange(number, number + 1, Ordering::Relaxed, Ordering::Relaxed);
}

/// Returns whether blocking work waits for a thread.
pub(crate) fn is_waiting(state: &AtomicU32) -> bool {
    state.load(Ordering::Relaxed) % 2 == 0
}

/// Returns whether the work with this number has a thread, and none was submitted after it.
pub(crate) fn is_latest(state: &AtomicU32, number: u32) -> bool {
    state.load(Ordering::Relaxed) == number + 1
}
