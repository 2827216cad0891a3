//! `AsCompleted`, `WithResults` and `MapStream`, compared with a list of members.

use std::future::Future as _;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use ensue::{AsCompleted, Client, Error, ErrorKind, Handle, MapStream, Status, WithResults};
use futures::Stream as _;

use super::body::{Infallible, Running};
use super::instrumented::{Code, Value};
use super::model::{Id, Model, Outcome, Plan, StreamModel};
use super::run_state::{
    MAX_TASKS, check_error, check_outcome, expect, model, panic_point_then, with,
};
use super::script::Mapped;
use super::tracked::Tracked;

pub(crate) struct Stream {
    inner: Inner,
    /// The stream's index in the model.
    pub(crate) number: usize,
}

enum Inner {
    Handles(AsCompleted<Value>),
    Results(WithResults<Value>),
    Map(MapStream<Codes, Value>),
}

impl Stream {
    fn new(inner: Inner, begun: StreamModel) -> Self {
        let number = model(|model| {
            model.streams.push(begun);
            model.streams.len() - 1
        });
        Self { inner, number }
    }

    pub(crate) fn of_handles() -> Self {
        Self::new(Inner::Handles(AsCompleted::new()), StreamModel::default())
    }

    pub(crate) fn map(client: &Client, mapped: Mapped) -> Self {
        let failed = (mapped.limit == 0).then_some(ErrorKind::Limit);
        let exhausted = failed.is_some();
        let number = model(|model| model.streams.len());
        let codes = Codes { left: mapped.count, mapped, number };
        let options = client.task().priority(mapped.priority);
        let code = |code: Code| -> Infallible<()> { Running::new(code, ()).infallible() };
        let inner = options.map_stream(codes, mapped.limit, code);
        model(|model| model.clients += 1);
        Self::new(Inner::Map(inner), StreamModel { failed, exhausted, ..StreamModel::default() })
    }

    /// Converts the stream to one of handles with results.
    pub(crate) fn with_results(mut self) -> Self {
        if let Inner::Handles(handles) = &mut self.inner {
            let handles = std::mem::take(handles);
            self.inner = Inner::Results(handles.with_results());
        }
        self
    }

    pub(crate) fn add(&mut self, tracked: Tracked) {
        if let Inner::Map(_) = self.inner {
            return;
        }
        let (id, handle) = tracked.into_counted();
        let number = self.number;
        model(|model| {
            let now = model.tasks[id].outcome().map(|_| model.instant);
            model.streams[number].members.push((id, now));
        });
        match &mut self.inner {
            Inner::Handles(inner) => inner.add(handle),
            Inner::Results(inner) => inner.add(handle),
            Inner::Map(_) => {}
        }
        self.check();
    }

    fn check(&mut self) {
        let (len, ready) = match &self.inner {
            Inner::Handles(inner) => (inner.len(), Some(inner.has_ready())),
            Inner::Results(inner) => (inner.len(), None),
            Inner::Map(_) => return,
        };
        let number = self.number;
        model(|model| {
            let members = model.streams[number].members.clone();
            // *Free*: a member that was retried after it had ended counts as ready until the stream comes to it.
            let may_be_ready = members.iter().any(|(_, at)| at.is_some());
            let is_ready = model.has_ended_member(number);
            let fits = |ready: bool| if ready { may_be_ready } else { !is_ready };
            let right = members.len() == len && ready.is_none_or(fits);
            model.expect(right, || {
                format!("a stream of {members:?} has length {len} and `has_ready` {ready:?}")
            });
        });
    }

