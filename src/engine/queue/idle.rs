//! Idle workers, and the policy for waking them.
//!
//! One worker is woken at a time: while a wake is pending, queueing further tasks wakes no other worker. The worker
//! that was woken wakes the next one if it finds more than one task. A burst of submissions thus costs few wakes, and
//! still all workers run soon.
//!
//! One word holds two counts: idle workers in the low half, pending wakes in the high half.
//!
//! | idle | waking | meaning | next |
//! |---|---|---|---|
//! | 0 | 0 | every worker runs | [`enter`](IdleWorkers::enter): +1 idle |
//! | n | 0 | a worker may be woken | [`take_next`](IdleWorkers::take_next): -1 idle, +1 waking |
//! | n | m | a wake is pending: `take_next` takes none | [`finish_wake`](IdleWorkers::finish_wake): -1 waking |
//! | any | any | a worker is polled without being woken, or exits | [`leave`](IdleWorkers::leave): -1 idle |
//!
//! # No lost wake
//!
//! A producer queues a task, then reads the counts. A worker enters the list, which changes the counts, then reads the
//! queues again. All four steps are sequentially consistent, so at least one of the two sees the other's first step (a
//! store buffer can't hide both). The shared queues are changed by sequentially consistent operations. A worker's own
//! queue is changed by plain stores, so a thread that pushed into one executes a fence before it reads the counts.
//!
//! # Hosted workers
//!
//! A worker that the caller polls on a thread of its own may be woken and still not be polled for a long time. So a
//! wake of such a worker isn't counted as pending, and the client's own workers are preferred. Within a poll of such a worker,
//! the wakers of others are called later: see [`core::host_poll`](crate::engine::core::host_poll).

use std::task::Waker;

use crate::engine::base::lock::Lock;
use crate::engine::base::sync::{AtomicU64, Ordering, fence};
use crate::engine::base::user_code::drop_user_value;

/// One pending wake, in the high half of the counts word. The low half counts idle workers.
const WAKING: u64 = 1 << 32;

/// The worker id of a waiter that isn't a worker.
const OUTSIDE: usize = usize::MAX;

#[derive(Default)]
pub(crate) struct IdleWorkers {
    /// Changed under the lock of `list`, so that it agrees with the list, except by `finish_wake`, which changes
    /// only the high half.
    counts: AtomicU64,
    list: Lock<List>,
}

#[derive(Default)]
struct List {
    workers: Vec<IdleWorker>,
    /// How many workers have been removed so far, each before it ran again.
    departures: usize,
}

pub(crate) struct IdleWorker {
    worker: usize,
    pub(crate) waker: Waker,
    /// Runs on a thread of the client's.
    pub(crate) own: bool,
}

impl IdleWorkers {
    /// Whether a worker is idle and no wake is pending.
    pub(crate) fn may_wake(&self) -> bool {
        let counts = self.counts.load(Ordering::SeqCst);
        counts != 0 && counts < WAKING
    }

    /// Takes out an idle worker, which counts as woken from then on, unless a wake is pending. The caller calls its waker:
    /// that is user code and may call back into the engine, so it's called without a lock.
    pub(crate) fn take_next(&self) -> Option<IdleWorker> {
        let mut list = self.list.lock();
        // Another producer may have woken a worker before this one got the lock.
        if !self.may_wake() {
            return None;
        }
        let own = list.workers.iter().rposition(|idle| idle.own);
        let at = own.or(list.workers.len().checked_sub(1))?;
        let idle = list.workers.remove(at);
        list.departures += 1;
        self.count_woken(&idle);
        Some(idle)
    }

    /// Updates the counts for a worker that was removed from the list to be woken.
    fn count_woken(&self, idle: &IdleWorker) {
        // `u64::MAX` is -1. The idle count isn't 0 here, so subtracting 1 never borrows from the high half.
        let change = if idle.own { WAKING - 1 } else { u64::MAX };
        self.counts.fetch_add(change, Ordering::SeqCst);
    }

