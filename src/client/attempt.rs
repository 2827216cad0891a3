//! The attempts of a task that has options: limits, timeouts, retries, and `Err` as an outcome.
//!
//! | from | to | when |
//! |---|---|---|
//! | waits for limits | runs | all of them are acquired |
//! | runs | succeeded | the function returns a value |
//! | runs | failed | it fails, panics or times out, and no further attempt is allowed |
//! | runs | waits for the next attempt | it fails, panics or times out, and another attempt is allowed |
//! | waits for the next attempt | waits for limits | the delay is over |
//!
//! The future of the attempt that is being made is polled where it is kept, in the task's cell. The loop is generic over
//! the task's value only: call sites with values of the same type share its code, and each of them adds an [`Attempts`],
//! which keeps the function, its arguments and that future.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::options::TaskOptions;
use crate::engine::base::user_code::run_user_code;
use crate::engine::core::{Core, context};
use crate::engine::data::limits::Needs;
use crate::engine::futures::acquire::{Acquire, Permit};
use crate::engine::futures::sleep::{Sleep, sleep};
use crate::engine::life::cell::{AttemptFailure, Outcome};
use crate::engine::life::pause::Pause;
use crate::task::seal::{SEAL, Seal};
use crate::{Error, Key, Retry};

/// The options that apply to each attempt.
pub(crate) struct Plan {
    retry: Retry,
    timeout: Option<Duration>,
    limits: Needs,
}

impl Plan {
    /// Takes the plan out of `settings`, if they need one. The error is the text for a limit that can't be met.
    pub(crate) fn take(
        core: &Core,
        settings: &mut TaskOptions,
    ) -> Result<Option<Arc<Self>>, String> {
        if !settings.needs_plan() {
            return Ok(None);
        }
        let limits = core.limits.needs(&settings.limits)?;
        let retry = settings.retry.take().unwrap_or_else(|| Retry::new(0));
        Ok(Some(Arc::new(Self { retry, timeout: settings.timeout, limits })))
    }
}

/// Whether a function and its arguments can be used again. It is a type, so that `Clone` is required only for
/// retries.
///
/// It's sealed: implemented for [`NoRetry`] and [`WithRetry`] only.
pub trait RetryMode<F, A>: Copy + Send + Sync + 'static {
    /// What is kept of them while an attempt is made.
    #[doc(hidden)]
    type Kept: Default + Send + 'static;

    /// Whether there is one attempt, so that nothing is kept.
    #[doc(hidden)]
    const ONCE: bool;

    /// Returns a function and arguments to use, and what to keep.
    #[doc(hidden)]
    fn split(function: F, args: A, _: Seal) -> (F, A, Self::Kept);

    /// Returns the function and the arguments that were kept.
    #[doc(hidden)]
    fn take(kept: &mut Self::Kept, _: Seal) -> Option<(F, A)>;
}

/// The function is called once: the state of [`Options`](crate::Options) before
/// [`retries`](crate::Options::retries).
#[derive(Clone, Copy, Debug)]
pub struct NoRetry;

/// The function may be called again: the state of [`Options`](crate::Options) after
/// [`retries`](crate::Options::retries).
#[derive(Clone, Copy, Debug)]
pub struct WithRetry;

/// Whether a task makes one attempt, as one that runs a future must: [`NoRetry`].
///
/// It's sealed: implemented for that only.
#[allow(private_bounds)] // this seals it
#[diagnostic::on_unimplemented(
    message = "a future can't be run again, so it can't be spawned with `retries`",
    label = "after `retries` only functions can be submitted",
    note = "a function makes a new future for each attempt: `.try_submit(async || {{ ... }}, ())`"
)]
pub trait OneAttempt: MakesOneAttempt {}

trait MakesOneAttempt {}

impl MakesOneAttempt for NoRetry {}

impl OneAttempt for NoRetry {}

impl<F, A> RetryMode<F, A> for NoRetry {
    type Kept = ();

