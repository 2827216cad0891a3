//! The context of a thread that works for an engine: its worker, its task, and what the task begins to await.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::resume_unwind;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::engine::base::sync::thread_local;
use crate::engine::base::user_code::log_panic;
use crate::engine::core::{Core, CoreRef, budget};
use crate::engine::fork::job::Origin;
use crate::engine::fork::scope;
use crate::engine::queue::local::Local;
use crate::engine::task::header::{Header, Task, TaskRef};
use crate::engine::task::inherited::Inherited;
use crate::engine::watch::observer::TaskEvent;
use crate::task::subject::Subject;

/// The context of a worker that is being polled, of a blocking closure, or of a branch of a join that another thread has
/// forked. Contexts nest.
pub(crate) struct ThreadContext<'a> {
    core: &'a Core,
    /// The queues of the worker; `None` for a blocking closure.
    local: Option<&'a Local>,
    /// The number of the worker.
    worker: usize,
    /// The task whose code is running.
    task: Cell<Option<NonNull<Header>>>,
    /// The number of the blocking work, by which its task knows it.
    work: u32,
    /// Whether the blocking closure waits for one task and nothing else.
    blocks: Cell<bool>,
    /// The origin of the branch that is running. Its task isn't `task`, whose poll, with its awaits, is on another thread.
    origin: Origin,
    /// The results that the task may still take in this poll, and 0 between polls; see [`budget`].
    budget: Cell<u32>,
    /// Whether the task found a task, members of a completion queue or its blocking work pending in this poll.
    awaits: Cell<bool>,
    /// Whether it began an await in this poll that may close a cycle.
    searches: Cell<bool>,
    /// The tasks that it began to await in this poll. Some may have ended, or been abandoned.
    begun: RefCell<Vec<Task>>,
    /// The context in which this one was entered.
    outer: Cell<*const ThreadContext<'static>>,
}

thread_local! {
    static CURRENT: Cell<*const ThreadContext<'static>> = const { Cell::new(ptr::null()) };
}

impl<'a> ThreadContext<'a> {
    pub(crate) fn of_worker(core: &'a Core, local: &'a Local, worker: usize) -> Self {
        Self::new(core, Some(local), worker)
    }

    fn new(core: &'a Core, local: Option<&'a Local>, worker: usize) -> Self {
        Self {
            core,
            local,
            worker,
            task: Cell::new(None),
            work: 0,
            blocks: Cell::new(false),
            origin: Origin::default(),
            budget: Cell::new(0),
            awaits: Cell::new(false),
            searches: Cell::new(false),
            begun: RefCell::default(),
            outer: Cell::new(ptr::null()),
        }
    }

    /// Creates the context of a blocking closure of `task`, which awaits it, by this number if not in its own poll.
    /// `is_abandoned` tells when it no longer does; it's `None` on a seeded client, whose tasks call their closures in a poll.
    pub(crate) fn of_blocking(
        core: &'a Core,
        task: Option<&'a Task>,
        work: u32,
        is_abandoned: Option<&'a AtomicBool>,
    ) -> Self {
        let origin = Origin { task: None, is_abandoned: is_abandoned.map(NonNull::from) };
        let task = Cell::new(task.map(|task| task.as_ref().as_ptr()));
        Self { task, work, origin, ..Self::new(core, None, 0) }
    }

    /// Creates the context of a branch that another thread has forked, on the thread of `outer`.
    ///
    /// # Safety
    ///
    /// The origin is that of a branch which isn't done before the context is dropped.
    pub(crate) unsafe fn of_branch(outer: &Self, origin: Origin) -> Self {
        Self { origin, ..Self::new(outer.core, outer.local, outer.worker) }
    }

    /// Runs `code` in this context.
    pub(crate) fn enter<R>(&self, code: impl FnOnce() -> R) -> R {
        struct Leave(*const ThreadContext<'static>);
        impl Drop for Leave {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        self.outer.set(CURRENT.replace(ptr::from_ref(self).cast()));
        let _leave = Leave(self.outer.get());
        let _restore = scope::leave();
        code()
    }

    /// Runs `code`, a poll of `task`, which must not panic.
    pub(crate) fn with_task<R>(&self, task: &Task, code: impl FnOnce() -> R) -> R {
        self.task.set(Some(task.as_ref().as_ptr()));
        self.budget.set(budget::READY_IN_A_ROW);
        self.awaits.set(false);
        self.searches.set(false);
        let result = code();
        self.task.set(None);
        self.budget.set(0);
        result
    }

    pub(crate) fn core(&self) -> &'a Core {
        self.core
    }

    /// Returns the queues of the worker; `None` for a blocking closure.
    pub(crate) fn local(&self) -> Option<&'a Local> {
        self.local
    }

    pub(crate) fn worker(&self) -> usize {
        self.worker
    }

