//! The builder of a client.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::engine::core::CoreRef;
use crate::engine::core::threads::{Around, ThreadOptions};
use crate::engine::data::limit_table::{Amount, Declaration};
use crate::engine::data::limits::Limits;
use crate::observe::stall::{self, Stall};
use crate::{Client, Error, Rate};

/// The default of [`Builder::blocking_threads`], as in tokio.
const BLOCKING_THREADS: usize = 512;

/// The settings of a new [`Client`]; made by [`Client::builder`].
///
/// ```
/// let client = ensue::Client::builder().workers(2).name("reports").limit("db", 4).build();
/// assert_eq!(client.to_string(), "client `reports`: 2 workers, limits: db 4");
/// ```
#[must_use = "no client is made before `build`"]
pub struct Builder {
    workers: Option<usize>,
    threads: ThreadOptions,
    name: Cow<'static, str>,
    /// Of limits and rates.
    limits: Vec<Declaration>,
    seed: Option<u64>,
    unobserved: Box<dyn Fn(&Error) + Send + Sync>,
    observed: bool,
    stall: Option<(Duration, stall::Hook)>,
}

/// The least size of a stack. A debug build needs some tens of kilobytes for an empty task.
const MIN_STACK: usize = 256 << 10;

impl Default for Builder {
    fn default() -> Self {
        let unobserved = Box::new(|error: &Error| log::error!("unobserved: {error:#}"));
        Self {
            workers: None,
            threads: ThreadOptions { blocking: BLOCKING_THREADS, stack_size: None, around: None },
            name: "ensue".into(),
            limits: Vec::new(),
            seed: None,
            unobserved,
            observed: false,
            stall: None,
        }
    }
}

impl Builder {
    /// Sets the number of worker threads. The default is one per core.
    ///
    /// With 0, tasks run only on threads that poll [`Client::worker`], and wait until one does.
    pub fn workers(mut self, n: usize) -> Self {
        self.workers = Some(n);
        self
    }

    /// Sets the largest number of threads that run [blocking work](Client::submit_blocking). The default is 512, as in
    /// tokio; at least 1.
    ///
    /// The threads are started when they are needed, and exit after 2 seconds without work. They are named after the
    /// client: `ensue-blocking-0`, `ensue-blocking-1`. Blocking work beyond this number waits for a thread, in the order that
    /// [`submit_blocking`](Client::submit_blocking) describes.
    ///
    /// ```
    /// let client = ensue::Client::builder().workers(1).blocking_threads(1).build();
    /// let name = || std::thread::current().name().map(str::to_owned);
    /// let names = [client.submit_blocking(name, ()), client.submit_blocking(name, ())];
    /// for name in names {
    ///     assert_eq!(name.result().unwrap().as_deref(), Some("ensue-blocking-0"));
    /// }
    /// ```
    pub fn blocking_threads(mut self, n: usize) -> Self {
        self.threads.blocking = n.max(1);
        self
    }

