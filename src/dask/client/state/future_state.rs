//! The state of one future on the cluster: Dask's `FutureState`, with a version of its result.
//!
//! The [module of the room](super) has the table of states and transitions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::{error, fmt};

use event_listener::Event;

use crate::dask::wire::pickle::Exception;
use crate::engine::base::lock::Lock;

/// The error of a future without a result.
#[derive(Clone, Debug)]
pub(crate) enum FutureError {
    /// The task, or one that it depends on, failed.
    Erred(Arc<Exception>),
    /// It was cancelled, for this reason.
    Cancelled(Arc<str>),
    /// It's gone from the cluster; the text says what happened.
    Lost(Arc<str>),
    /// This client has been closed.
    Closed,
}

impl FutureError {
    /// Returns whether the future can never get a result. The scheduler may run a failed task again, but it has
    /// forgotten one that was cancelled or lost.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self, Self::Erred(_))
    }
}

impl fmt::Display for FutureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Erred(exception) => exception.fmt(f),
            Self::Cancelled(why) => write!(f, "cancelled: {why}"),
            Self::Lost(why) => f.write_str(why),
            Self::Closed => f.write_str("the client is closed"),
        }
    }
}

impl error::Error for FutureError {}

/// Identifies one location of one task's result.
///
/// A fetch that was started for an older location must not be mistaken for one of the current location; nor may the
/// result of a task be given to a later task with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResultVersion {
    /// A number that no other task of this process has.
    pub(crate) task: u64,
    /// The number of reports that the result is in memory, or lost.
    pub(crate) count: u32,
}

impl ResultVersion {
    fn new() -> Self {
        static TASKS: AtomicU64 = AtomicU64::new(0);
        // Relaxed: only the numbers have to differ.
        Self { task: TASKS.fetch_add(1, Ordering::Relaxed), count: 0 }
    }
}

/// The state of a future, shared by everything that waits for it.
#[derive(Debug)]
pub(crate) struct FutureState {
    key: Arc<str>,
    record: Lock<Record>,
    changed: Event,
}

#[derive(Debug)]
struct Record {
    status: Status,
    version: ResultVersion,
    /// The result was in memory, and no worker has it now. The status stays `Finished`: a waiter that was notified
    /// of the end isn't notified of the opposite. Only fetches wait until the result is computed again.
    is_unavailable: bool,
    /// The scheduler has been asked to run the task again, and hasn't confirmed that. Until then, errors that it
    /// reports are those of the previous attempt.
    is_retrying: bool,
    /// The task is a batch of calls, of which the worker has done only some.
    is_partial: bool,
}

#[derive(Debug)]
enum Status {
    Pending,
    Finished,
    Failed(FutureError),
}

impl Status {
    fn outcome(&self) -> Option<Result<(), FutureError>> {
        match self {
            Self::Pending => None,
            Self::Finished => Some(Ok(())),
            Self::Failed(error) => Some(Err(error.clone())),
        }
    }
}

impl Record {
    fn is_final(&self) -> bool {
        matches!(&self.status, Status::Failed(error) if error.is_final())
    }

    fn has_erred(&self) -> bool {
        matches!(self.status, Status::Failed(FutureError::Erred(_)))
    }
}

impl FutureState {
    /// Creates the state of a task that has just been submitted.
    pub(crate) fn pending(key: Arc<str>) -> Self {
        Self::new(key, Status::Pending)
    }

    /// Creates the state of a task that can't be submitted.
    pub(crate) fn failed(key: Arc<str>, error: FutureError) -> Self {
        Self::new(key, Status::Failed(error))
    }

    fn new(key: Arc<str>, status: Status) -> Self {
        let record = Record {
            status,
            version: ResultVersion::new(),
            is_unavailable: false,
            is_retrying: false,
            is_partial: false,
        };
        Self { key, record: Lock::new(record), changed: Event::new() }
    }

    pub(crate) fn key(&self) -> &Arc<str> {
        &self.key
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock()
    }

    /// Applies a change, and notifies all waiters if it returns that something has changed.
    fn change(&self, change: impl FnOnce(&mut Record) -> bool) -> bool {
        let has_changed = change(&mut self.lock());
        if has_changed {
            self.changed.notify(usize::MAX);
        }
        has_changed
    }

    /// Returns whether the worker has done only a part of its batch, and says so in the result.
    pub(crate) fn is_partial(&self) -> bool {
        self.lock().is_partial
    }

    /// Records that a worker has the result.
    pub(crate) fn in_memory(&self, is_partial: bool) {
        self.change(|record| {
            if record.is_final() {
                return false;
            }
            // Also of a failed task: another client, or the scheduler itself, may have had it run again.
            record.status = Status::Finished;
            record.is_partial = is_partial;
            record.version.count += 1;
            record.is_unavailable = false;
            record.is_retrying = false;
            true
        });
    }

    /// Records that the task failed.
    pub(crate) fn erred(&self, exception: Exception) {
        self.change(|record| {
            // The scheduler sent the error before it handled the retry, which another message confirms.
            if record.is_final() || record.is_retrying {
                return false;
            }
            record.status = Status::Failed(FutureError::Erred(exception.into()));
            true
        });
    }

