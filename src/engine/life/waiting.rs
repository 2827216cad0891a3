//! Who waits for a task, and for which tasks a task waits.
//!
//! Only the lists of waiters know which awaits exist. The tasks that a suspended one has begun to await are recorded in the
//! table of owned tasks, which may be out of date, so each of these is looked up in its list.

use std::ptr::NonNull;

use crate::engine::data::completion_queue;
use crate::engine::life::waker::task_of;
use crate::engine::task::header::{Task, TaskRef};
use crate::engine::task::wait_node;
use crate::engine::task::waiters::{Link, WaiterKind};
use crate::engine::task::walk::{self, STRIDE};

/// Who waits through an entry of a list of waiters.
pub(crate) enum Waiter {
    Task(Task),
    /// The task at this address, or that was there when it polled its stream last.
    At(usize),
}

impl Waiter {
    pub(crate) fn address(&self) -> usize {
        match self {
            Self::Task(task) => address(task.as_ref()),
            Self::At(address) => *address,
        }
    }
}

/// The most waiters among which a task is looked for.
const BUDGET: usize = 256;

pub(crate) fn address(task: TaskRef<'_>) -> usize {
    task.as_ptr().addr().get()
}

/// Returns who waits for a task. A task may be among them several times.
pub(crate) fn waiters(task: TaskRef<'_>) -> Vec<Waiter> {
    walk::collect(&task.waiters, STRIDE, |link| {
        // SAFETY: this is called under the lock of the list.
        match unsafe { waiter(link) } {
            Entry::Task(task) => Some(Waiter::Task(task.to_task())),
            Entry::At(address) => Some(Waiter::At(address)),
            Entry::Nobody => None,
        }
    })
}

/// Returns the highest priority of those that await a task or have it as an input; [`i32::MIN`] if there are none.
pub(crate) fn highest_of_waiters(task: TaskRef<'_>) -> i32 {
    let priorities = walk::collect(&task.waiters, STRIDE, |link| {
        // SAFETY: this is called under the lock of the list.
        match unsafe { waiter(link) } {
            Entry::Task(task) => Some(task.priority()),
            Entry::At(_) | Entry::Nobody => None,
        }
    });
    priorities.into_iter().max().unwrap_or(i32::MIN)
}

enum Entry<'a> {
    Task(TaskRef<'a>),
    At(usize),
    Nobody,
}

/// Returns who waits through an entry.
///
/// # Safety
///
/// The link is in a list that stays locked during `'a`.
unsafe fn waiter<'a>(link: NonNull<Link>) -> Entry<'a> {
    // SAFETY: the lock keeps the entry in place and the tasks in it in memory. The kind says which type of waiter the link is
    // the first field of.
    unsafe {
        match link.as_ref().kind() {
            WaiterKind::Edge(dependent) => Entry::Task(TaskRef::new(dependent)),
            WaiterKind::Wait => {
                let waiting = &*wait_node::waiting(link);
                let awaiter = waiting.awaiter.as_ref().map(Task::as_ref);
                awaiter.or_else(|| task_of(&waiting.waker)).map_or(Entry::Nobody, Entry::Task)
            }
            WaiterKind::Member => match completion_queue::owner(link) {
                0 => Entry::Nobody,
                address => Entry::At(address),
            },
            WaiterKind::Callback => Entry::Nobody,
        }
    }
}

/// Whether a task that has begun to wait for another one still does. If that has very many waiters, so that to look at all
/// of them for each one would take too long, it's assumed to.
fn still_waits(task: TaskRef<'_>, other: TaskRef<'_>) -> bool {
    let mut budget = BUDGET;
    other.waiters.lock().is_some_and(|locked| {
        locked.any(|link| {
            budget -= 1;
            // SAFETY: the list is locked.
            let is_it = match unsafe { waiter(link) } {
                Entry::Task(waiter) => waiter.is(task),
                Entry::At(at) => at == address(task),
                Entry::Nobody => false,
            };
            is_it || budget == 0
        })
    })
}

/// Adds the unfinished tasks that a suspended task awaits, and that are `wanted`, to `found`: all but the members of its
/// streams and `gather`s.
pub(crate) fn awaited(
    task: TaskRef<'_>,
    found: &mut Vec<Task>,
    wanted: impl Fn(TaskRef<'_>) -> bool,
) {
    let mut begun = Vec::new();
    task.core().owned_tasks.begun(task, &mut begun);
    begun.retain(|other| wanted(other.as_ref()) && still_waits(task, other.as_ref()));
    found.append(&mut begun);
}
