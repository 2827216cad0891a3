//! The attempts of a task that has options for them: limits and rates, a timeout, retries.
//!
//! | `Step` | from here to | when |
//! |---|---|---|
//! | `New` | `Acquiring` or `Attempting` | at once |
//! | `Acquiring` | `Attempting` | all limits and rates are acquired |
//! | `Attempting` | `New`, and the task ends | the function returns a value, or no further attempt is allowed |
//! | `Attempting` | `Waiting` | it fails, panics or times out, and another attempt is allowed |
//! | `Waiting` | `New` | the delay is over |
//!
//! The future of the attempt stands in the task's cell, which is all that depends on the function. See
//! [`task::attempt`](crate::engine::task::attempt).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::options::TaskOptions;
use crate::engine::core::{Core, context};
use crate::engine::data::limit_queues::Needs;
use crate::engine::futures::acquire::{Acquire, Permit};
use crate::engine::futures::sleep::{Sleep, sleep};
use crate::engine::life::pause::Pause;
use crate::engine::task::attempt::{Attempt, Held, Policy};
use crate::engine::task::header::PollOutcome;
use crate::{Error, Retry};

/// Makes the attempts of one task.
pub(crate) struct Attempts {
    retry: Retry,
    timeout: Option<Duration>,
    limits: Needs,
    /// The attempts that have failed since the task was submitted, or retried by its handle.
    failures: u32,
    step: Step,
}

enum Step {
    New,
    Acquiring(Acquiring),
    Attempting { _held: Option<Held>, late: Option<Sleep> },
    Waiting(Waiting),
}

impl Attempts {
    /// Takes the options that it needs out of `settings`, if there are any. The error is the text for a limit that can't
    /// be met.
    pub(crate) fn take(
        core: &Core,
        settings: &mut TaskOptions,
    ) -> Result<Option<Box<dyn Policy>>, String> {
        if !settings.needs_attempts() {
            return Ok(None);
        }
        let limits = core.limits.needs(&settings.limits, &core.clock())?;
        let retry = settings.retry.take().unwrap_or_else(|| Retry::new(0));
        let timeout = settings.timeout;
        Ok(Some(Box::new(Self { retry, timeout, limits, failures: 0, step: Step::New })))
    }

    /// Begins an attempt. Returns its error if that fails.
    fn begin(&mut self, attempt: &mut Attempt<'_>, permit: Option<Permit>) -> Option<Error> {
        let mut held = permit.map(|permit| Box::new(permit) as Held);
        let begun = catch_unwind(AssertUnwindSafe(|| attempt.begin(&mut held)));
        match begun {
            Ok(Ok(())) => {
                // The timeout counts from before the first poll.
                self.step = Step::Attempting { _held: held, late: self.timeout.map(sleep) };
                None
            }
            Ok(Err(error)) => Some(error),
            Err(payload) => Some(panicked(payload)),
        }
    }

    /// Takes note of a failed attempt. Returns its error if it was the last one.
    fn fail(&mut self, error: Error) -> Option<Error> {
        self.failures = self.failures.saturating_add(1);
        // The predicate of a `Retry` is user code.
        let allows = || self.retry.allows(self.failures, &error);
        match catch_unwind(AssertUnwindSafe(allows)) {
            Ok(true) => match context::current_core().filter(|core| !core.is_closed()) {
                Some(core) => {
                    let delay = self.retry.delay(self.failures, || core.random());
                    self.step = Step::Waiting(Waiting::new(self.failures, delay));
                    None
                }
                None => Some(error),
            },
            Ok(false) => Some(error),
            Err(payload) => Some(Error::panicked(context::current_subject(), payload)),
        }
    }
}

