//! Counts of events by function, for the observer.
//!
//! Each thread counts in a table of its own, with plain stores that other threads read, so that counting causes no
//! contention. It finds a function's slot by the address of the vtable that all tasks of the function share. The
//! observer itself counts a task that was given a name, and one whose function finds no free slot.

use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::Status;

/// The number of functions in one table; a power of two.
const SLOTS: usize = 128;

/// The number of slots to probe for a function, from the one that its address leads to.
const PROBES: usize = 8;

/// The number of engines whose tables a thread keeps.
const ENGINES: usize = 4;

/// An event that is counted.
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

/// The counts of one thread for one engine. Only that thread writes them.
pub(crate) struct CounterTable {
    slots: [Slot; SLOTS],
}

/// The counts of one function. A power of two in size, a cache line, so that few instructions compute its address.
#[repr(align(64))]
#[derive(Default)]
struct Slot {
    /// The address of the function's vtable; 0 while the slot is free.
    vtable: AtomicUsize,
    /// The observer's number for the function's name.
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

    /// Visits the functions: the number of the name, and the count of each [`CountedEvent`].
    pub(crate) fn each(&self, mut visit: impl FnMut(u32, [u64; 4])) {
        for slot in &self.slots {
            // Acquire: the name is stored before the vtable.
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
        // Not an atomic addition: only this thread writes, and a plain store is far cheaper.
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.name.load(Ordering::Relaxed)
    }
}

/// The table that a thread used last, and the number of its engine: saves the search in [`Tables`].
struct Last {
    engine: Cell<usize>,
    table: Cell<*const CounterTable>,
}

/// The tables of a thread, each with the number of its engine, the last used one first.
struct Tables(RefCell<Vec<(usize, Arc<CounterTable>)>>);

/// A number that no engine has.
const NONE: usize = usize::MAX;

thread_local! {
    static LAST: Last = const { Last { engine: Cell::new(NONE), table: Cell::new(ptr::null()) } };
    static TABLES: Tables = const { Tables(RefCell::new(Vec::new())) };
}

impl Drop for Tables {
    fn drop(&mut self) {
        // Destructors of other thread locals may still count: they must not use the freed table.
        LAST.with(|last| last.engine.set(NONE));
    }
}

/// Counts an event of a function, by the address of its vtable, if the thread used this engine's table last and the
/// function is in its first slot. Returns the number of the function's name, or `None`: then [`table_of`] gives the
/// table to count in.
#[inline]
pub(crate) fn count_known(engine: usize, vtable: usize, event: CountedEvent) -> Option<u32> {
    LAST.with(|last| {
        if last.engine.get() != engine {
            return None;
        }
        // SAFETY: `TABLES` keeps the table as long as `LAST` has the number of its engine.
        let slot = unsafe { &*last.table.get() }.slot(first(vtable));
        (slot.vtable.load(Ordering::Relaxed) == vtable).then(|| slot.add(event))
    })
}

/// The index of a function's first slot, modulo the number of slots. Vtables are more than 100 bytes apart.
fn first(vtable: usize) -> usize {
    vtable / 32
}

/// Returns this thread's table for the engine, which [`count_known`] uses from now on. A new table is passed to
/// `created`. `None` if the thread is exiting.
pub(crate) fn table_of(
    engine: usize,
    created: impl FnOnce(Arc<CounterTable>),
) -> Option<Arc<CounterTable>> {
    TABLES.try_with(|tables| tables.switch_to(engine, created)).ok()
}

impl CounterTable {
    /// Counts an event of a function, and returns the number of its name, which `name` provides when the function gets
    /// a slot. `None` if the table has no slot for it.
    pub(crate) fn count(
        &self,
        vtable: usize,
        event: CountedEvent,
        name: impl FnOnce() -> u32,
    ) -> Option<u32> {
        for at in 0..PROBES {
            let slot = self.slot(first(vtable) + at);
            let found = slot.vtable.load(Ordering::Relaxed);
            if found == 0 {
                slot.name.store(name(), Ordering::Relaxed);
                // Last, so that a reader that sees the vtable sees the name.
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
    /// Returns the table for this engine, and makes it the last used one.
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
