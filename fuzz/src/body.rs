//! The future of a task: executes the actions of its body, and reports its polls and drop to the model.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use ensue::ErrorKind;

use super::coverage::reached;
use super::current::Current;
use super::instrumented::{Args, Code, Failure, Value};
use super::model::{Id, Outcome, Suspension};
use super::ops;
use super::pending_await::PendingAwait;
use super::run_state::{
    PlannedPanic, model, note, panic_point, panics_now, reentry_point_of, with,
};
use super::script::{Action, End};

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
        let before = self.progress();
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
                let progressed = self.progress() > before;
                model(|model| model.suspend(id, suspension, progressed));
                Poll::Pending
            }
            Err(payload) => {
                with(|state| state.clone_panicked = false);
                self.outcome = Some(Outcome::Error(ErrorKind::Panicked, Some(id)));
                resume_unwind(payload)
            }
        }
    }

    /// Counts the actions that have begun and the parts of actions that have ended.
    fn progress(&self) -> usize {
        self.at + model(|model| model.tasks[self.id].parts)
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
                self.current.take().into_iter().for_each(Current::finish);
            }
            // After the poll of the action, which synchronizes the model's clock.
            panic_point("poll of a future");
            let Some(action) = body.actions.get(self.at) else { break };
            self.at += 1;
            if !blocking || matches!(action, Action::Do(_) | Action::Result(_)) {
                self.current = self.begin(action, cx, blocking);
            }
        }
        Ok(self.end(body.end))
    }

    fn begin(&self, action: &Action, cx: &mut Context<'_>, blocking: bool) -> Option<Current> {
        note(|| format!("    t{}: {action:?}", self.id));
        let id = self.id;
        match action {
            Action::Peek(slots, kind) => {
                let mut waiting = PendingAwait::in_task(id, slots, *kind)?;
                waiting.poll(cx, Some(id));
                waiting.abandon(id);
                None
            }
            Action::Do(op) => {
                ops::run(op, true);
                None
            }
            Action::Result(slot) => {
                ops::refused_result(*slot, blocking);
                None
            }
            Action::Forget(action) => {
                let mut current = Current::begin(id, action)?;
                match current.poll(id, cx) {
                    Ok(()) => current.finish(),
                    Err(suspension) => {
                        let name = current.name();
                        reached(|| format!("forgot {name} in a task"));
                        model(|model| model.forget(id, suspension));
                        with(|state| state.forgotten.push(Box::new(current)));
                    }
                }
                None
            }
            action => Current::begin(id, action),
        }
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
