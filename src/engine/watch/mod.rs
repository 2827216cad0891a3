//! What an observer of an engine hears.

pub(crate) mod counters;
pub(crate) mod observer;
pub(crate) mod watched;
