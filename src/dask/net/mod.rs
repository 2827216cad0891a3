//! Connections to schedulers, workers and clients, in Dask's protocol.
//!
//! [`address`] and [`error`] are used by all others; [`socket`] and [`tls`] are below [`comm`], which sends and receives
//! messages; [`listener`] accepts connections, [`pool`] keeps them for further calls, and [`io`] is the thread that drives
//! them.

mod address;
mod comm;
mod error;
mod io;
mod listener;
mod pool;
mod socket;
mod tls;

pub(crate) use address::Address;
pub(crate) use comm::{Comm, Reader, Writer};
pub(crate) use error::NetError;
pub(crate) use io::Io;
pub(crate) use listener::Listener;
pub(crate) use pool::Pool;
pub use tls::{Tls, TlsError};

#[cfg(test)]
mod tests;
