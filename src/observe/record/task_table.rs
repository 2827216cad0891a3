//! The watched tasks that are remembered, by their numbers.
//!
//! The entries lie in the order in which they were made, and so about in that in which they're forgotten; the
//! place of one that was forgotten is the next one's, with the memory of its lists. So what happens to thousands
//! of tasks a moment touches few lines of memory.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::task_record::Entry;
use crate::Status;

#[derive(Default)]
pub(crate) struct Tasks {
    places: HashMap<u64, u32, BuildHasherDefault<Number>>,
    entries: Vec<Entry>,
    /// The places of entries that were forgotten.
    free: Vec<u32>,
}

impl Tasks {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn contains_key(&self, number: &u64) -> bool {
        self.places.contains_key(number)
    }

    pub(crate) fn get(&self, number: &u64) -> Option<&Entry> {
        self.places.get(number).map(|place| &self.entries[*place as usize])
    }

    pub(crate) fn get_mut(&mut self, number: &u64) -> Option<&mut Entry> {
        self.places.get(number).map(|place| &mut self.entries[*place as usize])
    }

    /// In no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&u64, &Entry)> {
        self.places.iter().map(|(number, place)| (number, &self.entries[*place as usize]))
    }

    /// Enters a task that isn't there.
    pub(crate) fn insert(
        &mut self,
        number: u64,
        name: u32,
        priority: i32,
        status: Status,
    ) -> &mut Entry {
        let place = match self.free.pop() {
            Some(place) => {
                self.entries[place as usize].begin_again(name, priority, status);
                place
            }
            None => {
                self.entries.push(Entry::new(name, priority, status));
                (self.entries.len() - 1) as u32
            }
        };
        self.places.insert(number, place);
        &mut self.entries[place as usize]
    }

    /// Forgets a task, and shows what was known of it; false where it isn't there.
    pub(crate) fn remove(&mut self, number: u64, look: impl FnOnce(&Entry)) -> bool {
        let Some(place) = self.places.remove(&number) else { return false };
        let entry = &mut self.entries[place as usize];
        look(entry);
        entry.empty();
        self.free.push(place);
        true
    }
}

/// Numbers count up, so the lower bits lead to a place as they are, beside that of the number before; the uppermost
/// ones are what places are told apart by, and have something of all bits.
#[derive(Default)]
struct Number(u64);

impl Hasher for Number {
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
        unreachable!("what is hashed is a number");
    }
}
