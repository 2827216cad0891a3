//! Statistics of a client.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::serial::{Seconds, serialize};
use crate::Rate;
use crate::engine::core::Core;
use crate::engine::data::limits::UsageWhat;
use crate::observe::record::functions::Counts;
use crate::observe::record::recorder::Recorder;
use crate::observe::record::tables::{FunctionActivity, Record};

/// A snapshot of a client's counters; made by [`Client::stats`](crate::Client::stats).
///
/// | fields | counted |
/// |---|---|
/// | `workers`, `busy`, `tasks_in_memory`, `limits`, `rates` | always |
/// | `submitted`, `finished`, `failed`, `cancelled`, `left` | all tasks, from when the client began to [observe](crate::Client::observe) |
/// | `waiting`, `ready`, `running`, `delayed` | tasks that are watched in detail, from then on |
///
/// The counters are read one after the other, while tasks go on. It implements `serde::Serialize`, with times in
/// seconds.
///
/// ```
/// let client = ensue::Client::builder().seed(1).observe().build();
/// let bad = client.try_submit(async || Err::<(), _>("bad"), ());
/// bad.result().unwrap_err();
/// let stats = client.stats();
/// assert_eq!((stats.submitted, stats.failed, stats.left), (1, 1, 0));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// The number of workers: threads of the client, and [worker futures](crate::Client::worker) that are being polled.
    pub workers: usize,
    /// The number of workers that aren't idle.
    pub busy: usize,
    /// The number of tasks in memory, including those that have ended and whose results are kept.
    pub tasks_in_memory: usize,
    /// Tasks that were submitted. A [retry by hand](crate::Handle::retry) counts again.
    pub submitted: u64,
    /// Tasks that have ended with a value.
    pub finished: u64,
    /// Tasks that have ended with an error.
    pub failed: u64,
    /// Tasks that were cancelled, were dropped with their last handle, or ended when the client was closed.
    pub cancelled: u64,
    /// Tasks that have not ended.
    pub left: u64,
    /// Watched tasks that wait for inputs.
    pub waiting: u64,
    /// Watched tasks that wait for a worker, a limit or a rate.
    pub ready: u64,
    /// Watched tasks that have started, suspended ones included.
    pub running: u64,
    /// Watched tasks that wait for their next attempt.
    pub delayed: u64,
    /// The [limits](crate::Builder::limit), as [`Client::limits`](crate::Client::limits) returns them.
    pub limits: Vec<LimitStats>,
    /// The [rates](crate::Builder::rate), as [`Client::rates`](crate::Client::rates) returns them.
    pub rates: Vec<RateStats>,
    /// The same counters for each function, in the order in which the functions were first submitted.
    pub functions: Vec<FunctionStats>,
    /// The time since the client began to observe; `None` if it doesn't.
    pub recording_for: Option<Duration>,
}

/// A limit; see [`Client::limits`](crate::Client::limits).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitStats {
    /// The name of the limit.
    pub name: String,
    /// The [pattern](crate::Builder::limit_each) that it was made by.
    pub pattern: Option<String>,
    /// The declared amount.
    pub of: usize,
    /// The amount that is in use; more than there is if the limit was lowered.
    pub used: usize,
    /// The number of tasks that wait for it.
    pub waiting: usize,
}

/// A rate; see [`Client::rates`](crate::Client::rates).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateStats {
    /// The name of the rate.
    pub name: String,
    /// The [pattern](crate::Builder::rate_each) that it was made by.
    pub pattern: Option<String>,
    /// The declared rate.
    pub rate: Rate,
    /// The number of starts that it allows at once now.
    pub available: usize,
    /// The time until it allows the next start; `None` if it allows none.
    pub next: Option<Duration>,
    /// The number of tasks that wait for it.
    pub waiting: usize,
}

impl LimitStats {
    /// Returns the limits and the rates of a client.
    pub(crate) fn of(core: &Core) -> (Vec<LimitStats>, Vec<RateStats>) {
        let (mut limits, mut rates) = (Vec::new(), Vec::new());
        for usage in core.limits.usage(&core.clock()) {
            let (name, pattern, waiting) = (usage.name, usage.pattern, usage.waiting);
            match usage.what {
                UsageWhat::Limit { of, used } => {
                    limits.push(LimitStats { name, pattern, of, used, waiting });
                }
                UsageWhat::Rate { rate, available, next } => {
                    rates.push(RateStats { name, pattern, rate, available, next, waiting });
                }
            }
        }
        (limits, rates)
    }
}

/// The counters of one function; see [`Stats::functions`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FunctionStats {
    /// The function's name, or that given with [`name`](crate::Options::name).
    pub name: Arc<str>,
    /// The same as in [`Stats`], as are the fields up to `delayed`.
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
    /// The total time that workers have polled watched tasks.
    pub run_time: Duration,
    /// The number of these polls.
    pub polls: u64,
}

impl Stats {
    pub(crate) fn of(core: &Core) -> Self {
        let Some(recorder) = Recorder::find(core) else { return Self::live(core) };
        // Read before the record, so that every recorded task is counted.
        let counts = recorder.functions.counts();
        Self::with(core, &recorder, &recorder.record(), &counts)
    }

