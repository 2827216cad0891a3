//! The `Engine` trait for programs that run on a `Client` or on a cluster, and the bounds of its methods.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Client;
use super::options::{Options, TaskOptions};
use crate::Handle;
use crate::client::visit::InputVisitor;
use crate::handle::input::{Input, Inputs};
use crate::task::function::{TaskFn, TryTaskFn};
use crate::task::seal::{INPUT_SEAL, InputSeal, Seal};

/// A value that can be sent between machines. Implemented for all types that satisfy its bounds.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be sent between machines",
    note = "a portable value is `Serialize + DeserializeOwned + Clone + Send + Sync + 'static`"
)]
pub trait Portable: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Portable for T {}

/// A function that can be called by its name on another machine: an `async fn`, which captures nothing and whose
/// value is [`Portable`].
pub trait PortableFn<A>: TaskFn<A, Output: Portable> + Copy {}

impl<F, A> PortableFn<A> for F where F: TaskFn<A, Output: Portable> + Copy {}

/// An [`Input`] whose value is [`Portable`]. It's sealed, as `Input` is, and implemented for the same types, except
/// [`Settled`](crate::Settled): a Dask scheduler fails what depends on a task that has failed.
pub trait PortableInput<T>: Input<T> {
    #[doc(hidden)]
    fn visit<V: InputVisitor>(self, to: &mut V, _: InputSeal);
}

/// [`Inputs`] whose values are [`Portable`]. The trait is sealed, as `Inputs` is.
pub trait PortableInputs<A>: Inputs<A> {
    #[doc(hidden)]
    fn visit_all<V: InputVisitor>(self, to: &mut V, _: Seal);
}

/// The submit methods that all engines have, so that a program written for `&impl Engine` runs on any of them.
///
/// Their bounds are those of an engine that works across machines: named functions and serde values. A program that
/// needs no cluster can use the methods of [`Client`], which have fewer bounds. [`as_completed`](crate::as_completed),
/// [`gather`](crate::gather) and the like take the handles of any engine. Streams of inputs, as in
/// [`map_stream`](Client::map_stream), and blocking functions are for a `Client` only.
///
/// ```
/// use ensue::{Client, Engine, Error};
///
/// async fn double(x: u64) -> u64 {
///     2 * x
/// }
///
/// async fn eight(engine: &impl Engine) -> Result<u64, Error> {
///     let two = engine.submit(double, 1);
///     let four = engine.submit(double, &two);
///     engine.submit(double, four).await
/// }
///
/// let client = Client::new();
/// assert_eq!(futures_lite::future::block_on(eight(&client)).unwrap(), 8);
/// ```
pub trait Engine {
    /// Submits a function with options; see [`Client::submit`].
    #[track_caller]
    fn submit_with<F, I, A>(
        &self,
        options: TaskOptions,
        function: F,
        inputs: I,
    ) -> Handle<F::Output>
    where
        F: PortableFn<A>,
        I: PortableInputs<A>,
        A: Clone + Send + 'static;

    /// Submits a function that returns a `Result` with options; see [`Client::try_submit`].
    #[track_caller]
    fn try_submit_with<F, I, A, M>(
        &self,
        options: TaskOptions,
        function: F,
        inputs: I,
    ) -> Handle<F::Value>
    where
        F: TryTaskFn<A, M, Value: Portable> + Copy,
        I: PortableInputs<A>,
        A: Clone + Send + 'static,
        M: 'static;

    /// Returns a handle of a finished task with the given value; see [`Client::ready`].
    #[track_caller]
    fn ready<T: Portable>(&self, value: T) -> Handle<T>;

    /// Submits a function; see [`Client::submit`].
    #[track_caller]
    fn submit<F, I, A>(&self, function: F, inputs: I) -> Handle<F::Output>
    where
        F: PortableFn<A>,
        I: PortableInputs<A>,
        A: Clone + Send + 'static,
    {
        self.submit_with(TaskOptions::new(), function, inputs)
    }

    /// Submits a function that returns a `Result`; see [`Client::try_submit`].
    #[track_caller]
    fn try_submit<F, I, A, M>(&self, function: F, inputs: I) -> Handle<F::Value>
    where
        F: TryTaskFn<A, M, Value: Portable> + Copy,
        I: PortableInputs<A>,
        A: Clone + Send + 'static,
        M: 'static,
    {
        self.try_submit_with(TaskOptions::new(), function, inputs)
    }

