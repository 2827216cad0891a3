//! The shutdown of an engine, and the detection of idleness.
//!
//! # Steps of a shutdown
//!
//! 1. The phase is set. From now on, a thread that would queue a task that hasn't started aborts it instead.
//! 2. The queues are swept, and paused tasks are aborted; on an abort, all started tasks are. Their dependents end
//!    with them.
//! 3. Workers run until no started task is left, then exit.
//!
//! A task that is submitted or woken meanwhile is either found by the sweep, or its producer sees the phase after the
//! push and sweeps the queues itself.

use std::sync::atomic::Ordering;

use crate::Error;
use crate::engine::base::deferred;
use crate::engine::core::{Core, engine_refs};
use crate::engine::life::{finish, waker};
use crate::engine::task::header::Task;
use crate::engine::task::state::{PAUSED, RUNNING};
use crate::engine::watch::observer::Observer;

impl Core {
    /// Drops a client's share of the engine. The last one aborts all tasks.
    pub(crate) fn drop_client(&self) {
        if self.shutdown.clients.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.begin_close(true);
        }
        if self.is_closed() {
            engine_refs::drain(self);
        }
    }

    /// Begins a shutdown; `abort` also aborts the tasks that have started.
    pub(crate) fn begin_close(&self, abort: bool) {
        self.shutdown.close(abort);
        self.threads.blocking.close();
        // A change of scale under way may still start workers; they must count in `has_no_workers`.
        self.threads.settle();
        self.sweep();
        let has_no_workers = abort || self.has_no_workers();
        self.abort_started(|task| {
            has_no_workers || task.state.load() & PAUSED != 0 || task.count.is_waiting()
        });
        self.wake_all_workers();
        self.shutdown.changed.wake_all();
        self.observer.get().into_iter().for_each(Observer::closed);
    }

    /// Aborts started tasks at their next await. A task in a poll may have no further await, so it is only woken: it's
    /// checked when it is queued after the poll.
    pub(crate) fn abort_started(&self, which: impl Fn(&Task) -> bool) {
        for task in self.owned_tasks.list().into_iter().filter(which) {
            if task.state.load() & RUNNING == 0 {
                self.abort_closed(&task);
            } else {
                waker::wake_task(task.as_ref());
            }
        }
    }

    /// Aborts a task because the client is closed, unless it has its outcome.
    pub(crate) fn abort_closed(&self, task: &Task) {
        if !task.waiters.is_closed() {
            finish::abort(task.as_ref(), Error::closed(task.subject()));
        }
    }

    /// Aborts the queued tasks that may no longer run, and drops stale entries.
    pub(crate) fn sweep(&self) {
        let mut tasks = Vec::new();
        while !self.injector.is_empty() {
            // More than once only if a producer was interrupted between its exchange and its link.
            self.injector.take(usize::MAX, |task| tasks.push(task));
        }
        tasks.extend(std::iter::from_fn(|| self.priority_queue.pop()));
        tasks.extend(self.seeded.iter().flat_map(|seeded| std::iter::from_fn(|| seeded.pop())));
        for worker in &*self.workers.lock() {
            tasks.extend(std::iter::from_fn(|| worker.queues.steal_one()));
        }
        let mut others = Vec::new();
        for task in tasks {
            if !task.is_queued() {
                continue;
            }
            if self.must_abort(task.state.load()) {
                self.abort_closed(&task);
            } else {
                others.push(task);
            }
        }
        if !others.is_empty() {
            others.into_iter().for_each(|task| self.enqueue(task, None));
            self.wake_worker();
        }
    }

    /// Whether no task runs or is queued, except exempt ones.
    pub(crate) fn is_idle(&self) -> bool {
        // The checks are separate steps, so they describe one moment only if all workers were idle from the first to the
        // last: if none was registered or left the list meanwhile.
        let before = (self.workers_version(), self.idle_workers.departures());
        let workers = self.workers();
        if workers == 0 {
            // Without a worker to drop them, the entries of cancelled tasks are still in the queues.
            deferred::scope(|| {
                self.injector.trim(|task| task.is_queued());
                self.priority_queue.trim(|task| task.is_queued());
                self.seeded.iter().for_each(|seeded| seeded.trim(|task| task.is_queued()));
            });
        }
        self.idle_workers.asleep() >= workers
            && self.is_done()
            && !self.has_queued()
            && before == (self.workers_version(), self.idle_workers.departures())
    }

    /// Notifies waiters, and workers that may have to exit, after a started task ended or became exempt.
    pub(crate) fn notify_if_done(&self) {
        if self.is_closed() && self.is_done() {
            self.wake_all_workers();
            self.shutdown.changed.wake_all();
        } else {
            self.notify_if_idle();
        }
    }

    /// Notifies the waiters for idleness if the engine is idle.
    pub(crate) fn notify_if_idle(&self) {
        // Stale entries that the check drops are destroyed after the lock of the count is released.
        let count = || self.shutdown.count_idle(|| self.is_idle());
        if self.is_awaited() && deferred::scope(count) {
            self.shutdown.changed.wake_all();
        }
    }

    /// Removes a worker that exited. If none is left while the engine is closed, started tasks are aborted too.
    pub(crate) fn worker_exited(&self, id: usize, own: bool) {
        self.remove_worker(id);
        if self.is_closed() {
            if self.has_no_workers() {
                self.abort_started(|_| true);
                // The aborted tasks left stale entries in the queues, which no worker will remove.
                self.sweep();
            }
            if own {
                // `close` waits only for the client's own threads.
                self.shutdown.changed.wake_all();
            }
        }
        self.notify_if_idle();
    }
}
