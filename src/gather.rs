//! All results, in the order of their handles.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::FusedFuture;

use crate::Error;
use crate::engine::sink::Sink;
use crate::engine::typed::Typed;
use crate::handle::AsHandle;

/// All values, in the order of the handles, or the first error to happen.
///
/// It fails as soon as one task does and leaves the others to their other handles. Takes anything that
/// iterates over handles or references to them; given handles by value, it moves the values out where
/// nobody else needs them.
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
    Gather(Settling::new(handles))
}

/// What became of each task, in the order of the handles.
///
/// It waits for all of them, whatever their outcome.
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
    GatherSettled(Settling::new(handles))
}

/// The future of [`gather`].
#[must_use = "futures do nothing unless awaited"]
pub struct Gather<T>(Settling<T, T>);

/// The future of [`gather_settled`].
#[must_use = "futures do nothing unless awaited"]
pub struct GatherSettled<T>(Settling<T, Result<T, Error>>);

/// Tasks that are settling, one after the other, with what is made of each.
struct Settling<T, V> {
    /// Those that had no value at first.
    sink: Sink<T>,
    slots: Vec<Slot<T, V>>,
    /// Those whose errors are in the slots, for somebody to see in the end.
    failed: Vec<Typed<T>>,
    /// The slots before this one need no second look.
    looked_at: usize,
    done: bool,
}

// Nothing in it is ever pinned.
impl<T, V> Unpin for Settling<T, V> {}

enum Slot<T, V> {
    /// Its task is in the sink.
    Empty,
    /// Its task had a value when it came.
    Ended(Typed<T>),
    Filled(V),
}

enum Next<T> {
    /// This one has ended, with a value that stays or with an error.
    One(Result<Typed<T>, Error>, usize),
    /// All have.
    All,
    /// Waiting would close a ring.
    Ring(Error),
}

impl<T: 'static, V> Settling<T, V> {
    fn new<I>(handles: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsHandle<Value = T>,
    {
        let mut sink = Sink::new();
        let mut slots = Vec::new();
        for handle in handles {
            let typed = handle.into_handle().into_typed();
            slots.push(if typed.has_succeeded() {
                Slot::Ended(typed)
            } else {
                sink.add(typed, slots.len());
                Slot::Empty
            });
        }
        Self { sink, slots, failed: Vec::new(), looked_at: 0, done: false }
    }

    fn poll_next(&mut self, poller: &mut Context<'_>) -> Poll<Next<T>> {
        while let Some(slot) = self.slots.get_mut(self.looked_at) {
            self.looked_at += 1;
            match mem::replace(slot, Slot::Empty) {
                Slot::Ended(typed) => return Poll::Ready(Next::One(Ok(typed), self.looked_at - 1)),
                other => *slot = other,
            }
        }
        match self.sink.poll_pop(poller) {
            Poll::Ready(Some((typed, at))) => {
                if typed.has_succeeded() {
                    return Poll::Ready(Next::One(Ok(typed), at));
                }
                if let Some(error) = typed.unseen_error() {
                    self.failed.push(typed);
                    return Poll::Ready(Next::One(Err(error), at));
                }
                // It had failed, and was retried meanwhile.
                self.sink.add(typed, at);
                self.poll_next(poller)
            }
            Poll::Ready(None) => Poll::Ready(Next::All),
            Poll::Pending => match self.sink.await_all() {
                Some(error) => Poll::Ready(Next::Ring(error)),
                None => Poll::Pending,
            },
        }
    }

    fn fill(&mut self, at: usize, value: V) {
        self.slots[at] = Slot::Filled(value);
    }

    fn finish(&mut self) -> impl Iterator<Item = V> {
        self.done = true;
        self.sink.clear();
        self.failed
            .drain(..)
            .filter(|typed| !typed.has_succeeded())
            .for_each(|typed| typed.set_seen());
        mem::take(&mut self.slots).into_iter().filter_map(|slot| match slot {
            Slot::Filled(value) => Some(value),
            _ => None,
        })
    }
}

impl<T: Clone + Send + Sync + 'static> Future for Gather<T> {
    type Output = Result<Vec<T>, Error>;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut self.0;
        loop {
            let error = match std::task::ready!(this.poll_next(poller)) {
                Next::One(ended, at) => match ended.and_then(Typed::take_or_clone) {
                    Ok(value) => {
                        this.fill(at, value);
                        continue;
                    }
                    Err(error) => error,
                },
                Next::All => return Poll::Ready(Ok(this.finish().collect())),
                Next::Ring(error) => {
                    this.failed.clear();
                    error
                }
            };
            drop(this.finish());
            return Poll::Ready(Err(error));
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Future for GatherSettled<T> {
    type Output = Vec<Result<T, Error>>;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut self.0;
        loop {
            match std::task::ready!(this.poll_next(poller)) {
                Next::One(ended, at) => this.fill(at, ended.and_then(Typed::take_or_clone)),
                Next::All => return Poll::Ready(this.finish().collect()),
                Next::Ring(error) => {
                    let count = this.slots.len();
                    this.failed.clear();
                    drop(this.finish());
                    return Poll::Ready(vec![Err(error); count]);
                }
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
        f.debug_struct("Gather").field("pending", &self.0.sink.len()).finish()
    }
}

impl<T> fmt::Debug for GatherSettled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatherSettled").field("pending", &self.0.sink.len()).finish()
    }
}
