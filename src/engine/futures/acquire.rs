//! Acquiring limits, in turn.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::engine::core::{CoreRef, context};
use crate::engine::data::limits::{Needs, Request};

/// Resolves when the limits that are needed have been taken.
pub(crate) struct Acquire {
    core: CoreRef,
    request: Stage,
    priority: Box<dyn Fn() -> i32 + Send>,
}

enum Stage {
    New(Needs),
    Entered(Request),
    /// The permit was handed out.
    Done,
}

/// What a task has taken; given back when dropped.
pub(crate) struct Permit {
    core: CoreRef,
    number: u64,
}

impl Acquire {
    /// `priority` is asked at each poll, since a dependent may have lent a higher one.
    pub(crate) fn new(
        core: CoreRef,
        needs: Needs,
        priority: impl Fn() -> i32 + Send + 'static,
    ) -> Self {
        Self { core, request: Stage::New(needs), priority: Box::new(priority) }
    }
}

impl Future for Acquire {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        let this = &mut *self;
        let priority = (this.priority)();
        let request = match mem::replace(&mut this.request, Stage::Done) {
            Stage::New(needs) => Request::New { needs, task: context::current_task() },
            Stage::Entered(request) => request,
            Stage::Done => unreachable!("a future isn't polled after it has resolved"),
        };
        match this.core.limits.request(request, priority, cx.waker()) {
            Request::Granted(number) => Poll::Ready(Permit { core: this.core.clone(), number }),
            waiting => {
                this.request = Stage::Entered(waiting);
                Poll::Pending
            }
        }
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        if let Stage::Entered(Request::Waiting(position)) = self.request {
            self.core.limits.withdraw(position);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.core.limits.release(self.number);
    }
}
