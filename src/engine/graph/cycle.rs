//! Detection of cycles: tasks that would wait for each other forever.
//!
//! Inputs alone can't form a cycle, because a task's inputs exist before it. Only an await can close one, so each await
//! of one task in another is checked. The check comes *after* the await was entered into the list of waiters: of two
//! awaits that close a cycle together, at least one then sees the other.
//!
//! Task `a` begins to await task `b`. There is a cycle if `b` waits, over any number of steps, for `a`. Two searches
//! meet in the middle: one from `a` to the tasks that wait for it (its dependents), one from `b` to the tasks that it
//! waits for. The side that has visited fewer tasks takes the next step, and the search ends when either side is
//! exhausted. So the two common cases cost one step: a task without dependents, and a task whose awaited task waits for
//! nothing. A task with more neighbours than the other side has visited so far is postponed, since most searches end
//! before its turn comes.
//!
//! | a step returns | meaning | next |
//! |---|---|---|
//! | `Found` | the other side's start was reached | the error, with the path |
//! | `End` | this side is exhausted and all of its neighbours are known | there is no cycle |
//! | `Continue` | there is more to search, or not all neighbours are known | the next step |
//!
//! Waits that can't be listed, such as those of a blocking closure, make a side *incomplete*: its end proves nothing,
//! so the other side searches on alone.

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

