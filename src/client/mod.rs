//! The embedded `Client` and its submit methods.

pub(crate) mod attempt;
pub(crate) mod blocking;
mod body;
pub(crate) mod builder;
#[cfg(feature = "derive")]
pub mod derive;
pub(crate) mod group;
mod group_state;
mod limits;
pub(crate) mod map_stream;
mod observe;
pub(crate) mod options;
pub(crate) mod portable;
mod portable_nested;
mod pure;
pub(crate) mod retry_mode;
mod stream_verbs;
pub(crate) mod submit;
pub(crate) mod task_context;
pub(crate) mod visit;
pub(crate) mod workers;

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::panic::Location;
use std::sync::Arc;

use futures_task::{FutureObj, Spawn, SpawnError};

use self::options::Options;
use self::task_context::TaskContext;
use crate::engine::core::{CoreRef, context};
use crate::engine::life::create;
use crate::engine::task::typed::Typed;
use crate::handle::input::Inputs;
use crate::task::error::IntoFailure;
use crate::task::function::{BlockingFn, TaskFn, TryBlockingFn, TryTaskFn};
use crate::{Builder, Handle};

/// An executor of tasks, with a keyed store of their results.
///
/// Clones are cheap and refer to the same client. Dropping the last clone shuts the client down like a dropped
/// runtime: running tasks are dropped at their next await, and handles that outlive it resolve to the error
/// [`Closed`](crate::ErrorKind::Closed). Use [`close`](Client::close) to let running tasks finish. A client that one
/// of its own tasks has captured keeps itself alive.
pub struct Client {
    core: CoreRef,
    /// What its tasks inherit. Without one, they inherit from the task that submits them.
    context: Option<Arc<TaskContext>>,
}

impl Client {
    /// Makes a client with one worker thread per core.
    ///
    /// These threads belong to no other runtime, so a task that uses tokio's timers, sockets or `tokio::spawn` panics. Within
    /// a tokio application, build the client with
    /// [`Builder::tokio`](https://docs.rs/ensue/latest/ensue/struct.Builder.html#method.tokio) (feature `tokio`), or spawn
    /// its [workers](Client::worker) on the runtime. [`sleep`](crate::sleep) needs no runtime.
    ///
    /// # Panics
    ///
    /// If the system refuses a thread; see [`Builder::try_build`].
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder for a client with other settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns the client whose task, or whose blocking work, is running on this thread.
    ///
    /// Its submissions inherit the task's [context](Client::with_context) and [group](Client::group), also where the
    /// client is used later.
    pub fn current() -> Option<Self> {
        context::current_core().map(|core| Self::of(core).for_later())
    }

    /// Makes the first client of a new engine, which counts it already.
    pub(crate) fn first(core: CoreRef) -> Self {
        Self { core, context: None }
    }

    fn of(core: CoreRef) -> Self {
        core.add_client();
        Self { core, context: None }
    }

    pub(crate) fn core(&self) -> &CoreRef {
        &self.core
    }

