//! The interface between an engine and its observer.
//!
//! An engine has at most one observer, which stays attached. Without one, a new task costs one relaxed load of a word
//! that hardly ever changes, and later events cost nothing: the observer is notified of tasks with [`WATCHED`] in
//! their state, which is loaded anyway.

use std::any::Any;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};

use crate::Status;
use crate::engine::task::header::{PausedFor, TaskRef};
use crate::engine::task::state::{COUNTED, WATCHED};
use crate::engine::watch::counters::{self, CountedEvent, CounterTable};
use crate::engine::watch::watched::Watched;

/// Receives the events of tasks, on the thread where they happen, and must be quick. The engine holds none of its locks
/// meanwhile, except for [`released`](Observer::released), which must therefore run no user code.
pub(crate) trait Observer: Send + Sync {
    /// Returns the word that every new task reads.
    fn demand(&self) -> &Demand;

    /// Whether a new task is to be watched. Other tasks are only counted.
    fn wants(&self) -> bool;

    /// Returns the observer's number for the function's name of a task that wasn't given a name.
    fn name(&self, task: TaskRef<'_>) -> u32;

    /// Counts a task under the name that it was given, or under its function's if no [`CounterTable`] has room for it.
    /// Returns the observer's number for the name.
    fn count(&self, task: TaskRef<'_>, event: CountedEvent) -> u32;

    /// Takes a table in which a thread has begun to count.
    fn read(&self, table: Arc<CounterTable>);

    /// Takes an event of a watched task.
    fn on_event(&self, task: TaskRef<'_>, event: TaskEvent<'_>);

    /// Takes the number of a watched task that is being freed.
    fn released(&self, number: u64);

    /// Called when the engine is closed, and at each further close.
    fn closed(&self);

    /// Returns the observer for downcasting to the type that was attached.
    fn as_any(&self) -> &(dyn Any + Send + Sync);
}

/// An event in the life of a task.
#[derive(Clone, Copy)]
pub(crate) enum TaskEvent<'a> {
    /// It was created, a retry makes it run again, or the observer first meets it.
    Created {
        /// The observer's number for its name.
        name: u32,
        /// `Waiting` or `Ready`, unless it was created with its outcome.
        status: Status,
        /// It was created before the observer was attached.
        is_old: bool,
        /// The number of the task that submitted it.
        by: Option<u64>,
        /// The numbers of those of its inputs that are watched.
        inputs: &'a [u64],
    },
    /// Its inputs have finished; it waits for a worker.
    Ready,
    /// A worker polls it.
    Polled { worker: usize },
    /// A poll ended without an outcome. `awaits` has the numbers of the watched tasks that it awaits.
    Suspended { awaits: &'a [u64] },
    /// It awaits these tasks: together, by a completion queue, or one from blocking work.
    Awaits(&'a [u64]),
    /// It is paused: it waits for limits or rates, or for the delay before the attempt with this number.
    Paused { why: PausedFor, attempt: u32 },
    /// It is no longer paused.
    Resumed,
    /// It has its outcome.
    Ended(Status),
}

/// Whether the observer wants to watch all new tasks, some of them, or none.
pub(crate) struct Demand(AtomicU64);

/// One subscriber that wants all tasks: the bits from this one on are a count.
const ALL: u64 = 4;
/// The observer wants to know when there is a task again: [`Observer::wants`] is asked once.
const ANY: u64 = 2;
/// The observer decides about each task by [`Observer::wants`].
const SOME: u64 = 1;

impl Demand {
    /// Creates a demand for some tasks.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(SOME))
    }

    pub(crate) fn set_some(&self, some: bool) {
        if some {
            self.0.fetch_or(SOME, Ordering::SeqCst);
        } else {
            self.0.fetch_and(!SOME, Ordering::SeqCst);
        }
    }

    /// Counts one more subscriber that wants all tasks.
    pub(crate) fn add_all(&self) {
        self.0.fetch_add(ALL, Ordering::SeqCst);
    }

    pub(crate) fn remove_all(&self) {
        self.0.fetch_sub(ALL, Ordering::SeqCst);
    }

    /// Has the next new task ask, if it didn't already: false if it did. A thread that makes one just now may not ask.
    pub(crate) fn want_any(&self) -> bool {
        self.0.fetch_or(ANY, Ordering::SeqCst) & ANY == 0
    }

    /// Whether a new task was to ask, which is none from now on.
    pub(crate) fn take_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) & ANY != 0
            && self.0.fetch_and(!ANY, Ordering::SeqCst) & ANY != 0
    }

    pub(crate) fn all(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= ALL
    }

    fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }
}

