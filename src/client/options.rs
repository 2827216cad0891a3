//! Submitting with options.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::marker::PhantomData;
use std::time::Duration;

use futures_core::Stream;

use super::attempt::{Again, Often, Once};
use super::map_stream::MapStream;
use super::submit::{self, Submission};
use super::task_future::{self, Spawned};
use super::{Client, pure};
use crate::engine::cell::{self, Setup};
use crate::engine::header::Task;
use crate::handle::input::Inputs;
use crate::task::error::IntoFailure;
use crate::task::function::{BlockingFn, Repeatable, TaskFn};
use crate::{Handle, Key, Retry};

/// How a task is to be run; made by [`Client::task`], used by one of the submitting verbs.
///
/// ```
/// use std::time::Duration;
/// use ensue::Client;
///
/// let client = Client::builder().limit("db", 2).build();
/// let rows = client
///     .task()
///     .key("rows")
///     .priority(5)
///     .limit("db", 1)
///     .timeout(Duration::from_secs(10))
///     .retries(3)
///     .try_submit(async || Ok::<_, std::io::Error>(vec![1, 2, 3]), ());
/// assert_eq!(rows.result().unwrap().len(), 3);
/// ```
#[must_use = "nothing is submitted yet: call `submit` or another verb"]
pub struct Options<'c, R = Once> {
    client: &'c Client,
    settings: TaskOptions,
    again: PhantomData<fn() -> R>,
}

/// What [`Options`] are made of, apart from the client: a key, a name, a priority, retries, a timeout and
/// limits, for [`Engine::submit_with`](crate::Engine::submit_with).
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TaskOptions {
    pub(crate) key: Option<Key>,
    /// In place of a key: the digest of a pure call.
    pub(crate) derived: Option<u128>,
    pub(crate) name: Option<std::sync::Arc<str>>,
    pub(crate) priority: i32,
    pub(crate) retry: Option<Retry>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) limits: Vec<(String, usize)>,
}

impl TaskOptions {
    /// The default for all of them.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`Options::retries`].
    pub fn retries(mut self, retry: impl Into<Retry>) -> Self {
        self.retry = Some(retry.into());
        self
    }
}

/// The setters that both kinds of options have.
macro_rules! setters {
    ($settings:ident: $($path:tt)+) => {
        /// Names the task, and joins the one that has the key already.
        ///
        /// While a task of that key waits, runs or has finished, and somebody needs it, the new handle is
        /// one of that task; the function and inputs given here are dropped unused, and the higher
        /// priority holds. One that failed or was cancelled is replaced, and its handles never see the new
        /// one. If its value is of another type, the new handle's error is a
        /// [`KeyConflict`](crate::ErrorKind::KeyConflict).
        ///
        /// With `map`, the tasks' keys are this one with a number: `k-0`, `k-1`.
        pub fn key(mut self, key: impl Into<Key>) -> Self {
            let $settings = &mut self;
            $($path)+.key = Some(key.into());
            self
        }

        /// What the task is called instead of its function's name: its key is this and a number.
        pub fn name(mut self, name: impl AsRef<str>) -> Self {
            let $settings = &mut self;
            $($path)+.name = Some(name.as_ref().into());
            self
        }

        /// Starts the task before any that is ready and has a lower priority; the default is 0. What the
        /// task waits for gets at least its priority.
        pub fn priority(mut self, priority: i32) -> Self {
            let $settings = &mut self;
            $($path)+.priority = priority;
            self
        }

        /// Ends an attempt that takes longer, counted from its start, with
        /// [`TimedOut`](crate::ErrorKind::TimedOut).
        ///
        /// Async work is dropped. A blocking closure keeps its thread until it returns; see
        /// [`is_cancelled`](crate::is_cancelled).
        pub fn timeout(mut self, timeout: Duration) -> Self {
            let $settings = &mut self;
            $($path)+.timeout = Some(timeout);
            self
        }

        /// Takes `n` of a limit that [`Builder::limit`](crate::Builder::limit) has declared, while an
        /// attempt runs. Several limits are taken together.
        ///
        /// A limit that wasn't declared, or that is less than `n`, makes the task fail at once with
        /// [`Limit`](crate::ErrorKind::Limit). A task that holds a limit and awaits another one that needs
        /// it may wait for ever.
        pub fn limit(mut self, name: impl Into<String>, n: usize) -> Self {
            let $settings = &mut self;
            $($path)+.limits.push((name.into(), n));
            self
        }
    };
}

