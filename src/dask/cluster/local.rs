//! A running cluster on this machine.

use std::fmt;

use super::process::ClusterFolder;
use super::python::PythonWorkers;
use super::scheduler::SchedulerProcess;
use crate::dask::client::{Client, ConnectError};
use crate::dask::registry::Registry;
use crate::dask::worker::Running;

/// A cluster on this machine, for experiments and tests: Dask's own scheduler as a child process, and workers in this
/// process.
///
/// Dropping it stops the cluster. The scheduler exits also when this process is killed.
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
    parts: ClusterParts,
    registry: Registry,
}

/// The parts of a cluster in the order in which they're stopped: workers before the scheduler, since they would log its
/// loss as an error, and the folder last, since the others write to it.
#[expect(dead_code, reason = "dropping the fields stops the parts")]
pub(super) struct ClusterParts {
    pub(super) workers: Vec<Running>,
    pub(super) python: PythonWorkers,
    pub(super) scheduler: SchedulerProcess,
    pub(super) folder: ClusterFolder,
}

impl LocalCluster {
    pub(super) fn new(parts: ClusterParts, registry: Registry) -> Self {
        Self { parts, registry }
    }

    /// Returns the address of the scheduler, such as `tcp://127.0.0.1:34567`.
    pub fn address(&self) -> &str {
        self.parts.scheduler.address()
    }

    /// Returns the address of Dask's own dashboard, which requires bokeh.
    pub fn dashboard(&self) -> Option<&str> {
        self.parts.scheduler.dashboard()
    }

    /// Connects a client that knows the same functions as the workers.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub async fn client(&self) -> Result<Client, ConnectError> {
        Client::connect(self.address(), self.registry.clone()).await
    }
}

impl fmt::Debug for LocalCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCluster")
            .field("address", &self.address())
            .field("workers", &self.parts.workers.len())
            .finish_non_exhaustive()
    }
}