    /// Returns options for a task: key, name, priority, retries, timeout and limits.
    pub fn task(&self) -> Options<'_> {
        Options::new(self)
    }

    /// Submits an async function and its inputs, and returns a handle at once.
    ///
    /// Pass one input bare, several as a tuple, and none as `()`. The task waits for handles among them, also in
    /// containers, and gets their values; see [`Input`](crate::Input). It starts without being awaited, as soon as its
    /// inputs have finished. A worker calls the function and polls its future.
    ///
    /// This never blocks and never fails. An invalid submission becomes the handle's error. After
    /// [`close`](Client::close) that is [`Closed`](crate::ErrorKind::Closed).
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let x = client.submit(async |x: u64| x + 1, 1);
    /// let sum = client.submit(async |x: u64, y: u64| x + y, (&x, 40));
    /// assert_eq!(sum.result().unwrap(), 42);
    /// ```
    #[track_caller]
    pub fn submit<F, I, A>(&self, function: F, inputs: I) -> Handle<F::Output>
    where
        F: TaskFn<A>,
        I: Inputs<A>,
        A: Send + 'static,
    {
        submit::queued(submit::create_plain(
            self,
            Some(Location::caller()),
            function,
            inputs.into_waits(),
        ))
    }

    /// Submits an async function that returns a `Result`. An `Err` becomes the task's error, of kind
    /// [`Failed`](crate::ErrorKind::Failed), and its dependents fail with it without running.
    ///
    /// The function and its arguments must be `Clone`, so that the task can be [retried](crate::Handle::retry). For
    /// work that owns something else, such as a connection, use [`try_spawn`](Client::try_spawn).
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let n = client.try_submit(async |text: &str| text.parse::<u8>(), "300");
    /// let error = n.result().unwrap_err();
    /// assert!(error.downcast_ref::<std::num::ParseIntError>().is_some());
    /// ```
    #[track_caller]
    pub fn try_submit<F, I, A, M>(&self, function: F, inputs: I) -> Handle<F::Value>
    where
        F: TryTaskFn<A, M>,
        I: Inputs<A>,
        A: Clone + Send + 'static,
        M: 'static,
    {
        self.task().try_submit(function, inputs)
    }

    /// Submits a plain function that may block, to run on a thread outside the workers.
    ///
    /// The function can't be stopped from outside. After a cancellation it keeps its thread and its limits until it
    /// returns, so a long one should check [`is_cancelled`](crate::is_cancelled). On a seeded client it runs on the
    /// thread that polls the task.
    ///
    /// The threads belong to the client: up to 512, or the number of
    /// [`blocking_threads`](crate::Builder::blocking_threads). They end with the client: [`close`](Client::close) waits
    /// for them. A function that waits for a thread counts as running; [`explain`](Client::explain) distinguishes the two.
    /// Those that wait get threads by priority, of equal priority the [deepest](crate#contract) first, and then in order.
    /// While there are enough threads for all, as many functions run at once as are ready: if each makes a large value, bound
    /// them with `blocking_threads` or with a [limit](crate::Options::acquire) that those that use the values share.
    /// If it is cancelled, it is dropped at once and releases its limits. If all threads are occupied by functions that
    /// block on the [results](crate::Handle::result) of further blocking functions, none of them ever returns: wait in
    /// async tasks instead, or bound these functions with a [limit](crate::Builder::limit).
    ///
    /// If the system refuses a further thread, functions wait for those that exist. If there is none, the task fails with
    /// the system's `std::io::Error`, which can be [retried](crate::Options::retries).
    ///
    /// What the function captures, its arguments and its panic payload are dropped on its thread, and so is its value if
    /// the task was cancelled. A function that is cancelled while it waits for a thread is dropped where it's cancelled.
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let text = client.submit_blocking(|| std::fs::read_to_string("Cargo.toml").is_ok(), ());
    /// assert!(text.result().unwrap());
    /// ```
    ///
    /// This counts the functions that wait for a thread:
    ///
    /// ```
    /// use ensue::{Client, Handle, Reason};
    ///
    /// let client = Client::new();
    /// let all: Vec<_> = (0..100).map(|n| client.submit_blocking(move || n, ())).collect();
    /// let waits = |x: &&Handle<_>| client.explain(x).reasons.contains(&Reason::WaitsForThread);
    /// println!("{} have no thread yet", all.iter().filter(waits).count());
    /// ```
    #[track_caller]
    pub fn submit_blocking<F, I, A>(&self, function: F, inputs: I) -> Handle<F::Output>
    where
        F: BlockingFn<A>,
        I: Inputs<A>,
        A: Send + 'static,
    {
        self.task().submit_blocking(function, inputs)
    }

    /// Submits a plain function that may block and returns a `Result`; see
    /// [`submit_blocking`](Client::submit_blocking) for its thread and [`try_submit`](Client::try_submit) for its
    /// errors.
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let text = client.try_submit_blocking(|| std::fs::read_to_string("no such file"), ());
    /// assert!(text.result().unwrap_err().downcast_ref::<std::io::Error>().is_some());
    /// ```
    #[track_caller]
    pub fn try_submit_blocking<F, I, A, M>(&self, function: F, inputs: I) -> Handle<F::Value>
    where
        F: TryBlockingFn<A, M>,
        I: Inputs<A>,
        A: Clone + Send + 'static,
        M: 'static,
    {
        self.task().try_submit_blocking(function, inputs)
    }

    /// Submits a call whose key is derived from the function and its inputs, so that equal calls run once while a
    /// handle or a dependent needs their result.
    ///
    /// The inputs must be `Hash`; they are hashed on the calling thread. A handle of a pure call is hashed as that call, and
    /// any other handle by its task: a key that is given to another task later makes another input. A function that captures
    /// something doesn't compile. The key consists of the function's name and a 128-bit hash of the function's type
    /// and its inputs.
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let square = async |x: u64| x * x;
    /// let a = client.submit_pure(square, 12);
    /// let b = client.submit_pure(square, 12);
    /// assert_eq!(a.key(), b.key());
    /// assert_eq!(b.result().unwrap(), 144);
    /// ```
    #[track_caller]
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
        submit::pure(self, Some(Location::caller()), digest, function, inputs.into_waits())
    }

    /// Submits the function once for each input, and returns the handles in the order of the inputs. This costs less
    /// than single submissions.
    ///
    /// The iterator runs on the calling thread. If its length is known, as for a range or a vector, tasks are queued
    /// in batches of up to 64. Otherwise each task is queued before the next input is requested. If an input waits
    /// for the tasks of earlier ones, use [`map_stream`](Client::map_stream).
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// let client = ensue::Client::new();
    /// let squares = client.map(async |x: u64| x * x, 0..4);
    /// assert_eq!(ensue::gather(squares).await?, [0, 1, 4, 9]);
    /// # Ok::<_, ensue::Error>(()) }).unwrap();
    /// ```
    #[track_caller]
    #[must_use = "dropping the handles abandons their tasks: keep them, or `detach` each; `let _ =` drops them, too"]
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
        let submitted_at = Some(Location::caller());
        submit::many(&self.core, inputs, |input| {
            submit::create_plain(self, submitted_at, function.clone(), input.into_waits())
        })
    }

    /// Submits a function that returns a `Result` once for each input; see [`map`](Client::map) for the inputs and
    /// [`try_submit`](Client::try_submit) for the errors.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// let client = ensue::Client::new();
    /// let numbers = client.try_map(async |text: &str| text.parse::<u8>(), ["1", "2"]);
    /// assert_eq!(ensue::gather(numbers).await?, [1, 2]);
    /// # Ok::<_, ensue::Error>(()) }).unwrap();
    /// ```
    #[track_caller]
    #[must_use = "dropping the handles abandons their tasks: keep them, or `detach` each; `let _ =` drops them, too"]
    pub fn try_map<F, I, A, M>(
        &self,
        function: F,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<F::Value>>
    where
        F: TryTaskFn<A, M>,
        I: Inputs<A>,
        A: Clone + Send + 'static,
        M: 'static,
    {
        self.task().try_map(function, inputs)
    }

    /// Runs a future as a task. For a future that returns a `Result`, use [`try_spawn`](Client::try_spawn).
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let captured = String::from("hello");
    /// let x = client.spawn(async move { captured.len() });
    /// assert_eq!(x.result().unwrap(), 5);
    /// ```
    #[track_caller]
    pub fn spawn<Fut>(&self, future: Fut) -> Handle<Fut::Output>
    where
        Fut: Future + Send + 'static,
        Fut::Output: Send + 'static,
    {
        submit::spawn(self, Some(Location::caller()), future)
    }

    /// Runs a future that returns a `Result` as a task. An `Err` becomes the task's error, as in
    /// [`try_submit`](Client::try_submit).
    ///
    /// Neither the future's contents nor its error need to be `Clone`. A future can't run again, so
    /// [`retry`](Handle::retry) returns false.
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
    #[track_caller]
    pub fn try_spawn<Fut, T, E, M>(&self, future: Fut) -> Handle<T>
    where
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: IntoFailure<M>,
        M: 'static,
    {
        self.task().try_spawn(future)
    }

    /// Returns a handle of a finished task with the given value.
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let x = client.ready(20u64);
    /// let y = client.submit(async |x: u64| x + 1, &x);
    /// assert_eq!(y.result().unwrap(), 21);
    /// ```
    #[track_caller]
    pub fn ready<T: Send + 'static>(&self, value: T) -> Handle<T> {
        Handle::new(create::ended(&self.core, None, Some(Location::caller()), Ok(value)))
    }

    /// Returns a handle of the task that was submitted with this key, or `None` if no such task exists. A task exists
    /// while a handle or a dependent needs it.
    ///
    /// If its value is not a `T`, the handle's error is a [`KeyConflict`](crate::ErrorKind::KeyConflict).
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let x = client.task().key("answer").submit(async || 42u64, ());
    /// assert_eq!(client.get::<u64>("answer"), Some(x));
    /// assert_eq!(client.get::<u64>("question"), None);
    /// ```
    #[track_caller]
    pub fn get<T: Send + 'static>(&self, key: impl AsRef<str>) -> Option<Handle<T>> {
        let interest = self.core.store.get(key.as_ref())?;
        Some(match Typed::checked(interest) {
            Ok(typed) => Handle::new(typed),
            Err(interest) => submit::key_conflict(&self.core, Some(Location::caller()), &interest),
        })
    }

    /// Returns the number of tasks in memory, including finished ones.
    ///
    /// It is exact while the client is idle. A task that was abandoned while it was queued has dropped its contents,
    /// and is counted until a worker removes its entry from the queue.
    pub fn tasks_in_memory(&self) -> usize {
        self.core.tasks_in_memory()
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for Client {
    fn clone(&self) -> Self {
        let mut client = Self::of(self.core.clone());
        client.context.clone_from(&self.context);
        client
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.core.drop_client();
    }
}

/// Writes one line: the name, the number of workers, the limits and the rates.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workers = self.workers();
        let s = if workers == 1 { "" } else { "s" };
        write!(f, "client `{}`: {workers} worker{s}", self.core.name)?;
        if self.core.seeded.is_some() {
            f.write_str(", seeded")?;
        }
        let declared = self.core.limits.declarations();
        match &declared[..] {
            [] => f.write_str(", no limits"),
            _ => {
                let declared: Vec<_> = declared.iter().map(ToString::to_string).collect();
                write!(f, ", limits: {}", declared.join(", "))
            }
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("name", &self.core.name)
            .field("workers", &self.workers())
            .field("limits", &self.core.limits.declarations())
            .field("tasks_in_memory", &self.tasks_in_memory())
            .field("closed", &self.core.is_closed())
            .finish()
    }
}

/// Spawned futures run detached. A panic of one is passed to [`Builder::on_unobserved`].
impl Spawn for Client {
    #[track_caller]
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.status()?;
        self.task().name("spawned").spawn(future).detach();
        Ok(())
    }

    fn status(&self) -> Result<(), SpawnError> {
        if self.core.is_closed() { Err(SpawnError::shutdown()) } else { Ok(()) }
    }
}
