//! Telling the processor what will be needed in a moment.
//!
//! Tasks travel between cores, so the first look at one usually waits for another core's cache, which takes
//! longer than all else that is done with a small task. Where the next one is known ahead, this overlaps the
//! wait with the work on the present one. It's a hint: any address will do, also an invalid one.

/// Asks for the two lines of memory from `place` on.
#[inline]
pub(crate) fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let place = place.cast::<i8>();
        // SAFETY: the instruction is part of the architecture and has no effect that a program could see.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(place);
            _mm_prefetch::<_MM_HINT_T0>(place.wrapping_add(64));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
