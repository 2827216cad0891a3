//! The options of a task, and the submit methods that use them.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::marker::PhantomData;
use std::panic::Location;
use std::time::Duration;

use futures_core::Stream;

use super::body::{
    Async, Blocking, Call, Large, Spawn, Spawned, TryAsync, TryBlocking, TrySpawn, is_large,
};
use super::map_stream::MapStream;
use super::retry_mode::{NoRetry, OneAttempt, RetryMode, WithRetry};
use super::submit::{self, Submission};
use super::{Client, pure};
use crate::engine::task::edges::Waits;
use crate::engine::task::header::Task;
use crate::handle::input::Inputs;
use crate::task::error::IntoFailure;
use crate::task::function::{BlockingFn, TaskFn, TryBlockingFn, TryTaskFn};
use crate::task::subject::{Subject, SubmittedAt};
use crate::{Handle, Key, Retry};

/// The options of a task, with the submit methods of [`Client`]; made by [`Client::task`].
///
/// `R` is [`WithRetry`] after [`retries`](Options::retries), which adds `Clone` to the bounds of the submit methods.
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
///     .acquire("db")
///     .timeout(Duration::from_secs(10))
///     .retries(3)
///     .try_submit(async || Ok::<_, std::io::Error>(vec![1, 2, 3]), ());
/// assert_eq!(rows.result().unwrap().len(), 3);
/// ```
#[must_use = "nothing is submitted yet: call `submit` or another submit method"]
pub struct Options<'c, R = NoRetry> {
    client: &'c Client,
    settings: TaskOptions,
    again: PhantomData<fn() -> R>,
}

/// The options of a task without a client: key, name, priority, retries, timeout, deadline, limits and rates, for
/// [`Engine::submit_with`](crate::Engine::submit_with).
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TaskOptions {
    pub(crate) key: Option<Key>,
    /// The digest of a pure call, in place of a key.
    pub(crate) derived: Option<u128>,
    pub(crate) name: Option<std::sync::Arc<str>>,
    pub(crate) priority: i32,
    pub(crate) retry: Option<Retry>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) limits: Vec<(String, usize)>,
    pub(crate) submitted_at: SubmittedAt,
}

impl TaskOptions {
    /// Returns the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Retries failed attempts; see [`Options::retries`].
    pub fn retries(mut self, retry: impl Into<Retry>) -> Self {
        self.retry = Some(retry.into());
        self
    }
}

impl TaskOptions {
    /// Notes the line that submits with these options, unless an outer call has noted its own.
    #[track_caller]
    pub(crate) fn here(mut self) -> Self {
        self.submitted_at.get_or_insert(Location::caller());
        self
    }
}

