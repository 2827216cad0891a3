//! Priority inheritance: a task lends its priority to the tasks that it waits for.
//!
//! An entry of a queue doesn't move when its task's priority is lowered: whoever takes it from a level that is higher now puts it
//! into the one that is right.

use std::sync::atomic::Ordering;

use crate::engine::core::Core;
use crate::engine::life::finish;
use crate::engine::life::waiting;
use crate::engine::life::waker;
use crate::engine::task::header::{Task, TaskRef};
use crate::engine::task::state::{QUEUED, REQUEUED, RUNNING};

impl Core {
    /// Raises the priority of a task, and of all that it waits for, to at least `priority`.
    pub(crate) fn raise(task: TaskRef<'_>, priority: i32) {
        if task.priority() >= priority {
            return;
        }
        // A worklist, not recursion: chains of tasks may be long.
        let mut tasks = vec![task.to_task()];
        while let Some(task) = tasks.pop() {
            if !task.waiters.is_closed()
                && task.priority.fetch_max(priority, Ordering::SeqCst) < priority
            {
                Self::apply_raise(task, &mut tasks);
            }
        }
    }

    /// Sets the priority of a task, but no lower than that of those that await it or have it as an input. False if it has
    /// ended.
    pub(crate) fn set_priority(task: TaskRef<'_>, priority: i32) -> bool {
        if task.waiters.is_closed() {
            return false;
        }
        let wanted = priority.max(waiting::highest_of_waiters(task));
        let lower = |before| (wanted < before).then_some(wanted);
        if task.priority.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lower).is_err() {
            Self::raise(task, wanted);
            return true;
        }
        // One that was entered meanwhile may have found the former priority to be high enough.
        Self::raise(task, waiting::highest_of_waiters(task));
        if task.state.load() & (QUEUED | RUNNING) == 0 && task.extras().is_some() {
            // It may wait for a limit or a thread, where only its own future can move it.
            waker::wake_task(task);
        }
        true
    }

    /// Requeues a task whose priority was raised, or adds the tasks that it waits for to `tasks`.
    fn apply_raise(task: Task, tasks: &mut Vec<Task>) {
        if finish::collect_inputs(task.as_ref(), tasks) {
            return;
        }
        if task.count.is_waiting() {
            // Still being built: its submitter calls `lend_raised` after that.
            return;
        }
        let state = task.state.load();
        if state & QUEUED != 0 {
            task.core().to_ref().schedule_again(task);
        } else if state & RUNNING == 0 {
            let (others, priority) = (tasks.len(), task.priority());
            waiting::awaited(task.as_ref(), tasks, |other| other.priority() < priority);
            if tasks.len() == others || task.wakers.load(Ordering::Relaxed) != 1 {
                // It also waits for something else: only its own future can pass the priority on, to a limit or a completion
                // queue, when it's polled.
                waker::wake_task(task.as_ref());
            }
        }
    }

    /// Raises the inputs of a new task if its priority was raised above `lent` while it was built.
    pub(crate) fn lend_raised(task: TaskRef<'_>, lent: i32) {
        // Sequentially consistent, like `Count::built` before it: a thread that raised the priority and then saw the
        // task being built did nothing further, so this load must see the new priority.
        let priority = task.priority.load(Ordering::SeqCst);
        if priority > lent {
            let mut tasks = Vec::new();
            Self::apply_raise(task.to_task(), &mut tasks);
            tasks.iter().for_each(|task| Self::raise(task.as_ref(), priority));
        }
    }

    /// Queues a queued task once more, at its raised priority. The former entry goes stale.
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
