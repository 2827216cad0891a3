//! Explanations of why a task has not finished, from the live task and the record.

use std::cell::OnceCell;
use std::fmt;
use std::panic::Location;
use std::ptr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::reason::{BLOCKED, Reason};
use super::serial::{FileLine, serialize};
use crate::engine::base::nanos::nanos;
use crate::engine::core::{Core, CurrentPoll};
use crate::engine::data::limits::{Lacking, LackingWhat};
use crate::engine::graph::inspect;
use crate::engine::graph::waits::Waits;
use crate::engine::life::deadline;
use crate::engine::life::status::status;
use crate::engine::task::header::{Extras, PausedFor, Task, TaskRef};
use crate::engine::task::state::{PAUSED, QUEUED, RUNNING};
use crate::observe::record::recorder::Recorder;
use crate::observe::record::tables::Record;
use crate::task::{key, thread_wait};
use crate::{Error, Key, Status};

/// The maximum number of tasks that are listed of those which a task waits for, or which hold a limit or the workers.
const SHOWN: usize = 8;

/// The reasons why a task has not finished, or how it has ended; made by [`Client::explain`](crate::Client::explain).
///
/// It describes the time of the call; tasks go on meanwhile, so parts may differ by a moment. `Display` writes one line
/// with the key, the line that submitted it, the status and the reasons; it also implements `serde::Serialize`.
///
/// ```
/// use ensue::{Client, Reason, Status};
///
/// let client = Client::builder().workers(0).build();
/// let x = client.submit(async || 1, ());
/// let explanation = client.explain(&x);
/// assert_eq!(explanation.status, Status::Ready);
/// assert_eq!(explanation.reasons[0], Reason::NoWorker);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The task.
    pub key: Key,
    /// The line of the call that submitted it.
    pub submitted_at: Option<&'static Location<'static>>,
    /// Its status.
    pub status: Status,
    /// The reasons; the most important first.
    pub reasons: Vec<Reason>,
}

serialize!(Explanation, this:
    key = this.key,
    submitted_at = this.submitted_at.map(FileLine),
    status = this.status,
    reasons = this.reasons,
);

/// What the explanations of one moment share. Which tasks wait for which is read from all of a client's tasks, so it's read
/// once, and only if one of the explanations needs it.
pub(super) struct Survey<'a> {
    core: &'a Core,
    waits: OnceCell<Waits>,
}

impl<'a> Survey<'a> {
    pub(super) fn of(core: &'a Core) -> Self {
        Self { core, waits: OnceCell::new() }
    }

    pub(super) fn waits(&self) -> &Waits {
        self.waits.get_or_init(|| Waits::of(self.core))
    }
}

impl Explanation {
    pub(crate) fn of(task: TaskRef<'_>) -> Self {
        Self::among(&Survey::of(task.core()), task)
    }

    /// The same, as one of several explanations.
    pub(super) fn among(survey: &Survey<'_>, task: TaskRef<'_>) -> Self {
        let recorder = Recorder::find(task.core());
        let (status, reasons) = diagnose(recorder.as_deref(), survey, task, true);
        let (key, submitted_at) = (task.key().clone(), task.submitted_at);
        Self { key, submitted_at, status, reasons }
    }

