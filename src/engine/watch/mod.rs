//! The observer of an engine: its interface, and the tables of counts and of watched tasks behind it.

pub(crate) mod counters;
pub(crate) mod observer;
pub(crate) mod watched;