    /// Sets the size of the stack of each thread of the client, in bytes: those of its workers and those for blocking
    /// work. The default is that of `std::thread`: 2 MiB, or `RUST_MIN_STACK` from the environment.
    ///
    /// Code that calls itself deeply, or has large arrays in its own variables, may need more. A large future doesn't: it
    /// is kept in the heap, and a worker makes and polls futures of 1.9 MB with the default, also in a debug build. Only a
    /// future that an async function returns, and that is larger than the stack, needs a larger one; the futures that are
    /// passed to [`spawn`](Client::spawn) are made by the caller. Arguments, what a function captures, and values are moved
    /// over the stack, some ten times in an optimised build and up to forty times in a debug build: with the default, each
    /// may have 16 KB in any build. Pass larger ones in a `Box`, `Vec` or `Arc`.
    ///
    /// Less than 256 KiB is taken as 256 KiB, which the client itself needs.
    ///
    /// ```
    /// let client = ensue::Client::builder().workers(1).stack_size(64 << 20).build();
    /// let sum = client.submit(async || std::hint::black_box([1u8; 8 << 20]).len(), ());
    /// assert_eq!(sum.result().unwrap(), 8 << 20);
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.threads.stack_size = Some(bytes.max(MIN_STACK));
        self
    }

    /// Wraps what each thread of the client does: those of its workers, and those for blocking work. The hook is called on
    /// each new thread, prepares it, and calls `run`, which returns when the thread is about to end.
    ///
    /// This is how tasks get what belongs to a thread: a runtime that is entered, a processor that the thread is bound to, a
    /// thread local. A thread knows its [name](Builder::name). If this is called several times, the later hooks wrap the
    /// earlier ones. A hook that panics, or returns without having called `run`, leaves its thread as it is, which then runs
    /// tasks nevertheless; its panic is logged. [`close`](Client::close) waits for what a hook does after `run`.
    ///
    /// The hook isn't called where the application's own threads run tasks: in [`worker`](Client::worker) futures, and on a
    /// [seeded](Builder::seed) client.
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// thread_local!(static CONNECTIONS: Cell<usize> = const { Cell::new(0) });
    ///
    /// let client = ensue::Client::builder()
    ///     .workers(1)
    ///     .around_threads(|run| {
    ///         if std::thread::current().name().is_some_and(|name| name.starts_with("ensue-blocking")) {
    ///             CONNECTIONS.set(4);
    ///         }
    ///         run();
    ///         println!("{} connections are closed", CONNECTIONS.get());
    ///     })
    ///     .build();
    /// assert_eq!(client.submit(async || CONNECTIONS.get(), ()).result().unwrap(), 0);
    /// assert_eq!(client.submit_blocking(|| CONNECTIONS.get(), ()).result().unwrap(), 4);
    /// ```
    pub fn around_threads(
        mut self,
        hook: impl Fn(&mut dyn FnMut()) + Send + Sync + 'static,
    ) -> Self {
        self.threads.around = Some(Around::new(self.threads.around.take(), hook));
        self
    }

    /// Wraps the threads in a hook that a worker of a cluster was given.
    #[cfg(feature = "dask")]
    pub(crate) fn around(mut self, hook: Option<Around>) -> Self {
        self.threads.around = hook;
        self
    }

    /// Lets the tasks use the tokio runtime that this is called in: its timers, sockets and `tokio::spawn`. Needs the feature
    /// `tokio`.
    ///
    /// Tasks run on the client's own threads, each of which [enters](tokio::runtime::Handle::enter) the runtime. The threads
    /// for blocking work do so, too. The runtime must go on running: a current-thread runtime serves timers and sockets only
    /// while it blocks on a future. Without this, such a task panics, and the error says what to do. To have tokio's threads
    /// run the tasks instead, spawn [`worker`](Client::worker) futures on it. For another runtime than the current one, use
    /// [`around_threads`](Builder::around_threads).
    ///
    /// A [seeded](Builder::seed) client has no threads: its tasks run within the runtime that polls their handles, and tokio's
    /// timers are not on its virtual clock.
    ///
    /// # Panics
    ///
    /// If it's called outside of a tokio runtime.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// #[tokio::main]
    /// async fn main() -> Result<(), ensue::Error> {
    ///     let client = ensue::Client::builder().workers(2).tokio().build();
    ///     let nap = async |ms| tokio::time::sleep(Duration::from_millis(ms)).await;
    ///     client.submit(nap, 5).await
    /// }
    /// ```
    #[cfg(feature = "tokio")]
    #[track_caller]
    pub fn tokio(self) -> Self {
        self.around_threads(in_tokio("Builder::tokio"))
    }

    /// Sets the name of the client, which its threads, its `Display` output and the dashboard use. The default is
    /// `ensue`. NUL characters are left out of the names of threads.
    ///
    /// ```
    /// let client = ensue::Client::builder().workers(1).name("re\0ports").build();
    /// let thread = client.submit(async || std::thread::current().name().map(str::to_owned), ());
    /// assert_eq!(thread.result().unwrap().as_deref(), Some("reports-0"));
    /// ```
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Declares a limit: running tasks never hold more than `n` of it together. A task takes a part of it with
    /// [`Options::acquire`](crate::Options::acquire). A second declaration of the same name replaces the first.
    ///
    /// [`Client::set_limit`] changes it, or declares further ones, while the client runs.
    ///
    /// ```
    /// let client = ensue::Client::builder().limit("db", 2).build();
    /// let row = client.task().acquire("db").submit(async || 1u64, ());
    /// assert_eq!(row.result().unwrap(), 1);
    /// ```
    pub fn limit(self, name: impl Into<String>, n: usize) -> Self {
        self.declare(name.into(), false, Amount::Limit(n))
    }

    /// Declares a limit of `n` for each name that matches a pattern, in which each `*` stands for any text. Each of these
    /// names has a limit of its own, which exists while tasks need it.
    ///
    /// A name that is declared itself has its own limit. If several patterns match, the first one that was declared counts.
    ///
    /// ```
    /// # async fn get(url: String) -> usize { url.len() }
    /// let client = ensue::Client::builder().limit("sockets", 100).limit_each("host:*", 2).build();
    /// let get = |host: &str, path: &str| {
    ///     let options = client.task().acquire("sockets").acquire(format!("host:{host}"));
    ///     options.submit(get, format!("https://{host}/{path}"))
    /// };
    /// let pages = [get("example.org", "a"), get("example.org", "b"), get("example.com", "a")];
    /// # for page in pages { page.result().unwrap(); }
    /// ```
    pub fn limit_each(self, pattern: impl Into<String>, n: usize) -> Self {
        self.declare(pattern.into(), true, Amount::Limit(n))
    }

    /// Declares a rate: how often tasks may start that [acquire](crate::Options::acquire) this name. A second declaration of
    /// the same name replaces the first.
    ///
    /// A limit and a rate may have the same name, which stands for both then. Rates count by the client's clock, which is
    /// virtual on a [seeded](Builder::seed) client. [`Client::set_rate`] changes it, or declares further ones, while the client
    /// runs.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ensue::{Client, Rate};
    ///
    /// // At most 10 requests a second, and 4 at a time.
    /// let rate = Rate::new(10, Duration::from_secs(1));
    /// let client = Client::builder().rate("api", rate).limit("api", 4).build();
    /// let answer = client.task().acquire("api").submit(async || 42, ());
    /// assert_eq!(answer.result().unwrap(), 42);
    /// ```
    pub fn rate(self, name: impl Into<String>, rate: Rate) -> Self {
        self.declare(name.into(), false, Amount::Rate(rate))
    }

    /// Declares a rate for each name that matches a pattern; see [`limit_each`](Builder::limit_each). A rate is kept until its
    /// bucket is full again, so it holds also if all of its tasks end in between.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ensue::{Client, Rate};
    ///
    /// let polite = Rate::new(1, Duration::from_secs(5)).burst(3);
    /// let client = Client::builder().seed(1).rate_each("host:*", polite).build();
    /// let page = client.task().acquire("host:example.org").submit(async || "<html>", ());
    /// assert_eq!(page.result().unwrap(), "<html>");
    /// ```
    pub fn rate_each(self, pattern: impl Into<String>, rate: Rate) -> Self {
        self.declare(pattern.into(), true, Amount::Rate(rate))
    }

    fn declare(mut self, name: String, is_pattern: bool, amount: Amount) -> Self {
        let is_same = |other: &Declaration| {
            let is_rate = |amount| matches!(amount, Amount::Rate(_));
            (&other.name, other.is_pattern, is_rate(other.amount))
                == (&name, is_pattern, is_rate(amount))
        };
        self.limits.retain(|other| !is_same(other));
        self.limits.push(Declaration { name, is_pattern, amount });
        self
    }

    /// Makes a client for tests, with no threads and a virtual clock, that repeats its schedule for the same seed.
    ///
    /// Its tasks run on the thread that blocks on or awaits one of its handles, or polls a
    /// [`worker`](Client::worker). Among ready tasks of equal priority it selects one at random. If no task is ready,
    /// its clock jumps to the next timer of a [`sleep`](crate::sleep), a timeout or a retry, so delays take no real
    /// time. Blocking work runs in the poll of its task. Handles in a `HashMap` are visited in its order, which
    /// differs from run to run: use a `BTreeMap` if the schedule must be repeatable.
    ///
    /// An await outside of the tasks runs one task at a time. It gives way after each, and once more before the clock jumps, if
    /// other futures of its thread have run tasks meanwhile. A stream, a `gather` or a `wait` of several handles gives way after
    /// tasks that don't end; of those that do, it takes one after the other. (`idle` and a `worker` give way after these, too.)
    /// Each step wakes all awaits outside of the tasks, so thousands of handles are better awaited by one `gather` or stream than
    /// each by itself. A task whose input belongs to another seeded client runs when that one is awaited, too. So what is joined with it can act in between: a controller that hears
    /// from tasks over a channel may cancel others before they go on. Only an await of a handle, of a stream or combinator of handles,
    /// of [`idle`](Client::idle) or [`close`](Client::close), or of a `worker`, runs tasks. One of a channel alone waits forever: join
    /// it with one of these. An await that is polled once, without a waker, as `now_or_never` does, runs all that can run.
    ///
    /// Only this crate's timers are on the clock. While a task waits for something else, such as a timer or a socket of tokio, it
    /// can't run, so the clock jumps past it to the next timer of this crate: with a [timeout](crate::Options::timeout) of ten
    /// seconds, a task that awaits 50 ms of tokio's time is late at once. Use [`sleep`](crate::sleep) in what is tested so, and
    /// stand-ins for sockets. A `sleep` outside of the tasks takes real time.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let client = ensue::Client::builder().seed(7).build();
    /// let day = client.submit(async || ensue::sleep(Duration::from_secs(86_400)).await, ());
    /// day.result().unwrap(); // at once
    /// ```
    ///
    /// A controller outside stops the trials that it doesn't need:
    ///
    /// ```
    /// use ensue::{Client, as_completed};
    /// use futures_lite::StreamExt;
    ///
    /// let client = Client::builder().seed(7).build();
    /// let (send, losses) = async_channel::unbounded();
    /// let trial = move |n: usize| {
    ///     let send = send.clone();
    ///     async move {
    ///         for step in 0..10 {
    ///             send.send((n, step)).await.unwrap();
    ///             ensue::sleep(std::time::Duration::from_secs(60)).await;
    ///         }
    ///     }
    /// };
    /// let trials = client.map(trial, 0..20);
    /// let control = async {
    ///     // Only the first goes on after its third step.
    ///     while let Ok((n, step)) = losses.recv().await {
    ///         if n > 0 && step == 2 {
    ///             trials[n].cancel();
    ///         }
    ///     }
    /// };
    /// let ended = futures_lite::future::block_on(futures_lite::future::or(
    ///     async { as_completed(&trials).filter(|x| x.error().is_none()).count().await },
    ///     async { control.await; unreachable!("the trials can still send") },
    /// ));
    /// assert_eq!(ended, 1);
    /// ```
    ///
    /// A test can search many schedules for a race in your code, and then repeat the schedule that shows it, in a
    /// debugger or as a regression test:
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// use ensue::{Client, gather};
    /// use futures_lite::future::{block_on, yield_now};
    ///
    /// /// Adds one. It has a race: another task may write between its read and its write.
    /// async fn add_one(counter: Arc<Mutex<u32>>) {
    ///     let read = *counter.lock().unwrap();
    ///     yield_now().await; // stands for a request
    ///     *counter.lock().unwrap() = read + 1;
    /// }
    ///
    /// /// Returns the result of two concurrent calls in the schedule of this seed.
    /// fn two_of_them(seed: u64) -> u32 {
    ///     let client = Client::builder().seed(seed).build();
    ///     let counter = Arc::new(Mutex::new(0));
    ///     let both = client.map(add_one, [counter.clone(), counter.clone()]);
    ///     block_on(gather(both)).unwrap();
    ///     *counter.lock().unwrap()
    /// }
    ///
    /// let outcomes: Vec<_> = (0..50).map(two_of_them).collect();
    /// assert!(outcomes.contains(&2), "some schedules are correct");
    /// let seed = outcomes.iter().position(|sum| *sum == 1).expect("some schedule shows the race");
    /// assert!((0..10).all(|_| two_of_them(seed as u64) == 1), "the schedule is repeatable");
    /// ```
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets the hook that is called with unobserved errors: those of [detached](crate::Handle::detach) tasks that no
    /// handle or dependent has seen, and panics in callbacks, destructors and wakers.
    ///
    /// It runs on the thread that drops the task or on which the panic occurred, often a worker, so it should be
    /// short. A panic of the hook itself is logged, and so is one of a waker that is woken outside the client's
    /// threads. By default, these errors are logged with the `log` crate.
    ///
    /// ```
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// let client = ensue::Client::builder()
    ///     .on_unobserved(move |error| sender.send(error.to_string()).unwrap())
    ///     .build();
    /// client.task().key("x").try_submit(async || Err::<(), _>("no disk"), ()).detach();
    /// assert_eq!(receiver.recv().unwrap(), "task `x` failed: no disk");
    /// ```
    pub fn on_unobserved(mut self, hook: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.unobserved = Box::new(hook);
        self
    }

    /// Starts to [observe](Client::observe) when the client is built.
    pub fn observe(mut self) -> Self {
        self.observed = true;
        self
    }

    /// Sets the hook that is called when tasks are stuck: when unfinished ones exist and none has been submitted, started,
    /// woken or ended for the time `after`, or when a worker has been in one poll of a task for that time, though other
    /// workers make progress.
    ///
    /// It is called once for each stall, and again only after a task has made progress, and once for each poll, late by at
    /// most a quarter of `after`, or by 5 ms if that is longer. That is how often the client is checked, at some 40 µs of
    /// processor time each, as long as it has unfinished tasks, and for a second after that. A task that computes for long blocks its worker, too, and one that waits for its next
    /// attempt may be all that is left; the [`Stall`] reports the cause, first of all the cycles that
    /// [`explain`](Client::explain) would name. It isn't called once the client is closed. Choose `after` longer than what any poll should
    /// take: what computes or blocks for long belongs into [blocking work](Client::submit_blocking), which is no poll.
    ///
    /// The hook runs on a thread outside the workers. A panic of the hook is passed to
    /// [`on_unobserved`](Builder::on_unobserved). The client [observes](Client::observe) from the beginning. On a
    /// seeded client, whose clock is virtual, the hook is never called.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// let client = ensue::Client::builder()
    ///     .workers(1)
    ///     .on_stall(Duration::from_millis(20), move |stall| sender.send(stall.to_string()).unwrap())
    ///     .build();
    /// let forever = client.spawn(std::future::pending::<()>());
    /// let text = receiver.recv().unwrap();
    /// assert!(text.contains("awaits something that is not a task"), "{text}");
    /// # drop(forever);
    /// ```
    ///
    /// This finds a poll that blocks its worker:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// let (open, gate) = std::sync::mpsc::channel::<()>();
    /// let client = ensue::Client::builder()
    ///     .workers(1)
    ///     .on_stall(Duration::from_millis(20), move |stall| sender.send(stall.to_string()).unwrap())
    ///     .build();
    /// let wrong = client.spawn(async move { gate.recv() });
    /// let is_found = |text: &String| text.contains("worker 0 is blocked in a poll of");
    /// println!("{}", receiver.iter().find(is_found).unwrap());
    /// # drop((open, wrong));
    /// ```
    pub fn on_stall(
        mut self,
        after: Duration,
        hook: impl Fn(&Stall) + Send + Sync + 'static,
    ) -> Self {
        self.stall = Some((after, Arc::new(hook)));
        self
    }

    /// Makes the client and starts its worker threads.
    ///
    /// # Panics
    ///
    /// If the system refuses a thread; see [`try_build`](Builder::try_build).
    pub fn build(self) -> Client {
        self.try_build().unwrap_or_else(|error| panic!("the client can't be built: {error}"))
    }

    /// Makes the client and starts its worker threads, as [`build`](Builder::build) does, but returns the error if the
    /// system refuses one of them.
    ///
    /// # Errors
    ///
    /// The system's error, with the number of the worker. The process or its container may have reached a limit of threads
    /// or of memory, or the [stack](Builder::stack_size) is too large. The threads that were started before exit.
    ///
    /// ```
    /// use ensue::Client;
    ///
    /// let too_large = Client::builder().workers(1).stack_size(usize::MAX / 2).try_build();
    /// assert!(too_large.unwrap_err().to_string().contains("refused the thread of worker 1 of 1"));
    /// ```
    pub fn try_build(self) -> io::Result<Client> {
        let Self { workers, threads, name, limits, seed, unobserved, observed, stall } = self;
        let core = CoreRef::new(name, seed, Limits::new(limits), unobserved, threads);
        let client = Client::first(core);
        #[cfg(feature = "tracing")]
        let observed = observed || crate::observe::spans::Spans::are_wanted();
        if observed {
            client.observe();
        }
        if let Some((after, hook)) = stall.filter(|_| seed.is_none()) {
            stall::watch(client.core(), after, hook);
        }
        let workers =
            workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get));
        client.scale(workers)?;
        Ok(client)
    }
}

/// Returns a hook that enters the current runtime. `caller` is the name of the public method.
#[cfg(feature = "tokio")]
#[track_caller]
pub(crate) fn in_tokio(caller: &str) -> impl Fn(&mut dyn FnMut()) + Send + Sync + 'static + use<> {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        panic!(
            "`{caller}` was called outside of a tokio runtime: call it in an async function that tokio runs, or after \
             `Handle::enter`"
        );
    };
    move |run| {
        let _entered = runtime.enter();
        run();
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("workers", &self.workers)
            .field("threads", &self.threads)
            .field("name", &self.name)
            .field("limits", &self.limits)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}
