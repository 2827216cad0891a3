//! Memory for cells: loom sees what isn't freed, and what is freed twice.

use std::alloc::Layout;
use std::ptr::NonNull;

pub(crate) fn allocate<T>() -> NonNull<T> {
    // SAFETY: a cell has a size.
    let place = unsafe { loom::alloc::alloc(Layout::new::<T>()) };
    NonNull::new(place.cast()).expect("there is memory")
}

/// # Safety
///
/// The place came from `allocate`, and what was in it is gone.
pub(crate) unsafe fn free<T>(place: NonNull<T>) {
    // SAFETY: as the caller promises.
    unsafe { loom::alloc::dealloc(place.as_ptr().cast(), Layout::new::<T>()) };
}

pub(crate) fn engine_created() {}
pub(crate) fn engine_dropped() {}
