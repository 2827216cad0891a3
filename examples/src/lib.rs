//! The functions of the tour and of its workers, and the command line of a worker.

pub mod functions;
#[cfg(feature = "dask")]
pub mod worker;
