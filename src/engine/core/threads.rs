//! The client's own worker threads: their number and their handles; and the settings of all its threads.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::engine::base::lock::Lock;
use crate::engine::base::look::Lookers;
use crate::engine::base::sync::thread::{self, JoinHandle};
use crate::engine::base::sync::{AtomicUsize, Ordering};
use crate::engine::base::user_code::{drop_user_value, log_error};
use crate::engine::core::Core;
use crate::engine::core::blocking_pool::BlockingPool;
use crate::task::error::{forget_if_it_panics, panic_text};

/// A hook that runs the code of a thread, which it's given; see [`Builder::around_threads`](crate::Builder::around_threads).
#[derive(Clone)]
pub(crate) struct Around {
    /// Taken when it's dropped.
    hook: Option<Arc<Hook>>,
}

type Hook = dyn Fn(&mut dyn FnMut()) + Send + Sync;

impl Around {
    /// Makes a hook, within which another one runs, if there is one.
    pub(crate) fn new(
        inner: Option<Self>,
        hook: impl Fn(&mut dyn FnMut()) + Send + Sync + 'static,
    ) -> Self {
        let hook: Arc<Hook> = match inner {
            None => Arc::new(hook),
            Some(inner) => Arc::new(move |run| hook(&mut || inner.call(run))),
        };
        Self { hook: Some(hook) }
    }

    fn call(&self, run: &mut dyn FnMut()) {
        if let Some(hook) = &self.hook {
            hook(run);
        }
    }

    /// Has the hook run the code of a thread. The code runs in any case: tasks wait for the thread, which was counted already.
    fn run(&self, code: impl FnOnce()) {
        let mut code = Some(code);
        let mut run_once = || {
            if let Some(code) = code.take() {
                code();
            }
        };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.call(&mut run_once))) {
            log_error(format_args!("the hook around a thread panicked: {}", panic_text(&*payload)));
            forget_if_it_panics(payload);
        }
        run_once();
    }
}

impl Drop for Around {
    fn drop(&mut self) {
        // Its destructor is user code, and the last clone may be dropped by a worker or with the engine.
        drop_user_value(self.hook.take());
    }
}

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Around").finish_non_exhaustive()
    }
}

/// The settings of the threads of a client.
#[derive(Clone, Debug)]
pub(crate) struct ThreadOptions {
    /// The most threads for blocking work.
    pub(crate) blocking: usize,
    /// The size of the stack of each thread; `None` for the standard library's.
    pub(crate) stack_size: Option<usize>,
    /// Wraps the threads that run tasks or blocking work.
    pub(crate) around: Option<Around>,
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

    /// Starts a thread that runs tasks or blocking work, within the hook.
    pub(crate) fn spawn(
        &self,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let thread = self.thread(name);
        match self.around.clone() {
            None => thread.spawn(run),
            Some(around) => thread.spawn(move || around.run(run)),
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
        let blocking = BlockingPool::new(name, options.clone());
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
