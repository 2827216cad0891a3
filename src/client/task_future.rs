//! What makes a submitted function and its arguments into the future that a task runs.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::attempt::{self, Again, Often, Planned, Problem};
use super::blocking;
use crate::Error;
use crate::engine::cell::Outcome;
use crate::task::error::IntoFailure;
use crate::task::function::{BlockingFn, TaskFn};

pin_project! {
    /// The function's own future, for a task without any plan.
    pub(crate) struct PlainFuture<Fut, F, A> {
        #[pin]
        future: Fut,
        types: PhantomData<fn() -> (F, A)>,
    }
}

impl<Fut: Future, F, A> Future for PlainFuture<Fut, F, A> {
    type Output = Outcome<Fut::Output, F, A>;

    fn poll(self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(poller).map(Ok)
    }
}

pub(crate) fn plain<F: TaskFn<A>, A>(function: F, args: A) -> PlainFuture<F::Future, F, A> {
    PlainFuture { future: function.call(args), types: PhantomData }
}

/// A future in place of a function.
pub(crate) struct Spawned<Fut>(pub(crate) Fut);

pub(crate) fn spawned<Fut: Future>(
    function: Spawned<Fut>,
    (): (),
) -> PlainFuture<Fut, Spawned<Fut>, ()> {
    PlainFuture { future: function.0, types: PhantomData }
}

pub(crate) fn spawned_planned<Fut>(
    planned: Planned<Spawned<Fut>>,
    (): (),
) -> impl Future<Output = Outcome<Fut::Output, Planned<Spawned<Fut>>, ()>> + Send
where
    Fut: Future + Send + 'static,
    Fut::Output: Send + 'static,
{
    attempt::run::<attempt::Once, _, _, _, _>(planned, (), |_, function, (), permit| async move {
        let _permit = permit;
        Ok(function.0.await)
    })
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
    attempt::run::<attempt::Once, _, _, _, _>(planned, (), |_, function, (), permit| async move {
        let _permit = permit;
        function.0.await.map_err(problem)
    })
}

pub(crate) fn planned<R, F, A>(
    planned: Planned<F>,
    args: A,
) -> impl Future<Output = Outcome<F::Output, Planned<F>, A>> + Send
where
    R: Again<F, A>,
    F: TaskFn<A>,
    A: Send + 'static,
{
    attempt::run::<R, _, _, _, _>(planned, args, |_, function, args, permit| async move {
        let _permit = permit;
        Ok(function.call(args).await)
    })
}

pub(crate) fn fallible<F, A, T, E, M>(
    planned: Planned<F>,
    args: A,
) -> impl Future<Output = Outcome<T, Planned<F>, A>> + Send
where
    F: TaskFn<A, Output = Result<T, E>> + Clone,
    A: Clone + Send + 'static,
    T: Send + 'static,
    E: IntoFailure<M>,
    M: 'static,
{
    attempt::run::<Often, _, _, _, _>(planned, args, |_, function, args, permit| async move {
        let _permit = permit;
        function.call(args).await.map_err(problem)
    })
}

pub(crate) fn blocking<R, F, A>(
    planned: Planned<F>,
    args: A,
) -> impl Future<Output = Outcome<F::Output, Planned<F>, A>> + Send
where
    R: Again<F, A>,
    F: BlockingFn<A>,
    A: Send + 'static,
{
    attempt::run::<R, _, _, _, _>(planned, args, |core, function, args, permit| async move {
        Ok(blocking::run(core, permit, move || function.call(args)).await)
    })
}

pub(crate) fn blocking_fallible<F, A, T, E, M>(
    planned: Planned<F>,
    args: A,
) -> impl Future<Output = Outcome<T, Planned<F>, A>> + Send
where
    F: BlockingFn<A, Output = Result<T, E>> + Clone,
    A: Clone + Send + 'static,
    T: Send + 'static,
    E: IntoFailure<M>,
    M: 'static,
{
    attempt::run::<Often, _, _, _, _>(planned, args, |core, function, args, permit| async move {
        blocking::run(core, permit, move || function.call(args)).await.map_err(problem)
    })
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
