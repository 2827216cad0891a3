//! A publisher of a client's counters for the `metrics` facade.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::Status;
use crate::engine::core::CoreRef;
use crate::observe::record::recorder::Recorder;
use crate::observe::record::tables::{Record, StatusEvent};
use crate::observe::record::task_record::Transition;
use crate::observe::views::stats::Stats;

/// A publisher of a client's counters for the [`metrics`](https://docs.rs/metrics) facade; made by
/// [`Client::metrics`](crate::Client::metrics). Feature `metrics`.
///
/// | name | type | labels | value |
/// |---|---|---|---|
/// | `ensue_tasks_submitted_total` | counter | `client`, `function` | submitted tasks |
/// | `ensue_tasks_ended_total` | counter | `client`, `function`, `status` | tasks that have ended as `finished`, `failed` or `cancelled` |
/// | `ensue_tasks` | gauge | `client`, `function`, `status` | tasks that are `waiting`, `ready`, `running` or `delayed` |
/// | `ensue_tasks_in_memory` | gauge | `client` | tasks in memory |
/// | `ensue_workers`, `ensue_workers_busy` | gauge | `client` | workers, and those that aren't idle |
/// | `ensue_limit`, `ensue_limit_used`, `ensue_limit_waiting` | gauge | `client`, `limit` | the declared amount, that in use, and tasks that wait for it |
/// | `ensue_rate_available`, `ensue_rate_waiting` | gauge | `client`, `rate` | the starts that it allows now, and tasks that wait for it |
/// | `ensue_poll_seconds` | histogram | `client`, `function` | length of a poll |
/// | `ensue_queue_seconds` | histogram | `client`, `function` | time from ready to running |
///
/// The histograms and `ensue_tasks` count the tasks that are watched in detail; see
/// [`Client::observe`](crate::Client::observe).
///
/// The limits that a [pattern](crate::Builder::limit_each) has made count together, with its text as their label, as long as
/// they're in use; and so do the rates.
///
/// The publisher keeps the memory of the client's engine, but doesn't keep
/// the client open.
///
/// ```
/// use std::time::Duration;
///
/// let client = ensue::Client::new();
/// let mut metrics = client.metrics();
/// // Usually in an endless loop.
/// for _ in 0..2 {
///     metrics.publish();
///     std::thread::sleep(Duration::from_millis(10));
/// }
/// ```
pub struct Metrics {
    core: CoreRef,
    recorder: Arc<Recorder>,
    client: String,
    /// The revision up to which the histograms were published.
    cursor: u64,
}

impl Metrics {
    pub(crate) fn new(core: &CoreRef) -> Self {
        let recorder = Recorder::start(core);
        let cursor = recorder.record().revision;
        Self { core: core.clone(), recorder, client: core.name.to_string(), cursor }
    }

    /// Publishes the current counters and gauges, and the histograms' values since the last call. Call it every few
    /// seconds: at most 100,000 polls and 10,000 waits are kept in between.
    ///
    /// The installed recorder of the `metrics` crate runs on this thread; a panic of it reaches the caller.
    pub fn publish(&mut self) {
        let stats = Stats::of(&self.core);
        self.publish_stats(&stats);
        let polls;
        let waits;
        {
            let record = &*self.recorder.record();
            polls = record
                .polls_since(self.cursor)
                .map(|poll| {
                    (record.name(poll.name).to_string(), poll.end.saturating_sub(poll.start))
                })
                .collect::<Vec<_>>();
            let events = record.events_since(self.cursor);
            waits = events.filter_map(|event| time_in_queue(record, event)).collect::<Vec<_>>();
            self.cursor = record.revision;
        }
        let seconds = |nanos| Duration::from_nanos(nanos).as_secs_f64();
        // The metrics recorder is user code, so it's called after the record is unlocked.
        for (function, took) in polls {
            let client = self.client.clone();
            histogram!("ensue_poll_seconds", "client" => client, "function" => function)
                .record(seconds(took));
        }
        for (function, took) in waits {
            let client = self.client.clone();
            histogram!("ensue_queue_seconds", "client" => client, "function" => function)
                .record(seconds(took));
        }
    }

    fn publish_stats(&self, stats: &Stats) {
        let client = || self.client.clone();
        gauge!("ensue_workers", "client" => client()).set(stats.workers as f64);
        gauge!("ensue_workers_busy", "client" => client()).set(stats.busy as f64);
        gauge!("ensue_tasks_in_memory", "client" => client()).set(stats.tasks_in_memory as f64);
        for (name, [of, used, waiting]) in stats.limits_for_metrics() {
            let labels = [("client", client()), ("limit", name.to_owned())];
            gauge!("ensue_limit", &labels).set(of as f64);
            gauge!("ensue_limit_used", &labels).set(used as f64);
            gauge!("ensue_limit_waiting", &labels).set(waiting as f64);
        }
        for (name, [available, waiting]) in stats.rates_for_metrics() {
            let labels = [("client", client()), ("rate", name.to_owned())];
            gauge!("ensue_rate_available", &labels).set(available as f64);
            gauge!("ensue_rate_waiting", &labels).set(waiting as f64);
        }
        for function in &stats.functions {
            let name = || function.name.to_string();
            counter!("ensue_tasks_submitted_total", "client" => client(), "function" => name())
                .absolute(function.submitted);
            for (status, count) in [
                ("finished", function.finished),
                ("failed", function.failed),
                ("cancelled", function.cancelled),
            ] {
                let labels =
                    [("client", client()), ("function", name()), ("status", status.into())];
                counter!("ensue_tasks_ended_total", &labels).absolute(count);
            }
            for (status, count) in [
                ("waiting", function.waiting),
                ("ready", function.ready),
                ("running", function.running),
                ("delayed", function.delayed),
            ] {
                let labels =
                    [("client", client()), ("function", name()), ("status", status.into())];
                gauge!("ensue_tasks", &labels).set(count as f64);
            }
        }
    }
}

/// Returns the function of a ready task that has begun to run, and how long it was ready; `None` for other events.
fn time_in_queue(record: &Record, event: &StatusEvent) -> Option<(String, u64)> {
    let change = event.change;
    let task = record.tasks.get(&event.task).filter(|_| change.status == Status::Running)?;
    let is_this = |other: &Transition| other.at == change.at && other.status == Status::Running;
    let before = task.transitions.iter().position(is_this)?.checked_sub(1)?;
    let ready = task.transitions.get(before).filter(|other| other.status == Status::Ready)?;
    Some((record.name(task.name).to_string(), change.at.saturating_sub(ready.at)))
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("client", &self.client).finish_non_exhaustive()
    }
}
