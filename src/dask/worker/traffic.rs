//! How much goes between workers, and how fast.

use std::collections::HashMap;
use std::sync::MutexGuard;
use std::time::Duration;

use crate::dask::wire::worker::register::Transfers;
use crate::engine::base::lock::Lock;

/// A transfer of fewer bytes says nothing of how fast larger ones are.
const TELLING: u64 = 1 << 20;
/// Bytes in a second, before anything is known.
const GUESS: f64 = 100e6;

/// How much goes in and out, and how fast it came.
#[derive(Debug)]
pub(super) struct Traffic(Lock<Counts>);

#[derive(Debug)]
struct Counts {
    incoming: Transfers,
    outgoing: Transfers,
    bandwidth: f64,
    /// Since the last look: sums of bytes in a second, and of how many transfers.
    bandwidth_from: HashMap<String, (f64, u64)>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self(Lock::new(Counts {
            incoming: Transfers::default(),
            outgoing: Transfers::default(),
            bandwidth: GUESS,
            bandwidth_from: HashMap::new(),
        }))
    }
}

/// A look at it.
pub(super) struct Look {
    pub(super) incoming: Transfers,
    pub(super) outgoing: Transfers,
    pub(super) bandwidth: f64,
    pub(super) bandwidth_from: Vec<(String, (f64, u64))>,
}

/// A transfer to another worker, which is under way until this is dropped.
pub(super) struct Outgoing<'a> {
    traffic: &'a Traffic,
    bytes: u64,
}

impl Traffic {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock()
    }

    /// Something has come.
    pub(super) fn came(&self, from: &str, bytes: u64, took: Duration) {
        let mut counts = self.lock();
        counts.incoming.total += 1;
        if bytes < TELLING {
            return;
        }
        let speed = bytes as f64 / took.as_secs_f64().max(1e-6);
        counts.bandwidth = counts.bandwidth * 0.95 + speed * 0.05;
        let known = counts.bandwidth_from.entry(from.to_owned()).or_default();
        *known = (known.0 + speed, known.1 + 1);
    }

    /// Something is to go out, unless so much does already.
    pub(super) fn begin(&self, most: u64) -> Option<Outgoing<'_>> {
        let mut counts = self.lock();
        if counts.outgoing.count >= most {
            return None;
        }
        counts.outgoing.count += 1;
        Some(Outgoing { traffic: self, bytes: 0 })
    }

    /// How it is; what came from whom is told once.
    pub(super) fn look(&self) -> Look {
        let mut counts = self.lock();
        Look {
            incoming: counts.incoming,
            outgoing: counts.outgoing,
            bandwidth: counts.bandwidth,
            bandwidth_from: counts.bandwidth_from.drain().collect(),
        }
    }
}

impl Outgoing<'_> {
    /// It's so many bytes.
    pub(super) fn measures(&mut self, bytes: u64) {
        self.bytes = bytes;
        self.traffic.lock().outgoing.bytes += bytes;
    }
}

impl Drop for Outgoing<'_> {
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
    fn what_is_under_way_counts_until_it_is_over() {
        let traffic = Traffic::default();
        let mut one = traffic.begin(2).unwrap();
        let two = traffic.begin(2).unwrap();
        assert!(traffic.begin(2).is_none());
        one.measures(10);
        let look = traffic.look();
        assert_eq!((look.outgoing.bytes, look.outgoing.count, look.outgoing.total), (10, 2, 0));
        drop((one, two));
        let look = traffic.look();
        assert_eq!((look.outgoing.bytes, look.outgoing.count, look.outgoing.total), (0, 0, 2));
    }

    #[test]
    fn large_transfers_tell_how_fast_it_is() {
        let traffic = Traffic::default();
        traffic.came("a", 10, Duration::from_secs(1));
        traffic.came("a", 4 << 20, Duration::from_secs(1));
        traffic.came("a", 8 << 20, Duration::from_secs(1));
        let look = traffic.look();
        assert_eq!(look.incoming.total, 3);
        let sum = f64::from(12 << 20);
        assert_eq!(look.bandwidth_from, [("a".to_owned(), (sum, 2))]);
        assert!(look.bandwidth < GUESS);
        assert!(traffic.look().bandwidth_from.is_empty());
    }
}
