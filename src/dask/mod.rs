//! The same verbs on a stock Dask cluster.

mod client;
mod cluster;
mod codec;
#[allow(dead_code, unused_imports, reason = "the client and the worker will use it all")]
mod net;
mod registry;
#[doc(hidden)]
// for the crate's own tests and fuzzing, which play the other side; may change at any time
pub mod wire;
mod worker;

pub use net::{Tls, TlsError};
