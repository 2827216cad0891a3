//! Looking at a client from outside. The engine knows nothing of who looks.

mod buffers;
pub(crate) mod entry;
pub(crate) mod events;
mod functions;
pub(crate) mod record;
pub(crate) mod recorder;
mod serial;
pub(crate) mod stats;
#[cfg(any(test, feature = "dashboard"))]
pub(crate) mod update;

