//! Looking at the tasks there are, for whoever wants to know and can wait.
//!
//! Nothing is stopped for it: a task may have moved on by the time it's looked at.

use std::collections::HashSet;
use std::ptr::{self, NonNull};

use crate::engine::core::Core;
use crate::engine::data::completion_queue;
use crate::engine::graph::cycle;
use crate::engine::life::finish;
use crate::engine::task::header::{Task, TaskRef};
use crate::engine::task::state::{DONE, RUNNING, STARTED};
use crate::engine::task::waiters::{Link, WaiterKind};

/// All tasks of the engine that can be reached: those that are suspended, that lie in the shared queues, or
/// that have keys, and whatever these wait for and are waited for by. A task is missed while it runs for the
/// first time, or lies in a worker's own queue, if it's apart from all of these; and so is one that has ended and
/// that only a handle leads to.
pub(crate) fn live(core: &Core) -> Vec<Task> {
    let mut all = core.owned_tasks.list();
    core.injector.each(|task| all.push(task.to_task()));
    core.priority_queue.each(|task| all.push(task.to_task()));
    core.seeded.iter().for_each(|seeded| seeded.each(|task| all.push(task.to_task())));
    core.store.each(|task| all.push(task.to_task()));
    let mut seen = HashSet::new();
    let is_own = |task: &Task| ptr::eq(task.core(), core);
    all.retain(|task| is_own(task) && seen.insert(task.as_ref().as_ptr()));
    let mut at = 0;
    while at < all.len() {
        let mut found = Vec::new();
        neighbours(all[at].as_ref(), &mut found);
        at += 1;
        found.retain(|task| is_own(task) && seen.insert(task.as_ref().as_ptr()));
        all.append(&mut found);
    }
    all
}

fn neighbours(task: TaskRef<'_>, found: &mut Vec<Task>) {
    inputs(task, found);
    awaited(task, found);
    cycle::all_dependents(task, found);
}

/// The tasks that a waiting one takes its inputs from.
pub(crate) fn inputs(task: TaskRef<'_>, found: &mut Vec<Task>) {
    if !task.waiters.is_closed() {
        finish::collect_inputs(task, found);
    }
}

/// The tasks that a suspended one awaits; false where it awaits others too.
pub(crate) fn awaited(task: TaskRef<'_>, found: &mut Vec<Task>) -> bool {
    let state = task.state.load();
    if state & (DONE | RUNNING) != 0 || state & STARTED == 0 {
        return true;
    }
    task.core().owned_tasks.awaited(task, found)
}

/// The tasks, as far as they can be reached, that this suspended one awaits together with others, or any of, in
/// a stream or a `gather`, or that its blocking work waits for.
pub(crate) fn awaited_otherwise(task: TaskRef<'_>) -> Vec<Task> {
    let mut all = live(task.core());
    all.retain(|other| {
        // SAFETY: the list is locked, and the kind says what the entry is.
        let is_one = |link: NonNull<Link>| unsafe {
            link.as_ref().kind() == WaiterKind::Member && completion_queue::is_owned(link, task)
        };
        let mut dependents = Vec::new();
        cycle::all_dependents(other.as_ref(), &mut dependents);
        dependents.iter().any(|dependent| dependent.as_ref().is(task))
            || other.waiters.lock().is_some_and(|locked| locked.any(is_one))
    });
    all
}

/// How many tasks are queued before this one; `None` where that can't be seen, since it lies in a worker's own
/// queue. A seeded client hands out any of the highest priority, so there it's those of a higher one.
pub(crate) fn place_in_queue(task: TaskRef<'_>) -> Option<usize> {
    let core = task.core();
    if let Some(seeded) = &core.seeded {
        let mut above = 0;
        seeded.each(|other| {
            above += usize::from(other.priority() > task.priority() && other.is_queued());
        });
        return Some(above);
    }
    let mut place = None;
    let mut before = 0;
    let mut see = |other: TaskRef<'_>| {
        if other.is(task) && place.is_none() {
            place = Some(before);
        }
        before += usize::from(other.is_queued());
    };
    core.priority_queue.each(|other| {
        if other.priority() >= 0 {
            see(other)
        }
    });
    core.injector.each(&mut see);
    core.priority_queue.each(|other| {
        if other.priority() < 0 {
            see(other)
        }
    });
    // Workers look into their own queues first, but for what is urgent.
    let local: usize = if task.priority() > 0 { 0 } else { in_local_queues(core) };
    place.map(|place| place + local)
}

fn in_local_queues(core: &Core) -> usize {
    core.workers.lock().iter().map(|worker| worker.queues.len()).sum()
}

/// How many tasks are queued.
pub(crate) fn queued(core: &Core) -> usize {
    let mut queued = 0;
    let mut see = |task: TaskRef<'_>| queued += usize::from(task.is_queued());
    core.priority_queue.each(&mut see);
    core.injector.each(&mut see);
    core.seeded.iter().for_each(|seeded| seeded.each(&mut see));
    queued + in_local_queues(core)
}
