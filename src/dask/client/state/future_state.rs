//! What is known of a task on the cluster.

use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU64, Ordering};

use event_listener::Event;

use crate::dask::client::io::dask_future::Failure;
use crate::dask::wire::pickle::Exception;
use crate::engine::base::lock::Lock;

/// Of which task something is known, and how often it was said that its result is there, or is gone. A key may be that of
/// one task after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) task: u64,
    pub(crate) count: u32,
}

impl Version {
    fn new() -> Self {
        static TASKS: AtomicU64 = AtomicU64::new(0);
        Self { task: TASKS.fetch_add(1, Ordering::Relaxed), count: 0 }
    }
}

/// What is known of a task.
#[derive(Debug)]
pub(crate) struct Record {
    state: Lock<State>,
    changed: Event,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    version: Version,
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
    pub(crate) fn new(failed: Option<Failure>) -> Self {
        let phase = failed.map_or(Phase::Pending, Phase::Failed);
        let version = Version::new();
        let state =
            State { phase, version, is_nowhere: false, is_retrying: false, is_partial: false };
        Self { state: Lock::new(state), changed: Event::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Changes it if the change says so, and wakes who waits.
    fn change(&self, change: impl FnOnce(&mut State) -> bool) -> bool {
        let has_changed = change(&mut self.lock());
        if has_changed {
            self.changed.notify(usize::MAX);
        }
        has_changed
    }

    pub(crate) fn is_partial(&self) -> bool {
        self.lock().is_partial
    }

    /// The result is there.
    pub(crate) fn in_memory(&self, is_partial: bool) {
        self.change(|state| {
            if state.is_final() {
                return false;
            }
            state.phase = Phase::InMemory;
            state.is_partial = is_partial;
            state.version.count += 1;
            state.is_nowhere = false;
            state.is_retrying = false;
            true
        });
    }

    /// The scheduler says that it failed.
    pub(crate) fn erred(&self, exception: Exception) {
        self.change(|state| {
            if state.is_final() || state.is_retrying {
                return false;
            }
            state.phase = Phase::Failed(Failure::Erred(exception.into()));
            true
        });
    }

    /// It failed for good. Says whether that's news.
    pub(crate) fn fail(&self, failure: &Failure) -> bool {
        self.change(|state| {
            if state.is_final() {
                return false;
            }
            state.phase = Phase::Failed(failure.clone());
            true
        })
    }

    /// The result has gone with its worker.
    pub(crate) fn lost(&self) {
        self.change(|state| {
            state.is_nowhere |= matches!(state.phase, Phase::InMemory);
            state.version.count += 1;
            true
        });
    }

    /// Whether the scheduler has still to run it, or to run it again.
    pub(crate) fn is_open(&self) -> bool {
        let state = self.lock();
        match state.phase {
            Phase::Pending => true,
            Phase::InMemory => state.is_nowhere,
            Phase::Failed(_) => false,
        }
    }

    /// The result isn't where it should have been.
    pub(crate) fn is_nowhere(&self, version: Version) {
        let mut state = self.lock();
        state.is_nowhere |= state.version == version;
    }

    /// The scheduler runs it again.
    pub(crate) fn retried(&self) {
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
    pub(crate) fn retry(&self) -> bool {
        self.change(|state| {
            let has_erred = matches!(state.phase, Phase::Failed(Failure::Erred(_)));
            if has_erred {
                state.phase = Phase::Pending;
                state.is_retrying = true;
            }
            has_erred
        })
    }

    pub(crate) fn outcome(&self) -> Option<Result<(), Failure>> {
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

    pub(crate) async fn ended(&self) -> Result<(), Failure> {
        self.wait(|state| match &state.phase {
            Phase::Pending => None,
            Phase::InMemory => Some(Ok(())),
            Phase::Failed(failure) => Some(Err(failure.clone())),
        })
        .await
    }

    /// Waits until the result is said to be somewhere, and gives the number of times that was said.
    pub(crate) async fn available(&self) -> Result<Version, Failure> {
        self.wait(|state| match &state.phase {
            Phase::InMemory if !state.is_nowhere => Some(Ok(state.version)),
            Phase::Failed(failure) => Some(Err(failure.clone())),
            _ => None,
        })
        .await
    }

    pub(crate) async fn changed_since(&self, version: Version) {
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

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    fn exception(text: &str) -> Exception {
        let (class, module) = ("E".to_owned(), "m".to_owned());
        Exception { class, module, text: text.to_owned(), cause: None }
    }

    #[test]
    fn who_was_told_stays_told() {
        block_on(async {
            let record = Record::new(None);
            assert!(poll_once(record.ended()).await.is_none());
            record.in_memory(false);
            let version = record.available().await.unwrap();
            record.lost();
            assert!(record.ended().await.is_ok());
            assert!(poll_once(record.available()).await.is_none());
            record.changed_since(version).await;
            // Late news of the first time.
            record.is_nowhere(version);
            record.in_memory(false);
            assert_eq!(record.available().await.unwrap().count, version.count + 2);
        });
    }

    #[test]
    fn old_failures_do_not_count() {
        let record = Record::new(None);
        record.erred(exception("one"));
        assert!(record.retry());
        assert!(!record.retry());
        record.erred(exception("one"));
        assert!(record.outcome().is_none());
        record.retried();
        record.erred(exception("two"));
        assert!(matches!(record.outcome(), Some(Err(Failure::Erred(e))) if e.text == "two"));
        assert!(record.retry());
        // Until the scheduler says that it runs again, what it says is of before.
        record.erred(exception("two"));
        assert!(record.outcome().is_none());
    }

    #[test]
    fn an_end_is_an_end() {
        let record = Record::new(None);
        assert!(record.fail(&Failure::Cancelled("why".into())));
        assert!(!record.fail(&Failure::Closed));
        record.in_memory(false);
        record.erred(exception("late"));
        record.retried();
        assert!(!record.retry());
        assert!(matches!(record.outcome(), Some(Err(Failure::Cancelled(_)))));
    }
}
