//! The engine of one client: its queues, workers and tables, and the references that keep it in memory.

use std::any::Any;
use std::borrow::Cow;
use std::mem::offset_of;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Error;
use crate::engine::base::deferred::{Job, defer};
use crate::engine::base::lock::Lock;
use crate::engine::base::sync::{AtomicBool, AtomicU64, AtomicUsize, HOOKS_HAVE_LOCALS, Ordering};
use crate::engine::base::user_code::{self, log_error};
use crate::engine::core::activity::{Activity, SeenPoll};
use crate::engine::core::context;
use crate::engine::core::engine_refs::PooledRefs;
use crate::engine::core::shutdown_state::ShutdownState;
use crate::engine::core::threads::{ThreadOptions, Threads};
use crate::engine::data::cell_pool;
use crate::engine::data::limits::Limits;
use crate::engine::data::store::Store;
use crate::engine::fork::job::Jobs;
use crate::engine::queue::idle::IdleWorkers;
use crate::engine::queue::local::Stealers;
use crate::engine::queue::owned_tasks::OwnedTasks;
use crate::engine::queue::priority_queue::PriorityQueue;
use crate::engine::queue::seeded::Seeded;
use crate::engine::queue::shared::Shared;
use crate::engine::task::header::{EngineHead, Header};
use crate::engine::task::inherited::AwaitedGroup;
use crate::engine::watch::observer::ObserverSlot;
use crate::task::error::forget_if_it_panics;
use crate::task::panic_place;

/// The hook for errors that no caller observed.
pub(crate) type Unobserved = Box<dyn Fn(&Error) + Send + Sync>;

/// The number of engines created so far. Not from `sync`, because no protocol between threads depends on it.
static ENGINES: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

pub(crate) struct Core {
    /// The part that the headers of its tasks point to.
    head: EngineHead,
    /// The pointer that its memory was allocated as. All counted references are copies of it, since a pointer that comes
    /// from a `&Core` may not free the engine.
    origin: Origin,
    /// References of tasks, clients and workers, and those in the threads' pools; see
    /// [`engine_refs`](crate::engine::core::engine_refs). With 64 bits, references that are forgotten in a loop don't
    /// overflow it on any target.
    refs: AtomicU64,
    /// The references that belong neither to tasks nor to pools, to compute the number of tasks.
    anchors: AtomicU64,
    pub(crate) ref_pools: Lock<Vec<Arc<PooledRefs>>>,
    pub(crate) shutdown: ShutdownState,

    pub(crate) name: Cow<'static, str>,
    /// Unique in the process.
    pub(crate) id: usize,
    /// `None` only while the engine is dropped.
    unobserved: Option<Unobserved>,

    pub(crate) injector: Shared,
    pub(crate) priority_queue: PriorityQueue,
    pub(crate) seeded: Option<Seeded>,
    /// The branches of joins that a worker may take.
    pub(crate) jobs: Jobs,
    pub(crate) workers: Lock<Vec<Worker>>,
    /// Increases with each change of `workers`, so that workers can cache the list.
    workers_version: AtomicUsize,
    pub(crate) idle_workers: IdleWorkers,
    pub(crate) threads: Threads,

    pub(crate) owned_tasks: OwnedTasks,
    pub(crate) store: Store,
    pub(crate) limits: Limits,
    pub(crate) observer: ObserverSlot,
    /// Whether there are tasks that pass something on to those that they submit.
    pub(crate) inherits: AtomicBool,
    /// The groups that tasks wait for, with the addresses of these tasks, which stay as long.
    pub(crate) awaited_groups: Lock<Vec<(usize, Arc<AwaitedGroup>)>>,
    /// The start of its clock.
    pub(crate) began: Instant,
}

/// A worker that was polled at least once and has not exited.
pub(crate) struct Worker {
    id: usize,
    /// Unique among the present workers; a later worker may get it again.
    pub(crate) number: usize,
    /// Runs on a thread of the client's.
    own: bool,
    activity: Arc<Activity>,
    /// The number of the poll that was seen last, and when it was seen first.
    seen: Option<(usize, Instant)>,
    pub(crate) queues: Stealers,
}

/// A poll of a task that a worker is in.
pub(crate) struct CurrentPoll {
    /// The number of the worker.
    pub(crate) worker: usize,
    pub(crate) poll: SeenPoll,
    /// The time since it was first seen; `None` if that is now. It may have begun long before.
    pub(crate) lasted: Option<Duration>,
    activity: Arc<Activity>,
}

impl CurrentPoll {
    /// Whether it goes on.
    pub(crate) fn goes_on(&self) -> bool {
        self.activity.is_in(&self.poll)
    }
}

struct Origin(NonNull<Core>);

// SAFETY: an address by itself; whoever uses it has a reference to the engine.
unsafe impl Send for Origin {}
// SAFETY: as above.
unsafe impl Sync for Origin {}

