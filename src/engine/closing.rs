//! How an engine closes, and when it's idle.
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

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::Poll;
use std::thread;

use event_listener::{Event, EventListener};

use super::context;
use super::core::{Core, CoreRef};
use super::finish;
use super::header::Task;
use super::hook::Observer;
use super::purse;
use super::release;
use super::state::{DONE, HELD, LISTED, PARKED, QUEUED, RUNNING, STARTED};
use super::waker;
use super::worker;
use crate::Error;

const OPEN: u8 = 0;
const CLOSING: u8 = 1;
const ABORTED: u8 = 2;

/// How far an engine is in its life, and who waits for that.
pub(crate) struct Life {
    clients: AtomicUsize,
    closed: AtomicU8,
    /// How often the engine was seen to be idle.
    idle_count: AtomicUsize,
    /// Tasks that wait for the engine to be idle or closed, and so don't count.
    exempt: AtomicUsize,
    pub(crate) changed: Event,
}

impl Life {
    /// With one client.
    pub(crate) fn new() -> Self {
        Self {
            clients: AtomicUsize::new(1),
            closed: AtomicU8::new(OPEN),
            idle_count: AtomicUsize::new(0),
            exempt: AtomicUsize::new(0),
            changed: Event::new(),
        }
    }
}

impl Core {
    pub(crate) fn is_closed(&self) -> bool {
        self.life.closed.load(Ordering::SeqCst) != OPEN
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.life.closed.load(Ordering::SeqCst) == ABORTED
    }

    pub(crate) fn add_client(&self) {
        self.life.clients.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn drop_client(&self) {
        if self.life.clients.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.begin_close(true);
        }
        if self.is_closed() {
            purse::empty(self);
        }
    }

    pub(crate) fn begin_close(&self, abort: bool) {
        self.life.closed.fetch_max(if abort { ABORTED } else { CLOSING }, Ordering::SeqCst);
        self.threads.settle();
        self.sweep();
        let nobody_runs = abort || self.nobody_runs();
        self.refuse_started(|task| {
            nobody_runs || task.state.load() & PARKED != 0 || task.count.is_waiting()
        });
        self.sleepers.wake_all();
        self.life.changed.notify(usize::MAX);
        self.hook.observer().into_iter().for_each(Observer::closed);
    }

    /// Ends started tasks at their next await. One that is in a poll may have no further await, and is
    /// looked at when it's put into a queue after that.
    pub(crate) fn refuse_started(&self, which: impl Fn(&Task) -> bool) {
        for task in self.started.list().into_iter().filter(which) {
            if task.state.load() & RUNNING == 0 {
                self.refuse(&task);
            } else {
                waker::wake_task(task.as_ref());
            }
        }
    }

