//! The record of a client's tasks: the observer that writes it, the buffers it's written through, and its tables.
//!
//! Uses the engine only. Nothing in this folder knows how a record is shown.

pub(crate) mod buffers;
pub(crate) mod functions;
pub(crate) mod recorder;
#[cfg(feature = "tracing")]
pub(crate) mod spans;
pub(crate) mod tables;
pub(crate) mod task_record;
pub(crate) mod task_table;