impl TaskOptions {
    setters!(options: options);
}

impl<R> Options<'_, R> {
    setters!(options: options.settings);
}

impl<'c> Options<'c> {
    pub(crate) fn new(client: &'c Client) -> Self {
        Self { client, settings: TaskOptions::new(), again: PhantomData }
    }

    /// Tries again when an attempt fails, panics or times out: up to `n` times, or as a [`Retry`] says.
    ///
    /// This asks for a function and arguments that are `Clone`. Without it a task has one attempt.
    pub fn retries(self, retry: impl Into<Retry>) -> Options<'c, Often> {
        let settings = self.settings.retries(retry);
        Options { client: self.client, settings, again: PhantomData }
    }

    /// As [`Client::spawn`], with these options; a future can't be run again, so without retries.
    pub fn spawn<Fut>(self, future: Fut) -> Handle<Fut::Output>
    where
        Fut: Future + Send + 'static,
        Fut::Output: Send + 'static,
    {
        self.into_submission().one(
            task_future::spawned,
            task_future::spawned_planned,
            Spawned(future),
            (),
        )
    }

    /// As [`Client::try_spawn`], with these options; a future can't be run again, so without retries.
    pub fn try_spawn<Fut, T, E, M>(self, future: Fut) -> Handle<T>
    where
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: IntoFailure<M>,
        M: 'static,
    {
        let start = task_future::spawned_fallible::<Fut, T, E, M>;
        self.into_submission().one_planned(start, Spawned(future), ())
    }
}

impl<'c, R> Options<'c, R> {
    pub(crate) fn with(client: &'c Client, settings: TaskOptions) -> Self {
        Self { client, settings, again: PhantomData }
    }

