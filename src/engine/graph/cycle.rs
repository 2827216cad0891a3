//! Detection of cycles: tasks that wait for each other forever.
//!
//! Inputs alone can't form a cycle, because a task's inputs exist before it. Only an await can close one. An await is an
//! entry in the awaited task's list of waiters, and exists exactly as long as that entry is linked. Whether the task still
//! waits for it is another question: a `select` with a timeout keeps the entry of the handle that lost. No correct program
//! may fail, so a task counts as *stuck* only if nothing else can wake it:
//!
//! | entry in a list of waiters | its task is stuck if the list's task is, and |
//! |---|---|
//! | an input | always: it needs all of its inputs |
//! | an awaiting handle | the task is suspended, and its only waker is the one in this entry |
//! | [`result`](crate::Handle::result) in blocking work | the task is suspended, and its only waker is that of this work; or the work runs within its poll, on a seeded client |
//! | a member of a `gather` | the task is suspended, and its only waker is that of the `gather`, which needs all members |
//! | a member of a stream, a callback | never: other members may do |
//!
//! A search goes from a suspended task over the tasks that are stuck with it. If it comes back to where it began, all of
//! these wait for each other, and the await that it came back by is refused: the task is woken, and the next poll of that
//! await returns the error.
//!
//! # When a search is made
//!
//! * After the poll that began an await, if the awaited task may itself wait for a task (`AWAITS`, or unfinished inputs).
//!   Of the tasks of a cycle, the one whose await was registered last always finds that of the next one.
//! * When blocking work has begun to wait in [`result`](crate::Handle::result), for its task.
//! * After the next poll of a task that an earlier search met when it couldn't tell whether it was stuck (`SEARCH`): it was in
//!   a poll or a queue, or had several wakers. Dropping a waker of such a task wakes it, too.
//!
//! So a poll that finds a known await pending costs no search. And of a cycle whose tasks are all stuck, the last one to be
//! suspended makes a search that finds the others: each earlier one ended at a task that wasn't stuck yet, and left the
//! bit there.
//!
//! # Bound
//!
//! A search looks at no more than [`BUDGET`] entries. A longer cycle gets no error; neither does one through tasks that
//! something else could wake. Both are found by [`waits`](crate::engine::graph::waits) when somebody asks.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use crate::Error;
use crate::engine::base::user_code::wake;
use crate::engine::core::context;
use crate::engine::data::completion_queue;
use crate::engine::life::waker::{requeue, task_of, wake_task, wakes};
use crate::engine::task::header::{Task, TaskRef};
use crate::engine::task::state::{DONE, QUEUED, RUNNING, SEARCH, Suspend};
use crate::engine::task::wait_node::{self, Waiting};
use crate::engine::task::waiters::WaiterKind;
use crate::task::thread_wait;

/// The most entries of lists of waiters that a search looks at.
const BUDGET: usize = 256;

/// Searches for a cycle of tasks that are stuck, from one that was just suspended, and refuses the await that closes it.
pub(crate) fn search(task: TaskRef<'_>) {
    // Otherwise something else can wake it, and the suspension after that searches. Whoever drops a waker reads the bit
    // after the count, and this reads the count after the bit.
    while task.wakers.load(Ordering::SeqCst) != 1 {
        let before = task.state.set_search();
        if before & (QUEUED | RUNNING | DONE) != 0 || task.wakers.load(Ordering::SeqCst) != 1 {
            return;
        }
    }
    task.state.clear(SEARCH);
    refuse_closing(task);
}

/// Refuses the await of a task that closes a cycle, if there is one.
fn refuse_closing(task: TaskRef<'_>) {
    if let Some(path) = find(task, |waiter| waiter.is(task)) {
        refuse(task, path[0].as_ref(), cycle_error(task, &path));
    }
}

