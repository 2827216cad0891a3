//! What comes out of the state.

use super::{Fetch, Made};
use crate::dask::wire::WireKey;
use crate::dask::wire::worker::order::Rust;
use crate::dask::wire::worker::report::{Span, Stolen};

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Action {
    Start(Start),
    /// Nobody wants this attempt any more.
    Abort(u64),
    /// Drop a result.
    Forget(WireKey),
    Fetch(Fetch),
    StopFetch(u64),
    Report(Report),
    Leave(String),
}

/// A task to run, all of whose inputs are here.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) attempt: u64,
    pub(crate) key: WireKey,
    pub(crate) work: Rust,
}

/// What the scheduler is to be told.
#[derive(Debug)]
pub(crate) enum Report {
    Finished { task: Ended, made: Made, took: Span },
    Erred { task: Ended, failure: Failure, took: Span },
    Has(Vec<WireKey>),
    Released(WireKey),
    Stolen { key: WireKey, state: Stolen, stimulus: String },
    WhoHas(Vec<WireKey>),
    Status { status: String, stimulus: String },
}

/// As it was ordered.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) key: WireKey,
    pub(crate) run: i64,
    pub(crate) stimulus: String,
}

/// Why a task has no result: a class of Python's, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) class: &'static str,
    pub(crate) text: String,
}

/// How many tasks and results there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) waiting: usize,
    pub(crate) ready: usize,
    pub(crate) executing: usize,
    pub(crate) memory: usize,
    pub(crate) fetch: usize,
    pub(crate) flight: usize,
    /// From how many workers something comes, and how much.
    pub(crate) flights: usize,
    pub(crate) flying_bytes: u64,
}
