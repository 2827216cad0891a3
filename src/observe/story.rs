//! What has happened to a task.

use std::fmt;
use std::time::Duration;

use super::entry::{Entry, is_end};
use super::record::Record;
use super::recorder::{Recorder, nanos};
use super::serial::{Seconds, serialize};
use crate::engine::task::header::TaskRef;
use crate::{Key, Status};

/// What has happened to a task, in order; made by [`Client::story`](crate::Client::story).
///
/// It's empty for a task that isn't watched: one that came in a great burst, or had ended before the client
/// began to [observe](crate::Client::observe). Shown with `{}` it has a line for each chapter.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Story {
    /// The task.
    pub key: Key,
    /// Its times of one status each.
    pub chapters: Vec<Chapter>,
    /// How many from the middle were left out, because there were more than a hundred.
    pub left_out: u32,
    /// For how long it was polled, in all.
    pub ran: Duration,
    /// Its error.
    pub error: Option<String>,
}

/// A time in which a task had one status; see [`Story`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Chapter {
    /// How it stood.
    pub status: Status,
    /// When that began, counted from when the client began to observe.
    pub at: Duration,
    /// How long it lasted, or has lasted so far; `None` for the end.
    pub lasted: Option<Duration>,
    /// The number of the worker that brought it about, or that began to poll the task then.
    pub worker: Option<usize>,
    /// Which attempt it was; 1 for the first.
    pub attempt: u32,
}

serialize!(Story, this:
    key = this.key,
    chapters = this.chapters,
    left_out = this.left_out,
    ran = Seconds(this.ran),
    error = this.error,
);

serialize!(Chapter, this:
    status = this.status,
    at = Seconds(this.at),
    lasted = this.lasted.map(Seconds),
    worker = this.worker,
    attempt = this.attempt,
);

impl Story {
    pub(crate) fn of(recorder: &Recorder, task: TaskRef<'_>) -> Self {
        let now = task.core().now();
        let known = task
            .number()
            .and_then(|number| Self::of_number(recorder, &recorder.record(), number, now));
        known.unwrap_or_else(|| Self {
            key: task.key().clone(),
            chapters: Vec::new(),
            left_out: 0,
            ran: Duration::ZERO,
            error: None,
        })
    }

    /// That of the task with this number.
    pub(crate) fn of_number(
        recorder: &Recorder,
        record: &Record,
        number: u64,
        now: Duration,
    ) -> Option<Self> {
        let entry = record.tasks.get(&number)?;
        Some(Self {
            key: entry.key(record.name(entry.name), number),
            chapters: chapters(entry, nanos(recorder.since), nanos(now)),
            left_out: entry.left_out,
            ran: Duration::from_nanos(entry.run_time),
            error: entry.error.as_deref().map(str::to_owned),
        })
    }
}

fn chapters(entry: &Entry, began: u64, now: u64) -> Vec<Chapter> {
    let ends = entry.chapters.iter().skip(1).map(|next| next.at).chain([now]);
    let chapters = entry.chapters.iter().zip(ends);
    let between = |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from));
    chapters
        .map(|(chapter, end)| Chapter {
            status: chapter.status,
            at: between(began, chapter.at),
            lasted: (!is_end(chapter.status)).then(|| between(chapter.at, end)),
            worker: chapter.worker.map(|worker| worker as usize),
            attempt: chapter.attempt,
        })
        .collect()
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.key)?;
        if self.chapters.is_empty() {
            writeln!(f, "  nothing was recorded of it")?;
        }
        for chapter in &self.chapters {
            write!(f, "  {:>10.6} s  {:<9}", chapter.at.as_secs_f64(), chapter.status)?;
            if let Some(lasted) = chapter.lasted {
                write!(f, "  for {lasted:.1?}")?;
            }
            if let Some(worker) = chapter.worker {
                write!(f, "  worker {worker}")?;
            }
            if chapter.attempt > 1 {
                write!(f, "  attempt {}", chapter.attempt)?;
            }
            writeln!(f)?;
        }
        if let Some(error) = &self.error {
            writeln!(f, "  {error}")?;
        }
        Ok(())
    }
}
