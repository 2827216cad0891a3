//! One task on the engine, from loading its inputs to reporting its outcome.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::FutureExt;

use super::core::{WorkerCore, now, span};
use crate::client::blocking;
use crate::dask::codec::{Problem, ProblemKind};
use crate::dask::failed::{PANICKED, PANICKED_AT, TIMED_OUT};
use crate::dask::registry::Work;
use crate::dask::wire::WireKey;
use crate::dask::wire::rust::{MissingItem, fill_missing, missing_items};
use crate::dask::wire::serialized::Serialized;
use crate::dask::wire::worker::order::Rust;
use crate::dask::worker::memory::StoredValue;
use crate::dask::worker::state::{Execute, ResultMeta, TaskFailure};
use crate::task::error::{forget_if_it_panics, panic_text};
use crate::task::panic_place;

/// An attempt and the thread that it occupies. Dropping this frees the thread.
struct Slot {
    core: Arc<WorkerCore>,
    attempt: u64,
    key: WireKey,
    start: f64,
    is_free: bool,
}

impl Slot {
    /// Reports the outcome of the task, and frees the thread.
    fn finish(mut self, outcome: Result<Serialized, TaskFailure>) {
        self.is_free = true;
        let (outcome, value) = match outcome {
            Ok(value) => (Ok(ResultMeta::of(&value)), Some(value)),
            Err(failure) => (Err(failure), None),
        };
        let took = span(self.start);
        self.core.update(|inner| {
            let is_wanted = inner.state.attempt_finished(self.attempt, outcome, took);
            if let (true, Some(value)) = (is_wanted, value) {
                inner.store_result(self.key.clone(), value);
            }
            // In the same update as the outcome, so that the next task starts without a second round.
            inner.state.attempt_exited(self.attempt);
            inner.drop_handle(self.attempt);
        });
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.is_free {
            self.core.update(|inner| {
                inner.state.attempt_exited(self.attempt);
                inner.drop_handle(self.attempt);
            });
        }
    }
}

/// Runs a task and reports its outcome. The thread stays occupied until the whole future is dropped or, if the
/// function blocks, has returned.
pub(super) async fn run(core: Arc<WorkerCore>, task: Execute, inputs: Vec<StoredValue>) {
    let Execute { attempt, key, work } = task;
    let mut slot = Slot { core: core.clone(), attempt, key, start: now(), is_free: false };
    let inputs = match load(&core, &work, inputs).await {
        Ok(inputs) => inputs,
        Err(lost) => {
            // `inputs_lost` ends the attempt itself.
            slot.is_free = true;
            return core.update(|inner| {
                inner.state.inputs_lost(attempt, work, &lost);
                inner.drop_handle(attempt);
            });
        }
    };
    let Rust { function, args, timeout, .. } = work;
    let (slot, args, inputs) = match complete(&core, slot, args, inputs).await {
        Ok(complete) => complete,
        Err((Some(slot), failure)) => return slot.finish(Err(failure)),
        Err((None, failure)) => return log::error!("{}", failure.text),
    };
    let timeout = timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match core.registry.work(&function, args, inputs) {
        Err(problem) => slot.finish(Err(task_failure(problem))),
        Ok(Work::Async(work)) => {
            // A panic is an outcome of the task, not of the worker. The future is not polled again after it.
            let work = AssertUnwindSafe(work).catch_unwind();
            let outcome = match timeout {
                None => Some(work.await),
                Some(timeout) => within(work, timeout).await,
            };
            slot.finish(match outcome {
                Some(outcome) => flatten(outcome),
                None => Err(timed_out(timeout)),
            });
        }
        Ok(Work::Blocking(work)) => run_blocking(&core, slot, work, timeout).await,
    }
}

type Complete = (Slot, Bytes, Vec<Serialized>);

