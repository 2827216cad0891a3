//! The door: a client and its verbs.

use std::fmt;
use std::future::Future;
use std::hash::Hash;

use futures_core::Stream;
use futures_task::{FutureObj, Spawn, SpawnError};

use crate::attempt::{Again, Once};
use crate::body::{self, Spawned};
use crate::engine::core::CoreRef;
use crate::engine::core::context;
use crate::engine::life::cell;
use crate::engine::task::typed::Typed;
use crate::engine::worker::WorkerFuture;
use crate::engine::worker::threads;
use crate::error::IntoFailure;
use crate::function::{BlockingFn, Repeatable, TaskFn};
use crate::input::Inputs;
use crate::map_stream::MapStream;
use crate::options::Options;
use crate::pure;
use crate::submit;
use crate::{Builder, Error, Handle, Key};

/// Where work is submitted: an executor with a keyed store of results.
///
/// Clones are cheap and are of the same client. Dropping the last one shuts it down like a dropped
/// runtime: running tasks are dropped at their next await, and handles that outlive it resolve to
/// [`Closed`](crate::ErrorKind::Closed). [`close`](Client::close) is the way to let running work end. A
/// client captured by one of its own tasks keeps itself alive.
pub struct Client {
    core: CoreRef,
}

impl Client {
    /// A client with one worker thread per core.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A client made to measure.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The client whose task, or whose blocking work, is running on this thread.
    pub fn current() -> Option<Self> {
        context::current_core().map(Self::of)
    }

    /// The first one of a new engine, which has counted it.
    pub(crate) fn first(core: CoreRef) -> Self {
        Self { core }
    }

    fn of(core: CoreRef) -> Self {
        core.add_client();
        Self { core }
    }

    pub(crate) fn core(&self) -> &CoreRef {
        &self.core
    }

