//! A stream of inputs in, a stream of results out, with a bound on what is in flight.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};

use crate::engine::sink::Sink;
use crate::{Error, Handle, Key};

/// The results of tasks made from a stream of inputs, in the order in which they finish; made by
/// [`Client::map_stream`](crate::Client::map_stream).
///
/// Dropping it cancels what is in flight.
#[must_use = "streams do nothing unless polled"]
pub struct MapStream<S: Stream, T> {
    /// `None` once it has ended.
    inputs: Option<Pin<Box<S>>>,
    submit: Submit<S, T>,
    limit: usize,
    in_flight: Sink<T>,
    /// What a failure of the stream itself is said to come from.
    origin: Key,
    /// That failure, until it was given out.
    failure: Option<Error>,
}

type Submit<S, T> = Box<dyn FnMut(<S as Stream>::Item) -> Handle<T> + Send>;

impl<S: Stream, T> MapStream<S, T> {
    pub(crate) fn new(inputs: S, limit: usize, origin: Key, submit: Submit<S, T>) -> Self {
        let failure = (limit == 0).then(|| {
            let text = "`map_stream` with a limit of 0 has no room for any task: give at least 1";
            Error::limit(origin.clone(), text.into())
        });
        let inputs = failure.is_none().then(|| Box::pin(inputs));
        Self { inputs, submit, limit, in_flight: Sink::new(), origin, failure }
    }

    /// Takes inputs while there's room.
    fn fill(&mut self, poller: &mut Context<'_>) {
        while self.in_flight.len() < self.limit {
            let Some(inputs) = &mut self.inputs else { return };
            // Foreign code: what it panics with is the last result of this stream.
            let submit = &mut self.submit;
            let polled = catch_unwind(AssertUnwindSafe(|| {
                inputs.as_mut().poll_next(poller).map(|input| input.map(&mut *submit))
            }));
            match polled {
                Ok(Poll::Ready(Some(handle))) => {
                    self.in_flight.add(handle.into_typed(), 0);
                }
                Ok(Poll::Ready(None)) => self.inputs = None,
                Ok(Poll::Pending) => return,
                Err(payload) => self.fail(payload),
            }
        }
    }

    fn fail(&mut self, payload: Box<dyn Any + Send>) {
        self.failure = Some(Error::panicked(self.origin.clone(), payload));
        let inputs = self.inputs.take();
        // It has panicked before.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(inputs))) {
            crate::task::error::forget_if_it_panics(payload);
        }
    }
}

impl<S: Stream, T: Send + 'static> Stream for MapStream<S, T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.fill(poller);
        match this.in_flight.poll_pop(poller) {
            Poll::Ready(Some((typed, _))) => Poll::Ready(Some(typed.into_value())),
            Poll::Ready(None) => match this.failure.take() {
                Some(error) => Poll::Ready(Some(Err(error))),
                None if this.inputs.is_none() => Poll::Ready(None),
                None => Poll::Pending,
            },
            Poll::Pending => Poll::Pending,
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = match &self.inputs {
            Some(inputs) => inputs.size_hint(),
            None => (0, Some(0)),
        };
        let here = self.in_flight.len() + usize::from(self.failure.is_some());
        (least.saturating_add(here), most.and_then(|most| most.checked_add(here + 1)))
    }
}

impl<S: Stream, T: Send + 'static> FusedStream for MapStream<S, T> {
    fn is_terminated(&self) -> bool {
        self.inputs.is_none() && self.in_flight.len() == 0 && self.failure.is_none()
    }
}

impl<S: Stream, T> fmt::Debug for MapStream<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapStream")
            .field("limit", &self.limit)
            .field("in_flight", &self.in_flight.len())
            .field("ended", &self.inputs.is_none())
            .finish_non_exhaustive()
    }
}
