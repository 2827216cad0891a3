//! The settings of a [`Worker`].

use std::fmt;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use async_signal::{Signal, Signals};
use futures_lite::StreamExt;
use futures_lite::future::or;

use super::error::{WorkerError, WorkerErrorKind};
use super::io::join::{self, Settings};
use super::io::metrics;
use super::running::Running;
#[cfg(feature = "tokio")]
use crate::client::builder::in_tokio;
use crate::dask::net::Tls;
use crate::dask::registry::{RUST, Registry};
use crate::engine::core::threads::Around;

/// The part of the machine's memory that all threads together may use by default.
const MEMORY_FRACTION: f64 = 0.8;

/// A worker for Dask's scheduler that runs Rust functions in this process.
///
/// It runs tasks on an embedded engine of its own, stores their results in memory or, when memory is scarce, in files,
/// sends them to other workers and requests theirs. For the scheduler, clients and other workers it's an ordinary Dask
/// worker.
///
/// ```no_run
/// use ensue::dask::{Registry, Worker};
///
/// async fn inc(x: u64) -> u64 {
///     x + 1
/// }
///
/// # futures_lite::future::block_on(async {
/// let registry = Registry::new().add(inc);
/// Worker::new(registry).threads(4).run("tcp://scheduler:8786").await
/// # }).unwrap();
/// ```
#[must_use = "a worker does nothing before `run` or `start`"]
#[derive(Clone)]
pub struct Worker {
    registry: Registry,
    threads: Option<usize>,
    memory_limit: Option<u64>,
    resources: Vec<(String, f64)>,
    name: Option<String>,
    listen: Option<String>,
    announce: Option<String>,
    tls: Option<Tls>,
    directory: Option<PathBuf>,
    handles_signals: bool,
    timeout: Duration,
    around: Option<Around>,
}

impl Worker {
    /// Returns a worker that runs the functions of `registry`.
    pub fn new(registry: Registry) -> Self {
        Self {
            registry,
            threads: None,
            memory_limit: None,
            resources: Vec::new(),
            name: None,
            listen: None,
            announce: None,
            tls: None,
            directory: None,
            handles_signals: true,
            timeout: join::TIMEOUT,
            around: None,
        }
    }

    /// Sets the number of tasks that run at the same time, at least 1. The default is one per core.
    pub fn threads(mut self, n: usize) -> Self {
        self.threads = Some(n.max(1));
        self
    }

    /// Wraps what each thread does that runs functions; see
    /// [`Builder::around_threads`](crate::Builder::around_threads).
    pub fn around_threads(
        mut self,
        hook: impl Fn(&mut dyn FnMut()) + Send + Sync + 'static,
    ) -> Self {
        self.around = Some(Around::new(self.around.take(), hook));
        self
    }

    /// Lets the functions use the tokio runtime that this is called in; see
    /// [`Builder::tokio`](https://docs.rs/ensue/latest/ensue/struct.Builder.html#method.tokio). Needs the feature `tokio`.
    ///
    /// # Panics
    ///
    /// If it's called outside of a tokio runtime.
    #[cfg(feature = "tokio")]
    #[track_caller]
    pub fn tokio(self) -> Self {
        self.around_threads(in_tokio("Worker::tokio"))
    }

    /// Sets the memory limit in bytes. The default is 80 % of the memory of the machine or of the process's control
    /// group, in proportion to the cores that the worker has threads for. 0 means no limit.
    ///
    /// Above 70 % of the limit, the least recently used results are spilled to files; above 80 %, no task starts.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Adds resources that tasks can ask for, with their amounts: `[("gpu", 1.0)]`.
    ///
    /// Each worker has the resource `rust` in addition, with its number of threads as the amount.
    pub fn resources<N: Into<String>>(
        mut self,
        resources: impl IntoIterator<Item = (N, f64)>,
    ) -> Self {
        self.resources.extend(resources.into_iter().map(|(name, amount)| (name.into(), amount)));
        self
    }

