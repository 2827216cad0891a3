//! The shutdown state of an engine.
//!
//! | `phase` | new tasks | started tasks | next |
//! |---|---|---|---|
//! | `OPEN` | run | run | `CLOSING` by `close`; `ABORTED` when the last client is dropped |
//! | `CLOSING` | are aborted | run on; paused ones are aborted, all are once no worker is left | `ABORTED` |
//! | `ABORTED` | are aborted | are aborted at their next await | final |
//!
//! A closed engine is done, and its workers exit, once no started task is left but *exempt* ones: tasks that wait
//! for this very engine to be idle or closed, and would otherwise wait for themselves.

use std::sync::Arc;

use crate::engine::base::lock::Lock;
use crate::engine::base::sync::{AtomicU8, AtomicU64, Ordering};
use crate::engine::core::Core;
use crate::engine::data::waker_list::WakerList;
use crate::engine::task::state::STARTED;

const OPEN: u8 = 0;
const CLOSING: u8 = 1;
const ABORTED: u8 = 2;

/// The phase of an engine, its clients, and the waiters for idleness and for the shutdown.
pub(crate) struct ShutdownState {
    /// With 64 bits, clients that are forgotten in a loop don't overflow it on any target.
    pub(crate) clients: AtomicU64,
    phase: AtomicU8,
    /// How often the engine was found to be idle, so that a waiter notices that it was idle for a moment.
    idle_count: Lock<usize>,
    /// Those that wait for idleness or for the shutdown.
    pub(crate) changed: Arc<WakerList>,
}

impl ShutdownState {
    /// Creates the state of an open engine with one client.
    pub(crate) fn new() -> Self {
        Self {
            clients: AtomicU64::new(1),
            phase: AtomicU8::new(OPEN),
            idle_count: Lock::default(),
            changed: Arc::default(),
        }
    }

    pub(crate) fn idle_count(&self) -> usize {
        *self.idle_count.lock()
    }

    /// Counts that the engine is idle, if `is_idle` says so, and returns that. The lock makes the check and the count one
    /// step: a waiter that reads the count in between would take idleness of before its wait for later.
    pub(crate) fn count_idle(&self, is_idle: impl FnOnce() -> bool) -> bool {
        let mut count = self.idle_count.lock();
        let is_idle = is_idle();
        *count += usize::from(is_idle);
        is_idle
    }

    /// Enters `CLOSING`, or `ABORTED` if `abort` is set. Never goes back.
    pub(crate) fn close(&self, abort: bool) {
        // Sequentially consistent, like the loads: a thread that queues a task and then finds the engine open is seen
        // by the sweep that follows.
        self.phase.fetch_max(if abort { ABORTED } else { CLOSING }, Ordering::SeqCst);
    }
}

impl Core {
    pub(crate) fn is_closed(&self) -> bool {
        self.shutdown.phase.load(Ordering::SeqCst) != OPEN
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.shutdown.phase.load(Ordering::SeqCst) == ABORTED
    }

    pub(crate) fn add_client(&self) {
        self.shutdown.clients.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a task with this state must be aborted instead of being queued or run.
    pub(crate) fn must_abort(&self, state_before: u64) -> bool {
        // Relaxed, as this is on the path of every task: one that is missed here is found by the sweep, or by `pushed`,
        // which checks the phase once more after the push.
        match self.shutdown.phase.load(Ordering::Relaxed) {
            OPEN => false,
            CLOSING => state_before & STARTED == 0,
            _ => true,
        }
    }

    /// Whether no started task is left but exempt ones.
    pub(crate) fn is_done(&self) -> bool {
        self.owned_tasks.are_exempt()
    }

    /// Whether a worker that found nothing to do is to exit.
    pub(crate) fn may_exit(&self) -> bool {
        self.is_closed() && self.is_done()
    }

    pub(crate) fn exempt(&self) -> usize {
        self.owned_tasks.exempt()
    }

    /// Whether a caller waits for this engine to be idle or closed.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.shutdown.changed.is_empty()
    }
}