impl Policy for Attempts {
    fn poll(&mut self, attempt: &mut Attempt<'_>, cx: &mut Context<'_>) -> PollOutcome {
        loop {
            let error = match &mut self.step {
                Step::New if !self.limits.amounts.is_empty() => {
                    self.step = Step::Acquiring(Acquiring::new(&self.limits));
                    continue;
                }
                Step::New => self.begin(attempt, None),
                Step::Acquiring(acquiring) => {
                    let Poll::Ready(permit) = acquiring.poll(cx) else {
                        return PollOutcome::Pending;
                    };
                    // Ends the pause before the attempt begins.
                    self.step = Step::New;
                    self.begin(attempt, Some(permit))
                }
                Step::Attempting { late, .. } => {
                    let late = late.as_mut().zip(self.timeout);
                    match poll_under_timeout(attempt, late, cx) {
                        PollOutcome::Pending => return PollOutcome::Pending,
                        PollOutcome::Value => {
                            self.reset();
                            return PollOutcome::Value;
                        }
                        PollOutcome::Failed(error) => Some(error),
                    }
                }
                Step::Waiting(waiting) => {
                    if waiting.poll(cx).is_pending() {
                        return PollOutcome::Pending;
                    }
                    self.step = Step::New;
                    continue;
                }
            };
            let Some(error) = error else { continue };
            // The future is dropped before what it held is released.
            let can_begin = attempt.end();
            self.step = Step::New;
            let last = if can_begin { self.fail(error) } else { Some(error) };
            if let Some(error) = last {
                self.reset();
                return PollOutcome::Failed(error);
            }
        }
    }

    fn reset(&mut self) {
        self.step = Step::New;
        self.failures = 0;
    }
}

/// The error of an attempt that panicked. The payload of a join that was cancelled is passed on instead: there is no other
/// attempt, and the task ends as it does at an await.
fn panicked(payload: Box<dyn Any + Send>) -> Error {
    if context::is_unwinding(&*payload) {
        resume_unwind(payload);
    }
    Error::panicked(context::current_subject(), payload)
}

fn poll_under_timeout(
    attempt: &mut Attempt<'_>,
    late: Option<(&mut Sleep, Duration)>,
    cx: &mut Context<'_>,
) -> PollOutcome {
    match catch_unwind(AssertUnwindSafe(|| attempt.poll(cx))) {
        Ok(PollOutcome::Pending) => {}
        Ok(ended) => return ended,
        Err(payload) => {
            return PollOutcome::Failed(panicked(payload));
        }
    }
    match late {
        Some((late, timeout)) => match Pin::new(late).poll(cx) {
            Poll::Ready(()) => PollOutcome::Failed(Error::timed_out(
                context::current_subject(),
                format_args!("{timeout:?}"),
            )),
            Poll::Pending => PollOutcome::Pending,
        },
        None => PollOutcome::Pending,
    }
}

struct Acquiring {
    acquire: Acquire,
    pause: Option<Pause>,
}

impl Acquiring {
    fn new(limits: &Needs) -> Self {
        let Some(core) = context::current_core() else {
            unreachable!("attempts are made by the task itself");
        };
        let acquire = Acquire::new(core, limits.clone(), context::current_priority);
        Self { acquire, pause: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Permit> {
        let polled = Pin::new(&mut self.acquire).poll(cx);
        if polled.is_pending() && self.pause.is_none() {
            self.pause = Some(Pause::for_limit());
        }
        polled
    }
}

/// The wait between attempts.
struct Waiting {
    _pause: Pause,
    /// `None` if the task only goes to the end of the queue.
    sleep: Option<Sleep>,
    has_waited: bool,
}

impl Waiting {
    fn new(attempt: u32, delay: Duration) -> Self {
        let sleep = (!delay.is_zero()).then(|| sleep(delay));
        Self { _pause: Pause::until(attempt, delay), sleep, has_waited: false }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.sleep {
            return Pin::new(sleep).poll(cx);
        }
        if std::mem::replace(&mut self.has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Waits between attempts.
#[cfg(feature = "dask")]
pub(crate) async fn wait(attempt: u32, delay: Duration) {
    let mut waiting = Waiting::new(attempt, delay);
    std::future::poll_fn(|cx| waiting.poll(cx)).await;
}
