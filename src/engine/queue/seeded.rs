//! The queue of a seeded client: a random ready task of the highest priority comes out next, in an order that the
//! seed determines.
//!
//! # Steps
//!
//! A *step* runs one task, or lets the clock jump to the next timer. What a step changed, code outside of the tasks may react
//! to, and that code runs on the thread that makes the steps for a future which it polls too. So that future gives way after
//! each step. Time must not pass before all others had their turn: of several futures that make steps, each one lets the clock jump
//! only if nobody has made a step since its own last poll. That is what [`may_advance`](Seeded::may_advance) tells.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::engine::base::lock::Lock;
use crate::engine::data::clock::VirtualClock;
use crate::engine::task::header::{Task, TaskRef};

pub(crate) struct Seeded {
    ready: Lock<Ready>,
    pub(crate) clock: VirtualClock,
    /// The number of steps, which wraps around. Only the thread that makes a step counts it.
    steps: AtomicU16,
}

struct Ready {
    levels: BTreeMap<i32, Vec<Task>>,
    random: fastrand::Rng,
}

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        let ready = Ready { levels: BTreeMap::new(), random: fastrand::Rng::with_seed(seed) };
        Self { ready: Lock::new(ready), clock: VirtualClock::new(), steps: AtomicU16::new(0) }
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
                self.steps.fetch_add(1, Ordering::Relaxed);
                return Some(task);
            }
            // It was lowered since it was queued.
            ready.levels.entry(task.priority()).or_default().push(task);
        }
    }

    pub(crate) fn steps(&self) -> u16 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Whether nobody has made a step since a future saw this number of them: then the clock may jump. Else that future gives way
    /// first, and has seen those until now.
    pub(crate) fn may_advance(&self, seen: &mut u16) -> bool {
        let now = self.steps();
        std::mem::replace(seen, now) == now
    }

    /// Lets the clock jump to the next timer; false if there is none.
    pub(crate) fn advance(&self) -> bool {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.clock.advance()
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
