//! A pending await of one or several handles, and the check of its result.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ensue::{
    Error, ErrorKind, Gather, GatherSettled, GetRef, Handle, Wait, gather, gather_settled,
    wait_all, wait_any,
};

use super::instrumented::Value;
use super::model::{Id, Model, Outcome, Suspension};
use super::run_state::{check_outcome, expect, model, with};
use super::script::AwaitKind;
use super::tracked::{self, Tracked};

pub(crate) struct PendingAwait {
    inner: Inner,
    pub(crate) ids: Vec<Id>,
    /// The tasks for which the model counts a handle of this await.
    held: Vec<Id>,
    until: Option<u64>,
    begun: u64,
}

enum Inner {
    One(Handle<Value>),
    Ref(GetRef<Value>),
    Gather(Gather<Value>),
    Settled(GatherSettled<Value>),
    Any(Wait<Value>),
    All(Wait<Value>),
}

impl PendingAwait {
    /// Begins an await. Returns `None` if it needs a handle and the slot is empty.
    pub(crate) fn new(slots: &[usize], kind: AwaitKind) -> Option<Self> {
        let mut until = None;
        let (ids, inner) = match kind {
            AwaitKind::Own | AwaitKind::Borrow | AwaitKind::Ref => {
                let slot = *slots.first()?;
                let tracked =
                    if kind == AwaitKind::Own { tracked::take(slot) } else { tracked::copy(slot) };
                let (id, handle) = tracked?.into_counted();
                let inner = if kind == AwaitKind::Ref {
                    let by_ref = handle.get_ref();
                    drop(handle);
                    Inner::Ref(by_ref)
                } else {
                    Inner::One(handle)
                };
                (vec![id], inner)
            }
            _ => {
                let handles = slots.iter().filter_map(|slot| tracked::copy(*slot));
                let (ids, handles): (Vec<_>, Vec<_>) = handles.map(Tracked::into_counted).unzip();
                let inner = match kind {
                    AwaitKind::Gather => Inner::Gather(gather(handles)),
                    AwaitKind::Settled => Inner::Settled(gather_settled(handles)),
                    AwaitKind::All => Inner::All(wait_all(handles)),
                    AwaitKind::AnyFor(seconds) => {
                        until = Some(model(|model| model.now()) + u64::from(seconds));
                        Inner::Any(wait_any(handles).timeout(Duration::from_secs(seconds.into())))
                    }
                    _ => Inner::Any(wait_any(handles)),
                };
                (ids, inner)
            }
        };
        let begun = model(|model| model.instant);
        let held = ids.clone();
        Some(Self { inner, ids, held, until, begun })
    }

    /// Begins an await in a task, unless it might close a cycle that the script is to avoid.
    pub(crate) fn in_task(id: Id, slots: &[usize], kind: AwaitKind) -> Option<Self> {
        let waiting = Self::new(slots, kind)?;
        let acyclic = with(|state| state.script.acyclic);
        let refused = acyclic && model(|model| model.may_close_cycle(id, &waiting.ids));
        (!refused).then_some(waiting)
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.inner {
            Inner::One(_) => "handle",
            Inner::Ref(_) => "ref",
            Inner::Gather(_) => "gather",
            Inner::Settled(_) => "settled",
            Inner::Any(_) => "any",
            Inner::All(_) => "all",
        }
    }

    pub(crate) fn suspension(&self) -> Suspension {
        let ids = self.ids.clone();
        match self.inner {
            Inner::One(_) | Inner::Ref(_) => Suspension::One(ids[0]),
            Inner::Gather(_) => Suspension::Gather(ids),
            Inner::Settled(_) => Suspension::Settled(ids),
            Inner::Any(_) => Suspension::Any(ids, self.until),
            Inner::All(_) => Suspension::All(ids),
        }
    }

