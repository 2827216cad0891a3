//! The output of the state machine.

use super::gather::GatherDep;
use super::task::ResultMeta;
use crate::dask::wire::WireKey;
use crate::dask::wire::worker::order::Rust;
use crate::dask::wire::worker::report::{StartStop, Stolen};

/// An action for the worker to carry out.
#[derive(Debug)]
pub(crate) enum Instruction {
    Execute(Execute),
    /// Drop this attempt at its next await: its outcome isn't wanted any more.
    CancelExecute(u64),
    /// Remove a result from the store.
    DropResult(WireKey),
    GatherDep(GatherDep),
    /// Abandon this request: none of its results is wanted any more.
    CancelGather(u64),
    SendMessage(SchedulerMessage),
    /// The scheduler has asked the worker to close, for this reason.
    Close(String),
}

/// A task to run. All of its inputs are in the store.
#[derive(Debug)]
pub(crate) struct Execute {
    pub(crate) attempt: u64,
    pub(crate) key: WireKey,
    pub(crate) work: Rust,
}

/// A message for the scheduler. The names are Dask's.
#[derive(Debug)]
pub(crate) enum SchedulerMessage {
    TaskFinished { task: TaskRun, meta: ResultMeta, took: StartStop },
    TaskErred { task: TaskRun, failure: TaskFailure, took: StartStop },
    AddKeys(Vec<WireKey>),
    ReleaseWorkerData(WireKey),
    StealResponse { key: WireKey, state: Stolen, stimulus: String },
    RequestRefreshWhoHas(Vec<WireKey>),
    StatusChange { status: String, stimulus: String },
}

/// The order that a message is about. The scheduler ignores messages about an older run.
#[derive(Debug)]
pub(crate) struct TaskRun {
    pub(crate) key: WireKey,
    pub(crate) run: i64,
    pub(crate) stimulus: String,
}

/// The failure of a task as a Python exception: its class and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TaskFailure {
    pub(crate) class: &'static str,
    pub(crate) text: String,
}

/// The number of keys in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TaskCounts {
    pub(crate) waiting: usize,
    pub(crate) ready: usize,
    pub(crate) executing: usize,
    pub(crate) memory: usize,
    pub(crate) fetch: usize,
    pub(crate) flight: usize,
    /// The number of requests under way, and the bytes they ask for.
    pub(crate) requests: usize,
    pub(crate) incoming_bytes: u64,
}
