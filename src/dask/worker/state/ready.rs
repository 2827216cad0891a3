//! Which task starts next: the most urgent one for which there is enough of everything.

use std::collections::BTreeMap;

use super::Table;
use crate::dask::wire::WireKey;
use crate::dask::wire::worker::order::Priority;

/// What a task uses while it runs: names and amounts.
pub(super) type Needs = Vec<(String, f64)>;

/// Fractions don't add up to what they were taken from.
const TOLERANCE: f64 = 1e-6;

/// Where a task stands in the queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) priority: Priority,
    /// Of equal ones, the first that was ordered.
    pub(super) order: u64,
}

/// Tasks that could start. Those that need the same are in one queue, so that what can't start holds up only
/// its like, and is never searched through.
pub(super) struct Ready {
    queues: Vec<Queue>,
    len: usize,
    free: Table<String, f64>,
}

struct Queue {
    needs: Needs,
    tasks: BTreeMap<Rank, WireKey>,
}

impl Ready {
    pub(super) fn new(resources: impl IntoIterator<Item = (String, f64)>) -> Self {
        Self { queues: Vec::new(), len: 0, free: resources.into_iter().collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, rank: Rank, needs: &Needs, key: WireKey) {
        self.len += 1;
        match self.queues.iter_mut().find(|queue| queue.needs == *needs) {
            Some(queue) => {
                queue.tasks.insert(rank, key);
            }
            None => {
                let tasks = BTreeMap::from([(rank, key)]);
                self.queues.push(Queue { needs: needs.clone(), tasks });
            }
        }
    }

    pub(super) fn remove(&mut self, rank: &Rank, needs: &Needs) {
        let Some(at) = self.queues.iter().position(|queue| queue.needs == *needs) else { return };
        if self.queues[at].tasks.remove(rank).is_some() {
            self.len -= 1;
        }
        if self.queues[at].tasks.is_empty() {
            self.queues.swap_remove(at);
        }
    }

    /// Takes the next, and what it needs. Give that [`back`](Self::give_back) when it has ended.
    pub(super) fn take(&mut self) -> Option<WireKey> {
        let fits = |queue: &Queue| {
            queue.needs.iter().all(|(name, amount)| {
                let free = self.free.get(name);
                *amount <= 0.0 || free.is_some_and(|free| *free + TOLERANCE >= *amount)
            })
        };
        let fitting = self.queues.iter().enumerate().filter(|(_, queue)| fits(queue));
        let first = fitting.filter_map(|(at, queue)| Some((queue.tasks.first_key_value()?.0, at)));
        let (_, at) = first.min()?;
        let queue = &mut self.queues[at];
        let (_, key) = queue.tasks.pop_first()?;
        self.len -= 1;
        for (name, amount) in &queue.needs {
            if let Some(free) = self.free.get_mut(name) {
                *free -= amount;
            }
        }
        if queue.tasks.is_empty() {
            self.queues.swap_remove(at);
        }
        Some(key)
    }

    pub(super) fn give_back(&mut self, needs: &Needs) {
        for (name, amount) in needs {
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
