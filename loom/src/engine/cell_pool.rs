//! Memory for cells, from loom's allocator, which reports memory that isn't freed or is freed twice.

use std::alloc::Layout;
use std::ptr::NonNull;

pub(crate) fn allocate<T>() -> NonNull<T> {
    // SAFETY: a cell contains a header, so its size isn't zero.
    let memory = unsafe { loom::alloc::alloc(Layout::new::<T>()) };
    NonNull::new(memory.cast()).expect("out of memory")
}

/// # Safety
///
/// The memory came from `allocate`, and its contents were dropped or moved out.
pub(crate) unsafe fn free<T>(memory: NonNull<T>) {
    // SAFETY: the caller's promise.
    unsafe { loom::alloc::dealloc(memory.as_ptr().cast(), Layout::new::<T>()) };
}

pub(crate) fn engine_created() {}
pub(crate) fn engine_dropped() {}
