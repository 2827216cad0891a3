//! Queueing of ready tasks, and wakes for them.
//!
//! Every path has the same order: push, then a sequentially consistent fence unless the push itself is one, then
//! [`Core::pushed`], which reads the count of idle workers and the shutdown phase. See
//! [`queue::idle`](crate::engine::queue::idle) for why no wake is lost. A task may be run, end, and be freed as soon as
//! it has been pushed.

use std::mem;
use std::ptr::{self, NonNull};

use crate::engine::base::sync::{Ordering, fence};
use crate::engine::core::Core;
use crate::engine::core::context::{self, ThreadContext};
use crate::engine::queue::local::Local;
use crate::engine::task::header::Task;
use crate::engine::task::state::{REQUEUED, STARTED};

/// Puts a task into a queue: this worker's own, if the worker belongs to the task's engine.
pub(crate) fn schedule(task: Task) {
    context::with_current(|context| match context {
        Some(context) if ptr::eq(context.core(), task.core()) => {
            context.core().schedule(task, context.local());
        }
        // Keeps the engine: once queued, the task may end and drop the last reference to it before this call returns.
        _ => task.core().to_ref().schedule(task, None),
    });
}

/// The most tasks to queue before idle workers are woken for them: a fence per task would cost more than the push.
const ANNOUNCED_TOGETHER: u32 = 64;

/// The tasks that a finishing task makes ready. They run before submitted ones, as their inputs are in this core's
/// cache, and idle workers are woken for several at a time.
pub(crate) struct MadeReady<'a> {
    context: Option<&'a ThreadContext<'static>>,
    /// Whether the first task may be put where only this worker can reach it: the worker is about to look for work.
    pub(crate) may_keep_one: bool,
    unannounced: u32,
}

/// Runs `code` with a collector of the tasks that it makes ready, and wakes workers for them.
pub(crate) fn make_ready(code: impl FnOnce(&mut MadeReady<'_>)) {
    context::with_current(|context| {
        let mut ready = MadeReady { context, may_keep_one: true, unannounced: 0 };
        code(&mut ready);
        ready.announce();
    });
}

impl MadeReady<'_> {
    pub(crate) fn push(&mut self, task: Task) {
        if task.core().must_abort(task.state.load()) {
            return task.core().abort_closed(&task);
        }
        let local_context = self.context.filter(|context| {
            let core = context.core();
            ptr::eq(core, task.core()) && task.priority() == 0 && core.seeded.is_none()
        });
        let Some(local) = local_context.and_then(|context| context.local()) else {
            return schedule(task);
        };
        // Without a fence or a wake: this worker runs the task next, unless `publish_all` or a second task comes first.
        let task = match self.may_keep_one {
            true => match local.set_next(task) {
                Ok(()) => return,
                Err(task) => task,
            },
            false => task,
        };
        // There are several: the first one is published too, now, so that it stays the oldest.
        self.may_keep_one = false;
        self.unannounced += u32::from(local.publish_next()) + 1;
        local.push_fresh(task);
        if self.unannounced >= ANNOUNCED_TOGETHER {
            self.announce();
        }
    }

    /// Moves all tasks to where other workers can steal them, before user code that may take long.
    pub(crate) fn publish_all(&mut self) {
        let shown =
            self.context.and_then(|context| context.local()).is_some_and(Local::publish_next);
        self.unannounced += u32::from(shown);
        self.announce();
    }

    /// Wakes a worker for the tasks that were queued since the last call.
    fn announce(&mut self) {
        if mem::take(&mut self.unannounced) > 0 {
            // The pushes were plain stores: they must be visible before idle workers are counted.
            fence(Ordering::SeqCst);
            // `true`: tasks that were just made ready haven't started.
            self.context.into_iter().for_each(|context| context.core().pushed(true));
        }
    }
}

/// Queues a new task. The caller has a handle of it or its client.
pub(crate) fn schedule_new(task: Task) {
    // SAFETY: the handle or the client keeps the engine in memory, even if the task ends meanwhile.
    let core = unsafe { NonNull::from(task.core()).as_ref() };
    context::with_current(|context| {
        let local = context.filter(|context| ptr::eq(context.core(), core));
        core.schedule(task, local.and_then(|context| context.local()));
    });
}

/// Queues new tasks together, with one wake.
pub(crate) fn schedule_all(core: &Core, tasks: &mut Vec<Task>) {
    context::with_current(|context| {
        let local = context.filter(|context| ptr::eq(context.core(), core));
        core.schedule_all(tasks, local.and_then(|context| context.local()));
    });
}

impl Core {
    /// Queues a task at the end of the worker's own queue, or of the shared one.
    pub(crate) fn schedule(&self, task: Task, local: Option<&Local>) {
        let state = task.state.load();
        if self.must_abort(state) {
            // Only this task: the shutdown sweeps the tasks that were queued before it.
            return self.abort_closed(&task);
        }
        let is_new = state & STARTED == 0;
        self.enqueue(task, local);
        self.pushed(is_new);
    }

    /// Puts a task into the queue that its priority and the calling thread determine. The caller calls `pushed` after
    /// this.
    pub(crate) fn enqueue(&self, task: Task, local: Option<&Local>) {
        let priority = task.priority();
        if let Some(seeded) = &self.seeded {
            seeded.push(priority, task);
        } else if priority != 0 {
            self.priority_queue.push(priority, task);
        } else if let Some(local) = local {
            local.push(task);
            // The push was a plain store: it must be visible before idle workers are counted.
            fence(Ordering::SeqCst);
        } else if task.state.load() & REQUEUED != 0 {
            self.priority_queue.push(priority, task);
        } else {
            self.injector.push(task);
        }
    }

    /// Queues tasks together, with one wake.
    pub(crate) fn schedule_all(&self, tasks: &mut Vec<Task>, local: Option<&Local>) {
        tasks.retain(|task| {
            // As in `schedule`.
            let refused = self.must_abort(task.state.load());
            if refused {
                self.abort_closed(task);
            }
            !refused
        });
        if tasks.is_empty() {
            return;
        }
        let any_new = tasks.iter().any(|task| task.state.load() & STARTED == 0);
        let plain = self.seeded.is_none() && tasks.iter().all(Self::is_plain);
        match local {
            None if plain => self.injector.push_all(tasks.drain(..)),
            Some(local) if plain => {
                tasks.drain(..).for_each(|task| local.push(task));
                // As in `enqueue`.
                fence(Ordering::SeqCst);
            }
            _ => tasks.drain(..).for_each(|task| self.enqueue(task, local)),
        }
        self.pushed(any_new);
    }

    /// Whether the injector may hold the task. It links the tasks themselves, so one that may be queued twice is
    /// excluded.
    fn is_plain(task: &Task) -> bool {
        task.priority() == 0 && task.state.load() & REQUEUED == 0
    }

    /// Wakes a worker after tasks were queued. `any_new` says whether one of them hasn't started.
    pub(crate) fn pushed(&self, any_new: bool) {
        if self.seeded.is_some() {
            // All of them: a waiter outside may no longer poll its future, and would run nothing.
            self.wake_all_workers();
        } else {
            self.wake_worker();
        }
        // The phase is checked after the push: the sweep of a shutdown may have passed this queue before. While the
        // engine is closing, started tasks stay queued as long as a worker is left to run them.
        if self.is_closed() && (any_new || self.is_aborted() || self.has_no_workers()) {
            self.sweep();
        }
    }
}
