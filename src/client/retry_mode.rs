//! Whether a task's function can be called again, as a type.

use crate::task::seal::Seal;

/// Whether a function and its arguments can be used again. It is a type, so that `Clone` is required only for
/// retries.
///
/// It's sealed: implemented for [`NoRetry`] and [`WithRetry`] only.
pub trait RetryMode<F, A>: Copy + Send + Sync + 'static {
    /// What is kept of them while an attempt runs.
    #[doc(hidden)]
    type Kept: Send + 'static;

    /// Copies what another attempt would need.
    #[doc(hidden)]
    fn keep(function: &F, args: &A, _: Seal) -> Self::Kept;

    /// Returns the function and the arguments that were kept.
    #[doc(hidden)]
    fn again(kept: Self::Kept, _: Seal) -> Option<(F, A)>;
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

    fn keep(_: &F, _: &A, _: Seal) {}

    fn again((): (), _: Seal) -> Option<(F, A)> {
        None
    }
}

impl<F: Clone + Send + 'static, A: Clone + Send + 'static> RetryMode<F, A> for WithRetry {
    type Kept = (F, A);

    fn keep(function: &F, args: &A, _: Seal) -> (F, A) {
        (function.clone(), args.clone())
    }

    fn again(kept: (F, A), _: Seal) -> Option<(F, A)> {
        Some(kept)
    }
}
