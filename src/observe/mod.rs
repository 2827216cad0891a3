//! Looking at a client from outside. The engine knows nothing of who looks.

mod buffers;
mod entry;
pub(crate) mod events;
mod functions;
pub(crate) mod record;
pub(crate) mod recorder;
mod serial;
pub(crate) mod stats;
#[cfg(test)]
pub(crate) mod update;
