//! What this thread is doing for an engine.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};

use super::core::{Core, CoreRef};
use super::header::{Header, Task, TaskRef};
use super::local::Local;
use super::release;
use super::sync::{Ordering, fence, thread_local};
use crate::Key;
use crate::error::{forget_if_it_panics, panic_text};

/// One for each worker being polled, and for each blocking closure. They nest.
pub(crate) struct Context<'a> {
    core: &'a Core,
    /// The queue of the worker being polled, and its number.
    local: Option<&'a Local>,
    worker: usize,
    /// The task whose code is running.
    task: Cell<Option<NonNull<Header>>>,
    /// What the task has begun to await in this poll.
    awaited: RefCell<Awaited>,
    /// What it has given up again, and is still among those: a task is here as often as it's to be taken out there.
    given_up: RefCell<Vec<NonNull<Header>>>,
}

/// What a task awaits.
#[derive(Default)]
pub(crate) struct Awaited {
    pub(crate) tasks: Vec<Task>,
    /// Also others, that only they themselves know of.
    pub(crate) more: bool,
    /// Blocking work of its own, which may wait for others.
    pub(crate) blocking: bool,
}

impl Awaited {
    pub(crate) fn is_nothing(&self) -> bool {
        self.tasks.is_empty() && !self.more
    }
}

/// Of what a poll awaits, so many of the last are looked at one by one when something is given up.
const LOOKED_AT_AT_ONCE: usize = 8;

thread_local! {
    static CURRENT: Cell<*const Context<'static>> = const { Cell::new(ptr::null()) };
}

impl<'a> Context<'a> {
    pub(crate) fn of_worker(core: &'a Core, local: &'a Local, worker: usize) -> Self {
        let (local, task) = (Some(local), Cell::new(None));
        Self {
            core,
            local,
            worker,
            task,
            awaited: RefCell::default(),
            given_up: RefCell::default(),
        }
    }

    /// For blocking work of `task`, which waits for it meanwhile.
    pub(crate) fn of_blocking(core: &'a Core, task: Option<&'a Task>) -> Self {
        let task = Cell::new(task.map(|task| task.as_ref().as_ptr()));
        let (awaited, given_up) = Default::default();
        Self { core, local: None, worker: 0, task, awaited, given_up }
    }

    /// Runs `code` in this context.
    pub(crate) fn enter<R>(&self, code: impl FnOnce() -> R) -> R {
        struct Leave(*const Context<'static>);
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

    pub(crate) fn worker(&self) -> usize {
        self.worker
    }

    /// What the poll that has just ended awaits.
    pub(crate) fn take_awaited(&self) -> Awaited {
        drop(self.take_out_given_up());
        let awaited = &mut *self.awaited.borrow_mut();
        if awaited.is_nothing() { Awaited::default() } else { std::mem::take(awaited) }
    }
}

impl Context<'_> {
    /// Takes a note of this task back: at once if it's one of the last, else together with others. Returns what is to be
    /// dropped.
    fn take_back(&self, task: TaskRef<'_>) -> Vec<Task> {
        let tasks = &mut self.awaited.borrow_mut().tasks;
        let near = tasks.len().saturating_sub(LOOKED_AT_AT_ONCE);
        if let Some(at) = tasks[near..].iter().rposition(|other| other.as_ref().is(task)) {
            return vec![tasks.swap_remove(near + at)];
        }
        let given_up = &mut self.given_up.borrow_mut();
        given_up.push(task.as_ptr());
        if given_up.len() > tasks.len() / 2 { take_out(tasks, given_up) } else { Vec::new() }
    }

    fn take_out_given_up(&self) -> Vec<Task> {
        let given_up = &mut *self.given_up.borrow_mut();
        if given_up.is_empty() {
            return Vec::new();
        }
        take_out(&mut self.awaited.borrow_mut().tasks, given_up)
    }
}

fn take_out(tasks: &mut Vec<Task>, given_up: &mut Vec<NonNull<Header>>) -> Vec<Task> {
    let mut counts = HashMap::new();
    for task in given_up.drain(..) {
        *counts.entry(task).or_insert(0u32) += 1;
    }
    let mut is_given_up = |task: &Task| match counts.get_mut(&task.as_ref().as_ptr()) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    };
    let (mut out, mut left) = (Vec::new(), Vec::new());
    for task in tasks.drain(..) {
        if is_given_up(&task) { out.push(task) } else { left.push(task) }
    }
    *tasks = left;
    out
}