/// A counted reference to an engine.
pub(crate) struct CoreRef(NonNull<Core>);

// SAFETY: an engine is `Sync`, by its atomics and locks, and may be freed on any thread.
unsafe impl Send for CoreRef {}
// SAFETY: as above.
unsafe impl Sync for CoreRef {}

impl std::ops::Deref for CoreRef {
    type Target = Core;

    fn deref(&self) -> &Core {
        // SAFETY: this reference keeps the engine in memory.
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
        // SAFETY: this gives away the reference that is being dropped.
        unsafe { Core::drop_refs(self.0, 1) };
    }
}

impl CoreRef {
    pub(crate) fn new(
        name: Cow<'static, str>,
        seed: Option<u64>,
        limits: Limits,
        unobserved: Unobserved,
        threads: ThreadOptions,
    ) -> Self {
        cell_pool::engine_created();
        user_code::report_panics_to(context::report_panic);
        if HOOKS_HAVE_LOCALS {
            panic_place::watch(context::is_at_work);
        }
        let id = ENGINES.fetch_add(1, Ordering::Relaxed);
        let threads = Threads::new(name.clone(), threads);
        let origin = NonNull::from(Box::leak(Box::<Core>::new_uninit())).cast::<Core>();
        let core = Core {
            head: EngineHead::new(),
            origin: Origin(origin),
            refs: AtomicU64::new(1),
            anchors: AtomicU64::new(1),
            ref_pools: Lock::default(),
            shutdown: ShutdownState::new(),
            name,
            id,
            unobserved: Some(unobserved),
            injector: Shared::new(),
            priority_queue: PriorityQueue::new(),
            seeded: seed.map(Seeded::new),
            jobs: Jobs::default(),
            workers: Lock::default(),
            workers_version: AtomicUsize::new(0),
            idle_workers: IdleWorkers::default(),
            threads,
            owned_tasks: OwnedTasks::default(),
            store: Store::new(),
            limits,
            observer: ObserverSlot::new(id),
            inherits: AtomicBool::new(false),
            awaited_groups: Lock::default(),
            began: Instant::now(),
        };
        // SAFETY: the memory was allocated for it just now.
        unsafe { origin.write(core) };
        Self(origin)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.idle_workers.clear();
        // User code, on whichever thread dropped the last reference: a panic must not unwind into that.
        let hook = self.unobserved.take();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(hook))) {
            forget_if_it_panics(payload);
        }
        cell_pool::engine_dropped();
    }
}

/// # Safety
///
/// The pointer is the origin of an engine created by [`CoreRef::new`], whose last reference was dropped.
unsafe fn free(core: NonNull<()>) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(core.cast::<Core>().as_ptr()) });
}

impl Header {
    /// Returns the engine of this task.
    pub(crate) fn core(&self) -> &Core {
        // SAFETY: `Core::head_of` derived the pointer from one to the whole engine, which the reference of this
        // task's cell keeps in memory.
        unsafe { self.engine().byte_sub(offset_of!(Core, head)).cast().as_ref() }
    }
}

impl Core {
    /// Returns the part that tasks point to. The pointer keeps the provenance of the whole engine.
    pub(crate) fn head_of(core: NonNull<Self>) -> NonNull<EngineHead> {
        // SAFETY: the pointer is one to an engine, and the field is within it.
        unsafe { core.byte_add(offset_of!(Core, head)).cast() }
    }

    pub(crate) fn to_ref(&self) -> CoreRef {
        self.anchors.fetch_add(1, Ordering::Relaxed);
        self.add_refs(1);
        CoreRef(self.origin())
    }

    /// Returns the pointer for a counted reference.
    pub(crate) fn origin(&self) -> NonNull<Self> {
        self.origin.0
    }

