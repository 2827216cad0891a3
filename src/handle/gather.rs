//! The results of many tasks, in the order of their handles.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::FusedFuture;

use super::{AsHandle, assert_unresolved};
use crate::Error;
use crate::engine::futures::completion::Completions;
use crate::engine::task::typed::Typed;
use crate::task::seal::SEAL;

/// Waits for all tasks, and returns their values in the order of the handles, or the first error that occurs.
///
/// It fails as soon as one task does, and drops its handles: of the other tasks, those without other handles and
/// dependents are abandoned. Accepts every iterator over handles or references to them. If it owns the handles, it
/// moves values out that no other handle or task needs, and clones the others.
///
/// ```
/// # futures_lite::future::block_on(async {
/// use ensue::{Client, gather};
///
/// let client = Client::new();
/// let squares = client.map(async |x: u64| x * x, 0..5);
/// assert_eq!(gather(squares).await?, [0, 1, 4, 9, 16]);
/// # Ok::<_, ensue::Error>(()) }).unwrap();
/// ```
pub fn gather<I>(handles: I) -> Gather<<I::Item as AsHandle>::Value>
where
    I: IntoIterator,
    I::Item: AsHandle,
{
    Gather(Settling::new(handles, true))
}

/// Waits for all tasks, whatever their outcome, and returns their results in the order of the handles.
///
/// ```
/// # futures_lite::future::block_on(async {
/// use ensue::{Client, gather_settled};
///
/// let client = Client::new();
/// let numbers = client.try_map(async |text: &str| text.parse::<u8>(), ["1", "x"]);
/// let results = gather_settled(&numbers).await;
/// assert!(results[0].is_ok() && results[1].is_err());
/// # });
/// ```
pub fn gather_settled<I>(handles: I) -> GatherSettled<<I::Item as AsHandle>::Value>
where
    I: IntoIterator,
    I::Item: AsHandle,
{
    GatherSettled(Settling::new(handles, false))
}

/// The future of [`gather`]. Polling it after it has resolved panics.
#[must_use = "futures do nothing unless awaited"]
pub struct Gather<T>(Settling<T>);

/// The future of [`gather_settled`]. Polling it after it has resolved panics.
#[must_use = "futures do nothing unless awaited"]
pub struct GatherSettled<T>(Settling<T>);

/// Tasks that are being waited for, with the outcomes of those that have ended.
struct Settling<T> {
    completions: Completions<T>,
    slots: Vec<Slot<T>>,
    /// Whether the first failure ends it.
    fails_fast: bool,
    done: bool,
}

enum Slot<T> {
    /// The task has not ended.
    Empty,
    Ended(Typed<T>),
    /// The error has not been returned, so it doesn't count as observed yet.
    Failed(Typed<T>, Error),
}

enum Next {
    /// The task of this slot has failed.
    Failed(usize),
    /// All tasks have ended.
    All,
    /// Waiting closes a cycle.
    Cycle(Error),
}

impl<T: 'static> Settling<T> {
    fn new<I>(handles: I, fails_fast: bool) -> Self
    where
        I: IntoIterator,
        I::Item: AsHandle<Value = T>,
    {
        let mut completions = Completions::new();
        let mut slots = Vec::new();
        for handle in handles {
            let typed = handle.into_handle(SEAL).into_typed().value_task();
            slots.push(if typed.has_succeeded() {
                completions.note_engine(typed.task());
                Slot::Ended(typed)
            } else {
                completions.add(typed, slots.len());
                Slot::Empty
            });
        }
        Self { completions, slots, fails_fast, done: false }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        assert_unresolved(self.done);
        loop {
            match self.completions.poll_pop(cx) {
                Poll::Ready(Some((typed, at))) => {
                    if typed.has_succeeded() {
                        self.slots[at] = Slot::Ended(typed);
                    } else if let Some(error) = typed.unseen_error() {
                        self.slots[at] = Slot::Failed(typed, error);
                        return Poll::Ready(Next::Failed(at));
                    } else {
                        // The task had failed, and was retried meanwhile.
                        self.completions.add(typed, at);
                    }
                }
                Poll::Ready(None) => return Poll::Ready(Next::All),
                // It has given way: it doesn't wait.
                Poll::Pending if self.completions.has_ready() => return Poll::Pending,
                Poll::Pending => {
                    let error = self.completions.await_all(cx.waker(), self.fails_fast);
                    return error.map_or(Poll::Pending, |error| Poll::Ready(Next::Cycle(error)));
                }
            }
        }
    }

    /// Stops waiting, and returns the slots.
    fn finish(&mut self) -> Vec<Slot<T>> {
        self.done = true;
        self.completions.clear();
        mem::take(&mut self.slots)
    }
}

impl<T: Clone + Send + Sync + 'static> Slot<T> {
    /// Returns the result of the task. Its error counts as observed.
    fn outcome(self) -> Option<Result<T, Error>> {
        match self {
            Self::Empty => None,
            Self::Ended(typed) => Some(typed.take_or_clone()),
            Self::Failed(typed, error) => {
                typed.set_seen();
                Some(Err(error))
            }
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Future for Gather<T> {
    type Output = Result<Vec<T>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut self.0;
        let next = std::task::ready!(this.poll_next(cx));
        let mut slots = this.finish();
        Poll::Ready(match next {
            Next::All => slots.into_iter().filter_map(Slot::outcome).collect(),
            Next::Failed(at) => slots.swap_remove(at).outcome().into_iter().collect(),
            Next::Cycle(error) => Err(error),
        })
    }
}

impl<T: Clone + Send + Sync + 'static> Future for GatherSettled<T> {
    type Output = Vec<Result<T, Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut self.0;
        loop {
            match std::task::ready!(this.poll_next(cx)) {
                Next::Failed(_) => {}
                Next::All => {
                    return Poll::Ready(
                        this.finish().into_iter().filter_map(Slot::outcome).collect(),
                    );
                }
                Next::Cycle(error) => return Poll::Ready(vec![Err(error); this.finish().len()]),
            }
        }
    }
}

impl<T: Clone + Send + Sync + 'static> FusedFuture for Gather<T> {
    fn is_terminated(&self) -> bool {
        self.0.done
    }
}

impl<T: Clone + Send + Sync + 'static> FusedFuture for GatherSettled<T> {
    fn is_terminated(&self) -> bool {
        self.0.done
    }
}

impl<T> fmt::Debug for Gather<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather").field("pending", &self.0.completions.len()).finish()
    }
}

impl<T> fmt::Debug for GatherSettled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatherSettled").field("pending", &self.0.completions.len()).finish()
    }
}
