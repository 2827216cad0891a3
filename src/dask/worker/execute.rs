//! Running a task on the engine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::FutureExt;

use super::core::{Core, now, span};
use super::state::{Failure, Made, Start};
use super::store::Value;
use crate::dask::codec::{Problem, ProblemKind};
use crate::dask::failed::{PANICKED, TIMED_OUT};
use crate::dask::registry::Work;
use crate::dask::wire::WireKey;
use crate::dask::wire::rust::{MissingItem, fill_missing, missing_items};
use crate::dask::wire::serialized::Serialized;
use crate::dask::wire::worker::order::Rust;
use crate::engine::core::CoreRef;
use crate::error::{forget_if_it_panics, panic_text};

/// An attempt, and the thread that it occupies until this is dropped.
struct Slot {
    core: Arc<Core>,
    attempt: u64,
    key: WireKey,
    start: f64,
    is_free: bool,
}

impl Slot {
    /// The task has ended, and the thread is free.
    fn finish(mut self, outcome: Result<Serialized, Failure>) {
        self.is_free = true;
        let (outcome, value) = match outcome {
            Ok(value) => (Ok(Made::of(&value)), Some(value)),
            Err(failure) => (Err(failure), None),
        };
        let took = span(self.start);
        self.core.with(|inner| {
            let is_wanted = inner.state.ended(self.attempt, outcome, took);
            if let (true, Some(value)) = (is_wanted, value) {
                inner.keep(self.key.clone(), value);
            }
            inner.state.gone(self.attempt);
            inner.forget_handle(self.attempt);
        });
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.is_free {
            self.core.with(|inner| {
                inner.state.gone(self.attempt);
                inner.forget_handle(self.attempt);
            });
        }
    }
}

/// Runs a task, and says how it ended. Its thread counts as occupied until all of it is dropped, or, if it
/// blocks, has returned.
pub(super) async fn run(core: Arc<Core>, start: Start, inputs: Vec<Value>) {
    let Start { attempt, key, work } = start;
    let mut slot = Slot { core: core.clone(), attempt, key, start: now(), is_free: false };
    let inputs = match load(&core, &work, inputs).await {
        Ok(inputs) => inputs,
        Err(lost) => {
            slot.is_free = true;
            return core.with(|inner| {
                inner.state.lost_inputs(attempt, work, &lost);
                inner.forget_handle(attempt);
            });
        }
    };
    let Rust { function, args, timeout, .. } = work;
    let (slot, args, inputs) = match complete(&core, slot, args, inputs).await {
        Ok(complete) => complete,
        Err((slot, failure)) => return slot.finish(Err(failure)),
    };
    let timeout = timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match core.registry.work(&function, args, inputs) {
        Err(problem) => slot.finish(Err(failure(problem))),
        Ok(Work::Async(work)) => {
            let work = AssertUnwindSafe(work).catch_unwind();
            let outcome = match timeout {
                None => Some(work.await),
                Some(timeout) => or_late(work, timeout).await,
            };
            slot.finish(match outcome {
                Some(outcome) => settled(outcome),
                None => Err(late(timeout)),
            });
        }
        Ok(Work::Blocking(work)) => blocking(&core, slot, work, timeout).await,
    }
}

type Complete = (Slot, Bytes, Vec<Serialized>);

/// Makes the calls whose results have got lost from the inputs; see [`missing_items`].
async fn complete(
    core: &Arc<Core>,
    mut slot: Slot,
    args: Bytes,
    mut inputs: Vec<Serialized>,
) -> Result<Complete, (Slot, Failure)> {
    let missing = missing_items(&args, &inputs);
    if missing.is_empty() {
        return Ok((slot, args, inputs));
    }
    let first = inputs.len();
    for MissingItem { function, args, .. } in &missing {
        let outcome = match core.registry.work(function, args.clone(), Vec::new()) {
            Err(problem) => Err(failure(problem)),
            Ok(Work::Async(work)) => settled(AssertUnwindSafe(work).catch_unwind().await),
            Ok(Work::Blocking(work)) => {
                // It occupies the thread until it returns, whatever becomes of the task.
                let call = move || (slot, catch_unwind(AssertUnwindSafe(work)));
                let (returned, outcome) = crate::blocking::run(engine(), None, call).await;
                slot = returned;
                settled(outcome)
            }
        };
        match outcome {
            Ok(value) => inputs.push(value),
            Err(failure) => return Err((slot, failure)),
        }
    }
    Ok((slot, fill_missing(&args, &missing, first), inputs))
}

/// The engine that runs this task.
fn engine() -> CoreRef {
    let Some(engine) = crate::Client::current() else {
        unreachable!("tasks run on the engine");
    };
    // It isn't kept alive by what runs on it.
    engine.core().clone()
}

/// What a future gives within the time.
async fn or_late<T>(work: impl Future<Output = T>, timeout: Duration) -> Option<T> {
    let late = async {
        crate::sleep(timeout).await;
        None
    };
    async { Some(work.await) }.or(late).await
}

/// Runs what blocks where it may. It says itself how it ended, since it may have been given up by then.
async fn blocking(
    core: &Arc<Core>,
    slot: Slot,
    work: Box<dyn FnOnce() -> Result<Serialized, Problem> + Send>,
    timeout: Option<Duration>,
) {
    let (attempt, start) = (slot.attempt, slot.start);
    let code = move || {
        let outcome = catch_unwind(AssertUnwindSafe(work));
        slot.finish(settled(outcome));
    };
    let work = crate::blocking::run(engine(), None, code);
    let Some(timeout) = timeout else { return work.await };
    if or_late(work, timeout).await.is_none() {
        // Its thread is free when it returns.
        let failure = late(Some(timeout));
        core.with(|inner| inner.state.ended(attempt, Err(failure), span(start)));
    }
}

/// Reads the inputs that are in files. Gives those that can't be read.
async fn load(
    core: &Arc<Core>,
    work: &Rust,
    values: Vec<Value>,
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

fn settled(outcome: thread::Result<Result<Serialized, Problem>>) -> Result<Serialized, Failure> {
    match outcome {
        Ok(outcome) => outcome.map_err(failure),
        Err(payload) => {
            let text = format!("{PANICKED}{}", panic_text(&*payload));
            forget_if_it_panics(payload);
            Err(Failure { class: "SystemError", text })
        }
    }
}

fn failure(problem: Problem) -> Failure {
    let class = match problem.kind {
        ProblemKind::Failed => "RuntimeError",
        ProblemKind::Mismatch | ProblemKind::Unserializable => "TypeError",
        ProblemKind::Unregistered => "LookupError",
    };
    Failure { class, text: problem.text }
}

fn late(timeout: Option<Duration>) -> Failure {
    let text = format!("{TIMED_OUT}{:?}", timeout.unwrap_or_default());
    Failure { class: "TimeoutError", text }
}
