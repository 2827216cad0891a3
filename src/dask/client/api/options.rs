//! The options of a task on the cluster.

use std::fmt;
use std::time::Duration;

use super::python::PythonInputs;
use super::session::{Placement, Session};
use crate::client::options::TaskOptions;
use crate::client::portable::{Portable, PortableFn, PortableInputs};
use crate::dask::codec::Encoder;
use crate::task::function::{BlockingFn, TryBlockingFn, TryTaskFn};
use crate::task::seal::SEAL;
use crate::{Handle, Key, Retry};

/// The options of a task on the cluster, created by [`Client::task`](super::client::Client::task) and used by one of
/// the submit methods.
///
/// ```no_run
/// # async fn train(seed: u64) -> f64 { seed as f64 }
/// # fn show(client: &ensue::dask::Client) {
/// let model = client.task().resource("gpu", 1.0).priority(5).retries(2).submit(train, 7);
/// # drop(model) }
/// ```
#[must_use = "nothing is submitted yet: call `submit` or another submit method"]
pub struct Options<'c> {
    session: &'c Session,
    settings: TaskOptions,
    placement: Placement,
}

impl<'c> Options<'c> {
    pub(super) fn new(session: &'c Session, settings: TaskOptions) -> Self {
        Self { session, settings, placement: Placement::default() }
    }

    /// Gives the task a key that is shared by all clients of the cluster. If the key has a task already, this joins it.
    ///
    /// Among the tasks of this client, the rules are those of [`Options::key`](crate::Options::key). If another client
    /// holds a task of this key, the result of that task becomes this one's, too. With `map`, the keys are this one and
    /// a number: `k-0`, `k-1`.
    pub fn key(mut self, key: impl Into<Key>) -> Self {
        self.settings = self.settings.key(key);
        self
    }

    /// Names the task, instead of its function's name.
    pub fn name(mut self, name: impl AsRef<str>) -> Self {
        self.settings = self.settings.name(name);
        self
    }

    /// Sets the priority; the default is 0. The scheduler assigns tasks of higher priority first.
    pub fn priority(mut self, priority: i32) -> Self {
        self.settings = self.settings.priority(priority);
        self
    }

    /// Sets how often the task runs again after it failed. The scheduler retries it, on any worker; if the retries have
    /// a delay or a predicate, this client does.
    pub fn retries(mut self, retry: impl Into<Retry>) -> Self {
        self.settings = self.settings.retries(retry);
        self
    }

