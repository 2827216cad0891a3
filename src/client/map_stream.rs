//! The stream of results of `map_stream`, with a bound on the tasks in flight.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};

use crate::engine::core::budget;
use crate::engine::futures::completion::Completions;
use crate::task::error::forget_if_it_panics;
use crate::task::subject::Subject;
use crate::{Error, Handle};

/// The results of tasks made from a stream of inputs, in the order in which the tasks end; made by
/// [`Client::map_stream`](crate::Client::map_stream).
///
/// Dropping it drops `inputs` and the handles of the tasks in flight, which abandons those tasks.
#[must_use = "streams do nothing unless polled"]
pub struct MapStream<S: Stream, T> {
    /// `None` once it has ended or panicked.
    inputs: Option<Pin<Box<S>>>,
    submit: Submit<S, T>,
    limit: usize,
    in_flight: Completions<T>,
    /// The client is seeded.
    seeded: bool,
    /// Has given way between two inputs; see [`budget`].
    gave_way: bool,
    /// The origin of an error of the stream itself.
    origin: Subject,
    /// It has returned `None`.
    ended: bool,
    /// That error, until it is yielded.
    failure: Option<Error>,
}

type Submit<S, T> = Box<dyn FnMut(<S as Stream>::Item) -> Handle<T> + Send>;

impl<S: Stream, T> MapStream<S, T> {
    pub(crate) fn new(
        inputs: S,
        limit: usize,
        origin: Subject,
        seeded: bool,
        submit: Submit<S, T>,
    ) -> Self {
        let failure = (limit == 0).then(|| {
            let text = "`map_stream` with a limit of 0 has no room for a task: use at least 1";
            Error::limit(origin.clone(), text.into())
        });
        let inputs = failure.is_none().then(|| Box::pin(inputs));
        Self {
            inputs,
            submit,
            limit,
            in_flight: Completions::new(),
            seeded,
            gave_way: false,
            origin,
            ended: false,
            failure,
        }
    }

    /// Polls for inputs while there is room in flight.
    fn fill(&mut self, cx: &mut Context<'_>) {
        while self.in_flight.len() < self.limit {
            let Some(inputs) = &mut self.inputs else { return };
            if !budget::take_or_give_way(&mut self.gave_way, cx.waker(), self.seeded) {
                return;
            }
            // The input stream is user code. Its panic becomes the last result of this stream.
            let submit = &mut self.submit;
            let polled = catch_unwind(AssertUnwindSafe(|| {
                inputs.as_mut().poll_next(cx).map(|input| input.map(&mut *submit))
            }));
            match polled {
                Ok(Poll::Ready(Some(handle))) => {
                    self.in_flight.add(handle.into_typed(), 0);
                }
                Ok(Poll::Ready(None)) => self.end_inputs(None),
                Ok(Poll::Pending) => return,
                Err(payload) => self.end_inputs(Some(payload)),
            }
        }
    }

    /// Drops the inputs, which have ended or panicked. Their destructor may panic, too; the first panic is the last result.
    fn end_inputs(&mut self, panicked: Option<Box<dyn Any + Send>>) {
        let inputs = self.inputs.take();
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(inputs)));
        for payload in panicked.into_iter().chain(dropped.err()) {
            match self.failure {
                None => self.failure = Some(Error::panicked(self.origin.clone(), payload)),
                Some(_) => forget_if_it_panics(payload),
            }
        }
    }
}

impl<S: Stream, T: Send + 'static> Stream for MapStream<S, T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.fill(cx);
        match this.in_flight.poll_pop(cx) {
            Poll::Ready(Some((typed, _))) => Poll::Ready(Some(typed.into_value())),
            Poll::Ready(None) => match this.failure.take() {
                Some(error) => Poll::Ready(Some(Err(error))),
                None if this.inputs.is_none() => {
                    this.ended = true;
                    Poll::Ready(None)
                }
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
        let known = self.in_flight.len() + usize::from(self.failure.is_some());
        (least.saturating_add(known), most.and_then(|most| most.checked_add(known + 1)))
    }
}

impl<S: Stream, T: Send + 'static> FusedStream for MapStream<S, T> {
    fn is_terminated(&self) -> bool {
        self.ended
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
