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
//! let y = client.submit(double, &x); // when x is there
//! let z = client.submit(add, (&x, &y)); // when both are
//! assert_eq!(z.await?, 6);
//! # Ok::<_, ensue::Error>(()) }).unwrap();
//! ```
//!
//! [`Client`] lists the verbs, [`Options`] what can be asked of a task, [`Handle`] what can be done with one,
//! [`Input`] what a task may take. [`as_completed`], [`gather`], [`gather_settled`], [`wait_all`] and
//! [`wait_any`] take many handles. [`Engine`] has the verbs for programs that should be able to run
//! elsewhere, too.
//!
//! # What it does
//!
//! * **Submitting** never blocks and never fails; what is wrong with a submission is the handle's error. Work
//!   starts without being awaited, as soon as its inputs are there. An input keeps what it needs, so the
//!   caller's handle may be dropped right after.
//! * **Tasks** may submit and await tasks, at any depth, on one worker too: awaiting yields it. An await that
//!   would close a ring of tasks waiting for each other gives [`Cycle`](ErrorKind::Cycle), with the ring.
//! * **Same key**: every task has its own key unless you give one. [`key`](Options::key) joins the task that
//!   has it while it waits, runs or has finished, and replaces one that failed;
//!   [`submit_pure`](Client::submit_pure) makes the key from the call, so that equal calls run once. Another
//!   type under the same key is a [`KeyConflict`](ErrorKind::KeyConflict).
//! * **Drop**: when the last handle goes and nothing depends on the task, queued work never starts, running
//!   work is dropped at its next await, and a result is freed, at once. [`detach`](Handle::detach) opts out.
//!   Awaiting the only handle owns it, so it goes where it loses a `select!`: await `&handle` to keep it.
//! * **Cancel**: [`cancel`](Handle::cancel) ends the task for every handle of it and for all that depends on
//!   it, and leaves alone what it depends on. Blocking work can ask [`is_cancelled`].
//! * **Panic**: a panic is the task's error, with its message. Workers and client live on.
//! * **Errors**: what depends on a failed task doesn't run. It has the same error, whose
//!   [`origin`](Error::origin) is the task where it began, and
//!   [`downcast_ref`](Error::downcast_ref) gives what that returned.
//! * **Retry**: [`retries`](Options::retries) takes a number or a [`Retry`] with backoff, jitter and a
//!   predicate; a task that waits for its next attempt holds no worker and no limit.
//!   [`Handle::retry`] runs a failed task again. [`timeout`](Options::timeout) bounds each attempt.
//! * **Priority**: a ready task of higher [`priority`](Options::priority) starts before any of lower, and lends
//!   its priority to what it waits for. Declared [limits](Builder::limit) bound how many run at once.
//! * **Order**: one worker starts tasks of equal priority in the order in which they were submitted, but first
//!   what a finished task has just made ready, so that few results are alive at once. [`as_completed`] and
//!   [`map_stream`](Client::map_stream) yield in the order of completion.
//! * **Close**: [`close`](Client::close) lets running work end, cancels the rest, and resolves when the workers
//!   are gone. Dropping the last client drops running work at its next await. Either way no handle hangs: it
//!   says [`Closed`](ErrorKind::Closed).
//! * **Blocking**: [`submit_blocking`](Client::submit_blocking) runs a plain function on a thread outside the
//!   workers. [`result`](Handle::result) blocks on a handle, but not inside a task, where it refuses.
//! * **Workers** are futures: a client has threads that poll them, and [`worker`](Client::worker) gives more
//!   to spawn on tokio, smol or another runtime, whose sockets and timers tasks then may use.
//!   [`scale`](Client::scale) changes the number of threads while work goes on. One more thread, for the whole
//!   process, serves timers and gives back memory; it comes when there's need for it and goes soon after.
//! * **Seeing it run**: [`explain`](Client::explain) says why a task is not finished. A client that was told to
//!   [`observe`](Client::observe) has [`stats`](Client::stats), the [`graph`](Client::graph) of its tasks and the
//!   [`story`](Client::story) of each; [`events`](Client::events) tells what happens to tasks, and
//!   [`progress_counts`] how far some of them are, all without ever holding them up.
//!   [`on_stall`](Builder::on_stall) tells when nothing has moved for a while.
//! * **Seeded**: a client with a [`seed`](Builder::seed) has no threads and a virtual clock, and does the same
//!   each time: for tests.
//!
//! # Features
//!
//! Everything is in the default build, and needs no other crates, but for these:
//!
//! * `dask`: [the same verbs on a Dask cluster](https://docs.rs/ensue/latest/ensue/dask/), whose scheduler is Dask's
//!   own, and workers for it that run functions in Rust.
//! * `dashboard`: [a dashboard in the browser](https://docs.rs/ensue/latest/ensue/dashboard/), and reports to
//!   keep.
//! * `progress`: [`progress`](https://docs.rs/ensue/latest/ensue/fn.progress.html), progress bars in the terminal,
//!   drawn by `indicatif`.
//! * `tracing`: a span for each task of a client that was made while somebody wants spans of the target
//!   `ensue::task`. It has the fields `name`, `key`, `attempt`, `worker` and `status`; its parent is the
//!   submitter's span, it follows from its inputs, and it's entered while the task is polled. Those that
//!   tokio-console looks for, of the target `tokio::task`, are there too; it shows polls, but no wakes. All tasks
//!   are watched then.
//! * `metrics`: [`Client::metrics`](https://docs.rs/ensue/latest/ensue/struct.Client.html#method.metrics) tells
//!   the `metrics` facade what a client does.
//!
//! # When to use something else
//!
//! * A fixed set of tokio tasks, awaited once: `tokio::task::JoinSet`.
//! * Computing over slices and ranges: `rayon`. It borrows from the stack and splits work for you, where this
//!   crate takes tasks as they come and asks for `'static` ones.
//! * Results that are to stay after their last user has gone, with a size or an age: a cache such as `moka`.
//!   Here a key lives as long as somebody needs it.
//! * Steps that survive the process: a workflow engine or a job queue. Nothing here is written to disk.
//! * Work in Python: Dask itself. Functions in Python can be called from here on a Dask cluster.

