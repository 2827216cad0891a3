//! The future that acquires limits and rates for a task, in turn.
//!
//! | `Stage` | meaning | next |
//! |---|---|---|
//! | `New` | not polled yet | `Done` if the limits are free, else `Entered` |
//! | `Entered` | in the queue of requests | `Done` when granted; dropping the future withdraws the request |
//! | `Done` | the permit was returned | final |

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::engine::core::{Core, CoreRef, context};
use crate::engine::data::clock::Clock;
use crate::engine::data::limit_queues::Needs;
use crate::engine::data::limits::Request;

/// A future that resolves once all needed limits are acquired.
pub(crate) struct Acquire {
    core: CoreRef,
    request: Stage,
    /// Returns the present priority of the task.
    priority: Box<dyn Fn() -> i32 + Send>,
}

enum Stage {
    New(Needs),
    Entered(Request),
    Done,
}

/// Acquired limits, which are released on drop.
pub(crate) struct Permit {
    core: CoreRef,
    number: u64,
}

impl Acquire {
    /// Creates a request. `priority` is called at each poll, since a dependent may have lent a higher one meanwhile.
    pub(crate) fn new(
        core: CoreRef,
        needs: Needs,
        priority: impl Fn() -> i32 + Send + 'static,
    ) -> Self {
        Self { core, request: Stage::New(needs), priority: Box::new(priority) }
    }
}

impl Core {
    /// The client's clock, by which rates count.
    pub(crate) fn clock(&self) -> Clock<'_> {
        match &self.seeded {
            Some(seeded) => Clock::Virtual(&seeded.clock),
            None => Clock::Real(self.began),
        }
    }
}

impl Future for Acquire {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        let this = &mut *self;
        let priority = (this.priority)();
        let request = match mem::replace(&mut this.request, Stage::Done) {
            Stage::New(needs) => {
                let task = context::current_task();
                match this.core.limits.take(needs, task, priority, &this.core.clock()) {
                    Ok(number) => return Poll::Ready(Permit { core: this.core.clone(), number }),
                    Err(request) => request,
                }
            }
            Stage::Entered(request) => request,
            Stage::Done => unreachable!("`Acquire` was polled after it had resolved"),
        };
        let (request, holders) =
            this.core.limits.request(request, priority, cx.waker(), &this.core.clock());
        holders.iter().for_each(|holder| Core::raise(holder.as_ref(), priority));
        match request {
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
        // An abandoned request must neither be granted in its turn nor hold up the requests behind it.
        if let Stage::Entered(Request::Waiting(place, line)) = self.request {
            self.core.limits.withdraw(place, line, &self.core.clock());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.core.limits.release(self.number, &self.core.clock());
    }
}
