//! Which workers the tasks in Python are *pinned* to: those that aren't ours.
//!
//! The scheduler would give such a task to any worker, and nothing that a stock worker says of itself tells it from one
//! of ours but that it lacks our resource. So each task names all the workers that may run it. Workers come and go, and
//! a task that names only such as have gone waits for ever; so it's known here which tasks name whom, and who is there.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use event_listener::{Event, EventListener};

use crate::dask::client::io::dask_future::Remote;

/// How often the scheduler is asked who is there: while tasks are under way, and while there's nobody to run them.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(500));
/// What was said so long ago is good enough for new tasks.
const FRESH: Duration = Duration::from_millis(1500);
/// When to tell people that nobody runs their tasks.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of so many tasks that aren't needed any more it's found out whether the scheduler knows them.
const FORGOTTEN: usize = 1_000;

/// Addresses of workers, sorted.
pub(crate) type Workers = Arc<[Arc<str>]>;

/// The tasks that are for Python workers, and these.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    /// Those that the scheduler may know.
    tasks: HashMap<Arc<str>, Pin>,
    /// Other tasks that run again, so that a task in Python may have to.
    watched: Vec<Weak<Remote>>,
    /// Not sent, since it's not known who could run them.
    waiting: Vec<Arc<str>>,
    /// The workers that there were when there were some, and how often that has changed.
    workers: Workers,
    version: u64,
    is_anybody_there: bool,
    asked: Option<Instant>,
    /// Nobody has been there since then.
    missed: Option<Instant>,
    has_warned: bool,
    /// Whether it matters who is there.
    is_needed: bool,
    needed: Event,
    /// How many unneeded tasks the scheduler did know.
    forgotten: usize,
}

#[derive(Debug)]
struct Pin {
    remote: Weak<Remote>,
    /// It names the workers of this version.
    version: u64,
    /// Other tasks take its result. If that is lost with theirs, it runs again though nobody here needs it.
    is_taken: bool,
}

impl Pins {
    /// A task is submitted. Says whether it can be sent at once.
    pub(crate) fn submit(&mut self, remote: &Arc<Remote>, now: Instant) -> bool {
        let is_fresh = self.asked.is_some_and(|asked| now.duration_since(asked) < FRESH);
        let can_be_sent = is_fresh && self.is_anybody_there;
        if !can_be_sent {
            self.waiting.push(remote.key().clone());
        }
        let pin = Pin { remote: Arc::downgrade(remote), version: self.version, is_taken: false };
        self.tasks.insert(remote.key().clone(), pin);
        self.need();
        can_be_sent
    }

    /// Another task takes the results of these.
    pub(crate) fn take(&mut self, inputs: &[&Arc<str>]) {
        if self.tasks.is_empty() {
            return;
        }
        for input in inputs {
            if let Some(pin) = self.tasks.get_mut(*input) {
                pin.is_taken = true;
            }
        }
    }

    /// A task was done, and runs again.
    pub(crate) fn watch(&mut self, remote: &Arc<Remote>) {
        if !self.tasks.is_empty() {
            self.watched.push(Arc::downgrade(remote));
            self.need();
        }
    }

    fn need(&mut self) {
        if !self.is_needed {
            self.is_needed = true;
            self.needed.notify(1);
        }
    }

    /// What waits until it matters who is there; nothing if it does already.
    pub(crate) fn until_needed(&self) -> Option<EventListener> {
        (!self.is_needed).then(|| self.needed.listen())
    }

    /// When to ask who is there, if that matters.
    pub(crate) fn due(&self, now: Instant) -> Instant {
        let pause = if self.is_anybody_there { PAUSES.0 } else { PAUSES.1 };
        self.asked.map_or(now, |asked| asked + pause)
    }

    /// The tasks that aren't sent.
    pub(crate) fn waiting(&mut self) -> &mut Vec<Arc<str>> {
        &mut self.waiting
    }

    /// Whether it still matters who is there. What is kept is to be dropped when no lock is held.
    pub(crate) fn check(&mut self, kept: &mut Vec<Arc<Remote>>) -> bool {
        let mut is_open = |remote: &Weak<Remote>| {
            let Some(remote) = remote.upgrade() else { return false };
            let is_open = remote.record().is_open();
            kept.push(remote);
            is_open
        };
        self.watched.retain(&mut is_open);
        let mut is_needed = !self.watched.is_empty() || !self.waiting.is_empty();
        self.tasks.retain(|_, pin| {
            is_needed = is_needed || is_open(&pin.remote);
            pin.is_taken || pin.remote.strong_count() > 0
        });
        self.is_needed = is_needed;
        if !is_needed {
            self.missed = None;
        }
        is_needed
    }

    /// These are there. Says which tasks can be sent now, and whether the workers are others than before.
    pub(crate) fn hear(&mut self, workers: Vec<Arc<str>>, now: Instant) -> (Vec<Arc<str>>, bool) {
        self.asked = Some(now);
        self.is_anybody_there = !workers.is_empty();
        if workers.is_empty() {
            self.missed.get_or_insert(now);
            return (Vec::new(), false);
        }
        self.missed = None;
        let is_new = *workers != *self.workers;
        if is_new {
            self.workers = workers.into();
            self.version += 1;
        }
        let waiting = std::mem::take(&mut self.waiting);
        for key in &waiting {
            if let Some(pin) = self.tasks.get_mut(key) {
                pin.version = self.version;
            }
        }
        (waiting, is_new)
    }

    /// It couldn't be found out who is there.
    pub(crate) fn hear_nothing(&mut self, now: Instant) {
        self.asked = Some(now);
    }

    pub(crate) fn workers(&self) -> &Workers {
        &self.workers
    }

    /// Whether it's time to say that tasks wait; once.
    pub(crate) fn warns(&mut self, now: Instant) -> bool {
        let is_late = self.missed.is_some_and(|missed| now.duration_since(missed) >= PATIENCE);
        let warns = is_late && !self.has_warned;
        self.has_warned |= warns;
        warns
    }

    /// The tasks that name workers of before, with the version that they are to name; and those of which it's time to
    /// find out whether the scheduler knows them.
    pub(crate) fn stale(&self) -> (Vec<Arc<str>>, u64) {
        let is_unneeded = |pin: &Pin| pin.remote.strong_count() == 0;
        let unneeded = self.tasks.values().filter(|pin| is_unneeded(pin)).count();
        let forgets = unneeded > FORGOTTEN + 2 * self.forgotten;
        let is_stale = |pin: &Pin| {
            self.is_anybody_there && pin.version < self.version || forgets && is_unneeded(pin)
        };
        let keys = self.tasks.iter().filter(|(_, pin)| is_stale(pin));
        (keys.map(|(key, _)| key.clone()).collect(), self.version)
    }

    /// The scheduler was told, or doesn't know the task.
    pub(crate) fn settle(&mut self, key: &Arc<str>, version: Option<u64>) {
        match (version, self.tasks.get_mut(key)) {
            (Some(version), Some(pin)) => pin.version = pin.version.max(version),
            // Else it's on its way.
            (None, Some(pin)) if pin.remote.strong_count() == 0 => drop(self.tasks.remove(key)),
            _ => {}
        }
    }

    /// The unneeded tasks have been looked at.
    pub(crate) fn count(&mut self) {
        let unneeded = self.tasks.values().filter(|pin| pin.remote.strong_count() == 0);
        self.forgotten = unneeded.count();
    }
}
