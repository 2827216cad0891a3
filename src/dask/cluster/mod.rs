//! A cluster on this machine, for experiments and tests: stock Dask's scheduler, and Rust workers.
//!
//! [`builder`] has the settings and starts the parts, [`local`] is the running cluster. The scheduler ([`scheduler`])
//! and Python workers ([`python`]) are child processes ([`process`]).

mod builder;
mod error;
mod local;
mod process;
mod python;
mod scheduler;

pub use builder::{LocalClusterBuilder, Starting};
pub use error::ClusterError;
pub use local::LocalCluster;

/// Compiles the examples in `docs/dask.md`.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/dask.md")]
struct Page;
