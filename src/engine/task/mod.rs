//! A task in memory: its header, its state word, who waits for it and what it waits for. Knows no engine.

pub(crate) mod attempt;
pub(crate) mod containers;
pub(crate) mod count;
pub(crate) mod edges;
pub(crate) mod header;
pub(crate) mod inherited;
#[cfg(feature = "derive")]
pub(crate) mod mapped;
pub(crate) mod settled;
pub(crate) mod state;
pub(crate) mod surplus;
pub(crate) mod typed;
pub(crate) mod wait_node;
pub(crate) mod waiters;
pub(crate) mod walk;