/// The setters of both types of options.
macro_rules! setters {
    ($settings:ident: $($path:tt)+) => {
        /// Sets the key of the task, or joins the task that has this key already.
        ///
        /// If a task of this key waits, runs or has finished, the new handle refers to that task. The function and
        /// inputs of this submission are dropped unused on the calling thread, and the task keeps the higher of both
        /// priorities. A task that failed or was cancelled is replaced, and its handles keep their error. If the
        /// task's value has another type, the new handle's error is a [`KeyConflict`](crate::ErrorKind::KeyConflict).
        ///
        /// With `map`, the keys of the tasks are this key and a number: `k-0`, `k-1`.
        pub fn key(mut self, key: impl Into<Key>) -> Self {
            let $settings = &mut self;
            $($path)+.key = Some(key.into());
            self
        }

        /// Sets the name of the task in place of its function's name. Without a key of its own, its key is this name
        /// and a number.
        pub fn name(mut self, name: impl AsRef<str>) -> Self {
            let $settings = &mut self;
            $($path)+.name = Some(name.as_ref().into());
            self
        }

        /// Sets the priority; the default is 0. A ready task starts before those of lower priority, which wait as long
        /// as any of higher priority is ready. The tasks that it waits for get at least its priority: unfinished inputs,
        /// tasks that it awaits in any way, and those that hold a limit that it waits for.
        pub fn priority(mut self, priority: i32) -> Self {
            let $settings = &mut self;
            $($path)+.priority = priority;
            self
        }

        /// Ends an attempt that takes longer, counted from its start, with the error
        /// [`TimedOut`](crate::ErrorKind::TimedOut).
        ///
        /// Async work is dropped. Blocking work keeps its thread until it returns; see
        /// [`is_cancelled`](crate::is_cancelled).
        pub fn timeout(mut self, timeout: Duration) -> Self {
            let $settings = &mut self;
            $($path)+.timeout = Some(timeout);
            self
        }

        /// Ends the task with the error [`TimedOut`](crate::ErrorKind::TimedOut) unless it has ended `after` this time,
        /// counted from its submission: waiting for inputs, for a worker and for limits counts, and so do all attempts and
        /// the delays between them. Its dependents fail, as after any error, and no attempt follows.
        ///
        /// Async work is dropped, on the timer thread: a destructor that blocks there delays other timers. If the
        /// task is in a poll, its worker drops it after that. Blocking work keeps its thread until it returns; see
        /// [`is_cancelled`](crate::is_cancelled). A [`retry`](crate::Handle::retry) by hand begins the time anew.
        ///
        /// A submission that joins another task by its key changes nothing about that task's deadline. A duration too long to be
        /// added to the present never elapses. If the system refuses the timer thread, the task fails.
        pub fn deadline(mut self, after: Duration) -> Self {
            let $settings = &mut self;
            $($path)+.deadline = Some(after);
            self
        }

        /// Acquires one unit of a [limit](crate::Builder::limit), for as long as an attempt runs, or a start of a
        /// [rate](crate::Builder::rate), or both if they have the same name; see [`acquire_many`](Self::acquire_many).
        pub fn acquire(self, name: impl Into<String>) -> Self {
            self.acquire_many(name, 1)
        }

        /// Acquires `n` units of a [limit](crate::Builder::limit), for as long as an attempt runs, or `n` starts of a
        /// [rate](crate::Builder::rate), or both if they have the same name.
        ///
        /// Before each attempt, a task acquires all that it needs together, or waits, and holds nothing meanwhile, not even
        /// a worker. Those that wait get it by priority, of equal priority the [deepest](crate#contract) first, and then in
        /// order; of 32, at least one is the oldest. While a task waits for one limit or rate, others may take what it needs of
        /// the other ones, until it has lost its turn by that a few times: then these are kept for it.
        ///
        /// Blocking work holds a limit until its function returns. What an attempt has acquired of a rate isn't given back;
        /// its start counts when it's acquired, and blocking work may wait for a thread after that.
        ///
        /// If the name isn't declared, or neither it nor a pattern has ever had `n`, the task fails at once with the error
        /// [`Limit`](crate::ErrorKind::Limit). If that was [lowered](crate::Client::set_limit) since, or has always been 0, the
        /// task waits. A task
        /// that holds a limit and awaits a task that needs the same limit may wait forever.
        ///
        /// On a Dask cluster, it acquires `n` of the [resource](https://distributed.dask.org/en/stable/resources.html) of this
        /// name of its worker, and waits while no worker has it. Dask has no rates.
        ///
        /// ```
        /// let client = ensue::Client::builder().limit("gpu", 4).build();
        /// let model = client.task().acquire_many("gpu", 2).submit(async || 0.5, ());
        /// assert_eq!(model.result().unwrap(), 0.5);
        /// ```
        pub fn acquire_many(mut self, name: impl Into<String>, n: usize) -> Self {
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

    /// Retries an attempt that fails, panics or times out, up to `n` times or by the rules of a [`Retry`].
    ///
    /// The function and its arguments must be `Clone`; they are cloned on the worker before each attempt. Without
    /// this option a task has one attempt.
    pub fn retries(self, retry: impl Into<Retry>) -> Options<'c, WithRetry> {
        let settings = self.settings.retries(retry);
        Options { client: self.client, settings, again: PhantomData }
    }
}

impl<'c, R> Options<'c, R> {
    pub(crate) fn with(client: &'c Client, settings: TaskOptions) -> Self {
        Self { client, settings, again: PhantomData }
    }

    /// Submits a function that `C` calls.
    #[track_caller]
    fn one<M, C, F, W>(self, function: F, waits: W) -> Handle<C::Value>
    where
        M: RetryMode<F, W::Args>,
        C: Call<F, W::Args>,
        F: Send + 'static,
        W: Waits,
    {
        let submission = Submission { client: self.client, settings: self.settings.here() };
        submit::queued(submission.create::<M, C, F, W>(function, waits))
    }

    /// Submits an async function; see [`Client::submit`].
    #[track_caller]
    pub fn submit<F, I, A>(self, function: F, inputs: I) -> Handle<F::Output>
    where
        F: TaskFn<A>,
        I: Inputs<A>,
        A: Send + 'static,
        R: RetryMode<F, A>,
    {
        self.one::<R, Async, F, _>(function, inputs.into_waits())
    }

    /// Submits an async function that returns a `Result`; see [`Client::try_submit`].
    #[track_caller]
    pub fn try_submit<F, I, A, M>(self, function: F, inputs: I) -> Handle<F::Value>
    where
        F: TryTaskFn<A, M>,
        I: Inputs<A>,
        A: Clone + Send + 'static,
        M: 'static,
    {
        self.one::<WithRetry, TryAsync<M>, F, _>(function, inputs.into_waits())
    }

    /// Submits a plain function that may block; see [`Client::submit_blocking`].
    #[track_caller]
    pub fn submit_blocking<F, I, A>(self, function: F, inputs: I) -> Handle<F::Output>
    where
        F: BlockingFn<A>,
        I: Inputs<A>,
        A: Send + 'static,
        R: RetryMode<F, A>,
    {
        self.one::<R, Blocking, F, _>(function, inputs.into_waits())
    }

    /// Submits a plain function that may block and returns a `Result`; see [`Client::try_submit_blocking`].
    #[track_caller]
    pub fn try_submit_blocking<F, I, A, M>(self, function: F, inputs: I) -> Handle<F::Value>
    where
        F: TryBlockingFn<A, M>,
        I: Inputs<A>,
        A: Clone + Send + 'static,
        M: 'static,
    {
        self.one::<WithRetry, TryBlocking<M>, F, _>(function, inputs.into_waits())
    }

    /// Submits a call with a derived key; see [`Client::submit_pure`]. A key that was set with [`key`](Options::key)
    /// is used instead of the derived one.
    #[track_caller]
    pub fn submit_pure<F, I, A>(mut self, function: F, inputs: I) -> Handle<F::Output>
    where
        F: TaskFn<A>,
        I: Inputs<A> + Hash,
        A: Send + 'static,
        R: RetryMode<F, A>,
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

    /// Runs a future; see [`Client::spawn`]. A future can't run again, so this doesn't compile after
    /// [`retries`](Options::retries).
    #[track_caller]
    pub fn spawn<Fut>(self, future: Fut) -> Handle<Fut::Output>
    where
        Fut: Future + Send + 'static,
        Fut::Output: Send + 'static,
        R: OneAttempt,
    {
        // Before it's passed on: each function that it's passed to may copy it.
        if const { is_large::<Fut>() } {
            self.one::<NoRetry, Spawn, _, _>(Spawned(Large::new(future)), ())
        } else {
            self.one::<NoRetry, Spawn, _, _>(Spawned(future), ())
        }
    }

    /// Runs a future that returns a `Result`; see [`Client::try_spawn`]. A future can't run again, so this doesn't
    /// compile after [`retries`](Options::retries).
    #[track_caller]
    pub fn try_spawn<Fut, T, E, M>(self, future: Fut) -> Handle<T>
    where
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: IntoFailure<M>,
        M: 'static,
        R: OneAttempt,
    {
        if const { is_large::<Fut>() } {
            self.one::<NoRetry, TrySpawn<M>, _, _>(Spawned(Large::new(future)), ())
        } else {
            self.one::<NoRetry, TrySpawn<M>, _, _>(Spawned(future), ())
        }
    }

    /// Submits a function once for each input; see [`Client::map`].
    #[track_caller]
    #[must_use = "dropping the handles abandons their tasks: keep them, or `detach` each; `let _ =` drops them, too"]
    pub fn map<F, I, A>(
        self,
        function: F,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<F::Output>>
    where
        F: TaskFn<A> + Clone,
        I: Inputs<A>,
        A: Send + 'static,
        R: RetryMode<F, A>,
    {
        self.many(inputs, |submission, input| {
            submission.create::<R, Async, F, _>(function.clone(), input.into_waits())
        })
    }

    /// Submits a function that returns a `Result` once for each input; see [`Client::try_map`].
    #[track_caller]
    #[must_use = "dropping the handles abandons their tasks: keep them, or `detach` each; `let _ =` drops them, too"]
    pub fn try_map<F, I, A, M>(
        self,
        function: F,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<F::Value>>
    where
        F: TryTaskFn<A, M>,
        I: Inputs<A>,
        A: Clone + Send + 'static,
        M: 'static,
    {
        self.many(inputs, |submission, input| {
            submission.create::<WithRetry, TryAsync<M>, F, _>(function.clone(), input.into_waits())
        })
    }

    /// Returns a stream that submits a task for each input when there is room for it.
    #[track_caller]
    pub(super) fn stream<S, F, T>(
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
        let (client, settings) = (self.client.for_later(), self.settings.here());
        let key = settings.any_key(client.core(), std::any::type_name::<F>());
        let origin = Subject { key, submitted_at: settings.submitted_at };
        let mut numbered = submit::numbered(settings);
        let submit =
            move |input| submit(Options::with(&client, numbered()), function.clone(), input);
        let seeded = self.client.core().seeded.is_some();
        MapStream::new(inputs, limit, origin, seeded, Box::new(submit))
    }

    #[track_caller]
    fn many<I, T>(
        self,
        inputs: impl IntoIterator<Item = I>,
        mut create: impl FnMut(Submission<'_>, I) -> (Handle<T>, Option<Task>),
    ) -> Vec<Handle<T>> {
        let client = self.client;
        let mut numbered = submit::numbered(self.settings.here());
        submit::many(client.core(), inputs, |input| {
            create(Submission { client, settings: numbered() }, input)
        })
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
