//! A cluster on this machine, for trying it and for tests: stock Dask's scheduler and workers of ours.

mod builder;
mod error;
mod process;
mod python;
mod scheduler;

use std::fmt;

pub use builder::{LocalClusterBuilder, Starting};
pub use error::ClusterError;

use self::process::Folder;
use self::python::PythonWorkers;
use self::scheduler::Scheduler;
use super::worker::Running;
use super::{Client, ConnectError, Registry};

/// A cluster on this machine: Dask's own scheduler as a process, and workers in this process. For trying it, and
/// for tests.
///
/// It's stopped when it's dropped. The scheduler goes also when this process is killed.
///
/// ```no_run
/// # futures_lite::future::block_on(async {
/// use ensue::dask::{LocalCluster, Registry};
///
/// async fn inc(x: u64) -> u64 { x + 1 }
///
/// let cluster = LocalCluster::start(2, Registry::new().add(inc)).await?;
/// let client = cluster.client().await?;
/// assert_eq!(client.submit(inc, 1).await?, 2);
/// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
pub struct LocalCluster {
    parts: Parts,
    registry: Registry,
}

/// In the order in which they're stopped: workers while the scheduler is still there, and the folder last.
#[expect(dead_code, reason = "what isn't looked at is there to be dropped")]
struct Parts {
    workers: Vec<Running>,
    python: PythonWorkers,
    scheduler: Scheduler,
    folder: Folder,
}

impl LocalCluster {
    /// A cluster with so many workers, which know the functions of `registry`. It starts when it's awaited.
    ///
    /// Dask must be installed: its program `dask` is looked for on the PATH, or in the
    /// [`environment`](LocalClusterBuilder::environment) that is named. The scheduler listens on loopback only;
    /// still, any user of this machine can connect to it.
    ///
    /// # Errors
    ///
    /// Where Dask isn't installed, or doesn't start. Nothing is left running then.
    ///
    /// # Cancellation
    ///
    /// Dropping the future stops what has been started.
    pub fn start(workers: usize, registry: Registry) -> LocalClusterBuilder {
        LocalClusterBuilder::new(workers, registry)
    }

    /// The address of its scheduler, such as `tcp://127.0.0.1:34567`.
    pub fn address(&self) -> &str {
        self.parts.scheduler.address()
    }

    /// The link to Dask's own dashboard, if Dask can show it: it needs bokeh.
    pub fn dashboard(&self) -> Option<&str> {
        self.parts.scheduler.dashboard()
    }

    /// A client of it that knows the same functions as the workers.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub async fn client(&self) -> Result<Client, ConnectError> {
        Client::connect(self.address(), self.registry.clone()).await
    }
}

impl fmt::Debug for LocalCluster {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("LocalCluster")
            .field("address", &self.address())
            .field("workers", &self.parts.workers.len())
            .finish_non_exhaustive()
    }
}

/// Compiles the snippets of the page on clusters.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/dask.md")]
struct Page;
