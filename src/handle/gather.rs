//! The results of many tasks, in the order of their handles.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use futures_core::FusedFuture;

use super::{AsHandle, Awaitable, assert_unresolved};
use crate::engine::futures::completion::Completions;
use crate::engine::task::typed::{Erased, Typed};
use crate::task::seal::{SEAL, Seal};
use crate::{Error, Handle};

/// Waits for all tasks, and returns their values in the order of the handles, or the first error that occurs.
///
/// Accepts every iterator over handles or references to them, and returns a vector; or a tuple of 1 to 12 handles or references,
/// whose values may have different types, and returns a tuple.
///
/// It fails as soon as one task does, and drops its handles: of the other tasks, those without other handles and
/// dependents are abandoned. If it owns the handles, it
/// moves values out that no other handle or task needs, and clones the others.
///
/// ```
/// # futures_lite::future::block_on(async {
/// use ensue::{Client, gather};
///
/// let client = Client::new();
/// let squares = client.map(async |x: u64| x * x, 0..5);
/// assert_eq!(gather(squares).await?, [0, 1, 4, 9, 16]);
///
/// let name = client.submit(async || "Ada".to_owned(), ());
/// let age = client.submit(async || 36, ());
/// assert_eq!(gather((name, &age)).await?, ("Ada".to_owned(), 36));
/// # Ok::<_, ensue::Error>(()) }).unwrap();
/// ```
pub fn gather<H: Gatherable<M>, M>(handles: H) -> H::Gather {
    handles.into_gather(SEAL)
}

/// Waits for all tasks, whatever their outcome, and returns their results in the order of the handles.
///
/// Accepts what [`gather`] does, and returns a vector or a tuple of results.
///
/// ```
/// # futures_lite::future::block_on(async {
/// use ensue::{Client, gather_settled};
///
/// let client = Client::new();
/// let numbers = client.try_map(async |text: &str| text.parse::<u8>(), ["1", "x"]);
/// let results = gather_settled(&numbers).await;
/// assert!(results[0].is_ok() && results[1].is_err());
///
/// let text = client.submit(async || "text", ());
/// let (number, text) = gather_settled((&numbers[1], text)).await;
/// assert!(number.is_err() && text.is_ok());
/// # });
/// ```
pub fn gather_settled<H: Gatherable<M>, M>(handles: H) -> H::GatherSettled {
    handles.into_gather_settled(SEAL)
}

/// What [`gather`] and [`gather_settled`] wait for: an iterator over handles or references to them, or a tuple of 1 to 12 of them.
///
/// The parameter `M` distinguishes these two, and is always inferred. The trait is sealed: it can't be implemented outside of
/// this crate.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be gathered",
    label = "neither an iterator over handles nor a tuple of handles",
    note = "pass a vector or another iterator over `Handle`s or `&Handle`s, or a tuple of up to 12 of them"
)]
pub trait Gatherable<M> {
    /// The future of [`gather`]: a [`Gather`] or a [`GatherTuple`].
    type Gather;

    /// The future of [`gather_settled`]: a [`GatherSettled`] or a [`GatherTupleSettled`].
    type GatherSettled;

    #[doc(hidden)]
    fn into_gather(self, _: Seal) -> Self::Gather;

    #[doc(hidden)]
    fn into_gather_settled(self, _: Seal) -> Self::GatherSettled;
}

#[doc(hidden)]
#[derive(Debug)]
pub struct ByIterator;

#[doc(hidden)]
#[derive(Debug)]
pub struct ByTuple;

impl<I> Gatherable<ByIterator> for I
where
    I: IntoIterator,
    I::Item: AsHandle,
{
    type Gather = Gather<<I::Item as AsHandle>::Value>;
    type GatherSettled = GatherSettled<<I::Item as AsHandle>::Value>;

    fn into_gather(self, _: Seal) -> Self::Gather {
        Gather(Settling::new(self, true))
    }

    fn into_gather_settled(self, _: Seal) -> Self::GatherSettled {
        GatherSettled(Settling::new(self, false))
    }
}

/// The future of [`gather`] for an iterator. Polling it after it has resolved panics.
#[must_use = "futures do nothing unless awaited"]
pub struct Gather<T>(Settling<T>);

