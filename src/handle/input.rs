//! The inputs of tasks.
//!
//! The public traits are sealed by private supertraits, which turn an input into what a task stores of it. Nothing of
//! those can be named, made or taken apart outside of this crate, because the engine relies on each edge for the type
//! of the value that it reads from another task.

use crate::engine::task::edges::{Plain, Waits};
use crate::task::seal::{INPUT_SEAL, InputSeal};

/// A value or handle that becomes an argument of type `T`.
///
/// * A plain value is passed as it is.
/// * For a `Handle<T>` or `&Handle<T>`, the task waits for it and gets its value. The value is moved out if no other
///   handle or task needs it, and cloned otherwise; as a [`Ref<T>`](crate::Ref) it is shared. A small value that has arrived
///   before the submission is cloned on the submitting thread, all others on the worker of the new task.
/// * For a [`Settled`](crate::Settled), made by [`handle.settled()`](crate::Handle::settled) or [`settled(&handles)`](crate::settled),
///   the task waits until the other task has ended in any way, and gets a `Result` with the value or the error.
/// * For vectors, slices, arrays, options, results, maps and tuples in which there's any of these, also inside of each other
///   and beside plain values, the task gets the same containers with the values in place of the handles.
///
/// The argument for a handle can be the value or a `Ref`, so a closure has to declare its type:
///
/// ```
/// # let client = ensue::Client::new();
/// # let x = client.submit(async || 1u64, ());
/// let y = client.submit(async |x: u64| x + 1, &x);
/// ```
///
/// Without the type, the closure doesn't compile:
///
/// ```compile_fail,E0283
/// # let client = ensue::Client::new();
/// # let x = client.submit(async || 1u64, ());
/// let y = client.submit(async |x| x + 1, &x);
/// ```
///
/// A graph of any shape can be handed to one task:
///
/// ```
/// # use std::collections::HashMap;
/// # let client = ensue::Client::new();
/// # let pages = client.map(async |n: u64| n, 0..3);
/// let groups = HashMap::from([("even", vec![(0, &pages[0]), (2, &pages[2])]), ("odd", vec![(1, &pages[1])])]);
/// let count = async |groups: HashMap<&'static str, Vec<(u32, u64)>>| groups["even"].len();
/// assert_eq!(client.submit(count, groups).result().unwrap(), 2);
/// ```
///
/// The trait is sealed: it can't be implemented outside of this crate but by that macro, and has no methods to call. These types implement
/// it, where `P` stands for any type of the left column but the first, for an argument of the type `V` on its right:
///
/// | input | argument |
/// |---|---|
/// | a value of any type that is `Send + 'static` | the value |
/// | `Handle<T>`, `&Handle<T>` | `T` or `Ref<T>` |
/// | `Settled<T>`, `&Settled<T>` | `Result<T, Error>` or `Result<Ref<T>, Error>` |
/// | `Vec<P>`, `Box<[P]>`, `[P; N]` | `Vec<V>` |
/// | `[P; N]` | `[V; N]` |
/// | `Option<P>` | `Option<V>` |
/// | `Result<P, E>` | `Result<V, E>` |
/// | `HashMap<K, P, S>` | `HashMap<K, V, S>` |
/// | `BTreeMap<K, P>` | `BTreeMap<K, V>` |
/// | a tuple of 2 to 4 parts, each a `P` or a plain value, and at least one a `P` | the tuple of the `V`s and the values |
/// | a reference to a `Vec<P>`, slice, `[P; N]`, `Option<P>` or map, if a reference to `P` is an input | as without it |
///
/// Up to six containers may be inside of each other. With the feature `derive`, structs of your own are inputs, too: by
/// [`#[derive(Input)]`](https://docs.rs/ensue/latest/ensue/derive.Input.html).
#[allow(private_bounds)] // this seals it
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an input for an argument of type `{T}`",
    label = "expected a `{T}`, or a `Handle` of one",
    note = "a handle's value arrives as `T`, which must be `Clone + Send + Sync`, or as `ensue::Ref<T>`",
    note = "the value or the error of a handle arrives as `Result<T, ensue::Error>`, if `handle.settled()` is given",
    note = "several inputs are given as one tuple: `(&x, 7)`"
)]
pub trait Input<T>: IntoWait<T> {}

