//! The future of a task: executes the actions of its body, and reports its polls and drop to the model.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ensue::{Client, ErrorKind, Sleep};

use super::instrumented::{Args, Code, Failure, Value};
use super::model::{Id, Outcome, Phase, Suspension};
use super::ops;
use super::pending_await::PendingAwait;
use super::run_state::{
    Close, PlannedPanic, model, note, panic_point, panics_now, reentry_point_of, with,
};
use super::script::{Action, End};
use super::stream::Stream;

pub(crate) struct Running<A> {
    id: Id,
    code: Code,
    args: Option<A>,
    begun: bool,
    at: usize,
    current: Option<Current>,
    outcome: Option<Outcome>,
}

pub(crate) struct Infallible<A>(Running<A>);
pub(crate) struct Fallible<A>(Running<A>);

impl<A: Args> Future for Infallible<A> {
    type Output = Value;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Value> {
        self.0.poll(cx, false).map(|result| match result {
            Ok(value) => value,
            Err(_) => unreachable!("its errors are raised as panics"),
        })
    }
}

impl<A: Args> Future for Fallible<A> {
    type Output = Result<Value, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx, false)
    }
}

/// The action that a poll has begun and not finished.
enum Current {
    Yielded,
    Sleep(Sleep, u64),
    Hang,
    Wait(PendingAwait),
    Stream(usize, Stream),
    Batch(usize, Stream),
    Close(Close),
}

impl<A: Args> Running<A> {
    pub(crate) fn new(code: Code, args: A) -> Self {
        let id = code.id();
        with(|state| state.alive(id).futures += 1);
        let args = Some(args);
        Self { id, code, args, begun: false, at: 0, current: None, outcome: None }
    }

    /// Returns a future that fails by panics only.
    pub(crate) fn infallible(self) -> Infallible<A> {
        Infallible(self)
    }

    /// Returns a future that may return an error.
    pub(crate) fn fallible(self) -> Fallible<A> {
        Fallible(self)
    }

    /// Runs the body as blocking work, without its awaits.
    pub(crate) fn block(mut self) -> Result<Value, Failure> {
        match self.poll(&mut Context::from_waker(Waker::noop()), true) {
            Poll::Ready(result) => result,
            Poll::Pending => unreachable!("it awaits nothing"),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, blocking: bool) -> Poll<Result<Value, Failure>> {
        let id = self.id;
        let before = self.at;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            if self.begun {
                note(|| format!("  t{id} is resumed"));
                model(|model| model.resume(id));
            } else {
                note(|| format!("  t{id} starts"));
                self.begun = true;
                model(|model| model.start(id));
            }
            self.args.take().into_iter().for_each(|args| args.check(id));
            self.advance(cx, blocking)
        }));
        match polled {
            Ok(Ok(value)) => {
                self.outcome = Some(match value {
                    Ok(_) => Outcome::Value,
                    Err(_) => Outcome::Error(ErrorKind::Failed, Some(id)),
                });
                Poll::Ready(value)
            }
            Ok(Err(suspension)) => {
                model(|model| model.suspend(id, suspension, self.at > before));
                Poll::Pending
            }
            Err(payload) => {
                with(|state| state.clone_panicked = false);
                self.outcome = Some(Outcome::Error(ErrorKind::Panicked, Some(id)));
                resume_unwind(payload)
            }
        }
    }

    /// Executes actions up to the result or to a suspension.
    fn advance(
        &mut self,
        cx: &mut Context<'_>,
        blocking: bool,
    ) -> Result<Result<Value, Failure>, Suspension> {
        let script = with(|state| state.script.clone());
        let body = &script.bodies[self.code.body % script.bodies.len()];
        loop {
            if let Some(current) = &mut self.current {
                current.poll(self.id, cx)?;
                if let Some(Current::Stream(slot, stream) | Current::Batch(slot, stream)) =
                    self.current.take()
                {
                    ops::put_stream(slot, Some(stream));
                }
            }
            // After the poll of the action, which synchronizes the model's clock.
            panic_point("poll of a future");
            let Some(action) = body.actions.get(self.at) else { break };
            self.at += 1;
            if !blocking || matches!(action, Action::Do(_)) {
                self.current = self.begin(action, cx);
            }
            if let Some(Current::Yielded) = self.current {
                return Err(Suspension::Yielded);
            }
        }
        Ok(self.end(body.end))
    }

    fn begin(&self, action: &Action, cx: &mut Context<'_>) -> Option<Current> {
        note(|| format!("    t{}: {action:?}", self.id));
        Some(match action {
            Action::Yield => {
                cx.waker().wake_by_ref();
                Current::Yielded
            }
            Action::Sleep(seconds) => {
                let until = model(|model| model.now()) + u64::from(*seconds);
                Current::Sleep(ensue::sleep(Duration::from_secs((*seconds).into())), until)
            }
            Action::Hang => Current::Hang,
            Action::Await(slots, kind) => Current::Wait(PendingAwait::new(slots, *kind)?),
            Action::Stream(slot) => Current::Stream(*slot, ops::take_stream(*slot)?),
            Action::Batch(slot) => Current::Batch(*slot, ops::take_stream(*slot)?),
            Action::Peek(slots, kind) => {
                let mut waiting = PendingAwait::new(slots, *kind)?;
                waiting.poll(cx, Some(self.id));
                waiting.abandon(self.id);
                return None;
            }
            Action::Close => Current::Close(Box::pin(Client::current()?.close())),
            Action::Do(op) => {
                ops::run(op, true);
                return None;
            }
        })
    }

    fn end(&self, end: End) -> Result<Value, Failure> {
        let id = self.id;
        let (runs, fallible) = model(|model| (model.tasks[id].runs, model.tasks[id].plan.fallible));
        let failed = match end {
            End::Value => false,
            End::Error => true,
            End::Panic => resume_unwind(Box::new(PlannedPanic)),
            End::ErrorUntil(times) => runs < u32::from(times),
        };
        if !failed {
            return Ok(Value::new(id));
        }
        if fallible { Err(Failure) } else { resume_unwind(Box::new(PlannedPanic)) }
    }
}

