//! The table of results, each in memory or in a file, with their order of use.

use std::io;
use std::sync::Arc;

use hashbrown::HashMap;

use super::spill::SpilledFile;
use crate::dask::wire::WireKey;
use crate::dask::wire::serialized::Serialized;

/// A smaller result takes less memory than the record of its file would.
const MIN_SPILL_BYTES: u64 = 1024;

/// A result, in memory or in a file. Clones are cheap and share the content.
#[derive(Clone, Debug)]
pub(crate) enum StoredValue {
    Memory(Serialized),
    Disk(Arc<SpilledFile>),
}

impl StoredValue {
    /// Returns the result, reading its file if it has one.
    pub(crate) async fn load(self) -> io::Result<Serialized> {
        match self {
            Self::Memory(value) => Ok(value),
            Self::Disk(spilled) => blocking::unblock(move || spilled.read()).await,
        }
    }
}

/// The results of a worker, by key.
#[derive(Default)]
pub(crate) struct Store {
    slots: HashMap<WireKey, Slot, foldhash::fast::RandomState>,
    sizes: Sizes,
    /// Increases with each use and each insertion.
    clock: u64,
}

struct Slot {
    value: StoredValue,
    nbytes: u64,
    /// The clock at the last use.
    used: u64,
    /// The clock at the insertion. It identifies the result, since the one of a key may be replaced.
    since: u64,
}

/// The bytes of all results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Of the results in memory.
    pub(crate) memory: u64,
    /// Of the results in files, as they would be in memory.
    pub(crate) spilled: u64,
    /// Of the files.
    pub(crate) disk: u64,
}

/// A result to spill.
pub(crate) struct Victim {
    pub(crate) key: WireKey,
    pub(crate) since: u64,
    pub(crate) value: Serialized,
}

impl Store {
    pub(crate) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Stores a result. Returns the one that it replaces: dropping it may take long, and the caller has a lock.
    #[must_use]
    pub(crate) fn insert(&mut self, key: WireKey, value: Serialized) -> Option<StoredValue> {
        // Through `remove`, which corrects the sizes.
        let before = self.remove(&key);
        self.clock += 1;
        let nbytes = value.nbytes();
        self.sizes.memory += nbytes;
        let value = StoredValue::Memory(value);
        self.slots.insert(key, Slot { value, nbytes, used: self.clock, since: self.clock });
        before
    }

    /// Removes a result. Returns it: dropping it may take long, and the caller has a lock.
    #[must_use]
    pub(crate) fn remove(&mut self, key: &WireKey) -> Option<StoredValue> {
        let slot = self.slots.remove(key)?;
        match &slot.value {
            StoredValue::Memory(_) => self.sizes.memory -= slot.nbytes,
            StoredValue::Disk(spilled) => {
                self.sizes.spilled -= slot.nbytes;
                self.sizes.disk -= spilled.size();
            }
        }
        Some(slot.value)
    }

    /// Returns a result, and marks it as used now.
    pub(crate) fn get(&mut self, key: &WireKey) -> Option<StoredValue> {
        let slot = self.slots.get_mut(key)?;
        self.clock += 1;
        slot.used = self.clock;
        Some(slot.value.clone())
    }