    /// Ends an attempt that takes longer on its worker, with [`TimedOut`](crate::ErrorKind::TimedOut). A Python
    /// function can't have a timeout.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings = self.settings.timeout(timeout);
        self
    }

    /// Ends the task with [`TimedOut`](crate::ErrorKind::TimedOut) unless its value exists on the cluster after this time,
    /// counted from its submission by this process. The cluster goes on with it until its last handle here is dropped.
    pub fn deadline(mut self, after: Duration) -> Self {
        self.settings = self.settings.deadline(after);
        self
    }

    /// Runs the task only where a worker has this amount of the resource left; see
    /// [`Worker::resources`](crate::dask::Worker::resources). While no worker has the resource, the task waits.
    ///
    /// Rust functions use 1 of the resource `rust` unless this sets another amount.
    pub fn resource(mut self, name: impl AsRef<str>, amount: f64) -> Self {
        self.placement.resources.push((name.as_ref().into(), amount));
        self
    }

    /// Runs the task only on these workers, given by name or address; a text that is neither is taken as a host name.
    /// While none of them is connected the task waits, unless
    /// [`allow_other_workers`](Options::allow_other_workers) is set.
    pub fn workers<W: AsRef<str>>(mut self, workers: impl IntoIterator<Item = W>) -> Self {
        let workers = workers.into_iter().map(|worker| worker.as_ref().into());
        self.placement.workers.extend(workers);
        self
    }

    /// Makes the given workers a preference only.
    pub fn allow_other_workers(mut self) -> Self {
        self.placement.allow_other_workers = true;
        self
    }

    /// Submits as [`Client::submit`](super::client::Client::submit) does, with these options.
    #[track_caller]
    pub fn submit<F, I, A>(self, _function: F, inputs: I) -> Handle<F::Output>
    where
        F: PortableFn<A>,
        I: PortableInputs<A>,
    {
        self.session.call::<F, I, A, _>(self.settings.here(), self.placement, inputs)
    }

    /// Submits as [`Client::try_submit`](super::client::Client::try_submit) does, with these options.
    #[track_caller]
    pub fn try_submit<F, I, A, M>(self, _function: F, inputs: I) -> Handle<F::Value>
    where
        F: TryTaskFn<A, M, Value: Portable> + Copy,
        I: PortableInputs<A>,
    {
        self.session.call::<F, I, A, _>(self.settings.here(), self.placement, inputs)
    }

    /// Submits as [`Client::submit_blocking`](super::client::Client::submit_blocking) does, with these options.
    #[track_caller]
    pub fn submit_blocking<F, I, A>(self, _function: F, inputs: I) -> Handle<F::Output>
    where
        F: BlockingFn<A, Output: Portable> + Copy,
        I: PortableInputs<A>,
    {
        self.session.call::<F, I, A, _>(self.settings.here(), self.placement, inputs)
    }

    /// Submits as [`Client::try_submit_blocking`](super::client::Client::try_submit_blocking) does, with these options.
    #[track_caller]
    pub fn try_submit_blocking<F, I, A, M>(self, _function: F, inputs: I) -> Handle<F::Value>
    where
        F: TryBlockingFn<A, M, Value: Portable> + Copy,
        I: PortableInputs<A>,
    {
        self.session.call::<F, I, A, _>(self.settings.here(), self.placement, inputs)
    }

    /// Submits as [`Client::submit_python`](super::client::Client::submit_python) does, with these options.
    #[track_caller]
    pub fn submit_python<T: Portable>(
        self,
        function: &str,
        inputs: impl PythonInputs,
    ) -> Handle<T> {
        let mut encoder = Encoder::new();
        inputs.visit_all(&mut encoder, SEAL);
        self.session.call_python(self.settings.here(), self.placement, function, encoder)
    }

    /// Gives a value to a worker as [`Client::ready`](super::client::Client::ready) does. Of these options, the key and
    /// the name are used.
    ///
    /// A key that is given should not have been used shortly before. Dask sends values to workers on another connection
    /// than the orders to free results, so a worker may free the new value in place of the old result of that key; a
    /// task that takes it then waits for ever.
    #[track_caller]
    pub fn ready<T: Portable>(self, value: T) -> Handle<T> {
        self.session.scatter(&self.settings.here(), value)
    }

    /// Submits as [`Client::map`](super::client::Client::map) does, with these options.
    #[track_caller]
    #[must_use = "dropping the handles abandons their tasks: keep them, or `detach` each; `let _ =` drops them, too"]
    pub fn map<F, I, A>(
        self,
        _function: F,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<F::Output>>
    where
        F: PortableFn<A>,
        I: PortableInputs<A>,
    {
        self.session.call_many::<F, I, A, _>(self.settings.here(), self.placement, inputs)
    }

    /// Submits as [`Client::try_map`](super::client::Client::try_map) does, with these options.
    #[track_caller]
    #[must_use = "dropping the handles abandons their tasks: keep them, or `detach` each; `let _ =` drops them, too"]
    pub fn try_map<F, I, A, M>(
        self,
        _function: F,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<F::Value>>
    where
        F: TryTaskFn<A, M, Value: Portable> + Copy,
        I: PortableInputs<A>,
    {
        self.session.call_many::<F, I, A, _>(self.settings.here(), self.placement, inputs)
    }
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Options").field(&self.settings).field(&self.placement).finish()
    }
}
