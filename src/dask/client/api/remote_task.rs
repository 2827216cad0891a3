//! A task on the cluster, as the local engine sees it.

use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use super::batched_calls::BatchedCall;
use crate::client::attempt;
use crate::dask::client::io::dask_future::DaskFuture;
use crate::dask::client::state::future_state::FutureError;
use crate::dask::codec;
use crate::dask::failed::Failed;
use crate::dask::wire::rust::DecodeError;
use crate::engine::base::lock::Lock;
use crate::engine::core::context;
use crate::engine::remote::{RemoteExecution, Tag};
use crate::task::subject::Subject;
use crate::{Error, ErrorKind, Portable, Retry};

/// A task on the cluster whose value has type `T`.
pub(super) struct RemoteTask<T> {
    producer: Producer,
    work: Work,
    /// Retries that the scheduler can't do: with a delay or a predicate.
    retry: Option<Arc<Retry>>,
    values: PhantomData<fn() -> T>,
}

/// The producer of a result.
#[derive(Clone)]
pub(super) enum Producer {
    /// A task of the cluster.
    Single(Arc<DaskFuture>),
    /// A task of the cluster that is sent when its inputs have ended.
    Deferred(Arc<DeferredTask>),
    /// A call that may be a part of a task of the cluster.
    Batched(Arc<BatchedCall>),
}

/// The work of a task.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Work {
    /// It calls a Rust function.
    RustCall,
    /// It calls a Python function.
    PythonCall,
    /// It holds a value that the client gave to the cluster.
    Scattered,
}

/// A task that is sent when its inputs have ended, since their locations aren't known before.
pub(super) struct DeferredTask {
    key: Arc<str>,
    sent: OnceLock<Arc<DaskFuture>>,
    send: Lock<Option<SendTask>>,
}

type SendTask = Box<dyn FnOnce() -> Arc<DaskFuture> + Send>;

impl DeferredTask {
    pub(super) fn new(
        key: Arc<str>,
        send: impl FnOnce() -> Arc<DaskFuture> + Send + 'static,
    ) -> Self {
        Self { key, sent: OnceLock::new(), send: Lock::new(Some(Box::new(send))) }
    }

    /// Returns the task that was sent, if it was.
    pub(super) fn sent(&self) -> Option<&Arc<DaskFuture>> {
        self.sent.get()
    }

    /// Sends the task unless it was sent, and returns it. Its inputs must have ended.
    fn future(&self) -> &Arc<DaskFuture> {
        self.sent.get_or_init(|| {
            // The lock isn't held while it's sent, which takes other locks.
            let send = self.send.lock().take();
            match send {
                Some(send) => send(),
                None => unreachable!("`OnceLock` calls this once"),
            }
        })
    }
}

impl Producer {
    fn key(&self) -> &str {
        match self {
            Self::Single(future) => future.key(),
            Self::Deferred(task) => &task.key,
            Self::Batched(call) => call.key(),
        }
    }

    /// Waits until a worker has the result.
    async fn ended(&self) -> Result<(), FutureError> {
        match self {
            Self::Single(future) => future.ended().await,
            Self::Deferred(task) => task.future().ended().await,
            Self::Batched(call) => call.ended().await,
        }
    }

    fn retry(&self) {
        match self {
            Self::Single(future) => future.retry(),
            Self::Batched(call) => call.retry(),
            Self::Deferred(task) => {
                if let Some(future) = task.sent() {
                    future.retry();
                }
            }
        }
    }

    /// Fetches the value. The inner error is that it doesn't fit `T`.
    async fn fetch<T: Portable>(&self) -> Result<Result<T, DecodeError>, FutureError> {
        Ok(match self {
            Self::Single(future) => codec::read(&future.fetch().await?),
            Self::Deferred(task) => codec::read(&task.future().fetch().await?),
            Self::Batched(call) => call.fetch().await?,
        })
    }

    /// Returns a function that retries the task, and that doesn't keep it alive.
    fn weak_retry(&self) -> Box<dyn Fn() + Send + Sync> {
        fn retry<T: Send + Sync + 'static>(
            of: &Arc<T>,
            producer: fn(Arc<T>) -> Producer,
        ) -> Box<dyn Fn() + Send + Sync> {
            let weak = Arc::downgrade(of);
            Box::new(move || {
                if let Some(it) = weak.upgrade() {
                    producer(it).retry();
                }
            })
        }
        match self {
            Self::Single(future) => retry(future, Self::Single),
            Self::Deferred(task) => retry(task, Self::Deferred),
            Self::Batched(call) => retry(call, Self::Batched),
        }
    }
}

impl<T> RemoteTask<T> {
    pub(super) fn new(producer: Producer, work: Work, retry: Option<Arc<Retry>>) -> Self {
        Self { producer, work, retry, values: PhantomData }
    }

    /// What errors say of it. Asked by the local task that stands for this one, or that fetches its value.
    fn subject(&self) -> Subject {
        let submitted_at = context::current_subject().submitted_at;
        Subject { key: self.producer.key().into(), submitted_at }
    }

    fn error(&self, error: FutureError) -> Error {
        let origin = self.subject();
        match error {
            FutureError::Erred(exception) => {
                let failed = Failed::new(exception);
                // Only a Rust worker's exceptions have texts that stand for other kinds of errors.
                let other = (self.work == Work::RustCall).then(|| failed.other(&origin)).flatten();
                other.unwrap_or_else(|| Error::failed(origin, failed))
            }
            FutureError::Cancelled(why) => Error::cancelled(origin, why.as_ref()),
            FutureError::Lost(why) => Error::far(ErrorKind::Lost, origin, why.as_ref()),
            FutureError::Closed => Error::closed(origin),
        }
    }
}

impl<T> Clone for RemoteTask<T> {
    fn clone(&self) -> Self {
        Self::new(self.producer.clone(), self.work, self.retry.clone())
    }
}

impl<T: Portable> RemoteExecution<T> for RemoteTask<T> {
    async fn ended(&self) -> Result<(), Error> {
        let mut failures = 0;
        loop {
            let Err(error) = self.producer.ended().await else { return Ok(()) };
            // Only a task that failed can run again.
            let is_final = error.is_final();
            let error = self.error(error);
            failures += 1;
            match &self.retry {
                Some(retry) if !is_final && retry.allows(failures, &error) => {
                    attempt::wait(failures, retry.delay(failures, fastrand::f64)).await;
                    self.producer.retry();
                }
                _ => return Err(error),
            }
        }
    }

    fn again(&self) -> impl Fn() + Send + Sync + 'static {
        self.producer.weak_retry()
    }

    fn can_run_again(&self) -> bool {
        let outcome = match &self.producer {
            Producer::Single(future) => future.outcome(),
            Producer::Deferred(task) => task.sent().and_then(|future| future.outcome()),
            Producer::Batched(_) => None,
        };
        let is_final = matches!(outcome, Some(Err(error)) if error.is_final());
        // No worker can compute a value that the client provided.
        self.work != Work::Scattered && !is_final
    }

    fn tag(&self) -> Option<Tag> {
        Some(match &self.producer {
            Producer::Single(future) => Arc::downgrade(future) as Tag,
            Producer::Deferred(task) => Arc::downgrade(task) as Tag,
            Producer::Batched(call) => Arc::downgrade(call) as Tag,
        })
    }

    async fn fetch(&self) -> Result<T, Error> {
        let fetched = self.producer.fetch::<T>().await.map_err(|error| self.error(error))?;
        fetched.map_err(|misfit| {
            let text = format!("it holds {misfit}");
            Error::far(ErrorKind::Failed, self.subject(), &text)
        })
    }
}
