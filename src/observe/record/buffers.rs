//! Buffers for events that were not applied to the record yet.
//!
//! Each thread appends to one of a few buffers, chosen by the thread's number, under a mutex that is hardly ever
//! contended. The thread that updates the record takes the events out of all of them.

use std::cell::Cell;
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::engine::base::shards::Shards;
use crate::task::subject::SubmittedAt;
use crate::{Key, Status};

/// From this length of its buffer on, a writer tries to update the record itself.
pub(super) const FULL: usize = 1_024;

/// The maximum length of a buffer, for when the record can't be updated. At 48 bytes each, 1.5 megabytes.
const KEPT: usize = 32_768;

/// Something that happened to a watched task. Kept small, since every event is written once and read once.
pub(crate) struct TaskEvent {
    /// In nanoseconds of the engine's clock.
    pub(crate) at: u64,
    /// The task's number.
    pub(crate) task: u64,
    pub(crate) change: Change,
}

/// How an event changes the record of its task; the table in [`tables`](super::tables) says how each is applied.
pub(crate) enum Change {
    /// The task was submitted, or is run again by a retry.
    Created {
        name: u32,
        priority: i32,
        status: Status,
        /// The number of the task that has submitted it; 0 where that isn't watched or isn't a task.
        by: u64,
        /// It was created before recording began.
        is_old: bool,
        submitted_at: SubmittedAt,
    },
    /// It has this key, and not one made of its name and number.
    Keyed(Key),
    /// It has the key of a pure call with this digest.
    Derived(Box<u128>),
    /// It takes an input from the task with this number.
    Input(u64),
    Ready,
    /// The worker with this number has begun a poll.
    Polled(u32),
    /// A poll has returned pending.
    Suspended,
    /// It awaits the task with this number.
    Awaits(u64),
    /// It waits for limits or rates.
    Limited,
    /// It waits for its next attempt; the number is that of the attempt that failed.
    Delayed(u32),
    /// It has the limit, or the delay is over.
    Unparked,
    Ended(Status),
    /// The text of its error.
    Error(Arc<str>),
    /// The memory of the task was freed.
    Freed,
}

#[derive(Default)]
struct Buffer {
    events: VecDeque<TaskEvent>,
    /// How many were dropped since the last `take`.
    dropped: u64,
}

pub(crate) struct Buffers {
    shards: Shards<Buffer>,
    in_order: bool,
}

impl Buffers {
    /// With `in_order`, events come out in the order in which they were written, also those with equal times. That
    /// takes a single buffer.
    pub(crate) fn new(in_order: bool) -> Self {
        Self { shards: Shards::default(), in_order }
    }

    /// Appends events, which all have the same time. Returns true if the record should be updated. When the buffer is
    /// at its maximum, the oldest events are dropped and counted.
    pub(crate) fn write(&self, events: impl IntoIterator<Item = TaskEvent>) -> bool {
        let index = if self.in_order { 0 } else { this_thread() };
        let mut shard = self.shards.get(index).lock();
        let shard = &mut *shard;
        for event in events {
            if shard.events.len() >= KEPT {
                shard.events.pop_front();
                shard.dropped += 1;
            }
            shard.events.push_back(event);
        }
        shard.events.len() >= FULL
    }

    /// Appends all events to `all`, and returns how many were dropped since the last call.
    pub(crate) fn take(&self, all: &mut Vec<TaskEvent>) -> u64 {
        let mut dropped = 0;
        for shard in self.shards.iter() {
            let shard = &mut *shard.lock();
            dropped += mem::take(&mut shard.dropped);
            all.extend(shard.events.drain(..));
            // A burst must not keep its peak of memory for good.
            shard.events.shrink_to(FULL);
        }
        dropped
    }
}

/// Returns the number of the current thread: 0 for the first that asks, 1 for the next.
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
    fn when_a_buffer_overflows_the_oldest_events_are_dropped_and_counted() {
        let buffers = Buffers::new(true);
        let more = 10;
        let event = |at| TaskEvent { at, task: 1, change: Change::Ready };
        let mut full = 0;
        for at in 0..(KEPT + more) as u64 {
            full += usize::from(buffers.write([event(at)]));
        }
        // Each write from the one that fills the buffer on.
        assert_eq!(full, KEPT + more - FULL + 1);
        let mut all = Vec::new();
        assert_eq!(buffers.take(&mut all), more as u64);
        assert_eq!((all.len(), all[0].at), (KEPT, more as u64));
        assert_eq!(buffers.take(&mut all), 0);
        assert!(!buffers.write([event(0)]));
    }
}
