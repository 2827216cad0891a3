//! How a client stands, in numbers.

use std::sync::Arc;
use std::time::Duration;

use super::functions::Counts;
use super::record::{Doing, Record};
use super::recorder::Recorder;
use super::serial::{Seconds, serialize};
use crate::engine::core::Core;

/// How a client stands, in numbers; made by [`Client::stats`](crate::Client::stats).
///
/// `workers`, `busy`, `held` and `limits` are always known. The rest is counted from when the client began to
/// [record](crate::Client::observe), and is 0 before: `submitted`, `finished`, `failed`, `cancelled` and `left`
/// for all tasks since, `waiting`, `ready`, `running` and `delayed` for those that are watched in detail.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// How many workers there are: threads, and futures that are being driven.
    pub workers: usize,
    /// How many of them aren't asleep.
    pub busy: usize,
    /// How many tasks are in memory, ended ones and others.
    pub held: usize,
    /// Tasks that were submitted; a retry of one counts again.
    pub submitted: u64,
    /// Tasks that have a value.
    pub finished: u64,
    /// Tasks that have failed.
    pub failed: u64,
    /// Tasks that were cancelled, or given up, or ended by closing the client.
    pub cancelled: u64,
    /// Tasks that have not ended.
    pub left: u64,
    /// Watched tasks that wait for inputs.
    pub waiting: u64,
    /// Watched tasks that wait for a worker or a limit.
    pub ready: u64,
    /// Watched tasks that have started.
    pub running: u64,
    /// Watched tasks that wait for their next attempt.
    pub delayed: u64,
    /// The declared limits.
    pub limits: Vec<LimitStats>,
    /// The same for each function, in the order in which they were first seen.
    pub functions: Vec<FunctionStats>,
    /// For how long the client has recorded; `None` if it doesn't.
    pub recording_for: Option<Duration>,
}

/// A declared limit; see [`Stats::limits`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LimitStats {
    /// What it's called.
    pub name: String,
    /// How much there is.
    pub of: usize,
    /// How much of it is taken.
    pub used: usize,
    /// How many tasks wait for some of it.
    pub waiting: usize,
}

/// The tasks of one function; see [`Stats::functions`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FunctionStats {
    /// The function's name, or that given with [`name`](crate::Options::name).
    pub name: Arc<str>,
    /// As in [`Stats`], and so are the others.
    pub submitted: u64,
    #[allow(missing_docs)]
    pub finished: u64,
    #[allow(missing_docs)]
    pub failed: u64,
    #[allow(missing_docs)]
    pub cancelled: u64,
    #[allow(missing_docs)]
    pub left: u64,
    #[allow(missing_docs)]
    pub waiting: u64,
    #[allow(missing_docs)]
    pub ready: u64,
    #[allow(missing_docs)]
    pub running: u64,
    #[allow(missing_docs)]
    pub delayed: u64,
    /// How long watched tasks have been polled, in all.
    pub run_time: Duration,
    /// How often that was.
    pub polls: u64,
}

impl Stats {
    pub(crate) fn of(core: &Core) -> Self {
        let Some(recorder) = Recorder::find(core) else { return Self::live(core) };
        // Counted first: then no task is known that isn't counted.
        let counts = recorder.functions.counts();
        Self::with(core, &recorder, &recorder.record(), &counts)
    }

    /// What is known without recording.
    fn live(core: &Core) -> Self {
        let workers = core.hosted_workers() + core.threads.alive();
        let limits = core.limits.usage().into_iter();
        let limit = |(name, of, used, waiting)| LimitStats { name, of, used, waiting };
        Self {
            workers,
            busy: core.workers().saturating_sub(core.idle_workers.asleep()),
            held: core.tasks_in_memory(),
            submitted: 0,
            finished: 0,
            failed: 0,
            cancelled: 0,
            left: 0,
            waiting: 0,
            ready: 0,
            running: 0,
            delayed: 0,
            limits: limits.map(limit).collect(),
            functions: Vec::new(),
            recording_for: None,
        }
    }

    pub(crate) fn with(
        core: &Core,
        recorder: &Recorder,
        record: &Record,
        counts: &[Counts],
    ) -> Self {
        let mut stats = Self::live(core);
        stats.recording_for = Some(core.now().saturating_sub(recorder.since));
        for (place, (_, name)) in record.names.iter().enumerate() {
            let counts = counts.get(place).copied().unwrap_or_default();
            let doing = record.functions.get(place).copied().unwrap_or_default();
            stats.add(name, counts, doing);
        }
        stats
    }

    fn add(&mut self, name: &Arc<str>, counts: Counts, doing: Doing) {
        let Counts { submitted, finished, failed, cancelled } = counts;
        let Doing { waiting, ready, running, delayed, run_time, polls } = doing;
        let left = counts.left();
        self.submitted += submitted;
        self.finished += finished;
        self.failed += failed;
        self.cancelled += cancelled;
        self.left += left;
        self.waiting += waiting;
        self.ready += ready;
        self.running += running;
        self.delayed += delayed;
        let (name, run_time) = (name.clone(), Duration::from_nanos(run_time));
        self.functions.push(FunctionStats {
            name,
            submitted,
            finished,
            failed,
            cancelled,
            left,
            waiting,
            ready,
            running,
            delayed,
            run_time,
            polls,
        });
    }
}

serialize!(Stats, this:
    workers = this.workers,
    busy = this.busy,
    held = this.held,
    submitted = this.submitted,
    finished = this.finished,
    failed = this.failed,
    cancelled = this.cancelled,
    left = this.left,
    waiting = this.waiting,
    ready = this.ready,
    running = this.running,
    delayed = this.delayed,
    limits = this.limits,
    functions = this.functions,
    recording_for = this.recording_for.map(Seconds),
);

serialize!(LimitStats, this:
    name = this.name,
    of = this.of,
    used = this.used,
    waiting = this.waiting,
);

serialize!(FunctionStats, this:
    name = *this.name,
    submitted = this.submitted,
    finished = this.finished,
    failed = this.failed,
    cancelled = this.cancelled,
    left = this.left,
    waiting = this.waiting,
    ready = this.ready,
    running = this.running,
    delayed = this.delayed,
    run_time = Seconds(this.run_time),
    polls = this.polls,
);
