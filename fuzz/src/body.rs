//! The future of a task: it does what its script says, and tells the model.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ensue::{Client, ErrorKind, Sleep};

use super::instrumented::{Args, Code, Failure, Value};
use super::model::{Id, Outcome, Phase, Why};
use super::ops;
use super::pending_await::Waiting;
use super::run_state::{Bomb, Close, fuse, hook_of, is_due, model, note, with};
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

pub(crate) struct Plain<A>(Running<A>);
pub(crate) struct Fallible<A>(Running<A>);

impl<A: Args> Future for Plain<A> {
    type Output = Value;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Value> {
        self.0.poll(poller, false).map(|result| match result {
            Ok(value) => value,
            Err(_) => unreachable!("its errors are panics"),
        })
    }
}

impl<A: Args> Future for Fallible<A> {
    type Output = Result<Value, Failure>;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(poller, false)
    }
}

/// The action that is under way.
enum Current {
    Yielded,
    Sleep(Sleep, u64),
    Hang,
    Wait(Waiting),
    Stream(usize, Stream),
    Batch(usize, Stream),
    Close(Close),
}

impl<A: Args> Running<A> {
    pub(crate) fn new(code: Code, args: A) -> Self {
        let id = code.id();
        with(|world| world.alive(id).bodies += 1);
        let args = Some(args);
        Self { id, code, args, begun: false, at: 0, current: None, outcome: None }
    }

    /// As a task that fails by panics only.
    pub(crate) fn plain(self) -> Plain<A> {
        Plain(self)
    }

    pub(crate) fn fallible(self) -> Fallible<A> {
        Fallible(self)
    }

    /// As blocking work: without the awaits.
    pub(crate) fn block(mut self) -> Result<Value, Failure> {
        match self.poll(&mut Context::from_waker(Waker::noop()), true) {
            Poll::Ready(result) => result,
            Poll::Pending => unreachable!("it awaits nothing"),
        }
    }

