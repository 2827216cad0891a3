//! The functions that tasks run, by name, and how many tasks of each there were.
//!
//! Every thread counts for itself, in a [`Table`] of the engine's that knows a name by its place here. Tasks that
//! were given a name are counted here.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::base::lock::Lock;
use crate::engine::task::header::TaskRef;
use crate::engine::watch::counters::{CountedEvent, CounterTable};
use crate::key::short_name;

/// So many names are told apart; what has another counts as [`OTHERS`].
const NAMES: usize = 4_096;
const OTHERS: &str = "(others)";

#[derive(Default)]
pub(crate) struct Functions {
    names: Lock<Names>,
    tables: Lock<Vec<Arc<CounterTable>>>,
}

#[derive(Default)]
struct Names {
    all: Vec<Arc<str>>,
    places: HashMap<Arc<str>, u32>,
    /// Of what isn't in a table, or in one that no thread has any more.
    counts: Vec<Counts>,
}

/// How many tasks of a function there were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) submitted: u64,
    pub(crate) finished: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.submitted += other.submitted;
        self.finished += other.finished;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
    }

    /// How many haven't ended. Threads are read one after the other, so an end may be seen before its beginning.
    pub(crate) fn left(self) -> u64 {
        self.submitted.saturating_sub(self.finished + self.failed + self.cancelled)
    }
}

impl From<[u64; 4]> for Counts {
    /// In the order of the events.
    fn from([submitted, finished, failed, cancelled]: [u64; 4]) -> Self {
        Self { submitted, finished, failed, cancelled }
    }
}

impl Names {
    fn intern(&mut self, name: &str) -> u32 {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let name: Arc<str> = if self.all.len() < NAMES - 1 { name.into() } else { OTHERS.into() };
        let place = *self.places.entry(name.clone()).or_insert(self.all.len() as u32);
        if place as usize == self.all.len() {
            self.all.push(name);
            self.counts.push(Counts::default());
        }
        place
    }
}

impl Functions {
    /// The place of a function's name, of a task that wasn't given one.
    pub(crate) fn name(&self, task: TaskRef<'_>) -> u32 {
        let name = short_name((task.vtable.function)());
        self.names.lock().intern(&name)
    }

    /// Counts a task by its name, and returns the place of that.
    pub(crate) fn count(&self, task: TaskRef<'_>, event: CountedEvent) -> u32 {
        let mut one = [0; 4];
        one[event as usize] = 1;
        let names = |name: &str| {
            let names = &mut *self.names.lock();
            let place = names.intern(name);
            names.counts[place as usize].add(one.into());
            place
        };
        match task.given_name() {
            Some(name) => names(name),
            None => names(&short_name((task.vtable.function)())),
        }
    }

    /// A thread has begun to count in this table.
    pub(crate) fn read(&self, table: Arc<CounterTable>) {
        let mut tables = self.tables.lock();
        self.retire(&mut tables);
        tables.push(table);
    }

    /// Keeps only the counts of tables that no thread has any more.
    fn retire(&self, tables: &mut Vec<Arc<CounterTable>>) {
        tables.retain_mut(|table| {
            let in_use = Arc::get_mut(table).is_none();
            if !in_use {
                let kept = &mut self.names.lock().counts;
                table.each(|place, counts| kept[place as usize].add(counts.into()));
            }
            in_use
        });
    }

    /// The names from this place on.
    pub(crate) fn names_from(&self, place: usize) -> Vec<Arc<str>> {
        self.names.lock().all.get(place..).unwrap_or_default().to_vec()
    }

    /// The counts of all functions, in the order of their names.
    pub(crate) fn counts(&self) -> Vec<Counts> {
        let mut tables = self.tables.lock();
        self.retire(&mut tables);
        let mut all = self.names.lock().counts.clone();
        for table in &*tables {
            table.each(|place, counts| {
                // A name that is new.
                if let Some(sum) = all.get_mut(place as usize) {
                    sum.add(counts.into());
                }
            });
        }
        all
    }
}