    const ONCE: bool = true;

    fn split(function: F, args: A, _: Seal) -> (F, A, ()) {
        (function, args, ())
    }

    fn take((): &mut (), _: Seal) -> Option<(F, A)> {
        None
    }
}

impl<F: Clone + Send + 'static, A: Clone + Send + 'static> RetryMode<F, A> for WithRetry {
    type Kept = Option<(F, A)>;

    const ONCE: bool = false;

    fn split(function: F, args: A, _: Seal) -> (F, A, Self::Kept) {
        (function.clone(), args.clone(), Some((function, args)))
    }

    fn take(kept: &mut Self::Kept, _: Seal) -> Option<(F, A)> {
        kept.take()
    }
}

/// The function of a task that was submitted with options.
pub(crate) struct Planned<F> {
    pub(crate) function: F,
    /// `None` means one attempt without a timeout and limits.
    pub(crate) plan: Option<Arc<Plan>>,
}

/// How the future of one attempt is made of a function and its arguments, and what its output means.
pub(crate) trait Call<F, A>: 'static {
    type Future: Future + Send + 'static;
    type Value: Send + 'static;

    /// Makes the future. It takes `permit` if it keeps that for longer than it exists itself.
    fn call(function: F, args: A, permit: &mut Option<Permit>) -> Self::Future;

    fn outcome(output: <Self::Future as Future>::Output) -> Result<Self::Value, Problem>;
}

pin_project! {
    /// Runs attempts until one succeeds or no further one is allowed.
    pub(crate) struct Attempts<R, F, A, C>
    where
        R: RetryMode<F, A>,
        C: Call<F, A>,
    {
        #[pin]
        stage: Stage<F, A, C::Future>,
        kept: R::Kept,
        // Dropped after the future: it has the permit. `None` without a plan.
        progress: Option<Box<Progress>>,
    }
}

pin_project! {
    /// The function before its next attempt, or the attempt that is being made: one needs the other's memory.
    #[project = StageProjection]
    #[project_replace = StageOwned]
    enum Stage<F, A, Fut> {
        Next { function: F, args: A },
        Current { #[pin] future: Fut },
        Empty,
    }
}

impl<R, F, A, C> Attempts<R, F, A, C>
where
    R: RetryMode<F, A>,
    C: Call<F, A>,
{
    pub(crate) fn new(Planned { function, plan }: Planned<F>, args: A) -> Self {
        let stage = match plan {
            // Nothing comes between the function and its future.
            None if R::ONCE => Stage::Current { future: C::call(function, args, &mut None) },
            _ => Stage::Next { function, args },
        };
        let progress = plan.map(|plan| Box::new(Progress { plan, failures: 0, step: Step::New }));
        Self { stage, kept: R::Kept::default(), progress }
    }
}

impl<R, F, A, C> Future for Attempts<R, F, A, C>
where
    R: RetryMode<F, A>,
    C: Call<F, A>,
{
    type Output = Outcome<C::Value, Planned<F>, A>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut parts = Parts::<'_, R, F, A, C> { stage: this.stage, kept: this.kept };
        let polled = match this.progress {
            Some(progress) => progress.poll(&mut parts, cx),
            // The caller takes a panic for the error of a task that can't be retried.
            None if R::ONCE => {
                parts.poll(cx).map_err(|problem| problem.into_error(context::current_key()))
            }
            None => poll_only(&mut parts, cx),
        };
        polled.map_err(|error| {
            let again = match parts.stage.project_replace(Stage::Empty) {
                StageOwned::Next { function, args } => {
                    let plan = this.progress.take().map(|progress| progress.plan);
                    Some((Planned { function, plan }, args))
                }
                _ => None,
            };
            AttemptFailure { error, again }
        })
    }
}

/// The parts of [`Attempts`] that depend on the function.
struct Parts<'a, R: RetryMode<F, A>, F, A, C: Call<F, A>> {
    stage: Pin<&'a mut Stage<F, A, C::Future>>,
    kept: &'a mut R::Kept,
}