    /// Options for a task: a key, a priority, retries, a timeout, limits.
    pub fn task(&self) -> Options<'_> {
        Options::new(self)
    }

    /// Submits an async function and its inputs, and returns a handle at once.
    ///
    /// One input is given bare, several as a tuple, none as `()`. A handle among them, or in a vector,
    /// array, option or map, is waited for and its value passed; see [`Input`](crate::Input). Work starts
    /// without being awaited, as soon as its inputs are there.
    ///
    /// This never blocks and never fails: what is wrong with a submission is the handle's error. After
    /// [`close`](Client::close) that is [`Closed`](crate::ErrorKind::Closed).
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let x = client.submit(async |x: u64| x + 1, 1);
    /// let sum = client.submit(async |x: u64, y: u64| x + y, (&x, 40));
    /// assert_eq!(sum.result().unwrap(), 42);
    /// ```
    pub fn submit<F, I, A>(&self, function: F, inputs: I) -> Handle<F::Output>
    where
        F: TaskFn<A>,
        I: Inputs<A>,
        A: Send + 'static,
    {
        submit::plain(&self.core, body::plain::<F, A>, function, inputs.into_waits())
    }

    /// Submits an async function that returns a `Result`: an `Err` is the task's error, of kind
    /// [`Failed`](crate::ErrorKind::Failed), and its dependents fail with it without running.
    ///
    /// The function and its arguments are `Clone`, so that the task can be
    /// [retried](crate::Handle::retry). Work that owns what isn't, such as a connection, is for
    /// [`try_spawn`](Client::try_spawn).
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let n = client.try_submit(async |text: &str| text.parse::<u8>(), "300");
    /// let error = n.result().unwrap_err();
    /// assert!(error.downcast_ref::<std::num::ParseIntError>().is_some());
    /// ```
    pub fn try_submit<F, I, A, T, E, M>(&self, function: F, inputs: I) -> Handle<T>
    where
        F: TaskFn<A, Output = Result<T, E>> + Repeatable,
        I: Inputs<A>,
        A: Clone + Send + 'static,
        T: Send + 'static,
        E: IntoFailure<M>,
        M: 'static,
    {
        self.task().try_submit(function, inputs)
    }

    /// Submits a plain function that may block, to run on a thread outside the workers.
    ///
    /// It can't be stopped from outside: once cancelled it keeps its thread and its limits until it
    /// returns, so a long one should ask [`is_cancelled`](crate::is_cancelled). On a seeded client it runs
    /// on the spot.
    ///
    /// The threads are those of the crate `blocking`, up to 500 (or `BLOCKING_MAX_THREADS`, from the environment) for
    /// the whole process; one ends when it has had nothing to do for half a second. A closure for which there is none
    /// waits, and counts as running; [`explain`](Client::explain) tells them apart. Where closures that wait for the
    /// [results](crate::Handle::result) of others take all of these threads, they wait for ever: do the waiting in
    /// async tasks, or give them a [limit](crate::Builder::limit).
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let text = client.submit_blocking(|| std::fs::read_to_string("Cargo.toml").is_ok(), ());
    /// assert!(text.result().unwrap());
    /// ```
    ///
    /// How many wait for a thread at the moment:
    ///
    /// ```
    /// use ensue::{Client, Handle, Reason};
    ///
    /// let client = Client::new();
    /// let all: Vec<_> = (0..100).map(|n| client.submit_blocking(move || n, ())).collect();
    /// let waits = |x: &&Handle<_>| client.explain(x).reasons.contains(&Reason::WaitsForThread);
    /// println!("{} have no thread yet", all.iter().filter(waits).count());
    /// ```
    pub fn submit_blocking<F, I, A>(&self, function: F, inputs: I) -> Handle<F::Output>
    where
        F: BlockingFn<A>,
        I: Inputs<A>,
        A: Send + 'static,
    {
        self.task().submit_blocking(function, inputs)
    }

    /// [`submit_blocking`](Client::submit_blocking) for a function that returns a `Result`, as in
    /// [`try_submit`](Client::try_submit).
    pub fn try_submit_blocking<F, I, A, T, E, M>(&self, function: F, inputs: I) -> Handle<T>
    where
        F: BlockingFn<A, Output = Result<T, E>> + Clone,
        I: Inputs<A>,
        A: Clone + Send + 'static,
        T: Send + 'static,
        E: IntoFailure<M>,
        M: 'static,
    {
        self.task().try_submit_blocking(function, inputs)
    }

    /// Submits a call whose key is derived from the function and its inputs, so that equal calls run once
    /// while anyone holds their result.
    ///
    /// The inputs are `Hash`, handles by their keys. The function may capture nothing; a closure that does
    /// is a compile error that shows the line. The key is the function's name and 128 bits of the rest.
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let square = async |x: u64| x * x;
    /// let a = client.submit_pure(square, 12);
    /// let b = client.submit_pure(square, 12);
    /// assert_eq!(a.key(), b.key());
    /// assert_eq!(b.result().unwrap(), 144);
    /// ```
    pub fn submit_pure<F, I, A>(&self, function: F, inputs: I) -> Handle<F::Output>
    where
        F: TaskFn<A>,
        I: Inputs<A> + Hash,
        A: Send + 'static,
    {
        const {
            assert!(
                size_of::<F>() == 0,
                "`submit_pure` takes a function that captures nothing, since what it captures is no \
                 part of its identity: pass it as an input instead"
            );
        }
        let digest = pure::digest::<F, I, A>(None, &inputs);
        submit::pure(&self.core, digest, body::plain::<F, A>, function, inputs.into_waits())
    }

    /// Submits the function once for each of the inputs, which costs less than one by one.
    ///
    /// Of inputs that know how many they are, such as those of a range or a vector, some tasks at a time are
    /// queued together; of others each task is queued before the next input is asked for. For inputs that
    /// wait for the tasks made of earlier ones, take [`map_stream`](Client::map_stream).
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// let client = ensue::Client::new();
    /// let squares = client.map(async |x: u64| x * x, 0..4);
    /// assert_eq!(ensue::gather(squares).await?, [0, 1, 4, 9]);
    /// # Ok::<_, ensue::Error>(()) }).unwrap();
    /// ```
    pub fn map<F, I, A>(
        &self,
        function: F,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<F::Output>>
    where
        F: TaskFn<A> + Clone,
        I: Inputs<A>,
        A: Send + 'static,
    {
        self.task().map(function, inputs)
    }

    /// [`map`](Client::map) for a function that returns a `Result`, as in
    /// [`try_submit`](Client::try_submit).
    pub fn try_map<F, I, A, T, E, M>(
        &self,
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
        self.task().try_map(function, inputs)
    }

    /// Runs the function for each input of a stream and yields the results in the order in which they
    /// finish.
    ///
    /// Never more than `limit` are in flight, those included that have finished and not been taken: that
    /// is the backpressure, and millions of inputs pass in constant memory. Dropping the stream cancels
    /// what is in flight. If `inputs` panics, the last result is that panic; a limit of 0 gives one
    /// [`Limit`](crate::ErrorKind::Limit) error.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use futures_lite::{StreamExt, stream};
    ///
    /// let client = ensue::Client::new();
    /// let mut squares = client.map_stream(stream::iter(1..=1000u64), 8, async |x: u64| x * x);
    /// let mut sum = 0;
    /// while let Some(square) = squares.next().await {
    ///     sum += square?;
    /// }
    /// assert_eq!(sum, 333_833_500);
    /// # Ok::<_, ensue::Error>(()) }).unwrap();
    /// ```
    pub fn map_stream<S, F, A>(
        &self,
        inputs: S,
        limit: usize,
        function: F,
    ) -> MapStream<S, F::Output>
    where
        S: Stream,
        S::Item: Inputs<A>,
        F: TaskFn<A> + Clone,
        A: Send + 'static,
        Once: Again<F, A>,
    {
        self.task().map_stream(inputs, limit, function)
    }

    /// As [`map_stream`](Client::map_stream) with a function that returns a `Result`: an `Err` is the task's
    /// error, and what [`retries`](crate::Options::retries) are for.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use futures_lite::{StreamExt, stream};
    ///
    /// let client = ensue::Client::new();
    /// let parse = async |text: &'static str| text.parse::<u64>();
    /// let numbers = client.task().retries(2).try_map_stream(stream::iter(["1", "x", "3"]), 2, parse);
    /// let numbers: Vec<_> = numbers.collect().await;
    /// assert_eq!(numbers.iter().flatten().sum::<u64>(), 4);
    /// assert_eq!(numbers.iter().filter(|number| number.is_err()).count(), 1);
    /// # });
    /// ```
    pub fn try_map_stream<S, F, A, T, E, M>(
        &self,
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
        self.task().try_map_stream(inputs, limit, function)
    }

    /// Runs a future as a task. One that may fail is for [`try_spawn`](Client::try_spawn).
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let captured = String::from("hello");
    /// let x = client.spawn(async move { captured.len() });
    /// assert_eq!(x.result().unwrap(), 5);
    /// ```
    pub fn spawn<Fut>(&self, future: Fut) -> Handle<Fut::Output>
    where
        Fut: Future + Send + 'static,
        Fut::Output: Send + 'static,
    {
        submit::plain(&self.core, body::spawned, Spawned(future), ())
    }

    /// Runs a future that returns a `Result` as a task: an `Err` is the task's error, as in
    /// [`try_submit`](Client::try_submit).
    ///
    /// Nothing has to be `Clone`, neither what the future owns nor its error. So it can't be run again:
    /// [`retry`](Handle::retry) says false.
    ///
    /// ```
    /// use std::io::{Error, ErrorKind};
    ///
    /// struct Connection; // it can't be cloned
    ///
    /// impl Connection {
    ///     async fn ask(&mut self) -> Result<u64, Error> {
    ///         Err(ErrorKind::ConnectionReset.into())
    ///     }
    /// }
    ///
    /// let client = ensue::Client::new();
    /// let mut connection = Connection;
    /// let answer = client.try_spawn(async move { connection.ask().await });
    /// let error = answer.result().unwrap_err();
    /// assert_eq!(error.downcast_ref::<Error>().unwrap().kind(), ErrorKind::ConnectionReset);
    /// assert!(!answer.retry());
    /// ```
    pub fn try_spawn<Fut, T, E, M>(&self, future: Fut) -> Handle<T>
    where
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: IntoFailure<M>,
        M: 'static,
    {
        self.task().try_spawn(future)
    }

    /// A handle of a value that is there already.
    pub fn ready<T: Send + 'static>(&self, value: T) -> Handle<T> {
        Handle::new(cell::create_ended(&self.core, None, Ok(value)))
    }

    /// The task that was given this key, while somebody needs it.
    ///
    /// Where its value isn't a `T`, the handle's error is a
    /// [`KeyConflict`](crate::ErrorKind::KeyConflict).
    pub fn get<T: Send + 'static>(&self, key: impl AsRef<str>) -> Option<Handle<T>> {
        let user = self.core.store.get(key.as_ref())?;
        Some(Handle::new(match Typed::checked(user) {
            Ok(typed) => typed,
            Err(user) => {
                let held = (user.vtable.type_name)();
                let asked = std::any::type_name::<T>();
                let key = Key::from(key.as_ref());
                let error = Error::key_conflict(key.clone(), held, asked);
                cell::create_ended(&self.core, Some(key), Err(error))
            }
        }))
    }

    /// How many tasks are held in memory, finished ones and others.
    ///
    /// It's exact while nothing happens. A task that was given up while it lay in a queue has dropped all it
    /// held, and counts until a worker comes upon what is left of it.
    pub fn held(&self) -> usize {
        self.core.tasks_in_memory()
    }

    /// Changes the number of the client's own worker threads, while work goes on.
    ///
    /// Those that are one too many leave after the task in hand; this waits for nothing and loses nothing.
    /// On a closed or a seeded client it has no effect.
    pub fn scale(&self, workers: usize) {
        if self.core.seeded.is_none() {
            threads::scale(&self.core, workers);
        }
    }

    /// How many workers there are: the client's own threads, and the [`worker`](Client::worker) futures
    /// that are being driven.
    pub fn workers(&self) -> usize {
        self.core.hosted_workers() + self.core.threads.alive()
    }

    /// A worker: a future that runs tasks while it's polled.
    ///
    /// Spawn it as often as you like on a runtime of your own, and tasks use that runtime's I/O and timers.
    /// It resolves when the client is closed and has nothing left to do, and doesn't keep the client alive.
    /// Dropping it between polls loses no task. In one poll it runs up to 64 tasks, for some 100 µs or until the one
    /// in hand gives way, and then lets the runtime run others.
    ///
    /// ```
    /// use ensue::Client;
    ///
    /// let client = Client::builder().workers(0).build();
    /// let x = client.submit(async || 42, ());
    /// let x = futures_lite::future::block_on(futures_lite::future::or(
    ///     async { x.await },
    ///     async { client.worker().await; unreachable!() },
    /// ));
    /// assert_eq!(x.unwrap(), 42);
    /// ```
    pub fn worker(&self) -> Worker {
        Worker(WorkerFuture::new(self.core.clone(), false))
    }

    /// Resolves when no task is left to run or running, or none was at some time since the first poll.
    ///
    /// Tasks that themselves await this, or [`close`](Client::close), don't count, nor do those whose blocking work waits
    /// for it, but for a seeded client's. Without workers it resolves only if there are no tasks.
    pub fn idle(&self) -> impl Future<Output = ()> + Send + use<> {
        self.core.clone().idle()
    }

    /// Closes the client: lets tasks that have started run to their end, cancels the rest with
    /// [`Closed`](crate::ErrorKind::Closed), and resolves when the client's own workers are gone.
    ///
    /// It begins with the first poll. It may be called again, also at the same time. A task of the client
    /// may await it, or block on it in a blocking closure: neither that task nor its worker is waited for. Where no
    /// worker is left to run them, started tasks are cancelled too.
    ///
    /// One that never ends is waited for without end. To bound that, give up the wait after a while and drop the
    /// client, which drops what still runs:
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use std::time::Duration;
    /// use ensue::{Client, ErrorKind, Status};
    /// use futures_lite::FutureExt;
    ///
    /// let client = Client::new();
    /// let endless = client.spawn(std::future::pending::<()>());
    /// # while endless.status() != Status::Running { ensue::sleep(Duration::from_millis(1)).await }
    /// client.close().or(ensue::sleep(Duration::from_millis(20))).await;
    /// assert_eq!(endless.status(), Status::Running);
    /// drop(client);
    /// assert_eq!(endless.await.unwrap_err().kind(), ErrorKind::Closed);
    /// # });
    /// ```
    pub fn close(&self) -> impl Future<Output = ()> + Send + use<> {
        self.core.clone().close()
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for Client {
    fn clone(&self) -> Self {
        Self::of(self.core.clone())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.core.drop_client();
    }
}

/// One line: the name, the workers, the limits.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workers = self.workers();
        let s = if workers == 1 { "" } else { "s" };
        write!(f, "client `{}`: {workers} worker{s}", self.core.name)?;
        if self.core.seeded.is_some() {
            f.write_str(", seeded")?;
        }
        match self.core.limits.names() {
            [] => f.write_str(", no limits"),
            limits => {
                let limits: Vec<_> = limits.iter().map(|(name, n)| format!("{name} {n}")).collect();
                write!(f, ", limits: {}", limits.join(", "))
            }
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("name", &self.core.name)
            .field("workers", &self.workers())
            .field("limits", &self.core.limits.names())
            .field("held", &self.held())
            .field("closed", &self.core.is_closed())
            .finish()
    }
}

/// Spawned futures run detached.
impl Spawn for Client {
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.status()?;
        self.task().name("spawned").spawn(future).detach();
        Ok(())
    }

    fn status(&self) -> Result<(), SpawnError> {
        if self.core.is_closed() { Err(SpawnError::shutdown()) } else { Ok(()) }
    }
}

/// A future that runs a client's tasks while it's polled; made by [`Client::worker`].
#[must_use = "a worker does nothing unless it's polled: spawn it on a runtime"]
pub struct Worker(WorkerFuture);

impl Future for Worker {
    type Output = ();

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        poller: &mut std::task::Context<'_>,
    ) -> std::task::Poll<()> {
        std::pin::Pin::new(&mut self.0).poll(poller)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}
