//! The parts that drive the state machine: connections, timers, threads, and the tasks that run on the engine.
//!
//! [`core`] is what all parts share, [`dispatch`] carries out the instructions of the state machine, [`execute`] runs
//! one task. [`stream`] is the connection to the scheduler, [`gather`] requests results from other workers and
//! [`serve`] answers their requests, with [`traffic`] as the statistics of both. [`join`], [`heartbeat`] and [`leave`]
//! are the worker's life at the scheduler. [`metrics`] samples the process, and [`monitor`] spills and pauses.

pub(super) mod core;
mod dispatch;
mod execute;
pub(super) mod gather;
pub(super) mod heartbeat;
pub(super) mod join;
pub(super) mod leave;
pub(super) mod metrics;
pub(super) mod monitor;
pub(super) mod serve;
pub(super) mod stream;
mod traffic;
