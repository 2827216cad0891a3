//! The futures that wait for an engine to be idle, or close it and wait for its end.
//!
//! Both check a condition at each poll, and are in the list of those that are woken when it may have changed. A task that
//! waits for its own engine is *exempt*: it doesn't count as running, as it would otherwise wait for itself. Exempt tasks
//! are counted in the [table of started tasks](crate::engine::queue::owned_tasks).

use std::future::poll_fn;
use std::task::Poll;

use crate::engine::base::sync::yield_now;
use crate::engine::core::{Core, CoreRef, budget, context, engine_refs};
use crate::engine::data::waker_list::Waiter;
use crate::engine::task::header::Task;
use crate::engine::task::state::{DONE, OWNED};
use crate::engine::worker::{self, Drive};

/// The exemption of the current task while it waits, which ends on drop; `None` outside a task of the engine.
struct Exempt(Option<Task>);

impl Exempt {
    fn current(core: &Core) -> Self {
        let Some((task, in_its_poll)) = context::current_waiter(core) else { return Self(None) };
        let count = || core.owned_tasks.begin_exemption(&task);
        if in_its_poll {
            if task.state.load() & OWNED == 0 {
                // Exempt tasks are counted among those in the table.
                core.owned_tasks.insert(task.as_ref(), Vec::new());
            }
            count();
        } else {
            while task.state.load() & (OWNED | DONE) == 0 {
                // A blocking closure may run before its task's poll has ended: the worker is about to insert the task.
                yield_now();
            }
            // Under the lock of the table, because the task may end while its closure still runs.
            if !core.owned_tasks.while_owned(&task, count) {
                return Self(None);
            }
        }
        core.notify_if_done();
        Self(Some(task))
    }
}

impl Drop for Exempt {
    fn drop(&mut self) {
        let Some(task) = &self.0 else { return };
        if task.core().owned_tasks.end_exemption(task) {
            task.core().notify_if_done();
        }
    }
}

impl CoreRef {
    /// Resolves when the engine is idle, or was since the call.
    pub(crate) async fn idle(self) {
        let _thread = self.threads.blocking.exempt_this_thread();
        let _exempt = Exempt::current(&self);
        // The engine may be idle for a moment only, between two checks.
        let before = self.shutdown.idle_count();
        let is_over = || {
            let over = self.shutdown.idle_count() != before
                || self.is_idle()
                || (self.is_closed() && self.is_done());
            over.then_some(())
        };
        let waiter = self.shutdown.changed.enter();
        self.until(&waiter, is_over, || self.is_idle()).await;
    }

    /// Closes the engine. Resolves when no task is left but exempt ones, and the client's own workers have exited, except
    /// one for each exempt task, and so have the threads for blocking work, except those whose closures await this.
    pub(crate) async fn close(self) {
        let _thread = self.threads.blocking.exempt_this_thread();
        let _exempt = Exempt::current(&self);
        self.begin_close(false);
        let ended_but = || {
            let exempt = self.exempt();
            (self.is_done() && self.threads.alive() <= exempt).then_some(exempt)
        };
        let waiter = self.shutdown.changed.enter();
        let exempt = self.until(&waiter, ended_but, || self.is_done()).await;
        // A worker that runs an exempt task can't be joined yet: it may be the one that polls this future.
        self.threads.join(exempt == 0);
        self.threads.blocking.clone().end().await;
        engine_refs::drain(&self);
    }

    /// Waits for changes of the shutdown state until `outcome` has one. Meanwhile runs the tasks of a seeded client, which
    /// has no threads, until `is_driven` says that there is nothing left to run for this future.
    pub(crate) async fn until<R>(
        &self,
        waiter: &Waiter,
        outcome: impl Fn() -> Option<R>,
        is_driven: impl Fn() -> bool,
    ) -> R {
        let (mut gave_way, mut seen_steps) = (false, 0);
        poll_fn(|cx| {
            let mut is_driving = self.seeded.is_some();
            loop {
                // Before the check, so that no change after it is missed.
                waiter.register(cx.waker());
                if let Some(outcome) = outcome() {
                    let seeded = self.seeded.is_some();
                    return match budget::take_or_give_way(&mut gave_way, cx.waker(), seeded) {
                        true => Poll::Ready(outcome),
                        false => Poll::Pending,
                    };
                }
                if !is_driving {
                    return Poll::Pending;
                }
                // Checked again after the last of the tasks that can run.
                let drive = worker::drive_seeded(self, cx.waker(), &mut seen_steps, &is_driven);
                if drive == Drive::GaveWay {
                    return Poll::Pending;
                }
                is_driving = drive == Drive::Done;
            }
        })
        .await
    }
}
