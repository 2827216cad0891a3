//! Progress of a set of tasks, counted by function.

// Anonymous lifetimes in `impl` arguments aren't stable.
#![allow(single_use_lifetimes)]

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_core::{FusedStream, Stream};

use super::serial::serialize;
use crate::engine::base::lock::Lock;
use crate::engine::base::user_code::{drop_user_value, wake};
use crate::engine::core::budget;
use crate::engine::life::callback;
use crate::engine::task::header::TaskRef;
use crate::engine::task::waiters::Resolution;
use crate::{Handle, Key};

/// The progress of the tasks of one function; see [`progress_counts`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionProgress {
    /// The function's name, or that given with [`name`](crate::Options::name).
    pub name: Arc<str>,
    /// The number of tasks that were added.
    pub total: usize,
    /// The number of those that have ended, in any way.
    pub done: usize,
    /// The number of those that have ended without a value: they have failed or were cancelled.
    pub failed: usize,
}

serialize!(FunctionProgress, this:
    name = *this.name,
    total = this.total,
    done = this.done,
    failed = this.failed,
);

/// Returns a stream of the progress of the tasks, counted by function.
///
/// Its first item is the state of now, with the functions in the order of their first handles. A further item follows
/// whenever tasks have ended. Each item is complete, so a slow reader misses intermediate counts only. The stream ends
/// after the item in which all tasks are done.
///
/// The stream doesn't keep the tasks alive: one whose last handle is dropped is cancelled, and counts as failed.
/// Dropping the stream leaves the tasks alone, and awaiting it doesn't lend them the priority of the awaiting task: to watch
/// tasks doesn't change how they run. Handles of another type are added with [`and`](ProgressCounts::and). The
/// client needn't [observe](crate::Client::observe).
///
/// ```
/// # futures_lite::future::block_on(async {
/// use ensue::{Client, progress_counts};
/// use futures_lite::StreamExt;
///
/// async fn inc(x: u64) -> u64 { x + 1 }
///
/// let client = Client::new();
/// let handles = client.map(inc, 0..3);
/// let last = progress_counts(&handles).last().await.unwrap();
/// assert_eq!((&*last[0].name, last[0].total, last[0].done, last[0].failed), ("inc", 3, 3, 0));
/// # });
/// ```
pub fn progress_counts<'a, T: 'static>(
    handles: impl IntoIterator<Item = &'a Handle<T>>,
) -> ProgressCounts {
    let tracker = ProgressTracker::new();
    tracker.add(handles);
    ProgressCounts { tracker, ended: false, gave_way: false }
}

/// A stream of progress counts; made by [`progress_counts`].
#[must_use = "streams do nothing unless polled"]
pub struct ProgressCounts {
    tracker: ProgressTracker,
    ended: bool,
    /// Has given way before its next result; see [`budget`].
    gave_way: bool,
}

impl ProgressCounts {
    /// Adds further tasks, of this type or another, and returns the stream. May be called at any time before the end.
    pub fn and<'a, T: 'static>(self, handles: impl IntoIterator<Item = &'a Handle<T>>) -> Self {
        self.tracker.add(handles);
        self
    }
}

/// Counts that are shared with callbacks on the tasks.
#[derive(Clone)]
pub(crate) struct ProgressTracker(Arc<Lock<TrackerState>>);

struct TrackerState {
    counts: Vec<FunctionProgress>,
    /// The index in `counts` by the name of the function.
    indexes: HashMap<Key, usize>,
    /// The number of tasks that have not ended.
    left: usize,
    /// The counts have changed since they were returned last.
    changed: bool,
    waker: Option<Waker>,
}

impl ProgressTracker {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Lock::new(TrackerState {
            counts: Vec::new(),
            indexes: HashMap::new(),
            left: 0,
            changed: true,
            waker: None,
        })))
    }

    pub(crate) fn add<'a, T: 'static>(&self, handles: impl IntoIterator<Item = &'a Handle<T>>) {
        for handle in handles {
            let index = self.enter(handle.typed().task());
            let tracker = self.clone();
            // Runs at once for a task that has ended, so the task has to be counted before.
            callback::add_typed(handle.typed(), move |typed| tracker.ended(index, typed.task()));
        }
    }

    /// Adds a task to the counts of its function, and returns the index of these.
    fn enter(&self, task: TaskRef<'_>) -> usize {
        let name = task.name();
        let state = &mut *self.0.lock();
        let next = state.counts.len();
        let index = *state.indexes.entry(name.clone().into()).or_insert(next);
        if index == next {
            state.counts.push(FunctionProgress { name, total: 0, done: 0, failed: 0 });
        }
        state.counts[index].total += 1;
        state.left += 1;
        state.changed = true;
        index
    }

    fn ended(&self, index: usize, task: TaskRef<'_>) {
        let waker = {
            let state = &mut *self.0.lock();
            let count = &mut state.counts[index];
            count.done += 1;
            count.failed += usize::from(task.waiters.resolution() != Resolution::Succeeded);
            state.left -= 1;
            state.changed = true;
            state.waker.take()
        };
        // User code, so not under the lock.
        waker.into_iter().for_each(wake);
    }

    pub(crate) fn counts(&self) -> Vec<FunctionProgress> {
        self.0.lock().counts.clone()
    }

    #[cfg(feature = "progress")]
    pub(crate) fn is_done(&self) -> bool {
        self.0.lock().left == 0
    }

    /// Whether `poll_counts` would return at once.
    fn has_news(&self) -> bool {
        let state = self.0.lock();
        state.changed || state.left == 0
    }

    /// Drops the last caller's waker. The callbacks on the tasks keep the tracker itself until the tasks end.
    pub(crate) fn forget_waker(&self) {
        let waker = self.0.lock().waker.take();
        drop_user_value(waker);
    }

    /// Returns the counts once they have changed since the last call, or `None` when all tasks are done and their last
    /// counts were returned. Wakes the last caller only.
    pub(crate) fn poll_counts(&self, cx: &mut Context<'_>) -> Poll<Option<Vec<FunctionProgress>>> {
        // Cloning it, and dropping the one before, are user code: not under the lock.
        let waker = cx.waker().clone();
        let (polled, unused) = {
            let state = &mut *self.0.lock();
            if state.changed {
                state.changed = false;
                (Poll::Ready(Some(state.counts.clone())), Some(waker))
            } else if state.left == 0 {
                (Poll::Ready(None), Some(waker))
            } else {
                (Poll::Pending, state.waker.replace(waker))
            }
        };
        drop_user_value(unused);
        polled
    }
}

impl Stream for ProgressCounts {
    type Item = Vec<FunctionProgress>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Vec<FunctionProgress>>> {
        if self.tracker.has_news()
            && !budget::take_or_give_way(&mut self.gave_way, cx.waker(), false)
        {
            return Poll::Pending;
        }
        let polled = self.tracker.poll_counts(cx);
        self.ended = matches!(polled, Poll::Ready(None));
        polled
    }
}

impl Drop for ProgressCounts {
    fn drop(&mut self) {
        self.tracker.forget_waker();
    }
}

impl FusedStream for ProgressCounts {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl fmt::Debug for ProgressCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressCounts").field("counts", &self.tracker.counts()).finish()
    }
}
