//! The functions that tasks run, by name, and how many tasks of each there were.
//!
//! Every thread counts for itself, with plain stores into a table that others read.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::Status;
use crate::engine::header::TaskRef;
use crate::engine::lock::Lock;
use crate::key::short_name;

/// So many names are told apart; what has another counts as [`OTHERS`].
const NAMES: usize = CHUNK * CHUNKS;
const OTHERS: &str = "(others)";

const CHUNK: usize = 64;
const CHUNKS: usize = 64;

/// How many functions a thread finds at once; a power of two.
const FOUND: usize = 64;

pub(crate) struct Functions {
    /// Another one for each of the process.
    id: usize,
    names: Lock<Names>,
    tables: Lock<Vec<Arc<Table>>>,
    /// Of threads that are gone.
    retired: Lock<Vec<Counts>>,
}

#[derive(Default)]
struct Names {
    all: Vec<Arc<str>>,
    places: HashMap<Arc<str>, u32>,
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

/// The counts of one thread, which alone writes them.
struct Table {
    chunks: [OnceLock<Box<[[AtomicU64; 4]; CHUNK]>>; CHUNKS],
}

impl Table {
    fn add(&self, name: u32, which: usize) {
        let name = name as usize;
        let chunk = self.chunks[name / CHUNK]
            .get_or_init(|| Box::new(std::array::from_fn(|_| Default::default())));
        let count = &chunk[name % CHUNK][which];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn each(&self, mut visit: impl FnMut(usize, Counts)) {
        for (at, chunk) in self.chunks.iter().enumerate() {
            for (within, counts) in
                chunk.get().into_iter().flat_map(|chunk| chunk.iter().enumerate())
            {
                let [submitted, finished, failed, cancelled] =
                    [0, 1, 2, 3].map(|which: usize| counts[which].load(Ordering::Relaxed));
                visit(at * CHUNK + within, Counts { submitted, finished, failed, cancelled });
            }
        }
    }
}

/// What a thread knows of the functions of one client.
struct Known {
    id: usize,
    table: Arc<Table>,
    /// Where the names of functions are, found by the addresses of what the tasks have in common.
    places: [(usize, u32); FOUND],
}

thread_local! {
    /// Of the clients that this thread has counted for, the last one first.
    static KNOWN: RefCell<Vec<Known>> = const { RefCell::new(Vec::new()) };
}

/// A thread remembers so many clients.
const CLIENTS: usize = 4;

impl Functions {
    pub(crate) fn new() -> Self {
        static IDS: AtomicUsize = AtomicUsize::new(0);
        Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            names: Lock::default(),
            tables: Lock::default(),
            retired: Lock::default(),
        }
    }

    /// Counts a task that was submitted, or one that has ended in this way, and returns the place of its name.
    pub(crate) fn count(&self, task: TaskRef<'_>, ended: Option<Status>) -> u32 {
        let which = match ended {
            None => 0,
            Some(Status::Finished) => 1,
            Some(Status::Failed) => 2,
            Some(_) => 3,
        };
        let counted = KNOWN.try_with(|known| {
            let known = &mut *known.borrow_mut();
            if known.first().is_none_or(|first| first.id != self.id) {
                self.turn_to(known);
            }
            let known = &mut known[0];
            let place = self.place(task, &mut known.places);
            known.table.add(place, which);
            place
        });
        // The thread is ending.
        counted.unwrap_or_else(|_| {
            let place = self.intern(&task.name());
            let mut count = Counts::default();
            *[&mut count.submitted, &mut count.finished, &mut count.failed, &mut count.cancelled]
                [which] = 1;
            self.retire(place as usize, count);
            place
        })
    }

    #[cold]
    fn turn_to(&self, known: &mut Vec<Known>) {
        if let Some(at) = known.iter().position(|other| other.id == self.id) {
            known.swap(0, at);
            return;
        }
        let table = Arc::new(Table { chunks: std::array::from_fn(|_| OnceLock::new()) });
        self.tables.lock().push(table.clone());
        known.truncate(CLIENTS - 1);
        known.insert(0, Known { id: self.id, table, places: [(0, 0); FOUND] });
    }

    fn place(&self, task: TaskRef<'_>, places: &mut [(usize, u32); FOUND]) -> u32 {
        if let Some(name) = task.extras().and_then(|extras| extras.name.as_ref()) {
            return self.intern(name);
        }
        let address = ptr::from_ref(task.vtable).addr();
        // They lie one behind the other, each as large as some such blocks.
        let found = &mut places[(address / 32) % FOUND];
        if found.0 != address {
            *found = (address, self.intern(&short_name((task.vtable.function)())));
        }
        found.1
    }

    fn intern(&self, name: &str) -> u32 {
        let names = &mut *self.names.lock();
        if let Some(place) = names.places.get(name) {
            return *place;
        }
        let name: Arc<str> = if names.all.len() < NAMES - 1 { name.into() } else { OTHERS.into() };
        let place = *names.places.entry(name.clone()).or_insert(names.all.len() as u32);
        if place as usize == names.all.len() {
            names.all.push(name);
        }
        place
    }

    /// The names from this place on.
    pub(crate) fn names_from(&self, place: usize) -> Vec<Arc<str>> {
        self.names.lock().all.get(place..).unwrap_or_default().to_vec()
    }

    fn retire(&self, place: usize, counts: Counts) {
        let mut retired = self.retired.lock();
        if retired.len() <= place {
            retired.resize(place + 1, Counts::default());
        }
        retired[place].add(counts);
    }

    /// The counts of all functions, in the order of their names.
    pub(crate) fn counts(&self) -> Vec<Counts> {
        let mut tables = self.tables.lock();
        tables.retain_mut(|table| {
            let in_use = Arc::get_mut(table).is_none();
            if !in_use {
                table.each(|place, counts| self.retire_some(place, counts));
            }
            in_use
        });
        let mut all = self.retired.lock().clone();
        all.resize(self.names.lock().all.len().max(all.len()), Counts::default());
        for table in &*tables {
            table.each(|place, counts| {
                // A name that is new.
                if let Some(sum) = all.get_mut(place) {
                    sum.add(counts);
                }
            });
        }
        all
    }

    fn retire_some(&self, place: usize, counts: Counts) {
        if counts.submitted + counts.finished + counts.failed + counts.cancelled > 0 {
            self.retire(place, counts);
        }
    }
}
