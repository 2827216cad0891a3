//! What can be submitted.

use std::future::Future;

/// A function that can be submitted: it takes the arguments `A`, a tuple, and gives a future.
///
/// Implemented for async functions, async closures, and other functions and closures that return a
/// `Send` future. They're called on a worker, and their futures may move from worker to worker between
/// awaits. You never implement it yourself.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be submitted with these inputs",
    label = "not an async function of the arguments `{A}` whose future and value are `Send`",
    note = "write `async fn f(x: u64) -> u64` or `async |x: u64| x + 1`; arguments that come from handles need their types written",
    note = "errors of any type are returned as `Box<dyn Error + Send + Sync>`, which is `Send` where `Box<dyn Error>` is not",
    note = "inputs are given bare where there is one, as a tuple `(&x, 7)` where there are several, and as `()` where there is none",
    note = "for a plain function that blocks, use `submit_blocking`"
)]
pub trait TaskFn<A>: Send + 'static {
    /// What the task's value is.
    type Output: Send + 'static;
    /// What the function returns.
    type Future: Future<Output = Self::Output> + Send + 'static;

    #[doc(hidden)]
    fn call(self, args: A) -> Self::Future;
}

/// A plain function that can be submitted to run on a thread of its own, where it may block.
///
/// Implemented for functions and closures. You never implement it yourself.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be submitted as blocking work with these inputs",
    label = "not a `Send` function of the arguments `{A}` whose value is `Send`",
    note = "write `fn f(x: u64) -> u64` or `|x: u64| x + 1`; arguments that come from handles need their types written",
    note = "errors of any type are returned as `Box<dyn Error + Send + Sync>`, which is `Send` where `Box<dyn Error>` is not",
    note = "for an async function, use `submit`"
)]
pub trait BlockingFn<A>: Send + 'static {
    /// What the task's value is.
    type Output: Send + 'static;

    #[doc(hidden)]
    fn call(self, args: A) -> Self::Output;
}

/// A function that can be called again: one that is `Clone`.
///
/// You never implement it yourself.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be called again, since it's not `Clone`",
    label = "this captures something that is not `Clone`",
    note = "a fallible task can be retried, so its function and arguments are cloned",
    note = "a future is run once and may own what is not `Clone`: `client.try_spawn(async move {{ ... }})`"
)]
pub trait Repeatable: Clone {}

// Without this the compiler asks for `Clone` of what is captured, and doesn't say what else could be done.
#[diagnostic::do_not_recommend]
impl<F: Clone> Repeatable for F {}

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

            fn call(self, ($($a,)*): ($($A,)*)) -> Fut {
                self($($a),*)
            }
        }

        impl<Fun, Out, $($A),*> BlockingFn<($($A,)*)> for Fun
        where
            Fun: FnOnce($($A),*) -> Out + Send + 'static,
            Out: Send + 'static,
        {
            type Output = Out;

            fn call(self, ($($a,)*): ($($A,)*)) -> Out {
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
