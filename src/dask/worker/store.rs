//! The results that a worker holds: in memory, or in files.

use std::io;
use std::sync::Arc;

use hashbrown::HashMap;

use super::spill::Spilled;
use crate::dask::wire::WireKey;
use crate::dask::wire::serialized::Serialized;

/// A smaller result takes less memory than what would have to be remembered of its file.
const TOO_SMALL: u64 = 1024;

/// A result.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Memory(Serialized),
    Disk(Arc<Spilled>),
}

impl Value {
    /// The result, from its file if it's there.
    pub(crate) async fn load(self) -> io::Result<Serialized> {
        match self {
            Self::Memory(value) => Ok(value),
            Self::Disk(spilled) => blocking::unblock(move || spilled.read()).await,
        }
    }
}

/// What is held, by key.
#[derive(Default)]
pub(crate) struct Store {
    slots: HashMap<WireKey, Slot, foldhash::fast::RandomState>,
    sizes: Sizes,
    /// Goes on with each use and each insertion.
    clock: u64,
}

struct Slot {
    value: Value,
    nbytes: u64,
    /// When it was last used.
    used: u64,
    /// When it was put here: another result may have had the key before.
    since: u64,
}

/// How much is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// In memory.
    pub(crate) memory: u64,
    /// What those in files would take in memory.
    pub(crate) spilled: u64,
    /// What they take on disk.
    pub(crate) disk: u64,
}

/// A result that is to go to a file.
pub(crate) struct Victim {
    pub(crate) key: WireKey,
    pub(crate) since: u64,
    pub(crate) value: Serialized,
}

impl Store {
    pub(crate) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Holds a result. Gives what was held there before, to be dropped where there's time for it.
    #[must_use]
    pub(crate) fn insert(&mut self, key: WireKey, value: Serialized) -> Option<Value> {
        let before = self.remove(&key);
        self.clock += 1;
        let nbytes = value.nbytes();
        self.sizes.memory += nbytes;
        let value = Value::Memory(value);
        self.slots.insert(key, Slot { value, nbytes, used: self.clock, since: self.clock });
        before
    }

    /// Drops a result. Gives it, to be dropped where there's time for it.
    #[must_use]
    pub(crate) fn remove(&mut self, key: &WireKey) -> Option<Value> {
        let slot = self.slots.remove(key)?;
        match &slot.value {
            Value::Memory(_) => self.sizes.memory -= slot.nbytes,
            Value::Disk(spilled) => {
                self.sizes.spilled -= slot.nbytes;
                self.sizes.disk -= spilled.size();
            }
        }
        Some(slot.value)
    }

    /// The result, which is thereby used.
    pub(crate) fn get(&mut self, key: &WireKey) -> Option<Value> {
        let slot = self.slots.get_mut(key)?;
        self.clock += 1;
        slot.used = self.clock;
        Some(slot.value.clone())
    }

    /// What to write to files so that so much memory becomes free: what hasn't been used for longest.
    pub(crate) fn victims(&self, bytes: u64) -> Vec<Victim> {
        let mut known: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| matches!(slot.value, Value::Memory(_)) && slot.nbytes >= TOO_SMALL)
            .map(|(key, slot)| (slot.used, key, slot))
            .collect();
        known.sort_unstable_by_key(|(used, ..)| *used);
        let mut freed = 0;
        let chosen = known.into_iter().take_while(|(.., slot)| {
            let is_needed = freed < bytes;
            freed += slot.nbytes;
            is_needed
        });
        chosen
            .filter_map(|(_, key, slot)| match &slot.value {
                Value::Memory(value) => {
                    Some(Victim { key: key.clone(), since: slot.since, value: value.clone() })
                }
                Value::Disk(_) => None,
            })
            .collect()
    }

    /// A victim is in its file now. Gives what is to be dropped.
    #[must_use]
    pub(crate) fn spilled(&mut self, key: &WireKey, since: u64, file: Arc<Spilled>) -> Value {
        match self.slots.get_mut(key) {
            Some(slot) if slot.since == since && matches!(slot.value, Value::Memory(_)) => {
                self.sizes.memory -= slot.nbytes;
                self.sizes.spilled += slot.nbytes;
                self.sizes.disk += file.size();
                std::mem::replace(&mut slot.value, Value::Disk(file))
            }
            // It was dropped, or replaced, in the meantime.
            _ => Value::Disk(file),
        }
    }

    /// What was read from this file may stay in memory. Gives what is to be dropped.
    #[must_use]
    pub(crate) fn unspill(
        &mut self,
        key: &WireKey,
        file: &Arc<Spilled>,
        value: Serialized,
    ) -> Option<Value> {
        let slot = self.slots.get_mut(key)?;
        if !matches!(&slot.value, Value::Disk(known) if Arc::ptr_eq(known, file)) {
            return None;
        }
        self.sizes.memory += slot.nbytes;
        self.sizes.spilled -= slot.nbytes;
        self.sizes.disk -= file.size();
        Some(std::mem::replace(&mut slot.value, Value::Memory(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dask::worker::spill::Directory;

    fn value(len: usize) -> Serialized {
        Serialized::bytes(vec![7; len].into())
    }

    fn key(text: &str) -> WireKey {
        text.into()
    }

    #[test]
    fn what_was_not_used_for_longest_goes_to_disk_and_comes_back() {
        let directory = Directory::new(&std::env::temp_dir()).unwrap();
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
            assert!(matches!(store.spilled(&victim.key, victim.since, file), Value::Memory(_)));
        }
        let sizes = store.sizes();
        assert_eq!(sizes.memory + sizes.spilled, all);
        assert_eq!((sizes.spilled, sizes.disk > 20_000), (2 * value(10_000).nbytes(), true));

        let Some(Value::Disk(file)) = store.get(&key("b")) else { panic!("it's in memory") };
        let read = file.read().unwrap();
        assert_eq!(read, value(10_000));
        assert!(store.unspill(&key("b"), &file, read).is_some());
        assert!(matches!(store.get(&key("b")), Some(Value::Memory(_))));
        let path = file.path().to_owned();
        drop(file);
        assert!(!path.exists());
        let Some(Value::Disk(file)) = store.get(&key("c")) else { panic!("it's in memory") };
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
    fn what_was_replaced_while_it_was_written_stays() {
        let directory = Directory::new(&std::env::temp_dir()).unwrap();
        let mut store = Store::default();
        assert!(store.insert(key("a"), value(5000)).is_none());
        let victim = store.victims(1).remove(0);
        drop(store.insert(key("a"), value(6000)).unwrap());
        let file = Arc::new(directory.write(&victim.value).unwrap());
        assert!(matches!(store.spilled(&victim.key, victim.since, file), Value::Disk(_)));
        assert_eq!(store.sizes().memory, value(6000).nbytes());
    }
}
