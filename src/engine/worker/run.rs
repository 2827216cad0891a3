//! The run of one task: claim, poll, and the handling of the outcome.
//!
//! | after the poll | next |
//! |---|---|
//! | a value or an error | [`finish::complete`] |
//! | pending, not woken | suspended: its waker queues it |
//! | pending, woken during the poll | queued at once |
//! | pending, aborted or refused by a shutdown | ended by this worker |

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Context;

use crate::engine::core::Core;
use crate::engine::core::activity::Activity;
use crate::engine::core::context::{self, ThreadContext};
use crate::engine::graph::cycle;
use crate::engine::life::drop_task::end_later;
use crate::engine::life::{finish, waker};
use crate::engine::task::header::{PollOutcome, Task};
use crate::engine::task::state::{COUNTED, OWNED, PAUSED, SEARCH, STARTED, Suspend, WATCHED};
use crate::engine::watch::observer::TaskEvent;
use crate::{Error, Status};

/// Runs a task that came out of a queue, until it ends or is suspended. Returns whether it's suspended and awaits no task:
/// it may wait for something of its host's.
pub(crate) fn run(
    core: &Core,
    context: &ThreadContext<'_>,
    activity: &Activity,
    task: Task,
) -> bool {
    // Before the claim, which shows the task as running: closing lets such a task go on.
    if core.must_abort(task.state.load()) {
        core.abort_closed(&task);
    }
    // A stale entry: the task was queued twice, or aborted while it was queued.
    let Some(before) = task.state.claim() else { return false };
    if task.waiters.is_aborting() {
        if before & STARTED == 0 {
            task.state.clear(STARTED);
        }
        end_later(task);
        return false;
    }
    // `before` suffices to decide whether the observer is notified, without another load: the claim doesn't change its
    // flags.
    let mut state = before;
    if before & COUNTED == 0 && core.observer.is_attached() {
        let was_new = before & STARTED == 0;
        let status = || if was_new { Status::Ready } else { Status::Running };
        state = core.observer.adopt(task.as_ref(), status);
    }
    core.observer.notify(task.as_ref(), state, TaskEvent::Polled { worker: context.worker() });
    poll(core, context, activity, task)
}

fn poll(core: &Core, context: &ThreadContext<'_>, activity: &Activity, task: Task) -> bool {
    let header = task.as_ref().as_ptr();
    activity.begin_poll(task.as_ref());
    let ran = {
        let waker = waker::borrowed(&task);
        let mut cx = Context::from_waker(&waker);
        // SAFETY: this thread has claimed the task, so it owns the contents.
        let run = || unsafe { (task.vtable.run)(header, &mut cx) };
        context.with_task(&task, || {
            let polled = match catch_unwind(AssertUnwindSafe(run)) {
                Ok(polled) => polled,
                // As at an await: whoever polls a cancelled task drops its future.
                Err(payload) if context::is_unwinding(&*payload) => PollOutcome::Pending,
                Err(payload) => PollOutcome::Failed(Error::panicked(task.subject(), payload)),
            };
            if let PollOutcome::Failed(_) = polled {
                // SAFETY: as above. Within the context, as it runs destructors.
                unsafe { (task.vtable.end)(header) };
            }
            polled
        })
    };
    activity.end_poll();
    // In any case: the context is used for the next task.
    let begun = context.take_begun();
    match ran {
        PollOutcome::Value => finish::complete(task, None),
        PollOutcome::Failed(error) => finish::complete(task, Some(error)),
        PollOutcome::Pending => {
            suspend(core, task, begun, context.searches());
            return !context.awaits();
        }
    }
    false
}

/// Suspends a task that is pending, or queues or ends it if that was requested during the poll. `begun` are the tasks that
/// it began to await, and `searches` tells that one of these awaits may close a cycle.
fn suspend(core: &Core, task: Task, begun: Vec<Task>, searches: bool) {
    let state = task.state.load();
    if state & WATCHED != 0 {
        let awaits: Vec<_> = begun.iter().filter_map(|task| task.number()).collect();
        core.observer.notify(task.as_ref(), state, TaskEvent::Suspended { awaits: &awaits });
    }
    // While the contents are still this thread's: once suspended, the task may run on another worker.
    if state & OWNED == 0 {
        core.owned_tasks.insert(task.as_ref(), begun);
    } else if !begun.is_empty() {
        core.owned_tasks.add_begun(&task, begun);
    }
    // A shutdown aborts the tasks in the table, and may have read it before this one was inserted.
    if core.is_aborted() || core.is_closed() && task.state.load() & PAUSED != 0 {
        core.abort_closed(&task);
    }
    if task.waiters.is_aborting() {
        end_later(task);
        return;
    }
    if searches {
        task.state.set(SEARCH);
    }
    let mut searching: Option<Task> = None;
    loop {
        match task.state.suspend(searching.is_some()) {
            // The engine's reference stays with the task: the thread that wakes it takes it over.
            Suspend::Suspended => {
                mem::forget(task);
                if let Some(task) = searching {
                    cycle::search(task.as_ref());
                }
                return;
            }
            Suspend::Woken => return waker::requeue(task),
            Suspend::Search => searching = Some(task.as_ref().to_task()),
        }
    }
}
