//! What a client does, for the `metrics` facade.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::Status;
use crate::engine::core::CoreRef;
use crate::observe::record::recorder::Recorder;
use crate::observe::record::tables::{Happened, Record};
use crate::observe::views::stats::Stats;

/// Tells the [`metrics`](https://docs.rs/metrics) facade what a client does; made by
/// [`Client::metrics`](crate::Client::metrics). Feature `metrics`.
///
/// | name | kind | labels | |
/// |---|---|---|---|
/// | `ensue_tasks_submitted_total` | counter | `client`, `function` | tasks that were submitted |
/// | `ensue_tasks_ended_total` | counter | and `status` | that are `finished`, `failed` or `cancelled` |
/// | `ensue_tasks` | gauge | and `status` | that are `waiting`, `ready`, `running` or `delayed` |
/// | `ensue_tasks_held` | gauge | `client` | that are in memory |
/// | `ensue_workers`, `ensue_workers_busy` | gauge | `client` | |
/// | `ensue_limit`, `ensue_limit_used` | gauge | `client`, `limit` | |
/// | `ensue_poll_seconds` | histogram | `client`, `function` | how long a worker was at a task |
/// | `ensue_queue_seconds` | histogram | `client`, `function` | how long a ready task waited |
///
/// The histograms and `ensue_tasks` are of the tasks that are watched in detail; see
/// [`Client::observe`](crate::Client::observe).
pub struct Metrics {
    core: CoreRef,
    recorder: Arc<Recorder>,
    client: String,
    /// Up to which revision the histograms have been told.
    cursor: u64,
}

impl Metrics {
    pub(crate) fn new(core: &CoreRef) -> Self {
        let recorder = Recorder::start(core);
        let cursor = recorder.record().revision;
        Self { core: core.clone(), recorder, client: core.name.to_string(), cursor }
    }

    /// Tells what has changed since the last time. Call it every few seconds.
    pub fn publish(&mut self) {
        let stats = Stats::of(&self.core);
        self.publish_stats(&stats);
        let polls;
        let waits;
        {
            let record = &*self.recorder.record();
            let first = record.bars.partition_point(|bar| bar.revision <= self.cursor);
            polls = record
                .bars
                .range(first..)
                .map(|bar| (record.name(bar.name).to_string(), bar.end.saturating_sub(bar.start)))
                .collect::<Vec<_>>();
            let first = record.events.partition_point(|event| event.revision <= self.cursor);
            let events = record.events.range(first..);
            waits = events.filter_map(|event| queued(record, event)).collect::<Vec<_>>();
            self.cursor = record.revision;
        }
        let seconds = |nanos| Duration::from_nanos(nanos).as_secs_f64();
        // Whoever is told is foreign code: not while the record is locked.
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
        gauge!("ensue_tasks_held", "client" => client()).set(stats.held as f64);
        for limit in &stats.limits {
            let labels = [("client", client()), ("limit", limit.name.clone())];
            gauge!("ensue_limit", &labels).set(limit.of as f64);
            gauge!("ensue_limit_used", &labels).set(limit.used as f64);
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

/// For an event by which a ready task came to run: of which function, and how long it had been ready.
fn queued(record: &Record, event: &Happened) -> Option<(String, u64)> {
    let entry = record.tasks.get(&event.task).filter(|_| event.status == Status::Running)?;
    let is_this = |chapter: &crate::observe::record::task_record::Chapter| {
        chapter.at == event.at && chapter.status == Status::Running
    };
    let at = entry.chapters.iter().position(is_this)?.checked_sub(1)?;
    let before = entry.chapters.get(at).filter(|chapter| chapter.status == Status::Ready)?;
    Some((record.name(entry.name).to_string(), event.at.saturating_sub(before.at)))
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("client", &self.client).finish_non_exhaustive()
    }
}
