//! The order in which waiting tasks are served, by limits and by the threads for blocking work.
//!
//! First by priority. Of equal priority, the task that is deepest below its first inputs, so that a value is used before the
//! next one is made, and of equal depth the one that came first. So that none starves, of [`CYCLE`] tasks that are served
//! at least one is the oldest of the highest priority.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// As for the queues of a worker.
const CYCLE: u32 = 32;

/// The place of a waiting task; the least is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    priority: Reverse<i32>,
    depth: Reverse<u8>,
    /// Unique, and greater for those that came later.
    pub(crate) number: u64,
}

/// The age of a waiting task among those of all priorities; the least is to be served first when it's the oldest's turn.
pub(crate) type Age = (Reverse<i32>, u64);

impl Place {
    pub(crate) fn new(priority: i32, depth: u8, number: u64) -> Self {
        Self { priority: Reverse(priority), depth: Reverse(depth), number }
    }

    pub(crate) fn priority(self) -> i32 {
        self.priority.0
    }

    pub(crate) fn with_priority(self, priority: i32) -> Self {
        Self { priority: Reverse(priority), ..self }
    }

    pub(crate) fn age(self) -> Age {
        (self.priority, self.number)
    }
}

/// The place of the oldest of the highest priority.
pub(crate) fn oldest<T>(waiting: &BTreeMap<Place, T>) -> Option<Place> {
    let (first, _) = waiting.first_key_value()?;
    // Of each depth the first one is the oldest.
    let of_depth = |depth| {
        let from = Place { depth: Reverse(depth), number: 0, ..*first };
        let to = Place { number: u64::MAX, ..from };
        waiting.range(from..=to).next().map(|(place, _)| *place)
    };
    (0..=first.depth.0).filter_map(of_depth).min_by_key(|place| place.number)
}

/// Counts those that are served, until it's the turn of the oldest.
#[derive(Clone, Copy, Default)]
pub(crate) struct Turns(u32);

impl Turns {
    /// Whether the next one must be the oldest.
    pub(crate) fn is_for_oldest(self) -> bool {
        self.0 >= CYCLE - 1
    }

    /// Counts one that is served.
    pub(crate) fn count(&mut self, is_oldest: bool) {
        self.0 = if is_oldest { 0 } else { self.0 + 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_are_first_and_the_oldest_has_its_turn() {
        let depths = [2, 0, 1, 15, 1, 0];
        let places = depths.iter().zip(1..).map(|(depth, number)| Place::new(0, *depth, number));
        let mut waiting: BTreeMap<_, _> = places.map(|place| (place, ())).collect();
        let numbers: Vec<_> = waiting.keys().map(|place| place.number).collect();
        assert_eq!(numbers, [4, 1, 3, 5, 2, 6]);
        let mut by_age = Vec::new();
        while let Some(place) = oldest(&waiting) {
            waiting.remove(&place);
            by_age.push(place.number);
        }
        assert_eq!(by_age, [1, 2, 3, 4, 5, 6]);
        // Not one of a lower priority, though it's older.
        let places = [Place::new(0, 3, 1), Place::new(1, 0, 3), Place::new(1, 5, 4)];
        let waiting = BTreeMap::from(places.map(|place| (place, ())));
        assert_eq!(oldest(&waiting), Some(places[1]));
    }

    #[test]
    fn of_32_that_are_served_one_is_the_oldest() {
        let mut turns = Turns::default();
        let mut served = Vec::new();
        for _ in 0..96 {
            let is_oldest = turns.is_for_oldest();
            turns.count(is_oldest);
            served.push(is_oldest);
        }
        let at: Vec<_> = (0..96).filter(|at| served[*at]).collect();
        assert_eq!(at, [31, 63, 95]);
    }
}