    pub(crate) fn add_refs(&self, n: usize) {
        self.refs.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// # Safety
    ///
    /// The pointer is the engine's origin. The caller gives away `n` references, and doesn't use the engine by them after
    /// this.
    pub(crate) unsafe fn drop_refs(core: NonNull<Self>, n: usize) {
        let n = n as u64;
        // SAFETY: the caller's references keep the engine in memory until the subtraction. The thread that drops the
        // last one is the only one left to use the engine. Freeing it runs user code, so that is deferred.
        unsafe {
            if n > 0 && core.as_ref().refs.fetch_sub(n, Ordering::AcqRel) == n {
                defer(Job::new(core.cast(), free));
            }
        }
    }

    /// Returns the number of tasks in memory. Exact only while no task is created or freed.
    pub(crate) fn tasks_in_memory(&self) -> usize {
        let pooled: u64 = self.ref_pools.lock().iter().map(|pool| pool.get() as u64).sum();
        let others = self.anchors.load(Ordering::SeqCst) + pooled;
        self.refs.load(Ordering::SeqCst).saturating_sub(others) as usize
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.head.next_number()
    }

    /// Returns the time since the start of the engine's clock, which is virtual for a seeded client.
    pub(crate) fn now(&self) -> Duration {
        self.seeded.as_ref().map_or_else(|| self.began.elapsed(), |seeded| seeded.clock.now())
    }

    /// Returns a random number from 0 to 1. A seeded client has the same sequence for the same seed.
    pub(crate) fn random(&self) -> f64 {
        self.seeded.as_ref().map_or_else(fastrand::f64, Seeded::random)
    }

    /// Passes an error to the hook for unobserved errors.
    pub(crate) fn unobserved(&self, error: &Error) {
        let Some(hook) = &self.unobserved else { return };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| hook(error))) {
            log_error(format_args!("the hook for unobserved errors panicked on: {error:#}"));
            forget_if_it_panics(payload);
        }
    }

    /// Reports a panic of user code that belongs to no task as an unobserved error.
    pub(crate) fn report_panic(&self, payload: Box<dyn Any + Send>) {
        self.unobserved(&Error::stray(payload));
    }

    /// Runs user code, and reports a panic to this engine.
    pub(crate) fn run_user_code(&self, code: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(code)) {
            self.report_panic(payload);
        }
    }

    /// Whether a task, or a branch of one, is in a queue that any worker can take it from.
    pub(crate) fn has_queued(&self) -> bool {
        !self.injector.is_empty()
            || self.jobs.len() > 0
            || !self.priority_queue.is_empty()
            || self.seeded.as_ref().is_some_and(|seeded| !seeded.is_empty())
            || self.workers.lock().iter().any(|worker| !worker.queues.is_empty())
    }

    /// Adds a worker, and returns its number: the lowest that no other worker has.
    pub(crate) fn add_worker(
        &self,
        id: usize,
        own: bool,
        activity: Arc<Activity>,
        queues: Stealers,
    ) -> usize {
        let mut workers = self.workers.lock();
        let is_free = |number: &usize| workers.iter().all(|worker| worker.number != *number);
        let number = (0..=workers.len()).find(is_free).unwrap_or_default();
        workers.push(Worker { id, number, own, activity, seen: None, queues });
        drop(workers);
        self.workers_version.fetch_add(1, Ordering::SeqCst);
        number
    }

    pub(crate) fn remove_worker(&self, id: usize) {
        self.workers.lock().retain(|worker| worker.id != id);
        self.workers_version.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn workers_version(&self) -> usize {
        self.workers_version.load(Ordering::Acquire)
    }

    pub(crate) fn other_workers(&self, id: usize) -> Vec<Stealers> {
        let workers = self.workers.lock();
        let others = workers.iter().filter(|worker| worker.id != id);
        others.map(|worker| worker.queues.clone()).collect()
    }

    /// Returns the number of workers that run outside the client's own threads.
    pub(crate) fn hosted_workers(&self) -> usize {
        self.workers.lock().iter().filter(|worker| !worker.own).count()
    }

    /// Returns the number of workers outside the client's own threads that could run tasks and aren't being polled.
    pub(crate) fn unpolled_workers(&self) -> usize {
        let is_unpolled =
            |worker: &&Worker| !worker.own && !worker.activity.is_hosted.load(Ordering::Relaxed);
        let ids: Vec<_> =
            self.workers.lock().iter().filter(is_unpolled).map(|worker| worker.id).collect();
        ids.into_iter().filter(|id| !self.idle_workers.contains(*id)).count()
    }

    /// Returns the polls of tasks that the workers are in. They are recognized by the next call, which knows how long they
    /// have lasted since this one; a seeded client's time is another, so that isn't told for its polls.
    pub(crate) fn current_polls(&self) -> Vec<CurrentPoll> {
        let now = Instant::now();
        let mut polls = Vec::new();
        for worker in self.workers.lock().iter_mut() {
            let poll = worker.activity.poll();
            let before = worker.seen.take();
            let Some(poll) = poll else { continue };
            let since = before.filter(|(number, _)| *number == poll.number());
            worker.seen = since.or(Some((poll.number(), now)));
            let since = since.filter(|_| self.seeded.is_none());
            let lasted = since.map(|(_, since)| now.saturating_duration_since(since));
            let activity = worker.activity.clone();
            polls.push(CurrentPoll { worker: worker.number, poll, lasted, activity });
        }
        polls
    }

    /// Whether there is no worker, and no thread that is about to become one.
    pub(crate) fn has_no_workers(&self) -> bool {
        self.hosted_workers() + self.threads.alive() == 0
    }

    /// Returns the number of workers that were polled at least once and have not exited.
    pub(crate) fn workers(&self) -> usize {
        self.workers.lock().len()
    }
}
