//! Handles in the order in which their tasks finish.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};
use slab::Slab;

use super::AsHandle;
use crate::engine::sink::Sink;
use crate::{Error, Handle};

/// The given handles in the order in which their tasks finish, as a stream to which more can be added
/// while it runs.
///
/// Takes anything that iterates over handles or references to them.
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
///     // Add what has arrived in pairs, until one is left.
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
    handles.into_iter().map(AsHandle::into_handle).collect()
}

/// A stream of handles in the order in which their tasks finish; made by [`as_completed`].
///
/// Those that had finished when they were added come first. Each added handle comes out once for each
/// time it was added, whatever became of its task. The stream ends when it's empty, and goes on after
/// another [`add`](AsCompleted::add). Dropping it leaves the tasks to their other handles.
#[must_use = "streams do nothing unless polled"]
pub struct AsCompleted<T> {
    sink: Sink<T>,
}

impl<T: 'static> AsCompleted<T> {
    /// An empty one, to be filled with [`add`](AsCompleted::add).
    pub fn new() -> Self {
        Self { sink: Sink::new() }
    }

    /// Adds a handle. Works at any time, also after the stream has ended.
    pub fn add(&mut self, handle: impl AsHandle<Value = T>) {
        self.sink.add(handle.into_handle().into_typed(), 0);
    }

    /// How many handles are still to come out.
    pub fn len(&self) -> usize {
        self.sink.len()
    }

    /// Whether none is left to come out.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the next one can be had without waiting.
    pub fn has_ready(&self) -> bool {
        self.sink.has_ready()
    }

    /// All that have finished by now, waiting for at least one; none if none is left.
    pub async fn next_batch(&mut self) -> Vec<Handle<T>> {
        let first = poll_fn(|poller| self.poll_pop(poller)).await;
        let mut batch = Vec::from_iter(first);
        batch.append(&mut self.ready_batch());
        batch
    }

    /// All that have finished by now, which may be none.
    pub fn ready_batch(&mut self) -> Vec<Handle<T>> {
        let sink = &mut self.sink;
        std::iter::from_fn(|| sink.pop()).map(|(typed, _)| Handle::new(typed)).collect()
    }

    /// Forgets all handles.
    pub fn clear(&mut self) {
        self.sink.clear();
    }

    /// The same stream with each handle's result beside it.
    ///
    /// Results that are on a cluster are brought here, in the order in which they come: some ahead, and more as they're
    /// taken, so that they don't fill the memory of who takes them slowly.
    pub fn with_results(self) -> WithResults<T> {
        WithResults {
            completed: self,
            waiting: VecDeque::new(),
            bringing: Sink::new(),
            brought: Slab::new(),
        }
    }

    fn poll_pop(&mut self, poller: &mut Context<'_>) -> Poll<Option<Handle<T>>> {
        let popped = self.sink.poll_pop(poller);
        popped.map(|popped| popped.map(|(typed, _)| Handle::new(typed)))
    }
}

impl<T: 'static> Stream for AsCompleted<T> {
    type Item = Handle<T>;

    fn poll_next(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Option<Handle<T>>> {
        self.poll_pop(poller)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), None)
    }
}

impl<T: 'static> FusedStream for AsCompleted<T> {
    /// Empty for now: it goes on after another `add`.
    fn is_terminated(&self) -> bool {
        self.is_empty()
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
            .field("len", &self.sink.len())
            .field("has_ready", &self.sink.has_ready())
            .finish()
    }
}

/// How many results are on their way here or wait to be taken. They may be large; and if they're small, as many as
/// this share a call for which they'd wait otherwise.
const AHEAD: usize = 64;

/// A stream of handles with their results; made by [`AsCompleted::with_results`].
#[must_use = "streams do nothing unless polled"]
pub struct WithResults<T> {
    completed: AsCompleted<T>,
    /// Those whose values are elsewhere, until they're brought.
    waiting: VecDeque<Handle<T>>,
    /// Those whose values are elsewhere, on their way here: the tags are places in the next.
    bringing: Sink<T>,
    brought: Slab<Handle<T>>,
}

impl<T: 'static> WithResults<T> {
    /// Adds a handle, as [`AsCompleted::add`] does.
    pub fn add(&mut self, handle: impl AsHandle<Value = T>) {
        self.completed.add(handle);
    }

    /// How many are still to come out.
    pub fn len(&self) -> usize {
        self.completed.len() + self.waiting.len() + self.bringing.len()
    }

    /// Whether none is left to come out.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Has as many brought as may be.
    fn bring(&mut self) {
        while self.bringing.len() < AHEAD {
            let Some(handle) = self.waiting.pop_front() else { return };
            let bringer = handle.typed().clone().here();
            let at = self.brought.insert(handle);
            self.bringing.add(bringer, at);
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Stream for WithResults<T> {
    type Item = (Handle<T>, Result<T, Error>);

    fn poll_next(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Poll::Ready(Some((typed, at))) = self.bringing.poll_pop(poller) {
                let Some(result) = typed.try_take_or_clone() else {
                    // It had failed, and is brought once more.
                    self.bringing.add(typed, at);
                    continue;
                };
                let handle = self.brought.remove(at);
                self.bring();
                match result {
                    Err(_) if !handle.is_finished() => self.add(handle),
                    result => return Poll::Ready(Some((handle, result))),
                }
                continue;
            }
            match std::task::ready!(self.completed.poll_pop(poller)) {
                None if self.is_empty() => return Poll::Ready(None),
                None => return Poll::Pending,
                Some(handle) => match handle.try_get() {
                    Some(result) => return Poll::Ready(Some((handle, result))),
                    None if handle.typed().is_elsewhere() => {
                        self.waiting.push_back(handle);
                        self.bring();
                    }
                    // It was retried meanwhile.
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
    fn is_terminated(&self) -> bool {
        self.is_empty()
    }
}

impl<T> fmt::Debug for WithResults<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WithResults").field(&self.completed).finish()
    }
}
