//! What this thread is doing for an engine.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ptr::{self, NonNull};

use crate::Key;
use crate::engine::base::sync::thread_local;
use crate::engine::base::user_code::log_panic;
use crate::engine::core::{Core, CoreRef};
use crate::engine::queue::local::Local;
use crate::engine::queue::owned_tasks::Awaited;
use crate::engine::task::header::{Header, Task, TaskRef};

/// One for each worker being polled, and for each blocking closure. They nest.
pub(crate) struct ThreadContext<'a> {
    core: &'a Core,
    /// The queue of the worker being polled, and its number.
    local: Option<&'a Local>,
    worker: usize,
    /// The task whose code is running.
    task: Cell<Option<NonNull<Header>>>,
    /// What the task has begun to await in this poll.
    awaited: RefCell<Awaited>,
    /// What it has given up again, and is still among those: a task is here as often as it's to be taken out there.
    abandoned: RefCell<Vec<NonNull<Header>>>,
}

/// Of what a poll awaits, so many of the last are looked at one by one when something is given up.
const LOOKED_AT_AT_ONCE: usize = 8;

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
            awaited: RefCell::default(),
            abandoned: RefCell::default(),
        }
    }

    /// For blocking work of `task`, which waits for it meanwhile.
    pub(crate) fn of_blocking(core: &'a Core, task: Option<&'a Task>) -> Self {
        let task = Cell::new(task.map(|task| task.as_ref().as_ptr()));
        let (awaited, abandoned) = Default::default();
        Self { core, local: None, worker: 0, task, awaited, abandoned }
    }

    /// Runs `code` in this context.
    pub(crate) fn enter<R>(&self, code: impl FnOnce() -> R) -> R {
        struct Leave(*const ThreadContext<'static>);
        impl Drop for Leave {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _leave = Leave(CURRENT.replace(ptr::from_ref(self).cast()));
        code()
    }

    /// Runs a poll of `task`; the code doesn't panic.
    pub(crate) fn with_task<R>(&self, task: &Task, code: impl FnOnce() -> R) -> R {
        self.task.set(Some(task.as_ref().as_ptr()));
        let result = code();
        self.task.set(None);
        result
    }

    pub(crate) fn core(&self) -> &'a Core {
        self.core
    }

    /// The queue of the worker; `None` for blocking work.
    pub(crate) fn local(&self) -> Option<&'a Local> {
        self.local
    }

    pub(crate) fn worker(&self) -> usize {
        self.worker
    }

    /// What the poll that has just ended awaits.
    pub(crate) fn take_awaited(&self) -> Awaited {
        drop(self.take_out_abandoned());
        let awaited = &mut *self.awaited.borrow_mut();
        if awaited.is_nothing() { Awaited::default() } else { std::mem::take(awaited) }
    }
}

impl ThreadContext<'_> {
    /// Takes a note of this task back: at once if it's one of the last, else together with others. Returns what is to be
    /// dropped.
    fn take_back(&self, task: TaskRef<'_>) -> Vec<Task> {
        let tasks = &mut self.awaited.borrow_mut().tasks;
        let near = tasks.len().saturating_sub(LOOKED_AT_AT_ONCE);
        if let Some(at) = tasks[near..].iter().rposition(|other| other.as_ref().is(task)) {
            return vec![tasks.swap_remove(near + at)];
        }
        let abandoned = &mut self.abandoned.borrow_mut();
        abandoned.push(task.as_ptr());
        if abandoned.len() > tasks.len() / 2 { take_out(tasks, abandoned) } else { Vec::new() }
    }

    fn take_out_abandoned(&self) -> Vec<Task> {
        let abandoned = &mut *self.abandoned.borrow_mut();
        if abandoned.is_empty() {
            return Vec::new();
        }
        take_out(&mut self.awaited.borrow_mut().tasks, abandoned)
    }
}