    /// Records that there will be no result. Returns whether that's new.
    pub(crate) fn fail(&self, error: &FutureError) -> bool {
        self.change(|record| {
            if record.is_final() {
                return false;
            }
            record.status = Status::Failed(error.clone());
            true
        })
    }

    /// Records that the result was lost with its worker. The scheduler computes it again.
    pub(crate) fn lost(&self) {
        self.change(|record| {
            // A pending task wasn't in memory as far as the waiters know: they still wait for its end.
            record.is_unavailable |= matches!(record.status, Status::Finished);
            record.version.count += 1;
            true
        });
    }

    /// Returns whether the scheduler has yet to run the task, or to run it again.
    pub(crate) fn is_open(&self) -> bool {
        let record = self.lock();
        match record.status {
            Status::Pending => true,
            Status::Finished => record.is_unavailable,
            Status::Failed(_) => false,
        }
    }

    /// Records that no holder of this version had the result. A newer version makes that irrelevant.
    pub(crate) fn mark_unavailable(&self, version: ResultVersion) {
        // No waiter is notified: they wait for the opposite.
        let mut record = self.lock();
        record.is_unavailable |= record.version == version;
    }

    /// Records that the scheduler runs the task again.
    pub(crate) fn retried(&self) {
        self.change(|record| {
            record.is_retrying = false;
            let has_erred = record.has_erred();
            if has_erred {
                record.status = Status::Pending;
            }
            has_erred
        });
    }

    /// Makes a failed task pending again. Returns whether the scheduler has to be asked to run it.
    pub(crate) fn retry(&self) -> bool {
        self.change(|record| {
            let has_erred = record.has_erred();
            if has_erred {
                record.status = Status::Pending;
                // Until `task-retried` or `key-in-memory` confirms it.
                record.is_retrying = true;
            }
            has_erred
        })
    }

    /// Returns how the task ended, if it has.
    pub(crate) fn outcome(&self) -> Option<Result<(), FutureError>> {
        self.lock().status.outcome()
    }

    /// Waits until `condition` returns a value.
    async fn wait<T>(&self, mut condition: impl FnMut(&Record) -> Option<T>) -> T {
        loop {
            if let Some(value) = condition(&self.lock()) {
                return value;
            }
            let changed = self.changed.listen();
            // It may have changed before the listener was registered.
            if let Some(value) = condition(&self.lock()) {
                return value;
            }
            changed.await;
        }
    }

    /// Waits until the task has ended. The result may still be lost afterwards.
    pub(crate) async fn ended(&self) -> Result<(), FutureError> {
        self.wait(|record| record.status.outcome()).await
    }

    /// Waits until a worker has the result, and returns the version that it has.
    pub(crate) async fn available(&self) -> Result<ResultVersion, FutureError> {
        self.wait(|record| match &record.status {
            Status::Finished if !record.is_unavailable => Some(Ok(record.version)),
            Status::Failed(error) => Some(Err(error.clone())),
            _ => None,
        })
        .await
    }

    /// Waits until the result has another version than this, or will never exist.
    pub(crate) async fn changed_since(&self, version: ResultVersion) {
        self.wait(|record| match &record.status {
            Status::Failed(_) => Some(()),
            _ => (record.version != version).then_some(()),
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    fn pending() -> FutureState {
        FutureState::pending("key".into())
    }

    fn exception(text: &str) -> Exception {
        let (class, module) = ("E".to_owned(), "m".to_owned());
        Exception { class, module, text: text.to_owned(), cause: None }
    }

    #[test]
    fn an_end_that_was_reported_is_not_revoked() {
        block_on(async {
            let future = pending();
            assert!(poll_once(future.ended()).await.is_none());
            future.in_memory(false);
            let version = future.available().await.unwrap();
            future.lost();
            assert!(future.ended().await.is_ok());
            assert!(poll_once(future.available()).await.is_none());
            future.changed_since(version).await;
            // Late news of the first version.
            future.mark_unavailable(version);
            future.in_memory(false);
            assert_eq!(future.available().await.unwrap().count, version.count + 2);
        });
    }

    #[test]
    fn failures_before_a_retry_are_ignored() {
        let future = pending();
        future.erred(exception("one"));
        assert!(future.retry());
        assert!(!future.retry());
        future.erred(exception("one"));
        assert!(future.outcome().is_none());
        future.retried();
        future.erred(exception("two"));
        assert!(matches!(future.outcome(), Some(Err(FutureError::Erred(e))) if e.text == "two"));
        assert!(future.retry());
        // Until the scheduler confirms the retry, its errors are those of the previous attempt.
        future.erred(exception("two"));
        assert!(future.outcome().is_none());
    }

    #[test]
    fn a_final_failure_stays() {
        let future = pending();
        assert!(future.fail(&FutureError::Cancelled("why".into())));
        assert!(!future.fail(&FutureError::Closed));
        future.in_memory(false);
        future.erred(exception("late"));
        future.retried();
        assert!(!future.retry());
        assert!(matches!(future.outcome(), Some(Err(FutureError::Cancelled(_)))));
    }
}
