//! Recycled memory for cells.
//!
//! A task is often made on one thread and freed on another, which is where general allocators are slowest: both threads
//! contend for a lock, or for a list in memory, for every single task. So each thread keeps two batches of free cells of
//! each size, and exchanges whole batches through a list that all threads share: one short lock per [`BATCH`] tasks.
//!
//! The memory kept is bounded and is given back. A thread has at most two batches of a size, which it frees when it exits.
//! The shared list has at most [`MOST`] of a size. Of what exceeds [`FLOOR`], whatever was not used for half a second is
//! freed; all of it is freed with the last engine of the process. Cells are allocated one by one, so each of them can be
//! given back to the allocator by itself.
//!
//! Under a sanitizer recycling would hide the faults that the sanitizer looks for, so `--cfg ensue_no_recycling` turns it
//! off.

use std::alloc::{self, Layout, handle_alloc_error};
use std::cell::Cell;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use crate::engine::base::lock::Lock;
use crate::engine::base::prefetch::prefetch;
use crate::engine::data::clock::{self, RealTimer};

/// Sizes are multiples of this.
const STEP: usize = 32;
/// A header and the smallest contents.
const SMALLEST: usize = 104;
const LARGEST: usize = 264;
const SIZES: usize = (LARGEST - SMALLEST) / STEP + 1;
/// The alignment that every allocator gives; cells that need more aren't kept.
const ALIGN: usize = 2 * size_of::<usize>();

/// The number of cells that are exchanged at a time.
const BATCH: usize = 32;
/// The most bytes of each size in the shared list. With 1 MiB some benchmarks of 200,000 tasks took up to 1.7 times as
/// long. Far more makes others slower: free cells come back in random order, and that is slower than new memory once it
/// exceeds the cache.
const MOST: usize = 8 * 1024 * 1024;
/// The bytes of each size that are kept however long they go unused: less than a core's own cache.
const FLOOR: usize = 256 * 1024;
/// How long memory above the floor must go unused before it is freed.
const UNUSED: Duration = Duration::from_millis(500);
/// The most batches freed in one go on the timer thread, which has other timers to serve; the rest follow after `A_LITTLE`.
const AT_ONCE: usize = 128;
const A_LITTLE: Duration = Duration::from_millis(5);

const RECYCLES: bool = !cfg!(ensue_no_recycling);

/// The index of the list that keeps memory of this layout; `None` if it isn't kept.
const fn size_class(layout: Layout) -> Option<usize> {
    if !RECYCLES || layout.size() > LARGEST || layout.align() > ALIGN {
        return None;
    }
    Some(layout.size().saturating_sub(SMALLEST).div_ceil(STEP))
}

/// The layout that is really allocated for this one.
const fn real(layout: Layout) -> Layout {
    match size_class(layout) {
        Some(class) => class_layout(class),
        None => layout,
    }
}

const fn class_layout(class: usize) -> Layout {
    match Layout::from_size_align(SMALLEST + class * STEP, ALIGN) {
        Ok(layout) => layout,
        Err(_) => panic!("a few hundred bytes are a layout"),
    }
}

/// The first bytes of a free cell.
struct Free {
    next: *mut Free,
}

/// A list of free cells of one size.
#[derive(Clone, Copy)]
struct Batch {
    first: *mut Free,
    len: usize,
}

// SAFETY: a batch owns its cells, which are plain memory.
unsafe impl Send for Batch {}

impl Batch {
    const EMPTY: Self = Self { first: ptr::null_mut(), len: 0 };

    fn pop(&mut self) -> Option<NonNull<u8>> {
        let cell = NonNull::new(self.first)?;
        // SAFETY: the batch owns its cells, and each one holds a link.
        self.first = unsafe { cell.as_ref().next };
        self.len -= 1;
        // It may have been freed on another core, and is used next.
        prefetch(self.first);
        Some(cell.cast())
    }

    /// # Safety
    ///
    /// The caller gives away memory of the size of this batch.
    unsafe fn push(&mut self, place: NonNull<u8>) {
        let cell = place.cast::<Free>();
        // SAFETY: a cell has room for a link and is aligned for it.
        unsafe { cell.write(Free { next: self.first }) };
        self.first = cell.as_ptr();
        self.len += 1;
    }

    fn give_back(mut self, class: usize) {
        while let Some(place) = self.pop() {
            // SAFETY: it was allocated with this layout.
            unsafe { alloc::dealloc(place.as_ptr(), class_layout(class)) };
        }
    }
}

/// The cells of one size that a thread keeps: one batch in use, and another one, so that a thread that allocates and
/// frees by turns doesn't need the shared list each time.
struct Kept {
    used: Cell<Batch>,
    spare: Cell<Batch>,
}

