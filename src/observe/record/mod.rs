//! The record of a client's tasks, and the observer that writes it.
//!
//! An event takes this path: the engine calls the observer ([`recorder`]), which appends the event to the buffer of
//! the current thread ([`buffers`]). A reader, or a writer whose buffer is full, takes the events out of all buffers,
//! sorts them by time and applies them to the tables ([`tables`], [`task_table`], [`task_record`]). Counts by function
//! ([`functions`]) don't take this path: every thread counts in a table of its own.
//!
//! `spans` is in this folder and not in `export` because the recorder feeds it on the thread of each event: a tracing
//! span has to be entered where the task is polled.

pub(crate) mod buffers;
pub(crate) mod functions;
pub(crate) mod recorder;
#[cfg(feature = "tracing")]
pub(crate) mod spans;
pub(crate) mod tables;
pub(crate) mod task_record;
pub(crate) mod task_table;
