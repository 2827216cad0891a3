//! A worker that has joined.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_channel::Receiver;
use async_executor::Task;
use futures_lite::FutureExt;
use futures_lite::future::Boxed;

use super::core::Core;
use super::error::{Kind, WorkerError};
use super::join::{Joined, Settings, join};
use super::{disposal, fetch, heartbeat, leave, memory, metrics, serve, stream};
use crate::dask::net::Io;
use crate::error::{forget_if_it_panics, panic_text};

/// A worker that has joined a scheduler; made by [`Worker::start`](super::Worker::start).
///
/// Dropping it makes the worker go at once: running tasks are dropped at their next await, results are lost, and
/// the scheduler has all of it done again elsewhere.
#[must_use = "dropping it makes the worker go at once"]
pub struct Running {
    core: Arc<Core>,
    end: Receiver<Result<(), WorkerError>>,
    tasks: Vec<Task<()>>,
    /// Drives the tasks; the last to go.
    _io: Io,
}

impl Running {
    pub(super) async fn start(settings: Settings, scheduler: &str) -> Result<Self, WorkerError> {
        let io = Io::start("ensue-dask").map_err(Kind::Thread)?;
        let scheduler = scheduler.to_owned();
        // All of the worker's sockets are driven there, whatever runtime this is called on.
        let joining = io.spawn(async move { join(settings, &scheduler).await });
        let Joined { core, outlets, listener, stream, interval } = joining.await?;
        let (writer, reader) = stream.split();
        let served = core.clone();
        let serve = async move {
            match listener.serve(move |comm| serve::serve(served.clone(), comm)).await {}
        };
        let [memory, files] = outlets.dropped;
        let parts: [Boxed<()>; 10] = [
            Box::pin(serve),
            Box::pin(metrics::sample(core.clone())),
            Box::pin(stream::listen(core.clone(), reader)),
            Box::pin(stream::report(core.clone(), writer)),
            Box::pin(stream::wake(core.clone())),
            Box::pin(fetch::errands(core.clone(), outlets.errands)),
            Box::pin(heartbeat::beat(core.clone(), interval)),
            Box::pin(memory::watch(core.clone())),
            Box::pin(disposal::dispose(memory)),
            Box::pin(disposal::dispose(files)),
        ];
        let tasks = parts.into_iter().map(|part| io.spawn(guarded(core.clone(), part))).collect();
        log::info!("{}: joined {}", core.me.address, core.me.scheduler);
        Ok(Self { core, end: outlets.end, tasks, _io: io })
    }

    #[cfg(test)]
    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Gives the worker one more part.
    #[cfg(test)]
    pub(super) fn add(&mut self, part: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(self._io.spawn(guarded(self.core.clone(), Box::pin(part))));
    }

    /// Where others reach it, as `tcp://host:port`.
    pub fn address(&self) -> &str {
        &self.core.me.address
    }

    /// What it's called on the cluster.
    pub fn name(&self) -> &str {
        &self.core.me.name
    }

    /// Waits until the worker is told to leave, or has to. Before this resolves, its tasks and results have been
    /// dropped, and the folder it spilled to has been removed.
    ///
    /// # Errors
    ///
    /// If it has to go without being told: the scheduler is gone, or has forgotten it.
    ///
    /// # Cancellation
    ///
    /// The worker goes on when the future is dropped.
    pub async fn ended(&self) -> Result<(), WorkerError> {
        let ended = self.end.recv().await;
        // Whoever asks later learns only that it's over.
        self.end.close();
        self.core.stop();
        ended.unwrap_or(Ok(()))
    }

    /// Leaves in good order: no new task begins, the scheduler moves the results to other workers, and the worker
    /// goes. It takes 30 seconds at most; what isn't moved or done by then is done again elsewhere.
    ///
    /// # Errors
    ///
    /// If the scheduler goes away meanwhile, or has forgotten the worker.
    ///
    /// # Cancellation
    ///
    /// The retiring goes on at the scheduler when the future is dropped; dropping `self` ends the worker.
    pub async fn leave(&self) -> Result<(), WorkerError> {
        let result = leave::leave(&self.core, &self.end).await;
        self.end.close();
        self.core.stop();
        result
    }
}

/// A worker without one of its parts would be one that never answers: it ends instead.
async fn guarded(core: Arc<Core>, part: Boxed<()>) {
    if let Err(payload) = AssertUnwindSafe(part).catch_unwind().await {
        core.finish(Err(Kind::Broken(panic_text(&*payload)).into()));
        forget_if_it_panics(payload);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.clear();
        self.core.stop();
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
