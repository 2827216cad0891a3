//! Running a function under options: limits, timeouts, retries, and `Err` as an outcome.
//!
//! All of this is one future around the function's own, made only for tasks that ask for it.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_lite::FutureExt;

use crate::engine::core::CoreRef;
use crate::engine::core::context;
use crate::engine::data::limits::Needs;
use crate::engine::futures::acquire::{Acquire, Permit};
use crate::engine::futures::sleep::sleep;
use crate::engine::life::cell::{AttemptFailure, Outcome};
use crate::engine::life::pause::Pause;
use crate::{Error, Key, Retry};

/// What the options ask for.
pub(crate) struct Plan {
    pub(crate) retry: Retry,
    pub(crate) timeout: Option<Duration>,
    pub(crate) limits: Needs,
}

/// Whether a function and its arguments can be used again: a type, so that `Clone` is asked for only
/// where it's needed.
pub trait Again<F, A>: Copy + Send + Sync + 'static {
    /// One to use and, maybe, one to keep.
    #[doc(hidden)]
    fn split(function: F, args: A) -> (F, A, Option<(F, A)>);
}

/// The function is called once; the state of [`Options`](crate::Options) before
/// [`retries`](crate::Options::retries).
#[derive(Clone, Copy, Debug)]
pub struct Once;

/// The function may be called again; the state of [`Options`](crate::Options) after
/// [`retries`](crate::Options::retries).
#[derive(Clone, Copy, Debug)]
pub struct Often;

impl<F, A> Again<F, A> for Once {
    fn split(function: F, args: A) -> (F, A, Option<(F, A)>) {
        (function, args, None)
    }
}

impl<F: Clone, A: Clone> Again<F, A> for Often {
    fn split(function: F, args: A) -> (F, A, Option<(F, A)>) {
        (function.clone(), args.clone(), Some((function, args)))
    }
}

/// The function of a task with a plan.
pub(crate) struct Planned<F> {
    pub(crate) function: F,
    pub(crate) plan: Arc<Plan>,
}

/// Runs attempts until one succeeds or no further one is allowed. `call` starts one.
pub(crate) async fn run<R, F, A, T, Fut>(
    planned: Planned<F>,
    args: A,
    call: impl Fn(CoreRef, F, A, Option<Permit>) -> Fut,
) -> Outcome<T, Planned<F>, A>
where
    R: Again<F, A>,
    Fut: Future<Output = Result<T, Problem>>,
{
    let Planned { mut function, plan } = planned;
    let mut args = args;
    let mut failures = 0u32;
    let Some(core) = context::current_core() else {
        unreachable!("attempts are made by the task itself");
    };
    loop {
        let permit = match plan.limits.is_empty() {
            true => None,
            false => Some(acquire(&core, &plan.limits).await),
        };
        let split = catch_unwind(AssertUnwindSafe(|| R::split(function, args)));
        let (problem, kept) = match split {
            Ok((function, args, kept)) => {
                let attempt = async { call(core.clone(), function, args, permit).await };
                match under_timeout(attempt, plan.timeout).await {
                    Ok(value) => return Ok(value),
                    Err(problem) => (problem, kept),
                }
            }
            Err(payload) => (Problem::Panicked(payload), None),
        };
        let error = problem.into_error(context::current_key());
        let Some(kept) = kept else { return Err(AttemptFailure { error, again: None }) };
        (function, args) = kept;
        failures = failures.saturating_add(1);
        let allowed = catch_unwind(AssertUnwindSafe(|| plan.retry.allows(failures, &error)));
        let error = match allowed {
            Ok(true) if !core.is_closed() => {
                wait(failures, plan.retry.delay(failures, || core.random())).await;
                continue;
            }
            Ok(_) => error,
            Err(payload) => Error::panicked(context::current_key(), payload),
        };
        return Err(AttemptFailure { error, again: Some((Planned { function, plan }, args)) });
    }
}

async fn acquire(core: &CoreRef, limits: &Needs) -> Permit {
    let mut acquire = Acquire::new(core.clone(), limits.clone(), context::current_priority);
    let mut parking = None;
    std::future::poll_fn(|poller| {
        let polled = acquire.poll(poller);
        if polled.is_pending() && parking.is_none() {
            parking = Some(Pause::for_limit());
        }
        polled
    })
    .await
}

/// Waits between attempts.
pub(crate) async fn wait(attempt: u32, delay: Duration) {
    let _parking = Pause::until(attempt, delay);
    if delay.is_zero() {
        futures_lite::future::yield_now().await;
    } else {
        sleep(delay).await;
    }
}

async fn under_timeout<T>(
    attempt: impl Future<Output = Result<T, Problem>>,
    timeout: Option<Duration>,
) -> Result<T, Problem> {
    let caught = async {
        match AssertUnwindSafe(attempt).catch_unwind().await {
            Ok(result) => result,
            Err(payload) => Err(Problem::Panicked(payload)),
        }
    };
    let Some(timeout) = timeout else { return caught.await };
    // The time counts from here, though the attempt is polled first.
    let late = sleep(timeout);
    let late = async {
        late.await;
        Err(Problem::TimedOut(timeout))
    };
    caught.or(late).await
}

/// Why an attempt failed.
pub(crate) enum Problem {
    /// The function returned an `Err`; the rest is an error once the task's key is known.
    Failed(Box<dyn FnOnce(Key) -> Error + Send>),
    Panicked(Box<dyn Any + Send>),
    TimedOut(Duration),
}

impl Problem {
    fn into_error(self, key: Key) -> Error {
        match self {
            Self::Failed(error) => error(key),
            Self::Panicked(payload) => Error::panicked(key, payload),
            Self::TimedOut(timeout) => Error::timed_out(key, timeout),
        }
    }
}
