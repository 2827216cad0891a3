//! Why a task is not finished.

use std::fmt;
use std::time::Duration;

use super::reason::Reason;
use super::record::Record;
use super::recorder::{Recorder, nanos};
use super::serial::serialize;
use crate::blocking;
use crate::engine::core::Core;
use crate::engine::graph::inspect;
use crate::engine::life::status::status;
use crate::engine::task::header::PausedFor;
use crate::engine::task::header::{Task, TaskRef};
use crate::engine::task::state::{PAUSED, QUEUED, RUNNING};
use crate::{Key, Status};

/// So many tasks that one waits for are told of.
const SHOWN: usize = 8;

/// Why a task is not finished, in words and as data; made by [`Client::explain`](crate::Client::explain).
///
/// It says what is so at the time of the call. Shown with `{}` it's the key, the status and the reasons.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The task.
    pub key: Key,
    /// How it stands.
    pub status: Status,
    /// Why; the most important first.
    pub reasons: Vec<Reason>,
}

serialize!(Explanation, this: key = this.key, status = this.status, reasons = this.reasons);

impl Explanation {
    pub(crate) fn of(task: TaskRef<'_>) -> Self {
        let recorder = Recorder::find(task.core());
        let (status, reasons) = why(recorder.as_deref(), task, true);
        Self { key: task.key().clone(), status, reasons }
    }

