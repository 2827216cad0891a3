//! The same verbs on a stock Dask cluster.

mod client;
mod cluster;
#[doc(hidden)]
// for the crate's own tests and fuzzing, which play the other side; may change at any time
pub mod codec;
mod failed;
#[allow(dead_code, unused_imports, reason = "the client and the worker will use it all")]
mod net;
#[allow(dead_code)] // until the client uses it
mod registry;
#[doc(hidden)]
// as `codec`
pub mod wire;
mod worker;

pub use client::{Client, Connect, ConnectError, Options, PythonInputs};
pub use cluster::{ClusterError, LocalCluster, LocalClusterBuilder, Starting};
pub use codec::Plain;
pub use failed::Failed;
pub use net::{Tls, TlsError};
pub use registry::Registry;
pub use worker::{Running, Worker, WorkerError};
