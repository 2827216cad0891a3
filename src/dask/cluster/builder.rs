//! The settings of a [`LocalCluster`].

use std::fmt;
use std::future::Future;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::thread;

use super::error::{ClusterError, ClusterErrorKind};
use super::local::{ClusterParts, LocalCluster};
use super::process::ClusterFolder;
use super::python::PythonWorkers;
use super::scheduler::{READY_TIMEOUT, SchedulerProcess};
use crate::dask::registry::Registry;
use crate::dask::worker::Worker;

/// A [`LocalCluster`] that hasn't started yet; returned by [`LocalCluster::start`]. Awaiting it starts the cluster.
#[derive(Clone, Debug)]
#[must_use = "the cluster starts when this is awaited"]
pub struct LocalClusterBuilder {
    workers: usize,
    registry: Registry,
    threads: Option<usize>,
    environment: Option<PathBuf>,
    python_workers: usize,
    dashboard: bool,
}

impl LocalClusterBuilder {
    pub(super) fn new(workers: usize, registry: Registry) -> Self {
        Self {
            workers,
            registry,
            threads: None,
            environment: None,
            python_workers: 0,
            dashboard: true,
        }
    }

    /// Sets the number of tasks that each worker runs at the same time. By default, the workers share the machine's cores.
    ///
    /// # Panics
    ///
    /// If `threads` is 0.
    pub fn threads(mut self, threads: usize) -> Self {
        assert!(threads > 0, "a worker needs at least one thread");
        self.threads = Some(threads);
        self
    }

    /// Sets the Python environment that has Dask: a folder with `bin/dask`, or on Windows with `Scripts\dask.exe`. By
    /// default, the program `dask` is searched for on the PATH.
    pub fn environment(mut self, folder: impl AsRef<Path>) -> Self {
        self.environment = Some(folder.as_ref().to_owned());
        self
    }

    /// Sets the number of stock Dask workers to start in addition, for Python functions. Each has one thread, and 1 of the
    /// resource `python`. The default is 0.
    pub fn python_workers(mut self, workers: usize) -> Self {
        self.python_workers = workers;
        self
    }

    /// Sets whether Dask serves its own dashboard, which requires bokeh. The default is `true`.
    pub fn dashboard(mut self, shown: bool) -> Self {
        self.dashboard = shown;
        self
    }

    async fn start(self) -> Result<LocalCluster, ClusterError> {
        let folder = ClusterFolder::new()?;
        let environment = self.environment.as_deref();
        let scheduler =
            SchedulerProcess::start(environment, &folder, self.dashboard, READY_TIMEOUT).await?;
        // Python workers take as long to start as the scheduler, so they do it while the Rust workers join.
        let mut python =
            PythonWorkers::start(environment, &folder, scheduler.address(), self.python_workers)?;
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = self.threads.unwrap_or_else(|| (cores / self.workers.max(1)).max(1));
        let mut workers = Vec::with_capacity(self.workers);
        for number in 0..self.workers {
            let worker = Worker::new(self.registry.clone()).threads(threads).listen("127.0.0.1:0");
            let worker = worker.name(format!("rust-{number}"));
            let worker =
                worker.start(scheduler.address()).await.map_err(ClusterErrorKind::Worker)?;
            workers.push(worker);
        }
        python.wait_until_joined(scheduler.address(), READY_TIMEOUT).await?;
        let parts = ClusterParts { workers, python, scheduler, folder };
        Ok(LocalCluster::new(parts, self.registry))
    }
}

impl IntoFuture for LocalClusterBuilder {
    type Output = Result<LocalCluster, ClusterError>;
    type IntoFuture = Starting;

    fn into_future(self) -> Starting {
        Starting(Box::pin(self.start()))
    }
}

/// A cluster that is starting. Dropping it stops the processes and workers that were started.
#[must_use = "the cluster starts when this is awaited"]
pub struct Starting(Pin<Box<dyn Future<Output = Result<LocalCluster, ClusterError>> + Send>>);

impl Future for Starting {
    type Output = Result<LocalCluster, ClusterError>;

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Starting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starting").finish_non_exhaustive()
    }
}

impl LocalCluster {
    /// Returns the settings of a cluster with this number of workers, which know the functions of `registry`. The cluster
    /// starts when they are awaited.
    ///
    /// Dask must be installed: its program `dask` is searched for on the PATH, or in an
    /// [`environment`](LocalClusterBuilder::environment). The scheduler listens on loopback only, but any user of this
    /// machine can connect to it.
    ///
    /// # Errors
    ///
    /// If Dask isn't installed or doesn't start. No process is left running then.
    ///
    /// # Cancellation
    ///
    /// Dropping the future stops the processes and workers that were started.
    pub fn start(workers: usize, registry: Registry) -> LocalClusterBuilder {
        LocalClusterBuilder::new(workers, registry)
    }
}
