//! An allocator that counts, for the whole process.
//!
//! A test or bench installs it with
//!
//! ```ignore
//! #[global_allocator]
//! static ALLOCATOR: Counting = Counting;
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

/// The system's allocator, with counters.
#[derive(Debug)]
pub struct Counting;

#[derive(Debug)]
struct Counters {
    allocations: AtomicUsize,
    /// Allocated less freed by the threads of these counters, so it may be negative.
    bytes: AtomicIsize,
}

/// Counters for a few threads each: shared ones would be a bottleneck that the measured program doesn't have.
static COUNTERS: [CachePadded<Counters>; 32] = [const {
    CachePadded::new(Counters { allocations: AtomicUsize::new(0), bytes: AtomicIsize::new(0) })
}; 32];

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The index of this thread's counters, or `usize::MAX` before its first allocation.
    static INDEX: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn counters() -> &'static Counters {
    let mut index = INDEX.get();
    if index == usize::MAX {
        index = THREADS.fetch_add(1, Relaxed) % COUNTERS.len();
        INDEX.set(index);
    }
    &COUNTERS[index]
}

// SAFETY: all is done by the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let counters = counters();
        counters.allocations.fetch_add(1, Relaxed);
        counters.bytes.fetch_add(layout.size() as isize, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        counters().bytes.fetch_sub(layout.size() as isize, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }
}

/// Returns the number of bytes that are allocated now.
pub fn bytes() -> usize {
    COUNTERS.iter().map(|counters| counters.bytes.load(Relaxed)).sum::<isize>() as usize
}

/// Returns the number of allocations so far.
pub fn allocations() -> usize {
    COUNTERS.iter().map(|counters| counters.allocations.load(Relaxed)).sum()
}
