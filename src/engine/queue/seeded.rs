//! The queue of a seeded client: a random ready task of the highest priority comes out next, in an order that the
//! seed determines.

use std::collections::BTreeMap;

use crate::engine::base::lock::Lock;
use crate::engine::data::clock::VirtualClock;
use crate::engine::task::header::{Task, TaskRef};

pub(crate) struct Seeded {
    ready: Lock<Ready>,
    pub(crate) clock: VirtualClock,
}

struct Ready {
    levels: BTreeMap<i32, Vec<Task>>,
    random: fastrand::Rng,
}

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        let ready = Ready { levels: BTreeMap::new(), random: fastrand::Rng::with_seed(seed) };
        Self { ready: Lock::new(ready), clock: VirtualClock::new() }
    }

    pub(crate) fn push(&self, priority: i32, task: Task) {
        self.ready.lock().levels.entry(priority).or_default().push(task);
    }

    pub(crate) fn pop(&self) -> Option<Task> {
        let ready = &mut *self.ready.lock();
        loop {
            let mut level = ready.levels.last_entry()?;
            let priority = *level.key();
            let at = ready.random.usize(..level.get().len());
            let task = level.get_mut().swap_remove(at);
            if level.get().is_empty() {
                level.remove();
            }
            if task.priority() >= priority {
                return Some(task);
            }
            // It was lowered since it was queued.
            ready.levels.entry(task.priority()).or_default().push(task);
        }
    }

    /// Drops tasks, those of the highest priority first, up to the first wanted one.
    pub(crate) fn trim(&self, wanted: impl Fn(&Task) -> bool) {
        let levels = &mut self.ready.lock().levels;
        while let Some(mut level) = levels.last_entry() {
            match level.get().last() {
                Some(task) if wanted(task) => break,
                Some(_) => drop(level.get_mut().pop()),
                None => drop(level.remove()),
            }
        }
    }

    /// Visits the tasks, those of higher priority first.
    pub(crate) fn each(&self, mut visit: impl FnMut(TaskRef<'_>)) {
        self.ready.lock().levels.values().rev().flatten().for_each(|task| visit(task.as_ref()));
    }

    /// Returns a random number from 0 to 1, of the same sequence for the same seed.
    pub(crate) fn random(&self) -> f64 {
        self.ready.lock().random.f64()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready.lock().levels.is_empty()
    }
}
