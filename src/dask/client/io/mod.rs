//! The connection of a client to its scheduler, and its thread.
//!
//! Everything that is decided is in [`state`](super::state), behind one lock in [`Shared`](shared::Shared) that is
//! never held across an await. Modules import each other in this order:
//!
//! | module | |
//! |---|---|
//! | [`link`] | opens the connection, submits tasks and closes it |
//! | [`dask_future`] | holds one future on the cluster, and releases its key |
//! | [`connection`] | keeps the thread alive as long as a link or a future needs it |
//! | [`drive`] | runs on the thread: reads, writes, heartbeats, scatters and retries |
//! | [`pinning`] | runs on the thread: keeps Python tasks on the Python workers |
//! | [`shared`] | holds the state, and the events that wake the thread |
//! | [`fetch`], [`register`] | talk to the workers and to the scheduler, without the client's state |
//! | [`identity`] | reads the scheduler's list of workers |

pub(crate) mod connection;
pub(crate) mod dask_future;
pub(crate) mod drive;
pub(crate) mod fetch;
pub(crate) mod identity;
pub(crate) mod link;
pub(crate) mod pinning;
pub(crate) mod register;
pub(crate) mod shared;
