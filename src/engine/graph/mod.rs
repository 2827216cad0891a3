//! Traversals of tasks that wait for each other: detection of cycles, and diagnostics.

pub(crate) mod cycle;
pub(crate) mod inspect;
pub(crate) mod waits;
mod way_back;
