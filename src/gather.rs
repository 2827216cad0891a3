//! All results, in the order of their handles.

use std::fmt;
use std::future::Future;
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
pub struct Gather<T>(Settling<T>);

/// The future of [`gather_settled`].
#[must_use = "futures do nothing unless awaited"]
pub struct GatherSettled<T>(Settling<T>);

/// Tasks that are settling, one after the other.
struct Settling<T> {
    sink: Sink<T>,
    ended: Vec<Option<Result<Typed<T>, Error>>>,
    done: bool,
}

enum Next<T> {
    /// This one has ended, with a value that stays or with an error.
    One(Result<Typed<T>, Error>, usize),
    /// All have.
    All,
    /// Waiting would close a ring.
    Ring(Error),
}

impl<T: 'static> Settling<T> {
    fn new<I>(handles: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsHandle<Value = T>,
    {
        let mut sink = Sink::new();
        let mut count = 0;
        for handle in handles {
            sink.add(handle.into_handle().into_typed(), count);
            count += 1;
        }
        Self { sink, ended: std::iter::repeat_with(|| None).take(count).collect(), done: false }
    }

    fn poll_next(&mut self, poller: &mut Context<'_>) -> Poll<Next<T>> {
        match self.sink.poll_pop(poller) {
            Poll::Ready(Some((typed, at))) => {
                if typed.has_succeeded() {
                    return Poll::Ready(Next::One(Ok(typed), at));
                }
                if let Some(error) = typed.error() {
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

    fn finish(&mut self) -> Vec<Result<Typed<T>, Error>> {
        self.done = true;
        self.sink.clear();
        std::mem::take(&mut self.ended).into_iter().flatten().collect()
    }
}

impl<T: Clone + Send + Sync + 'static> Future for Gather<T> {
    type Output = Result<Vec<T>, Error>;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut self.0;
        loop {
            match std::task::ready!(this.poll_next(poller)) {
                Next::One(Ok(typed), at) => this.ended[at] = Some(Ok(typed)),
                Next::All => {
                    let ended = this.finish().into_iter();
                    return Poll::Ready(ended.map(|one| one?.take_or_clone()).collect());
                }
                Next::One(Err(error), _) | Next::Ring(error) => {
                    this.finish();
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Future for GatherSettled<T> {
    type Output = Vec<Result<T, Error>>;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut self.0;
        loop {
            match std::task::ready!(this.poll_next(poller)) {
                Next::One(ended, at) => this.ended[at] = Some(ended),
                Next::All => {
                    let ended = this.finish().into_iter();
                    return Poll::Ready(ended.map(|one| one?.take_or_clone()).collect());
                }
                Next::Ring(error) => {
                    let count = this.ended.len();
                    this.finish();
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
