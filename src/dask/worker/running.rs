//! A running worker.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_channel::Receiver;
use async_executor::Task;
use futures_lite::FutureExt;
use futures_lite::future::Boxed;

use super::error::{WorkerError, WorkerErrorKind};
use super::io::core::WorkerCore;
use super::io::join::{Joined, Settings, join};
use super::io::{gather, heartbeat, leave, metrics, monitor, serve, stream};
use super::memory::dispose;
use crate::dask::net::Io;
use crate::task::error::{forget_if_it_panics, panic_text};

/// A worker that has joined a scheduler; returned by [`Worker::start`](super::Worker::start).
///
/// Dropping it ends the worker at once: running tasks are dropped at their next await, results are lost, and the
/// scheduler has all of them computed again by other workers. To keep the results, call [`leave`](Self::leave) before.
///
/// Dropping returns when the worker's results are dropped and the folder it spilled to is removed. It waits up to a
/// second for the connections to close, but not for blocking functions, which run until they return.
#[must_use = "dropping it ends the worker at once"]
pub struct Running {
    core: Arc<WorkerCore>,
    end: Receiver<Result<(), WorkerError>>,
    tasks: Vec<Task<()>>,
    /// Drives the tasks, so it's dropped after them.
    _io: Io,
}

impl Running {
    pub(super) async fn start(settings: Settings, scheduler: &str) -> Result<Self, WorkerError> {
        let io = Io::start("ensue-dask").map_err(WorkerErrorKind::Thread)?;
        let scheduler = scheduler.to_owned();
        // All sockets of the worker are driven by that thread, so any runtime can call this function.
        let joining = io.spawn(async move { join(settings, &scheduler).await });
        let Joined { core, outlets, listener, stream, interval } = joining.await?;
        let (writer, reader) = stream.split();
        let serving = core.clone();
        let serve = async move {
            match listener.serve(move |comm| serve::serve(serving.clone(), comm)).await {}
        };
        let sampled = core.clone();
        let idle = move || sampled.lock().state.counts().executing == 0;
        let recording = core.clone();
        let record = move |sample| recording.record_sample(sample);
        let [memory, files] = outlets.dropped;
        let parts: [Boxed<()>; 10] = [
            Box::pin(serve),
            Box::pin(metrics::run(idle, record)),
            Box::pin(stream::receive(core.clone(), reader)),
            Box::pin(stream::send(core.clone(), writer)),
            Box::pin(stream::drive_timeouts(core.clone())),
            Box::pin(gather::run(core.clone(), outlets.gather_commands)),
            Box::pin(heartbeat::run(core.clone(), interval)),
            Box::pin(monitor::run(core.clone())),
            Box::pin(dispose(memory)),
            Box::pin(dispose(files)),
        ];
        let tasks = parts.into_iter().map(|part| io.spawn(guarded(core.clone(), part))).collect();
        log::info!("{}: joined {}", core.identity.address, core.identity.scheduler);
        Ok(Self { core, end: outlets.end, tasks, _io: io })
    }

    #[cfg(test)]
    pub(super) fn core(&self) -> &Arc<WorkerCore> {
        &self.core
    }

    /// Adds a part to the worker.
    #[cfg(test)]
    pub(super) fn add(&mut self, part: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(self._io.spawn(guarded(self.core.clone(), Box::pin(part))));
    }

    /// Returns the address for other workers, as `tcp://host:port`.
    pub fn address(&self) -> &str {
        &self.core.identity.address
    }

    /// Returns the name of the worker on the cluster.
    pub fn name(&self) -> &str {
        &self.core.identity.name
    }

    /// Waits until the worker ends: the scheduler has asked it to close, or it can't go on.
    ///
    /// Before this resolves, the worker's tasks have been cancelled, its results dropped, and the folder it spilled to
    /// removed. Its connections are closed when `self` is dropped. If it's called again after that, it returns `Ok`.
    ///
    /// # Errors
    ///
    /// If the worker ended without being asked to: the connection to the scheduler was lost, or the scheduler has
    /// removed the worker.
    ///
    /// # Cancellation
    ///
    /// Dropping the future has no effect on the worker.
    pub async fn ended(&self) -> Result<(), WorkerError> {
        let ended = self.end.recv().await;
        // The result can be received once. Later callers must not wait for another.
        self.end.close();
        self.core.shut_down();
        ended.unwrap_or(Ok(()))
    }

    /// Ends the worker gracefully: no new task starts, and the scheduler moves the results to other workers before the
    /// worker ends. Takes 30 seconds at most; results that aren't moved and tasks that aren't finished by then are
    /// computed again by other workers.
    ///
    /// Before this resolves, the same has happened as before [`ended`](Self::ended) does.
    ///
    /// # Errors
    ///
    /// If the scheduler is lost meanwhile, or has removed the worker.
    ///
    /// # Cancellation
    ///
    /// Dropping the future doesn't stop the scheduler from retiring the worker.
    pub async fn leave(&self) -> Result<(), WorkerError> {
        let result = leave::leave(&self.core, &self.end).await;
        self.end.close();
        self.core.shut_down();
        result
    }
}

/// Runs a part, and ends the worker if it panics: without one of its parts it would be registered but never answer.
async fn guarded(core: Arc<WorkerCore>, part: Boxed<()>) {
    if let Err(payload) = AssertUnwindSafe(part).catch_unwind().await {
        core.close(Err(WorkerErrorKind::Panicked(panic_text(&*payload)).into()));
        forget_if_it_panics(payload);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The parts first: they would react to the shutdown of what they use.
        self.tasks.clear();
        self.core.shut_down();
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("name", &self.name())
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}
