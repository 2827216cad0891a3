//! The timeline of one task.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::serial::{FileLine, Seconds, serialize};
use crate::engine::base::nanos::nanos;
use crate::engine::task::header::TaskRef;
use crate::observe::record::recorder::Recorder;
use crate::observe::record::tables::Record;
use crate::observe::record::task_record::{TaskRecord, is_end};
use crate::{Key, Status};

/// The timeline of one task; made by [`Client::timeline`](crate::Client::timeline).
///
/// It's empty for a task that wasn't [watched in detail](crate::Client::observe): one that was submitted in a large
/// burst, or had ended before the client began to observe. `Display` writes a line for each phase; it also implements
/// `serde::Serialize`, with times in seconds.
///
/// ```
/// let client = ensue::Client::builder().seed(1).observe().build();
/// let nap = async || ensue::sleep(std::time::Duration::from_secs(2)).await;
/// let task = client.submit(nap, ());
/// task.result().unwrap();
/// let text = client.timeline(&task).to_string();
/// assert!(text.contains("running    for 2.0s  worker 0"), "{text}");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Timeline {
    /// The task.
    pub key: Key,
    /// The line of the call that submitted it.
    pub submitted_at: Option<&'static Location<'static>>,
    /// The intervals in which it had one status each, in order.
    pub phases: Vec<Phase>,
    /// The number of phases that are left out of the middle, since at most a hundred are kept.
    pub left_out: u32,
    /// The total time that workers have polled it.
    pub ran: Duration,
    /// The text of its error, with the causes, if it has failed; the reason, if it was cancelled with one.
    pub error: Option<String>,
}

/// An interval in which a task had one status; see [`Timeline`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Phase {
    /// The status.
    pub status: Status,
    /// The beginning of the interval, counted from when the client began to observe.
    pub at: Duration,
    /// The length of the interval, up to now for the last one; `None` if the task has ended with this status.
    pub lasted: Option<Duration>,
    /// The number of the worker that was polling the task when the interval began.
    pub worker: Option<usize>,
    /// The attempt; 1 for the first.
    pub attempt: u32,
}

serialize!(Timeline, this:
    key = this.key,
    submitted_at = this.submitted_at.map(FileLine),
    phases = this.phases,
    left_out = this.left_out,
    ran = Seconds(this.ran),
    error = this.error,
);

serialize!(Phase, this:
    status = this.status,
    at = Seconds(this.at),
    lasted = this.lasted.map(Seconds),
    worker = this.worker,
    attempt = this.attempt,
);

impl Timeline {
    pub(crate) fn of(recorder: &Recorder, task: TaskRef<'_>) -> Self {
        let now = task.core().now();
        let known = task
            .number()
            .and_then(|number| Self::of_number(recorder, &recorder.record(), number, now));
        known.unwrap_or_else(|| Self {
            key: task.key().clone(),
            submitted_at: task.submitted_at,
            phases: Vec::new(),
            left_out: 0,
            ran: Duration::ZERO,
            error: None,
        })
    }

    /// Returns the timeline of the task with this number, or `None` if that isn't recorded. `now` is the time of the
    /// engine's clock, at which the last phase ends for now.
    pub(crate) fn of_number(
        recorder: &Recorder,
        record: &Record,
        number: u64,
        now: Duration,
    ) -> Option<Self> {
        let task = record.tasks.get(&number)?;
        Some(Self {
            key: task.key(record.name(task.name), number),
            submitted_at: task.submitted_at,
            phases: phases(task, nanos(recorder.since), nanos(now)),
            left_out: task.transitions_dropped,
            ran: Duration::from_nanos(task.run_time),
            error: task.error.as_deref().map(str::to_owned),
        })
    }
}

/// Returns the phases of a task: each transition begins one, and the next transition ends it.
fn phases(task: &TaskRecord, began: u64, now: u64) -> Vec<Phase> {
    let ends = task.transitions.iter().skip(1).map(|next| next.at).chain([now]);
    let phases = task.transitions.iter().zip(ends);
    let between = |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from));
    phases
        .map(|(begin, end)| Phase {
            status: begin.status,
            at: between(began, begin.at),
            lasted: (!is_end(begin.status)).then(|| between(begin.at, end)),
            worker: begin.worker.map(|worker| worker as usize),
            attempt: begin.attempt,
        })
        .collect()
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.submitted_at.map(FileLine) {
            Some(at) => writeln!(f, "{} ({at})", self.key)?,
            None => writeln!(f, "{}", self.key)?,
        }
        if self.phases.is_empty() {
            writeln!(f, "  no events were recorded")?;
        }
        for phase in &self.phases {
            write!(f, "  {:>10.6} s  {:<9}", phase.at.as_secs_f64(), phase.status)?;
            if let Some(lasted) = phase.lasted {
                write!(f, "  for {lasted:.1?}")?;
            }
            if let Some(worker) = phase.worker {
                write!(f, "  worker {worker}")?;
            }
            if phase.attempt > 1 {
                write!(f, "  attempt {}", phase.attempt)?;
            }
            writeln!(f)?;
        }
        if let Some(error) = &self.error {
            writeln!(f, "  {error}")?;
        }
        Ok(())
    }
}
