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

use std::sync::atomic::Ordering;

use crate::Error;
use crate::engine::base::deferred;
use crate::engine::core::{Core, engine_refs};
use crate::engine::life::{finish, waker};
use crate::engine::task::header::Task;
use crate::engine::task::state::{PAUSED, RUNNING};
use crate::engine::watch::observer::Observer;

impl Core {
    pub(crate) fn drop_client(&self) {
        if self.shutdown.clients.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.begin_close(true);
        }
        if self.is_closed() {
            engine_refs::drain(self);
        }
    }

    pub(crate) fn begin_close(&self, abort: bool) {
        self.shutdown.close(abort);
        self.threads.settle();
        self.sweep();
        let has_no_workers = abort || self.has_no_workers();
        self.abort_started(|task| {
            has_no_workers || task.state.load() & PAUSED != 0 || task.count.is_waiting()
        });
        self.idle_workers.wake_all();
        self.shutdown.changed.notify(usize::MAX);
        self.observer.get().into_iter().for_each(Observer::closed);
    }

    /// Ends started tasks at their next await. One that is in a poll may have no further await, and is
    /// looked at when it's put into a queue after that.
    pub(crate) fn abort_started(&self, which: impl Fn(&Task) -> bool) {
        for task in self.owned_tasks.list().into_iter().filter(which) {
            if task.state.load() & RUNNING == 0 {
                self.abort_closed(&task);
            } else {
                waker::wake_task(task.as_ref());
            }
        }
    }

    pub(crate) fn abort_closed(&self, task: &Task) {
        if !task.waiters.is_closed() {
            finish::abort(task.as_ref(), Error::closed(task.key().clone()));
        }
    }

    /// Ends the tasks in the queues that won't run any more, and drops stale entries.
    pub(crate) fn sweep(&self) {
        let mut tasks = Vec::new();
        while !self.injector.is_empty() {
            // More than once only if a pusher was interrupted.
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
            self.idle_workers.wake_one();
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        let workers = self.workers();
        if workers == 0 {
            // What was cancelled in a queue is still there: with nobody to run it, nobody noticed.
            deferred::scope(|| {
                self.injector.trim(|task| task.is_queued());
                self.priority_queue.trim(|task| task.is_queued());
                self.seeded.iter().for_each(|seeded| seeded.trim(|task| task.is_queued()));
            });
        }
        self.is_done() && self.idle_workers.asleep() >= workers && !self.has_queued()
    }

    /// A started task has ended, or counts no more: workers may have to leave.
    pub(crate) fn notify_if_done(&self) {
        if self.is_closed() && self.is_done() {
            self.idle_workers.wake_all();
            self.shutdown.changed.notify(usize::MAX);
        } else {
            self.notify_if_idle();
        }
    }

    /// Something happened after which the engine may be idle.
    pub(crate) fn notify_if_idle(&self) {
        if self.is_awaited() && self.is_idle() {
            self.shutdown.idle_count.fetch_add(1, Ordering::SeqCst);
            self.shutdown.changed.notify(usize::MAX);
        }
    }

    /// A worker has left for good: without another one, tasks that have started end, too.
    pub(crate) fn worker_exited(&self, id: usize, own: bool) {
        self.remove_worker(id);
        if self.is_closed() {
            if self.has_no_workers() {
                self.abort_started(|_| true);
                // What is in the queues now has ended, and no worker will take it out.
                self.sweep();
            }
            if own {
                // `close` waits for the client's own threads only.
                self.shutdown.changed.notify(usize::MAX);
            }
        }
        self.notify_if_idle();
    }

    /// A task that has ended waits for nothing, even if the future in which it did lives on elsewhere.
    pub(crate) fn end_exemption(&self, task: &Task) {
        if task.extras().is_some_and(|extras| extras.exempt.swap(0, Ordering::SeqCst) > 0) {
            self.shutdown.exempt.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
