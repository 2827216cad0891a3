//! The await that a task has begun and not finished, as a real future, and the check of each of its polls.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use ensue::{Client, Sleep};

use super::coverage::reached;
use super::model::{Id, Suspension};
use super::ops;
use super::pending_await::PendingAwait;
use super::run_state::{Close, expect, model};
use super::script::{Action, AwaitKind, Op};
use super::several::Several;
use super::stream::Stream;

pub(crate) enum Current {
    /// Whether it has given way.
    Yield(bool),
    Sleep(Sleep, u64),
    Hang,
    Wait(PendingAwait),
    Stream(usize, Stream),
    Batch(usize, Stream),
    End(Ending),
    Several(Several),
}

/// A future of `idle` or `close` in a task, which exempts the task from what it waits for.
pub(crate) struct Ending {
    future: Close,
    closes: bool,
    of: Id,
    begun: Option<u64>,
}

impl Current {
    /// Begins an await of the task. Returns `None` if there is nothing to await.
    pub(crate) fn begin(id: Id, action: &Action) -> Option<Self> {
        Some(match action {
            Action::Yield => Self::Yield(false),
            Action::Sleep(seconds) => {
                let until = model(|model| model.now()) + u64::from(*seconds);
                Self::Sleep(ensue::sleep(Duration::from_secs((*seconds).into())), until)
            }
            Action::Hang => Self::Hang,
            Action::Await(slots, kind) => Self::Wait(PendingAwait::in_task(id, slots, *kind)?),
            Action::Child(submit) => {
                ops::run(&Op::Submit((**submit).clone()), true);
                Self::Wait(PendingAwait::in_task(id, &[submit.into], AwaitKind::Borrow)?)
            }
            Action::Stream(slot) => Self::Stream(*slot, ops::take_stream(*slot)?),
            Action::Batch(slot) => Self::Batch(*slot, ops::take_stream(*slot)?),
            Action::Close => Self::End(Ending::new(id, Box::pin(Client::current()?.close()), true)),
            Action::Idle => Self::End(Ending::new(id, Box::pin(Client::current()?.idle()), false)),
            Action::Several(how, parts) => Self::Several(Several::new(id, *how, parts)?),
            _ => return None,
        })
    }

    pub(crate) fn poll(&mut self, id: Id, cx: &mut Context<'_>) -> Result<(), Suspension> {
        match self {
            // This is the poll after the wake.
            Self::Yield(true) => Ok(()),
            Self::Yield(gave_way) => {
                *gave_way = true;
                cx.waker().wake_by_ref();
                Err(Suspension::Yielded)
            }
            Self::Hang => Err(Suspension::Hangs),
            Self::Sleep(sleep, until) => {
                let is_over = Pin::new(sleep).poll(cx).is_ready();
                model(|model| {
                    if is_over {
                        model.clock_to(*until, id);
                        return Ok(());
                    }
                    let now = model.now();
                    model.expect(now < *until, || format!("t{id} sleeps until {until} at {now}"));
                    Err(Suspension::Sleeps(*until))
                })
            }
            Self::Wait(waiting) => {
                if waiting.poll(cx, Some(id)) {
                    Ok(())
                } else {
                    Err(waiting.suspension())
                }
            }
            Self::Stream(_, stream) => {
                if stream.poll(cx, true) {
                    Ok(())
                } else {
                    Err(Suspension::Stream(stream.number))
                }
            }
            Self::Batch(_, stream) => {
                if stream.poll_batch(cx, true) {
                    Ok(())
                } else {
                    Err(Suspension::Stream(stream.number))
                }
            }
            Self::End(ending) => {
                let polled = ending.poll(cx);
                let (name, is_over) = (self.name(), polled.is_ok());
                reached(|| format!("{name}: {}", if is_over { "ready" } else { "pending" }));
                polled
            }
            Self::Several(several) => several.poll(cx),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Yield(_) => "yield",
            Self::Sleep(..) => "sleep",
            Self::Hang => "hang",
            Self::Wait(waiting) => waiting.name(),
            Self::Stream(..) => "stream",
            Self::Batch(..) => "batch",
            Self::End(Ending { closes: true, .. }) => "close",
            Self::End(_) => "idle",
            Self::Several(_) => "several",
        }
    }

    /// Puts the stream of a finished await back.
    pub(crate) fn finish(self) {
        if let Self::Stream(slot, stream) | Self::Batch(slot, stream) = self {
            ops::put_stream(slot, Some(stream));
        }
    }
}

impl Ending {
    fn new(of: Id, future: Close, closes: bool) -> Self {
        Self { future, closes, of, begun: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Result<(), Suspension> {
        let Self { closes, of, .. } = *self;
        let begun = model(|model| {
            if self.begun.is_none() {
                model.tasks[of].exempt += 1;
                model.settle();
            }
            if closes {
                model.close(false, true);
            }
            *self.begun.get_or_insert(model.instant)
        });
        if self.future.as_mut().poll(cx).is_pending() {
            return Err(if closes { Suspension::Close } else { Suspension::Idle });
        }
        self.end();
        let busy = model(|model| {
            let busy = |id: &usize| *id != of && model.is_busy_with(*id);
            (0..model.tasks.len()).find(busy).filter(|_| closes || model.idle_at < begun)
        });
        let name = if closes { "close" } else { "idle" };
        expect(busy.is_none(), || format!("`{name}` resolved in t{of} while t{busy:?} was busy"));
        Ok(())
    }

    /// Ends the exemption.
    fn end(&mut self) {
        if self.begun.take().is_some() {
            model(|model| {
                let exempt = &mut model.tasks[self.of].exempt;
                *exempt = exempt.saturating_sub(1);
            });
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.end();
        // Dropped here, where the state is accessible.
        let none: Close = Box::pin(std::future::ready(()));
        drop(std::mem::replace(&mut self.future, none));
    }
}
