//! The open connection of a client.

use std::sync::Arc;

use super::shared::Shared;
use crate::dask::net::Io;

/// The connection of a client. Its thread ends when the last reference is dropped: that of the last link, or of the
/// last future.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) io: Io,
}
