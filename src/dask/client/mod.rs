//! The client of a Dask cluster.
//!
//! It has three rooms, each of which imports only from those below it:
//!
//! | room | |
//! |---|---|
//! | [`api`] | the public interface: the client, its submit methods, and the tasks that their handles stand for |
//! | [`io`] | the connection to the scheduler, and the thread that drives it |
//! | [`state`] | what the client decides, without sockets, threads or clocks |
//!
//! A submission goes down: `api` encodes a call, `io` locks the state, and `state` decides when it's sent. A message of
//! the scheduler goes the same way from `io` to `state`, which returns the futures that it changes; `io` then notifies
//! their waiters, such as the tasks of the local engine that `api` has created.

mod api;
mod io;
mod state;
#[cfg(test)]
mod tests;

pub use api::client::{Client, Connect};
pub use api::error::ConnectError;
pub use api::options::Options;
pub use api::python::PythonInputs;
