//! How far a set of tasks is, by function.

// In arguments of `impl` types they can't be left out before they're in the language.
#![allow(single_use_lifetimes)]

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_core::{FusedStream, Stream};

use super::serial::serialize;
use crate::engine::base::lock::Lock;
use crate::engine::life::callback;
use crate::engine::task::header::TaskRef;
use crate::engine::task::waiters::Resolution;
use crate::{Handle, Key};

/// How many tasks of a function there are and how many have ended; see [`progress_counts`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counted {
    /// The function's name, or that given with [`name`](crate::Options::name).
    pub name: Arc<str>,
    /// How many tasks there are.
    pub total: usize,
    /// How many have ended, in any way.
    pub done: usize,
    /// How many of those have no value: they have failed or were cancelled.
    pub failed: usize,
}

serialize!(Counted, this:
    name = *this.name,
    total = this.total,
    done = this.done,
    failed = this.failed,
);

/// How far the tasks are, as a stream: the counts of each function, now and whenever one has ended.
///
/// It yields the counts as they are, so who is slow misses some in between, and ends after those in which all
/// tasks are done. It holds no interest in the tasks: one whose last handle is dropped is given up, and counts as
/// failed. Handles of other types are added with [`and`](ProgressCounts::and).
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
    let tally = Tally::new();
    tally.add(handles);
    ProgressCounts { tally, ended: false }
}

/// The stream of [`progress_counts`].
#[must_use = "streams do nothing unless polled"]
pub struct ProgressCounts {
    tally: Tally,
    ended: bool,
}

impl ProgressCounts {
    /// Adds further tasks.
    pub fn and<'a, T: 'static>(self, handles: impl IntoIterator<Item = &'a Handle<T>>) -> Self {
        self.tally.add(handles);
        self
    }
}

/// Counts shared with the tasks that are counted.
#[derive(Clone)]
pub(crate) struct Tally(Arc<Lock<State>>);

struct State {
    counts: Vec<Counted>,
    places: HashMap<Key, usize>,
    left: usize,
    changed: bool,
    waker: Option<Waker>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Lock::new(State {
            counts: Vec::new(),
            places: HashMap::new(),
            left: 0,
            changed: true,
            waker: None,
        })))
    }

    pub(crate) fn add<'a, T: 'static>(&self, handles: impl IntoIterator<Item = &'a Handle<T>>) {
        for handle in handles {
            let place = self.enter(handle.typed().task());
            let tally = self.clone();
            callback::add_typed(handle.typed(), move |typed| tally.ended(place, typed.task()));
        }
    }

    fn enter(&self, task: TaskRef<'_>) -> usize {
        let name = task.name();
        let state = &mut *self.0.lock();
        let next = state.counts.len();
        let place = *state.places.entry(name.clone().into()).or_insert(next);
        if place == next {
            state.counts.push(Counted { name, total: 0, done: 0, failed: 0 });
        }
        state.counts[place].total += 1;
        state.left += 1;
        state.changed = true;
        place
    }

    fn ended(&self, place: usize, task: TaskRef<'_>) {
        let waker = {
            let state = &mut *self.0.lock();
            let count = &mut state.counts[place];
            count.done += 1;
            count.failed += usize::from(task.waiters.resolution() != Resolution::Succeeded);
            state.left -= 1;
            state.changed = true;
            state.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn counts(&self) -> Vec<Counted> {
        self.0.lock().counts.clone()
    }

    #[cfg(feature = "progress")]
    pub(crate) fn is_done(&self) -> bool {
        self.0.lock().left == 0
    }

    /// The counts, once they have changed since they were last given; `None` if they can't any more.
    pub(crate) fn poll_counts(&self, poller: &mut Context<'_>) -> Poll<Option<Vec<Counted>>> {
        // Its code is foreign, and so is that of the one before.
        let waker = poller.waker().clone();
        let before = {
            let state = &mut *self.0.lock();
            if state.changed {
                state.changed = false;
                return Poll::Ready(Some(state.counts.clone()));
            }
            if state.left == 0 {
                return Poll::Ready(None);
            }
            state.waker.replace(waker)
        };
        drop(before);
        Poll::Pending
    }
}

impl Stream for ProgressCounts {
    type Item = Vec<Counted>;

    fn poll_next(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Option<Vec<Counted>>> {
        let polled = self.tally.poll_counts(poller);
        self.ended = matches!(polled, Poll::Ready(None));
        polled
    }
}

impl FusedStream for ProgressCounts {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl fmt::Debug for ProgressCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressCounts").field("counts", &self.tally.counts()).finish()
    }
}
