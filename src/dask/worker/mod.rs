//! A worker that joins Dask's scheduler and runs registered functions.
//!
//! [`builder`] and [`running`] are the public interface. [`state`] is the state machine, which decides what to do
//! without sockets, threads or a clock; [`memory`] stores results in memory and in files; [`io`] drives both. Imports
//! go in one direction: `builder`, `running`, `io`, then `state` and `memory`, which don't know each other.

mod builder;
mod error;
mod io;
mod memory;
mod running;
mod state;
#[cfg(test)]
mod tests;

pub use builder::Worker;
pub use error::WorkerError;
pub use running::Running;
