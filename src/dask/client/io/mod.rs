//! The connection to the scheduler.

pub(crate) mod dask_future;
pub(crate) mod drive;
pub(crate) mod fetch;
pub(crate) mod link;
pub(crate) mod pinning;
pub(crate) mod register;
