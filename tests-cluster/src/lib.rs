//! Clusters of real processes for tests and benches: stock Dask schedulers and workers, workers of `ensue`, proxies that
//! cut connections, network namespaces, full disks and certificates.
//!
//! The program that uses it is its own worker: it must call [`ensue_examples::worker::main`] if its first argument is
//! `worker`.

pub mod certificates;
pub mod cluster;
pub mod comm;
pub mod disk;
pub mod hosts;
pub mod process;
pub mod proxy;

pub use cluster::{Cluster, Options, Setting, environments, free_port};
pub use process::Process;

use std::fmt::Display;
use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::future::{Either, select};

/// Polls `condition` until it holds.
///
/// # Panics
///
/// If it doesn't hold within a minute.
#[track_caller]
pub fn eventually(what: impl Display, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "never happened: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the output of a future.
///
/// # Panics
///
/// If it isn't ready within two minutes.
#[track_caller]
pub fn wait<F: IntoFuture>(future: F) -> F::Output {
    let limit = Duration::from_secs(120);
    match block_on(select(pin!(future.into_future()), pin!(ensue::sleep(limit)))) {
        Either::Left((output, _)) => output,
        Either::Right(_) => panic!("not done after {limit:?}"),
    }
}