    /// Takes out all idle workers, as [`take_next`](Self::take_next) does with one.
    pub(crate) fn take_all(&self) -> Vec<IdleWorker> {
        // Orders the caller's change (the engine is closed, or there are too many workers) before the list is read,
        // as a worker enters the list and then checks for that change.
        fence(Ordering::SeqCst);
        let mut list = self.list.lock();
        for idle in &list.workers {
            self.count_woken(idle);
        }
        list.departures += list.workers.len();
        std::mem::take(&mut list.workers)
    }

    /// Enters an idle worker. It must check the queues once more after this, before it suspends.
    pub(crate) fn enter(&self, worker: usize, own: bool, waker: Waker) {
        let mut list = self.list.lock();
        list.workers.push(IdleWorker { worker, waker, own });
        self.counts.fetch_add(1, Ordering::SeqCst);
        drop(list);
        // Keeps the check of the queues, which may use plain loads, after the change of the counts.
        fence(Ordering::SeqCst);
    }

    /// Enters a thread outside the workers that awaits a task of a seeded client: it runs the tasks itself, so it's
    /// woken like a worker.
    pub(crate) fn enter_outside(&self, waker: Waker) {
        let known = |idle: &IdleWorker| idle.worker == OUTSIDE && idle.waker.will_wake(&waker);
        let is_known = self.list.lock().workers.iter().any(known);
        if is_known { drop_user_value(waker) } else { self.enter(OUTSIDE, false, waker) }
    }

    /// Removes a worker that is polled or dropped. True if it had been woken: one of the client's own must then call
    /// [`finish_wake`](Self::finish_wake).
    pub(crate) fn leave(&self, worker: usize) -> bool {
        let mut list = self.list.lock();
        let Some(at) = list.workers.iter().position(|idle| idle.worker == worker) else {
            return true;
        };
        let idle = list.workers.swap_remove(at);
        list.departures += 1;
        self.counts.fetch_sub(1, Ordering::SeqCst);
        // Dropping a waker runs user code, so the lock is released before.
        drop(list);
        drop_user_value(idle);
        false
    }

    /// Ends the pending wake of a worker that found work, goes idle again, or exits. The worker must check the
    /// queues after this: a producer that saw the wake pending woke no other worker for its task.
    pub(crate) fn finish_wake(&self) {
        self.counts.fetch_sub(WAKING, Ordering::SeqCst);
        // As in `enter`.
        fence(Ordering::SeqCst);
    }

    /// Drops the wakers that are left, which are those of waiters outside the workers. No worker uses the list after this.
    pub(crate) fn clear(&self) {
        let left = std::mem::take(&mut *self.list.lock());
        left.workers.into_iter().for_each(drop_user_value);
    }

    /// Whether this worker is idle.
    pub(crate) fn contains(&self, worker: usize) -> bool {
        self.list.lock().workers.iter().any(|idle| idle.worker == worker)
    }

    /// How many workers have been woken or polled so far.
    pub(crate) fn departures(&self) -> usize {
        self.list.lock().departures
    }

    /// The number of idle workers.
    pub(crate) fn asleep(&self) -> usize {
        (self.counts.load(Ordering::SeqCst) % WAKING) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waker() -> Waker {
        Waker::noop().clone()
    }

    #[test]
    fn one_worker_is_woken_at_a_time() {
        let idle_workers = IdleWorkers::default();
        assert!(!idle_workers.may_wake(), "no worker is idle");
        idle_workers.enter(1, true, waker());
        idle_workers.enter(2, true, waker());
        assert!(idle_workers.may_wake());
        assert!(idle_workers.take_next().is_some());
        assert!(!idle_workers.may_wake(), "a wake is pending");
        idle_workers.finish_wake();
        assert!(idle_workers.may_wake());
        assert!(idle_workers.take_next().is_some());
        assert_eq!(idle_workers.asleep(), 0);
        assert!(!idle_workers.may_wake(), "the last wake is pending");
        assert!(idle_workers.leave(1) && idle_workers.leave(2));
    }

    #[test]
    fn an_outside_waiter_is_entered_once() {
        let idle_workers = IdleWorkers::default();
        idle_workers.enter_outside(waker());
        idle_workers.enter_outside(waker());
        assert_eq!(idle_workers.asleep(), 1);
    }
}
