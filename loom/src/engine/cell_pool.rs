//! Memory for cells, from loom's allocator, which reports memory that isn't freed or is freed twice.

use std::alloc::Layout;
use std::ptr::NonNull;

pub(crate) fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: a cell contains a header, so its size isn't zero.
    NonNull::new(unsafe { loom::alloc::alloc(layout) }).expect("out of memory")
}

/// # Safety
///
/// The memory came from `allocate`, and its contents were dropped or moved out.
pub(crate) unsafe fn free(memory: NonNull<u8>, layout: Layout) {
    // SAFETY: the caller's promise.
    unsafe { loom::alloc::dealloc(memory.as_ptr(), layout) };
}

pub(crate) fn engine_created() {}
pub(crate) fn engine_dropped() {}