    /// Returns the fields that need no recording.
    fn live(core: &Core) -> Self {
        let workers = core.hosted_workers() + core.threads.alive();
        let (limits, rates) = LimitStats::of(core);
        Self {
            workers,
            busy: core.workers().saturating_sub(core.idle_workers.asleep()),
            tasks_in_memory: core.tasks_in_memory(),
            submitted: 0,
            finished: 0,
            failed: 0,
            cancelled: 0,
            left: 0,
            waiting: 0,
            ready: 0,
            running: 0,
            delayed: 0,
            limits,
            rates,
            functions: Vec::new(),
            recording_for: None,
        }
    }

    /// Returns all fields, from a record and from counts that were read before it.
    pub(crate) fn with(
        core: &Core,
        recorder: &Recorder,
        record: &Record,
        counts: &[Counts],
    ) -> Self {
        let mut stats = Self::live(core);
        stats.recording_for = Some(core.now().saturating_sub(recorder.since));
        for (index, (_, name)) in record.names.iter().enumerate() {
            let counts = counts.get(index).copied().unwrap_or_default();
            let activity = record.functions.get(index).copied().unwrap_or_default();
            stats.add(name, counts, activity);
        }
        stats
    }

    /// Of the limits and rates that patterns have made, keeps those that most tasks wait for: for pages, which can't show one
    /// for each of many thousands of names.
    pub(crate) fn keep_busiest(&mut self, most: usize) {
        fn keep<T>(all: &mut Vec<T>, most: usize, of: impl Fn(&T) -> (bool, usize)) {
            // The declared ones are first.
            let declared = all.iter().take_while(|each| !of(each).0).count();
            all[declared..].sort_by_key(|each| Reverse(of(each).1));
            all.truncate(declared + most);
        }
        keep(&mut self.limits, most, |limit| (limit.pattern.is_some(), limit.waiting));
        keep(&mut self.rates, most, |rate| (rate.pattern.is_some(), rate.waiting));
    }

    /// The name, the total, what is used, and the number of tasks that wait, of each limit. Those that a pattern has made
    /// count together under its text, so that metrics have no label for each of its names.
    pub(crate) fn limits_for_metrics(&self) -> Vec<(&str, [usize; 3])> {
        let limits = self.limits.iter();
        sums(limits.map(|it| (&it.name, &it.pattern, [it.of, it.used, it.waiting])))
    }

    /// The same of the rates: the number of starts that each allows now, and of tasks that wait.
    pub(crate) fn rates_for_metrics(&self) -> Vec<(&str, [usize; 2])> {
        let rates = self.rates.iter();
        sums(rates.map(|it| (&it.name, &it.pattern, [it.available, it.waiting])))
    }

    /// Adds a function, and its counts to the sums.
    fn add(&mut self, name: &Arc<str>, counts: Counts, activity: FunctionActivity) {
        let Counts { submitted, finished, failed, cancelled } = counts;
        let FunctionActivity { waiting, ready, running, delayed, run_time, polls } = activity;
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

/// Adds up the numbers of those that one pattern has made.
fn sums<'a, const N: usize>(
    all: impl Iterator<Item = (&'a String, &'a Option<String>, [usize; N])>,
) -> Vec<(&'a str, [usize; N])> {
    let mut sums = Vec::<(&str, [usize; N])>::new();
    for (name, pattern, numbers) in all {
        let label = pattern.as_ref().unwrap_or(name);
        let before = sums.iter_mut().find(|(other, _)| pattern.is_some() && other == label);
        match before {
            Some((_, sums)) => {
                sums.iter_mut().zip(numbers).for_each(|(a, b)| *a = a.saturating_add(b))
            }
            None => sums.push((label, numbers)),
        }
    }
    sums
}

serialize!(Stats, this:
    workers = this.workers,
    busy = this.busy,
    tasks_in_memory = this.tasks_in_memory,
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
    rates = this.rates,
    functions = this.functions,
    recording_for = this.recording_for.map(Seconds),
);

serialize!(LimitStats, this:
    name = this.name,
    pattern = this.pattern,
    of = this.of,
    used = this.used,
    waiting = this.waiting,
);

serialize!(RateStats, this:
    name = this.name,
    pattern = this.pattern,
    n = this.rate.n(),
    per = Seconds(this.rate.per()),
    burst = this.rate.most_at_once(),
    available = this.available,
    next = this.next.map(Seconds),
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use crate::Client;

    #[test]
    fn the_many_names_of_a_pattern_are_few_in_metrics_and_on_pages() {
        let builder = Client::builder().seed(1).limit("db", 9).limit_each("host:*", 2);
        let client = builder.limit_each("other:*", 1).build();
        let names = (0..100).map(|n| format!("host:{}", n % 10)).chain(["other:a".into()]);
        let submit = |name| client.task().acquire(name).spawn(pending::<()>());
        let tasks: Vec<_> = names.map(submit).collect();
        client.task().priority(-1).submit(async || (), ()).result().unwrap();
        let mut stats = client.stats();
        assert_eq!(stats.limits.len(), 12);
        let wanted = [("db", [9, 0, 0]), ("host:*", [20, 20, 80]), ("other:*", [1, 1, 0])];
        assert_eq!(stats.limits_for_metrics(), wanted);
        stats.keep_busiest(3);
        let names: Vec<_> = stats.limits.iter().map(|limit| &*limit.name).collect();
        assert_eq!(names, ["db", "host:0", "host:1", "host:2"]);
        drop(tasks);
    }
}
