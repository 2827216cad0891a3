//! The engine of one client: its queues, its workers, its tables, and how it closes.
//!
//! # Closing
//!
//! 1. `closed` is set; from here on whoever queues a task that hasn't started ends it instead.
//! 2. The queues are swept, and started tasks that wait between attempts are ended; on an abort, all
//!    started tasks. What waits for any of them ends by that.
//! 3. Workers go on until no started task is left, and leave.
//!
//! A task that is being submitted or woken meanwhile is seen by the sweep, or its pusher sees `closed`
//! after the push and sweeps.

use std::borrow::Cow;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
use std::task::Poll;

use event_listener::Event;

use super::context;
use super::finish;
use super::header::{Task, TaskRef};
use super::hook::Hook;
use super::injector::Injector;
use super::limits::Limits;
use super::local::{Local, Stealers};
use super::lock::Lock;
use super::purse::{self, Held};
use super::seeded::Seeded;
use super::sleepers::Sleepers;
use super::started::Started;
use super::state::{LISTED, PARKED, QUEUED, RUNNING, STARTED};
use super::store::Store;
use super::threads::Threads;
use super::urgent::Urgent;
use super::worker;
use crate::Error;
use crate::error::forget_if_it_panics;

const OPEN: u8 = 0;
const CLOSING: u8 = 1;
const ABORTED: u8 = 2;

/// What is told of errors that nobody can see.
pub(crate) type Unobserved = Box<dyn Fn(&Error) + Send + Sync>;

pub(crate) struct Core {
    /// Tasks, purses, clients and workers; see [`purse`].
    refs: AtomicUsize,
    /// Those of the references that aren't tasks or in purses.
    anchors: AtomicUsize,
    pub(crate) purses: Lock<Vec<Arc<Held>>>,
    clients: AtomicUsize,
    closed: AtomicU8,

    pub(crate) name: Cow<'static, str>,
    numbers: AtomicU64,
    /// There until the end.
    unobserved: Option<Unobserved>,

    pub(crate) injector: Injector,
    pub(crate) urgent: Urgent,
    pub(crate) seeded: Option<Seeded>,
    workers: Lock<Vec<Worker>>,
    /// Changes with `workers`.
    workers_version: AtomicUsize,
    pub(crate) sleepers: Sleepers,
    pub(crate) threads: Threads,

    pub(crate) started: Started,
    pub(crate) store: Store,
    pub(crate) limits: Limits,
    pub(crate) hook: Hook,

    /// How often this engine was seen to be idle.
    idle_count: AtomicUsize,
    /// Tasks that wait for this engine to be idle or closed, and so don't count.
    exempt: AtomicUsize,
    changed: Event,
}

