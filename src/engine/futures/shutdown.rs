//! The futures that wait for an engine to be idle, or close it and wait for its end.
//!
//! Both re-check a condition after each event: they register a listener, then check, then wait, so that no change between
//! the check and the wait is missed. A task that waits for its own engine is *exempt*: it doesn't count as running, as it
//! would otherwise wait for itself. Exempt tasks are counted in
//! [`ShutdownState`](crate::engine::core::shutdown_state::ShutdownState).

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::thread;

use event_listener::EventListener;

use crate::engine::core::{Core, CoreRef, context, engine_refs};
use crate::engine::queue::owned_tasks::Awaited;
use crate::engine::task::header::Task;
use crate::engine::task::state::{DONE, OWNED};
use crate::engine::worker;

/// The exemption of the current task while it waits, which ends on drop; `None` outside a task of the engine.
struct Exempt(Option<Task>);

impl Exempt {
    fn current(core: &Core) -> Self {
        let Some((task, in_its_poll)) = context::current_waiter(core) else { return Self(None) };
        // One task may wait several times at once, but counts as one exempt task.
        let count = || {
            if task.make_extras().exempt.fetch_add(1, Ordering::SeqCst) == 0 {
                core.shutdown.exempt.fetch_add(1, Ordering::SeqCst);
            }
        };
        if in_its_poll {
            if task.state.load() & OWNED == 0 {
                // Tasks in the table are compared with exempt ones, so an exempt task must be in the table.
                core.owned_tasks.insert(task.as_ref(), Awaited::default());
            }
            count();
        } else {
            while task.state.load() & (OWNED | DONE) == 0 {
                // A blocking closure may run before its task's poll has ended: the worker is about to insert the task.
                thread::yield_now();
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
        let exempt = &task.make_extras().exempt;
        // 0 if the task has ended: `end_exemption` has reset the count already.
        let one_less = |n: u32| n.checked_sub(1);
        if exempt.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) == Ok(1) {
            task.core().shutdown.exempt.fetch_sub(1, Ordering::SeqCst);
            task.core().notify_if_done();
        }
    }
}

impl CoreRef {
    /// Resolves when the engine is idle, or was since the call.
    pub(crate) async fn idle(self) {
        let _exempt = Exempt::current(&self);
        // The engine may be idle for a moment only, between two checks.
        let before = self.shutdown.idle_count.load(Ordering::SeqCst);
        loop {
            let listener = self.shutdown.changed.listen();
            if self.shutdown.idle_count.load(Ordering::SeqCst) != before
                || self.is_idle()
                || (self.is_closed() && self.is_done())
            {
                return;
            }
            self.changed_or_driven(listener, || self.is_idle()).await;
        }
    }

    /// Closes the engine. Resolves when no task is left but exempt ones, and the client's own workers have exited, except
    /// one for each exempt task, and so have the threads for blocking work, except those whose closures await this.
    pub(crate) async fn close(self) {
        let _exempt = Exempt::current(&self);
        self.begin_close(false);
        let exempt = loop {
            let listener = self.shutdown.changed.listen();
            let exempt = self.exempt();
            if self.is_done() && self.threads.alive() <= exempt {
                break exempt;
            }
            self.changed_or_driven(listener, || self.is_done()).await;
        };
        // A worker that runs an exempt task can't be joined yet: it may be the one that polls this future.
        self.threads.join(exempt == 0);
        self.threads.blocking.clone().end().await;
        engine_refs::drain(&self);
    }

    /// Waits for an event of the shutdown state, and meanwhile runs the tasks of a seeded client, which has no threads.
    async fn changed_or_driven(&self, mut listener: EventListener, done: impl Fn() -> bool) {
        poll_fn(|cx| {
            if self.seeded.is_some() && worker::drive_seeded(self, cx.waker(), &done) {
                return Poll::Ready(());
            }
            Pin::new(&mut listener).poll(cx)
        })
        .await;
    }
}