/// Makes the calls whose results are missing in an input; see [`missing_items`]. An error has no slot if the slot was
/// dropped, which reports the failure.
async fn complete(
    core: &Arc<WorkerCore>,
    mut slot: Slot,
    args: Bytes,
    mut inputs: Vec<Serialized>,
) -> Result<Complete, (Option<Slot>, TaskFailure)> {
    let missing = missing_items(&args, &inputs);
    if missing.is_empty() {
        return Ok((slot, args, inputs));
    }
    let first = inputs.len();
    for MissingItem { function, args, .. } in &missing {
        let outcome = match core.registry.work(function, args.clone(), Vec::new()) {
            Err(problem) => Err(task_failure(problem)),
            Ok(Work::Async(work)) => flatten(AssertUnwindSafe(work).catch_unwind().await),
            Ok(Work::Blocking(work)) => {
                // The function takes the slot along, and so occupies the thread until it returns, also if this future
                // is dropped before.
                let call = move || (slot, catch_unwind(AssertUnwindSafe(work)));
                match blocking::Work::new(None, call).await {
                    Ok((returned, outcome)) => {
                        slot = returned;
                        flatten(outcome)
                    }
                    Err(error) => return Err((None, refused(&error))),
                }
            }
        };
        match outcome {
            Ok(value) => inputs.push(value),
            Err(failure) => return Err((Some(slot), failure)),
        }
    }
    Ok((slot, fill_missing(&args, &missing, first), inputs))
}

/// Returns the output of a future, or `None` after the timeout.
async fn within<T>(work: impl Future<Output = T>, timeout: Duration) -> Option<T> {
    let late = async {
        crate::sleep(timeout).await;
        None
    };
    async { Some(work.await) }.or(late).await
}

/// Runs a blocking function on a thread that may block. The function reports its own outcome, since this future may
/// have been dropped before it returns.
async fn run_blocking(
    core: &Arc<WorkerCore>,
    slot: Slot,
    work: Box<dyn FnOnce() -> Result<Serialized, Problem> + Send>,
    timeout: Option<Duration>,
) {
    let (attempt, start) = (slot.attempt, slot.start);
    let code = move || {
        let outcome = catch_unwind(AssertUnwindSafe(work));
        slot.finish(flatten(outcome));
    };
    let work = async {
        if let Err(error) = blocking::Work::new(None, code).await {
            // The slot was dropped with the code, which reports the failure.
            log::error!("{}", refused(&error).text);
        }
    };
    let Some(timeout) = timeout else { return work.await };
    let late = async {
        crate::sleep(timeout).await;
        // Only the outcome is known now: the thread is occupied until the function returns. Reported before the work is
        // dropped, which drops the slot if no thread has begun it.
        let failure = timed_out(Some(timeout));
        core.update(|inner| inner.state.attempt_finished(attempt, Err(failure), span(start)));
    };
    work.or(late).await;
}

/// Reads the inputs that are in files. Fails with the keys of those that can't be read.
async fn load(
    core: &Arc<WorkerCore>,
    work: &Rust,
    values: Vec<StoredValue>,
) -> Result<Vec<Serialized>, Vec<WireKey>> {
    let mut inputs = Vec::with_capacity(values.len());
    let mut lost = Vec::new();
    for (key, value) in work.inputs.iter().zip(values) {
        match core.load(key, value).await {
            Some(value) => inputs.push(value),
            None => lost.push(key.clone()),
        }
    }
    if lost.is_empty() { Ok(inputs) } else { Err(lost) }
}

fn flatten(
    outcome: thread::Result<Result<Serialized, Problem>>,
) -> Result<Serialized, TaskFailure> {
    match outcome {
        Ok(outcome) => outcome.map_err(task_failure),
        Err(payload) => {
            let text = panic_text(&*payload);
            let text = match panic_place::take(&*payload) {
                Some(place) => format!("{PANICKED_AT}{}: {text}", place.at),
                None => format!("{PANICKED}{text}"),
            };
            forget_if_it_panics(payload);
            Err(TaskFailure { class: "SystemError", text })
        }
    }
}

fn task_failure(problem: Problem) -> TaskFailure {
    let class = match problem.kind {
        ProblemKind::Failed => "RuntimeError",
        ProblemKind::Mismatch | ProblemKind::Unserializable => "TypeError",
        ProblemKind::Unregistered => "LookupError",
    };
    TaskFailure { class, text: problem.text }
}

/// Returns the failure of a task for which the system refused a thread.
fn refused(error: &io::Error) -> TaskFailure {
    TaskFailure { class: "RuntimeError", text: error.to_string() }
}

fn timed_out(timeout: Option<Duration>) -> TaskFailure {
    let text = format!("{TIMED_OUT}{:?}", timeout.unwrap_or_default());
    TaskFailure { class: "TimeoutError", text }
}