    /// Submits a function once for each input; see [`Client::map`].
    #[track_caller]
    #[must_use = "dropping the handles abandons their tasks: keep them, or `detach` each; `let _ =` drops them, too"]
    fn map<F, I, A>(
        &self,
        function: F,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<F::Output>>
    where
        F: PortableFn<A>,
        I: PortableInputs<A>,
        A: Clone + Send + 'static,
    {
        let mut handles = Vec::new();
        // Not in a closure, which would submit from a line of its own.
        for input in inputs {
            handles.push(self.submit(function, input));
        }
        handles
    }

    /// Submits a function that returns a `Result` once for each input; see [`Client::try_map`].
    #[track_caller]
    #[must_use = "dropping the handles abandons their tasks: keep them, or `detach` each; `let _ =` drops them, too"]
    fn try_map<F, I, A, M>(
        &self,
        function: F,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<F::Value>>
    where
        F: TryTaskFn<A, M, Value: Portable> + Copy,
        I: PortableInputs<A>,
        A: Clone + Send + 'static,
        M: 'static,
    {
        let mut handles = Vec::new();
        // As above.
        for input in inputs {
            handles.push(self.try_submit(function, input));
        }
        handles
    }
}

impl Engine for Client {
    #[track_caller]
    fn submit_with<F, I, A>(
        &self,
        options: TaskOptions,
        function: F,
        inputs: I,
    ) -> Handle<F::Output>
    where
        F: PortableFn<A>,
        I: PortableInputs<A>,
        A: Clone + Send + 'static,
    {
        if options.has_retries() {
            Options::<crate::WithRetry>::with(self, options).submit(function, inputs)
        } else {
            Options::<crate::NoRetry>::with(self, options).submit(function, inputs)
        }
    }

    #[track_caller]
    fn try_submit_with<F, I, A, M>(
        &self,
        options: TaskOptions,
        function: F,
        inputs: I,
    ) -> Handle<F::Value>
    where
        F: TryTaskFn<A, M, Value: Portable> + Copy,
        I: PortableInputs<A>,
        A: Clone + Send + 'static,
        M: 'static,
    {
        Options::<crate::WithRetry>::with(self, options).try_submit(function, inputs)
    }

    #[track_caller]
    fn ready<T: Portable>(&self, value: T) -> Handle<T> {
        Client::ready(self, value)
    }

    #[track_caller]
    fn map<F, I, A>(
        &self,
        function: F,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<F::Output>>
    where
        F: PortableFn<A>,
        I: PortableInputs<A>,
        A: Clone + Send + 'static,
    {
        Client::map(self, function, inputs)
    }
}

impl<T: Portable> PortableInput<T> for T {
    fn visit<V: InputVisitor>(self, to: &mut V, _: InputSeal) {
        to.value(self);
    }
}

impl PortableInputs<()> for () {
    fn visit_all<V: InputVisitor>(self, to: &mut V, _: Seal) {
        to.list(0);
    }
}

impl<A, X: PortableInput<A>> PortableInputs<(A,)> for X {
    fn visit_all<V: InputVisitor>(self, to: &mut V, _: Seal) {
        to.list(1);
        self.visit(to, INPUT_SEAL);
    }
}

macro_rules! tuples {
    ($count:literal $($A:ident $X:ident $at:tt),*) => {
        impl<$($A, $X: PortableInput<$A>),*> PortableInputs<($($A,)*)> for ($($X,)*) {
            fn visit_all<V: InputVisitor>(self, to: &mut V, _: Seal) {
                to.list($count);
                $(self.$at.visit(to, INPUT_SEAL);)*
            }
        }
    };
}

tuples!(2 A0 X0 0, A1 X1 1);
tuples!(3 A0 X0 0, A1 X1 1, A2 X2 2);
tuples!(4 A0 X0 0, A1 X1 1, A2 X2 2, A3 X3 3);
tuples!(5 A0 X0 0, A1 X1 1, A2 X2 2, A3 X3 3, A4 X4 4);
tuples!(6 A0 X0 0, A1 X1 1, A2 X2 2, A3 X3 3, A4 X4 4, A5 X5 5);
tuples!(7 A0 X0 0, A1 X1 1, A2 X2 2, A3 X3 3, A4 X4 4, A5 X5 5, A6 X6 6);
tuples!(8 A0 X0 0, A1 X1 1, A2 X2 2, A3 X3 3, A4 X4 4, A5 X5 5, A6 X6 6, A7 X7 7);
tuples!(9 A0 X0 0, A1 X1 1, A2 X2 2, A3 X3 3, A4 X4 4, A5 X5 5, A6 X6 6, A7 X7 7, A8 X8 8);
tuples!(10 A0 X0 0, A1 X1 1, A2 X2 2, A3 X3 3, A4 X4 4, A5 X5 5, A6 X6 6, A7 X7 7, A8 X8 8, A9 X9 9);
tuples!(11 A0 X0 0, A1 X1 1, A2 X2 2, A3 X3 3, A4 X4 4, A5 X5 5, A6 X6 6, A7 X7 7, A8 X8 8, A9 X9 9, A10 X10 10);
tuples!(12 A0 X0 0, A1 X1 1, A2 X2 2, A3 X3 3, A4 X4 4, A5 X5 5, A6 X6 6, A7 X7 7, A8 X8 8, A9 X9 9, A10 X10 10, A11 X11 11);