/// The future of [`gather_settled`] for an iterator. Polling it after it has resolved panics.
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
    /// Waiting has closed a cycle.
    Refused(Error),
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
        let mut new = Self::empty(fails_fast);
        for handle in handles {
            new.add(handle.into_handle(SEAL).into_typed().value_task());
        }
        new
    }

    fn empty(fails_fast: bool) -> Self {
        Self { completions: Completions::new(), slots: Vec::new(), fails_fast, done: false }
    }

    fn add(&mut self, typed: Typed<T>) {
        self.slots.push(if typed.has_succeeded() {
            self.completions.note_engine(typed.task());
            Slot::Ended(typed)
        } else {
            self.completions.add(typed, self.slots.len());
            Slot::Empty
        });
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

    /// Resolves to the outcomes of all tasks, or, if it fails fast, to the first error.
    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<Slot<T>>, Error>> {
        loop {
            let next = std::task::ready!(self.poll_next(cx));
            if matches!(next, Next::Failed(_)) && !self.fails_fast {
                continue;
            }
            let mut slots = self.finish();
            return Poll::Ready(match next {
                Next::Failed(at) => match slots.swap_remove(at).ended() {
                    Ok(_) => unreachable!("the task of this slot has failed"),
                    Err(error) => Err(error),
                },
                Next::All => Ok(slots),
                Next::Cycle(error) if self.fails_fast => Err(error),
                Next::Cycle(error) => {
                    Ok(slots.iter().map(|_| Slot::Refused(error.clone())).collect())
                }
            });
        }
    }

    /// Stops waiting, and returns the slots.
    fn finish(&mut self) -> Vec<Slot<T>> {
        self.done = true;
        self.completions.clear();
        mem::take(&mut self.slots)
    }
}

impl<T> Slot<T> {
    /// Returns the task that has succeeded, or the error, which counts as observed.
    fn ended(self) -> Result<Typed<T>, Error> {
        match self {
            Self::Empty => unreachable!("all tasks have ended"),
            Self::Ended(typed) => Ok(typed),
            Self::Failed(typed, error) => {
                typed.set_seen();
                Err(error)
            }
            Self::Refused(error) => Err(error),
        }
    }
}

impl<T: Awaitable> Slot<T> {
    /// Returns the result of the task.
    fn outcome(self) -> Result<T, Error> {
        self.ended()?.take_or_clone()
    }
}

impl<T: Awaitable> Future for Gather<T> {
    type Output = Result<Vec<T>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let slots = std::task::ready!(self.0.poll_all(cx));
        Poll::Ready(slots.and_then(|slots| slots.into_iter().map(Slot::outcome).collect()))
    }
}

impl<T: Awaitable> Future for GatherSettled<T> {
    type Output = Vec<Result<T, Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match std::task::ready!(self.0.poll_all(cx)) {
            Ok(slots) => Poll::Ready(slots.into_iter().map(Slot::outcome).collect()),
            Err(_) => unreachable!("it doesn't fail fast"),
        }
    }
}

impl<T: Awaitable> FusedFuture for Gather<T> {
    fn is_terminated(&self) -> bool {
        self.0.done
    }
}

impl<T: Awaitable> FusedFuture for GatherSettled<T> {
    fn is_terminated(&self) -> bool {
        self.0.done
    }
}

/// The future of [`gather`] for a tuple of handles `H`. Polling it after it has resolved panics.
#[must_use = "futures do nothing unless awaited"]
pub struct GatherTuple<H>(TupleSettling<H>);

/// The future of [`gather_settled`] for a tuple of handles `H`. Polling it after it has resolved panics.
#[must_use = "futures do nothing unless awaited"]
pub struct GatherTupleSettled<H>(TupleSettling<H>);

/// Tasks of several types that are being waited for. The types of their values don't matter until all have ended.
struct TupleSettling<H> {
    settling: Settling<Erased>,
    /// Those of the tasks that have the values in this process, until it has resolved.
    handles: Option<H>,
}

/// A tuple of handles of tasks whose values can be [awaited](Awaitable).
///
/// It's sealed: implemented for tuples of 1 to 12 handles, and not to be implemented outside of this crate.
pub trait HandleTuple {
    /// The tuple of the values.
    type Values;

    /// The tuple of the results.
    type Results;

    #[doc(hidden)]
    fn values(self, _: Seal) -> Result<Self::Values, Error>;

    #[doc(hidden)]
    fn results(self, ended: Ended, _: Seal) -> Self::Results;
}

/// Whether each of the tasks has succeeded.
#[doc(hidden)]
#[derive(Debug)]
pub struct Ended(vec::IntoIter<Result<(), Error>>);

impl Ended {
    fn next(&mut self) -> Result<(), Error> {
        match self.0.next() {
            Some(ended) => ended,
            None => unreachable!("there is one for each handle"),
        }
    }
}

impl<H> TupleSettling<H> {
    /// Resolves to the handles, and whether their tasks have succeeded.
    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(H, Ended), Error>> {
        let slots = std::task::ready!(self.settling.poll_all(cx));
        let Some(handles) = self.handles.take() else {
            unreachable!("it hasn't resolved before");
        };
        // The interests are dropped here, so that the handles may be the last ones.
        let ended = |slot: Slot<Erased>| slot.ended().map(drop);
        Poll::Ready(slots.map(|slots| {
            let ended: Vec<_> = slots.into_iter().map(ended).collect();
            (handles, Ended(ended.into_iter()))
        }))
    }
}

// A handle is never pinned.
impl<H> Unpin for GatherTuple<H> {}
impl<H> Unpin for GatherTupleSettled<H> {}