    /// Polls the stream and checks the item. Returns `false` if it's pending.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, inside: bool) -> bool {
        let polled = match &mut self.inner {
            Inner::Handles(inner) => Pin::new(inner).poll_next(cx).map(|next| match next {
                Some(handle) => Next::One(handle, None),
                None => Next::End,
            }),
            Inner::Results(inner) => Pin::new(inner).poll_next(cx).map(|next| match next {
                Some((handle, result)) => Next::One(handle, Some(result)),
                None => Next::End,
            }),
            Inner::Map(inner) => Pin::new(inner).poll_next(cx).map(|next| match next {
                Some(result) => Next::Result(result),
                None => Next::End,
            }),
        };
        settle(inside);
        match polled {
            Poll::Ready(Next::One(handle, result)) => drop(self.popped(handle, result)),
            Poll::Ready(Next::Result(result)) => self.mapped(result),
            Poll::Ready(Next::End) => self.check_ended(),
            Poll::Pending => {
                self.check_pending(inside);
                return false;
            }
        }
        true
    }

    /// Polls `next_batch` of a stream of handles, and one item of the others.
    pub(crate) fn poll_batch(&mut self, cx: &mut Context<'_>, inside: bool) -> bool {
        let Inner::Handles(inner) = &mut self.inner else { return self.poll(cx, inside) };
        let polled = pin!(inner.next_batch()).poll(cx);
        settle(inside);
        match polled {
            Poll::Ready(batch) if batch.is_empty() => self.check_ended(),
            Poll::Ready(batch) => self.popped_all(batch),
            Poll::Pending => {
                self.check_pending(inside);
                return false;
            }
        }
        true
    }

    /// Takes all ready members.
    pub(crate) fn batch(&mut self) {
        if let Inner::Handles(inner) = &mut self.inner {
            let batch = inner.ready_batch();
            self.popped_all(batch);
        }
    }

    fn popped_all(&mut self, batch: Vec<Handle<Value>>) {
        // The handles are dropped after the check, since a drop may make other members ready.
        let _popped: Vec<_> = batch.into_iter().map(|handle| self.popped(handle, None)).collect();
        self.check();
        let number = self.number;
        let left = model(|model| model.has_ended_member(number));
        expect(!left, || "a batch left ready members".into());
    }

    fn check_ended(&self) {
        model(|model| {
            let stream = model.streams[self.number].clone();
            let map = matches!(self.inner, Inner::Map(_));
            let over = stream.members.is_empty() && stream.failed.is_none();
            let right = over && (!map || stream.exhausted);
            model.expect(right, || format!("a stream ended with members: {stream:?}"));
        });
    }

    fn check_pending(&mut self, inside: bool) {
        // *Free*: as for other awaits from outside, after the client was closed or without a seed.
        let seeded = with(|state| state.script.seed.is_some());
        if !inside && (!seeded || model(|model| model.is_closed())) {
            return;
        }
        let number = self.number;
        model(|model| {
            // It waits again for members that were retried after they had ended.
            model.put_back(number);
            let members = model.streams[number].members.clone();
            // *Free*: an empty stream is of no client, so it may give way outside of tasks.
            let may_be_empty = !inside || !members.is_empty();
            let right = may_be_empty && members.iter().all(|(_, at)| at.is_none());
            model.expect(right, || format!("a stream of {members:?} is pending"));
        });
    }

    /// Checks a member taken from the stream. *Free*: the order of members that ended at the same instant, and of
    /// retried ones.
    fn popped(
        &mut self,
        handle: Handle<Value>,
        result: Option<Result<Value, Error>>,
    ) -> Option<Tracked> {
        let (key, status) = (handle.key(), handle.status());
        let number = self.number;
        let id = model(|model| {
            let members = model.streams[number].members.clone();
            let first = members.iter().filter_map(|(_, at)| *at).min();
            // Successive tasks with the same key are distinguished by their status.
            let fits = |(id, at): &(Id, Option<u64>)| {
                let task = &model.tasks[*id];
                let in_order =
                    *at == first || members.iter().any(|(id, _)| model.tasks[*id].retried > 0);
                at.is_some()
                    && in_order
                    && model.names[*id] == *key
                    && task.outcome().is_some() == handle.is_finished()
                    && (status == Status::Finished) == (task.outcome() == Some(Outcome::Value))
            };
            let at = members.iter().position(fits);
            if at.is_none() {
                model.expect(false, || format!("a stream of {members:?} gave `{key}`, {status}"));
            }
            at.map(|at| model.streams[number].members.remove(at).0)
        });
        let tracked = Tracked::new(id?, handle);
        if let Some(result) = result {
            check_outcome(tracked.id, result, 1);
        }
        Some(tracked)
    }

    /// Checks a result of `map_stream`, which is matched by value, not by name.
    fn mapped(&mut self, result: Result<Value, Error>) {
        let number = self.number;
        let found = model(|model| {
            let members = model.streams[number].members.clone();
            let first = members.iter().filter_map(|(_, at)| *at).min();
            let fits = |(id, at): &(Id, Option<u64>)| {
                let outcome = model.tasks[*id].outcome();
                at.is_some()
                    && *at == first
                    && match &result {
                        Ok(value) => value.of == *id,
                        Err(error) => {
                            outcome.is_some_and(|ended| model.matches_error(ended, error))
                        }
                    }
            };
            if let Some(at) = members.iter().position(fits) {
                let (id, _) = model.streams[number].members.remove(at);
                model.release(id);
                return Some(id);
            }
            let own = result.as_ref().is_err_and(|error| {
                members.is_empty() && model.streams[number].failed.take() == Some(error.kind())
            });
            model
                .expect(own, || format!("`map_stream` gave {result:?} with {members:?} in flight"));
            None
        });
        match (found, result) {
            (Some(id), Err(error)) => check_error(id, &error),
            (Some(id), Ok(value)) => {
                expect(value.original, || format!("t{id} gave a clone to `map_stream`"));
                check_outcome(id, Ok(value), 0);
            }
            (None, _) => {}
        }
    }

    pub(crate) fn clear(&mut self) {
        if let Inner::Handles(inner) = &mut self.inner {
            forget(self.number);
            inner.clear();
            self.check();
        }
    }
}