impl Current {
    fn poll(&mut self, id: Id, cx: &mut Context<'_>) -> Result<(), Suspension> {
        match self {
            // This is the poll after the wake.
            Self::Yielded => Ok(()),
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
            Self::Close(close) => {
                model(|model| model.close(false, true));
                if close.as_mut().poll(cx).is_pending() {
                    return Err(Suspension::Close);
                }
                model(|model| {
                    let busy = (0..model.tasks.len()).find(|other| {
                        let phase = &model.tasks[*other].phase;
                        *other != id
                            && matches!(phase, Phase::Suspended(at) if *at != Suspension::Close)
                    });
                    model.expect(busy.is_none(), || {
                        format!("`close` resolved in t{id} while t{busy:?} was running")
                    });
                });
                Ok(())
            }
        }
    }
}

impl<A> Drop for Running<A> {
    fn drop(&mut self) {
        let id = self.id;
        let is_done = self.outcome.is_some();
        if !is_done {
            self.outcome = model(|model| model.is_over(id));
        }
        // The engine drops the parts of a future before the task ends.
        self.current = None;
        self.args = None;
        note(|| format!("  the future of t{id} is dropped"));
        // A panic of the destructor doesn't cost the outcome, unless a closure drops it before it returns.
        let ended = model(|model| model.tasks[id].outcome().is_some());
        let panics = self.begun && !std::thread::panicking() && (is_done || ended) && panics_now();
        let blocking = model(|model| model.tasks[id].plan.blocking);
        if panics && blocking && is_done {
            self.outcome = Some(Outcome::Error(ErrorKind::Panicked, Some(id)));
            // The compiler doesn't drop a return value if a destructor panics meanwhile:
            // https://github.com/rust-lang/rust/issues/47949
            with(|state| state.alive(id).leaked = true);
        }
        with(|state| state.alive(id).futures -= 1);
        model(|model| model.stop(id, self.outcome));
        reentry_point_of(id, "drop of a future");
        if panics {
            note(|| "  planned panic: drop of a future".into());
            resume_unwind(Box::new(PlannedPanic));
        }
    }
}
