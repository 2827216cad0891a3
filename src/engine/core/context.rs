//! The context of a thread that works for an engine: its worker, its task, and what the task awaits.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ptr::{self, NonNull};

use crate::Key;
use crate::engine::base::sync::thread_local;
use crate::engine::base::user_code::log_panic;
use crate::engine::core::{Core, CoreRef, budget};
use crate::engine::queue::local::Local;
use crate::engine::queue::owned_tasks::Awaited;
use crate::engine::task::header::{Header, Task, TaskRef};

/// The context of a worker that is being polled, or of a blocking closure. Contexts nest.
pub(crate) struct ThreadContext<'a> {
    core: &'a Core,
    /// The queues of the worker; `None` for a blocking closure.
    local: Option<&'a Local>,
    /// The number of the worker.
    worker: usize,
    /// The task whose code is running.
    task: Cell<Option<NonNull<Header>>>,
    /// The results that the task may still take in this poll, and 0 between polls; see [`budget`].
    budget: Cell<u32>,
    /// Whether the task waits for members of a completion queue in this poll.
    members: Cell<bool>,
    /// The tasks that the task began to await in this poll.
    awaited: RefCell<Awaited>,
    /// Abandoned awaits that were not yet removed from `awaited`: a task is listed once for each entry to remove.
    abandoned: RefCell<Vec<NonNull<Header>>>,
    /// The context in which this one was entered.
    outer: Cell<*const ThreadContext<'static>>,
}

/// The number of most recent awaits to search for an abandoned one. The others are removed in bulk, so that a poll
/// that abandons many awaits doesn't search all of them each time.
const SEARCHED_AT_ONCE: usize = 8;

thread_local! {
    static CURRENT: Cell<*const ThreadContext<'static>> = const { Cell::new(ptr::null()) };
}

impl<'a> ThreadContext<'a> {
    pub(crate) fn of_worker(core: &'a Core, local: &'a Local, worker: usize) -> Self {
        let (local, task) = (Some(local), Cell::new(None));
        Self {
            core,
            local,
            worker,
            task,
            budget: Cell::new(0),
            members: Cell::new(false),
            awaited: RefCell::default(),
            abandoned: RefCell::default(),
            outer: Cell::new(ptr::null()),
        }
    }

    /// Creates the context of a blocking closure of `task`, which awaits it.
    pub(crate) fn of_blocking(core: &'a Core, task: Option<&'a Task>) -> Self {
        let task = Cell::new(task.map(|task| task.as_ref().as_ptr()));
        let (budget, members, awaited, abandoned) = Default::default();
        let outer = Cell::new(ptr::null());
        Self { core, local: None, worker: 0, task, budget, members, awaited, abandoned, outer }
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
        code()
    }

    /// Runs `code`, a poll of `task`, which must not panic.
    pub(crate) fn with_task<R>(&self, task: &Task, code: impl FnOnce() -> R) -> R {
        self.task.set(Some(task.as_ref().as_ptr()));
        self.budget.set(budget::READY_IN_A_ROW);
        self.members.set(false);
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

    /// Whether the task waited for members of a completion queue in the poll that just ended.
    pub(crate) fn awaits_members(&self) -> bool {
        self.members.get()
    }

    /// Takes the awaits of the poll that just ended.
    pub(crate) fn take_awaited(&self) -> Awaited {
        drop(self.remove_abandoned());
        let awaited = &mut *self.awaited.borrow_mut();
        if !awaited.tasks.is_empty() && self.members.get() {
            awaited.more = true;
        }
        if awaited.is_nothing() { Awaited::default() } else { std::mem::take(awaited) }
    }
}

impl ThreadContext<'_> {
    /// Removes an await of this task: at once if it's one of the most recent, else together with others. Returns the
    /// references for the caller to drop, as that may run user code and the cells are borrowed here.
    fn remove_await(&self, task: TaskRef<'_>) -> Vec<Task> {
        let tasks = &mut self.awaited.borrow_mut().tasks;
        let near = tasks.len().saturating_sub(SEARCHED_AT_ONCE);
        if let Some(at) = tasks[near..].iter().rposition(|other| other.as_ref().is(task)) {
            return vec![tasks.swap_remove(near + at)];
        }
        let abandoned = &mut self.abandoned.borrow_mut();
        abandoned.push(task.as_ptr());
        if abandoned.len() > tasks.len() / 2 { remove_all(tasks, abandoned) } else { Vec::new() }
    }