    fn into_submission(self) -> Submission<'c> {
        Submission { core: self.client.core(), settings: self.settings }
    }

    /// As [`Client::submit`], with these options.
    pub fn submit<F, I, A>(self, function: F, inputs: I) -> Handle<F::Output>
    where
        F: TaskFn<A>,
        I: Inputs<A>,
        A: Send + 'static,
        R: Again<F, A>,
    {
        let waits = inputs.into_waits();
        self.into_submission().one(
            task_future::plain::<F, A>,
            task_future::planned::<R, F, A>,
            function,
            waits,
        )
    }

    /// As [`Client::try_submit`], with these options.
    pub fn try_submit<F, I, A, T, E, M>(self, function: F, inputs: I) -> Handle<T>
    where
        F: TaskFn<A, Output = Result<T, E>> + Repeatable,
        I: Inputs<A>,
        A: Clone + Send + 'static,
        T: Send + 'static,
        E: IntoFailure<M>,
        M: 'static,
    {
        self.into_submission().one_planned(
            task_future::fallible::<F, A, T, E, M>,
            function,
            inputs.into_waits(),
        )
    }

    /// As [`Client::submit_blocking`], with these options.
    pub fn submit_blocking<F, I, A>(self, function: F, inputs: I) -> Handle<F::Output>
    where
        F: BlockingFn<A>,
        I: Inputs<A>,
        A: Send + 'static,
        R: Again<F, A>,
    {
        self.into_submission().one_planned(
            task_future::blocking::<R, F, A>,
            function,
            inputs.into_waits(),
        )
    }

    /// As [`Client::try_submit_blocking`], with these options.
    pub fn try_submit_blocking<F, I, A, T, E, M>(self, function: F, inputs: I) -> Handle<T>
    where
        F: BlockingFn<A, Output = Result<T, E>> + Clone,
        I: Inputs<A>,
        A: Clone + Send + 'static,
        T: Send + 'static,
        E: IntoFailure<M>,
        M: 'static,
    {
        let start = task_future::blocking_fallible::<F, A, T, E, M>;
        self.into_submission().one_planned(start, function, inputs.into_waits())
    }

    /// As [`Client::submit_pure`], with these options. A key given before is the one that counts.
    pub fn submit_pure<F, I, A>(mut self, function: F, inputs: I) -> Handle<F::Output>
    where
        F: TaskFn<A>,
        I: Inputs<A> + Hash,
        A: Send + 'static,
        R: Again<F, A>,
    {
        const {
            assert!(
                size_of::<F>() == 0,
                "`submit_pure` takes a function that captures nothing, since what it captures is no \
                 part of its identity: pass it as an input instead"
            );
        }
        if self.settings.key.is_none() {
            self.settings.derived =
                Some(pure::digest::<F, I, A>(self.settings.name.as_deref(), &inputs));
        }
        self.submit(function, inputs)
    }

    /// As [`Client::map`], with these options.
    pub fn map<F, I, A>(
        self,
        function: F,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<F::Output>>
    where
        F: TaskFn<A> + Clone,
        I: Inputs<A>,
        A: Send + 'static,
        R: Again<F, A>,
    {
        if self.settings.is_plain() {
            let (core, priority) = (self.client.core(), self.settings.priority);
            return submit::many(core, inputs, |input| {
                let setup = Setup { priority, ..Setup::default() };
                let waits = input.into_waits();
                let (typed, ready) =
                    cell::create(core, setup, task_future::plain::<F, A>, function.clone(), waits);
                (Handle::new(typed), ready)
            });
        }
        self.many(inputs, |submission, input| {
            let (plain, planned) = (task_future::plain::<F, A>, task_future::planned::<R, F, A>);
            submission.create(plain, planned, function.clone(), input.into_waits())
        })
    }

    /// As [`Client::try_map`], with these options.
    pub fn try_map<F, I, A, T, E, M>(
        self,
        function: F,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<T>>
    where
        F: TaskFn<A, Output = Result<T, E>> + Clone,
        I: Inputs<A>,
        A: Clone + Send + 'static,
        T: Send + 'static,
        E: IntoFailure<M>,
        M: 'static,
    {
        self.many(inputs, |submission, input| {
            let start = task_future::fallible::<F, A, T, E, M>;
            submission.create_planned(start, function.clone(), input.into_waits())
        })
    }

    /// As [`Client::map_stream`], with these options. With a key, the tasks' keys are that with a number; a result
    /// that another handle of such a key still needs can't be moved out and is [`Lost`](crate::ErrorKind::Lost).
    pub fn map_stream<S, F, A>(
        self,
        inputs: S,
        limit: usize,
        function: F,
    ) -> MapStream<S, F::Output>
    where
        S: Stream,
        S::Item: Inputs<A>,
        F: TaskFn<A> + Clone,
        A: Send + 'static,
        R: Again<F, A>,
    {
        self.stream(inputs, limit, function, |options, function, input| {
            options.submit(function, input)
        })
    }

    /// As [`Client::try_map_stream`], with these options, and keys as [`map_stream`](Self::map_stream) has them.
    pub fn try_map_stream<S, F, A, T, E, M>(
        self,
        inputs: S,
        limit: usize,
        function: F,
    ) -> MapStream<S, T>
    where
        S: Stream,
        S::Item: Inputs<A>,
        F: TaskFn<A, Output = Result<T, E>> + Clone,
        A: Clone + Send + 'static,
        T: Send + 'static,
        E: IntoFailure<M>,
        M: 'static,
    {
        self.stream(inputs, limit, function, |options, function, input| {
            options.try_submit(function, input)
        })
    }

    /// Submits a task for each of the inputs, as they're wanted.
    fn stream<S, F, T>(
        self,
        inputs: S,
        limit: usize,
        function: F,
        submit: impl Fn(Options<'_, R>, F, S::Item) -> Handle<T> + Send + 'static,
    ) -> MapStream<S, T>
    where
        S: Stream,
        F: Clone + Send + 'static,
    {
        let client = self.client.clone();
        let origin = self.settings.any_key::<F>(client.core());
        let mut numbered = submit::numbered(self.settings);
        let submit =
            move |input| submit(Options::with(&client, numbered()), function.clone(), input);
        MapStream::new(inputs, limit, origin, Box::new(submit))
    }

    fn many<I, T>(
        self,
        inputs: impl IntoIterator<Item = I>,
        mut create: impl FnMut(Submission<'_>, I) -> (Handle<T>, Option<Task>),
    ) -> Vec<Handle<T>> {
        let core = self.client.core();
        let mut numbered = submit::numbered(self.settings);
        submit::many(core, inputs, |input| create(Submission { core, settings: numbered() }, input))
    }
}

impl<R> Clone for Options<'_, R> {
    fn clone(&self) -> Self {
        Self { client: self.client, settings: self.settings.clone(), again: PhantomData }
    }
}

impl<R> fmt::Debug for Options<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Options").field(&self.settings).finish()
    }
}
