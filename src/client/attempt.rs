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
//! The loop is generic over the task's value only. Call sites with values of the same type share its code, and each
//! of them adds an [`Attempts`], which keeps the function and its arguments.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::options::TaskOptions;
use crate::engine::core::{Core, CoreRef, context};
use crate::engine::data::limits::Needs;
use crate::engine::futures::acquire::{Acquire, Permit};
use crate::engine::futures::sleep::sleep;
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
    /// Returns a function and arguments to use, and another pair to keep if they can be used again.
    #[doc(hidden)]
    fn split(function: F, args: A, _: Seal) -> (F, A, Option<(F, A)>);
}

/// The function is called once: the state of [`Options`](crate::Options) before
/// [`retries`](crate::Options::retries).
#[derive(Clone, Copy, Debug)]
pub struct NoRetry;

/// The function may be called again: the state of [`Options`](crate::Options) after
/// [`retries`](crate::Options::retries).
#[derive(Clone, Copy, Debug)]
pub struct WithRetry;

impl<F, A> RetryMode<F, A> for NoRetry {
    fn split(function: F, args: A, _: Seal) -> (F, A, Option<(F, A)>) {
        (function, args, None)
    }
}

impl<F: Clone, A: Clone> RetryMode<F, A> for WithRetry {
    fn split(function: F, args: A, _: Seal) -> (F, A, Option<(F, A)>) {
        (function.clone(), args.clone(), Some((function, args)))
    }
}

/// The function of a task that was submitted with options.
pub(crate) struct Planned<F> {
    pub(crate) function: F,
    /// `None` means one attempt without a timeout and limits.
    pub(crate) plan: Option<Arc<Plan>>,
}

/// Runs attempts until one succeeds or no further one is allowed. `call` makes the future of one attempt.
pub(crate) async fn run<R, F, A, T, Fut>(
    planned: Planned<F>,
    args: A,
    call: impl Fn(CoreRef, F, A, Option<Permit>) -> Fut + Send,
) -> Outcome<T, Planned<F>, A>
where
    R: RetryMode<F, A>,
    F: Send,
    A: Send,
    Fut: Future<Output = Result<T, Problem>> + Send,
{
    let Planned { function, plan } = planned;
    let mut attempts = pin!(Attempts {
        current: None,
        next: Some((function, args)),
        call,
        again: PhantomData::<fn() -> R>
    });
    match run_attempts(plan.as_deref(), attempts.as_mut()).await {
        Ok(value) => Ok(value),
        Err(error) => {
            let again = attempts.project().next.take();
            let again = again.map(|(function, args)| (Planned { function, plan }, args));
            Err(AttemptFailure { error, again })
        }
    }
}

pin_project! {
    /// A function with its arguments, and the attempt that is being made.
    struct Attempts<R, F, A, C, Fut> {
        #[pin]
        current: Option<Fut>,
        // `None` once the last attempt has begun.
        next: Option<(F, A)>,
        call: C,
        again: PhantomData<fn() -> R>,
    }
}

/// [`Attempts`] without the types of the function, its arguments and its future.
trait Attempt<T>: Send {
    /// Begins an attempt, which keeps `permit` until the function has returned. Clones the function and its
    /// arguments, which may panic.
    fn begin(self: Pin<&mut Self>, core: CoreRef, permit: Option<Permit>);

    /// Polls the attempt. It may panic.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Problem>>;

    /// Drops the attempt's future.
    fn end(self: Pin<&mut Self>);

    /// Returns whether another attempt can begin.
    fn can_begin(&self) -> bool;
}

