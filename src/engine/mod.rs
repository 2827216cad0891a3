//! The embedded engine: an executor whose unit is a task with dependencies and a result.
//!
//! A task is one allocation, its [`cell`], with a [`header`] that is the same for all: a [`state`]
//! word, a [`count`] of what it still waits for, and the list of who waits for it ([`waiters`]). The
//! entries of that list lie with those who wait: in the dependent's own cell ([`edges`]), with an
//! awaiting handle ([`wait`]), with a stream of completions ([`sink`]).
//!
//! A ready task goes into a queue: the [`local`] one of the worker that made it ready, the [`injector`]
//! for those from outside, [`urgent`] where its priority isn't zero, or that of a [`seeded`] client. A
//! [`worker`] is a future that takes tasks from these; workers that find none are [`sleepers`].
//! [`finish`] says how tasks end, [`release`] how they go, [`memory`] where their cells come from and go to, and
//! [`closing`] how a client closes. `README.md` beside this file has the whole, with arguments and figures.
//!
//! The engine knows nothing of clients, options and combinators; those use what is `pub(crate)` here,
//! and all of it is safe to use.

#![allow(unsafe_code)]
// What is `pub` here is so because it occurs in a public trait; none of it can be named from outside.
#![allow(missing_debug_implementations)]

pub(crate) mod base;
pub(crate) mod core;
pub(crate) mod data;
pub(crate) mod futures;
pub(crate) mod graph;
pub(crate) mod life;
pub(crate) mod queue;
// Only the client of a cluster makes remote tasks.
#[cfg_attr(not(feature = "dask"), allow(dead_code))]
pub(crate) mod remote;
pub(crate) mod task;
pub(crate) mod watch;
pub(crate) mod worker;