    /// The same for the task with this number, as long as anything is known of it.
    pub(crate) fn of_number(core: &Core, recorder: &Recorder, number: u64) -> Option<Self> {
        if let Some(task) = core.observer.watched.get(number) {
            return Some(Self::of(task.as_ref()));
        }
        let record = &*recorder.record();
        let entry = record.tasks.get(&number)?;
        let status = entry.status;
        let key = entry.key(record.name(entry.name), number);
        let reason = match status {
            Status::Finished => {
                Reason::Finished { ran: Some(Duration::from_nanos(entry.run_time)) }
            }
            Status::Failed => Reason::Failed {
                error: entry.error.as_deref().unwrap_or_default().to_owned(),
                origin: None,
            },
            Status::Cancelled => Reason::Cancelled { origin: None },
            // It has just ended, and been freed.
            _ => Reason::Finished { ran: None },
        };
        Some(Self { key, status, reasons: vec![reason] })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is {}: ", self.key, self.status)?;
        for (at, reason) in self.reasons.iter().enumerate() {
            write!(f, "{}{reason}", if at > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

/// How a task stands, and why; with `deep`, also why those that it waits for don't end.
fn why(recorder: Option<&Recorder>, task: TaskRef<'_>, deep: bool) -> (Status, Vec<Reason>) {
    let core = task.core();
    let mut inputs = Vec::new();
    inspect::inputs(task, &mut inputs);
    let status = status(task);
    let mut reasons = Vec::new();
    if !matches!(status, Status::Finished | Status::Failed | Status::Cancelled) {
        if task.waiters.is_aborting() {
            let error = task.failure();
            reasons.extend(error.map(|error| Reason::Ending { error: error.to_string() }));
        } else if core.is_closed() {
            reasons.push(Reason::Closed);
        }
    }
    match status {
        Status::Finished => {
            let ran = recorder.and_then(|recorder| run_time(recorder, task));
            reasons.push(Reason::Finished { ran });
        }
        Status::Failed | Status::Cancelled => reasons.push(failed(task, status)),
        Status::Waiting => {
            inputs.retain(|input| !input.waiters.is_closed());
            let waits_for = |(task, status, why)| Reason::WaitsFor { task, status, why };
            add_tasks(recorder, &inputs, deep, waits_for, &mut reasons);
        }
        Status::Delayed => reasons.push(delayed(task)),
        Status::Ready | Status::Running => {
            let state = task.state.load();
            if state & RUNNING != 0 {
                let known = recorder
                    .zip(task.number())
                    .and_then(|(recorder, number)| running(recorder, &recorder.record(), number));
                reasons.push(known.unwrap_or(Reason::Running { worker: None, lasted: None }));
            } else if state & QUEUED != 0 {
                queued(recorder, task, &mut reasons);
            } else if state & PAUSED != 0 {
                limited(task, &mut reasons);
            } else {
                awaits(recorder, task, deep, &mut reasons);
            }
        }
    }
    (status, reasons)
}

fn failed(task: TaskRef<'_>, status: Status) -> Reason {
    let error = task.failure();
    // Where it began, if that isn't here, but in a task.
    let origin = error.as_ref().filter(|error| !error.is_abandoned());
    let origin = origin.map(|error| error.origin().clone());
    let origin = origin.filter(|origin| origin != task.key());
    match status {
        Status::Cancelled => Reason::Cancelled { origin },
        _ => {
            let error = error.map_or_else(String::new, |error| error.to_string());
            Reason::Failed { error, origin }
        }
    }
}

fn delayed(task: TaskRef<'_>) -> Reason {
    use std::sync::atomic::Ordering::Relaxed;

    let (attempt, due) = task
        .extras()
        .map_or((0, 0), |extras| (extras.attempt.load(Relaxed), extras.due.load(Relaxed)));
    let left = due.saturating_sub(nanos(task.core().now()));
    Reason::RetryIn { attempt: attempt + 1, left: Duration::from_nanos(left) }
}

fn queued(recorder: Option<&Recorder>, task: TaskRef<'_>, reasons: &mut Vec<Reason>) {
    let core = task.core();
    let workers = core.hosted_workers() + core.threads.alive();
    if core.seeded.is_some() {
        if core.hosted_workers() == 0 {
            reasons.push(Reason::NotDriven);
        }
    } else if workers == 0 {
        reasons.push(Reason::NoWorker);
    } else if core.idle_workers.asleep() == 0 {
        let with = recorder.map_or_else(Vec::new, |recorder| {
            let record = &*recorder.record();
            let tasks = record.lanes.iter().filter_map(|lane| lane.task);
            let key = |number| {
                let entry = record.tasks.get(&number)?;
                Some(entry.key(record.name(entry.name), number))
            };
            tasks.filter_map(key).take(SHOWN).collect()
        });
        reasons.push(Reason::WorkersBusy { workers, with });
    }
    let (ahead, of) = (inspect::place_in_queue(task), inspect::queued(core));
    reasons.push(Reason::Queued { ahead, of });
}

fn limited(task: TaskRef<'_>, reasons: &mut Vec<Reason>) {
    if task.extras().is_some_and(|extras| extras.is_paused_for(PausedFor::Delay)) {
        // It has just been woken.
        reasons.push(delayed(task));
        return;
    }
    for lacking in task.core().limits.lacking(task) {
        let holders = lacking.holders.iter().take(SHOWN).map(|task| task.key().clone());
        reasons.push(Reason::LimitFull {
            name: lacking.name,
            of: lacking.of,
            used: lacking.used,
            needed: lacking.needed,
            ahead: lacking.ahead,
            holders: holders.collect(),
        });
    }
}

fn awaits(recorder: Option<&Recorder>, task: TaskRef<'_>, deep: bool, reasons: &mut Vec<Reason>) {
    let mut awaited = Vec::new();
    inspect::awaited(task, &mut awaited);
    for other in inspect::awaited_otherwise(task) {
        if awaited.iter().all(|task| !task.as_ref().is(other.as_ref())) {
            awaited.push(other);
        }
    }
    awaited.retain(|task| !task.waiters.is_closed());
    if task.core().owned_tasks.is_blocking(task) {
        reasons.push(match blocking::waits_for_thread(task) {
            true => Reason::WaitsForThread,
            false => Reason::Blocking,
        });
    } else if awaited.is_empty() {
        reasons.push(Reason::Suspended);
    }
    let awaits = |(task, status, why)| Reason::Awaits { task, status, why };
    add_tasks(recorder, &awaited, deep, awaits, reasons);
}

fn add_tasks(
    recorder: Option<&Recorder>,
    tasks: &[Task],
    deep: bool,
    reason: impl Fn((Key, Status, Vec<Reason>)) -> Reason,
    reasons: &mut Vec<Reason>,
) {
    for task in tasks.iter().take(SHOWN) {
        let (status, why) = match deep {
            true => why(recorder, task.as_ref(), false),
            false => (status(task.as_ref()), Vec::new()),
        };
        reasons.push(reason((task.key().clone(), status, why)));
    }
    if tasks.len() > SHOWN {
        reasons.push(Reason::More(tasks.len() - SHOWN));
    }
}

/// On which worker a task is, and since when.
fn running(recorder: &Recorder, record: &Record, number: u64) -> Option<Reason> {
    let at = record.lanes.iter().position(|lane| lane.task == Some(number))?;
    let lasted = recorder.began.elapsed();
    let since = Duration::from_nanos(record.lanes[at].since);
    Some(Reason::Running { worker: Some(at), lasted: Some(lasted.saturating_sub(since)) })
}

fn run_time(recorder: &Recorder, task: TaskRef<'_>) -> Option<Duration> {
    let number = task.number()?;
    let record = recorder.record();
    record.tasks.get(&number).map(|entry| Duration::from_nanos(entry.run_time))
}
