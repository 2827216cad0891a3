//! An await under way, of one handle or of several, and what it may give.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ensue::{
    Error, ErrorKind, Gather, GatherSettled, GetRef, Handle, Wait, gather, gather_settled,
    wait_all, wait_any,
};

use super::instrumented::Value;
use super::model::{Id, Model, Outcome, Why};
use super::run_state::{check_outcome, expect, model};
use super::script::How;
use super::tracked::{self, Tracked};

pub(crate) struct Waiting {
    inner: Inner,
    pub(crate) ids: Vec<Id>,
    /// Those for which the model counts a handle.
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

impl Waiting {
    /// `None` where the slots are empty.
    pub(crate) fn new(slots: &[usize], how: How) -> Option<Self> {
        let mut until = None;
        let (ids, inner) = match how {
            How::Own | How::Borrow | How::Ref => {
                let slot = *slots.first()?;
                let tracked =
                    if how == How::Own { tracked::take(slot) } else { tracked::copy(slot) };
                let (id, handle) = tracked?.into_counted();
                let inner = if how == How::Ref {
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
                let inner = match how {
                    How::Gather => Inner::Gather(gather(handles)),
                    How::Settled => Inner::Settled(gather_settled(handles)),
                    How::All => Inner::All(wait_all(handles)),
                    How::AnyFor(seconds) => {
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

    pub(crate) fn why(&self) -> Why {
        let ids = self.ids.clone();
        match self.inner {
            Inner::One(_) | Inner::Ref(_) => Why::One(ids[0]),
            Inner::Gather(_) => Why::Gather(ids),
            Inner::Settled(_) => Why::Settled(ids),
            Inner::Any(_) => Why::Any(ids, self.until),
            Inner::All(_) => Why::All(ids),
        }
    }

    /// Polls, in a task or from outside, and checks what comes out. `true` when it's done.
    pub(crate) fn poll(&mut self, poller: &mut Context<'_>, inside: Option<Id>) -> bool {
        // What was given up meanwhile was needed by nobody but those that this let go of.
        let (before, abandoned) =
            model(|model| (std::mem::replace(&mut model.lenient, true), model.abandoned.len()));
        let done = self.poll_leniently(poller, inside);
        model(|model| {
            model.lenient = before;
            model.check_abandoned(abandoned);
        });
        done
    }

    fn poll_leniently(&mut self, poller: &mut Context<'_>, inside: Option<Id>) -> bool {
        self.release_failed();
        // What it is held against is what is so after the poll, in which tasks may have run.
        let polled = match &mut self.inner {
            Inner::One(handle) => Pin::new(handle).poll(poller).map(|result| vec![result]),
            Inner::Ref(by_ref) => {
                let polled = Pin::new(by_ref).poll(poller);
                polled.map(|result| vec![result.map(|value| Value::new(value.of).into_copy())])
            }
            Inner::Gather(all) => Pin::new(all).poll(poller).map(|result| match result {
                Ok(values) => values.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            }),
            Inner::Settled(all) => Pin::new(all).poll(poller),
            Inner::Any(wait) | Inner::All(wait) => match Pin::new(wait).poll(poller) {
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
        self.release_failed();
        let ring = self.ring(inside);
        let Poll::Ready(results) = polled else {
            // *Free*: it's enough to be woken, where the worker's leaving has closed what was awaited.
            let left = inside.is_none() && model(|model| model.is_closed());
            let ready = self.is_ready() && !left;
            expect(!ready, || format!("an await of {:?} is pending", self.why()));
            expect(!ring, || format!("an await of {:?} hangs in a ring", self.why()));
            return false;
        };
        let is_cycle = |result: &Result<Value, Error>| {
            result.as_ref().is_err_and(|error| self.is_ring(error, inside))
        };
        if results.iter().any(is_cycle) {
            let right = ring && !self.is_ready();
            expect(right, || format!("an await of {:?} is no ring", self.why()));
            self.release();
            return true;
        }
        self.check_results(results);
        true
    }

    /// The task that has begun to await doesn't go on with it.
    pub(crate) fn give_up(self, by: Id) {
        let ids = self.ids.clone();
        model(|model| model.forget_awaits(by, &ids));
    }

    /// `gather` lets go of all where one has failed.
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

    /// That this very await closes a ring; a task it awaits may have failed of another.
    fn is_ring(&self, error: &Error, inside: Option<Id>) -> bool {
        inside.is_some_and(|id| {
            error.kind() == ErrorKind::Cycle && model(|model| model.is_called(id, error.origin()))
        })
    }

    fn ring(&self, inside: Option<Id>) -> bool {
        match (inside, &self.inner) {
            (Some(id), Inner::One(_) | Inner::Ref(_) | Inner::Gather(_) | Inner::Settled(_)) => {
                model(|model| model.awaits(id, &self.ids))
            }
            _ => false,
        }
    }

    /// Whether it must be done.
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

    /// *Free*: one that had ended and was retried since may count as done.
    fn check_waited(&self, done: usize, inside: Option<Id>) {
        let ids = &self.ids;
        let why = self.why();
        model(|model| {
            if let (Some(until), Some(id), 0) = (self.until, inside, done) {
                if !ids.is_empty() {
                    model.clock_to(until, id);
                }
                return;
            }
            let ended = ids.iter().filter(|id| model.tasks[**id].outcome().is_some()).count();
            let retried = ids.iter().any(|id| model.tasks[*id].retried > 0);
            let enough = match why {
                Why::All(_) => ended == ids.len(),
                _ => ended > 0 || ids.is_empty(),
            };
            let right = ended == done && (enough || retried);
            model.expect(right, || format!("{why:?} resolved with {done} done, where {ended} are"));
        });
    }

    fn check_results(&mut self, results: Vec<Result<Value, Error>>) {
        if let (Inner::Gather(_), [Err(error)]) = (&self.inner, &results[..]) {
            return self.check_gathered(error);
        }
        let count = results.len();
        expect(count == self.ids.len(), || format!("{:?} gave {count} results", self.why()));
        let one_by_one = matches!(self.inner, Inner::Gather(_) | Inner::Settled(_));
        for (id, result) in self.ids.clone().into_iter().zip(results) {
            // Each handle goes as its result is taken.
            if one_by_one && !self.held.is_empty() {
                let id = self.held.remove(0);
                model(|model| model.release(id));
            }
            // *Free*: what had failed when it was looked at may have been retried since, and then counts
            // as seen.
            if result.is_err() && self.ids.len() > 1 && model(|model| model.tasks[id].retried > 0) {
                model(|model| model.tasks[id].observed = true);
                continue;
            }
            check_outcome(id, result, usize::from(!one_by_one));
        }
    }

    /// *Free*: which of those that failed at the same instant is reported.
    fn check_gathered(&self, error: &Error) {
        let candidates = model(|model| {
            let failed = self
                .ids
                .iter()
                .copied()
                .filter(|id| matches!(model.tasks[*id].outcome(), Some(Outcome::Error(..))));
            let failed: Vec<_> = failed.collect();
            let first = failed.iter().map(|id| model.ended_at(*id)).min();
            let fits =
                |id: &Id| model.tasks[*id].outcome().is_some_and(|ended| model.fits(ended, error));
            match first {
                Some(first) => {
                    let at_once = failed.into_iter().filter(|id| {
                        // Those that had failed before are looked at in the order of the handles, and
                        // which came first can't be told after a retry.
                        let at = model.ended_at(*id);
                        at == first || at <= self.begun || model.tasks[*id].retried > 0
                    });
                    at_once.filter(fits).collect::<Vec<_>>()
                }
                None if error.kind() != ErrorKind::Lost => Vec::new(),
                None => self.ids.iter().copied().filter(|id| model.tasks[*id].taken).collect(),
            }
        });
        expect(!candidates.is_empty(), || format!("{:?} gave {error:?}", self.why()));
        // It was one of them.
        candidates.into_iter().for_each(|id| model(|model| model.tasks[id].observed = true));
    }
}

/// After a poll from outside, in which a worker may have come and gone.
fn settle_from_outside(inside: Option<Id>) {
    if inside.is_none() {
        model(Model::nobody_runs);
    }
}

impl Value {
    fn into_copy(mut self) -> Self {
        self.original = false;
        self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.release();
    }
}
