//! The same interface on a stock Dask cluster: feature `dask`.
//!
//! The cluster is run by [Dask](https://distributed.dask.org)'s own scheduler, unmodified. A [`Worker`] joins it and
//! runs the Rust functions of its [`Registry`]. A [`Client`] submits calls of these functions, or of Python functions on
//! Dask's own workers, and returns the [`Handle`](crate::Handle)s that the rest of this crate takes. A [`LocalCluster`]
//! is a scheduler and workers on this machine.
//!
//! ```no_run
//! use ensue::dask::{LocalCluster, Registry};
//!
//! async fn inc(x: u64) -> u64 {
//!     x + 1
//! }
//! async fn add(x: u64, y: u64) -> u64 {
//!     x + y
//! }
//!
//! # futures_lite::future::block_on(async {
//! let cluster = LocalCluster::start(2, Registry::new().add(inc).add(add)).await?;
//! let client = cluster.client().await?;
//! let x = client.submit(inc, 1);
//! let y = client.submit(inc, &x); // its input stays on the worker that has it
//! assert_eq!(client.submit(add, (&x, &y)).await?, 5);
//! # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! Deployment, security, calls between Rust and Python, failures and performance are described in
//! [`docs/dask.md`](https://docs.rs/crate/ensue/latest/source/docs/dask.md).
//!
//! # Differences from an embedded client
//!
//! * **Functions** have a name on all machines: an `fn`, async or not, that captures nothing and is registered. Arguments
//!   and results are serde values. A call that doesn't meet this is rejected when it's submitted, as the handle's error.
//!   So are `Some(None)` and `Some(())`, which can't be distinguished from `None` on the wire.
//! * **Results** stay on the workers until they are awaited. A task is finished when its result is on the cluster.
//! * **A call may be made more than once**: after the loss of a worker, and, in a `map` of small calls, if an earlier
//!   call of its batch failed or took long.
//! * **Cancelling** drops an async function at its next await on its worker. A blocking function runs until it returns.
//! * **Limits** are [resources](Worker::resources) of the workers. A task that asks for more than any worker has waits.
//! * **Cycles** of tasks that await each other aren't detected on the cluster.
//! * **Millions of tasks** of less than a millisecond should be calls within a task, or a `map`: the scheduler is a
//!   single Python thread, and needs about 0.1 ms for each task.

mod client;
mod cluster;
mod codec;
mod failed;
mod folder;
mod net;
mod registry;
mod worker;

pub use client::{Client, Connect, ConnectError, Options, PythonInputs};
pub use cluster::{ClusterError, LocalCluster, LocalClusterBuilder, Starting};
pub use codec::{Arguments, Plain};
pub(crate) use ensue_dask_proto as wire;
pub use failed::Failed;
pub use net::{Tls, TlsError};
pub use registry::Registry;
pub use worker::{Running, Worker, WorkerError};

use registry::RUST;