struct Cache([Kept; SIZES]);

thread_local! {
    static CACHE: Cache = const {
        Cache([const { Kept { used: Cell::new(Batch::EMPTY), spare: Cell::new(Batch::EMPTY) } }; SIZES])
    };
}

static SHARED: [Lock<Shared>; SIZES] = [const { Lock::new(Shared::EMPTY) }; SIZES];

/// Free cells of one size for all threads.
struct Shared {
    batches: Vec<Batch>,
    /// The fewest batches since the last decay: these were not used.
    unused: usize,
}

impl Shared {
    const EMPTY: Self = Self { batches: Vec::new(), unused: 0 };

    fn pop(&mut self) -> Option<Batch> {
        let batch = self.batches.pop();
        self.unused = self.unused.min(self.batches.len());
        batch
    }

    /// Removes batches that were not used, at most [`AT_ONCE`].
    fn take_unused(&mut self, class: usize) -> Vec<Batch> {
        let above = self.batches.len().saturating_sub(batches_in(FLOOR, class));
        let unused = self.unused.min(above);
        // The oldest batches are the coldest.
        let part = self.batches.drain(..unused.min(AT_ONCE)).collect();
        self.unused = if unused > AT_ONCE { unused - AT_ONCE } else { self.batches.len() };
        part
    }
}

const fn batches_in(bytes: usize, class: usize) -> usize {
    bytes / (class_layout(class).size() * BATCH)
}

/// The number of engines in this process.
static ENGINES: AtomicUsize = AtomicUsize::new(0);

impl Kept {
    fn allocate(&self, class: usize) -> Option<NonNull<u8>> {
        let mut used = self.used.get();
        if used.len == 0 {
            used = self.spare.replace(Batch::EMPTY);
            if used.len == 0 {
                used = SHARED[class].lock().pop()?;
            }
        }
        let place = used.pop();
        self.used.set(used);
        place
    }

    /// # Safety
    ///
    /// The caller gives away memory of this class.
    unsafe fn free(&self, place: NonNull<u8>, class: usize) {
        let mut used = self.used.get();
        if used.len == BATCH {
            let full = self.spare.replace(used);
            used = Batch::EMPTY;
            if full.len > 0 {
                share(full, class);
            }
        }
        // SAFETY: as the caller promises.
        unsafe { used.push(place) };
        self.used.set(used);
    }

    fn give_back(&self, class: usize) {
        self.used.replace(Batch::EMPTY).give_back(class);
        self.spare.replace(Batch::EMPTY).give_back(class);
    }
}

fn share(batch: Batch, class: usize) {
    let mut shared = SHARED[class].lock();
    let len = shared.batches.len();
    if len < batches_in(MOST, class) {
        shared.batches.push(batch);
        drop(shared);
        if len >= batches_in(FLOOR, class) {
            Decay::begin();
        }
    } else {
        drop(shared);
        batch.give_back(class);
    }
}

/// Frees unused memory at intervals while there is more than the floor.
struct Decay;

/// Whether an alarm is set or its work is being done.
static DECAYS: AtomicBool = AtomicBool::new(false);
static ALARM: Lock<Option<RealTimer>> = Lock::new(None);

impl Decay {
    fn begin() {
        if !DECAYS.load(Ordering::Relaxed) && !DECAYS.swap(true, Ordering::SeqCst) {
            Self::set_alarm(UNUSED);
        }
    }

    fn set_alarm(after: Duration) {
        // The lock is held until this alarm is stored: it may fire at once and set the next one.
        let mut kept = ALARM.lock();
        let alarm = clock::alarm(after, Waker::from(Arc::new(Self)));
        // If the system refuses the timer thread, the next thread that shares a batch tries again.
        DECAYS.store(alarm.is_some(), Ordering::SeqCst);
        let before = mem::replace(&mut *kept, alarm);
        drop(kept);
        drop(before);
    }

    fn end() {
        let alarm = ALARM.lock().take();
        drop(alarm);
        DECAYS.store(false, Ordering::SeqCst);
    }
}

impl Wake for Decay {
    fn wake(self: Arc<Self>) {
        let (mut goes_on, mut after) = (false, UNUSED);
        for (class, shared) in SHARED.iter().enumerate() {
            let mut shared = shared.lock();
            let unused = shared.take_unused(class);
            goes_on |= shared.batches.len() > batches_in(FLOOR, class);
            drop(shared);
            if unused.len() == AT_ONCE {
                after = A_LITTLE;
            }
            unused.into_iter().for_each(|batch| batch.give_back(class));
        }
        if goes_on {
            Self::set_alarm(after);
        } else {
            // A thread that exceeds the floor at this moment doesn't begin a decay; the next one to share a batch does.
            DECAYS.store(false, Ordering::SeqCst);
        }
    }
}