    fn poll(&mut self, poller: &mut Context<'_>, blocking: bool) -> Poll<Result<Value, Failure>> {
        let id = self.id;
        let before = self.at;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            if self.begun {
                note(|| format!("  t{id} goes on"));
                model(|model| model.resume(id));
            } else {
                note(|| format!("  t{id} starts"));
                self.begun = true;
                model(|model| model.start(id));
            }
            self.args.take().into_iter().for_each(|args| args.check(id));
            self.advance(poller, blocking)
        }));
        match polled {
            Ok(Ok(value)) => {
                self.outcome = Some(match value {
                    Ok(_) => Outcome::Value,
                    Err(_) => Outcome::Error(ErrorKind::Failed, Some(id)),
                });
                Poll::Ready(value)
            }
            Ok(Err(why)) => {
                model(|model| model.suspend(id, why, self.at > before));
                Poll::Pending
            }
            Err(payload) => {
                with(|world| world.clone_panicked = false);
                self.outcome = Some(Outcome::Error(ErrorKind::Panicked, Some(id)));
                resume_unwind(payload)
            }
        }
    }

    /// The result, or why it's suspended.
    fn advance(
        &mut self,
        poller: &mut Context<'_>,
        blocking: bool,
    ) -> Result<Result<Value, Failure>, Why> {
        let script = with(|world| world.script.clone());
        let body = &script.bodies[self.code.body % script.bodies.len()];
        loop {
            if let Some(current) = &mut self.current {
                current.poll(self.id, poller)?;
                if let Some(Current::Stream(slot, stream) | Current::Batch(slot, stream)) =
                    self.current.take()
                {
                    ops::put_stream(slot, Some(stream));
                }
            }
            // Not before it's seen whether time has passed.
            fuse("poll of a future");
            let Some(action) = body.actions.get(self.at) else { break };
            self.at += 1;
            if !blocking || matches!(action, Action::Do(_)) {
                self.current = self.begin(action, poller);
            }
            if let Some(Current::Yielded) = self.current {
                return Err(Why::Yielded);
            }
        }
        Ok(self.end(body.end))
    }

    fn begin(&self, action: &Action, poller: &mut Context<'_>) -> Option<Current> {
        note(|| format!("    t{}: {action:?}", self.id));
        Some(match action {
            Action::Yield => {
                poller.waker().wake_by_ref();
                Current::Yielded
            }
            Action::Sleep(seconds) => {
                let until = model(|model| model.now()) + u64::from(*seconds);
                Current::Sleep(ensue::sleep(Duration::from_secs((*seconds).into())), until)
            }
            Action::Hang => Current::Hang,
            Action::Await(slots, how) => Current::Wait(Waiting::new(slots, *how)?),
            Action::Stream(slot) => Current::Stream(*slot, ops::take_stream(*slot)?),
            Action::Batch(slot) => Current::Batch(*slot, ops::take_stream(*slot)?),
            Action::Peek(slots, how) => {
                let mut waiting = Waiting::new(slots, *how)?;
                waiting.poll(poller, Some(self.id));
                waiting.give_up(self.id);
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
            End::Panic => resume_unwind(Box::new(Bomb)),
            End::ErrorUntil(times) => runs < u32::from(times),
        };
        if !failed {
            return Ok(Value::new(id));
        }
        if fallible { Err(Failure) } else { resume_unwind(Box::new(Bomb)) }
    }
}

impl Current {
    fn poll(&mut self, id: Id, poller: &mut Context<'_>) -> Result<(), Why> {
        match self {
            // It was polled again.
            Self::Yielded => Ok(()),
            Self::Hang => Err(Why::Hangs),
            Self::Sleep(sleep, until) => {
                let is_over = Pin::new(sleep).poll(poller).is_ready();
                model(|model| {
                    if is_over {
                        model.clock_to(*until, id);
                        return Ok(());
                    }
                    let now = model.now();
                    model.expect(now < *until, || format!("t{id} sleeps until {until} at {now}"));
                    Err(Why::Sleeps(*until))
                })
            }
            Self::Wait(waiting) => {
                if waiting.poll(poller, Some(id)) {
                    Ok(())
                } else {
                    Err(waiting.why())
                }
            }
            Self::Stream(_, stream) => {
                if stream.poll(poller, true) {
                    Ok(())
                } else {
                    Err(Why::Stream(stream.number))
                }
            }
            Self::Batch(_, stream) => {
                if stream.poll_batch(poller, true) {
                    Ok(())
                } else {
                    Err(Why::Stream(stream.number))
                }
            }
            Self::Close(close) => {
                model(|model| model.close(false, true));
                if close.as_mut().poll(poller).is_pending() {
                    return Err(Why::Close);
                }
                model(|model| {
                    let busy = (0..model.tasks.len()).find(|other| {
                        let phase = &model.tasks[*other].phase;
                        *other != id && matches!(phase, Phase::Suspended(why) if *why != Why::Close)
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
        // What it holds goes before the task is done.
        self.current = None;
        self.args = None;
        note(|| format!("  the future of t{id} goes"));
        // *Free*: whether a panic of the destructor, at the end of an attempt, is the attempt's own.
        let ended = model(|model| model.tasks[id].outcome().is_some());
        let bomb = self.begun && !std::thread::panicking() && (is_done || ended) && is_due();
        let planned = model(|model| model.tasks[id].plan.planned);
        if bomb && planned && is_done {
            self.outcome = Some(Outcome::Error(ErrorKind::Panicked, Some(id)));
            // A value that was to be returned isn't dropped where a destructor panics meanwhile:
            // https://github.com/rust-lang/rust/issues/47949
            with(|world| world.alive(id).leaked = true);
        }
        with(|world| world.alive(id).bodies -= 1);
        model(|model| model.stop(id, self.outcome));
        hook_of(id, "drop of a future");
        if bomb {
            note(|| "  a bomb goes off: drop of a future".into());
            resume_unwind(Box::new(Bomb));
        }
    }
}
