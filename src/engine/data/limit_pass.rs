//! A change of the limits, and what it leads to: requests that are served, and timers that are set.

use std::collections::BTreeSet;
use std::task::Waker;

use crate::engine::data::clock::Clock;
use crate::engine::data::limit_table::{Slot, SlotId};

/// A change of the book: what it leads to, within and outside of its lock.
pub(crate) struct Pass<'c> {
    pub(crate) clock: &'c Clock<'c>,
    pub(crate) now: Option<u64>,
    /// Slots whose first line may no longer have to wait.
    pub(crate) changed: BTreeSet<SlotId>,
    /// Rates for which other requests wait than before.
    pub(crate) rates: BTreeSet<SlotId>,
    /// The wakers of those that were served.
    pub(crate) served: Vec<Waker>,
    pub(crate) unused: Vec<Waker>,
    /// The requests for which the system has refused the thread of the timers.
    pub(crate) refused: Vec<(u64, Waker)>,
}

impl<'c> Pass<'c> {
    pub(crate) fn new(clock: &'c Clock<'c>) -> Self {
        Self {
            clock,
            now: None,
            changed: BTreeSet::new(),
            rates: BTreeSet::new(),
            served: Vec::new(),
            unused: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// The time, read once, for what concerns this slot: limits need none.
    pub(crate) fn now(&mut self, slot: &Slot) -> u64 {
        if slot.is_rate() { *self.now.get_or_insert_with(|| self.clock.now()) } else { 0 }
    }
}
