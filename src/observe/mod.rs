//! Looking at a client from outside. The engine knows nothing of who looks.

// The dashboard asks for more than all others together.
#![cfg_attr(not(feature = "dashboard"), allow(dead_code))]

#[cfg(feature = "dashboard")]
pub(crate) mod act;
#[cfg(feature = "progress")]
pub(crate) mod bars;
mod buffers;
pub(crate) mod counted;
pub(crate) mod entry;
pub(crate) mod events;
pub(crate) mod explain;
mod functions;
pub(crate) mod graph;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
pub(crate) mod reason;
pub(crate) mod record;
pub(crate) mod recorder;
mod serial;
#[cfg(feature = "tracing")]
pub(crate) mod spans;
pub(crate) mod stall;
pub(crate) mod stats;
pub(crate) mod story;
mod svg;
mod tasks;
#[cfg(any(test, feature = "dashboard"))]
pub(crate) mod update;