impl Cache {
    fn give_back(&self) {
        self.0.iter().enumerate().for_each(|(class, kept)| kept.give_back(class));
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Memory of this layout, which isn't of size zero.
pub(crate) fn allocate(layout: Layout) -> NonNull<u8> {
    if let Some(class) = size_class(layout) {
        if let Ok(Some(place)) = CACHE.try_with(|cache| cache.0[class].allocate(class)) {
            return place;
        }
    }
    allocate_new(real(layout))
}

#[inline(never)]
fn allocate_new(layout: Layout) -> NonNull<u8> {
    // SAFETY: a cell isn't zero-sized.
    NonNull::new(unsafe { alloc::alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// # Safety
///
/// The caller gives away memory that came from `allocate` with this layout, with nothing left in it.
pub(crate) unsafe fn free(place: NonNull<u8>, layout: Layout) {
    if let Some(class) = size_class(layout) {
        // SAFETY: memory of this layout is of this class.
        let free = |cache: &Cache| unsafe { cache.0[class].free(place, class) };
        if CACHE.try_with(free).is_ok() {
            return;
        }
        // The thread is exiting.
    }
    // SAFETY: it was allocated with this layout.
    unsafe { alloc::dealloc(place.as_ptr(), real(layout)) };
}

pub(crate) fn engine_created() {
    ENGINES.fetch_add(1, Ordering::Relaxed);
}

/// Frees all memory that is kept if that was the last engine of the process.
pub(crate) fn engine_dropped() {
    if ENGINES.fetch_sub(1, Ordering::Relaxed) > 1 {
        return;
    }
    Decay::end();
    let _ = CACHE.try_with(Cache::give_back);
    for (class, shared) in SHARED.iter().enumerate() {
        let shared = mem::replace(&mut *shared.lock(), Shared::EMPTY);
        shared.batches.into_iter().for_each(|batch| batch.give_back(class));
    }
}

#[cfg(all(test, not(ensue_no_recycling)))]
mod tests {
    use std::thread;
    use std::time::Instant;

    use super::*;

    #[test]
    fn cells_of_about_a_size_share_a_list() {
        let class = |size, align| size_class(Layout::from_size_align(size, align).unwrap());
        assert_eq!([8, 104, 105, 136, 137].map(|size| class(size, 8)), [0, 0, 1, 1, 2].map(Some));
        assert_eq!(class(LARGEST, ALIGN), Some(SIZES - 1));
        assert_eq!([class(LARGEST + 1, 8), class(104, 2 * ALIGN)], [None, None]);
    }

    #[test]
    fn what_is_kept_has_its_bounds() {
        let per_batch = BATCH * SMALLEST;
        assert_eq!(batches_in(FLOOR, 0), 262_144 / per_batch);
        assert_eq!(batches_in(MOST, 0), 8_388_608 / per_batch);
    }

    #[test]
    fn what_was_not_needed_goes_a_part_at_a_time() {
        let floor = batches_in(FLOOR, 0);
        let mut shared =
            Shared { batches: vec![Batch::EMPTY; floor + 2 * AT_ONCE + 9], unused: usize::MAX };
        assert!(shared.pop().is_some());
        let parts = [(); 4].map(|()| shared.take_unused(0).len());
        assert_eq!(parts, [AT_ONCE, AT_ONCE, 8, 0]);
        assert_eq!((shared.batches.len(), shared.unused), (floor, floor));
        let batches = vec![Batch::EMPTY; floor + AT_ONCE];
        let mut shared = Shared { batches, unused: AT_ONCE };
        assert_eq!((shared.take_unused(0).len(), shared.unused), (AT_ONCE, floor));
    }

    #[test]
    fn more_than_the_floor_goes_while_an_engine_is_there() {
        let _client = crate::Client::builder().workers(0).build();
        let class = SIZES - 1;
        let floor = batches_in(FLOOR, class);
        {
            let mut shared = SHARED[class].lock();
            shared.batches.extend(vec![Batch::EMPTY; floor + 2 * AT_ONCE + 9]);
            shared.unused = shared.batches.len();
        }
        Decay::begin();
        let start = Instant::now();
        while SHARED[class].lock().batches.len() > floor || DECAYS.load(Ordering::SeqCst) {
            assert!(start.elapsed() < Duration::from_secs(20), "it stays, or never ends");
            thread::sleep(Duration::from_millis(1));
        }
        SHARED[class].lock().batches.retain(|batch| batch.len > 0);
    }
}
