//! How a task on the cluster is to be run.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use crate::dask::client::api::python::PythonInputs;
use crate::dask::codec::Encoder;
use crate::error::IntoFailure;
use crate::function::BlockingFn;
use crate::options::TaskOptions;
use crate::portable::{Portable, PortableFn, PortableInputs};
use crate::{Handle, Key, Retry, TaskFn};

/// How a task is to be run on the cluster; made by [`Client::task`], used by one of the submitting verbs.
///
/// ```no_run
/// # async fn train(seed: u64) -> f64 { seed as f64 }
/// # fn show(client: &ensue::dask::Client) {
/// let model = client.task().resource("gpu", 1.0).priority(5).retries(2).submit(train, 7);
/// # drop(model) }
/// ```
#[must_use = "nothing is submitted yet: call `submit` or another verb"]
pub struct Options<'c> {
    client: &'c Client,
    settings: TaskOptions,
    at: Where,
}

/// Which workers may run a task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Where {
    pub(crate) resources: Vec<(Arc<str>, f64)>,
    pub(crate) workers: Vec<Arc<str>>,
    pub(crate) allow_other_workers: bool,
}

impl<'c> Options<'c> {
    pub(crate) fn new(client: &'c Client, settings: TaskOptions) -> Self {
        Self { client, settings, at: Where::default() }
    }

    /// Names the task for all clients of the cluster, and joins the one that has the key already.
    ///
    /// Of this client's tasks as [`Options::key`](crate::Options::key) says. If another client has submitted a task
    /// of this key that somebody needs, its result is this one's, too. With `map`, the keys are this one with a
    /// number: `k-0`, `k-1`.
    pub fn key(mut self, key: impl Into<Key>) -> Self {
        self.settings = self.settings.key(key);
        self
    }

    /// What the task is called instead of its function's name.
    pub fn name(mut self, name: impl AsRef<str>) -> Self {
        self.settings = self.settings.name(name);
        self
    }

    /// The scheduler sends tasks of higher priority to the workers first; the default is 0.
    pub fn priority(mut self, priority: i32) -> Self {
        self.settings = self.settings.priority(priority);
        self
    }

    /// How often the task is tried again after it has failed: by the scheduler, on any worker, or, where that is with a
    /// delay or a predicate, by this client.
    pub fn retries(mut self, retry: impl Into<Retry>) -> Self {
        self.settings = self.settings.retries(retry);
        self
    }

    /// Ends an attempt that takes longer on its worker, with [`TimedOut`](crate::ErrorKind::TimedOut). Not for functions
    /// in Python.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings = self.settings.timeout(timeout);
        self
    }

    /// Only runs where a worker has so much of this resource left; see
    /// [`Worker::resources`](crate::dask::Worker::resources). While no worker has any, it waits.
    ///
    /// Functions of ours use 1 of the resource `rust` unless this says otherwise.
    pub fn resource(mut self, name: impl AsRef<str>, amount: f64) -> Self {
        self.at.resources.push((name.as_ref().into(), amount));
        self
    }

    /// Only runs on these workers, given by name or address; on others if none of them is there and
    /// [`allow_other_workers`](Options::allow_other_workers) was called, and else it waits. What is no known name is
    /// taken for that of a host.
    pub fn workers<W: AsRef<str>>(mut self, workers: impl IntoIterator<Item = W>) -> Self {
        self.at.workers.extend(workers.into_iter().map(|worker| worker.as_ref().into()));
        self
    }

    /// The workers that were given are only preferred.
    pub fn allow_other_workers(mut self) -> Self {
        self.at.allow_other_workers = true;
        self
    }

    /// As [`Client::submit`], with these options.
    pub fn submit<F, I, A>(self, _function: F, inputs: I) -> Handle<F::Output>
    where
        F: PortableFn<A>,
        I: PortableInputs<A>,
    {
        self.client.call::<F, I, A, _>(self.settings, self.at, inputs)
    }

    /// As [`Client::try_submit`], with these options.
    pub fn try_submit<F, I, A, T, E, M>(self, _function: F, inputs: I) -> Handle<T>
    where
        F: TaskFn<A, Output = Result<T, E>> + Copy,
        I: PortableInputs<A>,
        T: Portable,
        E: IntoFailure<M>,
    {
        self.client.call::<F, I, A, _>(self.settings, self.at, inputs)
    }

    /// As [`Client::submit_blocking`], with these options.
    pub fn submit_blocking<F, I, A>(self, _function: F, inputs: I) -> Handle<F::Output>
    where
        F: BlockingFn<A, Output: Portable> + Copy,
        I: PortableInputs<A>,
    {
        self.client.call::<F, I, A, _>(self.settings, self.at, inputs)
    }

    /// As [`Client::try_submit_blocking`], with these options.
    pub fn try_submit_blocking<F, I, A, T, E, M>(self, _function: F, inputs: I) -> Handle<T>
    where
        F: BlockingFn<A, Output = Result<T, E>> + Copy,
        I: PortableInputs<A>,
        T: Portable,
        E: IntoFailure<M>,
    {
        self.client.call::<F, I, A, _>(self.settings, self.at, inputs)
    }

    /// As [`Client::submit_python`], with these options.
    pub fn submit_python<T: Portable>(
        self,
        function: &str,
        inputs: impl PythonInputs,
    ) -> Handle<T> {
        let mut encoder = Encoder::new();
        inputs.encode_all(&mut encoder);
        self.client.call_python(self.settings, self.at, function, encoder)
    }

    /// As [`Client::ready`], with these options, of which the key and the name count.
    ///
    /// If it's given a key, that should be one which nothing had shortly before. Dask gives values to workers by another
    /// way than it tells them what to free, so a value may be freed in place of what had the key; what takes it then waits
    /// for ever.
    pub fn ready<T: Portable>(self, value: T) -> Handle<T> {
        self.client.scatter(&self.settings, value)
    }

    /// As [`Client::map`], with these options.
    pub fn map<F, I, A>(
        self,
        _function: F,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<F::Output>>
    where
        F: PortableFn<A>,
        I: PortableInputs<A>,
    {
        self.client.call_many::<F, I, A, _>(self.settings, self.at, inputs)
    }

    /// As [`Client::try_map`], with these options.
    pub fn try_map<F, I, A, T, E, M>(
        self,
        _function: F,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<T>>
    where
        F: TaskFn<A, Output = Result<T, E>> + Copy,
        I: PortableInputs<A>,
        T: Portable,
        E: IntoFailure<M>,
    {
        self.client.call_many::<F, I, A, _>(self.settings, self.at, inputs)
    }
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Options").field(&self.settings).field(&self.at).finish()
    }
}
