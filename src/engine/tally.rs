//! How many tasks of each function there were, for the observer.
//!
//! Each thread counts for itself, with plain stores into a table that others read, and finds the place by the
//! address of what all tasks of a function have in common. A task that was given a name has no such place: the
//! observer counts it by that, as it does where a table has no room.

use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::core::Core;
use super::header::TaskRef;
use crate::Status;

/// So many functions a thread can count in one table; a power of two.
const PLACES: usize = 128;

/// A function is in the place that its address leads to, or in one of the next ones.
const NEAR: usize = 8;

/// A thread remembers the tables of so many engines.
const ENGINES: usize = 4;

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Submitted,
    Finished,
    Failed,
    Cancelled,
}

impl Event {
    pub(crate) fn of_end(status: Status) -> Self {
        match status {
            Status::Finished => Self::Finished,
            Status::Failed => Self::Failed,
            _ => Self::Cancelled,
        }
    }
}

/// The counts of one thread for one engine. The thread alone writes them.
pub(crate) struct Table {
    places: [Place; PLACES],
}

/// What is counted of one function. It has a cache line, so that its address is found by few instructions.
#[repr(align(64))]
#[derive(Default)]
struct Place {
    /// The address of the function's table of functions; 0 while the place is free.
    vtable: AtomicUsize,
    /// What the observer knows the function's name by.
    name: AtomicU32,
    counts: [AtomicU64; 4],
}

impl Table {
    fn new() -> Self {
        Self { places: std::array::from_fn(|_| Place::default()) }
    }

    fn place(&self, at: usize) -> &Place {
        &self.places[at % PLACES]
    }

    /// Shows the names of functions and how many there were of each [`Event`].
    pub(crate) fn each(&self, mut visit: impl FnMut(u32, [u64; 4])) {
        for place in &self.places {
            // What has a name was entered before.
            if place.vtable.load(Ordering::Acquire) != 0 {
                let counts = [0, 1, 2, 3].map(|at: usize| place.counts[at].load(Ordering::Relaxed));
                visit(place.name.load(Ordering::Relaxed), counts);
            }
        }
    }
}

impl Place {
    fn add(&self, event: Event) -> u32 {
        let count = &self.counts[event as usize];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.name.load(Ordering::Relaxed)
    }
}

/// The table that a thread has counted in last, and whose engine's it is.
struct Last {
    engine: Cell<usize>,
    table: Cell<*const Table>,
}

/// The tables of a thread, each with the number of its engine, the last one first.
struct Tables(RefCell<Vec<(usize, Arc<Table>)>>);

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

/// Counts a task of this engine, and returns what the observer knows its function's name by.
#[inline]
pub(crate) fn count(core: &Core, task: TaskRef<'_>, event: Event) -> u32 {
    if task.given_name().is_none() {
        let address = ptr::from_ref(task.vtable).addr();
        let found = LAST.with(|last| {
            if last.engine.get() != core.id {
                return None;
            }
            // SAFETY: it's a table that `TABLES` keeps while the engine's number is there.
            let place = unsafe { &*last.table.get() }.place(first(address));
            (place.vtable.load(Ordering::Relaxed) == address).then(|| place.add(event))
        });
        if let Some(name) = found {
            return name;
        }
    }
    count_elsewhere(core, task, event)
}

/// Where to look first. The addresses lie one behind the other, each as many bytes apart as two or three of these.
fn first(address: usize) -> usize {
    address / 32
}

#[cold]
fn count_elsewhere(core: &Core, task: TaskRef<'_>, event: Event) -> u32 {
    let Some(observer) = core.hook.observer() else { return 0 };
    if task.given_name().is_some() {
        return observer.count(task, event);
    }
    // Where there are no tables any more, the thread is ending.
    let Ok(table) = TABLES.try_with(|tables| tables.turn_to(core)) else {
        return observer.count(task, event);
    };
    let address = ptr::from_ref(task.vtable).addr();
    for at in 0..NEAR {
        let place = table.place(first(address) + at);
        let there = place.vtable.load(Ordering::Relaxed);
        if there == 0 {
            place.name.store(observer.name(task), Ordering::Relaxed);
            place.vtable.store(address, Ordering::Release);
        }
        if there == 0 || there == address {
            return place.add(event);
        }
    }
    observer.count(task, event)
}

impl Tables {
    /// The table for this engine, which comes to be the last one.
    fn turn_to(&self, core: &Core) -> Arc<Table> {
        let all = &mut *self.0.borrow_mut();
        match all.iter().position(|(engine, _)| *engine == core.id) {
            Some(at) => all.swap(0, at),
            None => {
                all.truncate(ENGINES - 1);
                all.insert(0, (core.id, Arc::new(Table::new())));
                let table = all[0].1.clone();
                core.hook.observer().into_iter().for_each(|observer| observer.read(table.clone()));
            }
        }
        let table = all[0].1.clone();
        LAST.with(|last| {
            last.engine.set(core.id);
            last.table.set(Arc::as_ptr(&table));
        });
        table
    }
}