/// What an [`Input`] becomes while its task waits.
///
/// What the derive macro generates implements it, so its name is public there: see `client::derive`.
#[allow(private_bounds)]
pub trait IntoWait<T> {
    #[doc(hidden)]
    type Wait: Waits<Args = T>;

    #[doc(hidden)]
    fn into_wait(self, _: InputSeal) -> Self::Wait;
}

/// The inputs of a task, which become the arguments `A`, a tuple.
///
/// They are a bare [`Input`] for one argument, a tuple of 2 to 12 inputs for several, and `()` for none. The trait is
/// sealed: it's implemented for these and can't be implemented outside of this crate. A submission with more than 33
/// million handles panics.
#[allow(private_bounds)] // this seals it
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the inputs for the arguments `{A}`",
    label = "these inputs don't fit the function's arguments `{A}`",
    note = "inputs are given bare where there is one, as a tuple `(&x, 7)` where there are several, and as `()` where there is none",
    note = "a handle's value arrives as `T`, which must be `Clone + Send + Sync`, or as `ensue::Ref<T>`",
    note = "the value or the error of a handle arrives as `Result<T, ensue::Error>`, if `handle.settled()` is given"
)]
pub trait Inputs<A>: IntoWaits<A> {}

/// What [`Inputs`] become while their task waits.
pub(crate) trait IntoWaits<A> {
    type Waits: Waits<Args = A>;

    fn into_waits(self) -> Self::Waits;
}

impl<T: Send + 'static> Input<T> for T {}

impl<T: Send + 'static> IntoWait<T> for T {
    type Wait = Plain<T>;

    fn into_wait(self, _: InputSeal) -> Plain<T> {
        Plain(self)
    }
}

impl Inputs<()> for () {}

impl IntoWaits<()> for () {
    type Waits = ();

    fn into_waits(self) {}
}

impl<A, X: Input<A>> Inputs<(A,)> for X {}

impl<A, X: IntoWait<A>> IntoWaits<(A,)> for X {
    type Waits = (X::Wait,);

    fn into_waits(self) -> Self::Waits {
        (self.into_wait(INPUT_SEAL),)
    }
}

macro_rules! tuples {
    ($($A:ident $X:ident $at:tt),*) => {
        impl<$($A, $X: Input<$A>),*> Inputs<($($A,)*)> for ($($X,)*) {}

        impl<$($A, $X: IntoWait<$A>),*> IntoWaits<($($A,)*)> for ($($X,)*) {
            type Waits = ($($X::Wait,)*);

            fn into_waits(self) -> Self::Waits {
                ($(self.$at.into_wait(INPUT_SEAL),)*)
            }
        }
    };
}

tuples!(A0 X0 0, A1 X1 1);
tuples!(A0 X0 0, A1 X1 1, A2 X2 2);
tuples!(A0 X0 0, A1 X1 1, A2 X2 2, A3 X3 3);
tuples!(A0 X0 0, A1 X1 1, A2 X2 2, A3 X3 3, A4 X4 4);
tuples!(A0 X0 0, A1 X1 1, A2 X2 2, A3 X3 3, A4 X4 4, A5 X5 5);
tuples!(A0 X0 0, A1 X1 1, A2 X2 2, A3 X3 3, A4 X4 4, A5 X5 5, A6 X6 6);
tuples!(A0 X0 0, A1 X1 1, A2 X2 2, A3 X3 3, A4 X4 4, A5 X5 5, A6 X6 6, A7 X7 7);
tuples!(A0 X0 0, A1 X1 1, A2 X2 2, A3 X3 3, A4 X4 4, A5 X5 5, A6 X6 6, A7 X7 7, A8 X8 8);
tuples!(A0 X0 0, A1 X1 1, A2 X2 2, A3 X3 3, A4 X4 4, A5 X5 5, A6 X6 6, A7 X7 7, A8 X8 8, A9 X9 9);
tuples!(A0 X0 0, A1 X1 1, A2 X2 2, A3 X3 3, A4 X4 4, A5 X5 5, A6 X6 6, A7 X7 7, A8 X8 8, A9 X9 9, A10 X10 10);
tuples!(A0 X0 0, A1 X1 1, A2 X2 2, A3 X3 3, A4 X4 4, A5 X5 5, A6 X6 6, A7 X7 7, A8 X8 8, A9 X9 9, A10 X10 10, A11 X11 11);
