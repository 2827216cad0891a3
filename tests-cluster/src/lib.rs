//! What the tests are made of: real processes, cables and hosts.

// A bench uses a part of it.
#![allow(dead_code, unused_imports)]

pub(crate) mod certificates;
pub(crate) mod cluster;
pub(crate) mod disk;
pub(crate) mod hosts;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod run;

pub(crate) use cluster::{Cluster, Options, free_port};
pub(crate) use process::Process;
pub(crate) use run::{Outcome, Setting, Skipped, Test, stress};

use std::fmt::Display;
use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::future::{Either, select};

/// Waits until it's so, which it must be within a minute.
#[track_caller]
pub(crate) fn eventually(what: impl Display, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "never happened: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What comes of it, which must be there within two minutes.
#[track_caller]
pub(crate) fn wait<F: IntoFuture>(future: F) -> F::Output {
    let limit = Duration::from_secs(120);
    match block_on(select(pin!(future.into_future()), pin!(ensue::sleep(limit)))) {
        Either::Left((output, _)) => output,
        Either::Right(_) => panic!("not done after {limit:?}"),
    }
}
