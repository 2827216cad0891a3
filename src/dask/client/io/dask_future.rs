//! A future on the cluster: Dask's `Future`, which holds a key.

use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use futures_lite::future::or;

use super::connection::Connection;
use crate::dask::client::state::future_state::{FutureError, FutureState};
use crate::dask::client::state::pending_fetches::FetchOutcome;
use crate::dask::wire::serialized::Serialized;

/// The pause before a result without a holder is fetched again: the first one, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// A future on the cluster. Its key is released when it's dropped.
#[derive(Debug)]
pub(crate) struct DaskFuture {
    state: Arc<FutureState>,
    connection: Arc<Connection>,
}

impl DaskFuture {
    pub(crate) fn new(state: Arc<FutureState>, connection: Arc<Connection>) -> Self {
        Self { state, connection }
    }

    pub(crate) fn key(&self) -> &Arc<str> {
        self.state.key()
    }

    /// Returns how the task ended, if it has.
    pub(crate) fn outcome(&self) -> Option<Result<(), FutureError>> {
        self.state.outcome()
    }

    /// Returns whether the worker has done only a part of its batch, and says so in the result.
    pub(crate) fn is_partial(&self) -> bool {
        self.state.is_partial()
    }

    /// Waits until a worker has the result, or the task failed.
    pub(crate) async fn ended(&self) -> Result<(), FutureError> {
        self.state.ended().await
    }

    /// Waits for the result and fetches it, in the serialization that it has on its worker. Fetches that run at the
    /// same time share one transfer. Cancel safe.
    pub(crate) async fn fetch(&self) -> Result<Serialized, FutureError> {
        let shared = &self.connection.shared;
        let (mut pause, longest) = PAUSE;
        loop {
            let version = self.state.available().await?;
            let answer = shared.fetcher.fetch(self.key(), version);
            let fetched = async { answer.recv().await.unwrap_or(FetchOutcome::Unavailable) };
            // A fetch from the old location could take until its timeout.
            let moved = async {
                self.state.changed_since(version).await;
                FetchOutcome::Moved
            };
            match or(fetched, moved).await {
                FetchOutcome::Fetched(value) => return Ok(value),
                // The receiver is dropped, which cancels the fetch from the old location.
                FetchOutcome::Moved => continue,
                FetchOutcome::Unavailable => {}
            }
            // From now on it's awaited until the scheduler reports a new location.
            self.state.mark_unavailable(version);
            let paused = async { _ = Timer::after(pause).await };
            or(paused, self.state.changed_since(version)).await;
            pause = (pause * 2).min(longest);
            // The answer says that the result is in memory again, or that it's gone for good.
            shared.report_key(self.key());
        }
    }

    /// Makes a failed task pending again, and has the scheduler run it and the failed tasks that it depends on. A task
    /// that was cancelled or lost stays so.
    pub(crate) fn retry(&self) {
        self.connection.shared.retry(&self.state);
    }
}

impl Drop for DaskFuture {
    fn drop(&mut self) {
        self.connection.shared.release(&self.state);
    }
}
