//! The table of recorded tasks, by number.
//!
//! Records are stored in the order in which they were created, which is about the order in which they are forgotten;
//! a new record reuses the slot of a forgotten one, with the memory of its lists. So thousands of concurrent events
//! touch few cache lines.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::task_record::TaskRecord;
use crate::Status;

#[derive(Default)]
pub(crate) struct TaskTable {
    /// The slot of each task.
    slots: HashMap<u64, u32, BuildHasherDefault<NumberHasher>>,
    records: Vec<TaskRecord>,
    /// The slots of forgotten tasks.
    free: Vec<u32>,
}

impl TaskTable {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn contains_key(&self, number: &u64) -> bool {
        self.slots.contains_key(number)
    }

    pub(crate) fn get(&self, number: &u64) -> Option<&TaskRecord> {
        self.slots.get(number).map(|slot| &self.records[*slot as usize])
    }

    pub(crate) fn get_mut(&mut self, number: &u64) -> Option<&mut TaskRecord> {
        self.slots.get(number).map(|slot| &mut self.records[*slot as usize])
    }

    /// Returns all tasks, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&u64, &TaskRecord)> {
        self.slots.iter().map(|(number, slot)| (number, &self.records[*slot as usize]))
    }

    /// Adds a task that isn't in the table.
    pub(crate) fn insert(
        &mut self,
        number: u64,
        name: u32,
        priority: i32,
        status: Status,
    ) -> &mut TaskRecord {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.records[slot as usize].reuse(name, priority, status);
                slot
            }
            None => {
                self.records.push(TaskRecord::new(name, priority, status));
                (self.records.len() - 1) as u32
            }
        };
        self.slots.insert(number, slot);
        &mut self.records[slot as usize]
    }

    /// Removes a task, after calling `inspect` with its record. Returns false if it isn't in the table.
    pub(crate) fn remove(&mut self, number: u64, inspect: impl FnOnce(&TaskRecord)) -> bool {
        let Some(slot) = self.slots.remove(&number) else { return false };
        let task = &mut self.records[slot as usize];
        inspect(task);
        task.clear();
        self.free.push(slot);
        true
    }
}

/// A hasher for numbers that count up.
///
/// The hash map takes the bucket from the lower bits, which are kept, so that tasks with successive numbers are in
/// neighbouring buckets. It compares the uppermost seven bits before it compares keys; these are mixed from all bits.
#[derive(Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        const UPPERMOST: u32 = 7;
        let mixed = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let lower = u64::MAX >> UPPERMOST;
        (self.0 & lower) | (mixed & !lower)
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only task numbers are hashed");
    }
}
