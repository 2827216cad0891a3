//! The bodies of tasks: how a submitted function, plain or async, fallible or not, becomes a future and a value.

use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::blocking;
use super::retry_mode::{NoRetry, RetryMode};
use crate::Error;
use crate::engine::core::context;
use crate::engine::life::cell::Body;
use crate::engine::task::attempt::Held;
use crate::engine::task::edges::Waits;
use crate::task::error::IntoFailure;
use crate::task::function::{BlockingFn, TaskFn, TryBlockingFn, TryTaskFn};
use crate::task::seal::SEAL;

/// The body of a task with one attempt, in which `C` calls the function `F`.
pub(crate) type Once<C, F, W> = Called<NoRetry, C, F, W>;

/// The body of a task of which `C` calls the function `F` in each attempt. `R` tells whether there may be several.
pub(crate) struct Called<R, C, F, W>(PhantomData<(R, C, F, W)>);

impl<R, C, F, W> Body for Called<R, C, F, W>
where
    R: RetryMode<F, W::Args>,
    C: Call<F, W::Args>,
    F: Send + 'static,
    W: Waits,
{
    type Function = F;
    type Inputs = W;
    type Future = C::Future;
    type Value = C::Value;
    type Kept = R::Kept;

    fn keep(function: &F, args: &W::Args) -> R::Kept {
        R::keep(function, args, SEAL)
    }

    fn start(function: F, args: W::Args, held: &mut Option<Held>) -> C::Future {
        C::call(function, args, held)
    }

    fn outcome(output: <C::Future as Future>::Output) -> Result<C::Value, Error> {
        C::outcome(output)
    }

    fn again(kept: R::Kept) -> Option<(F, W::Args)> {
        R::again(kept, SEAL)
    }
}

/// How the future of one attempt is made of a function and its arguments, and what its output means.
pub(crate) trait Call<F, A>: 'static {
    type Future: Future + Send + 'static;
    type Value: Send + 'static;

    /// Makes the future. It takes `held` if it keeps that for longer than it exists itself.
    fn call(function: F, args: A, held: &mut Option<Held>) -> Self::Future;

    fn outcome(output: <Self::Future as Future>::Output) -> Result<Self::Value, Error>;
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

/// Calls an async function.
pub(crate) struct Async;

impl<F: TaskFn<A>, A> Call<F, A> for Async {
    type Future = F::Future;
    type Value = F::Output;

    fn call(function: F, args: A, _: &mut Option<Held>) -> F::Future {
        function.call(args, SEAL)
    }

    fn outcome(output: F::Output) -> Result<F::Output, Error> {
        Ok(output)
    }
}

/// Calls an async function that returns a `Result`.
pub(crate) struct TryAsync<M>(PhantomData<fn() -> M>);

impl<F: TryTaskFn<A, M>, A, M: 'static> Call<F, A> for TryAsync<M> {
    type Future = F::Future;
    type Value = F::Value;

    fn call(function: F, args: A, _: &mut Option<Held>) -> F::Future {
        function.call(args, SEAL)
    }

    fn outcome(output: F::Output) -> Result<F::Value, Error> {
        output.map_err(failed::<M, _>)
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

    fn call(function: Spawned<Fut>, (): (), _: &mut Option<Held>) -> Fut {
        function.0
    }

    fn outcome(output: Fut::Output) -> Result<Fut::Output, Error> {
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

    fn call(function: Spawned<Fut>, (): (), _: &mut Option<Held>) -> Fut {
        function.0
    }

    fn outcome(output: Result<T, E>) -> Result<T, Error> {
        output.map_err(failed::<M, _>)
    }
}

/// Calls a plain function on a thread where it may block.
pub(crate) struct Blocking;

impl<F: BlockingFn<A>, A: Send + 'static> Call<F, A> for Blocking {
    type Future = blocking::Work<F::Output>;
    type Value = F::Output;

    fn call(function: F, args: A, held: &mut Option<Held>) -> Self::Future {
        blocking::Work::new(held.take(), move || function.call(args, SEAL))
    }

    fn outcome(output: blocking::Returned<F::Output>) -> Result<F::Output, Error> {
        output.map_err(refused)
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

    fn call(function: F, args: A, held: &mut Option<Held>) -> Self::Future {
        blocking::Work::new(held.take(), move || function.call(args, SEAL))
    }

    fn outcome(output: blocking::Returned<F::Output>) -> Result<F::Value, Error> {
        output.map_err(refused)?.map_err(failed::<M, _>)
    }
}

/// Makes [large](is_large) futures of another call in boxes.
pub(crate) struct Boxed<C>(C);

impl<F, A, C: Call<F, A>> Call<F, A> for Boxed<C> {
    type Future = Large<C::Future>;
    type Value = C::Value;

    fn call(function: F, args: A, held: &mut Option<Held>) -> Self::Future {
        Large(Box::pin(C::call(function, args, held)))
    }

    fn outcome(output: <C::Future as Future>::Output) -> Result<C::Value, Error> {
        C::outcome(output)
    }
}

/// The error of the task that is running. The error's own methods are user code, and may panic.
fn failed<M, E: IntoFailure<M>>(error: E) -> Error {
    Error::failed(context::current_subject(), error)
}

/// The error of a system that refused a thread.
fn refused(error: io::Error) -> Error {
    failed(error)
}

#[cfg(test)]
mod tests {
    use std::any::type_name;

    use super::*;
    use crate::task::key::short_name;

    #[test]
    fn wrappers_do_not_show() {
        fn spawned<F>(_: F) -> &'static str {
            type_name::<Spawned<F>>()
        }
        assert_eq!(short_name(spawned(async {})), "wrappers_do_not_show::closure");
        assert_eq!(short_name(spawned(Large::new(async {}))), "wrappers_do_not_show::closure");
    }
}
