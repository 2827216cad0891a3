//! Rings of tasks that wait for each other.
//!
//! Inputs alone can't form a ring, since a task's inputs are there before it. Only an await can close
//! one, so each await of one task in another is looked at when it's made: *after* it was entered, so
//! that of two awaits that close a ring together at least one sees it.
//!
//! The awaiting task `a` awaits `b`. There is a ring if `b` waits, over any number of steps, for `a`.
//! The search goes from `a` to those who wait for it and from `b` to those it waits for, a step here
//! and a step there, and ends when either side has nowhere left to go. A task that nobody waits for,
//! or that waits for a task that runs, costs one look.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ptr::NonNull;

use super::header::{Header, Task, TaskRef};
use super::sink;
use super::state::{LISTED, RUNNING};
use super::wait::{self, Awaiter};
use super::waiters::Kind;
use crate::Error;

/// Going back alone for so many steps is cheaper than looking at all that is awaited.
const ALONE: usize = 64;

/// The error of an await that closes a ring. `is_awaited` tells the awaited tasks, and `awaited` shows
/// them all.
pub(crate) fn find(
    awaiter: &Awaiter,
    is_awaited: impl Fn(TaskRef<'_>) -> bool,
    awaited: impl FnOnce(&mut dyn FnMut(TaskRef<'_>)),
) -> Option<Error> {
    let from = awaiter.task.as_ref();
    let mut behind = Search::default();
    behind.start(from);
    if is_awaited(from) {
        return Some(ring(&behind.path_from(from)));
    }
    for _ in 0..ALONE {
        match behind.step(&is_awaited, dependents) {
            Step::Found(task) => return Some(ring(&behind.path_from(task.as_ref()))),
            Step::End => return None,
            Step::On => {}
        }
    }
    let mut ahead = Search::default();
    awaited(&mut |task| ahead.start(task));
    loop {
        match ahead.step(|task| task.is(from), waited_for) {
            Step::Found(task) => {
                let mut path = ahead.path_from(task.as_ref());
                path.reverse();
                return Some(ring(&path));
            }
            Step::End => return None,
            Step::On => {}
        }
        match behind.step(&is_awaited, dependents) {
            Step::Found(task) => return Some(ring(&behind.path_from(task.as_ref()))),
            Step::End => return None,
            Step::On => {}
        }
    }
}

/// `path` leads from the awaited task to the awaiting one, each waiting for the next.
fn ring(path: &[Task]) -> Error {
    let (from, rest) = match path.split_last() {
        Some((from, rest)) => (from.key().clone(), rest),
        None => unreachable!("a path has at least its start"),
    };
    let mut keys = vec![from.clone()];
    keys.extend(rest.iter().map(|task| task.key().clone()));
    Error::cycle(from, &keys)
}

#[derive(Default)]
struct Search {
    /// How each task was come upon.
    from: HashMap<NonNull<Header>, Option<Task>>,
    next: Vec<Task>,
    /// Some of the way is not known, so coming to an end says nothing.
    incomplete: bool,
}

enum Step {
    Found(Task),
    End,
    On,
}

impl Search {
    fn start(&mut self, task: TaskRef<'_>) {
        self.from.insert(task.as_ptr(), None);
        self.next.push(task.to_task());
    }

    fn step(
        &mut self,
        is_goal: impl Fn(TaskRef<'_>) -> bool,
        neighbours: impl Fn(TaskRef<'_>, &mut Vec<Task>) -> bool,
    ) -> Step {
        let Some(task) = self.next.pop() else {
            return if self.incomplete { Step::On } else { Step::End };
        };
        let mut found = Vec::new();
        self.incomplete |= !neighbours(task.as_ref(), &mut found);
        for neighbour in found {
            if let Entry::Vacant(entry) = self.from.entry(neighbour.as_ref().as_ptr()) {
                entry.insert(Some(task.as_ref().to_task()));
                if is_goal(neighbour.as_ref()) {
                    return Step::Found(neighbour);
                }
                self.next.push(neighbour);
            }
        }
        Step::On
    }

    /// From `task` back to the start.
    fn path_from(&self, task: TaskRef<'_>) -> Vec<Task> {
        let mut path = vec![task.to_task()];
        let mut at = task.as_ptr();
        while let Some(Some(before)) = self.from.get(&at) {
            path.push(before.as_ref().to_task());
            at = before.as_ref().as_ptr();
        }
        path
    }
}

/// Who waits for the task. All of them are known.
fn dependents(task: TaskRef<'_>, found: &mut Vec<Task>) -> bool {
    let Some(locked) = task.waiters.lock() else { return true };
    locked.each(|link| {
        // SAFETY: the list is locked, so its entries are in place, and a dependent in it too.
        let awaiter = unsafe {
            match link.as_ref().kind() {
                Kind::Edge(dependent) => {
                    found.push(TaskRef::new(dependent).to_task());
                    None
                }
                Kind::Wait => wait::awaiter(link),
                Kind::Member => sink::awaiter(link),
                Kind::Callback => None,
            }
        };
        found.extend(awaiter.filter(Awaiter::still_awaits).map(|awaiter| awaiter.task));
    });
    true
}

/// What the task waits for; false where that isn't all.
fn waited_for(task: TaskRef<'_>, found: &mut Vec<Task>) -> bool {
    if task.waiters.is_closed() {
        return true;
    }
    if task.count.hold_to_look() {
        // SAFETY: a task that is held stays in its waiting stage; then the hold is ours.
        unsafe {
            (task.vtable.edges)(task.as_ptr(), &mut |edge| found.push(edge.task().to_task()));
            if task.count.release(1) {
                super::finish::was_last(task.as_ptr(), false);
            }
        }
        return true;
    }
    if task.count.is_waiting() {
        return false;
    }
    let state = task.state.load();
    if state & RUNNING != 0 {
        // What it has begun to await in this poll is not known yet.
        return false;
    }
    state & LISTED == 0 || task.core().started.awaited(task, found)
}
