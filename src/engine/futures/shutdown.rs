//! Waiting for an engine to be idle or closed.

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

/// Excepts the current task from those that are waited for, while it waits itself.
struct Exempt(Option<Task>);

impl Exempt {
    fn current(core: &Core) -> Self {
        let Some((task, in_its_poll)) = context::current_waiter(core) else { return Self(None) };
        // It may wait more than once at a time, and is one task all the same.
        let count = || {
            if task.make_extras().exempt.fetch_add(1, Ordering::SeqCst) == 0 {
                core.shutdown.exempt.fetch_add(1, Ordering::SeqCst);
            }
        };
        if in_its_poll {
            if task.state.load() & OWNED == 0 {
                // Else it would count as less than none.
                core.owned_tasks.insert(task.as_ref(), Awaited::default());
            }
            count();
        } else {
            while task.state.load() & (OWNED | DONE) == 0 {
                // Its worker is at the end of the poll that began the blocking work.
                thread::yield_now();
            }
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

    /// Closes, and resolves when no task is left and the client's own workers are gone, but for as
    /// many as there are tasks that wait for this.
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
        self.threads.join(exempt == 0);
        engine_refs::drain(&self);
    }

    /// Waits for a change; meanwhile runs the tasks of a seeded client, which has no thread to do so.
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
