//! The embedded engine: an executor whose unit is a task with dependencies and a result.
//!
//! A task is one allocation, its [`cell`](life::cell): a [`header`](task::header) that is the same for all tasks, and behind
//! it the function, the future or the value. The header has a [`state`](task::state) word, a [`count`](task::count) of
//! unfinished inputs, and the list of [`waiters`](task::waiters). The entries of that list are stored with the waiters: in
//! the dependent's own cell ([`edges`](task::edges)), with an awaiting handle ([`wait_node`](task::wait_node)), or with a
//! [`completion_queue`](data::completion_queue) of a stream or a `gather`.
//!
//! | room | contents |
//! |---|---|
//! | [`base`] | atomics, locks, deferred destruction, calls into user code |
//! | [`task`] | a task in memory: header, state word, waiters, inputs; knows no engine |
//! | [`data`] | tables that many tasks share: keys, limits, clocks, completion queues, recycled memory |
//! | [`queue`] | the queues of ready tasks, the table of started tasks, the list of idle workers |
//! | [`watch`] | the interface to the observer, and the counts and tables behind it |
//! | [`fork`] | branches of joins, the forks of a thread, and its heartbeats; knows no engine |
//! | [`core`] | the engine of one client, the references to it, and the context of each thread that works for it |
//! | [`parallel`] | joins, and loops made of them |
//! | [`life`] | creation, scheduling, pauses, end, retries and destruction of a task |
//! | [`graph`] | traversals of tasks that wait for each other: cycles, diagnostics |
//! | [`worker`] | workers: futures that take tasks from the queues and run them |
//! | [`futures`] | the futures that user code awaits |
//! | [`remote`] | tasks that another process runs |
//!
//! A room imports only rooms above it in this table. The engine knows nothing of clients, options and combinators. They use
//! its `pub(crate)` items, all of which are safe to use. `README.md` in this folder describes the whole, with the arguments
//! that span files and the measurements.

#![allow(unsafe_code)]
// Some types are `pub` because they occur in a public trait. None of them can be named outside the crate.
#![allow(missing_debug_implementations)]

pub(crate) mod base;
pub(crate) mod core;
pub(crate) mod data;
pub(crate) mod fork;
pub(crate) mod futures;
pub(crate) mod graph;
pub(crate) mod life;
pub(crate) mod parallel;
pub(crate) mod queue;
// Only the client of a cluster makes remote tasks.
#[cfg_attr(not(feature = "dask"), allow(dead_code))]
pub(crate) mod remote;
pub(crate) mod task;
pub(crate) mod watch;
pub(crate) mod worker;
