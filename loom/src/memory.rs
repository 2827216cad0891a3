//! The allocator of the models: memory that was freed is reused at once, last in, first out.
//!
//! Whether a compare-and-exchange of an address succeeds depends on whether the memory was reused since the address was read.
//! An execution must be repeatable, so that mustn't depend on what was allocated before it. Here it depends on the
//! allocations of this execution alone: they find distinct addresses in the list of their size, whichever those are. And
//! reuse is as likely as it can be, so that a protocol that mistakes a new object for an old one at its address is found.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::Mutex;

/// Sizes are rounded up to multiples of this.
const STEP: usize = 16;
/// The number of lists. Larger objects come from the system: no protocol compares their addresses.
const SIZES: usize = 256;

struct Memory(Mutex<Lists>);

/// For each size, the memory that was freed last; it holds the address of the one that was freed before it.
struct Lists([*mut u8; SIZES]);

// SAFETY: memory in a list is used by nothing else.
unsafe impl Send for Lists {}

#[global_allocator]
static MEMORY: Memory = Memory(Mutex::new(Lists([ptr::null_mut(); SIZES])));

/// The list for objects of this layout, and the layout of its memory. `None` if they come from the system.
fn list(layout: Layout) -> Option<(usize, Layout)> {
    let list = layout.size().div_ceil(STEP);
    let rounded = Layout::from_size_align(list * STEP, STEP).ok()?;
    (list > 0 && list < SIZES && layout.align() <= STEP).then_some((list, rounded))
}

impl Memory {
    fn with<R>(&self, code: impl FnOnce(&mut Lists) -> R) -> R {
        code(&mut self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

// SAFETY: memory is that of the system's allocator, and is in a list or in use, never both.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((list, rounded)) = list(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc(layout) };
        };
        self.with(|lists| {
            let freed = lists.0[list];
            if freed.is_null() {
                // SAFETY: the size isn't zero.
                return unsafe { System.alloc(rounded) };
            }
            // SAFETY: `dealloc` wrote the address of the next one there.
            lists.0[list] = unsafe { freed.cast::<*mut u8>().read() };
            freed
        })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let Some((list, _)) = list(layout) else {
            // SAFETY: `alloc` got it from there.
            return unsafe { System.dealloc(memory, layout) };
        };
        self.with(|lists| {
            // SAFETY: it's free, and large enough for an address.
            unsafe { memory.cast::<*mut u8>().write(lists.0[list]) };
            lists.0[list] = memory;
        });
    }
}
