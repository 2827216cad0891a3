//! The queue of `ready` tasks: the most urgent one whose resources are free starts next.

use std::collections::BTreeMap;

use super::task::{Rank, Resources, Table};
use crate::dask::wire::WireKey;

/// Sums of fractions are inexact: ten tenths must fit in one.
const TOLERANCE: f64 = 1e-6;

/// Tasks that can start. Those with equal resources share a queue, so a task that has to wait for a resource delays
/// only tasks with the same needs, and is never searched through.
pub(super) struct Ready {
    queues: Vec<Queue>,
    len: usize,
    free: Table<String, f64>,
}

struct Queue {
    resources: Resources,
    tasks: BTreeMap<Rank, WireKey>,
}

impl Ready {
    pub(super) fn new(resources: impl IntoIterator<Item = (String, f64)>) -> Self {
        Self { queues: Vec::new(), len: 0, free: resources.into_iter().collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, rank: Rank, resources: &Resources, key: WireKey) {
        self.len += 1;
        match self.queues.iter_mut().find(|queue| queue.resources == *resources) {
            Some(queue) => {
                queue.tasks.insert(rank, key);
            }
            None => {
                let tasks = BTreeMap::from([(rank, key)]);
                self.queues.push(Queue { resources: resources.clone(), tasks });
            }
        }
    }

    pub(super) fn remove(&mut self, rank: &Rank, resources: &Resources) {
        let Some(at) = self.queues.iter().position(|queue| queue.resources == *resources) else {
            return;
        };
        if self.queues[at].tasks.remove(rank).is_some() {
            self.len -= 1;
        }
        // Queues are searched one by one, so empty ones must not accumulate.
        if self.queues[at].tasks.is_empty() {
            self.queues.swap_remove(at);
        }
    }

    /// Removes the next task and reserves its resources, which [`release`](Self::release) frees again.
    pub(super) fn pop(&mut self) -> Option<WireKey> {
        let fits = |queue: &Queue| {
            queue.resources.iter().all(|(name, amount)| {
                let free = self.free.get(name);
                *amount <= 0.0 || free.is_some_and(|free| *free + TOLERANCE >= *amount)
            })
        };
        // Only the first task of each queue can be the next, and there are few queues: one for each set of resources.
        let fitting = self.queues.iter().enumerate().filter(|(_, queue)| fits(queue));
        let first = fitting.filter_map(|(at, queue)| Some((queue.tasks.first_key_value()?.0, at)));
        let (_, at) = first.min()?;
        let queue = &mut self.queues[at];
        let (_, key) = queue.tasks.pop_first()?;
        self.len -= 1;
        for (name, amount) in &queue.resources {
            if let Some(free) = self.free.get_mut(name) {
                *free -= amount;
            }
        }
        if queue.tasks.is_empty() {
            self.queues.swap_remove(at);
        }
        Some(key)
    }

    pub(super) fn release(&mut self, resources: &Resources) {
        for (name, amount) in resources {
            if let Some(free) = self.free.get_mut(name) {
                *free += amount;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> &Table<String, f64> {
        &self.free
    }
}