/// A worker that is being polled.
struct Worker {
    id: usize,
    own: bool,
    queues: Stealers,
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
        let core = Box::new(Core {
            refs: AtomicUsize::new(1),
            anchors: AtomicUsize::new(1),
            purses: Lock::default(),
            clients: AtomicUsize::new(1),
            closed: AtomicU8::new(OPEN),
            name,
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
            idle_count: AtomicUsize::new(0),
            exempt: AtomicUsize::new(0),
            changed: Event::new(),
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
            if n > 0 && core.as_ref().refs.fetch_sub(n, Ordering::Release) == n {
                fence(Ordering::Acquire);
                drop(Box::from_raw(core.as_ptr()));
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
        self.enqueue(task, local);
        self.pushed();
    }

    fn enqueue(&self, task: Task, local: Option<&Local>) {
        let priority = task.priority();
        if let Some(seeded) = &self.seeded {
            seeded.push(priority, task);
        } else if priority != 0 {
            self.urgent.push(priority, task);
        } else if let Some(local) = local {
            local.push(task);
        } else {
            self.injector.push(task);
        }
    }

    /// Queues a task that a finished one has just made ready: it goes first.
    pub(crate) fn schedule_next(&self, task: Task, local: Option<&Local>) {
        match local {
            Some(local) if task.priority() == 0 && self.seeded.is_none() => {
                if local.push_next(task) {
                    self.pushed();
                }
            }
            _ => self.schedule(task, local),
        }
    }

    /// Queues new tasks, at once.
    pub(crate) fn schedule_all(&self, tasks: Vec<Task>, local: Option<&Local>) {
        let plain = self.seeded.is_none() && tasks.iter().all(|task| task.priority() == 0);
        if plain && local.is_none() {
            self.injector.push_all(tasks);
            self.pushed();
        } else {
            for task in tasks {
                self.schedule(task, local);
            }
        }
    }

    fn pushed(&self) {
        if self.seeded.is_some() {
            // Some that sleep may have lost interest.
            self.sleepers.wake_all();
        } else {
            self.sleepers.wake_one();
        }
        if self.is_closed() {
            self.sweep();
        }
    }

    /// Queues a ready task a second time, where its raised priority says.
    fn schedule_again(&self, task: Task) {
        let priority = task.priority();
        match &self.seeded {
            Some(seeded) => seeded.push(priority, task),
            None => self.urgent.push(priority, task),
        }
        self.pushed();
    }

    pub(crate) fn has_queued(&self) -> bool {
        !self.injector.is_empty()
            || !self.urgent.is_empty()
            || self.seeded.as_ref().is_some_and(|seeded| !seeded.is_empty())
            || self.workers.lock().iter().any(|worker| !worker.queues.is_empty())
    }

    /// Raises the priority of a task, and of all that it waits for, to at least `priority`.
    pub(crate) fn raise(task: TaskRef<'_>, priority: i32) {
        if task.priority() >= priority {
            return;
        }
        let mut tasks = vec![task.to_task()];
        while let Some(task) = tasks.pop() {
            if !task.waiters.is_closed()
                && task.priority.fetch_max(priority, Ordering::Relaxed) < priority
            {
                Self::apply_raise(task, &mut tasks);
            }
        }
    }

    /// Does for a task whose priority was raised what follows from that; `tasks` get those it waits for.
    fn apply_raise(task: Task, tasks: &mut Vec<Task>) {
        if task.count.hold_to_look() {
            // SAFETY: a task that is held stays in its waiting stage; then the hold is ours.
            unsafe {
                (task.vtable.edges)(task.as_ref().as_ptr(), &mut |edge| {
                    tasks.push(edge.task().to_task());
                });
                if task.count.release(1) {
                    finish::was_last(task.as_ref().as_ptr(), false);
                }
            }
            return;
        }
        if task.count.is_waiting() {
            // Its submitter will see, when it's through.
            return;
        }
        let state = task.state.load();
        if state & QUEUED != 0 {
            task.core().to_ref().schedule_again(task);
        } else if state & RUNNING == 0 {
            let all_known = task.core().started.awaited(task.as_ref(), tasks);
            if (!all_known || state & PARKED != 0) && task.state.wake() {
                // It knows best what to make of it.
                // SAFETY: waking a suspended task hands over the engine's reference.
                context::schedule(unsafe { Task::from_raw(task.as_ref().as_ptr()) });
            }
        }
    }

    /// Has what a new task waits for take its priority, where that was raised while it was built.
    pub(crate) fn lend_again(task: TaskRef<'_>, lent: i32) {
        let priority = task.priority();
        if priority > lent {
            let mut tasks = Vec::new();
            Self::apply_raise(task.to_task(), &mut tasks);
            tasks.iter().for_each(|task| Self::raise(task.as_ref(), priority));
        }
    }

    // Workers

    pub(crate) fn add_worker(&self, id: usize, own: bool, queues: Stealers) {
        self.workers.lock().push(Worker { id, own, queues });
        self.workers_version.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn remove_worker(&self, id: usize) {
        self.workers.lock().retain(|worker| worker.id != id);
        self.workers_version.fetch_add(1, Ordering::SeqCst);
        if self.is_closed() {
            if self.workers() == 0 {
                self.refuse_started(|_| true);
            }
            self.changed.notify(usize::MAX);
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

    pub(crate) fn workers(&self) -> usize {
        self.workers.lock().len()
    }

    // Life

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst) != OPEN
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.closed.load(Ordering::SeqCst) == ABORTED
    }

    pub(crate) fn add_client(&self) {
        self.clients.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn drop_client(&self) {
        if self.clients.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.begin_close(true);
        }
        if self.is_closed() {
            purse::empty(self);
        }
    }

    pub(crate) fn begin_close(&self, abort: bool) {
        self.closed.fetch_max(if abort { ABORTED } else { CLOSING }, Ordering::SeqCst);
        self.sweep();
        let nobody_runs = abort || self.workers() == 0;
        self.refuse_started(|task| {
            nobody_runs || task.state.load() & PARKED != 0 || task.count.is_waiting()
        });
        self.sleepers.wake_all();
        self.changed.notify(usize::MAX);
    }

    /// Ends started tasks at their next await. One that is in a poll may have no further await, and is
    /// looked at when it's put into a queue after that.
    fn refuse_started(&self, which: impl Fn(&Task) -> bool) {
        for task in self.started.list().into_iter().filter(which) {
            if task.state.load() & RUNNING == 0 {
                self.refuse(&task);
            } else if task.state.wake() {
                // SAFETY: waking a suspended task hands over the engine's reference.
                context::schedule(unsafe { Task::from_raw(task.as_ref().as_ptr()) });
            }
        }
    }

    /// Whether a task that a worker is about to run, or has just run, is to end instead.
    pub(crate) fn refuses(&self, state_before: u64) -> bool {
        match self.closed.load(Ordering::Relaxed) {
            OPEN => false,
            CLOSING => state_before & STARTED == 0,
            _ => true,
        }
    }

    pub(crate) fn refuse(&self, task: &Task) {
        if !task.waiters.is_closed() {
            finish::doom(task.as_ref(), Error::closed(task.key().clone()));
        }
    }

    /// Ends the tasks in the queues that won't run any more, and drops stale entries.
    fn sweep(&self) {
        let mut tasks = Vec::new();
        self.injector.take(usize::MAX, |task| tasks.push(task));
        tasks.extend(std::iter::from_fn(|| self.urgent.pop()));
        tasks.extend(self.seeded.iter().flat_map(|seeded| std::iter::from_fn(|| seeded.pop())));
        for worker in &*self.workers.lock() {
            tasks.extend(std::iter::from_fn(|| worker.queues.steal_one()));
        }
        let mut others = Vec::new();
        for task in tasks {
            let state = task.state.load();
            if self.refuses(state) {
                self.refuse(&task);
            } else if state & QUEUED != 0 {
                others.push(task);
            }
        }
        if !others.is_empty() {
            others.into_iter().for_each(|task| self.enqueue(task, None));
            self.sleepers.wake_one();
        }
    }

    /// No task is left but those that wait for just that.
    fn is_done(&self) -> bool {
        self.started.len() <= self.exempt.load(Ordering::SeqCst)
    }

    /// Whether a worker that found nothing to do is to leave.
    pub(crate) fn may_leave(&self) -> bool {
        self.is_closed() && self.is_done()
    }

    pub(crate) fn exempt(&self) -> usize {
        self.exempt.load(Ordering::SeqCst)
    }

    fn is_idle(&self) -> bool {
        let workers = self.workers();
        if workers == 0 {
            // What was cancelled in a queue is still there: with nobody to run it, nobody noticed.
            let is_queued = |task: &Task| task.state.load() & QUEUED != 0;
            self.injector.retain(is_queued);
            self.urgent.retain(is_queued);
            self.seeded.iter().for_each(|seeded| seeded.retain(is_queued));
        }
        self.is_done() && self.sleepers.asleep() >= workers && !self.has_queued()
    }

    /// A started task has ended, or counts no more: workers may have to leave.
    pub(crate) fn maybe_done(&self) {
        if self.is_closed() && self.is_done() {
            self.sleepers.wake_all();
            self.changed.notify(usize::MAX);
        } else {
            self.maybe_idle();
        }
    }

    /// Whether anybody waits for this engine to be idle or closed.
    pub(crate) fn is_watched(&self) -> bool {
        self.changed.total_listeners() > 0
    }

    /// Something happened after which the engine may be idle.
    pub(crate) fn maybe_idle(&self) {
        if self.is_watched() && self.is_idle() {
            self.idle_count.fetch_add(1, Ordering::SeqCst);
            self.changed.notify(usize::MAX);
        }
    }
}

/// Excepts the current task from those that are waited for, while it waits itself.
struct Exempt(Option<CoreRef>);

impl Exempt {
    fn current(core: &Core) -> Self {
        if !context::on_worker_of(core) {
            return Self(None);
        }
        let Some(task) = context::current_task() else { return Self(None) };
        if task.state.load() & LISTED == 0 {
            // Else it would count as less than none.
            core.started.insert(task.as_ref(), context::Awaited::default());
        }
        core.exempt.fetch_add(1, Ordering::SeqCst);
        core.maybe_done();
        Self(Some(core.to_ref()))
    }
}

impl Drop for Exempt {
    fn drop(&mut self) {
        if let Some(core) = &self.0 {
            core.exempt.fetch_sub(1, Ordering::SeqCst);
            core.maybe_done();
        }
    }
}

impl CoreRef {
    /// Resolves when the engine is idle, or was since the call.
    pub(crate) async fn idle(self) {
        let _exempt = Exempt::current(&self);
        let before = self.idle_count.load(Ordering::SeqCst);
        loop {
            let listener = self.changed.listen();
            if self.idle_count.load(Ordering::SeqCst) != before
                || self.is_idle()
                || (self.is_closed() && self.is_done())
            {
                return;
            }
            self.drive_if_seeded(|| self.is_idle()).await;
            listener.await;
        }
    }

    /// Closes, and resolves when no task is left and the client's own workers are gone, but for as
    /// many as there are tasks that wait for this.
    pub(crate) async fn close(self) {
        let _exempt = Exempt::current(&self);
        self.begin_close(false);
        loop {
            let listener = self.changed.listen();
            if self.is_done() && self.threads.alive() <= self.exempt() {
                break;
            }
            self.drive_if_seeded(|| self.is_done()).await;
            listener.await;
        }
        self.threads.join(self.exempt() == 0);
        purse::empty(&self);
    }

    /// Runs the tasks of a seeded client, which has no thread to do so.
    async fn drive_if_seeded(&self, done: impl Fn() -> bool) {
        if self.seeded.is_some() {
            poll_fn(|poller| {
                worker::drive_seeded(self, poller.waker(), &done);
                Poll::Ready(())
            })
            .await;
        }
    }
}
