//! A task on the cluster, as far as this client knows.

use std::sync::Arc;
use std::time::Duration;
use std::{error, fmt};

use async_io::Timer;
use futures_lite::future::or;

use crate::dask::client::io::link::Inner;
use crate::dask::client::state::future_state::Record;
use crate::dask::client::state::pending_fetches::Found;
use crate::dask::wire::pickle::Exception;
use crate::dask::wire::serialized::Serialized;

/// How long to wait before a result is looked for again that was nowhere, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// A task on the cluster that this client wants. The key is released when the last reference is dropped.
#[derive(Debug)]
pub(crate) struct Remote {
    key: Arc<str>,
    link: Arc<Inner>,
    record: Record,
}

/// Why there is no result.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// It, or a task that it depends on, failed.
    Erred(Arc<Exception>),
    /// Somebody cancelled it, for this reason.
    Cancelled(Arc<str>),
    /// It's gone, and this is what happened.
    Lost(Arc<str>),
    /// This client has been closed.
    Closed,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Erred(exception) => exception.fmt(f),
            Self::Cancelled(why) => write!(f, "cancelled: {why}"),
            Self::Lost(why) => f.write_str(why),
            Self::Closed => f.write_str("the client is closed"),
        }
    }
}

impl error::Error for Failure {}

impl Remote {
    pub(crate) fn new(key: Arc<str>, link: Arc<Inner>, failed: Option<Failure>) -> Self {
        Self { key, link, record: Record::new(failed) }
    }

    /// What the task is called.
    pub(crate) fn key(&self) -> &Arc<str> {
        &self.key
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// How it ended, if it has.
    pub(crate) fn outcome(&self) -> Option<Result<(), Failure>> {
        self.record.outcome()
    }

    /// Whether its worker has done only a part of what it was to do, and says so in the result.
    pub(crate) fn is_partial(&self) -> bool {
        self.record.is_partial()
    }

    /// Waits until its result is there, somewhere on the cluster, or it failed. Any number may wait.
    pub(crate) async fn ended(&self) -> Result<(), Failure> {
        self.record.ended().await
    }

    /// Waits for the result and brings it here, in the form that it has on its worker. Any number may wait, and
    /// it's brought once for those that wait at the same time. May be given up at any time.
    pub(crate) async fn fetch(&self) -> Result<Serialized, Failure> {
        let (mut pause, longest) = PAUSE;
        loop {
            let version = self.record.available().await?;
            let answer = self.link.core().ask(&self.key, version);
            let found = async { answer.recv().await.unwrap_or(Found::Nowhere) };
            // It may have come to be elsewhere while it's looked for where it was.
            let moved = async {
                self.record.changed_since(version).await;
                Found::Moved
            };
            match or(found, moved).await {
                Found::Here(value) => return Ok(value),
                Found::Moved => continue,
                Found::Nowhere => {}
            }
            self.record.is_nowhere(version);
            let again = async { _ = Timer::after(pause).await };
            or(again, self.record.changed_since(version)).await;
            pause = (pause * 2).min(longest);
            self.link.core().report(&self.key);
        }
    }

    /// If it has failed, it's pending again, and the scheduler is asked to run it, and the failed tasks that it
    /// depends on. What was cancelled or lost stays that.
    pub(crate) fn retry(self: &Arc<Self>) {
        self.link.core().retry(self);
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.link.core().release(self);
    }
}
