//! The futures that tasks run: a submitted function called with its arguments.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::attempt::{Attempts, Call, Planned, Problem, RetryMode};
use super::blocking;
use crate::Error;
use crate::engine::futures::acquire::Permit;
use crate::engine::life::cell::Outcome;
use crate::task::error::IntoFailure;
use crate::task::function::{BlockingFn, TaskFn, TryBlockingFn, TryTaskFn};
use crate::task::seal::SEAL;

/// A function that makes the future of a task from its function `F` and its arguments `A`. It names the bounds that
/// the engine puts on such functions.
pub(crate) trait Start<F, A, T>:
    Fn(F, A) -> <Self as Start<F, A, T>>::Future + Send + 'static
{
    type Future: Future<Output = Outcome<T, F, A>> + Send + 'static;
}

impl<S, F, A, T, Fut> Start<F, A, T> for S
where
    S: Fn(F, A) -> Fut + Send + 'static,
    Fut: Future<Output = Outcome<T, F, A>> + Send + 'static,
{
    type Future = Fut;
}

pin_project! {
    /// The function's own future, for a task without options.
    pub(crate) struct PlainFuture<Fut, F, A> {
        #[pin]
        future: Fut,
        types: PhantomData<fn() -> (F, A)>,
    }
}

impl<Fut: Future, F, A> Future for PlainFuture<Fut, F, A> {
    type Output = Outcome<Fut::Output, F, A>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map(Ok)
    }
}

pub(crate) fn plain<F: TaskFn<A>, A>(function: F, args: A) -> PlainFuture<F::Future, F, A> {
    PlainFuture { future: function.call(args, SEAL), types: PhantomData }
}

/// The same for a large future.
pub(crate) fn plain_large<F: TaskFn<A>, A>(
    function: F,
    args: A,
) -> PlainFuture<Large<F::Future>, F, A> {
    PlainFuture { future: Large(Box::pin(function.call(args, SEAL))), types: PhantomData }
}

/// The size from which on futures are boxed as soon as they're made, in bytes.
///
/// A future is moved from where it's made to the task, and then to the worker's stack and back: several copies of it
/// are on that stack, more in a debug build. These are tokio's thresholds.
const LARGE: usize = if cfg!(debug_assertions) { 2 * 1024 } else { 16 * 1024 };

/// Whether futures of this type are boxed. Used in a `const` block, it keeps the compiler from making the code of the
/// other case.
pub(crate) const fn is_large<Fut>() -> bool {
    size_of::<Fut>() > LARGE
}

/// A future in a box of its own.
pub(crate) struct Large<Fut>(Pin<Box<Fut>>);

impl<Fut> Large<Fut> {
    pub(crate) fn new(future: Fut) -> Self {
        Self(Box::pin(future))
    }
}

impl<Fut: Future> Future for Large<Fut> {
    type Output = Fut::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// A future in place of a function.
pub(crate) struct Spawned<Fut>(pub(crate) Fut);

pub(crate) fn spawned<Fut: Future>(
    function: Spawned<Fut>,
    (): (),
) -> PlainFuture<Fut, Spawned<Fut>, ()> {
    PlainFuture { future: function.0, types: PhantomData }
}

/// The future of a task with options.
pub(crate) fn attempts<R, C, F, A>(planned: Planned<F>, args: A) -> Attempts<R, F, A, C>
where
    R: RetryMode<F, A>,
    C: Call<F, A>,
{
    Attempts::new(planned, args)
}

/// Calls an async function.
pub(crate) struct Async;

impl<F: TaskFn<A>, A> Call<F, A> for Async {
    type Future = F::Future;
    type Value = F::Output;

    fn call(function: F, args: A, _: &mut Option<Permit>) -> F::Future {
        function.call(args, SEAL)
    }

    fn outcome(output: F::Output) -> Result<F::Output, Problem> {
        Ok(output)
    }
}

/// Calls an async function that returns a `Result`.
pub(crate) struct TryAsync<M>(PhantomData<fn() -> M>);

impl<F: TryTaskFn<A, M>, A, M: 'static> Call<F, A> for TryAsync<M> {
    type Future = F::Future;
    type Value = F::Value;

