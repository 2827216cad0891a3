//! A stream of handles in the order in which their tasks finish.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};
use slab::Slab;

use super::tags::{AsEntry, Tags, Untagged};
use crate::engine::futures::completion::Completions;
use crate::task::seal::SEAL;
use crate::{Awaitable, Error, Handle};

/// Returns a stream of the given handles in the order in which their tasks end. More handles can be added while it
/// runs.
///
/// Accepts every iterator over handles or references to them, or over pairs of a tag and a handle. A tag is any value,
/// such as the input that the task was made of; it comes out with its handle.
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
///
/// With tags, as of a map from names to handles:
///
/// ```
/// # futures_lite::future::block_on(async {
/// use ensue::{Client, as_completed};
/// use futures_lite::StreamExt;
///
/// let client = Client::new();
/// let texts = ["1", "x", "3"];
/// let numbers = client.try_map(async |text: &str| text.parse::<u8>(), texts);
/// let mut running = as_completed(texts.into_iter().zip(numbers)).with_results();
/// while let Some(((text, _), result)) = running.next().await {
///     assert_eq!(result.is_err(), text == "x");
/// }
/// # });
/// ```
pub fn as_completed<I>(
    handles: I,
) -> AsCompleted<<I::Item as AsEntry>::Value, <I::Item as AsEntry>::Tags>
where
    I: IntoIterator,
    I::Item: AsEntry,
{
    handles.into_iter().collect()
}

/// A stream of handles in the order in which their tasks end; made by [`as_completed`].
///
/// Handles whose tasks had ended when they were added are yielded first. A handle is yielded once for each time it
/// was added, whatever the outcome of its task. A task that was [retried](Handle::retry) after it had ended, and before its
/// handle was yielded, is waited for again, and its handle comes when it has ended anew. The stream ends when it is empty, and continues after another
/// [`add`](AsCompleted::add). Dropping it drops its handles: a task without other handles and dependents is
/// abandoned.
///
/// An `AsCompleted<T>` yields a `Handle<T>` for each that was added. An `AsCompleted<T, Tagged<K>>` is given pairs of a tag and a
/// handle, and yields them.
#[must_use = "streams do nothing unless polled"]
pub struct AsCompleted<T, G: Tags = Untagged> {
    completions: Completions<T>,
    tags: G,
}

// A tag is never pinned.
impl<T, G: Tags> Unpin for AsCompleted<T, G> {}

impl<T: 'static> AsCompleted<T> {
    /// Makes an empty stream, to be filled with [`add`](AsCompleted::add). One with tags is made by
    /// [`default`](Default::default).
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use ensue::{AsCompleted, Client, Tagged};
    /// use futures_lite::StreamExt;
    ///
    /// let client = Client::new();
    /// let mut running = AsCompleted::<u64, Tagged<&str>>::default();
    /// running.add(("answer", client.submit(async || 42, ())));
    /// let (tag, handle) = running.next().await.unwrap();
    /// assert_eq!((tag, handle.await?), ("answer", 42));
    /// # Ok::<_, ensue::Error>(()) }).unwrap();
    /// ```
    pub fn new() -> Self {
        Self::default()
    }
}

impl<T: 'static, G: Tags> AsCompleted<T, G> {
    /// Adds a handle, or a pair of a tag and a handle, at any time, also after the stream has ended.
    pub fn add(&mut self, entry: impl AsEntry<Value = T, Tags = G>) {
        let (handle, tag) = entry.into_entry(SEAL);
        self.add_parts(handle, tag);
    }

    fn add_parts(&mut self, handle: Handle<T>, tag: G::Tag) {
        let at = self.tags.insert(tag, SEAL);
        self.completions.add(handle.into_typed(), at);
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
    pub async fn next_batch(&mut self) -> Vec<G::Entry<T>> {
        let first = poll_fn(|cx| self.poll_pop(cx)).await;
        let mut batch = Vec::from_iter(first.map(Self::entry));
        batch.append(&mut self.ready_batch());
        batch
    }

    /// Returns the handles of all tasks that have ended, possibly none, which the stream then has no more. Doesn't wait.
    #[must_use = "the stream has these handles no more"]
    pub fn ready_batch(&mut self) -> Vec<G::Entry<T>> {
        let Self { completions, tags } = self;
        let parts = |(typed, at)| (Handle::new(typed), tags.remove(at, SEAL));
        std::iter::from_fn(|| completions.pop()).map(parts).map(Self::entry).collect()
    }

    /// Drops all handles.
    pub fn clear(&mut self) {
        // The tags' destructors are user code: whatever they do, the handles are gone then.
        let tags = mem::take(&mut self.tags);
        self.completions.clear();
        drop(tags);
    }

    /// Converts the stream into one that yields each handle, or each pair of a tag and a handle, with its result.
    ///
    /// Results on a cluster are fetched, and yielded in the order in which they arrive. Up to 64 are fetched ahead of
    /// the consumer, so a slow consumer doesn't fill the memory of this process.
    pub fn with_results(self) -> WithResults<T, G> {
        WithResults {
            completed: self,
            waiting: VecDeque::new(),
            fetching: Completions::new(),
            fetched: Slab::new(),
        }
    }

    fn poll_pop(&mut self, cx: &mut Context<'_>) -> Poll<Option<Parts<T, G>>> {
        let popped = self.completions.poll_pop(cx);
        popped.map(|popped| {
            popped.map(|(typed, at)| (Handle::new(typed), self.tags.remove(at, SEAL)))
        })
    }

    /// Makes of a handle and its tag what is yielded.
    fn entry((handle, tag): Parts<T, G>) -> G::Entry<T> {
        G::entry(tag, handle, SEAL)
    }
}

