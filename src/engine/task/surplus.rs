//! The parts of tasks' counts that have no room in their state words.
//!
//! A state word has some twenty bits for each count, which few tasks ever use. Of a count that grows further,
//! [`State`](crate::engine::task::state::State) moves parts of equal size to this table, and takes them back when the
//! count in the word has become small. So a count has no limit, and the word never comes to zero while the table has a
//! part of it.

use std::collections::BTreeMap;

use crate::engine::base::lock::Lock;

/// The address of a state, and the unit of the count.
pub(crate) type Counted = (usize, u64);

/// The number of parts of each count.
pub(crate) struct Surpluses(BTreeMap<Counted, u64>);

static SURPLUSES: Lock<Surpluses> = Lock::new(Surpluses(BTreeMap::new()));

/// Runs `code`, which must be quick, with the table of the process.
pub(crate) fn lock<R>(code: impl FnOnce(&mut Surpluses) -> R) -> R {
    code(&mut SURPLUSES.lock())
}

impl Surpluses {
    pub(crate) fn has(&self, count: Counted) -> bool {
        self.0.contains_key(&count)
    }

    /// Adds a part.
    pub(crate) fn add(&mut self, count: Counted) {
        *self.0.entry(count).or_insert(0) += 1;
    }

    /// Removes a part, which there is.
    pub(crate) fn remove(&mut self, count: Counted) {
        if let Some(parts) = self.0.get_mut(&count) {
            *parts -= 1;
            if *parts == 0 {
                self.0.remove(&count);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
