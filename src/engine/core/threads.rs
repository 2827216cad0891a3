//! The count of the client's own worker threads, and their handles.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crate::engine::base::lock::Lock;
use crate::engine::core::Core;

#[derive(Default)]
pub(crate) struct Threads {
    pub(crate) wanted: AtomicUsize,
    /// Those that have not decided to leave. Changed under the lock.
    pub(crate) alive: AtomicUsize,
    pub(crate) spawned: Lock<Spawned>,
}

#[derive(Default)]
pub(crate) struct Spawned {
    pub(crate) handles: Vec<JoinHandle<()>>,
    pub(crate) count: usize,
}

impl Threads {
    pub(crate) fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }

    pub(crate) fn wanted(&self) -> usize {
        self.wanted.load(Ordering::SeqCst)
    }

    /// Waits for a change of scale that has begun; none begins once the engine is closed.
    pub(crate) fn settle(&self) {
        drop(self.spawned.lock());
    }

    /// Whether the worker that asks is to leave: the others number one less from then on.
    pub(crate) fn may_exit(&self, core: &Core, out_of_work: bool) -> bool {
        let to_leave = || {
            self.alive() > self.wanted()
                || (out_of_work && core.may_exit() && self.alive() > core.exempt())
        };
        if !to_leave() {
            return false;
        }
        let _spawned = self.spawned.lock();
        if !to_leave() {
            return false;
        }
        self.alive.fetch_sub(1, Ordering::SeqCst);
        true
    }

    /// Waits for the threads that have decided to leave; they're at their last instructions.
    pub(crate) fn join(&self, all: bool) {
        let handles = std::mem::take(&mut self.spawned.lock().handles);
        for handle in handles {
            if handle.thread().id() != thread::current().id() && (all || handle.is_finished()) {
                // A worker doesn't panic; if one did, the panic was reported when it happened.
                let _ = handle.join();
            }
        }
    }
}