enum Next {
    One(Handle<Value>, Option<Result<Value, Error>>),
    Result(Result<Value, Error>),
    End,
}

/// Updates the model after a poll from outside, in which a worker may have exited.
fn settle(inside: bool) {
    if !inside {
        model(Model::refuse_without_worker);
    }
}

fn forget(number: usize) {
    model(|model| {
        let members = std::mem::take(&mut model.streams[number].members);
        members.into_iter().for_each(|(id, _)| model.release(id));
    });
}

impl Drop for Stream {
    fn drop(&mut self) {
        forget(self.number);
        if let Inner::Map(_) = self.inner {
            model(Model::drop_client);
        }
    }
}

/// The input stream of a `map_stream`.
struct Codes {
    left: usize,
    mapped: Mapped,
    number: usize,
}

impl futures::Stream for Codes {
    type Item = Code;

    /// Reports the task to the model here, since `map_stream` submits an input as soon as it has it.
    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Code>> {
        let (number, mapped) = (self.number, self.mapped);
        panic_point_then("inputs of `map_stream`", || {
            model(|model| {
                model.streams[number].failed = Some(ErrorKind::Panicked);
                model.streams[number].exhausted = true;
            });
        });
        if self.left == 0 || model(|model| model.tasks.len()) >= MAX_TASKS {
            model(|model| model.streams[number].exhausted = true);
            return Poll::Ready(None);
        }
        self.left -= 1;
        let id = model(|model| {
            let in_flight = model.streams[number].members.len();
            model.expect(in_flight < mapped.limit, || {
                format!("`map_stream` takes an input with {in_flight} in flight")
            });
            let plan = Plan { priority: mapped.priority, ..Plan::default() };
            let (id, _) = model.submit(plan);
            let now = model.tasks[id].outcome().map(|_| model.instant);
            model.streams[number].members.push((id, now));
            id
        });
        Poll::Ready(Some(Code::new(Some(id), mapped.body)))
    }
}
