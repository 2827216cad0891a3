//! The same verbs on a stock Dask cluster: feature `dask`.
//!
//! [Dask](https://distributed.dask.org)'s own scheduler, unmodified, runs the cluster. A [`Worker`] joins it and runs
//! functions in Rust that are in its [`Registry`]; a [`Client`] submits calls of them, or of functions in Python on Dask's
//! own workers, and returns the [`Handle`](crate::Handle)s that everything else of this crate takes. A [`LocalCluster`] is
//! all of that on this machine.
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
//! How to deploy it, how to keep others out, how Rust and Python call each other, what happens when a part fails, and how
//! fast it is, is told in [`docs/dask.md`](https://docs.rs/crate/ensue/latest/source/docs/dask.md).
//!
//! # What is different from an embedded client
//!
//! * **Functions** have a name on all machines: an `fn`, async or not, that captures nothing and is registered. Arguments
//!   and results are serde values. What doesn't fit is refused when it's submitted, as the handle's error. So are
//!   `Some(None)` and `Some(())`, which couldn't be told from `None`.
//! * **Results** stay where they are until somebody awaits them. A task has ended when its result is on the cluster.
//! * **A call may be made more than once**: after the loss of a worker, and, in a `map` of small calls, where one before
//!   it in its batch has failed or took long.
//! * **Cancelling** drops an async function at its next await on its worker. A blocking one goes on until it returns.
//! * **Limits** are [resources](Worker::resources) of the workers. A task that asks for what no worker has waits.
//! * **Rings** of tasks that await each other aren't looked for on the cluster.
//! * **Millions of tasks** of less than a millisecond are better calls within a task, or `map`: the scheduler is one thread
//!   of Python, and needs about a tenth of a millisecond for each task.

mod client;
mod cluster;
#[doc(hidden)]
// for the crate's own tests and fuzzing, which play the other side; may change at any time
pub mod codec;
mod failed;
mod folder;
mod net;
mod registry;
#[doc(hidden)]
// as `codec`
pub mod wire;
mod worker;

pub use client::{
    Client, Connect, ConnectError, Options, PortableBlockingFn, PythonInputs,
    TryPortableBlockingFn, TryPortableFn,
};
pub use cluster::{ClusterError, LocalCluster, LocalClusterBuilder, Starting};
pub use codec::Plain;
pub use failed::Failed;
pub use net::{Tls, TlsError};
pub use registry::Registry;
pub use worker::{Running, Worker, WorkerError};

/// The resource that our workers have, one for each thread, and that keeps our functions off other workers.
const RUST: &str = "rust";
