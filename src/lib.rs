//! Dask's futures interface, native to async Rust: submit work, get an awaitable [`Handle`] back at once,
//! feed handles into further work, and let the graph grow while results arrive. Work runs on the
//! [`Client`]'s own threads, or on the runtime that the application already has.
//!
//! ```
//! # async fn double(x: u64) -> u64 { x * 2 }
//! # async fn add(x: u64, y: u64) -> u64 { x + y }
//! # futures_lite::future::block_on(async {
//! let client = ensue::Client::new();
//! let x = client.submit(async |x: u64| x + 1, 1); // starts at once
//! let y = client.submit(double, &x); // starts when `x` has finished
//! let z = client.submit(add, (&x, &y)); // starts when both have finished
//! assert_eq!(z.await?, 6);
//! # Ok::<_, ensue::Error>(()) }).unwrap();
//! ```
//!
//! [`Client`] has the submit methods, and [`Options`] the settings of a task. [`Handle`] lists the operations on a
//! submitted task, and [`Input`] the types that a task accepts as arguments. [`as_completed`], [`gather`],
//! [`gather_settled`], [`wait_all`] and [`wait_any`] combine many handles. [`Engine`] is the trait for programs that
//! run on a `Client` or on a Dask cluster.
//!
//! # Contract
//!
//! * **Submitting** never blocks and never fails. An invalid submission becomes the handle's error. A task starts
//!   without being awaited, as soon as its inputs have finished. A task keeps its inputs alive, so the caller may
//!   drop their handles right after the submission.
//! * **Tasks** may submit and await tasks, at any depth, also with a single worker: an await that has to wait yields the
//!   worker. One whose result is ready yields it after 128 such results in one poll of the task, so a task that only
//!   awaits finished tasks can be cancelled, times out, and lets others run. "Its next await", here and below, is the
//!   next one that yields the worker. Code that polls these futures itself must expect any of them to be pending, once,
//!   though its result is ready; the waker was woken then. [`try_get`](Handle::try_get) has no such limit. A loop of ready
//!   awaits doesn't time out on a seeded client, whose clock stands still meanwhile. Futures of other crates may never
//!   yield.
//! * **Cycles**: the await that closes a cycle of tasks which wait for each other returns the error
//!   [`Cycle`](ErrorKind::Cycle), whose text lists the cycle. No program that would go on by itself gets it, but one does that
//!   would break the cycle later by cancelling one of its tasks. A task counts as waiting only while nothing but what it waits
//!   for can wake it: one awaited task, one that its blocking work waits for in [`result`](Handle::result), its inputs, or one
//!   [`gather`]. Of the inputs but the [settled](Handle::settled) ones, and of the members of a `gather`, one that fails ends the wait, so all that haven't ended must
//!   wait for tasks of the cycle; those that don't must end first, and then the await gets its error. A task that also waits
//!   for a timer, a channel or another task, as in a `select` or a `join`, doesn't count until these are over or dropped, and
//!   nor does one that gave an await up and kept the handle. So this doesn't find cycles through [`as_completed`],
//!   [`map_stream`](Client::map_stream), [`wait_any`] and [`wait_all`], through a `block_on` in blocking work, combinators with
//!   wakers of their own, such as `FuturesUnordered` and `join_all` of more than 30 futures, or a task with a
//!   [`timeout`](Options::timeout). The search looks at 256 waiters, so it may miss a cycle of more tasks than that, or in
//!   which a task has more dependents. [`explain`](Client::explain) and [`on_stall`](Builder::on_stall) have no such limits:
//!   they name every [cycle](Reason::Cycle) of awaits and inputs, also those through a [limit](Builder::limit) or the last
//!   [thread for blocking work](Builder::blocking_threads) that a task of the cycle keeps from another one, and through
//!   [`idle`](Client::idle) and [`close`](Client::close) of the tasks' own client. They can't know what a task awaits that is
//!   not a task: neither [`events`](Client::events), [`progress_counts`] and the `idle` or `close` of another client, nor the
//!   channels, locks and timers of other crates. Such a task is said to await something that is not a task, and a stream of
//!   events that a task awaits may count as progress.
//! * **Keys**: every task has a unique key unless you set one. [`key`](Options::key) joins the task that has this key
//!   while it waits, runs or has finished, and replaces a task that failed. [`submit_pure`](Client::submit_pure)
//!   derives the key from the call, so equal calls run once. A key whose task has a value of another type gives a
//!   [`KeyConflict`](ErrorKind::KeyConflict).
//! * **Dropping**: when the last handle of a task is dropped and no task depends on it, the task is abandoned at
//!   once. A queued task never starts, a running one is dropped at its next await, and a result is freed.
//!   [`detach`](Handle::detach) disables this. Awaiting a handle by value owns it, so a `select!` that drops the
//!   losing await abandons the task: await `&handle` to keep it.
//! * **Cancellation**: [`cancel`](Handle::cancel) ends the task for all of its handles, and all of its dependents, except
//!   those that take it [settled](Handle::settled). Its inputs are not affected. [`cancel_with`](Handle::cancel_with) gives
//!   them a reason. Blocking work can poll [`is_cancelled`].
//! * **Panics**: a panic of a task is its error, with the message and the [place](Error::panicked_at), which a panic hook
//!   before the process's own takes note of. Workers and client continue. A panic of a waker,
//!   a callback, a destructor or a hook affects nothing else, and is passed to the
//!   [hook](Builder::on_unobserved) or to the log. Such code may call the client, and may poll or drop what it belongs
//!   to. Only a waker that panics when it's cloned makes the poll panic that was given it.
//! * **Errors**: dependents of a failed task don't run. They have the same error. [`origin`](Error::origin) is the
//!   key of the task that failed first, and [`downcast_ref`](Error::downcast_ref) returns the error that its function
//!   returned. A dependent that is given [`handle.settled()`](Handle::settled) runs however that task has ended, and gets a
//!   `Result`. A task that returns the error of another one, as such or as what caused its own, keeps the
//!   [kind](Error::kind) and the origin. `{:#}` prints an [error](Error#printing) with all that caused it.
//!   Errors, `explain` and the other views name the [line](Error::submitted_at) that submitted a task. A function that
//!   submits for its caller passes that one's line on if it is `#[track_caller]`.
//! * **Retries**: [`retries`](Options::retries) takes a number, or a [`Retry`] with backoff, jitter and a predicate.
//!   A task that waits for its next attempt holds no worker and no limit, and acquires its limits and rates anew. [`Handle::retry`] runs a failed task again,
//!   which keeps its inputs for that if it never started and they can run again.
//!   [`timeout`](Options::timeout) bounds each attempt, and [`deadline`](Options::deadline) the whole task from its
//!   submission on. A [`Hedge`] runs code a second time if the first run takes unusually long.
//! * **Priorities**: a ready task of higher [`priority`](Options::priority) starts before those of lower priority,
//!   which wait as long as there are any. A task lends its priority to all that it waits for: its unfinished inputs, the
//!   tasks that it awaits, in any way but by [`progress_counts`], which only watches them, and those that hold a limit that
//!   it waits for; and to what these wait for. They keep it, until [`set_priority`](Handle::set_priority) changes it.
//! * **Limits and rates**: [limits](Builder::limit) bound how many tasks run at once, and [rates](Builder::rate) how often
//!   tasks start, by the client's clock. A task [acquires](Options::acquire) all that it needs before each attempt, or waits
//!   and holds nothing. They can be [changed](Client::set_limit) while tasks run, and declared for all names of a
//!   [pattern](Builder::limit_each).
//! * **Groups**: a [`group`](Client::group) holds the tasks that are submitted through it, and all that these submit. They're
//!   counted, [awaited](Group::idle), [limited](Group::limit_to) and [cancelled](Group::cancel_with) together, and go with the
//!   group. A [`nursery`](Client::nursery) is one that ends with a future: its tasks have ended when that resolves, and its first
//!   failure ends it. Tasks also inherit the values of a [context](Client::with_context), such as the id of a request.
//! * **Order**: one worker starts tasks of equal priority in the order of their submission. Two kinds go first: the
//!   dependents that a finished task makes ready, which keeps few results alive, and started tasks that are woken by timers,
//!   sockets or other threads. No task starves:
//!   * Of 32 tasks that a worker runs, at least one is the oldest of those two kinds, and at least one is the oldest of the
//!     others in its queue. Every 61 tasks, it moves up to 64 tasks from outside the workers to the end of its queue.
//!   * So with one worker, a task from outside is run after at most 61 (`s` / 64 + 1) + 32 (`n` + 1) others of its priority,
//!     if `s` others from outside are before it and the worker's queue has `n`.
//!   * Tasks that wait for the same [limit or rate](Options::acquire), or for a thread for blocking work, are served by priority, then
//!     by depth, which is the longest path of inputs that leads to a task, up to 15, and then in the order in which they
//!     came. Of 32 that are served, at least one is the oldest. So a value is used before the next one is made, if the tasks
//!     that make values and those that use them share a limit or the threads: about twice as many values exist as that lets
//!     run. Where they don't share one and the tasks that use values are slower, values accumulate: bound the work in
//!     flight, for example by [`map_stream`](Client::map_stream).
//!   * [`as_completed`] and [`map_stream`](Client::map_stream) yield in the order of completion, and a `map_stream`
//!     [in order](MapStream::in_order) in that of its inputs.
//! * **Closing**: [`close`](Client::close) lets running tasks finish, cancels the rest, and resolves when the client's
//!   threads have exited. Dropping the last client drops running tasks at their next await. In both cases no handle
//!   hangs: the handles of unfinished tasks resolve to the error [`Closed`](ErrorKind::Closed).
//! * **Polling again**: a [`Handle`], [`GetRef`], [`Sleep`], [`Worker`] or progress bar that has resolved does so again
//!   when it's polled again. All other futures hand their output over once, and panic if they are polled after that.
//! * **Blocking**: [`submit_blocking`](Client::submit_blocking) runs a plain function on a thread outside the
//!   workers, of up to [512](Builder::blocking_threads) for each client. [`result`](Handle::result) blocks on a handle;
//!   inside a task it returns an error instead of blocking. A `block_on` of another crate inside a task can't be
//!   refused: it blocks its worker, and waits forever for a task that only this worker would run. Await there, or do
//!   the waiting in blocking work; the same goes for long computations, which keep their worker from all other tasks.
//!   [`explain`](Client::explain) of a task that waits for a worker, and the hook [`on_stall`](Builder::on_stall), name
//!   such a poll: "worker 0 is blocked in a poll of `parent-1` for 3.0s".
//! * **Fork and join**: [`join`] and [`map_reduce`] spread a computation of a task, or of blocking work, over the workers of
//!   the client. It may borrow from the stack. A worker takes a part of it, which is one call of a function that was given,
//!   when it has no task to run, and once in 61 tasks in any case. So a task waits for at most one such part a worker for
//!   each 61 tasks before it, besides those that run when it becomes ready. A join waits for no free worker: its own thread
//!   runs what none has taken. If the task is cancelled, its joins unwind it. Whatever happens, a join ends only when nothing
//!   uses what it borrows.
//! * **Workers** are futures. A client has threads that poll them, and [`worker`](Client::worker) returns further
//!   ones to spawn on tokio, smol or another runtime. Tasks that run on those can use that runtime's sockets and
//!   timers. While a task computes, others that it has made ready run on other workers. [`scale`](Client::scale) changes the
//!   number of threads while tasks run. A thread of the client that has nothing to do looks for tasks for up to 50 µs before
//!   it sleeps, if that has paid lately and no other program wants the core; so does one that blocks in
//!   [`result`](Handle::result). An idle client uses no processor time, with tasks that wait or without any; one with
//!   [`on_stall`](Builder::on_stall) does as long as it has unfinished tasks, and for a second after that.
//! * **Observation**: [`explain`](Client::explain) reports why a task has not finished. After
//!   [`observe`](Client::observe) a client records [`stats`](Client::stats), the [`graph`](Client::graph) of its
//!   tasks and the [`timeline`](Client::timeline) of each. [`events`](Client::events) streams the state changes of tasks,
//!   and [`progress_counts`] the progress of a set of tasks. None of these waits for a task or has one wait for more than a
//!   walk over a table: an explanation goes through all unfinished tasks, at about a microsecond each, and locks a queue, a
//!   limit or a sixteenth of the keys while it goes through that, but of a task's waiters only some at a time.
//!   [`on_stall`](Builder::on_stall) calls a hook when no task has made progress for a given time, or a worker has been in
//!   one poll for as long.
//! * **Determinism**: a client with a [`seed`](Builder::seed) has no threads and a virtual clock, and repeats the
//!   same schedule each time. It is meant for tests. Its joins run on one thread, in order. An await outside of its tasks runs
//!   them one at a time, and gives way to the other futures of its thread after each.
//!
//! # Threads
//!
//! | user code | thread |
//! |---|---|
//! | iterators of inputs, `Hash` of inputs | the submitting thread |
//! | task functions and their futures, `Clone` for retries, retry predicates | a worker |
//! | the first function of a [`join`] | the calling thread |
//! | the second one | the same, or a worker of the client, or a thread that waits in another join of the task |
//! | `Clone` of an input's value | the dependent's worker, or the submitting thread if the value is small and ready |
//! | blocking functions, and destructors of what they capture | a thread of the client's outside the workers; of one that has no thread yet, the thread that cancels it |
//! | callbacks of [`on_done`](Handle::on_done), wakers of awaited handles | the thread that ends the task |
//! | wakers of [`sleep`] | the timer thread |
//! | wakers of a [`worker`](Client::worker) | the thread that makes a task ready; within a poll of such a worker, that thread at the end of the poll, or the timer thread |
//! | destructors of a task that is cancelled or abandoned, or past its deadline, while a worker polls it | that worker, after the poll |
//! | the same while it waits, is queued or awaits | the thread that cancels it or drops its last handle; at its deadline, the timer thread |
//! | destructor of a result | the thread that drops its last handle, or the worker of its last dependent; the thread that ends the task if the handle is dropped at that moment |
//! | the [`on_unobserved`](Builder::on_unobserved) hook | the thread that drops the error |
//! | wakers of [`idle`](Client::idle), [`close`](Client::close) and streams | the thread that makes the awaited change |
//! | the [`on_stall`](Builder::on_stall) hook | a thread of its own |
//! | the [`around_threads`](Builder::around_threads) hooks | each thread for tasks or blocking work |
//!
//! Task code of a [seeded](Builder::seed) client runs on the thread that blocks on one of its handles or polls its
//! worker. One thread serves the timers of the whole process and returns unused memory to the system. It starts on
//! demand and exits when there has been no timer for a while.
//!
//! If the system refuses a thread: [`try_build`](Builder::try_build) and [`scale`](Client::scale) return its error,
//! [blocking work](Client::submit_blocking) waits for the threads that exist, and a task that needs the first timer
//! panics, which is its error. Wakes of [`worker`](Client::worker) futures then aren't put off.
//!
//! In the child process of a `fork`, clients of the parent have no threads and must not be used. New clients work, if no
//! thread was using another client at the time of the fork.
//!
//! # Features
//!
//! The default build contains everything that is not listed below, and doesn't need the crates of these features.
//!
//! * `dask`: [the same methods on a Dask cluster](https://docs.rs/ensue/latest/ensue/dask/) with Dask's own
//!   scheduler, and workers for it that run Rust functions.
//! * `dashboard`: [a dashboard in the browser](https://docs.rs/ensue/latest/ensue/dashboard/), and reports as files.
//! * `derive`: `#[derive(Input)]`, with which a struct that holds handles is an input: the task gets the same struct with
//!   their values; see the [macro](https://docs.rs/ensue/latest/ensue/derive.Input.html).
//! * `progress`: [`progress`](https://docs.rs/ensue/latest/ensue/fn.progress.html), progress bars in the terminal,
//!   drawn by `indicatif`.
//! * `tokio`: [`Builder::tokio`](https://docs.rs/ensue/latest/ensue/struct.Builder.html#method.tokio), with which tasks on
//!   the client's own threads use the tokio runtime that the client was built in.
//! * `tracing`: a span for each task of a client, if a subscriber enables the target `ensue::task` when the client is
//!   built. Its fields are `name`, `key`, `attempt`, `worker` and `status`. Its parent is the submitter's span, it
//!   follows from its inputs, and it is entered while the task is polled. `worker` is recorded when it changes. The spans of the target `tokio::task`,
//!   which tokio-console displays, exist too; it shows polls, but no wakes. All tasks of such a client are observed
//!   in detail.
//! * `metrics`: [`Client::metrics`](https://docs.rs/ensue/latest/ensue/struct.Client.html#method.metrics) publishes a
//!   client's statistics to the `metrics` facade.
//!
//! # Targets
//!
//! The crate needs the standard library, threads, and atomics of 64 bits. Addresses may have 64 or 32 bits; both are
//! tested.
//!
//! # When to use something else
//!
//! * A fixed set of tokio tasks, awaited once: `tokio::task::JoinSet`.
//! * Parallel iterators with all of their adaptors: `rayon`. This crate has [`join`], and [`map_reduce`] over ranges and
//!   slices, which run in tasks and are cancelled with them.
//! * Results that outlive their last user, bounded by size or age: a cache such as `moka`. A key of this crate exists
//!   only while a handle or a dependent needs its task.
//! * Steps that survive the process: a workflow engine or a job queue. This crate writes nothing to disk.
//! * Work in Python: Dask itself. A program can call Python functions on a Dask cluster with the feature `dask`.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]
mod client;
#[cfg(feature = "dashboard")]
pub mod dashboard;
#[cfg(feature = "dask")]
pub mod dask;
mod engine;
mod handle;
mod observe;
mod task;