impl<H: HandleTuple> Future for GatherTuple<H> {
    type Output = Result<H::Values, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let all = std::task::ready!(self.0.poll_all(cx));
        // It fails fast, so all have succeeded here.
        Poll::Ready(all.and_then(|(handles, _)| handles.values(SEAL)))
    }
}

impl<H: HandleTuple> Future for GatherTupleSettled<H> {
    type Output = H::Results;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match std::task::ready!(self.0.poll_all(cx)) {
            Ok((handles, ended)) => Poll::Ready(handles.results(ended, SEAL)),
            Err(_) => unreachable!("it doesn't fail fast"),
        }
    }
}

impl<H: HandleTuple> FusedFuture for GatherTuple<H> {
    fn is_terminated(&self) -> bool {
        self.0.settling.done
    }
}

impl<H: HandleTuple> FusedFuture for GatherTupleSettled<H> {
    fn is_terminated(&self) -> bool {
        self.0.settling.done
    }
}

macro_rules! tuples {
    ($($H:ident $T:ident $at:tt),*) => {
        impl<$($H: AsHandle),*> Gatherable<ByTuple> for ($($H,)*) {
            type Gather = GatherTuple<($(Handle<$H::Value>,)*)>;
            type GatherSettled = GatherTupleSettled<($(Handle<$H::Value>,)*)>;

            fn into_gather(self, _: Seal) -> Self::Gather {
                let mut settling = Settling::empty(true);
                let handles = Some(($(settling.add_erased(self.$at),)*));
                GatherTuple(TupleSettling { settling, handles })
            }

            fn into_gather_settled(self, _: Seal) -> Self::GatherSettled {
                let mut settling = Settling::empty(false);
                let handles = Some(($(settling.add_erased(self.$at),)*));
                GatherTupleSettled(TupleSettling { settling, handles })
            }
        }

        impl<$($T: Awaitable),*> HandleTuple for ($(Handle<$T>,)*) {
            type Values = ($($T,)*);
            type Results = ($(Result<$T, Error>,)*);

            fn values(self, _: Seal) -> Result<Self::Values, Error> {
                Ok(($(self.$at.into_typed().take_or_clone()?,)*))
            }

            fn results(self, mut ended: Ended, _: Seal) -> Self::Results {
                ($(ended.next().and_then(|()| self.$at.into_typed().take_or_clone()),)*)
            }
        }
    };
}

impl Settling<Erased> {
    /// Adds a task of any type. Returns a handle of the one that has the value in this process.
    fn add_erased<H: AsHandle>(&mut self, handle: H) -> Handle<H::Value> {
        let typed = handle.into_handle(SEAL).into_typed().value_task();
        self.add(typed.clone().erased());
        Handle::new(typed)
    }
}

tuples!(H0 T0 0);
tuples!(H0 T0 0, H1 T1 1);
tuples!(H0 T0 0, H1 T1 1, H2 T2 2);
tuples!(H0 T0 0, H1 T1 1, H2 T2 2, H3 T3 3);
tuples!(H0 T0 0, H1 T1 1, H2 T2 2, H3 T3 3, H4 T4 4);
tuples!(H0 T0 0, H1 T1 1, H2 T2 2, H3 T3 3, H4 T4 4, H5 T5 5);
tuples!(H0 T0 0, H1 T1 1, H2 T2 2, H3 T3 3, H4 T4 4, H5 T5 5, H6 T6 6);
tuples!(H0 T0 0, H1 T1 1, H2 T2 2, H3 T3 3, H4 T4 4, H5 T5 5, H6 T6 6, H7 T7 7);
tuples!(H0 T0 0, H1 T1 1, H2 T2 2, H3 T3 3, H4 T4 4, H5 T5 5, H6 T6 6, H7 T7 7, H8 T8 8);
tuples!(H0 T0 0, H1 T1 1, H2 T2 2, H3 T3 3, H4 T4 4, H5 T5 5, H6 T6 6, H7 T7 7, H8 T8 8, H9 T9 9);
tuples!(H0 T0 0, H1 T1 1, H2 T2 2, H3 T3 3, H4 T4 4, H5 T5 5, H6 T6 6, H7 T7 7, H8 T8 8, H9 T9 9, H10 T10 10);
tuples!(H0 T0 0, H1 T1 1, H2 T2 2, H3 T3 3, H4 T4 4, H5 T5 5, H6 T6 6, H7 T7 7, H8 T8 8, H9 T9 9, H10 T10 10, H11 T11 11);

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

impl<H> fmt::Debug for GatherTuple<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending = self.0.settling.completions.len();
        f.debug_struct("GatherTuple").field("pending", &pending).finish()
    }
}

impl<H> fmt::Debug for GatherTupleSettled<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending = self.0.settling.completions.len();
        f.debug_struct("GatherTupleSettled").field("pending", &pending).finish()
    }
}
