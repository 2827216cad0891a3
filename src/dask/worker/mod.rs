//! A worker that joins a scheduler and runs registered functions.
//!
//! [`state`] decides what is to be done, without sockets or threads; [`core`] does it. Around these: a stream
//! with the scheduler's orders ([`stream`]), getting results from other workers ([`fetch`]), giving them
//! ([`serve`]), running tasks on the engine ([`execute`]), [`heartbeat`]s, and keeping [`memory`] free, with what
//! belongs to it: files ([`spill`]), taking away those of workers that were killed, and [`disposal`].

mod core;
mod disposal;
mod error;
mod execute;
mod fetch;
mod heartbeat;
mod join;
mod leave;
#[cfg(target_os = "linux")]
mod leftovers;
mod memory;
mod metrics;
mod running;
mod serve;
mod spill;
mod state;
mod store;
mod stream;
#[cfg(test)]
mod tests;
mod traffic;

use std::fmt;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use async_signal::{Signal, Signals};
use futures_lite::StreamExt;
use futures_lite::future::or;

pub use error::WorkerError;
pub use running::Running;

use self::error::Kind;
use self::join::Settings;
use super::RUST;
use super::net::Tls;
use super::registry::Registry;

/// A worker for Dask's scheduler that runs Rust functions, in this process.
///
/// It runs tasks on an embedded engine of its own, holds their results in memory, or on disk if that gets
/// scarce, gives them to other workers and gets theirs. To everybody on the cluster it's an ordinary worker.
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
#[must_use = "nothing happens before `run` or `start`"]
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
    patience: Duration,
}

impl Worker {
    /// A worker that knows these functions.
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
            patience: join::PATIENCE,
        }
    }

    /// How many tasks run at the same time, at least 1; one per core if this isn't said.
    pub fn threads(mut self, n: usize) -> Self {
        self.threads = Some(n.max(1));
        self
    }

    /// How much memory it may use, in bytes. If this isn't said, it's 80 % of the machine's, or of what the
    /// process may have, in proportion to the cores that it has threads for.
    ///
    /// 0 is no limit. Past 70 % of it, the results that haven't been used for longest go to files; past 80 %, no task begins.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// What else tasks may ask for, and how much of it there is: `[("gpu", 1.0)]`.
    ///
    /// `rust` is always among them: as many as there are threads.
    pub fn resources<N: Into<String>>(
        mut self,
        resources: impl IntoIterator<Item = (N, f64)>,
    ) -> Self {
        self.resources.extend(resources.into_iter().map(|(name, amount)| (name.into(), amount)));
        self
    }

    /// What no other worker is called; its address if this isn't said.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Where it listens, as `host:port`; port 0 is any that is free. If this isn't said, it's any port of the
    /// address from which the scheduler is reached.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = Some(address.into());
        self
    }

    /// The host by which others reach it, where that isn't the one it listens at.
    pub fn announce(mut self, host: impl Into<String>) -> Self {
        self.announce = Some(host.into());
        self
    }

    /// The certificates for a scheduler at a `tls://` address.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Where it makes a folder for results that memory has no room for; the system's folder for temporary files
    /// if this isn't said. The folder is made when something is written, and goes with the worker. One that is
    /// killed leaves it; on Linux, the next worker of the same user that is given the same place removes it.
    pub fn local_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// Whether [`run`](Self::run) waits for Ctrl-C and, where there is such a thing, SIGTERM. It does if this
    /// isn't said.
    pub fn handle_signals(mut self, handles: bool) -> Self {
        self.handles_signals = handles;
        self
    }

    /// How long the scheduler may take to answer while it's joined.
    #[cfg(test)]
    fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Joins the scheduler, and works for it until told to leave: by the scheduler, by somebody who retires this
    /// worker or closes the cluster, or by Ctrl-C or SIGTERM.
    ///
    /// On these signals the worker [leaves](Running::leave) in good order; a second one makes it go at once.
    ///
    /// # Errors
    ///
    /// If it can't join, or has to go without being told: the scheduler is gone, or has forgotten it.
    ///
    /// # Cancellation
    ///
    /// Dropping the future makes the worker go at once, as dropping a [`Running`] does.
    pub async fn run(self, scheduler: &str) -> Result<(), WorkerError> {
        let handles_signals = self.handles_signals;
        let running = self.start(scheduler).await?;
        if !handles_signals {
            return running.ended().await;
        }
        let mut signals = Signals::new([Signal::Int, Signal::Term]).map_err(Kind::Signals)?;
        let ended = async { Some(running.ended().await) };
        let told = async {
            signals.next().await;
            None
        };
        if let Some(result) = or(ended, told).await {
            return result;
        }
        log::info!("{}: leaving, since a signal says so", running.address());
        let told_again = async {
            signals.next().await;
            Ok(())
        };
        or(running.leave(), told_again).await
    }

    /// Joins the scheduler, and works for it in the background.
    ///
    /// # Errors
    ///
    /// If it can't join: the scheduler can't be reached, doesn't want the worker, or is of a release that isn't
    /// known. Nothing of the worker is left there then.
    pub async fn start(self, scheduler: &str) -> Result<Running, WorkerError> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = self.threads.unwrap_or(cores);
        let memory_limit = self.memory_limit.map(|limit| if limit == 0 { u64::MAX } else { limit });
        let memory_limit = memory_limit.unwrap_or_else(|| {
            let share = (threads as f64 / cores as f64).min(1.0);
            (metrics::machine_memory() as f64 * 0.8 * share) as u64
        });
        let mut resources = self.resources;
        resources.retain(|(name, _)| name != RUST);
        resources.push((RUST.to_owned(), threads as f64));
        let settings = Settings {
            registry: self.registry,
            threads,
            memory_limit,
            resources,
            name: self.name,
            listen: self.listen,
            announce: self.announce,
            tls: self.tls,
            patience: self.patience,
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
