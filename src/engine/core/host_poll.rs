//! Polls of workers by a runtime of the application's, and the wakes that are put off meanwhile.
//!
//! A runtime may put a task that one of its threads wakes where only this thread finds it, once the poll that the thread is
//! in has ended: tokio does so with the last task that each thread has woken. If the poll goes on for long, that task waits,
//! though other threads have nothing to do. So the waker of a worker on a thread of the application's isn't called within a
//! poll of such a worker, but at its end, or by a tick of the timer thread, whichever is first.
//!
//! Only the call is put off: the worker has left the list of idle ones, as if it had been woken. So who wakes whom is the
//! same, and no wake is lost if each waker that is put off is called. It's in a list that is emptied at the end of the poll,
//! also if that panics, and by each tick, and one is due whenever the list isn't empty during a poll. If the system refuses
//! the timer thread, the waker is called at once.

use std::cell::Cell;
use std::mem;
use std::ptr;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use crate::engine::base::lock::Lock;
use crate::engine::base::sync::thread_local;
use crate::engine::base::user_code::try_wake;
use crate::engine::core::{Core, CoreRef};
use crate::engine::data::clock;
use crate::engine::queue::idle::IdleWorker;

/// The longest time for which a wake is put off. A tick costs two switches between threads, so a worker that causes one after
/// the other spends some percents of a core on them.
const TICK: Duration = Duration::from_micros(500);

/// The wakes that the polls of a worker put off.
#[derive(Default)]
pub(crate) struct DeferredWakes(Lock<State>);

#[derive(Default)]
struct State {
    wakes: Vec<DeferredWake>,
    tick_is_due: bool,
}

struct DeferredWake {
    waker: Waker,
    /// The engine of the worker, which wakes another one if the waker panics.
    core: CoreRef,
}

/// A poll of a worker by its host.
struct HostPoll<'a> {
    wakes: &'a Arc<DeferredWakes>,
    /// Whether it has put off any.
    has_deferred: Cell<bool>,
    /// The poll in which this one began, of a worker of another client.
    outer: *const HostPoll<'static>,
}

thread_local! {
    /// The innermost one of this thread.
    static CURRENT: Cell<*const HostPoll<'static>> = const { Cell::new(ptr::null()) };
}

/// Runs the poll of a worker by its host. `wakes` are the worker's.
pub(crate) fn host_poll<R>(wakes: &Arc<DeferredWakes>, poll: impl FnOnce() -> R) -> R {
    let host_poll = HostPoll { wakes, has_deferred: Cell::new(false), outer: CURRENT.get() };
    CURRENT.set(ptr::from_ref(&host_poll).cast());
    poll()
}

impl Drop for HostPoll<'_> {
    fn drop(&mut self) {
        CURRENT.set(self.outer);
        if self.has_deferred.get() {
            self.wakes.call();
        }
    }
}

impl Core {
    /// Wakes an idle worker unless a wake is pending. Called after a task was queued.
    #[inline]
    pub(crate) fn wake_worker(&self) {
        if self.idle_workers.may_wake() {
            self.wake_next();
        }
    }

    #[cold]
    fn wake_next(&self) {
        while let Some(idle) = self.idle_workers.take_next() {
            // The host of a worker whose waker panics may never poll it: the next one is woken instead.
            if self.wake_or_defer(idle) {
                return;
            }
        }
    }

    /// Wakes all idle workers.
    pub(crate) fn wake_all_workers(&self) {
        for idle in self.idle_workers.take_all() {
            self.wake_or_defer(idle);
        }
    }

    /// Wakes a worker that was taken out of the list of idle ones; false if its waker panicked.
    fn wake_or_defer(&self, idle: IdleWorker) -> bool {
        // SAFETY: the one that `host_poll` points to stays where it is until its drop, which first resets the pointer.
        let host_poll = unsafe { CURRENT.get().as_ref() };
        // No runtime wakes the client's own workers, and a seeded client has no real time.
        match host_poll.filter(|_| !idle.own && self.seeded.is_none()) {
            Some(host_poll) => {
                host_poll.has_deferred.set(true);
                host_poll.wakes.add(DeferredWake { waker: idle.waker, core: self.to_ref() });
                true
            }
            None => try_wake(idle.waker),
        }
    }
}

impl DeferredWakes {
    fn add(self: &Arc<Self>, wake: DeferredWake) {
        let mut state = self.0.lock();
        state.wakes.push(wake);
        let was_due = mem::replace(&mut state.tick_is_due, true);
        drop(state);
        if !was_due && !clock::tick(TICK, Waker::from(self.clone())) {
            self.tick();
        }
    }

    fn tick(&self) {
        self.0.lock().tick_is_due = false;
        self.call();
    }

    /// Calls the wakers, without the lock: they are user code.
    fn call(&self) {
        let wakes = mem::take(&mut self.0.lock().wakes);
        for wake in wakes {
            if !try_wake(wake.waker) {
                wake.core.wake_worker();
            }
        }
    }
}

impl Wake for DeferredWakes {
    fn wake(self: Arc<Self>) {
        self.tick();
    }
}
