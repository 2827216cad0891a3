//! A task on the cluster, as the engine here sees it.

use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use crate::attempt;
use crate::dask::client::api::batched_calls::Slice;
use crate::dask::client::io::dask_future::{Failure, Remote};
use crate::dask::codec;
use crate::dask::failed::Failed;
use crate::engine::base::lock::Lock;
use crate::engine::remote::{RemoteTask, Tag};
use crate::{Error, ErrorKind, Key, Portable, Retry};

/// A task on the cluster whose values are of type `T`.
pub(crate) struct Far<T> {
    task: Task,
    what: What,
    /// What the scheduler doesn't do by itself.
    retry: Option<Arc<Retry>>,
    values: PhantomData<fn() -> T>,
}

/// Who does it.
#[derive(Clone)]
pub(crate) enum Task {
    /// A task of the cluster's.
    One(Arc<Remote>),
    /// The same, when it can be sent.
    Later(Arc<Later>),
    /// A part of one, maybe.
    Slice(Arc<Slice>),
}

/// What such a task does.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum What {
    /// It calls a function of ours.
    Rust,
    /// It calls a function in Python.
    Python,
    /// It has a value that came from here.
    Data,
}

/// A task that is sent when its inputs have ended, since it isn't known before where their results are.
pub(crate) struct Later {
    key: Arc<str>,
    sent: OnceLock<Arc<Remote>>,
    send: Lock<Option<Sending>>,
}

type Sending = Box<dyn FnOnce() -> Arc<Remote> + Send>;

impl Later {
    pub(crate) fn new(key: Arc<str>, send: impl FnOnce() -> Arc<Remote> + Send + 'static) -> Self {
        Self { key, sent: OnceLock::new(), send: Lock::new(Some(Box::new(send))) }
    }

    /// What was sent.
    pub(crate) fn sent(&self) -> Option<&Arc<Remote>> {
        self.sent.get()
    }

    /// Sends it, if it wasn't.
    fn remote(&self) -> &Arc<Remote> {
        self.sent.get_or_init(|| {
            let send = self.send.lock().take();
            match send {
                Some(send) => send(),
                None => unreachable!("it's sent once"),
            }
        })
    }
}

impl Task {
    fn key(&self) -> &str {
        match self {
            Self::One(remote) => remote.key(),
            Self::Later(later) => &later.key,
            Self::Slice(slice) => slice.key(),
        }
    }

    /// Waits until there's a result on the cluster.
    async fn ended(&self) -> Result<(), Failure> {
        match self {
            Self::One(remote) => remote.ended().await,
            Self::Later(later) => later.remote().ended().await,
            Self::Slice(slice) => slice.ended().await,
        }
    }

    fn retry(&self) {
        match self {
            Self::One(remote) => remote.retry(),
            Self::Slice(slice) => slice.retry(),
            Self::Later(later) => {
                if let Some(remote) = later.sent.get() {
                    remote.retry();
                }
            }
        }
    }

    /// The result, or why it's none.
    async fn bring<T: Portable>(&self) -> Result<Result<T, codec::Misfit>, Failure> {
        Ok(match self {
            Self::One(remote) => codec::read(&remote.fetch().await?),
            Self::Later(later) => codec::read(&later.remote().fetch().await?),
            Self::Slice(slice) => slice.bring().await?,
        })
    }

    /// What retries it as long as there's somebody else to keep it.
    fn weak(&self) -> Box<dyn Fn() + Send + Sync> {
        fn again<T: Send + Sync + 'static>(
            of: &Arc<T>,
            task: fn(Arc<T>) -> Task,
        ) -> Box<dyn Fn() + Send + Sync> {
            let weak = Arc::downgrade(of);
            Box::new(move || {
                if let Some(it) = weak.upgrade() {
                    task(it).retry();
                }
            })
        }
        match self {
            Self::One(remote) => again(remote, Self::One),
            Self::Later(later) => again(later, Self::Later),
            Self::Slice(slice) => again(slice, Self::Slice),
        }
    }
}

impl<T> Far<T> {
    pub(crate) fn new(task: Task, what: What, retry: Option<Arc<Retry>>) -> Self {
        Self { task, what, retry, values: PhantomData }
    }

    fn error(&self, failure: Failure) -> Error {
        let origin = Key::from(self.task.key());
        match failure {
            Failure::Erred(exception) => {
                let failed = Failed::new(exception);
                match failed.other().filter(|_| self.what == What::Rust) {
                    Some((kind, text)) => Error::far(kind, origin, text.to_owned()),
                    None => Error::failed(origin, failed),
                }
            }
            Failure::Cancelled(_) => Error::cancelled(origin),
            Failure::Lost(what) => Error::far(ErrorKind::Lost, origin, what.as_ref().to_owned()),
            Failure::Closed => Error::closed(origin),
        }
    }
}

impl<T> Clone for Far<T> {
    fn clone(&self) -> Self {
        Self::new(self.task.clone(), self.what, self.retry.clone())
    }
}

impl<T: Portable> RemoteTask<T> for Far<T> {
    async fn ended(&self) -> Result<(), Error> {
        let mut failures = 0;
        loop {
            let Err(failure) = self.task.ended().await else { return Ok(()) };
            let has_failed = matches!(failure, Failure::Erred(_));
            let error = self.error(failure);
            failures += 1;
            match &self.retry {
                Some(retry) if has_failed && retry.allows(failures, &error) => {
                    attempt::wait(failures, retry.delay(failures, fastrand::f64)).await;
                    self.task.retry();
                }
                _ => return Err(error),
            }
        }
    }

    fn again(&self) -> impl Fn() + Send + Sync + 'static {
        self.task.weak()
    }

    fn can_run_again(&self) -> bool {
        let outcome = match &self.task {
            Task::One(remote) => remote.outcome(),
            Task::Later(later) => later.sent.get().and_then(|remote| remote.outcome()),
            Task::Slice(_) => None,
        };
        // What was lost, cancelled or closed stays that.
        let is_final =
            matches!(outcome, Some(Err(failure)) if !matches!(failure, Failure::Erred(_)));
        self.what != What::Data && !is_final
    }

    fn tag(&self) -> Option<Tag> {
        Some(match &self.task {
            Task::One(remote) => Arc::downgrade(remote) as Tag,
            Task::Later(later) => Arc::downgrade(later) as Tag,
            Task::Slice(slice) => Arc::downgrade(slice) as Tag,
        })
    }

    async fn fetch(&self) -> Result<T, Error> {
        let brought = self.task.bring::<T>().await.map_err(|failure| self.error(failure))?;
        brought.map_err(|misfit| {
            let text = format!("it holds {misfit}");
            Error::far(ErrorKind::Failed, self.task.key().into(), text)
        })
    }
}