    /// Whether a task that a worker is about to run, or has just run, is to end instead.
    pub(crate) fn refuses(&self, state_before: u64) -> bool {
        match self.life.closed.load(Ordering::Relaxed) {
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
    pub(crate) fn sweep(&self) {
        let mut tasks = Vec::new();
        while !self.injector.is_empty() {
            // More than once only if a pusher was interrupted.
            self.injector.take(usize::MAX, |task| tasks.push(task));
        }
        tasks.extend(std::iter::from_fn(|| self.urgent.pop()));
        tasks.extend(self.seeded.iter().flat_map(|seeded| std::iter::from_fn(|| seeded.pop())));
        for worker in &*self.workers.lock() {
            tasks.extend(std::iter::from_fn(|| worker.queues.steal_one()));
        }
        let mut others = Vec::new();
        for task in tasks {
            if !is_queued(&task) {
                continue;
            }
            if self.refuses(task.state.load()) {
                self.refuse(&task);
            } else {
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
        self.started.len() <= self.life.exempt.load(Ordering::SeqCst)
    }

    /// Whether a worker that found nothing to do is to leave.
    pub(crate) fn may_leave(&self) -> bool {
        self.is_closed() && self.is_done()
    }

    pub(crate) fn exempt(&self) -> usize {
        self.life.exempt.load(Ordering::SeqCst)
    }

    fn is_idle(&self) -> bool {
        let workers = self.workers();
        if workers == 0 {
            // What was cancelled in a queue is still there: with nobody to run it, nobody noticed.
            release::hold(|| {
                self.injector.trim(is_queued);
                self.urgent.trim(is_queued);
                self.seeded.iter().for_each(|seeded| seeded.trim(is_queued));
            });
        }
        self.is_done() && self.sleepers.asleep() >= workers && !self.has_queued()
    }

    /// A started task has ended, or counts no more: workers may have to leave.
    pub(crate) fn maybe_done(&self) {
        if self.is_closed() && self.is_done() {
            self.sleepers.wake_all();
            self.life.changed.notify(usize::MAX);
        } else {
            self.maybe_idle();
        }
    }

    /// Whether anybody waits for this engine to be idle or closed.
    pub(crate) fn is_watched(&self) -> bool {
        self.life.changed.total_listeners() > 0
    }

    /// Something happened after which the engine may be idle.
    pub(crate) fn maybe_idle(&self) {
        if self.is_watched() && self.is_idle() {
            self.life.idle_count.fetch_add(1, Ordering::SeqCst);
            self.life.changed.notify(usize::MAX);
        }
    }
}

/// Whether an entry in a queue leads to a task that waits for its turn.
fn is_queued(task: &Task) -> bool {
    task.state.load() & (QUEUED | RUNNING | DONE | HELD) == QUEUED
}

/// Excepts the current task from those that are waited for, while it waits itself.
struct Exempt(Option<Task>);

impl Exempt {
    fn current(core: &Core) -> Self {
        let Some((task, in_its_poll)) = context::task_that_waits(core) else { return Self(None) };
        // It may wait more than once at a time, and is one task all the same.
        let count = || {
            if task.make_extras().exempt.fetch_add(1, Ordering::SeqCst) == 0 {
                core.life.exempt.fetch_add(1, Ordering::SeqCst);
            }
        };
        if in_its_poll {
            if task.state.load() & LISTED == 0 {
                // Else it would count as less than none.
                core.started.insert(task.as_ref(), context::Awaited::default());
            }
            count();
        } else {
            while task.state.load() & (LISTED | DONE) == 0 {
                // Its worker is at the end of the poll that began the blocking work.
                thread::yield_now();
            }
            if !core.started.while_listed(&task, count) {
                return Self(None);
            }
        }
        core.maybe_done();
        Self(Some(task))
    }
}

impl Drop for Exempt {
    fn drop(&mut self) {
        let Some(task) = &self.0 else { return };
        let exempt = &task.make_extras().exempt;
        let one_less = |n: u32| n.checked_sub(1);
        if exempt.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) == Ok(1) {
            task.core().life.exempt.fetch_sub(1, Ordering::SeqCst);
            task.core().maybe_done();
        }
    }
}

impl Core {
    /// A task that has ended waits for nothing, even if the future in which it did lives on elsewhere.
    pub(crate) fn end_exemption(&self, task: &Task) {
        if task.extras().is_some_and(|extras| extras.exempt.swap(0, Ordering::SeqCst) > 0) {
            self.life.exempt.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl CoreRef {
    /// Resolves when the engine is idle, or was since the call.
    pub(crate) async fn idle(self) {
        let _exempt = Exempt::current(&self);
        let before = self.life.idle_count.load(Ordering::SeqCst);
        loop {
            let listener = self.life.changed.listen();
            if self.life.idle_count.load(Ordering::SeqCst) != before
                || self.is_idle()
                || (self.is_closed() && self.is_done())
            {
                return;
            }
            self.changed_or_driven(listener, || self.is_idle()).await;
        }
    }

    /// Closes, and resolves when no task is left and the client's own workers are gone, but for as
    /// many as there are tasks that wait for this.
    pub(crate) async fn close(self) {
        let _exempt = Exempt::current(&self);
        self.begin_close(false);
        let exempt = loop {
            let listener = self.life.changed.listen();
            let exempt = self.exempt();
            if self.is_done() && self.threads.alive() <= exempt {
                break exempt;
            }
            self.changed_or_driven(listener, || self.is_done()).await;
        };
        self.threads.join(exempt == 0);
        purse::empty(&self);
    }

    /// Waits for a change; meanwhile runs the tasks of a seeded client, which has no thread to do so.
    async fn changed_or_driven(&self, mut listener: EventListener, done: impl Fn() -> bool) {
        poll_fn(|poller| {
            if self.seeded.is_some() && worker::drive_seeded(self, poller.waker(), &done) {
                return Poll::Ready(());
            }
            Pin::new(&mut listener).poll(poller)
        })
        .await;
    }
}
