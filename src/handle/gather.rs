//! The results of many tasks, in the order of their handles.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use futures_core::FusedFuture;

use super::{AsHandle, Awaitable, assert_unresolved};
use crate::Error;
use crate::engine::futures::completion::Completions;
use crate::engine::task::typed::{Erased, Typed};
use crate::task::seal::{SEAL, Seal};

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
pub fn gather<H: Gatherable<M>, M>(handles: H) -> Gather<H::Values> {
    Gather(handles.into_settling(true, SEAL), PhantomData)
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
pub fn gather_settled<H: Gatherable<M>, M>(handles: H) -> GatherSettled<H::Values> {
    GatherSettled(handles.into_settling(false, SEAL), PhantomData)
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
    /// A vector or a tuple of the tasks' values.
    type Values;

    #[doc(hidden)]
    fn into_settling(self, fails_fast: bool, _: Seal) -> Settling;
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
    type Values = Vec<<I::Item as AsHandle>::Value>;

    fn into_settling(self, fails_fast: bool, _: Seal) -> Settling {
        let mut new = Settling::new(fails_fast);
        self.into_iter().for_each(|handle| new.add(handle.into_handle(SEAL).into_typed()));
        new
    }
}

/// The values of several tasks: a `Vec<T>`, or a tuple.
///
/// It's sealed: implemented for these, if all values can be awaited, and not to be implemented outside of this crate.
pub trait Gathered: Sized {
    /// The results of the tasks, in a container of the same kind.
    type Settled;

    #[doc(hidden)]
    fn values(slots: Slots, _: Seal) -> Result<Self, Error>;

    #[doc(hidden)]
    fn settled(slots: Slots, _: Seal) -> Self::Settled;
}

impl<T: Awaitable> Gathered for Vec<T> {
    type Settled = Vec<Result<T, Error>>;

    fn values(slots: Slots, _: Seal) -> Result<Self, Error> {
        slots.0.map(Slot::outcome).collect()
    }

    fn settled(slots: Slots, _: Seal) -> Self::Settled {
        slots.0.map(Slot::outcome).collect()
    }
}

macro_rules! tuples {
    ($($H:ident $T:ident $at:tt),*) => {
        impl<$($H: AsHandle),*> Gatherable<ByTuple> for ($($H,)*) {
            type Values = ($($H::Value,)*);

            fn into_settling(self, fails_fast: bool, _: Seal) -> Settling {
                let mut new = Settling::new(fails_fast);
                $(new.add(self.$at.into_handle(SEAL).into_typed());)*
                new
            }
        }

        impl<$($T: Awaitable),*> Gathered for ($($T,)*) {
            type Settled = ($(Result<$T, Error>,)*);

            fn values(mut slots: Slots, _: Seal) -> Result<Self, Error> {
                Ok(($(slots.next::<$T>()?,)*))
            }

            fn settled(mut slots: Slots, _: Seal) -> Self::Settled {
                ($(slots.next::<$T>(),)*)
            }
        }
    };
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

/// The future of [`gather`], whose values are a `V`. Polling it after it has resolved panics.
#[must_use = "futures do nothing unless awaited"]
pub struct Gather<V>(Settling, PhantomData<fn() -> V>);

/// The future of [`gather_settled`], whose values are a `V`. Polling it after it has resolved panics.
#[must_use = "futures do nothing unless awaited"]
pub struct GatherSettled<V>(Settling, PhantomData<fn() -> V>);

/// Tasks that are being waited for, with the outcomes of those that have ended. The types of the values are known to the futures
/// above, and don't matter here.
#[doc(hidden)]
pub struct Settling {
    completions: Completions<Erased>,
    slots: Vec<Slot>,
    /// Whether the first failure ends it.
    fails_fast: bool,
    done: bool,
}

enum Slot {
    /// The task has not ended.
    Empty,
    Ended(Typed<Erased>),
    /// The error has not been returned, so it doesn't count as observed yet.
    Failed(Typed<Erased>, Error),
    /// Waiting has closed a cycle.
    Refused(Error),
}

/// The outcomes of tasks that have all ended, in order.
#[doc(hidden)]
pub struct Slots(vec::IntoIter<Slot>);

enum Next {
    /// The task of this slot has failed.
    Failed(usize),
    /// All tasks have ended.
    All,
    /// Waiting closes a cycle.
    Cycle(Error),
}

impl Settling {
    fn new(fails_fast: bool) -> Self {
        Self { completions: Completions::new(), slots: Vec::new(), fails_fast, done: false }
    }

    fn add<T>(&mut self, typed: Typed<T>) {
        self.add_erased(typed.value_task().erased());
    }

    fn add_erased(&mut self, typed: Typed<Erased>) {
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

    /// Resolves when all tasks have ended, or for one that fails if it fails fast: to the error that it resolves with then.
    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<Slots, Error>> {
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
                Next::All => Ok(Slots(slots.into_iter())),
                Next::Cycle(error) if self.fails_fast => Err(error),
                Next::Cycle(error) => {
                    let refused = vec![error; slots.len()].into_iter().map(Slot::Refused);
                    Ok(Slots(refused.collect::<Vec<_>>().into_iter()))
                }
            });
        }
    }

    /// Stops waiting, and returns the slots.
    fn finish(&mut self) -> Vec<Slot> {
        self.done = true;
        self.completions.clear();
        mem::take(&mut self.slots)
    }
}

impl Slot {
    /// Returns the task that has succeeded, or the error, which counts as observed.
    fn ended(self) -> Result<Typed<Erased>, Error> {
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

    /// Returns the result of the task.
    fn outcome<T: Awaitable>(self) -> Result<T, Error> {
        Typed::known(self.ended()?.into_interest()).take_or_clone()
    }
}

impl Slots {
    fn next<T: Awaitable>(&mut self) -> Result<T, Error> {
        match self.0.next() {
            Some(slot) => slot.outcome(),
            None => unreachable!("a tuple has as many slots as handles"),
        }
    }
}

impl<V: Gathered> Future for Gather<V> {
    type Output = Result<V, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let slots = std::task::ready!(self.0.poll_all(cx));
        Poll::Ready(slots.and_then(|slots| V::values(slots, SEAL)))
    }
}

impl<V: Gathered> Future for GatherSettled<V> {
    type Output = V::Settled;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match std::task::ready!(self.0.poll_all(cx)) {
            Ok(slots) => Poll::Ready(V::settled(slots, SEAL)),
            Err(_) => unreachable!("it doesn't fail fast"),
        }
    }
}

impl<V: Gathered> FusedFuture for Gather<V> {
    fn is_terminated(&self) -> bool {
        self.0.done
    }
}

impl<V: Gathered> FusedFuture for GatherSettled<V> {
    fn is_terminated(&self) -> bool {
        self.0.done
    }
}

impl fmt::Debug for Settling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settling").field("pending", &self.completions.len()).finish()
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").field("len", &self.0.len()).finish()
    }
}

impl<V> fmt::Debug for Gather<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather").field("pending", &self.0.completions.len()).finish()
    }
}

impl<V> fmt::Debug for GatherSettled<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatherSettled").field("pending", &self.0.completions.len()).finish()
    }
}