    /// The origin of the code that is running, for a branch that it shares; `None` if it's not that of a task.
    pub(crate) fn origin(&self) -> Option<Origin> {
        let origin = Origin { task: self.task.get().or(self.origin.task), ..self.origin };
        (origin.task.is_some() || origin.is_abandoned.is_some()).then_some(origin)
    }

    /// Whether the code that is running was cancelled or is no longer needed.
    pub(crate) fn is_cancelled(&self) -> bool {
        let Some(origin) = self.origin() else { return false };
        match (origin.is_abandoned, origin.task) {
            // SAFETY: borrowed by a blocking closure's context for its whole life, and the closure's joins end before it.
            (Some(is_abandoned), _) => unsafe { is_abandoned.as_ref() }.load(Ordering::Relaxed),
            (None, Some(task)) => {
                // SAFETY: as in `current_task`; the task of a branch stays in its poll until the branch is done.
                let task = unsafe { TaskRef::new(task) };
                task.waiters.is_aborting() || task.core().is_aborted()
            }
            (None, None) => false,
        }
    }

    /// Whether the task found a task, members of a completion queue or its blocking work pending in the poll that just ended.
    pub(crate) fn awaits(&self) -> bool {
        self.awaits.get()
    }

    /// Whether a search for cycles is due after the poll that just ended.
    pub(crate) fn searches(&self) -> bool {
        self.searches.get()
    }

    /// Takes the awaits that the poll that just ended has begun.
    pub(crate) fn take_begun(&self) -> Vec<Task> {
        self.begun.take()
    }
}

