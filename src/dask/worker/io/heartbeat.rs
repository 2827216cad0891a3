//! Heartbeats: the periodic report of a worker's metrics to the scheduler.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::Timer;

use super::core::{WorkerCore, now};
use crate::dask::wire::call::CallError;
use crate::dask::wire::worker::register::{Beat, Metrics, heartbeat};
use crate::dask::worker::error::WorkerErrorKind;

/// The time in which the scheduler must answer. It may be busy with a large graph.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The time in which a `close` message must arrive on the stream after the scheduler has forgotten the worker.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// After this time without an answer the scheduler is considered dead. It's Dask's own default for workers.
const SCHEDULER_TTL: Duration = Duration::from_secs(300);
/// The shortest interval, whatever the scheduler asks for.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

impl WorkerCore {
    /// Collects the metrics and passes them to `write`.
    pub(super) fn metrics<T>(&self, write: impl FnOnce(&Metrics<'_>) -> T) -> T {
        let sample = self.samples.last();
        let traffic = self.traffic.take_report();
        let (sizes, counts) = {
            let inner = self.lock();
            (inner.store.sizes(), inner.state.counts())
        };
        let task_counts = [
            ("executing", counts.executing),
            ("ready", counts.ready),
            ("waiting", counts.waiting),
            ("fetch", counts.fetch),
            ("flight", counts.flight),
            ("memory", counts.memory),
        ]
        .map(|(name, count)| (name, count as u64));
        let bandwidth_from: Vec<_> =
            traffic.bandwidth_from.iter().map(|(from, speed)| (from.as_str(), *speed)).collect();
        let mut incoming = traffic.incoming;
        (incoming.bytes, incoming.count) = (counts.incoming_bytes, counts.requests as u64);
        write(&Metrics {
            memory: self.process_share.share(sample.memory, sizes.memory),
            managed_bytes: sizes.memory,
            spilled_memory: sizes.spilled,
            spilled_disk: sizes.disk,
            cpu: sample.cpu,
            time: now(),
            task_counts: &task_counts,
            incoming,
            outgoing: traffic.outgoing,
            bandwidth: traffic.bandwidth,
            bandwidth_from: &bandwidth_from,
            loop_interval: sample.loop_interval,
            files: sample.files,
            network: sample.network,
            disk: sample.disk,
        })
    }
}

/// Sends heartbeats until the scheduler doesn't know the worker any more or is considered dead.
pub(crate) async fn run(core: Arc<WorkerCore>, interval: f64) {
    let mut interval = bounded(interval);
    loop {
        let begin = Instant::now();
        let executing: Vec<_> = {
            let inner = core.lock();
            let since = |since: Instant| since.elapsed().as_secs_f64();
            inner.state.executing().map(|(key, from)| (key.clone(), since(from))).collect()
        };
        let me = &core.identity;
        let message = core.metrics(|metrics| heartbeat(&me.address, now(), metrics, &executing));
        let answer = core.pool.call(&me.scheduler, message, TIMEOUT).await;
        let answer = answer
            .map_err(|error| error.to_string())
            .and_then(|answer| Beat::read(answer).map_err(|error: CallError| error.to_string()));
        match answer {
            Ok(Beat::Again(again)) => {
                interval = bounded(again);
                core.heartbeat_answered(begin, interval);
            }
            Ok(Beat::Unknown) => {
                // Heartbeats and the stream are separate connections. A worker that was asked to close may not have
                // read that yet.
                Timer::after(CLOSE_TIMEOUT).await;
                // A retired worker is forgotten as soon as its results are on other workers.
                let is_closing = core.lock().state.status() == "closing_gracefully";
                return core.close(if is_closing { Ok(()) } else { Err(core.forgotten()) });
            }
            Err(error) => {
                log::warn!("{}: a heartbeat wasn't answered: {error}", me.address);
                if core.silence() > SCHEDULER_TTL {
                    let (scheduler, after) = (me.scheduler.clone(), core.silence());
                    return core
                        .close(Err(WorkerErrorKind::SchedulerSilent { scheduler, after }.into()));
                }
            }
        }
        // The pool has no timer of its own.
        core.pool.sweep();
        Timer::at(begin + interval.max(begin.elapsed())).await;
        Timer::after(MIN_INTERVAL).await;
    }
}

/// Returns an interval in which several heartbeats fit in the scheduler's time to live.
fn bounded(interval: f64) -> Duration {
    Duration::try_from_secs_f64(interval).unwrap_or(Duration::from_secs(1)).min(SCHEDULER_TTL / 2)
}