pub use client::Client;
pub use client::blocking::is_cancelled;
pub use client::builder::Builder;
pub use client::group::Group;
pub use client::map_stream::MapStream;
pub use client::options::{Options, TaskOptions};
pub use client::portable::{Engine, Portable, PortableFn, PortableInput, PortableInputs};
pub use client::retry_mode::{NoRetry, OneAttempt, WithRetry};
pub use client::task_context::context;
pub use client::workers::Worker;
pub use engine::futures::sleep::{Sleep, sleep};
pub use engine::parallel::join::join;
pub use engine::parallel::map_reduce::{Split, map_reduce};
pub use engine::task::typed::Ref;
#[cfg(feature = "derive")]
pub use ensue_derive::Input;
pub use handle::as_completed::{AsCompleted, WithResults, as_completed};
pub use handle::gather::{
    Gather, GatherSettled, GatherTuple, GatherTupleSettled, Gatherable, HandleTuple, gather,
    gather_settled,
};
pub use handle::hedge::{Hedge, HedgeStats};
pub use handle::input::{Input, Inputs};
pub use handle::settled::{Settled, settled};
pub use handle::tags::{AsEntry, Tagged, Tags, Untagged};
pub use handle::wait::{Wait, WaitOutput, wait_all, wait_any};
pub use handle::{AsHandle, Awaitable, GetRef, Handle};
#[cfg(feature = "progress")]
pub use observe::bars::{Progress, progress};
pub use observe::events::{Event, Events};
pub use observe::explain::Explanation;
pub use observe::function_progress::{FunctionProgress, ProgressCounts, progress_counts};
pub use observe::graph::{EdgeKind, Graph, GraphEdge, GraphTask};
#[cfg(feature = "metrics")]
pub use observe::metrics::Metrics;
pub use observe::reason::Reason;
pub use observe::stall::Stall;
pub use observe::stats::{FunctionStats, LimitStats, RateStats, Stats};
pub use observe::timeline::{Phase, Timeline};
pub use task::error::{Error, ErrorKind, IntoFailure};
pub use task::function::{BlockingFn, Repeatable, TaskFn, TryBlockingFn, TryTaskFn};
pub use task::key::Key;
pub use task::per_worker::{InUse, PerWorker};
pub use task::rate::Rate;
pub use task::retry::Retry;
pub use task::status::Status;

#[cfg(feature = "derive")]
#[doc(hidden)]
pub use client::derive as __derive;

/// Compiles and runs the snippets of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
