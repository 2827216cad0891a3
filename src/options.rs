//! Submitting with options.

use std::any::{TypeId, type_name};
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;

use crate::attempt::{Again, Often, Once, Plan, Planned};
use crate::body::{self, Spawned};
use crate::engine::cell::{self, Outcome, Setup};
use crate::engine::context;
use crate::engine::core::Core;
use crate::engine::edges::Waits;
use crate::engine::header::{Extras, Task};
use crate::engine::state::KEYED;
use crate::engine::store::Joined;
use crate::engine::typed::Typed;
use crate::error::IntoFailure;
use crate::function::{BlockingFn, TaskFn};
use crate::input::Inputs;
use crate::map_stream::MapStream;
use crate::{Client, Error, Handle, Key, Retry, pure};

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
#[derive(Clone)]
#[must_use = "nothing is submitted yet: call `submit` or another verb"]
pub struct Options<'c, R = Once> {
    client: &'c Client,
    key: Option<Key>,
    name: Option<Arc<str>>,
    priority: i32,
    retry: Option<Retry>,
    timeout: Option<Duration>,
    limits: Vec<(String, usize)>,
    again: PhantomData<fn() -> R>,
}

impl<'c> Options<'c> {
    pub(crate) fn new(client: &'c Client) -> Self {
        Self {
            client,
            key: None,
            name: None,
            priority: 0,
            retry: None,
            timeout: None,
            limits: Vec::new(),
            again: PhantomData,
        }
    }

    /// Tries again when an attempt fails, panics or times out: up to `n` times, or as a [`Retry`] says.
    ///
    /// This asks for a function and arguments that are `Clone`. Without it a task has one attempt.
    pub fn retries(self, retry: impl Into<Retry>) -> Options<'c, Often> {
        let Self { client, key, name, priority, timeout, limits, .. } = self;
        let retry = Some(retry.into());
        Options { client, key, name, priority, retry, timeout, limits, again: PhantomData }
    }

    /// As [`Client::spawn`], with these options; a future can't be run again, so without retries.
    pub fn spawn<Fut>(self, future: Fut) -> Handle<Fut::Output>
    where
        Fut: Future + Send + 'static,
        Fut::Output: Send + 'static,
    {
        self.one(body::spawned, body::spawned_planned, Spawned(future), ())
    }
}