    fn call(function: F, args: A, _: &mut Option<Permit>) -> F::Future {
        function.call(args, SEAL)
    }

    fn outcome(output: F::Output) -> Result<F::Value, Problem> {
        output.map_err(problem::<M, _>)
    }
}

/// Takes a future.
pub(crate) struct Spawn;

impl<Fut> Call<Spawned<Fut>, ()> for Spawn
where
    Fut: Future + Send + 'static,
    Fut::Output: Send + 'static,
{
    type Future = Fut;
    type Value = Fut::Output;

    fn call(function: Spawned<Fut>, (): (), _: &mut Option<Permit>) -> Fut {
        function.0
    }

    fn outcome(output: Fut::Output) -> Result<Fut::Output, Problem> {
        Ok(output)
    }
}

/// Takes a future that returns a `Result`.
pub(crate) struct TrySpawn<M>(PhantomData<fn() -> M>);

impl<Fut, T, E, M> Call<Spawned<Fut>, ()> for TrySpawn<M>
where
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: IntoFailure<M>,
    M: 'static,
{
    type Future = Fut;
    type Value = T;

    fn call(function: Spawned<Fut>, (): (), _: &mut Option<Permit>) -> Fut {
        function.0
    }

    fn outcome(output: Result<T, E>) -> Result<T, Problem> {
        output.map_err(problem::<M, _>)
    }
}

/// Calls a plain function on a thread where it may block.
pub(crate) struct Blocking;

impl<F: BlockingFn<A>, A: Send + 'static> Call<F, A> for Blocking {
    type Future = blocking::Work<F::Output>;
    type Value = F::Output;

    fn call(function: F, args: A, permit: &mut Option<Permit>) -> Self::Future {
        blocking::Work::new(permit.take(), move || function.call(args, SEAL))
    }

    fn outcome(output: blocking::Returned<F::Output>) -> Result<F::Output, Problem> {
        output.map_err(problem)
    }
}

/// Calls a plain function that returns a `Result` on a thread where it may block.
pub(crate) struct TryBlocking<M>(PhantomData<fn() -> M>);

impl<F, A, M> Call<F, A> for TryBlocking<M>
where
    F: TryBlockingFn<A, M>,
    A: Send + 'static,
    M: 'static,
{
    type Future = blocking::Work<F::Output>;
    type Value = F::Value;

    fn call(function: F, args: A, permit: &mut Option<Permit>) -> Self::Future {
        blocking::Work::new(permit.take(), move || function.call(args, SEAL))
    }

    fn outcome(output: blocking::Returned<F::Output>) -> Result<F::Value, Problem> {
        output.map_err(problem)?.map_err(problem::<M, _>)
    }
}

/// Makes [large](is_large) futures of another call in boxes.
pub(crate) struct Boxed<C>(C);

impl<F, A, C: Call<F, A>> Call<F, A> for Boxed<C> {
    type Future = Large<C::Future>;
    type Value = C::Value;

    fn call(function: F, args: A, permit: &mut Option<Permit>) -> Self::Future {
        Large(Box::pin(C::call(function, args, permit)))
    }

    fn outcome(output: <C::Future as Future>::Output) -> Result<C::Value, Problem> {
        C::outcome(output)
    }
}

fn problem<M: 'static, E: IntoFailure<M>>(error: E) -> Problem {
    Problem::Failed(Box::new(move |key| Error::failed(key, error)))
}

#[cfg(test)]
mod tests {
    use std::any::type_name;

    use super::*;
    use crate::task::key::short_name;

    fn inc() {}

    #[test]
    fn wrappers_do_not_show() {
        fn planned<F>(_: F) -> &'static str {
            type_name::<Planned<F>>()
        }
        fn spawned<F>(_: F) -> &'static str {
            type_name::<Spawned<F>>()
        }
        assert_eq!(short_name(planned(inc)), "inc");
        assert_eq!(short_name(spawned(async {})), "wrappers_do_not_show::closure");
        assert_eq!(short_name(spawned(Large::new(async {}))), "wrappers_do_not_show::closure");
        assert_eq!(short_name(planned(Spawned(async {}))), "wrappers_do_not_show::closure");
    }
}
