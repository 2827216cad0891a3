//! The kinds of functions that can be submitted.

use std::future::Future;

use super::error::IntoFailure;
use super::seal::Seal;

/// A function that can be submitted: it takes the arguments `A`, a tuple, and returns a future.
///
/// Implemented for async functions, async closures, and other functions and closures that return a
/// `Send` future. A worker calls the function and polls its future, which may move to another worker at each await.
/// It's sealed: it can't be implemented outside of this crate.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be submitted with these inputs",
    label = "not an async function of the arguments `{A}` whose future and value are `Send`",
    note = "write `async fn f(x: u64) -> u64` or `async |x: u64| x + 1`, of up to 12 arguments; those that come from handles need \
            their types written, and a tuple is one argument",
    note = "a future, such as an `async` block or what a call returns, is given to `spawn`; where it must be `Send` and is not, \
            `spawn(f(x))` says which of its values is the cause",
    note = "errors of any type are returned as `Box<dyn Error + Send + Sync>`, which is `Send` where `Box<dyn Error>` is not",
    note = "inputs are given bare where there is one, as a tuple `(&x, 7)` where there are several, and as `()` where there is none",
    note = "for a plain function that blocks, use `submit_blocking`"
)]
pub trait TaskFn<A>: Send + 'static {
    /// The type of the task's value.
    type Output: Send + 'static;
    /// The future that the function returns.
    type Future: Future<Output = Self::Output> + Send + 'static;

    #[doc(hidden)]
    fn call(self, args: A, _: Seal) -> Self::Future;
}

/// A plain function that can be submitted to run on a thread outside the workers, where it may block.
///
/// Implemented for functions and closures, and sealed: it can't be implemented outside of this crate.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be submitted as blocking work with these inputs",
    label = "not a `Send` function of the arguments `{A}` whose value is `Send`",
    note = "write `fn f(x: u64) -> u64` or `|x: u64| x + 1`, of up to 12 arguments; those that come from handles need their types \
            written, and a tuple is one argument",
    note = "errors of any type are returned as `Box<dyn Error + Send + Sync>`, which is `Send` where `Box<dyn Error>` is not",
    note = "for an async function, use `submit`"
)]
pub trait BlockingFn<A>: Send + 'static {
    /// The type of the task's value.
    type Output: Send + 'static;

    #[doc(hidden)]
    fn call(self, args: A, _: Seal) -> Self::Output;
}

/// A function that can be called again: every function that is `Clone`.
///
/// There is nothing to implement.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be called again, since it's not `Clone`",
    label = "this captures something that is not `Clone`",
    note = "a fallible task can be retried, so its function and arguments are cloned",
    note = "a future is run once and may own what is not `Clone`: `client.try_spawn(async move {{ ... }})`"
)]
pub trait Repeatable: Clone {}

// Without this the compiler reports the captured value that is not `Clone`, and hides the notes above.
#[diagnostic::do_not_recommend]
impl<F: Clone> Repeatable for F {}

/// A [`TaskFn`] that returns a `Result` and can be called again, for fallible verbs such as
/// [`try_submit`](crate::Client::try_submit).
///
/// Implemented for every `TaskFn` that is `Clone` and whose errors are [`IntoFailure`]. The parameter `M` is always
/// inferred. There is nothing to implement.
pub trait TryTaskFn<A, M>:
    TaskFn<A, Output = Result<<Self as TryTaskFn<A, M>>::Value, <Self as TryTaskFn<A, M>>::Error>>
    + Repeatable
{
    /// The type of the task's value.
    type Value: Send + 'static;
    /// The type of the errors that the function returns.
    type Error: IntoFailure<M>;
}

impl<F, A, M, T, E> TryTaskFn<A, M> for F
where
    F: TaskFn<A, Output = Result<T, E>> + Repeatable,
    T: Send + 'static,
    E: IntoFailure<M>,
{
    type Value = T;
    type Error = E;
}

/// A [`BlockingFn`] that returns a `Result` and can be called again, for
/// [`try_submit_blocking`](crate::Client::try_submit_blocking).
///
/// Implemented for every `BlockingFn` that is `Clone` and whose errors are [`IntoFailure`]. The parameter `M` is
/// always inferred. There is nothing to implement.
pub trait TryBlockingFn<A, M>:
    BlockingFn<
        A,
        Output = Result<<Self as TryBlockingFn<A, M>>::Value, <Self as TryBlockingFn<A, M>>::Error>,
    > + Repeatable
{
    /// The type of the task's value.
    type Value: Send + 'static;
    /// The type of the errors that the function returns.
    type Error: IntoFailure<M>;
}

impl<F, A, M, T, E> TryBlockingFn<A, M> for F
where
    F: BlockingFn<A, Output = Result<T, E>> + Repeatable,
    T: Send + 'static,
    E: IntoFailure<M>,
{
    type Value = T;
    type Error = E;
}

macro_rules! functions {
    ($($A:ident $a:ident),*) => {
        impl<Fun, Fut, $($A),*> TaskFn<($($A,)*)> for Fun
        where
            Fun: FnOnce($($A),*) -> Fut + Send + 'static,
            Fut: Future + Send + 'static,
            Fut::Output: Send + 'static,
        {
            type Output = Fut::Output;
            type Future = Fut;

            fn call(self, ($($a,)*): ($($A,)*), _: Seal) -> Fut {
                self($($a),*)
            }
        }

        impl<Fun, Out, $($A),*> BlockingFn<($($A,)*)> for Fun
        where
            Fun: FnOnce($($A),*) -> Out + Send + 'static,
            Out: Send + 'static,
        {
            type Output = Out;

            fn call(self, ($($a,)*): ($($A,)*), _: Seal) -> Out {
                self($($a),*)
            }
        }
    };
}

functions!();
functions!(A a);
functions!(A a, B b);
functions!(A a, B b, C c);
functions!(A a, B b, C c, D d);
functions!(A a, B b, C c, D d, E e);
functions!(A a, B b, C c, D d, E e, F f);
functions!(A a, B b, C c, D d, E e, F f, G g);
functions!(A a, B b, C c, D d, E e, F f, G g, H h);
functions!(A a, B b, C c, D d, E e, F f, G g, H h, I i);
functions!(A a, B b, C c, D d, E e, F f, G g, H h, I i, J j);
functions!(A a, B b, C c, D d, E e, F f, G g, H h, I i, J j, K k);
functions!(A a, B b, C c, D d, E e, F f, G g, H h, I i, J j, K k, L l);
