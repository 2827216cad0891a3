//! The stream of results of `map_stream`, with a bound on the tasks in flight.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};

use crate::engine::core::budget;
use crate::engine::futures::completion::Completions;
use crate::handle::tags::{Tagged, Tags, Untagged};
use crate::task::error::forget_if_it_panics;
use crate::task::seal::SEAL;
use crate::task::subject::Subject;
use crate::{Error, Handle};

/// The results of tasks made from a stream of inputs, in the order in which the tasks end; made by
/// [`Client::map_stream`](crate::Client::map_stream).
///
/// After [`in_order`](MapStream::in_order) they come in the order of the inputs, and after [`tagged`](MapStream::tagged) each comes
/// with a tag that tells which input it belongs to. Dropping the stream drops `inputs` and the handles of the tasks in flight,
/// which abandons those tasks.
#[must_use = "streams do nothing unless polled"]
pub struct MapStream<S: Stream, T, G: Tags = Untagged> {
    /// `None` once it has ended or panicked.
    inputs: Option<Pin<Box<S>>>,
    submit: Submit<S, T>,
    /// Makes the tag of an input.
    tag: Tag<S, G>,
    limit: usize,
    in_flight: Completions<T>,
    /// What is kept for those in flight, and their results if they are held back.
    kept: Kept<T, G>,
    /// It was polled.
    has_begun: bool,
    /// The client is seeded.
    seeded: bool,
    /// Has given way between two inputs; see [`budget`].
    gave_way: bool,
    /// Has given way before a result that was held back.
    gave_way_before_result: bool,
    /// The origin of an error of the stream itself.
    origin: Subject,
    /// It has returned `None`.
    ended: bool,
    /// That error, until it is yielded.
    failure: Option<Error>,
}

type Submit<S, T> = Box<dyn FnMut(<S as Stream>::Item) -> Handle<T> + Send>;

type Tag<S, G> = Box<dyn FnMut(&<S as Stream>::Item) -> <G as Tags>::Tag + Send>;

/// What a stream keeps for the tasks in flight.
enum Kept<T, G: Tags> {
    /// The tags. Results are yielded as they come.
    AnyOrder(G),
    /// The tags and results from the oldest task on whose result was not yielded. `first` is its number, with which it's in
    /// flight.
    InOrder { first: usize, slots: VecDeque<Slot<T, G>> },
}

/// A tag, and the result once the task has ended.
type Slot<T, G> = (<G as Tags>::Tag, Option<Result<T, Error>>);

impl<T, G: Tags> Kept<T, G> {
    /// Keeps the tag of a new task, and returns the number of the task.
    fn insert(&mut self, tag: G::Tag) -> usize {
        match self {
            Self::AnyOrder(tags) => tags.insert(tag, SEAL),
            Self::InOrder { first, slots } => {
                slots.push_back((tag, None));
                first.wrapping_add(slots.len() - 1)
            }
        }
    }

    /// Takes the result of a task that has ended. Returns it with its tag if it's next.
    fn ended(&mut self, number: usize, result: Result<T, Error>) -> Option<Ended<T, G>> {
        match self {
            Self::AnyOrder(tags) => Some((tags.remove(number, SEAL), result)),
            Self::InOrder { first, slots } => {
                slots[number.wrapping_sub(*first)].1 = Some(result);
                self.next()
            }
        }
    }

    /// Whether the next result was held back.
    fn has_next(&self) -> bool {
        match self {
            Self::AnyOrder(_) => false,
            Self::InOrder { slots, .. } => {
                slots.front().is_some_and(|(_, result)| result.is_some())
            }
        }
    }

    /// Takes the next result if it was held back.
    fn next(&mut self) -> Option<Ended<T, G>> {
        let Self::InOrder { first, slots } = self else { return None };
        slots.front().filter(|(_, result)| result.is_some())?;
        let (tag, result) = slots.pop_front()?;
        *first = first.wrapping_add(1);
        Some((tag, result?))
    }
}

/// A result and its tag.
type Ended<T, G> = (<G as Tags>::Tag, Result<T, Error>);

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
            tag: Box::new(|_| ()),
            limit,
            in_flight: Completions::new(),
            kept: Kept::AnyOrder(Untagged),
            has_begun: false,
            seeded,
            gave_way: false,
            gave_way_before_result: false,
            origin,
            ended: false,
            failure,
        }
    }

    /// Tells which input a result belongs to: `tag` makes a tag of each input, before it's submitted, and the stream yields pairs
    /// of a tag and a result.
    ///
    /// `tag` is called by polling the stream, as `inputs` is polled. An error of the stream itself, that of inputs that panic or of a
    /// `limit` of 0, belongs to no input. Where it would be the last result, a stream with tags panics with its text instead.
    ///
    /// # Panics
    ///
    /// If the stream was polled before.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use futures_lite::{StreamExt, stream};
    ///
    /// let client = ensue::Client::new();
    /// let texts = stream::iter(["1", "x", "3"]);
    /// let parse = async |text: &str| text.parse::<u64>();
    /// let mut numbers = client.try_map_stream(texts, 2, parse).tagged(|text| *text);
    /// while let Some((text, number)) = numbers.next().await {
    ///     assert_eq!(number.is_err(), text == "x", "{text}");
    /// }
    /// # });
    /// ```
    #[track_caller]
    pub fn tagged<K>(
        self,
        tag: impl FnMut(&S::Item) -> K + Send + 'static,
    ) -> MapStream<S, T, Tagged<K>> {
        assert!(!self.has_begun, "a stream gets its tags before it is polled");
        MapStream {
            inputs: self.inputs,
            submit: self.submit,
            tag: Box::new(tag),
            limit: self.limit,
            in_flight: self.in_flight,
            kept: match self.kept {
                Kept::AnyOrder(_) => Kept::AnyOrder(Tagged::default()),
                Kept::InOrder { .. } => Kept::InOrder { first: 0, slots: VecDeque::new() },
            },
            has_begun: false,
            seeded: self.seeded,
            gave_way: false,
            gave_way_before_result: false,
            origin: self.origin,
            ended: self.ended,
            failure: self.failure,
        }
    }
}

