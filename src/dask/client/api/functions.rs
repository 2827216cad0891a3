//! The functions that a client accepts: one trait for the bounds of each kind of submit method.
//!
//! [`PortableFn`](crate::PortableFn) is the fourth of them.

use crate::error::IntoFailure;
use crate::{BlockingFn, Portable, TaskFn};

/// A function that can be called by its name and returns a `Result`: an `async fn` that captures nothing, whose value
/// is [`Portable`] and whose error is an error type or text.
///
/// `M` is inferred. You never implement this trait yourself.
pub trait TryPortableFn<A, M>: TaskFn<A> + Copy {
    /// The type of the task's value, in the `Ok` of the result.
    type Value: Portable;
}

impl<F, A, T, E, M> TryPortableFn<A, M> for F
where
    F: TaskFn<A, Output = Result<T, E>> + Copy,
    T: Portable,
    E: IntoFailure<M>,
{
    type Value = T;
}

/// A blocking function that can be called by its name: an `fn` that captures nothing, whose value is [`Portable`].
///
/// You never implement this trait yourself.
pub trait PortableBlockingFn<A>: BlockingFn<A, Output: Portable> + Copy {}

impl<F, A> PortableBlockingFn<A> for F where F: BlockingFn<A, Output: Portable> + Copy {}

/// A blocking function that can be called by its name and returns a `Result`: an `fn` that captures nothing, whose
/// value is [`Portable`] and whose error is an error type or text.
///
/// `M` is inferred. You never implement this trait yourself.
pub trait TryPortableBlockingFn<A, M>: BlockingFn<A> + Copy {
    /// The type of the task's value, in the `Ok` of the result.
    type Value: Portable;
}

impl<F, A, T, E, M> TryPortableBlockingFn<A, M> for F
where
    F: BlockingFn<A, Output = Result<T, E>> + Copy,
    T: Portable,
    E: IntoFailure<M>,
{
    type Value = T;
}