#![deny(unsafe_code)]
mod as_completed;
mod attempt;
mod blocking;
mod body;
mod builder;
mod client;
#[cfg(feature = "dashboard")]
pub mod dashboard;
#[cfg(feature = "dask")]
pub mod dask;
mod engine;
mod error;
mod function;
mod gather;
mod handle;
mod input;
mod key;
mod map_stream;
mod observe;
mod options;
mod portable;
mod pure;
mod retry;
mod status;
mod submit;
mod visit;
mod wait;

pub use as_completed::{AsCompleted, WithResults, as_completed};
pub use attempt::{Often, Once};
pub use blocking::is_cancelled;
pub use builder::Builder;
pub use client::{Client, Worker};
pub use engine::futures::sleep::{Sleep, sleep};
pub use engine::task::typed::Ref;
pub use error::{Error, ErrorKind, IntoFailure};
pub use function::{BlockingFn, Repeatable, TaskFn};
pub use gather::{Gather, GatherSettled, gather, gather_settled};
pub use handle::{AsHandle, GetRef, Handle};
pub use input::{Input, Inputs};
pub use key::Key;
pub use map_stream::MapStream;
#[cfg(feature = "progress")]
pub use observe::bars::{Progress, progress};
pub use observe::counted::{Counted, ProgressCounts, progress_counts};
pub use observe::events::{Event, Events};
pub use observe::explain::Explanation;
pub use observe::graph::{EdgeKind, Graph, GraphEdge, GraphTask};
#[cfg(feature = "metrics")]
pub use observe::metrics::Metrics;
pub use observe::reason::Reason;
pub use observe::stall::Stall;
pub use observe::stats::{FunctionStats, LimitStats, Stats};
pub use observe::story::{Chapter, Story};
pub use options::{Options, TaskOptions};
pub use portable::{Engine, Portable, PortableFn, PortableInput, PortableInputs};
pub use retry::Retry;
pub use status::Status;
pub use wait::{Wait, Waited, wait_all, wait_any};

/// Compiles and runs the snippets of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