impl<S: Stream, T, G: Tags> MapStream<S, T, G> {
    /// Yields the results in the order of the inputs.
    ///
    /// Results that come before that of an earlier input are held back. They count for the `limit`, so at most `limit` - 1 inputs
    /// after the one whose result is next have been submitted: a slow one lets the stream wait.
    ///
    /// # Panics
    ///
    /// If the stream was polled before.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use std::time::Duration;
    /// use futures_lite::{StreamExt, stream};
    ///
    /// let client = ensue::Client::new();
    /// let nap = async |ms: u64| {
    ///     ensue::sleep(Duration::from_millis(ms)).await;
    ///     ms
    /// };
    /// let naps = client.map_stream(stream::iter([3, 1, 2]), 8, nap).in_order();
    /// let naps: Vec<_> = naps.try_collect().await?;
    /// assert_eq!(naps, [3, 1, 2]);
    /// # Ok::<_, ensue::Error>(()) }).unwrap();
    /// ```
    #[track_caller]
    pub fn in_order(mut self) -> Self {
        assert!(!self.has_begun, "a stream gets its order before it is polled");
        self.kept = Kept::InOrder { first: 0, slots: VecDeque::new() };
        self
    }

    /// The number of tasks that were submitted and whose results were not yielded.
    fn unyielded(&self) -> usize {
        match &self.kept {
            Kept::AnyOrder(_) => self.in_flight.len(),
            Kept::InOrder { slots, .. } => slots.len(),
        }
    }

    /// Polls for inputs while there is room in flight.
    fn fill(&mut self, cx: &mut Context<'_>) {
        while self.unyielded() < self.limit {
            let Some(inputs) = &mut self.inputs else { return };
            if !budget::take_or_give_way(&mut self.gave_way, cx.waker(), self.seeded) {
                return;
            }
            // The input stream is user code. Its panic becomes the last result of this stream.
            let (submit, tag) = (&mut self.submit, &mut self.tag);
            let polled = catch_unwind(AssertUnwindSafe(|| {
                inputs.as_mut().poll_next(cx).map(|input| {
                    input.map(|input| {
                        let tag = tag(&input);
                        (submit(input), tag)
                    })
                })
            }));
            match polled {
                Ok(Poll::Ready(Some((handle, tag)))) => {
                    let number = self.kept.insert(tag);
                    self.in_flight.add(handle.into_typed(), number);
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

    /// Returns the next result, with its tag, of those that were held back. Pending if there is one, but no budget to take it.
    fn poll_held_back(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended<T, G>>> {
        if !self.kept.has_next() {
            return Poll::Ready(None);
        }
        let gave_way = &mut self.gave_way_before_result;
        match budget::take_or_give_way(gave_way, cx.waker(), self.seeded) {
            true => Poll::Ready(self.kept.next()),
            false => Poll::Pending,
        }
    }
}

// Neither a value nor a tag is ever pinned.
impl<S: Stream, T, G: Tags> Unpin for MapStream<S, T, G> {}

impl<S: Stream, T: Send + 'static, G: Tags> Stream for MapStream<S, T, G> {
    type Item = G::Outcome<Result<T, Error>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.has_begun = true;
        this.fill(cx);
        let mut next = std::task::ready!(this.poll_held_back(cx));
        while next.is_none() {
            match this.in_flight.poll_pop(cx) {
                Poll::Ready(Some((typed, number))) => {
                    next = this.kept.ended(number, typed.into_value());
                }
                Poll::Ready(None) => match this.failure.take() {
                    Some(error) => match G::NO_TAG {
                        Some(tag) => next = Some((tag, Err(error))),
                        None => panic!("{error}"),
                    },
                    None if this.inputs.is_none() => {
                        this.ended = true;
                        return Poll::Ready(None);
                    }
                    None => return Poll::Pending,
                },
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(next.map(|(tag, result)| G::outcome(tag, result, SEAL)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = match &self.inputs {
            Some(inputs) => inputs.size_hint(),
            None => (0, Some(0)),
        };
        let known = self.unyielded() + usize::from(self.failure.is_some());
        (least.saturating_add(known), most.and_then(|most| most.checked_add(known + 1)))
    }
}

impl<S: Stream, T: Send + 'static, G: Tags> FusedStream for MapStream<S, T, G> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<S: Stream, T, G: Tags> fmt::Debug for MapStream<S, T, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapStream")
            .field("limit", &self.limit)
            .field("in_flight", &self.unyielded())
            .field("ended", &self.inputs.is_none())
            .finish_non_exhaustive()
    }
}
