//! The futures that tasks run: a submitted function called with its arguments.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::attempt::{self, NoRetry, Planned, Problem, RetryMode, WithRetry};
use super::blocking;
use crate::Error;
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

pin_project! {
    /// The function's own future, or a boxed one that makes attempts if the options need them. One type for both
    /// makes one kind of task for each call site.
    #[project = OptionalFutureProjection]
    pub(crate) enum OptionalFuture<Fut: Future, F, A> {
        Direct { #[pin] future: Fut },
        Attempts { attempts: Pin<Box<dyn Future<Output = Outcome<Fut::Output, F, A>> + Send>> },
    }
}

impl<Fut: Future, F, A> Future for OptionalFuture<Fut, F, A> {
    type Output = Outcome<Fut::Output, F, A>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            OptionalFutureProjection::Direct { future } => future.poll(cx).map(Ok),
            OptionalFutureProjection::Attempts { attempts } => attempts.as_mut().poll(cx),
        }
    }
}

pub(crate) fn with_options<R, F, A>(
    planned: Planned<F>,
    args: A,
) -> OptionalFuture<F::Future, Planned<F>, A>
where
    R: RetryMode<F, A>,
    F: TaskFn<A>,
    A: Send + 'static,
{
    if planned.plan.is_none() {
        return OptionalFuture::Direct { future: planned.function.call(args, SEAL) };
    }
    let attempts =
        attempt::run::<R, _, _, _, _>(planned, args, |_, function, args, permit| async move {
            let _permit = permit;
            Ok(function.call(args, SEAL).await)
        });
    OptionalFuture::Attempts { attempts: Box::pin(attempts) }
}

/// A future in place of a function.
pub(crate) struct Spawned<Fut>(pub(crate) Fut);

pub(crate) fn spawned<Fut: Future>(
    function: Spawned<Fut>,
    (): (),
) -> PlainFuture<Fut, Spawned<Fut>, ()> {
    PlainFuture { future: function.0, types: PhantomData }
}

pub(crate) fn spawned_with_options<Fut>(
    planned: Planned<Spawned<Fut>>,
    (): (),
) -> OptionalFuture<Fut, Planned<Spawned<Fut>>, ()>
where
    Fut: Future + Send + 'static,
    Fut::Output: Send + 'static,
{
    if planned.plan.is_none() {
        return OptionalFuture::Direct { future: planned.function.0 };
    }
    let attempts =
        attempt::run::<NoRetry, _, _, _, _>(planned, (), |_, function, (), permit| async move {
            let _permit = permit;
            Ok(function.0.await)
        });
    OptionalFuture::Attempts { attempts: Box::pin(attempts) }
}

pub(crate) fn spawned_fallible<Fut, T, E, M>(
    planned: Planned<Spawned<Fut>>,
    (): (),
) -> impl Future<Output = Outcome<T, Planned<Spawned<Fut>>, ()>> + Send
where
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: IntoFailure<M>,
    M: 'static,
{
    attempt::run::<NoRetry, _, _, _, _>(planned, (), |_, function, (), permit| async move {
        let _permit = permit;
        function.0.await.map_err(problem::<M, _>)
    })
}

pub(crate) fn fallible<F, A, M>(
    planned: Planned<F>,
    args: A,
) -> impl Future<Output = Outcome<F::Value, Planned<F>, A>> + Send
where
    F: TryTaskFn<A, M>,
    A: Clone + Send + 'static,
    M: 'static,
{
    attempt::run::<WithRetry, _, _, _, _>(planned, args, |_, function, args, permit| async move {
        let _permit = permit;
        function.call(args, SEAL).await.map_err(problem::<M, _>)
    })
}

pub(crate) fn blocking<R, F, A>(
    planned: Planned<F>,
    args: A,
) -> impl Future<Output = Outcome<F::Output, Planned<F>, A>> + Send
where
    R: RetryMode<F, A>,
    F: BlockingFn<A>,
    A: Send + 'static,
{
    attempt::run::<R, _, _, _, _>(planned, args, |core, function, args, permit| async move {
        Ok(blocking::run(core, permit, move || function.call(args, SEAL)).await)
    })
}

pub(crate) fn blocking_fallible<F, A, M>(
    planned: Planned<F>,
    args: A,
) -> impl Future<Output = Outcome<F::Value, Planned<F>, A>> + Send
where
    F: TryBlockingFn<A, M>,
    A: Clone + Send + 'static,
    M: 'static,
{
    attempt::run::<WithRetry, _, _, _, _>(
        planned,
        args,
        |core, function, args, permit| async move {
            blocking::run(core, permit, move || function.call(args, SEAL))
                .await
                .map_err(problem::<M, _>)
        },
    )
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
        assert_eq!(short_name(planned(Spawned(async {}))), "wrappers_do_not_show::closure");
    }
}
