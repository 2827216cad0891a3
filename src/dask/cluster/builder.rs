//! What can be said of a cluster before it starts.

use std::fmt;
use std::future::Future;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::thread;

use super::error::{ClusterError, Problem};
use super::process::Folder;
use super::python::PythonWorkers;
use super::scheduler::{PATIENCE, Scheduler};
use super::{LocalCluster, Parts};
use crate::dask::{Registry, Worker};

/// A [`LocalCluster`] that hasn't started yet; made by [`LocalCluster::start`]. Awaiting it starts the cluster.
#[derive(Clone, Debug)]
#[must_use = "nothing starts before this is awaited"]
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

    /// How many tasks each worker runs at once. By default the workers share the machine's cores.
    ///
    /// # Panics
    ///
    /// If it's 0.
    pub fn threads(mut self, threads: usize) -> Self {
        assert!(threads > 0, "a worker needs a thread");
        self.threads = Some(threads);
        self
    }

    /// The environment of Python that Dask is installed in: a folder with `bin/dask`, on Windows with
    /// `Scripts\dask.exe`. By default it's the `dask` on the PATH.
    pub fn environment(mut self, folder: impl AsRef<Path>) -> Self {
        self.environment = Some(folder.as_ref().to_owned());
        self
    }

    /// Starts so many stock workers, too, for functions in Python. Each has one thread, and 1 of the resource
    /// `python`. By default there are none.
    pub fn python_workers(mut self, workers: usize) -> Self {
        self.python_workers = workers;
        self
    }

    /// Whether Dask is to show its own dashboard, for which it needs bokeh. It does by default.
    pub fn dashboard(mut self, shown: bool) -> Self {
        self.dashboard = shown;
        self
    }

    async fn start(self) -> Result<LocalCluster, ClusterError> {
        let folder = Folder::new()?;
        let environment = self.environment.as_deref();
        let scheduler = Scheduler::start(environment, &folder, self.dashboard, PATIENCE).await?;
        // They take as long to start as the scheduler, and do it while ours join.
        let mut python =
            PythonWorkers::start(environment, &folder, scheduler.address(), self.python_workers)?;
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = self.threads.unwrap_or_else(|| (cores / self.workers.max(1)).max(1));
        let mut workers = Vec::with_capacity(self.workers);
        for number in 0..self.workers {
            let worker = Worker::new(self.registry.clone()).threads(threads).listen("127.0.0.1:0");
            let worker = worker.name(format!("rust-{number}"));
            let worker = worker.start(scheduler.address()).await.map_err(Problem::Worker)?;
            workers.push(worker);
        }
        python.joined(scheduler.address(), PATIENCE).await?;
        let parts = Parts { workers, python, scheduler, folder };
        Ok(LocalCluster { parts, registry: self.registry })
    }
}

impl IntoFuture for LocalClusterBuilder {
    type Output = Result<LocalCluster, ClusterError>;
    type IntoFuture = Starting;

    fn into_future(self) -> Starting {
        Starting(Box::pin(self.start()))
    }
}

/// A cluster that is starting. Dropping it stops what has started.
#[must_use = "nothing starts before this is awaited"]
pub struct Starting(Pin<Box<dyn Future<Output = Result<LocalCluster, ClusterError>> + Send>>);

impl Future for Starting {
    type Output = Result<LocalCluster, ClusterError>;

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl fmt::Debug for Starting {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Starting").finish_non_exhaustive()
    }
}
