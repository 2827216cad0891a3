//! The shutdown of the engine in the models: it's closed once all tasks have run, so that the workers exit. No task is aborted
//! and no queue swept.

use crate::engine::core::Core;
use crate::engine::task::header::Task;
use crate::sync::{AtomicBool, Ordering};

pub(crate) struct ShutdownState {
    closed: AtomicBool,
    pub(crate) changed: Changed,
}

pub(crate) struct Changed;

impl Changed {
    pub(crate) fn wake_all(&self) {}
}

impl ShutdownState {
    pub(crate) fn new() -> Self {
        Self { closed: AtomicBool::new(false), changed: Changed }
    }
}

impl Core {
    pub(crate) fn is_closed(&self) -> bool {
        self.shutdown.closed.load(Ordering::SeqCst)
    }

    /// Sets the phase and wakes all workers, as the engine's own does after it has swept the queues.
    pub(crate) fn begin_close(&self) {
        self.shutdown.closed.store(true, Ordering::SeqCst);
        self.idle_workers.wake_all();
    }

    pub(crate) fn may_exit(&self) -> bool {
        self.is_closed()
    }

    pub(crate) fn is_aborted(&self) -> bool {
        false
    }

    pub(crate) fn must_abort(&self, _: u64) -> bool {
        false
    }

    pub(crate) fn abort_closed(&self, _: &Task) {}
    pub(crate) fn abort_started(&self, _: impl Fn(&Task) -> bool) {}
    pub(crate) fn sweep(&self) {}

    pub(crate) fn is_awaited(&self) -> bool {
        false
    }

    pub(crate) fn notify_if_done(&self) {}
    pub(crate) fn notify_if_idle(&self) {}

    pub(crate) fn worker_exited(&self, id: usize, _: bool) {
        self.remove_worker(id);
    }
}
