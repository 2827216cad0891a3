//! Released keys, until the scheduler is known to have read their release.
//!
//! A key may be used again as soon as it's released. A message about it may then still be about the previous task: the
//! scheduler sent it before it read the release, and nothing in the message says which task it means. But the scheduler
//! reads and sends everything in order, and it answers at once when it's asked for a key that it doesn't know. So the
//! client asks for such a key, a *probe*, after releases. Until the answer arrives, all messages about the released
//! keys are stale.
//!
//! The client probes when a released key is used again, and otherwise rarely: an answer delays the scheduler's next
//! messages.
//!
//! | a release is | from | until |
//! |---|---|---|
//! | pending | [`add`](ReleasedKeys::add) | [`queue`](ReleasedKeys::queue), or [`retract`](ReleasedKeys::retract) ends it |
//! | queued | `queue` | [`mark_sent`](ReleasedKeys::mark_sent) |
//! | sent | `mark_sent` | [`probe`](ReleasedKeys::probe) |
//! | probed | `probe` | [`acknowledge`](ReleasedKeys::acknowledge), which ends it |

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The prefix of keys to probe with, which no task has.
const PROBE: &str = "(ensue asks) ";

/// After this many releases the client probes, to bound how many it remembers.
const PROBE_AFTER: usize = 10_000;

/// Keys that were released and not acknowledged.
#[derive(Debug, Default)]
pub(crate) struct ReleasedKeys {
    keys: HashMap<Arc<str>, Releases>,
    /// The releases that were sent since the last probe. A key may be in it twice, if the task that had it in between
    /// was never sent.
    sent: Vec<Arc<str>>,
    /// The releases that were sent before each probe that isn't answered.
    probes: VecDeque<(u64, Vec<Arc<str>>)>,
    /// The number of the last probe.
    last_probe: u64,
}

/// The releases of one key that aren't acknowledged.
#[derive(Debug, Default)]
struct Releases {
    /// All of them.
    count: usize,
    /// Without the pending ones, which are held back.
    queued: usize,
    /// Whether one was sent since the last probe.
    is_unprobed: bool,
}

impl ReleasedKeys {
    /// Adds a pending release of the key.
    pub(crate) fn add(&mut self, key: &Arc<str>) {
        self.keys.entry(key.clone()).or_default().count += 1;
    }

    /// Queues a pending release of the key for the next message.
    pub(crate) fn queue(&mut self, key: &str) {
        if let Some(releases) = self.keys.get_mut(key) {
            releases.queued += 1;
        }
    }

    /// Removes a pending release, which will not be sent.
    pub(crate) fn retract(&mut self, key: &str) {
        self.remove(key, 0);
    }

    fn remove(&mut self, key: &str, queued: usize) {
        if let Some(releases) = self.keys.get_mut(key) {
            // A key may be released again before the first release is acknowledged: messages stay stale until the last.
            releases.count -= 1;
            releases.queued -= queued;
            if releases.count == 0 {
                self.keys.remove(key);
            }
        }
    }

    /// Returns whether messages about the key are stale.
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// Returns whether a release of the key is queued, or sent and not acknowledged.
    pub(crate) fn is_queued(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|releases| releases.queued > 0)
    }

    /// Marks queued releases as sent. Returns whether so many are unprobed that it's time to probe.
    pub(crate) fn mark_sent(&mut self, released: &[Arc<str>]) -> bool {
        for key in released {
            if let Some(releases) = self.keys.get_mut(key) {
                releases.is_unprobed = true;
            }
        }
        // Also keys whose releases are all acknowledged by now; `remove` ignores those.
        self.sent.extend_from_slice(released);
        self.sent.len() >= PROBE_AFTER
    }

    /// Returns whether a release of the key was sent since the last probe.
    pub(crate) fn is_unprobed(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|releases| releases.is_unprobed)
    }

    /// Returns the key to probe with, or none if nothing was released since the last probe.
    pub(crate) fn probe(&mut self) -> Option<String> {
        // An answer would acknowledge nothing, and only delay other messages.
        if self.sent.is_empty() {
            return None;
        }
        let sent = std::mem::take(&mut self.sent);
        for key in &sent {
            if let Some(releases) = self.keys.get_mut(key) {
                releases.is_unprobed = false;
            }
        }
        self.last_probe += 1;
        self.probes.push_back((self.last_probe, sent));
        Some(format!("{PROBE}{}", self.last_probe))
    }

    /// Handles the answer that the scheduler doesn't know this key. Returns whether that acknowledges a probe.
    pub(crate) fn acknowledge(&mut self, key: &str) -> bool {
        let Some(number) = key.strip_prefix(PROBE).and_then(|number| number.parse().ok()) else {
            return false;
        };
        // It has read everything that was sent before this probe, so earlier probes are settled, too.
        while self.probes.front().is_some_and(|(probe, _)| *probe <= number) {
            for key in self.probes.pop_front().into_iter().flat_map(|(_, keys)| keys) {
                self.remove(&key, 1);
            }
        }
        true
    }
}
