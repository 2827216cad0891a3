//! The operations that a worker sends to the scheduler on its stream.

use bytes::Bytes;

use crate::WireKey;
use crate::call::EMPTY;
use crate::capabilities::Forms;
use crate::pack::{Batch, FieldMap, Pack};
use crate::pickle;
use crate::serialized::{BYTES_CLASS, LIST_CLASS, Serialized};

/// The start and the end of a computation, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct StartStop {
    /// The start.
    pub start: f64,
    /// The end.
    pub stop: f64,
}

/// A run of a task, by the last `compute-task` for it.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The task.
    pub key: &'a WireKey,
    /// The number of the run.
    pub run: i64,
    /// The stimulus.
    pub stimulus: &'a str,
}

/// Adds `task-finished`. The type of the result is reported as `bytes`, or as `list` if it's a partial list.
pub fn finished(to: &mut Batch, task: &Run<'_>, nbytes: u64, is_partial: bool, took: StartStop) {
    let (class, name) = if is_partial { (LIST_CLASS, "list") } else { (BYTES_CLASS, "bytes") };
    let class = Bytes::from_static(class);
    let times: [(&str, &dyn Pack); 3] =
        [("action", &"compute"), ("start", &took.start), ("stop", &took.stop)];
    let times = [FieldMap(&times)];
    to.push(&[
        ("op", &"task-finished"),
        ("key", task.key),
        ("run_id", &task.run),
        ("stimulus_id", &task.stimulus),
        ("nbytes", &nbytes),
        ("type", &class),
        ("typename", &name),
        ("metadata", &EMPTY),
        ("startstops", &times),
        ("thread", &()),
        ("status", &"OK"),
    ]);
}

/// Adds `task-erred`, with the exception of Python's built-in class of this name.
pub fn erred(to: &mut Batch, task: &Run<'_>, class: &str, text: &str, took: StartStop) {
    let exception = Serialized::bytes(pickle::builtin_error(class, text).into());
    let times: [(&str, &dyn Pack); 3] =
        [("action", &"compute"), ("start", &took.start), ("stop", &took.stop)];
    let times = [FieldMap(&times)];
    to.push(&[
        ("op", &"task-erred"),
        ("key", task.key),
        ("run_id", &task.run),
        ("stimulus_id", &task.stimulus),
        ("exception", &exception),
        ("traceback", &()),
        ("exception_text", &text),
        ("traceback_text", &""),
        ("startstops", &times),
        ("thread", &()),
        ("status", &"error"),
    ]);
}

/// Adds `add-keys`: the worker has these results.
pub fn has(to: &mut Batch, keys: &[WireKey], stimulus: &str) {
    to.push(&[("op", &"add-keys"), ("keys", &keys), ("stimulus_id", &stimulus)]);
}

/// Adds `release-worker-data`: the worker no longer has this result.
pub fn released(to: &mut Batch, key: &WireKey, stimulus: &str) {
    to.push(&[("op", &"release-worker-data"), ("key", key), ("stimulus_id", &stimulus)]);
}

/// The state of a task that the scheduler wants to give to another worker. These are the states that it understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stolen {
    /// It was ready to run, and is given back.
    Ready,
    /// It waited for inputs, and is given back.
    Waiting,
    /// It runs, and is kept.
    Executing,
    /// It has a result, and is kept.
    Memory,
    /// It runs for long, and is kept.
    LongRunning,
    /// The worker doesn't know it.
    Unknown,
}

/// Adds `steal-response`, the reply to `steal-request`, with the stimulus of the request.
pub fn stolen(to: &mut Batch, key: &WireKey, state: Stolen, stimulus: &str) {
    let state = match state {
        Stolen::Ready => Some("ready"),
        Stolen::Waiting => Some("waiting"),
        Stolen::Executing => Some("executing"),
        Stolen::Memory => Some("memory"),
        Stolen::LongRunning => Some("long-running"),
        Stolen::Unknown => None,
    };
    to.push(&[
        ("op", &"steal-response"),
        ("key", key),
        ("state", &state),
        ("stimulus_id", &stimulus),
    ]);
}

/// Adds `request-refresh-who-has`: asks which workers have these results. The reply is
/// [`Order::WhoHas`](super::order::Order::WhoHas).
pub fn refresh_who_has(to: &mut Batch, keys: &[WireKey], stimulus: &str) {
    to.push(&[("op", &"request-refresh-who-has"), ("keys", &keys), ("stimulus_id", &stimulus)]);
}

/// Adds `long-running`: the task no longer occupies a thread of the worker. It has run for `seconds` so far.
pub fn long_running(to: &mut Batch, forms: &Forms, task: &Run<'_>, seconds: f64) {
    let mut fields: Vec<(&str, &dyn Pack)> = vec![
        ("op", &"long-running"),
        ("key", task.key),
        ("compute_duration", &seconds),
        ("stimulus_id", &task.stimulus),
    ];
    if forms.long_running_has_run {
        fields.push(("run_id", &task.run));
    }
    to.push(&fields);
}

/// Adds `worker-status-change`: `running`, `paused` or `closing_gracefully`.
pub fn status(to: &mut Batch, status: &str, stimulus: &str) {
    to.push(&[("op", &"worker-status-change"), ("status", &status), ("stimulus_id", &stimulus)]);
}

/// Adds `keep-alive`, for a stream without other operations.
pub fn keep_alive(to: &mut Batch) {
    to.push(&[("op", &"keep-alive")]);
}

/// Adds `close-stream`: the worker leaves.
pub fn close(to: &mut Batch) {
    to.push(&[("op", &"close-stream")]);
}
