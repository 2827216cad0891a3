//! Rings of tasks that wait for each other.
//!
//! Inputs alone can't form a ring, since a task's inputs are there before it. Only an await can close
//! one, so each await of one task in another is looked at when it's made: *after* it was entered, so
//! that of two awaits that close a ring together at least one sees it.
//!
//! The awaiting task `a` awaits `b`. There is a ring if `b` waits, over any number of steps, for `a`.
//! The search goes from `a` to those who wait for it and from `b` to those it waits for, always on the
//! side that has looked at less so far, and ends when either side has nowhere left to go. A task that
//! no other waits for, or that awaits one that waits for nothing, costs one look. A task with more neighbours than the
//! other side has looked at in all is put off until that has caught up: most searches end before.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ptr::NonNull;

use crate::Error;
use crate::engine::data::completion_queue;
use crate::engine::life::finish;
use crate::engine::task::header::{Header, Task, TaskRef};
use crate::engine::task::state::{AWAITS, RUNNING};
use crate::engine::task::wait_node::{self, Awaiter};
use crate::engine::task::waiters::{Link, WaiterKind};

/// The error of an await that closes a ring. `is_awaited` tells the awaited tasks, of which there are
/// `count`, and `awaited` shows them all.
pub(crate) fn find(
    awaiter: &Awaiter,
    count: usize,
    is_awaited: impl Fn(TaskRef<'_>) -> bool,
    awaited: impl FnOnce(&mut dyn FnMut(TaskRef<'_>)),
) -> Option<Error> {
    let from = awaiter.task.as_ref();
    if is_awaited(from) {
        return Some(cycle_error(&[from.to_task()]));
    }
    if !may_have_dependents(from) {
        return None;
    }
    // What is awaited usually waits for nothing, so that side is first, unless there's much of it.
    let mut behind = Search { seen: 2, ..Search::default() };
    behind.start(from);
    let mut ahead = Search { seen: count, ..Search::default() };
    let mut awaited = Some(awaited);
    loop {
        let step = if ahead.seen < behind.seen && !ahead.is_at_a_loss() {
            if let Some(awaited) = awaited.take() {
                awaited(&mut |task| ahead.start(task));
            }
            ahead.step(behind.seen, |task| task.is(from), waited_for)
        } else {
            let most = if ahead.is_at_a_loss() { usize::MAX } else { ahead.seen };
            behind.step(most, &is_awaited, dependents)
        };
        match step {
            Step::Found(task) if task.as_ref().is(from) => {
                let mut path = ahead.path_from(from);
                path.reverse();
                return Some(cycle_error(&path));
            }
            Step::Found(task) => return Some(cycle_error(&behind.path_from(task.as_ref()))),
            Step::End => return None,
            Step::On => {}
        }
    }
}

/// `path` leads from the awaited task to the awaiting one, each waiting for the next.
fn cycle_error(path: &[Task]) -> Error {
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
    /// The tasks that were come upon, and how. They're kept: another task could get the address of one that
    /// goes.
    from: HashMap<NonNull<Header>, (Task, Option<Task>)>,
    next: Vec<Task>,
    /// Some of the way is not known, so coming to an end says nothing.
    incomplete: bool,
    /// How many tasks were looked at: what the search has cost.
    seen: usize,
}

enum Step {
    Found(Task),
    End,
    On,
}

/// What became of a look at a task's neighbours.
enum Look {
    All,
    /// There may be others.
    Some,
    /// There are more than were asked for.
    TooMany,
}

/// The other side has looked at hardly anything yet: so many neighbours are always looked at.
const AT_LEAST: usize = 16;

impl Search {
    fn start(&mut self, task: TaskRef<'_>) {
        self.from.insert(task.as_ptr(), (task.to_task(), None));
        self.next.push(task.to_task());
    }

    /// Looks at the neighbours of one task, or puts that off where they are many more than `most` and than this side
    /// has looked at: each time that happens it may be twice as many.
    fn step(
        &mut self,
        most: usize,
        is_goal: impl Fn(TaskRef<'_>) -> bool,
        neighbours: impl Fn(TaskRef<'_>, usize, &mut Vec<Task>) -> Look,
    ) -> Step {
        let Some(task) = self.next.pop() else {
            return if self.incomplete { Step::On } else { Step::End };
        };
        let mut found = Vec::new();
        let most = most.max(self.seen).max(AT_LEAST);
        match neighbours(task.as_ref(), most, &mut found) {
            Look::All => {}
            Look::Some => self.incomplete = true,
            Look::TooMany => {
                self.seen += most;
                self.next.push(task);
                return Step::On;
            }
        }
        self.seen += 1 + found.len();
        for neighbour in found {
            if let Entry::Vacant(entry) = self.from.entry(neighbour.as_ref().as_ptr()) {
                let kept = neighbour.as_ref().to_task();
                entry.insert((kept, Some(task.as_ref().to_task())));
                if is_goal(neighbour.as_ref()) {
                    return Step::Found(neighbour);
                }
                self.next.push(neighbour);
            }
        }
        if self.next.is_empty() && !self.incomplete { Step::End } else { Step::On }
    }

    /// Nowhere left to go, and that says nothing.
    fn is_at_a_loss(&self) -> bool {
        self.next.is_empty() && self.incomplete
    }

    /// From `task` back to the start.
    fn path_from(&self, task: TaskRef<'_>) -> Vec<Task> {
        let mut path = vec![task.to_task()];
        let mut at = task.as_ptr();
        while let Some((_, Some(before))) = self.from.get(&at) {
            path.push(before.as_ref().to_task());
            at = before.as_ref().as_ptr();
        }
        path
    }
}

/// Who waits for the task. All of them are known.
pub(crate) fn all_dependents(task: TaskRef<'_>, found: &mut Vec<Task>) {
    dependents(task, usize::MAX, found);
}

fn dependents(task: TaskRef<'_>, most: usize, found: &mut Vec<Task>) -> Look {
    let mut seen = 0;
    let are_too_many = task.waiters.lock().is_some_and(|locked| {
        locked.any(|link| {
            seen += 1;
            // SAFETY: the list is locked.
            found.extend(unsafe { dependent(link) });
            seen > most
        })
    });
    if are_too_many { Look::TooMany } else { Look::All }
}

/// Whether others wait for the task, as far as the first few who do show it.
fn may_have_dependents(task: TaskRef<'_>) -> bool {
    let mut seen = 0;
    task.waiters.lock().is_some_and(|locked| {
        locked.any(|link| {
            seen += 1;
            // SAFETY: the list is locked.
            seen > AT_LEAST || unsafe { dependent(link) }.is_some()
        })
    })
}

/// The task behind an entry in a list of waiters.
///
/// # Safety
///
/// The list is locked, so that its entries are in place, and so are the dependents in it.
unsafe fn dependent(link: NonNull<Link>) -> Option<Task> {
    // SAFETY: as above, and the kind says what the entry is.
    let awaiter = unsafe {
        match link.as_ref().kind() {
            WaiterKind::Edge(dependent) => return Some(TaskRef::new(dependent).to_task()),
            WaiterKind::Wait => wait_node::awaiter(link),
            WaiterKind::Member => completion_queue::awaiter(link),
            WaiterKind::Callback => None,
        }
    };
    awaiter.filter(Awaiter::still_awaits).map(|awaiter| awaiter.task)
}

/// What the task waits for.
fn waited_for(task: TaskRef<'_>, most: usize, found: &mut Vec<Task>) -> Look {
    if task.waiters.is_closed() {
        return Look::All;
    }
    if task.count.number() > most {
        return Look::TooMany;
    }
    if finish::collect_inputs(task, found) {
        return Look::All;
    }
    if task.count.is_waiting() {
        return Look::Some;
    }
    let state = task.state.load();
    if state & AWAITS == 0 {
        // It may await something later in this poll, and will look itself then.
        return Look::All;
    }
    // What it has begun to await in this poll is in no list of its own yet.
    let are_all = state & RUNNING == 0 && task.core().owned_tasks.awaited(task, found);
    if are_all { Look::All } else { Look::Some }
}
