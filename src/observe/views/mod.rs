//! Views of a record and of live tasks, as plain data.
//!
//! A view reads the record or asks the engine, and knows no output format but serde's and `Display`.

#[cfg(feature = "progress")]
pub(crate) mod bars;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod function_progress;
pub(crate) mod graph;
pub(crate) mod reason;
pub(crate) mod serial;
pub(crate) mod stall;
pub(crate) mod stats;
pub(crate) mod timeline;
