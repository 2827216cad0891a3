//! The wakers of the futures that wait for one change, in a list that runs no user code under its lock.
//!
//! A future [enters](WakerList::enter) the list once and leaves it by dropping its [`Waiter`]. At each poll it
//! [registers](Waiter::register) its waker, and then checks its condition. Whoever makes that true does so, and then calls
//! [`wake_all`](WakerList::wake_all). Waiter and waker each store, fence, and load what the other stores: the waiter sets
//! `armed` and reads the condition, the other one makes the condition true and reads `armed`. At least one of them sees
//! the other, so no wake is lost.

use std::sync::Arc;
use std::task::Waker;

use slab::Slab;

use crate::engine::base::deferred;
use crate::engine::base::lock::Lock;
use crate::engine::base::sync::{AtomicBool, AtomicUsize, Ordering, fence};
use crate::engine::base::user_code::{drop_user_value, wake};

#[derive(Debug, Default)]
pub(crate) struct WakerList {
    /// Whether there may be a waker in the list.
    armed: AtomicBool,
    /// The number of waiters. Changed under the lock.
    len: AtomicUsize,
    /// `None` for a waiter that has been woken since it registered, or hasn't registered yet.
    wakers: Lock<Slab<Option<Waker>>>,
}

/// A place in a list, which is given up on drop.
pub(crate) struct Waiter {
    list: Arc<WakerList>,
    place: usize,
}

impl WakerList {
    /// Whether no future waits, woken ones included.
    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::SeqCst) == 0
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Waiter {
        let mut wakers = self.wakers.lock();
        let place = wakers.insert(None);
        self.len.fetch_add(1, Ordering::SeqCst);
        drop(wakers);
        Waiter { list: self.clone(), place }
    }

    /// Wakes all waiters, each of which has to register again to be woken again.
    pub(crate) fn wake_all(&self) {
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::SeqCst) && self.armed.swap(false, Ordering::SeqCst) {
            self.wake_now();
        }
    }

    #[cold]
    fn wake_now(&self) {
        let wakers: Vec<_> = {
            let mut wakers = self.wakers.lock();
            wakers.iter_mut().filter_map(|(_, waker)| waker.take()).collect()
        };
        // A waker may drop tasks, which must not be done in the middle of the engine call that makes the change. It may
        // also drop other waiters, which are then woken in vain.
        deferred::scope(|| wakers.into_iter().for_each(wake));
    }
}

impl Waiter {
    /// Registers a waker, in place of the one before.
    pub(crate) fn register(&self, waker: &Waker) {
        let is_known =
            |known: &Option<Waker>| known.as_ref().is_some_and(|known| known.will_wake(waker));
        if is_known(&self.list.wakers.lock()[self.place]) {
            return;
        }
        // Cloned and dropped without the lock.
        let new = waker.clone();
        let before = self.list.wakers.lock()[self.place].replace(new);
        self.list.armed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        drop_user_value(before);
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let waker = {
            let mut wakers = self.list.wakers.lock();
            self.list.len.fetch_sub(1, Ordering::SeqCst);
            wakers.remove(self.place)
        };
        drop_user_value(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize as Count;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Wakes(Count);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_last_waker_of_each_waiter_is_woken_once() {
        let list = Arc::new(WakerList::default());
        let [old, new, left, other] = [(); 4].map(|()| Arc::new(Wakes::default()));
        let (first, second, third) = (list.enter(), list.enter(), list.enter());
        first.register(&old.clone().into());
        first.register(&new.clone().into());
        second.register(&left.clone().into());
        third.register(&other.clone().into());
        drop(second);
        list.wake_all();
        list.wake_all();
        let counts = [old, new, left, other].map(|wakes| wakes.0.load(Ordering::Relaxed));
        assert_eq!(counts, [0, 1, 0, 1]);
        assert!(!list.is_empty(), "a waiter that was woken still waits");
        drop((first, third));
        assert!(list.is_empty());
    }

    #[test]
    fn a_registered_waker_is_not_cloned_again() {
        let list = Arc::new(WakerList::default());
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let waiter = list.enter();
        waiter.register(&waker);
        waiter.register(&waker);
        assert_eq!(Arc::strong_count(&wakes), 3);
    }
}