    /// Polls the await, in the task `inside` or from outside, and checks its result. Returns `true` when done.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, inside: Option<Id>) -> bool {
        // The poll may release handles and so abandon tasks before the model releases them; checked below.
        let (before, abandoned) = model(|model| {
            if let (Some(id), Inner::Any(_) | Inner::All(_)) = (inside, &self.inner) {
                model.lend_to(id, &self.ids);
            }
            (std::mem::replace(&mut model.lenient, true), model.abandoned_in_await.len())
        });
        let done = self.poll_leniently(cx, inside);
        model(|model| {
            model.lenient = before;
            model.check_abandoned(abandoned);
        });
        done
    }

    fn poll_leniently(&mut self, cx: &mut Context<'_>, inside: Option<Id>) -> bool {
        let seeded = with(|state| state.script.seed.is_some());
        if seeded {
            self.release_failed();
        }
        // A refused await releases its handles, and so may end a task that waits for this one.
        let was_ready = self.is_ready();
        // The result is compared with the model after the poll, since tasks may run in the poll.
        let polled = match &mut self.inner {
            Inner::One(handle) => Pin::new(handle).poll(cx).map(|result| vec![result]),
            Inner::Ref(by_ref) => {
                let polled = Pin::new(by_ref).poll(cx);
                polled.map(|result| vec![result.map(|value| Value::new(value.of).into_copy())])
            }
            Inner::Gather(all) => Pin::new(all).poll(cx).map(|result| match result {
                Ok(values) => values.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            }),
            Inner::Settled(all) => Pin::new(all).poll(cx),
            Inner::Any(wait) | Inner::All(wait) => match Pin::new(wait).poll(cx) {
                Poll::Ready(waited) => {
                    let done = waited.done.len();
                    settle_from_outside(inside);
                    self.check_waited(done, inside);
                    self.release();
                    drop(waited);
                    return true;
                }
                Poll::Pending => Poll::Pending,
            },
        };
        settle_from_outside(inside);
        // Without a seed, a `gather` may give way before it looks at the failure.
        if seeded || polled.is_ready() {
            self.release_failed();
        }
        self.note_awaits(inside);
        let Poll::Ready(results) = polled else {
            // *Free*: a wake is enough if the task was closed by the worker's exit, or if there is no task: such an await
            // is of no client, so it may give way outside of tasks.
            // So it may without a seed.
            let may_give_way = self.ids.is_empty() || !seeded || model(|model| model.is_closed());
            let left = inside.is_none() && may_give_way;
            let ready = self.is_ready() && !left;
            expect(!ready, || format!("an await of {:?} is pending", self.suspension()));
            return false;
        };
        let is_cycle = |result: &Result<Value, Error>| {
            result.as_ref().is_err_and(|error| self.is_own_cycle(error, inside))
        };
        if results.iter().any(is_cycle) {
            let in_cycle = inside.is_some_and(|id| model(|model| model.tasks[id].in_cycle));
            let right = in_cycle && !was_ready;
            expect(right, || {
                format!("an await of {:?} reports a cycle that doesn't exist", self.suspension())
            });
            self.release();
            return true;
        }
        self.check_results(results);
        true
    }

    /// Drops the await in the poll in which the task `by` began it.
    pub(crate) fn abandon(self, by: Id) {
        let ids = self.ids.clone();
        model(|model| model.forget_awaits(by, &ids));
    }

    /// Releases all handles of a `gather` of which one has failed, as `gather` does.
    fn release_failed(&mut self) {
        let failed =
            |id: &Id| model(|model| matches!(model.tasks[*id].outcome(), Some(Outcome::Error(..))));
        if matches!(self.inner, Inner::Gather(_)) && self.ids.iter().any(failed) {
            self.release();
        }
    }

    fn release(&mut self) {
        let held = std::mem::take(&mut self.held);
        model(|model| held.iter().for_each(|id| model.release(*id)));
    }

    /// Whether the error reports that this await closes a cycle. An awaited task may have failed by another.
    fn is_own_cycle(&self, error: &Error, inside: Option<Id>) -> bool {
        inside.is_some_and(|id| {
            error.kind() == ErrorKind::Cycle && model(|model| model.has_name(id, error.origin()))
        })
    }

    fn note_awaits(&self, inside: Option<Id>) {
        if let (Some(id), Inner::One(_) | Inner::Ref(_) | Inner::Gather(_) | Inner::Settled(_)) =
            (inside, &self.inner)
        {
            model(|model| model.awaits(id, &self.ids));
        }
    }

    /// Whether the next poll must complete.
    pub(crate) fn is_ready(&self) -> bool {
        let ended = |model: &Model, id: Id| model.tasks[id].outcome().is_some();
        model(|model| match self.inner {
            Inner::One(_) | Inner::Ref(_) => ended(model, self.ids[0]),
            Inner::Gather(_) => {
                let failed =
                    |id: &Id| matches!(model.tasks[*id].outcome(), Some(Outcome::Error(..)));
                self.ids.iter().any(failed) || self.ids.iter().all(|id| ended(model, *id))
            }
            Inner::Settled(_) | Inner::All(_) => self.ids.iter().all(|id| ended(model, *id)),
            Inner::Any(_) => self.ids.is_empty() || self.ids.iter().any(|id| ended(model, *id)),
        })
    }

    /// Checks the number of done tasks. *Free*: whether a task retried after its end counts as done.
    fn check_waited(&self, done: usize, inside: Option<Id>) {
        let ids = &self.ids;
        let suspension = self.suspension();
        model(|model| {
            if let (Some(until), Some(id), 0) = (self.until, inside, done) {
                if !ids.is_empty() {
                    model.clock_to(until, id);
                }
                return;
            }
            let ended = ids.iter().filter(|id| model.tasks[**id].outcome().is_some()).count();
            let retried = ids.iter().any(|id| model.tasks[*id].retried > 0);
            let enough = match suspension {
                Suspension::All(_) => ended == ids.len(),
                _ => ended > 0 || ids.is_empty(),
            };
            let right = ended == done && (enough || retried);
            model.expect(right, || {
                format!("{suspension:?} resolved with {done} done, where {ended} are")
            });
        });
    }

    fn check_results(&mut self, results: Vec<Result<Value, Error>>) {
        if let (Inner::Gather(_), [Err(error)]) = (&self.inner, &results[..]) {
            return self.check_gathered(error);
        }
        let count = results.len();
        expect(count == self.ids.len(), || format!("{:?} gave {count} results", self.suspension()));
        let one_by_one = matches!(self.inner, Inner::Gather(_) | Inner::Settled(_));
        for (id, result) in self.ids.clone().into_iter().zip(results) {
            // Each handle is released as its result is taken.
            if one_by_one && !self.held.is_empty() {
                let id = self.held.remove(0);
                model(|model| model.release(id));
            }
            // *Free*: a task may have been retried after its error was read, which then counts as
            // observed.
            if result.is_err() && self.ids.len() > 1 && model(|model| model.tasks[id].retried > 0) {
                model(|model| model.tasks[id].observed = true);
                continue;
            }
            check_outcome(id, result, usize::from(!one_by_one));
        }
    }

    /// Checks the error of a `gather`. *Free*: which of several failures at the same instant is reported.
    fn check_gathered(&self, error: &Error) {
        let candidates = model(|model| {
            let failed = self
                .ids
                .iter()
                .copied()
                .filter(|id| matches!(model.tasks[*id].outcome(), Some(Outcome::Error(..))));
            let failed: Vec<_> = failed.collect();
            let first = failed.iter().map(|id| model.ended_at(*id)).min();
            let fits = |id: &Id| {
                model.tasks[*id].outcome().is_some_and(|ended| model.matches_error(ended, error))
            };
            match first {
                Some(first) => {
                    let at_once = failed.into_iter().filter(|id| {
                        // Failures before the await are read in the order of the handles, and after a
                        // retry the order of failures is unknown.
                        let at = model.ended_at(*id);
                        at == first || at <= self.begun || model.tasks[*id].retried > 0
                    });
                    at_once.filter(fits).collect::<Vec<_>>()
                }
                None if error.kind() != ErrorKind::Lost => Vec::new(),
                None => self.ids.iter().copied().filter(|id| model.tasks[*id].moved_out).collect(),
            }
        });
        expect(!candidates.is_empty(), || format!("{:?} gave {error:?}", self.suspension()));
        // The origin may fit several of them, so all count as observed.
        candidates.into_iter().for_each(|id| model(|model| model.tasks[id].observed = true));
    }
}

/// Updates the model after a poll from outside, in which a worker may have exited.
fn settle_from_outside(inside: Option<Id>) {
    if inside.is_none() {
        model(Model::refuse_without_worker);
    }
}

impl Value {
    fn into_copy(mut self) -> Self {
        self.original = false;
        self
    }
}

impl Drop for PendingAwait {
    fn drop(&mut self) {
        self.release();
    }
}
