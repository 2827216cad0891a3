//! What happens to tasks, told to whoever observes.
//!
//! There is one observer at most, and it stays. Without one, a new task costs one relaxed load of a word that
//! hardly ever changes, and nothing after that: what is told later is told of tasks with [`WATCHED`] in their
//! state, which is looked at anyway.

use std::any::Any;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};

use crate::Status;
use crate::engine::task::header::{PausedFor, TaskRef};
use crate::engine::task::state::{COUNTED, WATCHED};
use crate::engine::watch::counters::{self, CountedEvent, CounterTable};
use crate::engine::watch::watched::Watched;

/// Is told of tasks, on the thread where it happens, and must be quick. No lock of the engine's is held but for
/// [`released`](Observer::released), which may run anywhere and must run nothing foreign.
pub(crate) trait Observer: Send + Sync {
    /// What every new task looks at.
    fn demand(&self) -> &Demand;

    /// Whether a new task is to be watched. Others are counted only.
    fn wants(&self) -> bool;

    /// What it knows a function's name by, of a task that wasn't given one.
    fn name(&self, task: TaskRef<'_>) -> u32;

    /// Counts a task by the name that it was given, or by its function's where that isn't in a table. Returns what
    /// it knows the name by.
    fn count(&self, task: TaskRef<'_>, event: CountedEvent) -> u32;

    /// A thread has begun to count in this table.
    fn read(&self, table: Arc<CounterTable>);

    /// Something happened to a task that is watched.
    fn on_event(&self, task: TaskRef<'_>, event: TaskEvent<'_>);

    /// A watched task's memory is freed.
    fn released(&self, number: u64);

    /// The engine is closed, or was before.
    fn closed(&self);

    /// So that who has put it here finds it again.
    fn as_any(&self) -> &(dyn Any + Send + Sync);
}

/// What happens to a task.
#[derive(Clone, Copy)]
pub(crate) enum TaskEvent<'a> {
    /// It was made, or is run again by a retry, or the observer comes to know of it.
    Created {
        /// What the observer knows its name by.
        name: u32,
        /// `Waiting` or `Ready`, where it doesn't end as it begins.
        status: Status,
        /// It was there before anybody observed.
        is_old: bool,
        /// The number of the task that has submitted it.
        by: Option<u64>,
        /// The numbers of the watched ones among its inputs.
        inputs: &'a [u64],
    },
    /// It waits for a worker.
    Ready,
    /// A worker polls it.
    Polled { worker: usize },
    /// A poll is over and the task goes on later. Tells the watched tasks that it awaits.
    Suspended { awaits: &'a [u64] },
    /// It awaits many tasks together.
    Awaits(&'a [u64]),
    /// It gives up running for a while: for a limit, or until the attempt with this number.
    Paused { why: PausedFor, attempt: u32 },
    /// It runs on.
    Resumed,
    /// It has its outcome.
    Ended(Status),
}

/// Whether an observer is to be asked about new tasks, for some of them or for all.
pub(crate) struct Demand(AtomicU64);

/// One who wants all; a lower bit says that some are demand.
const ALL: u64 = 2;
const SOME: u64 = 1;

impl Demand {
    /// Of some.
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

    /// One more who wants all.
    pub(crate) fn add_all(&self) {
        self.0.fetch_add(ALL, Ordering::SeqCst);
    }

    pub(crate) fn remove_all(&self) {
        self.0.fetch_sub(ALL, Ordering::SeqCst);
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
    /// What the observer wants; null without one.
    demand: AtomicPtr<Demand>,
    observer: OnceLock<Arc<dyn Observer>>,
    /// The tasks that it's told of.
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

    /// Puts an observer here, unless there is one.
    pub(crate) fn attach(&self, observer: impl FnOnce() -> Arc<dyn Observer>) {
        let demand = ptr::from_ref(self.observer.get_or_init(observer).demand());
        self.demand.store(demand.cast_mut(), Ordering::Release);
    }

    pub(crate) fn get(&self) -> Option<&dyn Observer> {
        self.observer.get().map(|observer| &**observer)
    }

    pub(crate) fn is_attached(&self) -> bool {
        !self.demand.load(Ordering::Relaxed).is_null()
    }

    /// What a new task has in its state.
    pub(crate) fn flags(&self) -> u64 {
        let demand = self.demand.load(Ordering::Relaxed);
        if demand.is_null() {
            return 0;
        }
        fence(Ordering::Acquire);
        // SAFETY: it's the observer's, which stays in place as long as this does.
        if unsafe { &*demand }.any() { self.flags_now() } else { COUNTED }
    }

    #[cold]
    fn flags_now(&self) -> u64 {
        match self.get() {
            Some(observer) if observer.wants() => WATCHED | COUNTED,
            _ => COUNTED,
        }
    }

    /// Counts an event of a task, and returns what the observer knows the name of its function by.
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

    /// Tells of a task that has this state.
    pub(crate) fn notify(&self, task: TaskRef<'_>, state: u64, event: TaskEvent<'_>) {
        if state & WATCHED != 0 {
            self.notify_now(task, event);
        }
    }

    /// Tells that a task, which has this state, has ended in this way.
    #[inline]
    pub(crate) fn notify_ended(&self, task: TaskRef<'_>, state: u64, how: impl FnOnce() -> Status) {
        if state & COUNTED != 0 {
            self.ended(task, state, how());
        }
    }

    /// Apart, so that a task that isn't counted saves no registers for it.
    #[inline(never)]
    fn ended(&self, task: TaskRef<'_>, state: u64, status: Status) {
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

    /// Tells of a task that was made before anybody observed, unless that has been done.
    #[cold]
    pub(crate) fn adopt(&self, task: TaskRef<'_>, status: impl FnOnce() -> Status) -> u64 {
        let flags = self.flags();
        let number = task.make_number();
        let before = task.state.set(flags);
        if before & COUNTED != 0 {
            // Somebody else was quicker.
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

    /// The memory of a watched task is about to be freed.
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
    fn nobody_listens_at_first() {
        assert!(!ObserverSlot::new(0).is_attached());
    }
}
