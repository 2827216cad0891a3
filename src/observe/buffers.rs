//! Where moments lie until somebody looks: each thread writes to one of a few buffers, under a mutex that it
//! hardly ever shares.

use std::cell::Cell;
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use crate::engine::base::lock::Lock;
use crate::{Key, Status};

/// More than threads that run tasks at a time would hardly help; a power of two.
const SHARDS: usize = 16;

/// With so many in a buffer, who writes tries to put them in order for the readers.
pub(super) const FULL: usize = 1_024;

/// So many are kept in a buffer when that can't be done. At 48 bytes each, 1.5 megabytes.
const KEPT: usize = 32_768;

/// Something that happened to a task, in as few words as will do.
pub(crate) struct Moment {
    /// In nanoseconds of the engine's clock.
    pub(crate) at: u64,
    /// The task's number.
    pub(crate) task: u64,
    pub(crate) what: What,
}

pub(crate) enum What {
    /// Where `by` is 0, no watched task has submitted it.
    Created {
        name: u32,
        priority: i32,
        status: Status,
        by: u64,
        is_old: bool,
    },
    /// It has this key and not one made of its name and number.
    Keyed(Key),
    /// Its key is that of a pure call.
    Derived(Box<u128>),
    /// It takes an input from this task.
    Input(u64),
    Ready,
    /// Which worker polls it.
    Polled(u32),
    Suspended,
    /// It awaits this task.
    Awaits(u64),
    Limited,
    /// Until the attempt with this number.
    Delayed(u32),
    Unparked,
    Ended(Status),
    /// What it failed with.
    Error(Arc<str>),
    Released,
}

#[derive(Default)]
struct Shard {
    moments: VecDeque<Moment>,
    dropped: u64,
}

pub(crate) struct Buffers {
    shards: Box<[CachePadded<Lock<Shard>>]>,
}

impl Buffers {
    /// In order, where what happens must come out in the order in which it was written, though at the same time
    /// of the clock.
    pub(crate) fn new(in_order: bool) -> Self {
        let shards = if in_order { 1 } else { SHARDS };
        Self { shards: (0..shards).map(|_| CachePadded::default()).collect() }
    }

    /// Writes moments of one time. True where somebody should look.
    pub(crate) fn write(&self, moments: impl IntoIterator<Item = Moment>) -> bool {
        let mut shard = self.shards[this_thread() & (self.shards.len() - 1)].lock();
        let shard = &mut *shard;
        for moment in moments {
            if shard.moments.len() >= KEPT {
                shard.moments.pop_front();
                shard.dropped += 1;
            }
            shard.moments.push_back(moment);
        }
        shard.moments.len() >= FULL
    }

    /// Moves all that is there behind what is in `all`, and returns how many were dropped before.
    pub(crate) fn take(&self, all: &mut Vec<Moment>) -> u64 {
        let mut dropped = 0;
        for shard in &self.shards {
            let shard = &mut *shard.lock();
            dropped += mem::take(&mut shard.dropped);
            all.extend(shard.moments.drain(..));
            // What one burst needed is not kept for ever.
            shard.moments.shrink_to(FULL);
        }
        dropped
    }
}

/// A number for this thread, one after the other.
fn this_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    match NUMBER.get() {
        usize::MAX => {
            let number = THREADS.fetch_add(1, Ordering::Relaxed);
            NUMBER.set(number);
            number
        }
        number => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_moments_the_oldest_are_dropped_and_counted() {
        let buffers = Buffers::new(true);
        let more = 10;
        let moment = |at| Moment { at, task: 1, what: What::Ready };
        let mut asked = 0;
        for at in 0..(KEPT + more) as u64 {
            asked += usize::from(buffers.write([moment(at)]));
        }
        // From when it was full on.
        assert_eq!(asked, KEPT + more - FULL + 1);
        let mut all = Vec::new();
        assert_eq!(buffers.take(&mut all), more as u64);
        assert_eq!((all.len(), all[0].at), (KEPT, more as u64));
        assert_eq!(buffers.take(&mut all), 0);
        assert!(!buffers.write([moment(0)]));
    }
}
