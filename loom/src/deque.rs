//! A stand-in for crossbeam's deque: a queue that one thread pushes into and any thread takes from.
//!
//! As in the original, a push publishes with a `Release` store, and the checks load with `Acquire`; the callers add the
//! fences. Each slot is used once.

use loom::sync::Arc;

use crate::sync::{AtomicUsize, Cell, Ordering};

const SLOTS: usize = 4;

struct Slots<T> {
    front: AtomicUsize,
    back: AtomicUsize,
    slots: [Cell<Option<T>>; SLOTS],
}

// SAFETY: a slot belongs to the pushing thread, then to the thread that has moved `front` past it.
unsafe impl<T: Send> Sync for Slots<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Slots<T> {}

impl<T> Slots<T> {
    fn is_empty(&self) -> bool {
        let front = self.front.load(Ordering::Acquire);
        front >= self.back.load(Ordering::Acquire)
    }

    /// Takes as many as `batch` makes of the number that there are, and returns the first one.
    fn take(&self, batch: fn(usize) -> usize, mut others: impl FnMut(T)) -> Steal<T> {
        let front = self.front.load(Ordering::Acquire);
        let back = self.back.load(Ordering::Acquire);
        if front >= back {
            return Steal::Empty;
        }
        let next = front + batch(back - front);
        if self.front.compare_exchange(front, next, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Steal::Retry;
        }
        // Between the exchange and this, they're in neither queue, as in the original.
        self.slots[front + 1..next].iter().filter_map(Cell::take).for_each(&mut others);
        self.slots[front].take().map_or(Steal::Retry, Steal::Success)
    }

    fn take_one(&self) -> Steal<T> {
        self.take(|_| 1, |_| unreachable!("it takes one"))
    }
}

pub enum Steal<T> {
    Empty,
    Success(T),
    Retry,
}

pub struct Worker<T>(Arc<Slots<T>>);

pub struct Stealer<T>(Arc<Slots<T>>);

impl<T> Clone for Stealer<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Worker<T> {
    pub fn new_fifo() -> Self {
        Self(Arc::new(Slots {
            front: AtomicUsize::new(0),
            back: AtomicUsize::new(0),
            slots: std::array::from_fn(|_| Cell::new(None)),
        }))
    }

    pub fn stealer(&self) -> Stealer<T> {
        Stealer(self.0.clone())
    }

    pub fn push(&self, value: T) {
        let back = self.0.back.load(Ordering::Relaxed);
        self.0.slots[back].set(Some(value));
        self.0.back.store(back + 1, Ordering::Release);
    }

    pub fn pop(&self) -> Option<T> {
        loop {
            match self.0.take_one() {
                Steal::Success(value) => return Some(value),
                Steal::Empty => return None,
                Steal::Retry => {}
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Stealer<T> {
    pub fn len(&self) -> usize {
        let back = self.0.back.load(Ordering::Relaxed);
        back.saturating_sub(self.0.front.load(Ordering::Relaxed))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn steal(&self) -> Steal<T> {
        self.0.take_one()
    }

    /// Takes half of them, rounded up, and moves all but the first one to `to`.
    pub fn steal_batch_and_pop(&self, to: &Worker<T>) -> Steal<T> {
        self.0.take(|len| len.div_ceil(2), |value| to.push(value))
    }
}