/// Searches for a cycle that the blocking closure on this thread closes, which has begun to wait for `awaited`.
pub(crate) fn search_blocked(awaited: TaskRef<'_>) {
    let Some(task) = context::current_task().filter(|_| awaited.may_wait()) else { return };
    let mut woken = Vec::new();
    // One that isn't suspended yet searches when it is.
    if is_in_poll(task.as_ref()) || is_stuck(task.as_ref(), || true, &mut woken) {
        refuse_closing(task.as_ref());
    }
    woken.into_iter().for_each(requeue);
}

/// Builds the error from `path`, which leads from the awaited task to the awaiting one, each waiting for the next.
fn cycle_error(from: TaskRef<'_>, path: &[Task]) -> Error {
    let between = path.iter().filter(|task| !task.as_ref().is(from)).map(|task| task.key().clone());
    let keys: Vec<_> = [from.key().clone()].into_iter().chain(between).collect();
    Error::cycle(from.key().clone(), &keys)
}

/// Goes from a task over those that are stuck with it. Returns the path back from the one that a goal waits for.
fn find(from: TaskRef<'_>, is_goal: impl Fn(TaskRef<'_>) -> bool) -> Option<Vec<Task>> {
    // Each with the index of the task that led to it. The references keep them in memory: another task could otherwise get
    // the address of one that is freed.
    let mut reached = vec![(from.to_task(), 0)];
    let mut seen = HashSet::new();
    let (mut at, mut budget, mut found) = (0, BUDGET, Vec::new());
    while at < reached.len() && budget > 0 {
        stuck_with(reached[at].0.as_ref(), &is_goal, &mut budget, &mut found);
        if found.iter().any(|waiter| is_goal(waiter.as_ref())) {
            let mut path = vec![reached[at].0.as_ref().to_task()];
            while at > 0 {
                at = reached[at].1;
                path.push(reached[at].0.as_ref().to_task());
            }
            return Some(path);
        }
        for waiter in found.drain(..) {
            if seen.insert(waiter.as_ref().as_ptr()) {
                reached.push((waiter, at));
            }
        }
        at += 1;
    }
    None
}

/// Adds the tasks that are stuck if this one is, without those dependents that are no goal and that nothing waits for.
fn stuck_with(
    task: TaskRef<'_>,
    is_goal: &impl Fn(TaskRef<'_>) -> bool,
    budget: &mut usize,
    found: &mut Vec<Task>,
) {
    let mut woken = Vec::new();
    if let Some(locked) = task.waiters.lock() {
        locked.any(|link| {
            *budget -= 1;
            // SAFETY: the list is locked, which keeps its entries in place and the tasks in them in memory. The kind says
            // which type of waiter the link is the first field of.
            unsafe {
                match link.as_ref().kind() {
                    WaiterKind::Edge(dependent) => {
                        let dependent = TaskRef::new(dependent);
                        let leads_on = !dependent.waiters.is_empty() || is_goal(dependent);
                        if leads_on && !dependent.waiters.is_aborting() {
                            found.push(dependent.to_task());
                        }
                    }
                    WaiterKind::Wait => {
                        let waiting = &*wait_node::waiting(link);
                        let stuck = match task_of(&waiting.waker) {
                            Some(task) => {
                                Some(task).filter(|_| is_stuck(task, || true, &mut woken))
                            }
                            None => blocked_task(waiting, &mut woken),
                        };
                        found.extend(stuck.map(TaskRef::to_task));
                    }
                    WaiterKind::Member => {
                        let has_waker = || completion_queue::has_waker(link);
                        if let Some(awaiter) = &*completion_queue::awaiter(link) {
                            let waiter = awaiter.task.as_ref();
                            if is_stuck(waiter, has_waker, &mut woken) {
                                found.push(waiter.to_task());
                            }
                        }
                    }
                    WaiterKind::Callback => {}
                }
            }
            *budget == 0
        });
    }
    // Not under the lock: it may run user code.
    woken.into_iter().for_each(requeue);
}

/// Returns the task that is stuck because its blocking closure waits with this entry.
fn blocked_task<'a>(waiting: &'a Waiting, woken: &mut Vec<Task>) -> Option<TaskRef<'a>> {
    let work = waiting.blocking?;
    let task = waiting.awaiter.as_ref()?.as_ref();
    // Otherwise the task has given the work up, which goes on: it timed out.
    let waits = || {
        task.extras().is_some_and(|extras| {
            extras.blocked.load(Ordering::Relaxed) > 0
                && thread_wait::is_latest(&extras.blocking, work)
        })
    };
    (is_in_poll(task) || is_stuck(task, waits, woken)).then_some(task)
}

