//! How the engine closes here: once all is done, so that the workers leave. Nothing is refused or swept.

use super::core::Core;
use super::header::Task;
use super::sync::{AtomicBool, Ordering};

pub(crate) struct Life {
    closed: AtomicBool,
    pub(crate) changed: Changed,
}

pub(crate) struct Changed;

impl Changed {
    pub(crate) fn notify(&self, _: usize) {}
}

impl Life {
    pub(crate) fn new() -> Self {
        Self { closed: AtomicBool::new(false), changed: Changed }
    }
}

impl Core {
    pub(crate) fn is_closed(&self) -> bool {
        self.life.closed.load(Ordering::SeqCst)
    }

    /// As the engine's own does after it has swept the queues.
    pub(crate) fn begin_close(&self) {
        self.life.closed.store(true, Ordering::SeqCst);
        self.sleepers.wake_all();
    }

    pub(crate) fn may_leave(&self) -> bool {
        self.is_closed()
    }

    pub(crate) fn is_aborted(&self) -> bool {
        false
    }

    pub(crate) fn refuses(&self, _: u64) -> bool {
        false
    }

    pub(crate) fn refuse(&self, _: &Task) {}
    pub(crate) fn refuse_started(&self, _: impl Fn(&Task) -> bool) {}
    pub(crate) fn sweep(&self) {}

    pub(crate) fn is_watched(&self) -> bool {
        false
    }

    pub(crate) fn maybe_idle(&self) {}
}
