//! Looking at a client from outside. The engine knows nothing of who looks.

mod buffers;
pub(crate) mod entry;
pub(crate) mod events;
pub(crate) mod explain;
mod functions;
pub(crate) mod graph;
pub(crate) mod reason;
pub(crate) mod record;
pub(crate) mod recorder;
mod serial;
pub(crate) mod stats;
pub(crate) mod story;
mod svg;
#[cfg(any(test, feature = "dashboard"))]
pub(crate) mod update;