/// Returns the error of an await that closes a cycle. `is_awaited` recognizes the awaited tasks, of which there are
/// `count`; `visit_awaited` visits them all.
pub(crate) fn find(
    awaiter: &Awaiter,
    count: usize,
    is_awaited: impl Fn(TaskRef<'_>) -> bool,
    visit_awaited: impl FnOnce(&mut dyn FnMut(TaskRef<'_>)),
) -> Option<Error> {
    let from = awaiter.task.as_ref();
    if is_awaited(from) {
        return Some(cycle_error(&[from.to_task()]));
    }
    if !may_have_dependents(from) {
        return None;
    }
    // The awaited task usually waits for nothing, so its side takes the first step: a handicap of 2 for the other side
    // against `count`, which is 1 for a single await. With many awaited tasks the other side is first.
    let mut behind = Search { seen: 2, ..Search::default() };
    behind.start(from);
    let mut ahead = Search { seen: count, ..Search::default() };
    // The awaited tasks are listed only when their side takes its first step: there may be a million of them.
    let mut visit_awaited = Some(visit_awaited);
    loop {
        let step = if ahead.seen < behind.seen && !ahead.is_stuck() {
            if let Some(visit_awaited) = visit_awaited.take() {
                visit_awaited(&mut |task| ahead.start(task));
            }
            ahead.step(behind.seen, |task| task.is(from), waited_for)
        } else {
            // Only this side can still find the cycle if the other one is stuck, so nothing is postponed then.
            let most = if ahead.is_stuck() { usize::MAX } else { ahead.seen };
            behind.step(most, &is_awaited, dependents)
        };
        match step {
            // The `ahead` side found the awaiting task: its path begins at the awaited one, so it's reversed.
            Step::Found(task) if task.as_ref().is(from) => {
                let mut path = ahead.path_from(from);
                path.reverse();
                return Some(cycle_error(&path));
            }
            Step::Found(task) => return Some(cycle_error(&behind.path_from(task.as_ref()))),
            Step::End => return None,
            Step::Continue => {}
        }
    }
}

/// Builds the error from `path`, which leads from the awaited task to the awaiting one, each waiting for the next.
fn cycle_error(path: &[Task]) -> Error {
    let (from, rest) = match path.split_last() {
        Some((from, rest)) => (from.key().clone(), rest),
        None => unreachable!("a path contains at least its start"),
    };
    let mut keys = vec![from.clone()];
    keys.extend(rest.iter().map(|task| task.key().clone()));
    Error::cycle(from, &keys)
}

#[derive(Default)]
struct Search {
    /// The tasks that were reached, each with the task that led to it. The references keep them in memory: another task
    /// could otherwise get the address of one that is freed.
    from: HashMap<NonNull<Header>, (Task, Option<Task>)>,
    next: Vec<Task>,
    /// Some neighbours couldn't be listed, so exhausting this side proves nothing.
    incomplete: bool,
    /// The number of tasks visited: the cost of this side so far.
    seen: usize,
}

enum Step {
    Found(Task),
    End,
    Continue,
}

/// The completeness of a list of a task's neighbours.
enum Listed {
    All,
    /// There may be others, which can't be listed.
    Some,
    /// There are more than the limit: the list was cut short and is ignored.
    TooMany,
}

/// The number of neighbours that are always visited, even if the other side has hardly begun.
const AT_LEAST: usize = 16;

impl Search {
    fn start(&mut self, task: TaskRef<'_>) {
        self.from.insert(task.as_ptr(), (task.to_task(), None));
        self.next.push(task.to_task());
    }

    /// Visits the neighbours of one task, or postpones it if it has more of them than `most` and than this side has
    /// visited. A postponement counts as that many visits, so the limit at least doubles each time.
    fn step(
        &mut self,
        most: usize,
        is_goal: impl Fn(TaskRef<'_>) -> bool,
        neighbours: impl Fn(TaskRef<'_>, usize, &mut Vec<Task>) -> Listed,
    ) -> Step {
        let Some(task) = self.next.pop() else {
            return if self.incomplete { Step::Continue } else { Step::End };
        };
        let mut found = Vec::new();
        let most = most.max(self.seen).max(AT_LEAST);
        match neighbours(task.as_ref(), most, &mut found) {
            Listed::All => {}
            Listed::Some => self.incomplete = true,
            Listed::TooMany => {
                self.seen += most;
                self.next.push(task);
                return Step::Continue;
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
        if self.next.is_empty() && !self.incomplete { Step::End } else { Step::Continue }
    }

    /// Whether no task is left to visit, although not all of them are known.
    fn is_stuck(&self) -> bool {
        self.next.is_empty() && self.incomplete
    }

    /// Returns the path from `task` back to the start.
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

/// Adds all tasks that wait for the task to `found`. The list of waiters is complete, so none is missed.
pub(crate) fn all_dependents(task: TaskRef<'_>, found: &mut Vec<Task>) {
    dependents(task, usize::MAX, found);
}

fn dependents(task: TaskRef<'_>, most: usize, found: &mut Vec<Task>) -> Listed {
    let mut seen = 0;
    // Entries other than tasks count too: walking past them is the cost that `most` limits.
    let are_too_many = task.waiters.lock().is_some_and(|locked| {
        locked.any(|link| {
            seen += 1;
            // SAFETY: the list is locked.
            found.extend(unsafe { dependent(link) });
            seen > most
        })
    });
    if are_too_many { Listed::TooMany } else { Listed::All }
}

/// Whether a task may wait for this one. Only the first few waiters are checked, since this precedes every search; with
/// more of them the answer is yes.
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

/// Returns the task that waits through an entry of a list of waiters; `None` if it's not a task, or no longer waits.
///
/// # Safety
///
/// The list is locked, which keeps its entries in place and their dependents in memory.
unsafe fn dependent(link: NonNull<Link>) -> Option<Task> {
    // SAFETY: the caller's promise; the kind says which type of waiter the link is the first field of.
    let awaiter = unsafe {
        match link.as_ref().kind() {
            WaiterKind::Edge(dependent) => return Some(TaskRef::new(dependent).to_task()),
            WaiterKind::Wait => wait_node::awaiter(link),
            WaiterKind::Member => completion_queue::awaiter(link),
            // A callback belongs to no task.
            WaiterKind::Callback => None,
        }
    };
    // A task doesn't await what it awaited in an earlier poll, even if the handle and its entry still exist.
    awaiter.filter(Awaiter::still_awaits).map(|awaiter| awaiter.task)
}

/// Adds the tasks that the task waits for to `found`: its inputs, or the tasks that it awaits.
fn waited_for(task: TaskRef<'_>, most: usize, found: &mut Vec<Task>) -> Listed {
    if task.waiters.is_closed() {
        return Listed::All;
    }
    if task.count.number() > most {
        return Listed::TooMany;
    }
    if finish::collect_inputs(task, found) {
        return Listed::All;
    }
    if task.count.is_waiting() {
        return Listed::Some;
    }
    let state = task.state.load();
    if state & AWAITS == 0 {
        // It may begin an await later in this poll, and will check that itself.
        return Listed::All;
    }
    // The awaits of a poll under way are recorded in the table only when it ends.
    let are_all = state & RUNNING == 0 && task.core().owned_tasks.awaited(task, found);
    if are_all { Listed::All } else { Listed::Some }
}