pub(crate) struct ObserverSlot {
    /// The id of the engine.
    engine: usize,
    /// The observer's demand; null without an observer.
    demand: AtomicPtr<Demand>,
    observer: OnceLock<Arc<dyn Observer>>,
    /// The tasks whose events the observer receives.
    pub(crate) watched: Watched,
}

impl ObserverSlot {
    pub(crate) fn new(engine: usize) -> Self {
        Self {
            engine,
            demand: AtomicPtr::default(),
            observer: OnceLock::new(),
            watched: Watched::default(),
        }
    }

    /// Attaches an observer, unless one is attached already.
    pub(crate) fn attach(&self, observer: impl FnOnce() -> Arc<dyn Observer>) {
        let demand = ptr::from_ref(self.observer.get_or_init(observer).demand());
        // Publishes the observer to threads that read only this pointer.
        self.demand.store(demand.cast_mut(), Ordering::Release);
    }

    pub(crate) fn get(&self) -> Option<&dyn Observer> {
        self.observer.get().map(|observer| &**observer)
    }

    pub(crate) fn is_attached(&self) -> bool {
        !self.demand.load(Ordering::Relaxed).is_null()
    }

    /// Returns the flags for the state of a new task.
    pub(crate) fn flags(&self) -> u64 {
        let demand = self.demand.load(Ordering::Relaxed);
        if demand.is_null() {
            return 0;
        }
        // A fence rather than an acquire load: the common path, without an observer, needs no ordering.
        fence(Ordering::Acquire);
        // SAFETY: the pointer leads into the observer, which the slot keeps as long as it exists.
        if unsafe { &*demand }.any() { self.flags_now() } else { COUNTED }
    }

    #[cold]
    fn flags_now(&self) -> u64 {
        match self.get() {
            Some(observer) if observer.wants() => WATCHED | COUNTED,
            _ => COUNTED,
        }
    }

    /// Counts an event of a task, and returns the observer's number for its name.
    #[inline]
    pub(crate) fn count(&self, task: TaskRef<'_>, event: CountedEvent) -> u32 {
        if task.given_name().is_none() {
            let vtable = ptr::from_ref(task.vtable).addr();
            if let Some(name) = counters::count_known(self.engine, vtable, event) {
                return name;
            }
        }
        self.count_slow(task, event)
    }

    #[cold]
    fn count_slow(&self, task: TaskRef<'_>, event: CountedEvent) -> u32 {
        let Some(observer) = self.get() else { return 0 };
        if task.given_name().is_none() {
            let vtable = ptr::from_ref(task.vtable).addr();
            let table = counters::table_of(self.engine, |table| observer.read(table));
            let name = || observer.name(task);
            if let Some(name) = table.and_then(|table| table.count(vtable, event, name)) {
                return name;
            }
        }
        observer.count(task, event)
    }

    /// Notifies the observer of an event if the task, whose state is `state`, is watched.
    pub(crate) fn notify(&self, task: TaskRef<'_>, state: u64, event: TaskEvent<'_>) {
        if state & WATCHED != 0 {
            self.notify_now(task, event);
        }
    }

    /// Notifies the observer that a task, which is counted and whose state is `state`, has ended.
    pub(crate) fn notify_ended(&self, task: TaskRef<'_>, state: u64, status: Status) {
        self.count(task, CountedEvent::of_end(status));
        if state & WATCHED != 0 {
            self.notify_now(task, TaskEvent::Ended(status));
        }
    }

    #[cold]
    pub(crate) fn notify_now(&self, task: TaskRef<'_>, event: TaskEvent<'_>) {
        if let Some(observer) = self.get() {
            observer.on_event(task, event);
        }
    }

    /// Notifies the observer of a task that is older than itself, unless that has been done. Returns the new state.
    #[cold]
    pub(crate) fn adopt(&self, task: TaskRef<'_>, status: impl FnOnce() -> Status) -> u64 {
        let flags = self.flags();
        let number = task.make_number();
        let before = task.state.set(flags);
        if before & COUNTED != 0 {
            // Another thread set the flags first, and notifies the observer.
        } else if flags & COUNTED != 0 {
            let name = self.count(task, CountedEvent::Submitted);
            if flags & WATCHED != 0 {
                self.watched.insert(number, task);
                let status = status();
                let (is_old, by, inputs) = (true, None, &[][..]);
                self.notify_now(task, TaskEvent::Created { name, status, is_old, by, inputs });
            }
        }
        before | flags
    }

    /// Removes a watched task that is about to be freed, and notifies the observer.
    #[cold]
    pub(crate) fn released(&self, number: u64) {
        self.watched.remove(number);
        if let Some(observer) = self.get() {
            observer.released(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_engine_has_no_observer() {
        assert!(!ObserverSlot::new(0).is_attached());
    }
}