impl<R, F, A, T, C, Fut> Attempt<T> for Attempts<R, F, A, C, Fut>
where
    R: RetryMode<F, A>,
    F: Send,
    A: Send,
    C: Fn(CoreRef, F, A, Option<Permit>) -> Fut + Send,
    Fut: Future<Output = Result<T, Problem>> + Send,
{
    fn begin(self: Pin<&mut Self>, core: CoreRef, permit: Option<Permit>) {
        let mut this = self.project();
        let Some((function, args)) = this.next.take() else {
            unreachable!("an attempt begins only if the last one has kept the function");
        };
        let (function, args, next) = R::split(function, args, SEAL);
        *this.next = next;
        this.current.set(Some((this.call)(core, function, args, permit)));
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Problem>> {
        match self.project().current.as_pin_mut() {
            Some(current) => current.poll(cx),
            None => unreachable!("an attempt is polled between its begin and its end"),
        }
    }

    fn end(self: Pin<&mut Self>) {
        self.project().current.set(None);
    }

    fn can_begin(&self) -> bool {
        self.next.is_some()
    }
}

async fn run_attempts<T>(
    plan: Option<&Plan>,
    mut attempt: Pin<&mut dyn Attempt<T>>,
) -> Result<T, Error> {
    let Some(core) = context::current_core() else {
        unreachable!("attempts are made by the task itself");
    };
    let mut failures = 0u32;
    loop {
        let permit = match plan {
            Some(plan) if !plan.limits.is_empty() => Some(acquire(&core, &plan.limits).await),
            _ => None,
        };
        let begun = catch_unwind(AssertUnwindSafe(|| attempt.as_mut().begin(core.clone(), permit)));
        let result = match begun {
            Ok(()) => under_timeout(attempt.as_mut(), plan.and_then(|plan| plan.timeout)).await,
            Err(payload) => Err(Problem::Panicked(payload)),
        };
        // Its destructor is user code: a panic must neither cost the value nor the next attempt.
        core.run_user_code(|| attempt.as_mut().end());
        let error = match result {
            Ok(value) => return Ok(value),
            Err(problem) => problem.into_error(context::current_key()),
        };
        let Some(plan) = plan.filter(|_| attempt.can_begin()) else { return Err(error) };
        failures = failures.saturating_add(1);
        // The predicate of a `Retry` is user code.
        let allowed = catch_unwind(AssertUnwindSafe(|| plan.retry.allows(failures, &error)));
        match allowed {
            Ok(true) if !core.is_closed() => {
                wait(failures, plan.retry.delay(failures, || core.random())).await;
            }
            Ok(_) => return Err(error),
            Err(payload) => return Err(Error::panicked(context::current_key(), payload)),
        }
    }
}

async fn acquire(core: &CoreRef, limits: &Needs) -> Permit {
    let mut acquire = Acquire::new(core.clone(), limits.clone(), context::current_priority);
    let mut pause = None;
    poll_fn(|cx| {
        let polled = Pin::new(&mut acquire).poll(cx);
        if polled.is_pending() && pause.is_none() {
            pause = Some(Pause::for_limit());
        }
        polled
    })
    .await
}

/// Waits between attempts.
pub(crate) async fn wait(attempt: u32, delay: Duration) {
    let _pause = Pause::until(attempt, delay);
    if delay.is_zero() {
        futures_lite::future::yield_now().await;
    } else {
        sleep(delay).await;
    }
}

async fn under_timeout<T>(
    mut attempt: Pin<&mut dyn Attempt<T>>,
    timeout: Option<Duration>,
) -> Result<T, Problem> {
    // The timeout counts from before the first poll.
    let mut late = timeout.map(sleep);
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| attempt.as_mut().poll(cx)));
        match polled {
            Ok(Poll::Ready(result)) => return Poll::Ready(result),
            Ok(Poll::Pending) => {}
            Err(payload) => return Poll::Ready(Err(Problem::Panicked(payload))),
        }
        let is_late = late.as_mut().is_some_and(|late| Pin::new(late).poll(cx).is_ready());
        match timeout.filter(|_| is_late) {
            Some(timeout) => Poll::Ready(Err(Problem::TimedOut(timeout))),
            None => Poll::Pending,
        }
    })
    .await
}

/// The reason why an attempt failed.
pub(crate) enum Problem {
    /// The function returned an `Err`. The closure makes it an error of the task with the given key.
    Failed(Box<dyn FnOnce(Key) -> Error + Send>),
    Panicked(Box<dyn Any + Send>),
    TimedOut(Duration),
}

impl Problem {
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