    /// Explains the task with this number: from the task while that is in memory, and from the record after that. Returns
    /// `None` if it's in neither.
    pub(crate) fn of_number(core: &Core, recorder: &Recorder, number: u64) -> Option<Self> {
        if let Some(task) = core.observer.watched.get(number) {
            return Some(Self::of(task.as_ref()));
        }
        let record = &*recorder.record();
        let known = record.tasks.get(&number)?;
        let status = known.status;
        let key = known.key(record.name(known.name), number);
        let reason = match status {
            Status::Finished => {
                Reason::Finished { ran: Some(Duration::from_nanos(known.run_time)) }
            }
            Status::Failed => Reason::Failed {
                error: known.error.as_deref().unwrap_or_default().to_owned(),
                origin: None,
            },
            Status::Cancelled => Reason::Cancelled {
                origin: None,
                reason: known.error.as_deref().map(str::to_owned),
            },
            // It was freed, but the event of its end isn't in the record yet.
            _ => Reason::Finished { ran: None },
        };
        let submitted_at = known.submitted_at;
        Some(Self { key, submitted_at, status, reasons: vec![reason] })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.key)?;
        if let Some(at) = self.submitted_at.map(FileLine) {
            write!(f, " ({at})")?;
        }
        write!(f, " is {}: ", self.status)?;
        for (at, reason) in self.reasons.iter().enumerate() {
            write!(f, "{}{reason}", if at > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

/// Returns a task's status and the reasons for it; with `deep`, also the reasons of the tasks that it waits for. These
/// are one level deep: a chain of thousands of tasks must not become one text.
fn diagnose(
    recorder: Option<&Recorder>,
    survey: &Survey<'_>,
    task: TaskRef<'_>,
    deep: bool,
) -> (Status, Vec<Reason>) {
    let core = task.core();
    let of_another = Survey::of(core);
    let survey = if ptr::eq(core, survey.core) { survey } else { &of_another };
    let mut inputs = Vec::new();
    inspect::inputs(task, &mut inputs);
    let status = status(task);
    let mut reasons = Vec::new();
    let is_over = matches!(status, Status::Finished | Status::Failed | Status::Cancelled);
    if !is_over {
        if task.waiters.is_aborting() {
            let error = task.failure();
            reasons.extend(error.map(|error| Reason::Ending { error: format!("{error:#}") }));
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
            add_tasks(recorder, survey, &inputs, deep, waits_for, &mut reasons);
            if deep {
                add_cycle(survey.waits(), task, &mut reasons);
            }
        }
        Status::Delayed => reasons.push(delayed(task)),
        Status::Ready | Status::Running => {
            // The order matters: a running task may be queued again by a wake-up, and a parked one may be in a poll.
            let state = task.state.load();
            if state & RUNNING != 0 {
                let known = recorder
                    .zip(task.number())
                    .and_then(|(recorder, number)| running(recorder, &recorder.record(), number));
                reasons.push(known.unwrap_or_else(|| polled(task)));
            } else if state & QUEUED != 0 {
                queued(recorder, task, &mut reasons);
            } else if state & PAUSED != 0 {
                limited(task, &mut reasons);
                if deep {
                    add_cycle(survey.waits(), task, &mut reasons);
                }
            } else {
                awaits(recorder, survey, task, deep, &mut reasons);
            }
        }
    }
    if !is_over {
        reasons.extend(deadline::left(task).map(|left| Reason::Deadline { left }));
    }
    (status, reasons)
}

fn failed(task: TaskRef<'_>, status: Status) -> Reason {
    let error = task.failure();
    // The task that has failed first, if that is another one. An abandoned task's error comes from no task.
    let origin = error.as_ref().filter(|error| !error.is_abandoned());
    let origin = origin.map(|error| error.origin().clone());
    let origin = origin.filter(|origin| origin != task.key());
    match status {
        Status::Cancelled => {
            let reason = error.as_ref().and_then(Error::reason).map(str::to_owned);
            Reason::Cancelled { origin, reason }
        }
        _ => {
            let error = error.map_or_else(String::new, |error| format!("{error:#}"));
            Reason::Failed { error, origin }
        }
    }
}

/// Returns the reason of a task that waits for its next attempt.
fn delayed(task: TaskRef<'_>) -> Reason {
    use std::sync::atomic::Ordering::Relaxed;

    let (attempt, due) = task
        .extras()
        .map_or((0, 0), |extras| (extras.attempt.load(Relaxed), extras.due.load(Relaxed)));
    let left = due.saturating_sub(nanos(task.core().now()));
    Reason::RetryIn { attempt: attempt + 1, left: Duration::from_nanos(left) }
}

/// Adds the reasons of a task in a queue: why no worker takes it, and its position.
fn queued(recorder: Option<&Recorder>, task: TaskRef<'_>, reasons: &mut Vec<Reason>) {
    let core = task.core();
    let workers = core.hosted_workers() + core.threads.alive();
    if core.seeded.is_some() {
        if core.hosted_workers() == 0 {
            reasons.push(Reason::NotDriven);
        }
    } else if workers == 0 {
        reasons.push(Reason::NoWorker);
    } else {
        add_workers(recorder, task, workers, reasons);
    }
    let (ahead, of) = (inspect::place_in_queue(task), inspect::queued(core));
    reasons.push(Reason::Queued { ahead, of });
}

/// Adds the reasons why none of the workers takes a queued task.
fn add_workers(
    recorder: Option<&Recorder>,
    task: TaskRef<'_>,
    workers: usize,
    reasons: &mut Vec<Reason>,
) {
    let core = task.core();
    let unpolled = core.unpolled_workers();
    if unpolled > 0 {
        reasons.push(Reason::WorkersNotPolled { workers: unpolled });
    }
    let workers = workers.saturating_sub(unpolled);
    if workers > 0 && core.idle_workers.asleep() == 0 {
        let with = recorder.map_or_else(Vec::new, |recorder| {
            let record = &*recorder.record();
            record.polled_tasks().filter_map(|number| record.key(number)).take(SHOWN).collect()
        });
        reasons.push(Reason::WorkersBusy { workers, with });
    }
    if core.idle_workers.asleep() == 0 {
        let is_long = |poll: &CurrentPoll| poll.lasted.is_some_and(|lasted| lasted >= BLOCKED);
        reasons.extend(blocked(recorder, core, Some(task), is_long));
    }
}

/// Returns reasons for the first of the polls under way that are `wanted` as blocked ones.
pub(super) fn blocked(
    recorder: Option<&Recorder>,
    core: &Core,
    near: Option<TaskRef<'_>>,
    wanted: impl Fn(&CurrentPoll) -> bool,
) -> Vec<Reason> {
    let mut polls = core.current_polls();
    polls.retain(wanted);
    polls.truncate(SHOWN);
    if polls.is_empty() {
        return Vec::new();
    }
    let recorded: Vec<_> = recorder.map_or_else(Vec::new, |recorder| {
        recorder.record().polled_tasks().filter_map(|n| core.observer.watched.get(n)).collect()
    });
    let find = |poll: &CurrentPoll, tasks: &[Task]| {
        let found = tasks.iter().find(|task| poll.poll.is_of(task.as_ref()))?;
        // While the poll goes on its task can't be freed, and no other one have its address.
        poll.goes_on().then(|| found.key().clone())
    };
    let mut keys: Vec<_> = polls.iter().map(|poll| find(poll, &recorded)).collect();
    if keys.contains(&None) {
        let reachable = inspect::reachable(core, near);
        for (key, poll) in keys.iter_mut().zip(&polls) {
            *key = key.take().or_else(|| find(poll, &reachable));
        }
    }
    let reason = |(poll, task): (CurrentPoll, _)| Reason::Blocked {
        worker: poll.worker,
        task,
        function: key::short_name((poll.poll.vtable.function)()),
        lasted: poll.lasted.unwrap_or_default(),
    };
    polls.into_iter().zip(keys).map(reason).collect()
}

/// Adds the reasons of a paused task: each limit and rate that it waits for.
fn limited(task: TaskRef<'_>, reasons: &mut Vec<Reason>) {
    if task.extras().is_some_and(|extras| extras.is_paused_for(PausedFor::Delay)) {
        // The delay is over, and the task isn't queued yet.
        reasons.push(delayed(task));
        return;
    }
    let core = task.core();
    for Lacking { name, needed, ahead, what } in core.limits.lacking(task, &core.clock()) {
        reasons.push(match what {
            LackingWhat::Limit { of, used, holders } => {
                let holders = holders.iter().take(SHOWN).map(|task| task.key().clone()).collect();
                Reason::LimitFull { name, of, used, needed, ahead, holders }
            }
            LackingWhat::Rate { rate, next } => {
                Reason::WaitsForRate { name, rate, needed, ahead, next }
            }
        });
    }
}

/// Adds the reasons of a suspended task: its blocking work, the tasks that it awaits, or something that is no task.
fn awaits(
    recorder: Option<&Recorder>,
    survey: &Survey<'_>,
    task: TaskRef<'_>,
    deep: bool,
    reasons: &mut Vec<Reason>,
) {
    let awaited = survey.waits().waited_for(task);
    let blocks = |extras: &&Extras| extras.blocked.load(Ordering::Relaxed) > 0;
    if let Some(extras) = task.extras().filter(blocks) {
        reasons.push(match thread_wait::is_waiting(&extras.blocking) {
            true => Reason::WaitsForThread,
            false => Reason::Blocking,
        });
    } else {
        let before = reasons.len();
        add_groups(task, reasons);
        if awaited.is_empty() && reasons.len() == before {
            reasons.push(Reason::Suspended);
        }
    }
    let awaits = |(task, status, why)| Reason::Awaits { task, status, why };
    add_tasks(recorder, survey, &awaited, deep, awaits, reasons);
    if deep {
        add_cycle(survey.waits(), task, reasons);
    }
}

/// Adds the groups that the task waits for.
fn add_groups(task: TaskRef<'_>, reasons: &mut Vec<Reason>) {
    let awaited = task.core().awaited_groups.lock();
    let of_task = awaited.iter().filter(|(of, _)| *of == task.as_ptr().as_ptr().addr());
    reasons.extend(of_task.map(|(_, group)| Reason::AwaitsGroup {
        group: group.name.to_string(),
        tasks: group.len.load(Ordering::Relaxed),
    }));
}

/// Adds the cycle of tasks that the task is in, if it's in one.
fn add_cycle(waits: &Waits, task: TaskRef<'_>, reasons: &mut Vec<Reason>) {
    let cycle = waits.cycle_of(task);
    if !cycle.is_empty() {
        reasons
            .push(Reason::Cycle { tasks: cycle.iter().map(|task| task.key().clone()).collect() });
    }
}

/// Adds a reason for each of the first tasks, and the number of the others.
fn add_tasks(
    recorder: Option<&Recorder>,
    survey: &Survey<'_>,
    tasks: &[Task],
    deep: bool,
    reason: impl Fn((Key, Status, Vec<Reason>)) -> Reason,
    reasons: &mut Vec<Reason>,
) {
    for task in tasks.iter().take(SHOWN) {
        let (status, why) = match deep {
            true => diagnose(recorder, survey, task.as_ref(), false),
            false => (status(task.as_ref()), Vec::new()),
        };
        reasons.push(reason((task.key().clone(), status, why)));
    }
    if tasks.len() > SHOWN {
        reasons.push(Reason::More(tasks.len() - SHOWN));
    }
}

/// Returns the reason of a task that is being polled, from what its worker shows.
fn polled(task: TaskRef<'_>) -> Reason {
    let polls = task.core().current_polls();
    let poll = polls.into_iter().find(|poll| poll.poll.is_of(task));
    let (worker, lasted) =
        (poll.as_ref().map(|poll| poll.worker), poll.and_then(|poll| poll.lasted));
    Reason::Running { worker, lasted }
}

/// Returns the reason of a task that is being polled, if the record knows the worker.
fn running(recorder: &Recorder, record: &Record, number: u64) -> Option<Reason> {
    let number_of_worker = record.workers.iter().position(|worker| worker.task == Some(number));
    let worker = number_of_worker?;
    let lasted = recorder.began.elapsed();
    let since = Duration::from_nanos(record.workers[worker].since);
    Some(Reason::Running { worker: Some(worker), lasted: Some(lasted.saturating_sub(since)) })
}

/// Returns how long a task was polled, if it's recorded.
fn run_time(recorder: &Recorder, task: TaskRef<'_>) -> Option<Duration> {
    let number = task.number()?;
    let record = recorder.record();
    record.tasks.get(&number).map(|known| Duration::from_nanos(known.run_time))
}
