//! Pins of Python tasks to the workers that can run them.
//!
//! The scheduler would place such a task on any worker. A stock worker says nothing of itself that a task could ask
//! for; it merely lacks the resource of the Rust workers. So each Python task names all workers that may run it.
//! Workers come and go, and a task whose named workers are all gone waits for ever. Therefore the client remembers
//! which set of workers each task names, asks the scheduler for its workers while a task is open, and renames them if
//! the set has changed.
//!
//! | a pinned task is | when |
//! |---|---|
//! | waiting | it was submitted while no fresh set of workers was known; it isn't sent |
//! | current | it names the workers of the current version |
//! | stale | the set of workers has changed since; the scheduler has to be notified |
//! | unneeded | its future is dropped. It stays pinned while dependents may make it run again |

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::future_state::FutureState;
use super::task_spec::WorkerAddresses;

/// The pause between two questions for the workers while a Python worker is connected, and while none is.
const POLL: Duration = Duration::from_secs(1);
const POLL_WITHOUT_WORKERS: Duration = Duration::from_millis(500);
/// An answer of this age is good enough to send new tasks at once.
const FRESH: Duration = Duration::from_millis(1500);
/// The time without a Python worker after which the client logs a warning.
const WARN_AFTER: Duration = Duration::from_secs(10);
/// The number of unneeded tasks above which the client asks the scheduler which of them it has forgotten.
const UNNEEDED: usize = 1_000;

/// The Python tasks, and the workers that they are pinned to.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    /// The tasks that the scheduler may know.
    tasks: HashMap<Arc<str>, PinnedTask>,
    /// Other tasks that run again, which may make a Python task run again.
    watched: Vec<Weak<FutureState>>,
    /// The keys of the tasks that aren't sent, since no worker is known that could run them.
    waiting: Vec<Arc<str>>,
    /// The last set of workers that wasn't empty, and how often it has changed.
    workers: WorkerAddresses,
    version: u64,
    has_workers: bool,
    polled: Option<Instant>,
    /// Since when no worker has been connected.
    missing_since: Option<Instant>,
    has_warned: bool,
    /// Whether the client has to poll the workers.
    is_needed: bool,
    /// The number of unneeded tasks that the scheduler knew when it was last asked.
    known_unneeded: usize,
}

#[derive(Debug)]
struct PinnedTask {
    future: Weak<FutureState>,
    /// The version of the workers that it names.
    version: u64,
    /// Whether it has dependents. If its result is lost with theirs, it runs again although its future is dropped.
    has_dependents: bool,
}

impl PinnedTask {
    fn is_unneeded(&self) -> bool {
        self.future.strong_count() == 0
    }
}

impl Pins {
    /// Adds a submitted task. Returns whether it can be sent at once.
    pub(crate) fn submit(&mut self, future: &Arc<FutureState>, now: Instant) -> bool {
        let is_fresh = self.polled.is_some_and(|polled| now.duration_since(polled) < FRESH);
        // Polls continue while tasks are open, so a set is only old when a task follows after a break.
        let can_be_sent = is_fresh && self.has_workers;
        if !can_be_sent {
            // Sent with an old set, it could name only workers that have left, until the next poll.
            self.waiting.push(future.key().clone());
        }
        let task = PinnedTask {
            future: Arc::downgrade(future),
            version: self.version,
            has_dependents: false,
        };
        self.tasks.insert(future.key().clone(), task);
        self.is_needed = true;
        can_be_sent
    }

    /// Marks the pinned tasks among these as having a dependent.
    pub(crate) fn add_dependent_of(&mut self, inputs: &[&Arc<str>]) {
        // Most clients have no Python tasks, and pay nothing for them.
        if self.tasks.is_empty() {
            return;
        }
        for input in inputs {
            if let Some(task) = self.tasks.get_mut(*input) {
                task.has_dependents = true;
            }
        }
    }

    /// Watches a finished task that runs again, since its inputs may have to run again as well.
    pub(crate) fn watch(&mut self, future: &Arc<FutureState>) {
        if !self.tasks.is_empty() {
            self.watched.push(Arc::downgrade(future));
            self.is_needed = true;
        }
    }

    /// Returns whether the client has to poll the workers.
    pub(crate) fn is_needed(&self) -> bool {
        self.is_needed
    }