/// Calls `use_it` with the context of this thread; `None` if it has none.
fn current<R>(use_it: impl FnOnce(&ThreadContext<'static>) -> R) -> Option<R> {
    with_current(|context| context.map(use_it))
}

/// Calls `use_it` with the context of this thread, if it has one.
pub(crate) fn with_current<R>(
    use_it: impl for<'c> FnOnce(Option<&'c ThreadContext<'static>>) -> R,
) -> R {
    // SAFETY: `enter` borrows the context for as long as the pointer to it is set.
    use_it(unsafe { CURRENT.get().as_ref() })
}

/// Returns the engine that this thread works for.
pub(crate) fn current_core() -> Option<CoreRef> {
    current(|context| context.core.to_ref())
}

/// Returns the task whose code is running on this thread.
pub(crate) fn current_task() -> Option<Task> {
    // SAFETY: the task is borrowed for as long as it is set: by `with_task`, or by a blocking closure's context for its
    // whole life.
    current(|context| context.task.get().map(|task| unsafe { TaskRef::new(task) }.to_task()))
        .flatten()
}

/// Calls `use_it` with the task whose code is running on this thread; `None` if there is none.
pub(crate) fn with_current_task<R>(use_it: impl FnOnce(TaskRef<'_>) -> R) -> Option<R> {
    // SAFETY: as in `current_task`.
    current(|context| context.task.get().map(|task| use_it(unsafe { TaskRef::new(task) })))
        .flatten()
}

/// Returns the number of the task for which code is running on this thread, if it is one of this engine and is watched.
pub(crate) fn current_number(core: &Core) -> Option<u64> {
    current(|context| {
        let origin = context.origin().filter(|_| ptr::eq(context.core, core))?;
        // SAFETY: as in `ThreadContext::is_cancelled`.
        unsafe { TaskRef::new(origin.task?) }.number()
    })
    .flatten()
}

/// Returns what the task whose code is running on this thread passes on to those that it submits, if it is one of this
/// engine.
pub(crate) fn inherited(core: &Core) -> Option<Inherited> {
    if !core.inherits.load(Ordering::Relaxed) {
        return None;
    }
    current(|context| {
        let origin = context.origin().filter(|_| ptr::eq(context.core, core))?;
        // SAFETY: as in `ThreadContext::is_cancelled`.
        unsafe { TaskRef::new(origin.task?) }.get().extras()?.inherited.clone()
    })
    .flatten()
}

/// Returns what errors say of the current task.
pub(crate) fn current_subject() -> Subject {
    current_task().map_or_else(|| "(no task)".into(), |task| task.subject())
}

/// Returns the priority of the current task; 0 without one.
pub(crate) fn current_priority() -> i32 {
    current_task().map_or(0, |task| task.priority())
}

/// Whether the code that is running on this thread was cancelled or is no longer needed.
pub(crate) fn current_is_cancelled() -> bool {
    current(ThreadContext::is_cancelled).unwrap_or(false)
}

/// The payload with which a join of a cancelled task unwinds.
struct Unwinding;

/// Ends the code that is running on this thread, up to its poll, if it was cancelled or is no longer needed.
pub(crate) fn unwind_if_cancelled() {
    if current_is_cancelled() {
        // Without the panic hook: nothing has gone wrong.
        resume_unwind(Box::new(Unwinding));
    }
}

/// Whether this is the payload of a join that unwinds because the task whose code it caught was cancelled. One of another
/// task is a panic as any other.
pub(crate) fn is_unwinding(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Unwinding>() && current_is_cancelled()
}

/// Takes a result from the budget of the poll that is under way on this thread; false if there is none left, or no poll.
#[inline]
pub(crate) fn take_from_budget() -> bool {
    with_current(|context| {
        let Some(context) = context else { return false };
        let left = context.budget.get();
        if left > 0 {
            context.budget.set(left - 1);
        }
        left > 0
    })
}

/// Whether this thread runs code of a task, or anything else for an engine. Asked in the panic hook.
pub(crate) fn is_at_work() -> bool {
    !CURRENT.get().is_null()
}

/// Whether a poll of a task is under way on this thread.
pub(crate) fn is_in_poll() -> bool {
    current(|context| context.local.is_some() && context.task.get().is_some()).unwrap_or(false)
}

/// Whether blocking this thread would keep a worker from running tasks.
pub(crate) fn on_worker() -> bool {
    current(|context| context.local.is_some()).unwrap_or(false)
}

/// Whether this thread is in a poll of one of this engine's workers, however deep.
pub(crate) fn works_for(core: &Core) -> bool {
    let mut at = CURRENT.get();
    // SAFETY: `enter` borrows each context for as long as a pointer to it is set, here or in the one entered in it.
    while let Some(context) = unsafe { at.as_ref() } {
        if context.local.is_some() && ptr::eq(context.core, core) {
            return true;
        }
        at = context.outer.get();
    }
    false
}

/// Returns the task of this engine whose code or blocking closure runs on this thread and is about to wait, and whether
/// the thread is in a poll of the task.
pub(crate) fn current_waiter(core: &Core) -> Option<(Task, bool)> {
    let in_poll = |context: &ThreadContext<'_>| {
        // A seeded client runs blocking closures within the poll.
        ptr::eq(context.core, core).then_some(context.local.is_some() || core.seeded.is_some())
    };
    let in_its_poll = current(in_poll).flatten()?;
    Some((current_task()?, in_its_poll))
}

/// Runs `code`, in which the blocking closure on this thread, if there is one, waits for one task and nothing else.
pub(crate) fn while_blocked<R>(code: impl FnOnce() -> R) -> R {
    struct Unblock;
    impl Drop for Unblock {
        fn drop(&mut self) {
            current(|context| context.blocks.set(false));
        }
    }
    current(|context| context.blocks.set(true));
    let _unblock = Unblock;
    code()
}

/// Returns the number of the blocking work whose closure waits on this thread, for one task and nothing else.
pub(crate) fn blocked_work() -> Option<u32> {
    current(|context| context.blocks.get().then_some(context.work)).flatten()
}

/// Records that the current task, if there is one, begins to await `task`, which may itself wait for a task or not. Returns
/// true in a blocking closure that waits for nothing else: its wait belongs to no poll.
pub(crate) fn note_await(task: TaskRef<'_>) -> bool {
    current(|context| {
        let Some(awaiter) = context.task.get() else { return context.blocks.get() };
        if context.local.is_none() {
            // SAFETY: as in `current_task`.
            note_await_of_blocking(unsafe { TaskRef::new(awaiter) }, task);
            return context.blocks.get();
        }
        context.begun.borrow_mut().push(task.to_task());
        if !context.searches.get() && task.may_wait() {
            context.searches.set(true);
        }
        false
    })
    .unwrap_or(false)
}

/// Notifies the observer that the blocking closure of `awaiter` awaits `task`. That belongs to no poll.
#[cold]
fn note_await_of_blocking(awaiter: TaskRef<'_>, task: TaskRef<'_>) {
    if let Some(number) = task.number() {
        let state = awaiter.state.load();
        awaiter.core().observer.notify(awaiter, state, TaskEvent::Awaits(&[number]));
    }
}

/// Records that a search for cycles is due after this poll of the current task.
pub(crate) fn note_search() {
    current(|context| context.searches.set(true));
}

/// Records that the current task found what it awaits pending: a task, or members of a completion queue. Returns its
/// priority, if there is such a task.
pub(crate) fn note_pending() -> Option<i32> {
    current(|context| {
        context.awaits.set(true);
        // SAFETY: as in `current_task`.
        context.task.get().map(|task| unsafe { TaskRef::new(task) }.priority())
    })
    .flatten()
}

/// Reports a panic of user code to the engine that this thread works for, or to the log if there is none.
pub(crate) fn report_panic(payload: Box<dyn Any + Send>) {
    match current_core() {
        Some(core) => core.report_panic(payload),
        None => log_panic(payload),
    }
}
