//! Workers that found nothing to do, and how they're woken.
//!
//! One worker is woken at a time: while it's on its way, further tasks wake nobody. When it finds
//! work and there is more, it wakes the next. So a burst of submissions costs few wakes, and all
//! workers are up soon.
//!
//! No task is left lying while a worker sleeps: who queues a task then looks for sleepers, and who
//! goes to sleep enters the list and then looks at the queues, both in a sequentially consistent order,
//! so at least one of them sees the other. The shared queues are changed by operations that are part of that
//! order; who has pushed into a worker's own queue, by plain stores, puts a fence in between.
//!
//! A worker that isn't on a thread of the client's may be woken and yet not polled for long, so it
//! doesn't count as being on its way, and is woken only where none of the client's own sleeps.

use std::task::Waker;

use crate::engine::base::lock::Lock;
use crate::engine::base::sync::{AtomicUsize, Ordering, fence};
use crate::engine::base::user_code::run_user_code;

/// Counts sleepers, and, times this, workers on their way.
const ON_ITS_WAY: usize = 1 << (usize::BITS / 2);

/// Not the number of any worker.
const OUTSIDE: usize = usize::MAX;

#[derive(Default)]
pub(crate) struct IdleWorkers {
    /// Changed under the lock only, except that a worker that arrives takes itself off.
    counts: AtomicUsize,
    list: Lock<Vec<IdleWorker>>,
}

struct IdleWorker {
    worker: usize,
    waker: Waker,
    own: bool,
}

impl IdleWorkers {
    /// After a task was queued.
    pub(crate) fn wake_one(&self) {
        if self.may_wake() {
            self.wake_next();
        }
    }

    /// Somebody sleeps and nobody is on its way.
    fn may_wake(&self) -> bool {
        let counts = self.counts.load(Ordering::SeqCst);
        counts != 0 && counts < ON_ITS_WAY
    }

    #[cold]
    fn wake_next(&self) {
        let mut list = self.list.lock();
        if !self.may_wake() {
            return;
        }
        let own = list.iter().rposition(|idle| idle.own);
        let Some(at) = own.or(list.len().checked_sub(1)) else { return };
        let idle = list.remove(at);
        self.left(&idle);
        drop(list);
        run_user_code(|| idle.waker.wake());
    }

    fn left(&self, idle: &IdleWorker) {
        let change = if idle.own { ON_ITS_WAY - 1 } else { usize::MAX };
        self.counts.fetch_add(change, Ordering::SeqCst);
    }

    pub(crate) fn wake_all(&self) {
        fence(Ordering::SeqCst);
        let all = {
            let mut list = self.list.lock();
            for idle in &*list {
                self.left(idle);
            }
            std::mem::take(&mut *list)
        };
        for idle in all {
            run_user_code(|| idle.waker.wake());
        }
    }

    /// A worker goes to sleep. It must look at the queues again after this.
    pub(crate) fn enter(&self, worker: usize, own: bool, waker: Waker) {
        let mut list = self.list.lock();
        list.push(IdleWorker { worker, waker, own });
        self.counts.fetch_add(1, Ordering::SeqCst);
        drop(list);
        fence(Ordering::SeqCst);
    }

    /// One who awaits a task of a seeded client from outside is woken like a worker.
    pub(crate) fn enter_outside(&self, waker: Waker) {
        let known = |idle: &IdleWorker| idle.worker == OUTSIDE && idle.waker.will_wake(&waker);
        if !self.list.lock().iter().any(known) {
            self.enter(OUTSIDE, false, waker);
        }
    }

    /// A sleeping worker is polled, or goes. True where it had been woken: then, if it's one of the
    /// client's own, it has to say when it [arrives](Sleepers::arrive).
    pub(crate) fn leave(&self, worker: usize) -> bool {
        let mut list = self.list.lock();
        let Some(at) = list.iter().position(|idle| idle.worker == worker) else {
            return true;
        };
        let idle = list.swap_remove(at);
        self.counts.fetch_sub(1, Ordering::SeqCst);
        drop(list);
        drop(idle);
        false
    }

    /// A worker that was woken has found work, or goes to sleep again, or goes. It must look at the queues after
    /// this: who pushed before may have left the next wake to it.
    pub(crate) fn finish_wake(&self) {
        self.counts.fetch_sub(ON_ITS_WAY, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn asleep(&self) -> usize {
        self.counts.load(Ordering::SeqCst) % ON_ITS_WAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waker() -> Waker {
        Waker::noop().clone()
    }

    #[test]
    fn one_is_woken_at_a_time() {
        let idle_workers = IdleWorkers::default();
        assert!(!idle_workers.may_wake(), "there's none");
        idle_workers.enter(1, true, waker());
        idle_workers.enter(2, true, waker());
        assert!(idle_workers.may_wake());
        idle_workers.wake_one();
        assert!(!idle_workers.may_wake(), "one is on its way");
        idle_workers.finish_wake();
        assert!(idle_workers.may_wake());
        idle_workers.wake_one();
        assert_eq!(idle_workers.asleep(), 0);
        assert!(!idle_workers.may_wake(), "the last one is on its way");
        assert!(idle_workers.leave(1) && idle_workers.leave(2));
    }

    #[test]
    fn who_waits_outside_is_entered_once() {
        let idle_workers = IdleWorkers::default();
        idle_workers.enter_outside(waker());
        idle_workers.enter_outside(waker());
        assert_eq!(idle_workers.asleep(), 1);
    }
}