fn current<R>(look: impl FnOnce(&Context<'static>) -> R) -> Option<R> {
    let context = CURRENT.get();
    // SAFETY: a context is set only within `enter`, whose borrow outlives it.
    unsafe { context.as_ref() }.map(look)
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
pub(crate) fn look_at_current<R>(look: impl FnOnce(TaskRef<'_>) -> R) -> Option<R> {
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
pub(crate) fn current_is_doomed() -> bool {
    current_doom()()
}

/// Tells the same later, from other code on this thread.
pub(crate) fn current_doom() -> impl Fn() -> bool {
    let task = current_task();
    move || task.as_ref().is_some_and(|task| task.waiters.is_doomed() || task.core().is_aborted())
}

/// Whether blocking this thread would keep a worker from running tasks.
pub(crate) fn on_worker() -> bool {
    current(|context| context.local.is_some()).unwrap_or(false)
}

/// The task of this engine whose code, or whose blocking work, is running on this thread, and whether this is its poll.
pub(crate) fn task_that_waits(core: &Core) -> Option<(Task, bool)> {
    let is_its = |context: &Context<'_>| {
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

/// Puts a task into a queue: this worker's, if it's one of the task's engine.
pub(crate) fn schedule(task: Task) {
    with_local(task, Core::schedule);
}

/// So many tasks are queued before sleeping workers are told of them, at most.
const ANNOUNCED_TOGETHER: u32 = 64;

/// The tasks that a finishing one makes ready: they go first, before what was submitted, and are announced
/// some at a time.
pub(crate) struct MadeReady<'a> {
    context: Option<&'a Context<'static>>,
    /// Whether this worker may keep one where nobody else can take it: it's about to look for work.
    pub(crate) may_keep_one: bool,
    unannounced: u32,
}

pub(crate) fn make_ready(code: impl FnOnce(&mut MadeReady<'_>)) {
    // SAFETY: as in `current`.
    let context = unsafe { CURRENT.get().as_ref() };
    let mut ready = MadeReady { context, may_keep_one: true, unannounced: 0 };
    code(&mut ready);
    ready.announce();
}

impl MadeReady<'_> {
    pub(crate) fn push(&mut self, task: Task) {
        if task.core().refuses(task.state.load()) {
            return task.core().refuse(&task);
        }
        let here = self.context.filter(|context| {
            let core = context.core;
            ptr::eq(core, task.core()) && task.priority() == 0 && core.seeded.is_none()
        });
        let Some(local) = here.and_then(|context| context.local) else {
            return schedule(task);
        };
        let task = match self.may_keep_one {
            true => match local.keep_next(task) {
                Ok(()) => return,
                Err(task) => task,
            },
            false => task,
        };
        // One is kept where it's the only one: else the eldest would come last if it were shown later.
        self.may_keep_one = false;
        self.unannounced += u32::from(local.show_next()) + 1;
        local.push_fresh(task);
        if self.unannounced >= ANNOUNCED_TOGETHER {
            self.announce();
        }
    }

    /// Before foreign code, which may take its time: leaves nothing where only this worker finds it.
    pub(crate) fn show_all(&mut self) {
        let shown = self.context.and_then(|context| context.local).is_some_and(Local::show_next);
        self.unannounced += u32::from(shown);
        self.announce();
    }

    /// Wakes a worker for what was queued.
    fn announce(&mut self) {
        if mem::take(&mut self.unannounced) > 0 {
            // Before looking for sleepers.
            fence(Ordering::SeqCst);
            // What has just been made ready hasn't started.
            self.context.into_iter().for_each(|context| context.core.pushed(true));
        }
    }
}

/// Queues a new task, whose client the caller has.
pub(crate) fn schedule_new(task: Task) {
    let context = CURRENT.get();
    // SAFETY: as in `current`; the client keeps the engine.
    unsafe {
        let core = NonNull::from(task.core());
        match context.as_ref() {
            Some(context) if ptr::eq(context.core, core.as_ptr()) => {
                context.core.schedule(task, context.local);
            }
            _ => core.as_ref().schedule(task, None),
        }
    }
}

/// Queues new tasks, at once.
pub(crate) fn schedule_all(core: &Core, tasks: &mut Vec<Task>) {
    let local = current(|context| ptr::eq(context.core, core).then_some(context.local).flatten());
    core.schedule_all(tasks, local.flatten());
}

fn with_local(task: Task, schedule: impl FnOnce(&Core, Task, Option<&Local>)) {
    let context = CURRENT.get();
    // SAFETY: as in `current`.
    match unsafe { context.as_ref() } {
        Some(context) if ptr::eq(context.core, task.core()) => {
            schedule(context.core, task, context.local);
        }
        // Once it's in the queue the task may end, and its engine go, before we're through.
        _ => schedule(&task.core().to_ref(), task, None),
    }
}

/// Runs foreign code that has nobody to panic to.
pub(crate) fn foreign(code: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(code)) {
        stray(payload);
    }
}

fn stray(payload: Box<dyn Any + Send>) {
    match current_core() {
        Some(core) => release::report_panic(&core, payload),
        None => {
            log::error!("ensue: a waker panicked: {}", panic_text(&*payload));
            forget_if_it_panics(payload);
        }
    }
}
