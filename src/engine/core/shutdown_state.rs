//! How far an engine is with closing, and which tasks don't count for being idle.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use event_listener::Event;

use crate::engine::core::Core;
use crate::engine::task::state::STARTED;

const OPEN: u8 = 0;
const CLOSING: u8 = 1;
const ABORTED: u8 = 2;

/// How far an engine is in its life, and who waits for that.
pub(crate) struct ShutdownState {
    pub(crate) clients: AtomicUsize,
    closed: AtomicU8,
    /// How often the engine was seen to be idle.
    pub(crate) idle_count: AtomicUsize,
    /// Tasks that wait for the engine to be idle or closed, and so don't count.
    pub(crate) exempt: AtomicUsize,
    pub(crate) changed: Event,
}

impl ShutdownState {
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

    /// Closes; `abort` also ends the tasks that have started. Closing can become an abort, not the other way round.
    pub(crate) fn close(&self, abort: bool) {
        self.closed.fetch_max(if abort { ABORTED } else { CLOSING }, Ordering::SeqCst);
    }
}

impl Core {
    pub(crate) fn is_closed(&self) -> bool {
        self.shutdown.closed.load(Ordering::SeqCst) != OPEN
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.shutdown.closed.load(Ordering::SeqCst) == ABORTED
    }

    pub(crate) fn add_client(&self) {
        self.shutdown.clients.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a task that a worker is about to run, or has just run, is to end instead.
    pub(crate) fn must_abort(&self, state_before: u64) -> bool {
        match self.shutdown.closed.load(Ordering::Relaxed) {
            OPEN => false,
            CLOSING => state_before & STARTED == 0,
            _ => true,
        }
    }

    /// No task is left but those that wait for just that.
    pub(crate) fn is_done(&self) -> bool {
        self.owned_tasks.len() <= self.shutdown.exempt.load(Ordering::SeqCst)
    }

    /// Whether a worker that found nothing to do is to leave.
    pub(crate) fn may_exit(&self) -> bool {
        self.is_closed() && self.is_done()
    }

    pub(crate) fn exempt(&self) -> usize {
        self.shutdown.exempt.load(Ordering::SeqCst)
    }

    /// Whether anybody waits for this engine to be idle or closed.
    pub(crate) fn is_awaited(&self) -> bool {
        self.shutdown.changed.total_listeners() > 0
    }
}
