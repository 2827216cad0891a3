//! A task on the cluster, as far as this client knows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{error, fmt};

use async_io::Timer;
use event_listener::Event;
use futures_lite::future::or;

use super::fetch::Found;
use super::link::Inner;
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
    pub(super) fn new(key: Arc<str>, link: Arc<Inner>, failed: Option<Failure>) -> Self {
        Self { key, link, record: Record::new(failed) }
    }

    /// What the task is called.
    pub(crate) fn key(&self) -> &Arc<str> {
        &self.key
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// How it ended, if it has.
    pub(crate) fn outcome(&self) -> Option<Result<(), Failure>> {
        self.record.outcome()
    }

    /// Whether its worker has done only a part of what it was to do, and says so in the result.
    pub(super) fn is_partial(&self) -> bool {
        self.record.lock().is_partial
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
    pub(crate) fn retry(&self) {
        self.link.core().retry(self);
    }

    /// It's cancelled, and the scheduler may stop it, unless others need it. Tasks that take its result have to
    /// be cancelled before it: until then it's needed.
    pub(crate) fn cancel(&self, why: &str) {
        let was_pending = self.record.fail(&Failure::Cancelled(why.into()));
        if was_pending {
            self.link.core().release(self);
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.link.core().release(self);
    }
}

/// What is known of a task.
#[derive(Debug)]
pub(super) struct Record {
    state: Mutex<State>,
    changed: Event,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// How often it was said that the result is there, or is gone.
    version: u32,
    /// The result was there, and isn't now. Who was told that the task has ended isn't told otherwise; only who
    /// wants to have the result has to wait.
    is_nowhere: bool,
    /// The scheduler has been asked to run it again, and what it says of its failure is old.
    is_retrying: bool,
    is_partial: bool,
}

#[derive(Debug)]
enum Phase {
    Pending,
    InMemory,
    Failed(Failure),
}

impl Record {
    pub(super) fn new(failed: Option<Failure>) -> Self {
        let phase = failed.map_or(Phase::Pending, Phase::Failed);
        let state =
            State { phase, version: 0, is_nowhere: false, is_retrying: false, is_partial: false };
        Self { state: Mutex::new(state), changed: Event::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it if the change says so, and wakes who waits.
    fn change(&self, change: impl FnOnce(&mut State) -> bool) -> bool {
        let has_changed = change(&mut self.lock());
        if has_changed {
            self.changed.notify(usize::MAX);
        }
        has_changed
    }

    /// The result is there.
    pub(super) fn in_memory(&self, is_partial: bool) {
        self.change(|state| {
            if state.is_final() {
                return false;
            }
            state.phase = Phase::InMemory;
            state.is_partial = is_partial;
            state.version += 1;
            state.is_nowhere = false;
            state.is_retrying = false;
            true
        });
    }

    /// The scheduler says that it failed.
    pub(super) fn erred(&self, exception: Exception) {
        self.change(|state| {
            if state.is_final() || state.is_retrying {
                return false;
            }
            state.phase = Phase::Failed(Failure::Erred(exception.into()));
            true
        });
    }

    /// It failed for good. Says whether that's news.
    pub(super) fn fail(&self, failure: &Failure) -> bool {
        self.change(|state| {
            if state.is_final() {
                return false;
            }
            state.phase = Phase::Failed(failure.clone());
            true
        })
    }

    /// The result has gone with its worker.
    pub(super) fn lost(&self) {
        self.change(|state| {
            state.is_nowhere |= matches!(state.phase, Phase::InMemory);
            state.version += 1;
            true
        });
    }

    /// The result isn't where it should have been.
    fn is_nowhere(&self, version: u32) {
        let mut state = self.lock();
        state.is_nowhere |= state.version == version;
    }

    /// The scheduler runs it again.
    pub(super) fn retried(&self) {
        self.change(|state| {
            state.is_retrying = false;
            let has_erred = matches!(state.phase, Phase::Failed(Failure::Erred(_)));
            if has_erred {
                state.phase = Phase::Pending;
            }
            has_erred
        });
    }

    /// It has failed and shall run again. Says whether the scheduler has to be asked.
    pub(super) fn retry(&self) -> bool {
        self.change(|state| {
            let has_erred = matches!(state.phase, Phase::Failed(Failure::Erred(_)));
            if has_erred {
                state.phase = Phase::Pending;
                state.is_retrying = true;
            }
            has_erred
        })
    }

    /// The scheduler has heard that it shall.
    pub(super) fn retry_is_heard(&self) {
        self.lock().is_retrying = false;
    }

    fn outcome(&self) -> Option<Result<(), Failure>> {
        match &self.lock().phase {
            Phase::Pending => None,
            Phase::InMemory => Some(Ok(())),
            Phase::Failed(failure) => Some(Err(failure.clone())),
        }
    }

    /// Waits until a condition gives something.
    async fn wait<T>(&self, mut condition: impl FnMut(&State) -> Option<T>) -> T {
        loop {
            if let Some(done) = condition(&self.lock()) {
                return done;
            }
            let changed = self.changed.listen();
            if let Some(done) = condition(&self.lock()) {
                return done;
            }
            changed.await;
        }
    }

    async fn ended(&self) -> Result<(), Failure> {
        self.wait(|state| match &state.phase {
            Phase::Pending => None,
            Phase::InMemory => Some(Ok(())),
            Phase::Failed(failure) => Some(Err(failure.clone())),
        })
        .await
    }

    /// Waits until the result is said to be somewhere, and gives the number of times that was said.
    async fn available(&self) -> Result<u32, Failure> {
        self.wait(|state| match &state.phase {
            Phase::InMemory if !state.is_nowhere => Some(Ok(state.version)),
            Phase::Failed(failure) => Some(Err(failure.clone())),
            _ => None,
        })
        .await
    }

    async fn changed_since(&self, version: u32) {
        self.wait(|state| match &state.phase {
            Phase::Failed(_) => Some(()),
            _ => (state.version != version).then_some(()),
        })
        .await;
    }
}

impl State {
    /// Cancelled, lost or closed: nothing that is said of it matters.
    fn is_final(&self) -> bool {
        matches!(&self.phase, Phase::Failed(failure) if !matches!(failure, Failure::Erred(_)))
    }
}
