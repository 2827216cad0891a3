//! How many tasks of each function there were, for the observer.
//!
//! Each thread counts for itself, with plain stores into a table that others read, and finds the place by the
//! address of what all tasks of a function have in common. A task that was given a name has no such place: the
//! observer counts it by that, as it does where a table has no room.

use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::Status;

/// So many functions a thread can count in one table; a power of two.
const SLOTS: usize = 128;

/// A function is in the place that its address leads to, or in one of the next ones.
const NEAR: usize = 8;

/// A thread remembers the tables of so many engines.
const ENGINES: usize = 4;

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CountedEvent {
    Submitted,
    Finished,
    Failed,
    Cancelled,
}

impl CountedEvent {
    pub(crate) fn of_end(status: Status) -> Self {
        match status {
            Status::Finished => Self::Finished,
            Status::Failed => Self::Failed,
            _ => Self::Cancelled,
        }
    }
}

/// The counts of one thread for one engine. The thread alone writes them.
pub(crate) struct CounterTable {
    slots: [Slot; SLOTS],
}

/// What is counted of one function. It has a cache line, so that its address is found by few instructions.
#[repr(align(64))]
#[derive(Default)]
struct Slot {
    /// The address of the function's table of functions; 0 while the place is free.
    vtable: AtomicUsize,
    /// What the observer knows the function's name by.
    name: AtomicU32,
    counts: [AtomicU64; 4],
}

impl CounterTable {
    fn new() -> Self {
        Self { slots: std::array::from_fn(|_| Slot::default()) }
    }

    fn slot(&self, at: usize) -> &Slot {
        &self.slots[at % SLOTS]
    }

    /// Shows the names of functions and how many there were of each [`CountedEvent`].
    pub(crate) fn each(&self, mut visit: impl FnMut(u32, [u64; 4])) {
        for slot in &self.slots {
            // What has a name was entered before.
            if slot.vtable.load(Ordering::Acquire) != 0 {
                let counts = [0, 1, 2, 3].map(|at: usize| slot.counts[at].load(Ordering::Relaxed));
                visit(slot.name.load(Ordering::Relaxed), counts);
            }
        }
    }
}

impl Slot {
    fn add(&self, event: CountedEvent) -> u32 {
        let count = &self.counts[event as usize];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.name.load(Ordering::Relaxed)
    }
}

/// The table that a thread has counted in last, and whose engine's it is.
struct Last {
    engine: Cell<usize>,
    table: Cell<*const CounterTable>,
}

/// The tables of a thread, each with the number of its engine, the last one first.
struct Tables(RefCell<Vec<(usize, Arc<CounterTable>)>>);

/// No engine's number.
const NONE: usize = usize::MAX;

thread_local! {
    static LAST: Last = const { Last { engine: Cell::new(NONE), table: Cell::new(ptr::null()) } };
    static TABLES: Tables = const { Tables(RefCell::new(Vec::new())) };
}

impl Drop for Tables {
    fn drop(&mut self) {
        LAST.with(|last| last.engine.set(NONE));
    }
}

/// Counts an event of a function that this thread has counted for this engine last, by the address of its tasks'
/// vtable. Returns the number of the function's name, or `None` where there is more to do: see [`table_of`].
#[inline]
pub(crate) fn count_known(engine: usize, vtable: usize, event: CountedEvent) -> Option<u32> {
    LAST.with(|last| {
        if last.engine.get() != engine {
            return None;
        }
        // SAFETY: it's a table that `TABLES` keeps while the engine's number is there.
        let slot = unsafe { &*last.table.get() }.slot(first(vtable));
        (slot.vtable.load(Ordering::Relaxed) == vtable).then(|| slot.add(event))
    })
}

/// The slot to look at first. The addresses of vtables are a multiple of some hundred bytes apart.
fn first(vtable: usize) -> usize {
    vtable / 32
}

/// This thread's table for the engine, which [`count_known`] uses from now on. A new one is shown to `created`.
/// `None` where the thread is exiting.
pub(crate) fn table_of(
    engine: usize,
    created: impl FnOnce(Arc<CounterTable>),
) -> Option<Arc<CounterTable>> {
    TABLES.try_with(|tables| tables.switch_to(engine, created)).ok()
}

impl CounterTable {
    /// Counts an event of a function; `name` is asked for the number of its name when it gets a slot. `None` if the
    /// table has no room for it.
    pub(crate) fn count(
        &self,
        vtable: usize,
        event: CountedEvent,
        name: impl FnOnce() -> u32,
    ) -> Option<u32> {
        for at in 0..NEAR {
            let slot = self.slot(first(vtable) + at);
            let found = slot.vtable.load(Ordering::Relaxed);
            if found == 0 {
                slot.name.store(name(), Ordering::Relaxed);
                slot.vtable.store(vtable, Ordering::Release);
                return Some(slot.add(event));
            }
            if found == vtable {
                return Some(slot.add(event));
            }
        }
        None
    }
}

impl Tables {
    /// The table for this engine, which comes to be the last one.
    fn switch_to(
        &self,
        engine: usize,
        created: impl FnOnce(Arc<CounterTable>),
    ) -> Arc<CounterTable> {
        let all = &mut *self.0.borrow_mut();
        match all.iter().position(|(other, _)| *other == engine) {
            Some(at) => all.swap(0, at),
            None => {
                all.truncate(ENGINES - 1);
                all.insert(0, (engine, Arc::new(CounterTable::new())));
                created(all[0].1.clone());
            }
        }
        let table = all[0].1.clone();
        LAST.with(|last| {
            last.engine.set(engine);
            last.table.set(Arc::as_ptr(&table));
        });
        table
    }
}
