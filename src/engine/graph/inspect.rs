//! Best-effort traversal of live tasks, for diagnostics.
//!
//! Nothing is stopped meanwhile: each table is read under its own lock, one after the other, so a task may have changed,
//! moved to another queue or ended by the time it's visited. References keep the visited tasks in memory.

use std::collections::HashSet;
use std::ptr;

use crate::engine::core::Core;
use crate::engine::life::finish;
use crate::engine::life::waiting::{self, Waiter};
use crate::engine::task::header::{Task, TaskRef};

/// Returns the tasks of the engine that can be reached: suspended ones, those in the shared queues, those with keys, those
/// that are watched, and all that these wait for or that wait for them. If nothing is recorded, a task that is connected to
/// none of these is missed while it runs for the first time or is in a worker's own queue, and after it has ended.
pub(crate) fn live(core: &Core) -> Vec<Task> {
    let mut all = reachable(core, None);
    // An input or a dependent may belong to another client.
    all.retain(|task| ptr::eq(task.core(), core));
    all
}

/// Returns the tasks that [`live`] lists, those that can be reached from the task `from`, and those of other clients that
/// these wait for or that wait for them.
pub(crate) fn reachable(core: &Core, from: Option<TaskRef<'_>>) -> Vec<Task> {
    let mut all = core.owned_tasks.list();
    all.extend(from.map(TaskRef::to_task));
    core.injector.each(|task| all.push(task.to_task()));
    core.priority_queue.each(|task| all.push(task.to_task()));
    core.seeded.iter().for_each(|seeded| seeded.each(|task| all.push(task.to_task())));
    core.store.each(|task| all.push(task.to_task()));
    let mut watched = core.observer.watched.list();
    watched.retain(|task| !task.waiters.is_closed());
    all.append(&mut watched);
    let mut seen = HashSet::new();
    all.retain(|task| seen.insert(task.as_ref().as_ptr()));
    // Breadth-first, with `all` as the queue: a chain may be a million tasks long.
    let mut at = 0;
    while at < all.len() {
        let mut found = Vec::new();
        neighbours(all[at].as_ref(), &mut found);
        at += 1;
        found.retain(|task| seen.insert(task.as_ref().as_ptr()));
        all.append(&mut found);
    }
    all
}

fn neighbours(task: TaskRef<'_>, found: &mut Vec<Task>) {
    inputs(task, found);
    // Whether it still awaits those that it has begun to isn't asked: that would need a walk over all of their waiters.
    let mut begun = Vec::new();
    task.core().owned_tasks.begun(task, &mut begun);
    found.extend(begun.into_iter().filter(|task| !task.waiters.is_closed()));
    found.extend(waiting::waiters(task).into_iter().filter_map(|waiter| match waiter {
        Waiter::Task(waiter) => Some(waiter),
        Waiter::At(_) => None,
    }));
}

/// Adds the inputs of a waiting task to `found`.
pub(crate) fn inputs(task: TaskRef<'_>, found: &mut Vec<Task>) {
    if !task.waiters.is_closed() {
        finish::collect_inputs(task, found);
    }
}

/// Returns the number of tasks queued before this one; `None` if the task is in a worker's own queue, which can't be
/// traversed. For a seeded client, which takes any task of the highest priority, counts the tasks of higher priority.
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
    // Stale entries aren't counted, and of two entries of this task the first one decides.
    let mut see = |other: TaskRef<'_>| {
        if other.is(task) && place.is_none() {
            place = Some(before);
        }
        before += usize::from(other.is_queued());
    };
    // In the order in which workers take them: priorities from 0 up, the injector, priorities below 0.
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
    // A worker takes the tasks in its own queue before shared ones, except those with a priority above 0.
    let local: usize = if task.priority() > 0 { 0 } else { in_local_queues(core) };
    place.map(|place| place + local)
}

fn in_local_queues(core: &Core) -> usize {
    core.workers.lock().iter().map(|worker| worker.queues.len()).sum()
}

/// Returns the number of queued tasks, without stale entries as far as they can be recognized.
pub(crate) fn queued(core: &Core) -> usize {
    let mut queued = 0;
    let mut see = |task: TaskRef<'_>| queued += usize::from(task.is_queued());
    core.priority_queue.each(&mut see);
    core.injector.each(&mut see);
    core.seeded.iter().for_each(|seeded| seeded.each(&mut see));
    queued + in_local_queues(core)
}
