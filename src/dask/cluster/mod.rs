//! A cluster on this machine, for trying it and for tests: stock Dask's scheduler and workers of ours.

mod error;
mod process;
mod scheduler;

pub use error::ClusterError;