/// Whether blocking closures of this task run within its polls: it can't go on before they do.
fn is_in_poll(task: TaskRef<'_>) -> bool {
    task.core().seeded.is_some()
}

/// Whether a task is suspended and has a single waker, which the caller knows to exist if `waits` is true. If not, its next
/// suspension will search. Adds the task to `woken` if that was woken meanwhile, for the caller to queue.
fn is_stuck(task: TaskRef<'_>, waits: impl Fn() -> bool, woken: &mut Vec<Task>) -> bool {
    loop {
        if task.state.hold_suspended() {
            // It isn't polled now, so it gets no new waker. One that was used before the count was read has queued it.
            let is_stuck = task.wakers.load(Ordering::SeqCst) == 1 && waits();
            if !is_stuck {
                task.state.set_search();
            }
            match task.state.suspend(true) {
                // Another waker than the one that is known may have gone before `SEARCH` was set.
                Suspend::Suspended if is_stuck || task.wakers.load(Ordering::SeqCst) != 1 => {
                    // Another search met it meanwhile, and couldn't tell.
                    if is_stuck && task.state.is_search_due() && task.state.wake() {
                        // SAFETY: waking a suspended task hands over the engine's reference.
                        woken.push(unsafe { Task::from_raw(task.as_ptr()) });
                    }
                    return is_stuck;
                }
                Suspend::Suspended if !waits() => return false,
                Suspend::Suspended => continue,
                Suspend::Search => unreachable!("the caller searches"),
                // SAFETY: holding the task has brought the engine's reference.
                Suspend::Woken => woken.push(unsafe { Task::from_raw(task.as_ptr()) }),
            }
        }
        let before = task.state.set_search();
        if before & (QUEUED | RUNNING | DONE) != 0 {
            return false;
        }
    }
}

/// Makes the await of `awaited` in `task` return the error at its next poll, and wakes the task.
fn refuse(task: TaskRef<'_>, awaited: TaskRef<'_>, error: Error) {
    let mut error = Some(error);
    let mut thread = None;
    if let Some(locked) = awaited.waiters.lock() {
        // SAFETY: the list is locked, and the kind says which type of waiter a link is the first field of.
        locked.any(|link| unsafe {
            match link.as_ref().kind() {
                WaiterKind::Wait => {
                    let waiting = wait_node::waiting(link);
                    let blocks = waiting.blocking.is_some()
                        && waiting.awaiter.as_ref().is_some_and(|it| it.as_ref().is(task));
                    if (blocks || wakes(&waiting.waker, task)) && waiting.refused.is_none() {
                        waiting.refused = error.take();
                        // The waker is that of `block_on`: no user code.
                        thread = blocks.then(|| waiting.waker.clone());
                    }
                }
                WaiterKind::Member => {
                    if let Some(awaiter) = &mut *completion_queue::awaiter(link) {
                        if awaiter.task.as_ref().is(task) && awaiter.refused.is_none() {
                            awaiter.refused = error.take();
                        }
                    }
                }
                WaiterKind::Edge(_) | WaiterKind::Callback => {}
            }
            error.is_none()
        });
    }
    if let Some(thread) = thread {
        wake(thread);
    } else if error.is_none() {
        // It may wait for others, too.
        task.state.set_search();
        wake_task(task);
    }
}