/// [`Parts`] without the types of the function, its arguments and its future.
trait Attempt<T> {
    /// Whether an attempt has begun, and not ended.
    fn has_begun(&self) -> bool;

    /// Begins an attempt, which may take `permit`. Clones the function and its arguments, which may panic.
    fn begin(&mut self, permit: &mut Option<Permit>);

    /// Polls the attempt. It may panic.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Problem>>;

    /// Drops the attempt's future. Returns whether another attempt can begin.
    fn end(&mut self) -> bool;
}

impl<R, F, A, C> Attempt<C::Value> for Parts<'_, R, F, A, C>
where
    R: RetryMode<F, A>,
    C: Call<F, A>,
{
    fn has_begun(&self) -> bool {
        !matches!(*self.stage, Stage::Next { .. })
    }

    fn begin(&mut self, permit: &mut Option<Permit>) {
        let StageOwned::Next { function, args } = self.stage.as_mut().project_replace(Stage::Empty)
        else {
            unreachable!("an attempt begins only if the last one has kept the function");
        };
        let (function, args, kept) = R::split(function, args, SEAL);
        *self.kept = kept;
        self.stage.set(Stage::Current { future: C::call(function, args, permit) });
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<C::Value, Problem>> {
        let StageProjection::Current { future } = self.stage.as_mut().project() else {
            unreachable!("an attempt is polled between its begin and its end");
        };
        future.poll(cx).map(C::outcome)
    }

    fn end(&mut self) -> bool {
        let next = R::take(self.kept, SEAL);
        let can_begin = next.is_some();
        let next = next.map_or(Stage::Empty, |(function, args)| Stage::Next { function, args });
        // The future's destructor is user code: a panic must neither cost the value nor the next attempt.
        run_user_code(|| self.stage.set(next));
        can_begin
    }
}

/// Polls the only attempt of a task without a plan, which can be retried by hand.
fn poll_only<T>(attempt: &mut dyn Attempt<T>, cx: &mut Context<'_>) -> Poll<Result<T, Error>> {
    let polled = catch_unwind(AssertUnwindSafe(|| {
        if !attempt.has_begun() {
            attempt.begin(&mut None);
        }
        attempt.poll(cx)
    }));
    let result = match polled {
        Ok(polled) => ready!(polled),
        Err(payload) => Err(Problem::panicked(payload)),
    };
    attempt.end();
    Poll::Ready(result.map_err(|problem| problem.into_error(context::current_key())))
}

/// Where the attempts of a task stand, and what the present one holds.
struct Progress {
    plan: Arc<Plan>,
    failures: u32,
    step: Step,
}

enum Step {
    New,
    Acquiring(Acquiring),
    Attempting { _permit: Option<Permit>, late: Option<Sleep> },
    Waiting(Waiting),
}

struct Acquiring {
    acquire: Acquire,
    pause: Option<Pause>,
}

impl Progress {
    /// Polls the attempts. It is not generic over the function, so that call sites share it.
    fn poll<T>(
        &mut self,
        attempt: &mut dyn Attempt<T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, Error>> {
        let plan = &*self.plan;
        loop {
            let result = match &mut self.step {
                Step::New if !plan.limits.is_empty() => {
                    self.step = Step::Acquiring(Acquiring::new(plan));
                    continue;
                }
                Step::New => begin(plan, attempt, None, &mut self.step),
                Step::Acquiring(acquiring) => {
                    let permit = ready!(acquiring.poll(cx));
                    // Ends the pause before the attempt begins.
                    self.step = Step::New;
                    begin(plan, attempt, Some(permit), &mut self.step)
                }
                Step::Attempting { late, .. } => {
                    let late = late.as_mut().zip(plan.timeout);
                    Some(ready!(poll_under_timeout(attempt, late, cx)))
                }
                Step::Waiting(waiting) => {
                    ready!(waiting.poll(cx));
                    self.step = Step::New;
                    continue;
                }
            };
            let Some(result) = result else { continue };
            // The future is dropped before what it held is released.
            let can_begin = attempt.end();
            self.step = Step::New;
            let error = match result {
                Ok(value) => return Poll::Ready(Ok(value)),
                Err(problem) => problem.into_error(context::current_key()),
            };
            if !can_begin {
                return Poll::Ready(Err(error));
            }
            self.failures = self.failures.saturating_add(1);
            // The predicate of a `Retry` is user code.
            let allows = || plan.retry.allows(self.failures, &error);
            match catch_unwind(AssertUnwindSafe(allows)) {
                Ok(true) => match context::current_core().filter(|core| !core.is_closed()) {
                    Some(core) => {
                        let delay = plan.retry.delay(self.failures, || core.random());
                        self.step = Step::Waiting(Waiting::new(self.failures, delay));
                    }
                    None => return Poll::Ready(Err(error)),
                },
                Ok(false) => return Poll::Ready(Err(error)),
                Err(payload) => {
                    return Poll::Ready(Err(Error::panicked(context::current_key(), payload)));
                }
            }
        }
    }
}

/// Begins an attempt. Returns its result if that panics.
fn begin<T>(
    plan: &Plan,
    attempt: &mut dyn Attempt<T>,
    mut permit: Option<Permit>,
    step: &mut Step,
) -> Option<Result<T, Problem>> {
    let begun = catch_unwind(AssertUnwindSafe(|| attempt.begin(&mut permit)));
    if let Err(payload) = begun {
        return Some(Err(Problem::panicked(payload)));
    }
    // The timeout counts from before the first poll.
    *step = Step::Attempting { _permit: permit, late: plan.timeout.map(sleep) };
    None
}

impl Acquiring {
    fn new(plan: &Plan) -> Self {
        let Some(core) = context::current_core() else {
            unreachable!("attempts are made by the task itself");
        };
        let acquire = Acquire::new(core, plan.limits.clone(), context::current_priority);
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

fn poll_under_timeout<T>(
    attempt: &mut dyn Attempt<T>,
    late: Option<(&mut Sleep, Duration)>,
    cx: &mut Context<'_>,
) -> Poll<Result<T, Problem>> {
    match catch_unwind(AssertUnwindSafe(|| attempt.poll(cx))) {
        Ok(Poll::Ready(result)) => return Poll::Ready(result),
        Ok(Poll::Pending) => {}
        Err(payload) => return Poll::Ready(Err(Problem::panicked(payload))),
    }
    match late {
        Some((late, timeout)) => Pin::new(late).poll(cx).map(|()| Err(Problem::TimedOut(timeout))),
        None => Poll::Pending,
    }
}

/// The reason why an attempt failed.
pub(crate) enum Problem {
    /// The function returned an `Err`. The closure makes it an error of the task with the given key.
    Failed(Box<dyn FnOnce(Key) -> Error + Send>),
    Panicked(Box<dyn Any + Send>),
    TimedOut(Duration),
}

impl Problem {
    /// Of a payload that was caught. If it's that of a join which was cancelled, it's passed on instead: there is no other
    /// attempt, and the task ends as it does at an await.
    fn panicked(payload: Box<dyn Any + Send>) -> Self {
        if context::is_unwinding(&*payload) {
            resume_unwind(payload);
        }
        Self::Panicked(payload)
    }

    fn into_error(self, key: Key) -> Error {
        match self {
            Self::Failed(error) => {
                // The error's own methods are user code.
                let made = catch_unwind(AssertUnwindSafe(|| error(key.clone())));
                made.unwrap_or_else(|payload| Error::panicked(key, payload))
            }
            Self::Panicked(payload) => Error::panicked(key, payload),
            Self::TimedOut(timeout) => Error::timed_out(key, timeout),
        }
    }
}
