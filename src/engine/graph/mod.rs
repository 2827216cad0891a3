//! Walks over tasks that wait for each other.

pub(crate) mod cycle;
pub(crate) mod inspect;
