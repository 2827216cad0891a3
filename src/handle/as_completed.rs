//! A stream of handles in the order in which their tasks finish.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};
use slab::Slab;

use super::AsHandle;
use crate::engine::futures::completion::Completions;
use crate::task::seal::SEAL;
use crate::{Error, Handle};

/// Returns a stream of the given handles in the order in which their tasks end. More handles can be added while it
/// runs.
///
/// Accepts every iterator over handles or references to them.
///
/// ```
/// # futures_lite::future::block_on(async {
/// use ensue::{Client, as_completed};
/// use futures_lite::StreamExt;
///
/// let client = Client::new();
/// let mut running = as_completed(client.map(async |x: u64| x + 1, 0..8));
/// let mut total = None;
/// while let Some(x) = running.next().await {
///     // Add the results in pairs, until one is left.
///     total = match total.take() {
///         None => Some(x),
///         Some(y) => {
///             running.add(client.submit(async |x: u64, y: u64| x + y, (x, y)));
///             None
///         }
///     };
/// }
/// assert_eq!(total.unwrap().await?, 36);
/// # Ok::<_, ensue::Error>(()) }).unwrap();
/// ```
pub fn as_completed<I>(handles: I) -> AsCompleted<<I::Item as AsHandle>::Value>
where
    I: IntoIterator,
    I::Item: AsHandle,
{
    handles.into_iter().map(|handle| handle.into_handle(SEAL)).collect()
}

/// A stream of handles in the order in which their tasks end; made by [`as_completed`].
///
/// Handles whose tasks had ended when they were added are yielded first. A handle is yielded once for each time it
/// was added, whatever the outcome of its task. A task that was [retried](Handle::retry) after it had ended, and before its
/// handle was yielded, is waited for again, and its handle comes when it has ended anew. The stream ends when it is empty, and continues after another
/// [`add`](AsCompleted::add). Dropping it drops its handles: a task without other handles and dependents is
/// abandoned.
#[must_use = "streams do nothing unless polled"]
pub struct AsCompleted<T> {
    completions: Completions<T>,
}

impl<T: 'static> AsCompleted<T> {
    /// Makes an empty stream, to be filled with [`add`](AsCompleted::add).
    pub fn new() -> Self {
        Self { completions: Completions::new() }
    }

    /// Adds a handle, at any time, also after the stream has ended.
    pub fn add(&mut self, handle: impl AsHandle<Value = T>) {
        self.completions.add(handle.into_handle(SEAL).into_typed(), 0);
    }

    /// Returns the number of handles that have not been yielded.
    pub fn len(&self) -> usize {
        self.completions.len()
    }

    /// Returns whether all handles have been yielded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether a task has ended whose handle has not been yielded: the next one can then be yielded without waiting,
    /// unless that task was [retried](Handle::retry) since.
    pub fn has_ready(&self) -> bool {
        self.completions.has_ready()
    }

    /// Waits for at least one task to end, and returns the handles of all that have ended. Returns none if the stream
    /// is empty. Dropping the future loses no handle.
    pub async fn next_batch(&mut self) -> Vec<Handle<T>> {
        let first = poll_fn(|cx| self.poll_pop(cx)).await;
        let mut batch = Vec::from_iter(first);
        batch.append(&mut self.ready_batch());
        batch
    }

    /// Returns the handles of all tasks that have ended, possibly none. Doesn't wait.
    pub fn ready_batch(&mut self) -> Vec<Handle<T>> {
        let completions = &mut self.completions;
        std::iter::from_fn(|| completions.pop()).map(|(typed, _)| Handle::new(typed)).collect()
    }

    /// Drops all handles.
    pub fn clear(&mut self) {
        self.completions.clear();
    }

    /// Converts the stream into one that yields each handle with its result.
    ///
    /// Results on a cluster are fetched, and yielded in the order in which they arrive. Up to 64 are fetched ahead of
    /// the consumer, so a slow consumer doesn't fill the memory of this process.
    pub fn with_results(self) -> WithResults<T> {
        WithResults {
            completed: self,
            waiting: VecDeque::new(),
            fetching: Completions::new(),
            fetched: Slab::new(),
        }
    }

    fn poll_pop(&mut self, cx: &mut Context<'_>) -> Poll<Option<Handle<T>>> {
        let popped = self.completions.poll_pop(cx);
        popped.map(|popped| popped.map(|(typed, _)| Handle::new(typed)))
    }
}

