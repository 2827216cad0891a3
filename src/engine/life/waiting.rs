//! Who waits for a task, and for which tasks a task waits.
//!
//! Only the lists of waiters know which awaits exist. The tasks that a suspended one has begun to await are recorded in the
//! table of owned tasks, which may be out of date, so each of these is looked up in its list.

use crate::engine::data::completion_queue;
use crate::engine::life::waker::task_of;
use crate::engine::task::header::{Task, TaskRef};
use crate::engine::task::wait_node;
use crate::engine::task::waiters::WaiterKind;

/// Who waits through an entry of a list of waiters.
pub(crate) enum Waiter<'a> {
    Task(TaskRef<'a>),
    /// The task at this address, or that was there when it polled its stream last.
    At(usize),
}

impl Waiter<'_> {
    pub(crate) fn is(&self, task: TaskRef<'_>) -> bool {
        self.address() == address(task)
    }

    pub(crate) fn address(&self) -> usize {
        match self {
            Self::Task(task) => address(*task),
            Self::At(address) => *address,
        }
    }
}

pub(crate) fn address(task: TaskRef<'_>) -> usize {
    task.as_ptr().addr().get()
}

/// Whether `wanted` is true of any task that waits for this one. It's called under the lock of the list.
pub(crate) fn any_waiter(task: TaskRef<'_>, mut wanted: impl FnMut(Waiter<'_>) -> bool) -> bool {
    task.waiters.lock().is_some_and(|locked| {
        // SAFETY: the list is locked, which keeps its entries in place and the tasks in them in memory. The kind says which
        // type of waiter the link is the first field of.
        locked.any(|link| unsafe {
            match link.as_ref().kind() {
                WaiterKind::Edge(dependent) => wanted(Waiter::Task(TaskRef::new(dependent))),
                WaiterKind::Wait => {
                    let waiting = &*wait_node::waiting(link);
                    let awaiter = waiting.awaiter.as_ref().map(Task::as_ref);
                    let task = awaiter.or_else(|| task_of(&waiting.waker));
                    task.is_some_and(|task| wanted(Waiter::Task(task)))
                }
                WaiterKind::Member => match completion_queue::owner(link) {
                    0 => false,
                    address => wanted(Waiter::At(address)),
                },
                WaiterKind::Callback => false,
            }
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
    begun.retain(|other| {
        wanted(other.as_ref()) && any_waiter(other.as_ref(), |waiter| waiter.is(task))
    });
    found.append(&mut begun);
}