    /// Returns the least recently used results, as many as free this number of bytes.
    pub(crate) fn victims(&self, bytes: u64) -> Vec<Victim> {
        let mut known: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| {
                matches!(slot.value, StoredValue::Memory(_)) && slot.nbytes >= MIN_SPILL_BYTES
            })
            .map(|(key, slot)| (slot.used, key, slot))
            .collect();
        // Sorting all results is acceptable: it happens only under memory pressure.
        known.sort_unstable_by_key(|(used, ..)| *used);
        let mut freed = 0;
        let chosen = known.into_iter().take_while(|(.., slot)| {
            let is_needed = freed < bytes;
            freed += slot.nbytes;
            is_needed
        });
        chosen
            .filter_map(|(_, key, slot)| match &slot.value {
                StoredValue::Memory(value) => {
                    Some(Victim { key: key.clone(), since: slot.since, value: value.clone() })
                }
                StoredValue::Disk(_) => None,
            })
            .collect()
    }

    /// Replaces a victim in memory by its file. Returns the value to drop: the file, if the victim isn't stored any
    /// more.
    #[must_use]
    pub(crate) fn spilled(
        &mut self,
        key: &WireKey,
        since: u64,
        file: Arc<SpilledFile>,
    ) -> StoredValue {
        match self.slots.get_mut(key) {
            Some(slot) if slot.since == since && matches!(slot.value, StoredValue::Memory(_)) => {
                self.sizes.memory -= slot.nbytes;
                self.sizes.spilled += slot.nbytes;
                self.sizes.disk += file.size();
                std::mem::replace(&mut slot.value, StoredValue::Disk(file))
            }
            // It was removed, or replaced, while the file was written.
            _ => StoredValue::Disk(file),
        }
    }

    /// Replaces a file by the value that was read from it. Returns the value to drop, if any: none if the key has
    /// another result by now.
    #[must_use]
    pub(crate) fn unspill(
        &mut self,
        key: &WireKey,
        file: &Arc<SpilledFile>,
        value: Serialized,
    ) -> Option<StoredValue> {
        let slot = self.slots.get_mut(key)?;
        if !matches!(&slot.value, StoredValue::Disk(known) if Arc::ptr_eq(known, file)) {
            return None;
        }
        self.sizes.memory += slot.nbytes;
        self.sizes.spilled -= slot.nbytes;
        self.sizes.disk -= file.size();
        Some(std::mem::replace(&mut slot.value, StoredValue::Memory(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dask::worker::memory::SpillDirectory;

    fn value(len: usize) -> Serialized {
        Serialized::bytes(vec![7; len].into())
    }

    fn key(text: &str) -> WireKey {
        text.into()
    }

    #[test]
    fn the_least_recently_used_results_are_spilled_and_read_back() {
        let directory = SpillDirectory::new(&std::env::temp_dir()).unwrap();
        let mut store = Store::default();
        for name in ["a", "b", "c"] {
            assert!(store.insert(key(name), value(10_000)).is_none());
        }
        assert!(store.insert(key("tiny"), value(1)).is_none());
        let all = store.sizes().memory;
        store.get(&key("a"));
        let names = |victims: &[Victim]| -> Vec<_> {
            victims.iter().map(|victim| victim.key.to_string()).collect()
        };
        assert_eq!(names(&store.victims(1)), ["b"]);
        assert_eq!(names(&store.victims(15_000)), ["b", "c"]);
        assert_eq!(names(&store.victims(u64::MAX)), ["b", "c", "a"]);
        for victim in store.victims(15_000) {
            let file = Arc::new(directory.write(&victim.value).unwrap());
            assert!(matches!(
                store.spilled(&victim.key, victim.since, file),
                StoredValue::Memory(_)
            ));
        }
        let sizes = store.sizes();
        assert_eq!(sizes.memory + sizes.spilled, all);
        assert_eq!((sizes.spilled, sizes.disk > 20_000), (2 * value(10_000).nbytes(), true));

        let Some(StoredValue::Disk(file)) = store.get(&key("b")) else { panic!("it's in memory") };
        let read = file.read().unwrap();
        assert_eq!(read, value(10_000));
        assert!(store.unspill(&key("b"), &file, read).is_some());
        assert!(matches!(store.get(&key("b")), Some(StoredValue::Memory(_))));
        let path = file.path().to_owned();
        drop(file);
        assert!(!path.exists());
        let Some(StoredValue::Disk(file)) = store.get(&key("c")) else { panic!("it's in memory") };
        let path = file.path().to_owned();
        drop(file);
        assert!(path.exists());
        for name in ["a", "b", "c", "tiny"] {
            drop(store.remove(&key(name)).unwrap());
        }
        assert_eq!(store.sizes(), Sizes::default());
        assert!(!path.exists());
    }

    #[test]
    fn a_result_that_was_replaced_while_its_predecessor_was_spilled_stays() {
        let directory = SpillDirectory::new(&std::env::temp_dir()).unwrap();
        let mut store = Store::default();
        assert!(store.insert(key("a"), value(5000)).is_none());
        let victim = store.victims(1).remove(0);
        drop(store.insert(key("a"), value(6000)).unwrap());
        let file = Arc::new(directory.write(&victim.value).unwrap());
        assert!(matches!(store.spilled(&victim.key, victim.since, file), StoredValue::Disk(_)));
        assert_eq!(store.sizes().memory, value(6000).nbytes());
    }
}
