//! Statistics of the transfers between workers, which the scheduler uses to estimate the cost of moving results.

use std::collections::HashMap;
use std::sync::MutexGuard;
use std::time::Duration;

use crate::dask::wire::worker::register::Transfers;
use crate::engine::base::lock::Lock;

/// The time of a smaller transfer is mostly latency, and says nothing about bandwidth.
const MIN_MEASURED_BYTES: u64 = 1 << 20;
/// Bytes per second before the first measurement. Dask's own default.
const INITIAL_BANDWIDTH: f64 = 100e6;

/// The statistics of a worker.
#[derive(Debug)]
pub(super) struct Traffic(Lock<TrafficCounts>);

#[derive(Debug)]
struct TrafficCounts {
    incoming: Transfers,
    outgoing: Transfers,
    bandwidth: f64,
    /// For each peer since the last report: the sum of the bandwidths of its transfers, and their number.
    bandwidth_from: HashMap<String, (f64, u64)>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self(Lock::new(TrafficCounts {
            incoming: Transfers::default(),
            outgoing: Transfers::default(),
            bandwidth: INITIAL_BANDWIDTH,
            bandwidth_from: HashMap::new(),
        }))
    }
}

/// The statistics at a point in time.
pub(super) struct TrafficReport {
    pub(super) incoming: Transfers,
    pub(super) outgoing: Transfers,
    pub(super) bandwidth: f64,
    pub(super) bandwidth_from: Vec<(String, (f64, u64))>,
}

/// A transfer to another worker, which is under way until this is dropped.
pub(super) struct OutgoingTransfer<'a> {
    traffic: &'a Traffic,
    bytes: u64,
}

impl Traffic {
    fn lock(&self) -> MutexGuard<'_, TrafficCounts> {
        self.0.lock()
    }

    /// Records a transfer from another worker that has completed.
    pub(super) fn record_incoming(&self, peer: &str, bytes: u64, took: Duration) {
        let mut counts = self.lock();
        counts.incoming.total += 1;
        if bytes < MIN_MEASURED_BYTES {
            return;
        }
        let bandwidth = bytes as f64 / took.as_secs_f64().max(1e-6);
        // An exponential moving average with Dask's weights.
        counts.bandwidth = counts.bandwidth * 0.95 + bandwidth * 0.05;
        let known = counts.bandwidth_from.entry(peer.to_owned()).or_default();
        *known = (known.0 + bandwidth, known.1 + 1);
    }

    /// Begins a transfer to another worker, unless `limit` of them are under way.
    pub(super) fn begin_outgoing(&self, limit: u64) -> Option<OutgoingTransfer<'_>> {
        let mut counts = self.lock();
        if counts.outgoing.count >= limit {
            return None;
        }
        counts.outgoing.count += 1;
        Some(OutgoingTransfer { traffic: self, bytes: 0 })
    }

    /// Returns the statistics, and starts `bandwidth_from` anew.
    pub(super) fn take_report(&self) -> TrafficReport {
        let mut counts = self.lock();
        TrafficReport {
            incoming: counts.incoming,
            outgoing: counts.outgoing,
            bandwidth: counts.bandwidth,
            bandwidth_from: counts.bandwidth_from.drain().collect(),
        }
    }
}

impl OutgoingTransfer<'_> {
    /// Sets the size, which is known only when the results have been loaded.
    pub(super) fn set_bytes(&mut self, bytes: u64) {
        self.bytes = bytes;
        self.traffic.lock().outgoing.bytes += bytes;
    }
}

impl Drop for OutgoingTransfer<'_> {
    fn drop(&mut self) {
        let mut counts = self.traffic.lock();
        counts.outgoing.bytes -= self.bytes;
        counts.outgoing.count -= 1;
        counts.outgoing.total += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_counts_until_it_is_dropped() {
        let traffic = Traffic::default();
        let mut one = traffic.begin_outgoing(2).unwrap();
        let two = traffic.begin_outgoing(2).unwrap();
        assert!(traffic.begin_outgoing(2).is_none());
        one.set_bytes(10);
        let outgoing = traffic.take_report().outgoing;
        assert_eq!((outgoing.bytes, outgoing.count, outgoing.total), (10, 2, 0));
        drop((one, two));
        let outgoing = traffic.take_report().outgoing;
        assert_eq!((outgoing.bytes, outgoing.count, outgoing.total), (0, 0, 2));
    }

    #[test]
    fn bandwidth_is_measured_by_large_transfers() {
        let traffic = Traffic::default();
        traffic.record_incoming("a", 10, Duration::from_secs(1));
        traffic.record_incoming("a", 4 << 20, Duration::from_secs(1));
        traffic.record_incoming("a", 8 << 20, Duration::from_secs(1));
        let report = traffic.take_report();
        assert_eq!(report.incoming.total, 3);
        let sum = f64::from(12 << 20);
        assert_eq!(report.bandwidth_from, [("a".to_owned(), (sum, 2))]);
        assert!(report.bandwidth < INITIAL_BANDWIDTH);
        assert!(traffic.take_report().bandwidth_from.is_empty());
    }
}
