//! What a worker tells the scheduler, on its stream.

use bytes::Bytes;

use crate::WireKey;
use crate::call::EMPTY;
use crate::capabilities::Forms;
use crate::pack::{Batch, FieldMap, Pack};
use crate::pickle;
use crate::serialized::{BYTES_CLASS, LIST_CLASS, Serialized};

/// When something began and ended, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub start: f64,
    pub stop: f64,
}

/// A task, as the scheduler ordered it.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    pub key: &'a WireKey,
    /// Of the last order for it.
    pub run: i64,
    /// Of the last order for it.
    pub stimulus: &'a str,
}

/// The result is here. Python is told that it's `bytes`, or a list if it's a part of one.
pub fn finished(to: &mut Batch, task: &Run<'_>, nbytes: u64, is_partial: bool, took: Span) {
    let (class, name) = if is_partial { (LIST_CLASS, "list") } else { (BYTES_CLASS, "bytes") };
    let class = Bytes::from_static(class);
    let times = [FieldMap(&[("action", &"compute"), ("start", &took.start), ("stop", &took.stop)])];
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

/// The task failed. Python gets the exception of this name, one that comes with it, with the text.
pub fn erred(to: &mut Batch, task: &Run<'_>, class: &str, text: &str, took: Span) {
    let exception = Serialized::bytes(pickle::builtin_error(class, text).into());
    let times = [FieldMap(&[("action", &"compute"), ("start", &took.start), ("stop", &took.stop)])];
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

/// This worker has these now.
pub fn has(to: &mut Batch, keys: &[WireKey], stimulus: &str) {
    to.push(&[("op", &"add-keys"), ("keys", &keys), ("stimulus_id", &stimulus)]);
}

/// This worker has it no longer.
pub fn released(to: &mut Batch, key: &WireKey, stimulus: &str) {
    to.push(&[("op", &"release-worker-data"), ("key", key), ("stimulus_id", &stimulus)]);
}

/// What became of a task that another worker could run. The scheduler fails over any other word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stolen {
    /// It's given up, and won't run here. So it was ready to run, or waited for inputs.
    Ready,
    Waiting,
    /// It's kept, since it runs, is done, or takes long.
    Executing,
    Memory,
    LongRunning,
    /// It isn't known here.
    Unknown,
}

/// Answers to an order to give up a task, with the order's own stimulus.
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

/// Asks who has these, since those that should didn't answer.
pub fn refresh_who_has(to: &mut Batch, keys: &[WireKey], stimulus: &str) {
    to.push(&[("op", &"request-refresh-who-has"), ("keys", &keys), ("stimulus_id", &stimulus)]);
}

/// The task goes on for long, and doesn't count as running any more. It took so many seconds till now.
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

/// This worker is in another state: `running`, `paused`, `closing_gracefully`.
pub fn status(to: &mut Batch, status: &str, stimulus: &str) {
    to.push(&[("op", &"worker-status-change"), ("status", &status), ("stimulus_id", &stimulus)]);
}

/// The stream is in use, though there's nothing to say.
pub fn keep_alive(to: &mut Batch) {
    to.push(&[("op", &"keep-alive")]);
}

/// This worker leaves.
pub fn close(to: &mut Batch) {
    to.push(&[("op", &"close-stream")]);
}