impl<R> Options<'_, R> {
    /// Names the task, and joins the one that has the key already.
    ///
    /// While a task of that key waits, runs or has finished, and somebody needs it, the new handle is one
    /// of that task; the function and inputs given here are dropped unused, and the higher priority
    /// holds. One that failed or was cancelled is replaced, and its handles never see the new one. If its
    /// value is of another type, the new handle's error is a
    /// [`KeyConflict`](crate::ErrorKind::KeyConflict).
    ///
    /// With `map`, the tasks' keys are this one with a number: `k-0`, `k-1`.
    pub fn key(mut self, key: impl Into<Key>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// What the task is called instead of its function's name: its key is this and a number.
    pub fn name(mut self, name: impl AsRef<str>) -> Self {
        self.name = Some(name.as_ref().into());
        self
    }

    /// Starts the task before any that is ready and has a lower priority; the default is 0. What the task
    /// waits for gets at least its priority.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Ends an attempt that takes longer, counted from its start, with
    /// [`TimedOut`](crate::ErrorKind::TimedOut).
    ///
    /// Async work is dropped. A blocking closure keeps its thread until it returns; see
    /// [`is_cancelled`](crate::is_cancelled).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Takes `n` of a limit that [`Builder::limit`](crate::Builder::limit) has declared, while an attempt
    /// runs. Several limits are taken together.
    ///
    /// A limit that wasn't declared, or that is less than `n`, makes the task fail at once with
    /// [`Limit`](crate::ErrorKind::Limit). A task that holds a limit and awaits another one that needs it
    /// may wait for ever.
    pub fn limit(mut self, name: impl Into<String>, n: usize) -> Self {
        self.limits.push((name.into(), n));
        self
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
        self.one(body::plain::<F, A>, body::planned::<R, F, A>, function, waits)
    }

    /// As [`Client::try_submit`], with these options.
    pub fn try_submit<F, I, A, T, E, M>(self, function: F, inputs: I) -> Handle<T>
    where
        F: TaskFn<A, Output = Result<T, E>> + Clone,
        I: Inputs<A>,
        A: Clone + Send + 'static,
        T: Send + 'static,
        E: IntoFailure<M>,
        M: 'static,
    {
        self.one_planned(body::fallible::<F, A, T, E, M>, function, inputs.into_waits())
    }

    /// As [`Client::submit_blocking`], with these options.
    pub fn submit_blocking<F, I, A>(self, function: F, inputs: I) -> Handle<F::Output>
    where
        F: BlockingFn<A>,
        I: Inputs<A>,
        A: Send + 'static,
        R: Again<F, A>,
    {
        self.one_planned(body::blocking::<R, F, A>, function, inputs.into_waits())
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
        let start = body::blocking_fallible::<F, A, T, E, M>;
        self.one_planned(start, function, inputs.into_waits())
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
        if self.key.is_none() {
            let identity = (TypeId::of::<F>(), TypeId::of::<A>());
            self.key = Some(pure::key(&self.name_of::<F>(), identity, &inputs));
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
        self.many(inputs, |options, input| {
            let (plain, planned) = (body::plain::<F, A>, body::planned::<R, F, A>);
            options.create(plain, planned, function.clone(), input.into_waits())
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
        self.many(inputs, |options, input| {
            let start = body::fallible::<F, A, T, E, M>;
            options.create_planned(start, function.clone(), input.into_waits())
        })
    }

    /// As [`Client::map_stream`], with these options. With a key, the tasks' keys are that with a number.
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
        let client = self.client.clone();
        let origin = self.any_key::<F>();
        let Self { key, name, priority, retry, timeout, limits, .. } = self;
        let mut count = 0;
        let submit = move |input: S::Item| {
            let options = Options::<R> {
                client: &client,
                key: key.as_ref().map(|key| numbered(key, count)),
                name: name.clone(),
                priority,
                retry: retry.clone(),
                timeout,
                limits: limits.clone(),
                again: PhantomData,
            };
            count += 1;
            options.submit(function.clone(), input)
        };
        MapStream::new(inputs, limit, origin, Box::new(submit))
    }

    fn many<I, T>(
        mut self,
        inputs: impl IntoIterator<Item = I>,
        mut create: impl FnMut(Self, I) -> (Handle<T>, Option<Task>),
    ) -> Vec<Handle<T>> {
        let key = self.key.take();
        let inputs = inputs.into_iter();
        let mut handles = Vec::with_capacity(inputs.size_hint().0);
        let mut ready = Vec::with_capacity(inputs.size_hint().0);
        for (count, input) in inputs.enumerate() {
            let key = key.as_ref().map(|key| numbered(key, count));
            let (handle, task) = create(Self { key, ..self.clone_parts() }, input);
            handles.push(handle);
            ready.extend(task);
        }
        context::schedule_all(self.client.core(), ready);
        handles
    }

    fn clone_parts(&self) -> Self {
        let Self { client, key, name, priority, retry, timeout, limits, again } = self;
        Self {
            client,
            key: key.clone(),
            name: name.clone(),
            priority: *priority,
            retry: retry.clone(),
            timeout: *timeout,
            limits: limits.clone(),
            again: *again,
        }
    }

    /// Submits a function that needs no plan unless the options do.
    fn one<F, W, Fut1, Fut2, T>(
        self,
        plain: impl Fn(F, W::Args) -> Fut1 + Send + 'static,
        planned: impl Fn(Planned<F>, W::Args) -> Fut2 + Send + 'static,
        function: F,
        waits: W,
    ) -> Handle<T>
    where
        F: Send + 'static,
        W: Waits,
        Fut1: Future<Output = Outcome<T, F, W::Args>> + Send + 'static,
        Fut2: Future<Output = Outcome<T, Planned<F>, W::Args>> + Send + 'static,
        T: Send + 'static,
    {
        let (handle, ready) = self.create(plain, planned, function, waits);
        ready.into_iter().for_each(context::schedule_new);
        handle
    }

    fn one_planned<F, W, Fut, T>(
        self,
        start: impl Fn(Planned<F>, W::Args) -> Fut + Send + 'static,
        function: F,
        waits: W,
    ) -> Handle<T>
    where
        F: Send + 'static,
        W: Waits,
        Fut: Future<Output = Outcome<T, Planned<F>, W::Args>> + Send + 'static,
        T: Send + 'static,
    {
        let (handle, ready) = self.create_planned(start, function, waits);
        ready.into_iter().for_each(context::schedule_new);
        handle
    }

    fn create<F, W, Fut1, Fut2, T>(
        self,
        plain: impl Fn(F, W::Args) -> Fut1 + Send + 'static,
        planned: impl Fn(Planned<F>, W::Args) -> Fut2 + Send + 'static,
        function: F,
        waits: W,
    ) -> (Handle<T>, Option<Task>)
    where
        F: Send + 'static,
        W: Waits,
        Fut1: Future<Output = Outcome<T, F, W::Args>> + Send + 'static,
        Fut2: Future<Output = Outcome<T, Planned<F>, W::Args>> + Send + 'static,
        T: Send + 'static,
    {
        if self.retry.is_some() || self.timeout.is_some() || !self.limits.is_empty() {
            return self.create_planned(planned, function, waits);
        }
        let Self { client, key, name, priority, .. } = self;
        make(client.core(), priority, key, name, plain, function, waits)
    }

    fn create_planned<F, W, Fut, T>(
        self,
        start: impl Fn(Planned<F>, W::Args) -> Fut + Send + 'static,
        function: F,
        waits: W,
    ) -> (Handle<T>, Option<Task>)
    where
        F: Send + 'static,
        W: Waits,
        Fut: Future<Output = Outcome<T, Planned<F>, W::Args>> + Send + 'static,
        T: Send + 'static,
    {
        let core = self.client.core();
        let limits = match core.limits.needs(&self.limits) {
            Ok(limits) => limits,
            Err(text) => {
                let key = self.any_key::<F>();
                let error = Error::limit(key.clone(), text);
                return (Handle::new(cell::create_ended(core, Some(key), Err(error))), None);
            }
        };
        let Self { key, name, priority, retry, timeout, .. } = self;
        let retry = retry.unwrap_or_else(|| Retry::new(0));
        let plan = Arc::new(Plan { retry, timeout, limits });
        make(core, priority, key, name, start, Planned { function, plan }, waits)
    }

    fn name_of<F>(&self) -> Arc<str> {
        self.name.clone().unwrap_or_else(|| crate::key::short_name(type_name::<F>()).into())
    }

    /// The key, or one for the error of a task that is never made.
    fn any_key<F>(&self) -> Key {
        let number = || self.client.core().next_number();
        self.key.clone().unwrap_or_else(|| format!("{}-{}", self.name_of::<F>(), number()).into())
    }
}

/// Makes the task, or joins the one that has its key.
fn make<S, F, W, Fut, T>(
    core: &Core,
    priority: i32,
    key: Option<Key>,
    name: Option<Arc<str>>,
    start: S,
    function: F,
    waits: W,
) -> (Handle<T>, Option<Task>)
where
    S: Fn(F, W::Args) -> Fut + Send + 'static,
    F: Send + 'static,
    W: Waits,
    Fut: Future<Output = Outcome<T, F, W::Args>> + Send + 'static,
    T: Send + 'static,
{
    let Some(key) = key else {
        let extras = name.map(|name| Box::new(Extras { name: Some(name), ..Extras::default() }));
        let setup = Setup { priority, flags: 0, extras };
        let (typed, ready) = cell::create(core, setup, start, function, waits);
        return (Handle::new(typed), ready);
    };
    let inputs = waits.count();
    let mut parts = Some((start, function, waits));
    let joined = core.store.join_or_insert(&key, || {
        let extras = Extras { name, key: key.clone().into(), ..Extras::default() };
        let setup = Setup { priority, flags: KEYED, extras: Some(Box::new(extras)) };
        let Some((start, function, waits)) = parts.take() else {
            unreachable!("a task is made once");
        };
        cell::allocate::<_, _, _, _, T>(core, setup, start, function, waits, inputs).into_user()
    });
    match joined {
        Joined::New(user) => {
            let ready = cell::begin(core, user.task().as_ptr(), inputs);
            (Handle::new(Typed::known(user)), ready)
        }
        Joined::Existing(user) => match Typed::checked(user) {
            Ok(typed) => {
                Core::raise(typed.task(), priority);
                (Handle::new(typed), None)
            }
            Err(user) => {
                let held = (user.vtable.type_name)();
                let error = Error::key_conflict(key.clone(), held, type_name::<T>());
                (Handle::new(cell::create_ended(core, Some(key), Err(error))), None)
            }
        },
    }
}

fn numbered(key: &Key, count: usize) -> Key {
    format!("{key}-{count}").into()
}

impl<R> fmt::Debug for Options<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("key", &self.key)
            .field("name", &self.name)
            .field("priority", &self.priority)
            .field("retry", &self.retry)
            .field("timeout", &self.timeout)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