    /// Returns when to poll the workers, if that's needed.
    pub(crate) fn next_poll(&self, now: Instant) -> Instant {
        let pause = if self.has_workers { POLL } else { POLL_WITHOUT_WORKERS };
        self.polled.map_or(now, |polled| polled + pause)
    }

    /// Returns the keys of the tasks that aren't sent.
    pub(crate) fn waiting(&mut self) -> &mut Vec<Arc<str>> {
        &mut self.waiting
    }

    /// Drops tasks that can't run again, and returns whether the client still has to poll the workers.
    pub(crate) fn refresh_need(&mut self) -> bool {
        let is_open =
            |future: &Weak<FutureState>| future.upgrade().is_some_and(|future| future.is_open());
        self.watched.retain(is_open);
        let mut is_needed = !self.watched.is_empty() || !self.waiting.is_empty();
        // One open task is enough: the lock of each future that is looked at costs time.
        self.tasks.retain(|_, task| {
            is_needed = is_needed || is_open(&task.future);
            task.has_dependents || !task.is_unneeded()
        });
        self.is_needed = is_needed;
        if !is_needed {
            // Nothing waits for a worker any more, so there's nothing to warn of.
            self.missing_since = None;
        }
        is_needed
    }

    /// Handles an answer with the connected workers. Returns the keys of the waiting tasks, which can be sent now, and
    /// whether the set of workers has changed.
    pub(crate) fn polled(&mut self, workers: Vec<Arc<str>>, now: Instant) -> (Vec<Arc<str>>, bool) {
        self.polled = Some(now);
        self.has_workers = !workers.is_empty();
        if workers.is_empty() {
            // The last set is kept: tasks can't be restricted to no worker, and the same workers may come back.
            self.missing_since.get_or_insert(now);
            return (Vec::new(), false);
        }
        self.missing_since = None;
        let has_changed = *workers != *self.workers;
        if has_changed {
            self.workers = workers.into();
            self.version += 1;
        }
        let waiting = std::mem::take(&mut self.waiting);
        // They are sent with this set, so there's no need to restrict them again.
        for key in &waiting {
            if let Some(task) = self.tasks.get_mut(key) {
                task.version = self.version;
            }
        }
        (waiting, has_changed)
    }

    /// Handles a poll without an answer. The next one has to wait for its turn, too.
    pub(crate) fn poll_failed(&mut self, now: Instant) {
        self.polled = Some(now);
    }

    pub(crate) fn workers(&self) -> &WorkerAddresses {
        &self.workers
    }

    /// Returns whether to log that tasks wait for a worker; true at most once.
    pub(crate) fn take_warning(&mut self, now: Instant) -> bool {
        let is_late =
            self.missing_since.is_some_and(|since| now.duration_since(since) >= WARN_AFTER);
        let warns = is_late && !self.has_warned;
        self.has_warned |= warns;
        warns
    }

    /// Returns the stale tasks, with the version that they are to name. If there are many unneeded tasks, these are
    /// among them: the scheduler's answer says which can be dropped.
    pub(crate) fn stale(&self) -> (Vec<Arc<str>>, u64) {
        let unneeded = self.tasks.values().filter(|task| task.is_unneeded()).count();
        // Twice the known ones, so that the cost of asking is amortised.
        let checks_unneeded = unneeded > UNNEEDED + 2 * self.known_unneeded;
        let is_stale = |task: &PinnedTask| {
            self.has_workers && task.version < self.version || checks_unneeded && task.is_unneeded()
        };
        let keys = self.tasks.iter().filter(|(_, task)| is_stale(task));
        (keys.map(|(key, _)| key.clone()).collect(), self.version)
    }

    /// Records that the scheduler has restricted the task to the workers of this version.
    pub(crate) fn restricted(&mut self, key: &Arc<str>, version: u64) {
        if let Some(task) = self.tasks.get_mut(key) {
            task.version = task.version.max(version);
        }
    }

    /// Records that the scheduler doesn't know the task. One that is still needed is on its way to the scheduler.
    pub(crate) fn unknown(&mut self, key: &Arc<str>) {
        if self.tasks.get(key).is_some_and(PinnedTask::is_unneeded) {
            self.tasks.remove(key);
        }
    }

    /// Counts the unneeded tasks after the scheduler was asked for them.
    pub(crate) fn count_unneeded(&mut self) {
        self.known_unneeded = self.tasks.values().filter(|task| task.is_unneeded()).count();
    }
}