    fn remove_abandoned(&self) -> Vec<Task> {
        let abandoned = &mut *self.abandoned.borrow_mut();
        if abandoned.is_empty() {
            return Vec::new();
        }
        remove_all(&mut self.awaited.borrow_mut().tasks, abandoned)
    }
}

/// Removes the abandoned tasks from `tasks` and returns them, in linear time.
fn remove_all(tasks: &mut Vec<Task>, abandoned: &mut Vec<NonNull<Header>>) -> Vec<Task> {
    let mut counts = HashMap::new();
    for task in abandoned.drain(..) {
        *counts.entry(task).or_insert(0u32) += 1;
    }
    let mut is_abandoned = |task: &Task| match counts.get_mut(&task.as_ref().as_ptr()) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    };
    let (mut out, mut left) = (Vec::new(), Vec::new());
    for task in tasks.drain(..) {
        if is_abandoned(&task) { out.push(task) } else { left.push(task) }
    }
    *tasks = left;
    out
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

/// Returns the number of the current task, if it is one of this engine and is watched.
pub(crate) fn current_number(core: &Core) -> Option<u64> {
    current(|context| {
        let task = context.task.get().filter(|_| ptr::eq(context.core, core))?;
        // SAFETY: as in `current_task`.
        unsafe { TaskRef::new(task) }.number()
    })
    .flatten()
}

/// Returns the key of the current task.
pub(crate) fn current_key() -> Key {
    current_task().map_or_else(|| "(no task)".into(), |task| task.key().clone())
}

/// Returns the priority of the current task; 0 without one.
pub(crate) fn current_priority() -> i32 {
    current_task().map_or(0, |task| task.priority())
}

/// Whether the current task will be dropped at its next await.
pub(crate) fn current_is_aborting() -> bool {
    current_abort_probe()()
}

/// Returns a function that checks later whether the task that is current now will be dropped at its next await.
pub(crate) fn current_abort_probe() -> impl Fn() -> bool {
    let task = current_task();
    move || task.as_ref().is_some_and(|task| task.waiters.is_aborting() || task.core().is_aborted())
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

/// Records that the current task awaits `task` in this poll.
pub(crate) fn note_await(task: TaskRef<'_>) {
    current(|context| {
        // An await of a blocking closure belongs to no poll.
        if context.local.is_some() {
            context.awaited.borrow_mut().tasks.push(task.to_task());
        }
    });
}

/// Removes the record that `awaiter` awaits `task`, if `awaiter` is in its poll on this thread: the await was rejected
/// or abandoned.
pub(crate) fn remove_await(awaiter: TaskRef<'_>, task: TaskRef<'_>) {
    let removed = current(|context| {
        let is_its_poll = context.local.is_some() && context.task.get() == Some(awaiter.as_ptr());
        is_its_poll.then(|| context.remove_await(task))
    });
    // Not within `current`: dropping a task may run user code, which may use the context.
    drop(removed);
}

/// Records that the current task waits for members of a completion queue.
pub(crate) fn note_members() {
    current(|context| context.members.set(true));
}

/// Records that the current task awaits things that aren't listed.
pub(crate) fn note_more_awaits() {
    note_others(false);
}

/// Records that the current task awaits its own blocking closure, and thus whatever that waits for.
pub(crate) fn note_blocking() {
    note_others(true);
}

fn note_others(blocking: bool) {
    current(|context| {
        let awaited = &mut *context.awaited.borrow_mut();
        awaited.more = true;
        awaited.blocking |= blocking;
    });
}

/// Reports a panic of user code to the engine that this thread works for, or to the log if there is none.
pub(crate) fn report_panic(payload: Box<dyn Any + Send>) {
    match current_core() {
        Some(core) => core.report_panic(payload),
        None => log_panic(payload),
    }
}
