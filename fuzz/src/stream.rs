//! An `AsCompleted`, held against a list.

use std::pin::Pin;
use std::task::{Context, Poll};

use ensue::{AsCompleted, Handle};
use futures::Stream as _;

use super::model::{Id, StreamModel};
use super::tracked::Tracked;
use super::values::Value;
use super::world::{expect, model};

pub(crate) struct Stream {
    inner: Option<AsCompleted<Value>>,
    /// Its place in the model.
    pub(crate) number: usize,
}

impl Stream {
    pub(crate) fn new() -> Self {
        let number = model(|model| {
            model.streams.push(StreamModel::default());
            model.streams.len() - 1
        });
        Self { inner: Some(AsCompleted::new()), number }
    }

    fn inner(&mut self) -> &mut AsCompleted<Value> {
        self.inner.as_mut().expect("it's there until it's dropped")
    }

    pub(crate) fn add(&mut self, tracked: Tracked) {
        let (id, handle) = tracked.into_counted();
        let number = self.number;
        model(|model| {
            let now = model.tasks[id].outcome().map(|_| model.instant);
            model.streams[number].members.push((id, now));
        });
        self.inner().add(handle);
        self.check();
    }

    fn check(&mut self) {
        let (len, ready) = (self.inner().len(), self.inner().has_ready());
        let number = self.number;
        model(|model| {
            let members = &model.streams[number].members;
            let right = members.len() == len && members.iter().any(|(_, at)| at.is_some()) == ready;
            let members = members.clone();
            model.expect(right, || {
                format!("a stream of {members:?} has {len} and says {ready} to `has_ready`")
            });
        });
    }

    pub(crate) fn poll(&mut self, poller: &mut Context<'_>, inside: bool) -> Poll<Option<Id>> {
        let polled = Pin::new(self.inner()).poll_next(poller);
        if !inside {
            // A worker may have come and gone.
            model(super::model::Model::nobody_runs);
        }
        match polled {
            Poll::Ready(Some(handle)) => Poll::Ready(Some(self.popped(handle))),
            Poll::Ready(None) => {
                let left = model(|model| model.streams[self.number].members.clone());
                expect(left.is_empty(), || format!("a stream ended with {left:?} in it"));
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    pub(crate) fn check_pending(&mut self) {
        let number = self.number;
        model(|model| {
            let members = model.streams[number].members.clone();
            let right = !members.is_empty() && members.iter().all(|(_, at)| at.is_none());
            model.expect(right, || format!("a stream of {members:?} is pending"));
        });
    }

    pub(crate) fn batch(&mut self) {
        for handle in self.inner().ready_batch() {
            self.popped(handle);
        }
        self.check();
        let number = self.number;
        let left = model(|model| model.streams[number].members.iter().any(|(_, at)| at.is_some()));
        expect(!left, || "a batch didn't take all that was ready".into());
    }

    /// *Free*: the order of those that ended at the same instant.
    fn popped(&mut self, handle: Handle<Value>) -> Id {
        let (key, status) = (handle.key(), handle.status());
        let number = self.number;
        let id = model(|model| {
            let members = model.streams[number].members.clone();
            let first = members.iter().filter_map(|(_, at)| *at).min();
            // Tasks that had a key one after the other are told apart by how they are.
            let named = |id: Id| model.names[id] == *key;
            let fits = |id: Id| {
                named(id)
                    && model.tasks[id].outcome().is_some() == handle.is_finished()
                    && (status == ensue::Status::Finished)
                        == (model.tasks[id].outcome() == Some(super::model::Outcome::Value))
            };
            let at =
                members.iter().position(|(id, at)| *at == first && first.is_some() && fits(*id));
            match at {
                Some(at) => Some(model.streams[number].members.remove(at).0),
                None => {
                    model.expect(false, || {
                        format!("a stream of {members:?} gave `{key}`, {status}")
                    });
                    None
                }
            }
        });
        if let Some(id) = id {
            drop(Tracked::new(id, handle));
        }
        id.unwrap_or(0)
    }

    pub(crate) fn clear(&mut self) {
        self.forget();
        self.inner().clear();
        self.check();
    }

    fn forget(&mut self) {
        let number = self.number;
        model(|model| {
            let members = std::mem::take(&mut model.streams[number].members);
            members.into_iter().for_each(|(id, _)| model.release(id));
        });
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.forget();
    }
}