fn take_out(tasks: &mut Vec<Task>, abandoned: &mut Vec<NonNull<Header>>) -> Vec<Task> {
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

fn current<R>(look: impl FnOnce(&ThreadContext<'static>) -> R) -> Option<R> {
    let context = CURRENT.get();
    // SAFETY: a context is set only within `enter`, whose borrow outlives it.
    unsafe { context.as_ref() }.map(look)
}

/// Calls `use_it` with the context of this thread, if it has one.
pub(crate) fn with_current<R>(
    use_it: impl for<'c> FnOnce(Option<&'c ThreadContext<'static>>) -> R,
) -> R {
    // SAFETY: as in `current`.
    use_it(unsafe { CURRENT.get().as_ref() })
}

/// The engine that this thread is working for.
pub(crate) fn current_core() -> Option<CoreRef> {
    current(|context| context.core.to_ref())
}

/// The task whose code is running on this thread.
pub(crate) fn current_task() -> Option<Task> {
    // SAFETY: the task is set only within `with_task`, or for the context's own life, by borrows that
    // outlive that.
    current(|context| context.task.get().map(|task| unsafe { TaskRef::new(task) }.to_task()))
        .flatten()
}

/// Looks at the task whose code is running on this thread.
pub(crate) fn with_current_task<R>(look: impl FnOnce(TaskRef<'_>) -> R) -> Option<R> {
    // SAFETY: as in `current_task`.
    current(|context| context.task.get().map(|task| look(unsafe { TaskRef::new(task) }))).flatten()
}

/// The number of the task of this engine whose code is running, if it's watched.
pub(crate) fn current_number(core: &Core) -> Option<u64> {
    current(|context| {
        let task = context.task.get().filter(|_| ptr::eq(context.core, core))?;
        // SAFETY: as in `current_task`.
        unsafe { TaskRef::new(task) }.number()
    })
    .flatten()
}

/// The key of the task whose code is running.
pub(crate) fn current_key() -> Key {
    current_task().map_or_else(|| "(no task)".into(), |task| task.key().clone())
}

/// The priority of the task whose code is running.
pub(crate) fn current_priority() -> i32 {
    current_task().map_or(0, |task| task.priority())
}

/// Whether the task whose code is running will be dropped at its next await.
pub(crate) fn current_is_aborting() -> bool {
    current_abort_probe()()
}

/// Tells the same later, from other code on this thread.
pub(crate) fn current_abort_probe() -> impl Fn() -> bool {
    let task = current_task();
    move || task.as_ref().is_some_and(|task| task.waiters.is_aborting() || task.core().is_aborted())
}

/// Whether blocking this thread would keep a worker from running tasks.
pub(crate) fn on_worker() -> bool {
    current(|context| context.local.is_some()).unwrap_or(false)
}

/// The task of this engine whose code, or whose blocking work, is running on this thread, and whether this is its poll.
pub(crate) fn current_waiter(core: &Core) -> Option<(Task, bool)> {
    let is_its = |context: &ThreadContext<'_>| {
        // The blocking work of a seeded client is done in the poll.
        ptr::eq(context.core, core).then_some(context.local.is_some() || core.seeded.is_some())
    };
    let in_its_poll = current(is_its).flatten()?;
    Some((current_task()?, in_its_poll))
}

/// Notes that the current task awaits `task` in this poll.
pub(crate) fn note_await(task: TaskRef<'_>) {
    current(|context| {
        // What blocking work waits for belongs to no poll.
        if context.local.is_some() {
            context.awaited.borrow_mut().tasks.push(task.to_task());
        }
    });
}

/// Takes back a note of `awaiter`, if that's the current task, whose await was refused or given up.
pub(crate) fn take_back_await(awaiter: TaskRef<'_>, task: TaskRef<'_>) {
    let noted = current(|context| {
        let is_its_poll = context.local.is_some() && context.task.get() == Some(awaiter.as_ptr());
        is_its_poll.then(|| context.take_back(task))
    });
    drop(noted);
}

/// Notes that the current task awaits tasks that aren't listed.
pub(crate) fn note_more_awaits() {
    note_others(false);
}

/// Notes that the current task awaits blocking work of its own, and what that may come to wait for.
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

/// Reports a panic of user code to the engine that this thread is working for, else to the log.
pub(crate) fn report_panic(payload: Box<dyn Any + Send>) {
    match current_core() {
        Some(core) => core.report_panic(payload),
        None => log_panic(payload),
    }
}