/// A handle and its tag.
type Parts<T, G> = (Handle<T>, <G as Tags>::Tag);

impl<T: 'static, G: Tags> Stream for AsCompleted<T, G> {
    type Item = G::Entry<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_pop(cx).map(|popped| popped.map(Self::entry))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), None)
    }
}

impl<T: 'static, G: Tags> FusedStream for AsCompleted<T, G> {
    /// Returns whether the stream has returned `None`. It continues after another [`add`](AsCompleted::add).
    fn is_terminated(&self) -> bool {
        self.completions.has_ended()
    }
}

impl<T: 'static, G: Tags> Default for AsCompleted<T, G> {
    fn default() -> Self {
        Self { completions: Completions::new(), tags: G::default() }
    }
}

impl<E: AsEntry> FromIterator<E> for AsCompleted<E::Value, E::Tags> {
    fn from_iter<I: IntoIterator<Item = E>>(entries: I) -> Self {
        let mut new = Self::default();
        new.extend(entries);
        new
    }
}

impl<T, G, E> Extend<E> for AsCompleted<T, G>
where
    T: 'static,
    G: Tags,
    E: AsEntry<Value = T, Tags = G>,
{
    fn extend<I: IntoIterator<Item = E>>(&mut self, entries: I) {
        entries.into_iter().for_each(|entry| self.add(entry));
    }
}

impl<T, G: Tags> fmt::Debug for AsCompleted<T, G> {
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

/// A stream of handles, or of pairs of a tag and a handle, with their results; made by [`AsCompleted::with_results`].
#[must_use = "streams do nothing unless polled"]
pub struct WithResults<T, G: Tags = Untagged> {
    completed: AsCompleted<T, G>,
    /// Handles of remote tasks whose values have not been requested.
    waiting: VecDeque<Parts<T, G>>,
    /// The values that are being fetched. The tags are indices into `fetched`.
    fetching: Completions<T>,
    fetched: Slab<Parts<T, G>>,
}

// A tag is never pinned.
impl<T, G: Tags> Unpin for WithResults<T, G> {}

impl<T: 'static, G: Tags> WithResults<T, G> {
    /// Adds a handle, or a pair of a tag and a handle, as [`AsCompleted::add`] does.
    pub fn add(&mut self, entry: impl AsEntry<Value = T, Tags = G>) {
        self.completed.add(entry);
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
            let Some(parts) = self.waiting.pop_front() else { return };
            let fetch = parts.0.typed().clone().value_task();
            let at = self.fetched.insert(parts);
            self.fetching.add(fetch, at);
        }
    }
}

impl<T: Awaitable, G: Tags> Stream for WithResults<T, G> {
    type Item = (G::Entry<T>, Result<T, Error>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let yielded = |(handle, tag), result| {
            Poll::Ready(Some((AsCompleted::<T, G>::entry((handle, tag)), result)))
        };
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
                let (handle, tag) = self.fetched.remove(at);
                self.fetch();
                match result {
                    Err(_) if !handle.is_finished() => self.completed.add_parts(handle, tag),
                    result => return yielded((handle, tag), result),
                }
                continue;
            }
            if self.completed.is_empty() && !self.is_empty() {
                return Poll::Pending;
            }
            match std::task::ready!(self.completed.poll_pop(cx)) {
                None => return Poll::Ready(None),
                Some((handle, tag)) => match handle.try_get() {
                    Some(result) => return yielded((handle, tag), result),
                    None if handle.typed().is_remote() => {
                        self.waiting.push_back((handle, tag));
                        self.fetch();
                    }
                    // The task was retried meanwhile.
                    None => self.completed.add_parts(handle, tag),
                },
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), None)
    }
}

impl<T: Awaitable, G: Tags> FusedStream for WithResults<T, G> {
    /// Returns whether the stream has returned `None`. It continues after another [`add`](WithResults::add).
    fn is_terminated(&self) -> bool {
        self.is_empty() && self.completed.is_terminated()
    }
}

impl<T, G: Tags> fmt::Debug for WithResults<T, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WithResults").field(&self.completed).finish()
    }
}
