//! The client's own worker threads: their number and their handles; and the settings of all its threads.

use std::borrow::Cow;
use std::sync::Arc;

use crate::engine::base::lock::Lock;
use crate::engine::base::look::Lookers;
use crate::engine::base::sync::thread::{self, JoinHandle};
use crate::engine::base::sync::{AtomicUsize, Ordering};
use crate::engine::core::Core;
use crate::engine::core::blocking_pool::BlockingPool;

/// The settings of the threads of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadOptions {
    /// The most threads for blocking work.
    pub(crate) blocking: usize,
    /// The size of the stack of each thread; `None` for the standard library's.
    pub(crate) stack_size: Option<usize>,
}

impl ThreadOptions {
    /// Returns a builder of a thread.
    pub(crate) fn thread(&self, name: &str) -> thread::Builder {
        // A name with a NUL in it would make `spawn` panic.
        let builder = thread::Builder::new().name(name.replace('\0', ""));
        match self.stack_size {
            Some(bytes) => builder.stack_size(bytes),
            None => builder,
        }
    }
}

pub(crate) struct Threads {
    pub(crate) options: ThreadOptions,
    pub(crate) wanted: AtomicUsize,
    /// The workers that have not decided to exit. Changed under the lock, except by a thread that unwinds.
    pub(crate) alive: AtomicUsize,
    pub(crate) spawned: Lock<Spawned>,
    pub(crate) lookers: Arc<Lookers>,
    /// Those for blocking work.
    pub(crate) blocking: Arc<BlockingPool>,
}

#[derive(Default)]
pub(crate) struct Spawned {
    /// Threads that were not joined, some of which may have exited.
    pub(crate) handles: Vec<JoinHandle<()>>,
    /// The number of threads spawned so far, from which they get their names.
    pub(crate) count: usize,
}

impl Threads {
    pub(crate) fn new(name: Cow<'static, str>, options: ThreadOptions) -> Self {
        let (wanted, alive, spawned) = Default::default();
        let lookers = Arc::new(Lookers::new(0));
        let blocking = BlockingPool::new(name, options);
        Self { options, wanted, alive, spawned, lookers, blocking }
    }

    pub(crate) fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }

    pub(crate) fn wanted(&self) -> usize {
        self.wanted.load(Ordering::SeqCst)
    }

    /// Waits for a change of scale that is under way. None begins once the engine is closed.
    pub(crate) fn settle(&self) {
        drop(self.spawned.lock());
    }

    /// Whether the calling worker is to exit: there are too many, or it is `out_of_work` and the engine is done. If
    /// true, the worker no longer counts as alive.
    pub(crate) fn may_exit(&self, core: &Core, out_of_work: bool) -> bool {
        let must_exit = || {
            self.alive() > self.wanted()
                || (out_of_work && core.may_exit() && self.alive() > core.exempt())
        };
        if !must_exit() {
            return false;
        }
        let _spawned = self.spawned.lock();
        // Again, under the lock: another worker may have decided to exit first.
        if !must_exit() {
            return false;
        }
        self.alive.fetch_sub(1, Ordering::SeqCst);
        true
    }

    /// Takes a worker out of the count whose thread unwinds, and which thus hasn't decided to exit.
    pub(crate) fn lost_one(&self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }

    /// Joins the threads: `all` of them, or those that have exited.
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