impl<T: 'static> Stream for AsCompleted<T> {
    type Item = Handle<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Handle<T>>> {
        self.poll_pop(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), None)
    }
}

impl<T: 'static> FusedStream for AsCompleted<T> {
    /// Returns whether the stream has returned `None`. It continues after another [`add`](AsCompleted::add).
    fn is_terminated(&self) -> bool {
        self.completions.has_ended()
    }
}

impl<T: 'static> Default for AsCompleted<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: AsHandle> FromIterator<H> for AsCompleted<H::Value> {
    fn from_iter<I: IntoIterator<Item = H>>(handles: I) -> Self {
        let mut new = Self::new();
        new.extend(handles);
        new
    }
}

impl<T: 'static, H: AsHandle<Value = T>> Extend<H> for AsCompleted<T> {
    fn extend<I: IntoIterator<Item = H>>(&mut self, handles: I) {
        handles.into_iter().for_each(|handle| self.add(handle));
    }
}

impl<T> fmt::Debug for AsCompleted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted")
            .field("len", &self.completions.len())
            .field("has_ready", &self.completions.has_ready())
            .finish()
    }
}

/// The largest number of results that are fetched ahead of the consumer. Large results bound it from above; small
/// ones need enough of it to share one call to a worker.
const AHEAD: usize = 64;

/// A stream of handles with their results; made by [`AsCompleted::with_results`].
#[must_use = "streams do nothing unless polled"]
pub struct WithResults<T> {
    completed: AsCompleted<T>,
    /// Handles of remote tasks whose values have not been requested.
    waiting: VecDeque<Handle<T>>,
    /// The values that are being fetched. The tags are indices into `fetched`.
    fetching: Completions<T>,
    fetched: Slab<Handle<T>>,
}

impl<T: 'static> WithResults<T> {
    /// Adds a handle, as [`AsCompleted::add`] does.
    pub fn add(&mut self, handle: impl AsHandle<Value = T>) {
        self.completed.add(handle);
    }

    /// Returns the number of results that have not been yielded.
    pub fn len(&self) -> usize {
        self.completed.len() + self.waiting.len() + self.fetching.len()
    }

    /// Returns whether all results have been yielded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Starts fetches, up to `AHEAD` at a time.
    fn fetch(&mut self) {
        while self.fetching.len() < AHEAD {
            let Some(handle) = self.waiting.pop_front() else { return };
            let fetch = handle.typed().clone().value_task();
            let at = self.fetched.insert(handle);
            self.fetching.add(fetch, at);
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Stream for WithResults<T> {
    type Item = (Handle<T>, Result<T, Error>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let fetched = match self.fetching.len() {
                0 => Poll::Ready(None),
                _ => self.fetching.poll_pop(cx),
            };
            if let Poll::Ready(Some((typed, at))) = fetched {
                let Some(result) = typed.try_take_or_clone() else {
                    // The fetch failed and the task was retried meanwhile: fetch again.
                    self.fetching.add(typed, at);
                    continue;
                };
                let handle = self.fetched.remove(at);
                self.fetch();
                match result {
                    Err(_) if !handle.is_finished() => self.add(handle),
                    result => return Poll::Ready(Some((handle, result))),
                }
                continue;
            }
            if self.completed.is_empty() && !self.is_empty() {
                return Poll::Pending;
            }
            match std::task::ready!(self.completed.poll_pop(cx)) {
                None => return Poll::Ready(None),
                Some(handle) => match handle.try_get() {
                    Some(result) => return Poll::Ready(Some((handle, result))),
                    None if handle.typed().is_remote() => {
                        self.waiting.push_back(handle);
                        self.fetch();
                    }
                    // The task was retried meanwhile.
                    None => self.add(handle),
                },
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), None)
    }
}

impl<T: Clone + Send + Sync + 'static> FusedStream for WithResults<T> {
    /// Returns whether the stream has returned `None`. It continues after another [`add`](WithResults::add).
    fn is_terminated(&self) -> bool {
        self.is_empty() && self.completed.is_terminated()
    }
}

impl<T> fmt::Debug for WithResults<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WithResults").field(&self.completed).finish()
    }
}
