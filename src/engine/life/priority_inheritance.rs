//! Lending priority to what a task waits for.

use std::sync::atomic::Ordering;

use crate::engine::core::Core;
use crate::engine::life::finish;
use crate::engine::life::waker;
use crate::engine::task::header::{Task, TaskRef};
use crate::engine::task::state::{PAUSED, QUEUED, REQUEUED, RUNNING};

impl Core {
    /// Raises the priority of a task, and of all that it waits for, to at least `priority`.
    pub(crate) fn raise(task: TaskRef<'_>, priority: i32) {
        if task.priority() >= priority {
            return;
        }
        let mut tasks = vec![task.to_task()];
        while let Some(task) = tasks.pop() {
            if !task.waiters.is_closed()
                && task.priority.fetch_max(priority, Ordering::SeqCst) < priority
            {
                Self::apply_raise(task, &mut tasks);
            }
        }
    }

    /// Does for a task whose priority was raised what follows from that; `tasks` get those it waits for.
    fn apply_raise(task: Task, tasks: &mut Vec<Task>) {
        if finish::collect_inputs(task.as_ref(), tasks) {
            return;
        }
        if task.count.is_waiting() {
            // Its submitter will see, when it's through.
            return;
        }
        let state = task.state.load();
        if state & QUEUED != 0 {
            task.core().to_ref().schedule_again(task);
        } else if state & RUNNING == 0 {
            let all_known = task.core().owned_tasks.awaited(task.as_ref(), tasks);
            if !all_known || state & PAUSED != 0 {
                // It knows best what to make of it.
                waker::wake_task(task.as_ref());
            }
        }
    }

    /// Has what a new task waits for take its priority, where that was raised while it was built.
    pub(crate) fn lend_raised(task: TaskRef<'_>, lent: i32) {
        // Sequentially consistent, as is the count before: who raises it and sees it being built leaves the
        // rest to us.
        let priority = task.priority.load(Ordering::SeqCst);
        if priority > lent {
            let mut tasks = Vec::new();
            Self::apply_raise(task.to_task(), &mut tasks);
            tasks.iter().for_each(|task| Self::raise(task.as_ref(), priority));
        }
    }

    /// Queues a ready task a second time, where its raised priority says.
    fn schedule_again(&self, task: Task) {
        task.state.set(REQUEUED);
        let priority = task.priority();
        match &self.seeded {
            Some(seeded) => seeded.push(priority, task),
            None => self.priority_queue.push(priority, task),
        }
        self.pushed(false);
    }
}
