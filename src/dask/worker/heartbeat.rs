//! Telling the scheduler how the worker is, again and again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::Timer;

use super::core::{Core, now};
use super::error::Kind;
use crate::dask::wire::call::CallError;
use crate::dask::wire::worker::register::{Beat, Metrics, heartbeat};

/// How long the scheduler may take for an answer; it may be busy with a large graph.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take until it's heard on the stream why the scheduler doesn't know the worker any more.
const WORD: Duration = Duration::from_secs(1);
/// Without any answer for so long it's taken for dead, as it does with workers.
const DEAF: Duration = Duration::from_secs(300);

impl Core {
    /// How the worker is.
    pub(super) fn metrics<T>(&self, tell: impl FnOnce(&Metrics<'_>) -> T) -> T {
        let sample = self.samples.last();
        let look = self.traffic.look();
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
            look.bandwidth_from.iter().map(|(from, speed)| (from.as_str(), *speed)).collect();
        let mut incoming = look.incoming;
        (incoming.bytes, incoming.count) = (counts.flying_bytes, counts.flights as u64);
        tell(&Metrics {
            memory: self.member.share(sample.memory, sizes.memory),
            managed_bytes: sizes.memory,
            spilled_memory: sizes.spilled,
            spilled_disk: sizes.disk,
            cpu: sample.cpu,
            time: now(),
            task_counts: &task_counts,
            incoming,
            outgoing: look.outgoing,
            bandwidth: look.bandwidth,
            bandwidth_from: &bandwidth_from,
            loop_interval: sample.loop_interval,
            files: sample.files,
            network: sample.network,
            disk: sample.disk,
        })
    }
}

/// Sends heartbeats until the scheduler doesn't know the worker any more, or is dead.
pub(super) async fn beat(core: Arc<Core>, interval: f64) {
    let mut interval = seconds(interval);
    loop {
        let begin = Instant::now();
        let executing: Vec<_> = {
            let inner = core.lock();
            let since = |since: Instant| since.elapsed().as_secs_f64();
            inner.state.executing().map(|(key, from)| (key.clone(), since(from))).collect()
        };
        let me = &core.me;
        let message = core.metrics(|metrics| heartbeat(&me.address, now(), metrics, &executing));
        let answer = core.pool.call(&me.scheduler, message, PATIENCE).await;
        let answer = answer
            .map_err(|error| error.to_string())
            .and_then(|answer| Beat::read(answer).map_err(|error: CallError| error.to_string()));
        match answer {
            Ok(Beat::Again(again)) => {
                interval = seconds(again);
                core.hear(begin, interval);
            }
            Ok(Beat::Unknown) => {
                // One that was told to leave may not have read it yet.
                Timer::after(WORD).await;
                // One that is being retired is forgotten as soon as its results are elsewhere.
                let is_leaving = core.lock().state.status() == "closing_gracefully";
                return core.finish(if is_leaving { Ok(()) } else { Err(core.forgotten()) });
            }
            Err(error) => {
                log::warn!("{}: no answer to a heartbeat: {error}", me.address);
                if core.silence() > DEAF {
                    let (scheduler, after) = (me.scheduler.clone(), core.silence());
                    return core.finish(Err(Kind::Deaf { scheduler, after }.into()));
                }
            }
        }
        core.pool.sweep();
        Timer::at(begin + interval.max(begin.elapsed())).await;
        // At least a little, whatever the scheduler says.
        Timer::after(Duration::from_millis(10)).await;
    }
}

fn seconds(interval: f64) -> Duration {
    Duration::try_from_secs_f64(interval).unwrap_or(Duration::from_secs(1)).min(DEAF / 2)
}
