//! What is counted while it's alive: values, and the functions and futures of tasks.

use std::fmt;

/// The number of a task.
pub(crate) type Id = usize;

/// The record that counts them.
pub(crate) trait Tally: Clone {
    fn add_values(&self, change: isize);

    fn add_alive(&self, id: Id, change: isize);
}

/// The value of a task.
pub(crate) struct Value<T: Tally> {
    pub(crate) of: Id,
    tally: T,
}

impl<T: Tally> Value<T> {
    pub(crate) fn new(of: Id, tally: &T) -> Self {
        tally.add_values(1);
        Self { of, tally: tally.clone() }
    }
}

impl<T: Tally> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self::new(self.of, &self.tally)
    }
}

impl<T: Tally> Drop for Value<T> {
    fn drop(&mut self) {
        self.tally.add_values(-1);
    }
}

impl<T: Tally> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value of t{}", self.of)
    }
}

/// A part of a task that is counted while it's alive: a copy of its function, or a future.
pub(crate) struct Alive<T: Tally>(pub(crate) Id, pub(crate) T);

impl<T: Tally> Alive<T> {
    pub(crate) fn new(id: Id, tally: &T) -> Self {
        tally.add_alive(id, 1);
        Self(id, tally.clone())
    }
}

impl<T: Tally> Clone for Alive<T> {
    fn clone(&self) -> Self {
        Self::new(self.0, &self.1)
    }
}

impl<T: Tally> Drop for Alive<T> {
    fn drop(&mut self) {
        self.1.add_alive(self.0, -1);
    }
}
