//! Queueing tasks, and waking workers for them.

use std::mem;
use std::ptr::{self, NonNull};

use crate::engine::base::sync::{Ordering, fence};
use crate::engine::core::Core;
use crate::engine::core::context::{self, ThreadContext};
use crate::engine::queue::local::Local;
use crate::engine::task::header::Task;
use crate::engine::task::state::{REQUEUED, STARTED};

/// Puts a task into a queue: this worker's, if it's one of the task's engine.
pub(crate) fn schedule(task: Task) {
    context::with_current(|context| match context {
        Some(context) if ptr::eq(context.core(), task.core()) => {
            context.core().schedule(task, context.local());
        }
        // Once it's in the queue the task may end, and its engine go, before we're through.
        _ => task.core().to_ref().schedule(task, None),
    });
}

/// So many tasks are queued before sleeping workers are told of them, at most.
const ANNOUNCED_TOGETHER: u32 = 64;

/// The tasks that a finishing one makes ready: they go first, before what was submitted, and are announced
/// some at a time.
pub(crate) struct MadeReady<'a> {
    context: Option<&'a ThreadContext<'static>>,
    /// Whether this worker may keep one where nobody else can take it: it's about to look for work.
    pub(crate) may_keep_one: bool,
    unannounced: u32,
}

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
        let here = self.context.filter(|context| {
            let core = context.core();
            ptr::eq(core, task.core()) && task.priority() == 0 && core.seeded.is_none()
        });
        let Some(local) = here.and_then(|context| context.local()) else {
            return schedule(task);
        };
        let task = match self.may_keep_one {
            true => match local.set_next(task) {
                Ok(()) => return,
                Err(task) => task,
            },
            false => task,
        };
        // One is kept where it's the only one: else the eldest would come last if it were shown later.
        self.may_keep_one = false;
        self.unannounced += u32::from(local.publish_next()) + 1;
        local.push_fresh(task);
        if self.unannounced >= ANNOUNCED_TOGETHER {
            self.announce();
        }
    }

    /// Before foreign code, which may take its time: leaves nothing where only this worker finds it.
    pub(crate) fn publish_all(&mut self) {
        let shown =
            self.context.and_then(|context| context.local()).is_some_and(Local::publish_next);
        self.unannounced += u32::from(shown);
        self.announce();
    }

    /// Wakes a worker for what was queued.
    fn announce(&mut self) {
        if mem::take(&mut self.unannounced) > 0 {
            // Before looking for sleepers.
            fence(Ordering::SeqCst);
            // What has just been made ready hasn't started.
            self.context.into_iter().for_each(|context| context.core().pushed(true));
        }
    }
}

/// Queues a new task. The caller has a handle of it, or its client.
pub(crate) fn schedule_new(task: Task) {
    // SAFETY: what the caller has keeps the engine in memory, also when the task has ended meanwhile.
    let core = unsafe { NonNull::from(task.core()).as_ref() };
    context::with_current(|context| {
        let local = context.filter(|context| ptr::eq(context.core(), core));
        core.schedule(task, local.and_then(|context| context.local()));
    });
}

/// Queues new tasks, at once.
pub(crate) fn schedule_all(core: &Core, tasks: &mut Vec<Task>) {
    context::with_current(|context| {
        let local = context.filter(|context| ptr::eq(context.core(), core));
        core.schedule_all(tasks, local.and_then(|context| context.local()));
    });
}

impl Core {
    /// Queues a task: at the end of the worker's own queue, or of the shared one.
    pub(crate) fn schedule(&self, task: Task, local: Option<&Local>) {
        let state = task.state.load();
        if self.must_abort(state) {
            // Without a look at all that is queued, which is for those who were here before it was closed.
            return self.abort_closed(&task);
        }
        let is_new = state & STARTED == 0;
        self.enqueue(task, local);
        self.pushed(is_new);
    }

    pub(crate) fn enqueue(&self, task: Task, local: Option<&Local>) {
        let priority = task.priority();
        if let Some(seeded) = &self.seeded {
            seeded.push(priority, task);
        } else if priority != 0 || task.state.load() & REQUEUED != 0 {
            self.priority_queue.push(priority, task);
        } else if let Some(local) = local {
            local.push(task);
            // Before looking for sleepers.
            fence(Ordering::SeqCst);
        } else {
            self.injector.push(task);
        }
    }

    /// Queues tasks, at once.
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

    /// Whether a task may go into the queue that links its tasks.
    fn is_plain(task: &Task) -> bool {
        task.priority() == 0 && task.state.load() & REQUEUED == 0
    }

    /// After something was queued: new tasks among it, or only started ones.
    pub(crate) fn pushed(&self, any_new: bool) {
        if self.seeded.is_some() {
            // Some that sleep may have lost interest.
            self.idle_workers.wake_all();
        } else {
            self.idle_workers.wake_one();
        }
        // While closing, started tasks go on, as long as somebody runs them.
        if self.is_closed() && (any_new || self.is_aborted() || self.has_no_workers()) {
            self.sweep();
        }
    }
}
