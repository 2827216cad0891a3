//! The engine of one client: its queues, its workers, its tables.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::closing::Life;
use super::header::Task;
use super::hook::Hook;
use super::injector::Injector;
use super::limits::Limits;
use super::local::{Local, Stealers};
use super::lock::Lock;
use super::memory;
use super::purse::Held;
use super::release::{Job, defer};
use super::seeded::Seeded;
use super::sleepers::Sleepers;
use super::started::Started;
use super::state::{AGAIN, STARTED};
use super::store::Store;
use super::sync::{AtomicU64, AtomicUsize, Ordering, fence};
use super::threads::Threads;
use super::urgent::Urgent;
use crate::Error;
use crate::error::forget_if_it_panics;

/// What is told of errors that nobody can see.
pub(crate) type Unobserved = Box<dyn Fn(&Error) + Send + Sync>;

/// Not of any protocol, so not one of `sync`.
static ENGINES: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

pub(crate) struct Core {
    /// Tasks, purses, clients and workers; see [`purse`].
    refs: AtomicUsize,
    /// Those of the references that aren't tasks or in purses.
    anchors: AtomicUsize,
    pub(crate) purses: Lock<Vec<Arc<Held>>>,
    pub(crate) life: Life,

    pub(crate) name: Cow<'static, str>,
    /// Another one for each engine of the process.
    pub(crate) id: usize,
    numbers: AtomicU64,
    /// There until the end.
    unobserved: Option<Unobserved>,

    pub(crate) injector: Injector,
    pub(crate) urgent: Urgent,
    pub(crate) seeded: Option<Seeded>,
    pub(crate) workers: Lock<Vec<Worker>>,
    /// Changes with `workers`.
    workers_version: AtomicUsize,
    pub(crate) sleepers: Sleepers,
    pub(crate) threads: Threads,

    pub(crate) started: Started,
    pub(crate) store: Store,
    pub(crate) limits: Limits,
    pub(crate) hook: Hook,
    /// When its clock began.
    pub(crate) began: Instant,
}

/// A worker that is being polled.
pub(crate) struct Worker {
    id: usize,
    /// Among those there are; a later worker may have it again.
    pub(crate) number: usize,
    own: bool,
    pub(crate) queues: Stealers,
}

/// A counted reference to an engine.
pub(crate) struct CoreRef(NonNull<Core>);

// SAFETY: an engine is used from many threads.
unsafe impl Send for CoreRef {}
// SAFETY: as above.
unsafe impl Sync for CoreRef {}

impl std::ops::Deref for CoreRef {
    type Target = Core;

    fn deref(&self) -> &Core {
        // SAFETY: this is a reference to it.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for CoreRef {
    fn clone(&self) -> Self {
        self.to_ref()
    }
}

impl Drop for CoreRef {
    fn drop(&mut self) {
        self.anchors.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: this is the reference that goes.
        unsafe { Core::drop_refs(self.0, 1) };
    }
}

impl CoreRef {
    pub(crate) fn new(
        name: Cow<'static, str>,
        seed: Option<u64>,
        limits: Limits,
        unobserved: Unobserved,
    ) -> Self {
        memory::engine_made();
        let core = Box::new(Core {
            refs: AtomicUsize::new(1),
            anchors: AtomicUsize::new(1),
            purses: Lock::default(),
            life: Life::new(),
            name,
            id: ENGINES.fetch_add(1, Ordering::Relaxed),
            numbers: AtomicU64::new(1),
            unobserved: Some(unobserved),
            injector: Injector::new(),
            urgent: Urgent::new(),
            seeded: seed.map(Seeded::new),
            workers: Lock::default(),
            workers_version: AtomicUsize::new(0),
            sleepers: Sleepers::default(),
            threads: Threads::default(),
            started: Started::new(),
            store: Store::new(),
            limits,
            hook: Hook::default(),
            began: Instant::now(),
        });
        Self(NonNull::from(Box::leak(core)))
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Foreign code, on whichever thread this happens to be.
        let hook = self.unobserved.take();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(hook))) {
            forget_if_it_panics(payload);
        }
        memory::engine_gone();
    }
}

impl Core {
    pub(crate) fn to_ref(&self) -> CoreRef {
        self.anchors.fetch_add(1, Ordering::Relaxed);
        self.add_refs(1);
        CoreRef(NonNull::from(self))
    }

    pub(crate) fn add_refs(&self, n: usize) {
        self.refs.fetch_add(n, Ordering::Relaxed);
    }

    /// # Safety
    ///
    /// The caller gives away `n` references.
    pub(crate) unsafe fn drop_refs(core: NonNull<Self>, n: usize) {
        // SAFETY: the caller's references keep it until here; who drops the last one frees it.
        unsafe {
            if n > 0 && core.as_ref().refs.fetch_sub(n, Ordering::AcqRel) == n {
                defer(Job::FreeCore(Box::from_raw(core.as_ptr())));
            }
        }
    }