    /// Sets the name of the worker, which must be unique on the cluster. The default is its address.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the address to listen at, as `host:port`; port 0 is any free one. The default is any free port of the
    /// address from which the scheduler is reached.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = Some(address.into());
        self
    }

    /// Sets the host by which other workers and clients reach this one, if it isn't the one to listen at.
    pub fn announce(mut self, host: impl Into<String>) -> Self {
        self.announce = Some(host.into());
        self
    }

    /// Sets the certificates for a scheduler at a `tls://` address.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets the directory in which the worker creates a folder for spilled results. The default is the system's
    /// directory for temporary files.
    ///
    /// The folder is created when the first result is spilled, and removed with the worker. A worker that is killed
    /// leaves it; on Linux, the next worker of the same user with the same directory removes it.
    pub fn local_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// Sets whether [`run`](Self::run) leaves on Ctrl-C and, except on Windows, SIGTERM. The default is `true`.
    pub fn handle_signals(mut self, handles: bool) -> Self {
        self.handles_signals = handles;
        self
    }

    /// Sets the time in which the scheduler must answer while the worker joins.
    #[cfg(test)]
    pub(super) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Joins a scheduler and works for it until the worker is asked to close: by the scheduler, because the worker is
    /// retired or the cluster is closed, or by Ctrl-C or SIGTERM.
    ///
    /// On the first of these signals the worker [leaves](Running::leave) gracefully, on the second it ends at once.
    /// Tasks run on threads of the worker's own, not on the caller's.
    ///
    /// # Errors
    ///
    /// If the worker can't join, or ends without being asked to: the connection to the scheduler was lost, or the
    /// scheduler has removed the worker.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends the worker at once, as dropping a [`Running`] does.
    pub async fn run(self, scheduler: &str) -> Result<(), WorkerError> {
        let handles_signals = self.handles_signals;
        let running = self.start(scheduler).await?;
        if !handles_signals {
            return running.ended().await;
        }
        let signals = Signals::new([Signal::Int, Signal::Term]);
        let mut signals = signals.map_err(WorkerErrorKind::Signals)?;
        let ended = async { Some(running.ended().await) };
        let signalled = async {
            signals.next().await;
            None
        };
        if let Some(result) = or(ended, signalled).await {
            return result;
        }
        log::info!("{}: leaving on a signal", running.address());
        let signalled_again = async {
            signals.next().await;
            Ok(())
        };
        or(running.leave(), signalled_again).await
    }

    /// Joins a scheduler and works for it in the background, on threads of the worker's own.
    ///
    /// # Errors
    ///
    /// If the worker can't join: the scheduler can't be reached, rejects the worker, or is of a release that isn't
    /// supported. The scheduler doesn't know the worker then.
    ///
    /// # Cancellation
    ///
    /// Dropping the future abandons joining. The scheduler may have registered the worker at that moment; it removes
    /// it when the connection closes.
    pub async fn start(self, scheduler: &str) -> Result<Running, WorkerError> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = self.threads.unwrap_or(cores);
        let memory_limit = self.memory_limit.map(|limit| if limit == 0 { u64::MAX } else { limit });
        let memory_limit = memory_limit.unwrap_or_else(|| {
            // Several workers may share the machine, each with some of its cores.
            let share = (threads as f64 / cores as f64).min(1.0);
            (metrics::machine_memory() as f64 * MEMORY_FRACTION * share) as u64
        });
        let mut resources = self.resources;
        // The scheduler relies on this amount, so it can not be set to another.
        resources.retain(|(name, _)| name != RUST);
        resources.push((RUST.to_owned(), threads as f64));
        let settings = Settings {
            registry: self.registry,
            threads,
            around: self.around,
            memory_limit,
            resources,
            name: self.name,
            listen: self.listen,
            announce: self.announce,
            tls: self.tls,
            timeout: self.timeout,
            directory: self.directory.unwrap_or_else(std::env::temp_dir),
        };
        Running::start(settings, scheduler).await
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("name", &self.name)
            .field("threads", &self.threads)
            .field("memory_limit", &self.memory_limit)
            .field("resources", &self.resources)
            .finish_non_exhaustive()
    }
}
