//! The names of the functions that tasks run, and the counts of their tasks.
//!
//! Every thread counts in a [`CounterTable`] of its own, which the engine keeps; a table refers to a name by its index
//! in this module. Tasks that were given a name, and those for which a table has no room, are counted in this module,
//! under a lock.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::base::lock::Lock;
use crate::engine::task::header::TaskRef;
use crate::engine::watch::counters::{CountedEvent, CounterTable};
use crate::task::key::short_name;

/// The maximum number of names. Tasks of further names are counted as [`OTHERS`], so that names which contain data, such
/// as a path, can't fill the memory.
const NAMES: usize = 4_096;
const OTHERS: &str = "(others)";

#[derive(Default)]
pub(crate) struct Functions {
    names: Lock<NameTable>,
    tables: Lock<Vec<Arc<CounterTable>>>,
}

#[derive(Default)]
struct NameTable {
    all: Vec<Arc<str>>,
    indexes: HashMap<Arc<str>, u32>,
    /// What was counted without a table, and the sums of the tables of threads that have exited.
    counts: Vec<Counts>,
}

/// How many tasks of a function were submitted and have ended, since recording began.
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

    /// Returns how many have not ended. Tables are read one after the other, so an end may be counted before its
    /// beginning is: the difference must not wrap.
    pub(crate) fn left(self) -> u64 {
        self.submitted.saturating_sub(self.finished + self.failed + self.cancelled)
    }
}

impl From<[u64; 4]> for Counts {
    /// Takes the counts in the order of [`CountedEvent`].
    fn from([submitted, finished, failed, cancelled]: [u64; 4]) -> Self {
        Self { submitted, finished, failed, cancelled }
    }
}

impl NameTable {
    /// Returns the index of a name, which is added if it's new.
    fn intern(&mut self, name: &str) -> u32 {
        if let Some(index) = self.indexes.get(name) {
            return *index;
        }
        let name: Arc<str> = if self.all.len() < NAMES - 1 { name.into() } else { OTHERS.into() };
        let index = *self.indexes.entry(name.clone()).or_insert(self.all.len() as u32);
        if index as usize == self.all.len() {
            self.all.push(name);
            self.counts.push(Counts::default());
        }
        index
    }
}

impl Functions {
    /// Returns the index of the name of the task's function.
    pub(crate) fn name(&self, task: TaskRef<'_>) -> u32 {
        let name = short_name((task.vtable.function)());
        self.names.lock().intern(&name)
    }

    /// Counts an event of a task under its name, and returns the index of that.
    pub(crate) fn count(&self, task: TaskRef<'_>, event: CountedEvent) -> u32 {
        let mut one = [0; 4];
        one[event as usize] = 1;
        let count_as = |name: &str| {
            let names = &mut *self.names.lock();
            let index = names.intern(name);
            names.counts[index as usize].add(one.into());
            index
        };
        match task.given_name() {
            Some(name) => count_as(name),
            None => count_as(&short_name((task.vtable.function)())),
        }
    }

    /// Adds the table of a thread that has begun to count.
    pub(crate) fn read(&self, table: Arc<CounterTable>) {
        let mut tables = self.tables.lock();
        self.retire(&mut tables);
        tables.push(table);
    }

    /// Removes the tables of threads that have exited, and keeps their counts.
    fn retire(&self, tables: &mut Vec<Arc<CounterTable>>) {
        tables.retain_mut(|table| {
            // The thread's reference is dropped when it exits, so a unique one can't be written to any more.
            let in_use = Arc::get_mut(table).is_none();
            if !in_use {
                let kept = &mut self.names.lock().counts;
                table.each(|index, counts| kept[index as usize].add(counts.into()));
            }
            in_use
        });
    }

    /// Returns the names from this index on.
    pub(crate) fn names_from(&self, index: usize) -> Vec<Arc<str>> {
        self.names.lock().all.get(index..).unwrap_or_default().to_vec()
    }

    /// Returns the counts of all functions, by the indexes of their names.
    pub(crate) fn counts(&self) -> Vec<Counts> {
        let mut tables = self.tables.lock();
        self.retire(&mut tables);
        let mut all = self.names.lock().counts.clone();
        for table in &*tables {
            table.each(|index, counts| {
                // A name may have been added since the counts were copied.
                if let Some(sum) = all.get_mut(index as usize) {
                    sum.add(counts.into());
                }
            });
        }
        all
    }
}