    /// How many tasks are in memory. Exact while nothing happens.
    pub(crate) fn held(&self) -> usize {
        let purses: usize = self.purses.lock().iter().map(|purse| purse.get()).sum();
        let others = self.anchors.load(Ordering::SeqCst) + purses;
        self.refs.load(Ordering::SeqCst).saturating_sub(others)
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The time on the engine's clock, which is the virtual one of a seeded client.
    pub(crate) fn now(&self) -> Duration {
        self.seeded.as_ref().map_or_else(|| self.began.elapsed(), |seeded| seeded.clock.now())
    }

    /// From 0 to 1; the same ones in the same order for a seeded client.
    pub(crate) fn random(&self) -> f64 {
        self.seeded.as_ref().map_or_else(fastrand::f64, Seeded::random)
    }

    pub(crate) fn unobserved(&self, error: &Error) {
        let Some(hook) = &self.unobserved else { return };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| hook(error))) {
            log::error!("ensue: the hook for unobserved errors panicked on: {error}");
            forget_if_it_panics(payload);
        }
    }

    /// Foreign code panicked where no task can have the error.
    pub(crate) fn stray_panic(&self, text: &str) {
        self.unobserved(&Error::stray(text));
    }

    // Queues

    /// Queues a task: at the end of the worker's own queue, or of the shared one.
    pub(crate) fn schedule(&self, task: Task, local: Option<&Local>) {
        let state = task.state.load();
        if self.refuses(state) {
            // Without a look at all that is queued, which is for those who were here before it was closed.
            return self.refuse(&task);
        }
        let is_new = state & STARTED == 0;
        self.enqueue(task, local);
        self.pushed(is_new);
    }

    pub(crate) fn enqueue(&self, task: Task, local: Option<&Local>) {
        let priority = task.priority();
        if let Some(seeded) = &self.seeded {
            seeded.push(priority, task);
        } else if priority != 0 || task.state.load() & AGAIN != 0 {
            self.urgent.push(priority, task);
        } else if let Some(local) = local {
            local.push(task);
            // Before looking for sleepers.
            fence(Ordering::SeqCst);
        } else {
            self.injector.push(task);
        }
    }

    /// Queues tasks, at once.
    pub(crate) fn schedule_all(&self, tasks: &mut Vec<Task>, local: Option<&Local>) {
        tasks.retain(|task| {
            // As in `schedule`.
            let refused = self.refuses(task.state.load());
            if refused {
                self.refuse(task);
            }
            !refused
        });
        if tasks.is_empty() {
            return;
        }
        let any_new = tasks.iter().any(|task| task.state.load() & STARTED == 0);
        let plain = self.seeded.is_none() && tasks.iter().all(Self::is_plain);
        match local {
            None if plain => self.injector.push_all(tasks.drain(..)),
            Some(local) if plain => {
                tasks.drain(..).for_each(|task| local.push(task));
                // As in `enqueue`.
                fence(Ordering::SeqCst);
            }
            _ => tasks.drain(..).for_each(|task| self.enqueue(task, local)),
        }
        self.pushed(any_new);
    }

    /// Whether a task may go into the queue that links its tasks.
    fn is_plain(task: &Task) -> bool {
        task.priority() == 0 && task.state.load() & AGAIN == 0
    }

    /// After something was queued: new tasks among it, or only started ones.
    pub(crate) fn pushed(&self, any_new: bool) {
        if self.seeded.is_some() {
            // Some that sleep may have lost interest.
            self.sleepers.wake_all();
        } else {
            self.sleepers.wake_one();
        }
        // While closing, started tasks go on, as long as somebody runs them.
        if self.is_closed() && (any_new || self.is_aborted() || self.nobody_runs()) {
            self.sweep();
        }
    }

    pub(crate) fn has_queued(&self) -> bool {
        !self.injector.is_empty()
            || !self.urgent.is_empty()
            || self.seeded.as_ref().is_some_and(|seeded| !seeded.is_empty())
            || self.workers.lock().iter().any(|worker| !worker.queues.is_empty())
    }

    // Workers

    /// Adds a worker, and returns the lowest number that no other has.
    pub(crate) fn add_worker(&self, id: usize, own: bool, queues: Stealers) -> usize {
        let mut workers = self.workers.lock();
        let is_free = |number: &usize| workers.iter().all(|worker| worker.number != *number);
        let number = (0..=workers.len()).find(is_free).unwrap_or_default();
        workers.push(Worker { id, number, own, queues });
        drop(workers);
        self.workers_version.fetch_add(1, Ordering::SeqCst);
        number
    }

    pub(crate) fn remove_worker(&self, id: usize, own: bool) {
        self.workers.lock().retain(|worker| worker.id != id);
        self.workers_version.fetch_add(1, Ordering::SeqCst);
        if self.is_closed() {
            if self.nobody_runs() {
                self.refuse_started(|_| true);
                // What is in the queues now has ended, and nobody will come to take it out.
                self.sweep();
            }
            if own {
                // Who closes waits for the client's own threads only.
                self.life.changed.notify(usize::MAX);
            }
        }
        self.maybe_idle();
    }

    pub(crate) fn workers_version(&self) -> usize {
        self.workers_version.load(Ordering::Acquire)
    }

    pub(crate) fn other_workers(&self, id: usize) -> Vec<Stealers> {
        let workers = self.workers.lock();
        let others = workers.iter().filter(|worker| worker.id != id);
        others.map(|worker| worker.queues.clone()).collect()
    }

    /// Those that are polled by others than the client itself.
    pub(crate) fn driven(&self) -> usize {
        self.workers.lock().iter().filter(|worker| !worker.own).count()
    }

    /// There are no workers, and no threads that are about to be ones.
    pub(crate) fn nobody_runs(&self) -> bool {
        self.driven() + self.threads.alive() == 0
    }

    /// Those that have been polled, and not left.
    pub(crate) fn workers(&self) -> usize {
        self.workers.lock().len()
    }
}
