//! The inputs of tasks.
//!
//! The public traits are sealed by private supertraits, which turn an input into what a task stores of it. Nothing of
//! those can be named, made or taken apart outside of this crate, because the engine relies on each edge for the type
//! of the value that it reads from another task.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};

use crate::engine::task::edges::{Array, ByRef, ByValue, Many, Maybe, Pairs, Plain, Waits};
use crate::{Awaitable, Handle, Ref};

/// A value or handle that becomes an argument of type `T`.
///
/// * A plain value is passed as it is.
/// * For a `Handle<T>` or `&Handle<T>`, the task waits for it and gets its value. The value is moved out if no other
///   handle or task needs it, and cloned otherwise; as a [`Ref<T>`](Ref) it is shared. A small value that has arrived
///   before the submission is cloned on the submitting thread, all others on the worker of the new task.
/// * For vectors, slices, arrays, options and maps of handles, and references to those, the task gets the same
///   container of values, or of `Ref`s.
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
/// The trait is sealed: it can't be implemented outside of this crate, and has no methods to call. These types implement
/// it, where `H` stands for a `Handle<V>` or a `&Handle<V>` throughout one type:
///
/// | input | argument |
/// |---|---|
/// | a value of any type that is `Send + 'static` | the value |
/// | `H` | `V` or `Ref<V>`, as in the following |
/// | `Vec<H>`, `[H; N]`, `&Vec<Handle<V>>`, `&[Handle<V>]`, `&[Handle<V>; N]`, `Box<[Handle<V>]>` | `Vec<V>` |
/// | `[H; N]`, `&[Handle<V>; N]` | `[V; N]` |
/// | `Vec<Vec<Handle<V>>>` or a reference to one | `Vec<Vec<V>>` |
/// | `Option<H>`, `&Option<Handle<V>>` | `Option<V>` |
/// | `HashMap<K, Handle<V>, S>` or a reference to one | `HashMap<K, V, S>` |
/// | `BTreeMap<K, Handle<V>>` or a reference to one | `BTreeMap<K, V>` |
#[allow(private_bounds)] // this seals it
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an input for an argument of type `{T}`",
    label = "expected a `{T}`, or a `Handle` of one",
    note = "a handle's value arrives as `T`, which must be `Clone + Send + Sync`, or as `ensue::Ref<T>`",
    note = "several inputs are given as one tuple: `(&x, 7)`"
)]
pub trait Input<T>: IntoWait<T> {}

/// What an [`Input`] becomes while its task waits.
pub(crate) trait IntoWait<T> {
    type Wait: Waits<Args = T>;

    fn into_wait(self) -> Self::Wait;
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
    note = "a handle's value arrives as `T`, which must be `Clone + Send + Sync`, or as `ensue::Ref<T>`"
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

    fn into_wait(self) -> Plain<T> {
        Plain(self)
    }
}

impl<T: Awaitable> Input<T> for Handle<T> {}

impl<T: Clone + Send + Sync + 'static> IntoWait<T> for Handle<T> {
    type Wait = ByValue<T>;

    fn into_wait(self) -> ByValue<T> {
        ByValue::new(self.into_typed())
    }
}

impl<T: Awaitable> Input<T> for &Handle<T> {}

impl<T: Clone + Send + Sync + 'static> IntoWait<T> for &Handle<T> {
    type Wait = ByValue<T>;

    fn into_wait(self) -> ByValue<T> {
        ByValue::new(self.typed().clone())
    }
}

impl<T: Send + Sync + 'static> Input<Ref<T>> for Handle<T> {}

impl<T: Send + Sync + 'static> IntoWait<Ref<T>> for Handle<T> {
    type Wait = ByRef<T>;

    fn into_wait(self) -> ByRef<T> {
        ByRef::new(self.into_typed())
    }
}

impl<T: Send + Sync + 'static> Input<Ref<T>> for &Handle<T> {}

impl<T: Send + Sync + 'static> IntoWait<Ref<T>> for &Handle<T> {
    type Wait = ByRef<T>;

    fn into_wait(self) -> ByRef<T> {
        ByRef::new(self.typed().clone())
    }
}

/// Implements [`Input`] for one type of container: `[its parameters] the container => the argument, what is stored`.
macro_rules! container {
    ([$($params:tt)*] $container:ty => $arg:ty, $wait:ty, $self:ident => $stored:expr) => {
        impl<$($params)*> Input<$arg> for $container {}

        impl<$($params)*> IntoWait<$arg> for $container {
            type Wait = $wait;

            fn into_wait($self) -> Self::Wait {
                $stored
            }
        }
    };
}

/// Implements [`Input`] for containers of handles, whose arguments are containers of `$value`.
macro_rules! containers {
    ($($value:ty, $wait:ty, [$($bound:tt)*];)*) => {$(
        container!([T: $($bound)*] Vec<Handle<T>> => Vec<$value>, Many<$wait>,
            self => many::<_, $value>(self));
        container!([T: $($bound)*] Vec<&Handle<T>> => Vec<$value>, Many<$wait>,
            self => many::<_, $value>(self));
        container!([T: $($bound)*] &Vec<Handle<T>> => Vec<$value>, Many<$wait>,
            self => many::<_, $value>(self));
        container!([T: $($bound)*] &[Handle<T>] => Vec<$value>, Many<$wait>,
            self => many::<_, $value>(self));
        container!([T: $($bound)*] Box<[Handle<T>]> => Vec<$value>, Many<$wait>,
            self => many::<_, $value>(Vec::from(self)));
        container!([T: $($bound)*, const N: usize] [Handle<T>; N] => Vec<$value>, Many<$wait>,
            self => many::<_, $value>(self));
        container!([T: $($bound)*, const N: usize] [&Handle<T>; N] => Vec<$value>, Many<$wait>,
            self => many::<_, $value>(self));
        container!([T: $($bound)*, const N: usize] &[Handle<T>; N] => Vec<$value>, Many<$wait>,
            self => many::<_, $value>(self));
        container!([T: $($bound)*, const N: usize] [Handle<T>; N] => [$value; N], Array<$wait, N>,
            self => Array::new(self.map(into_wait::<_, $value>)));
        container!([T: $($bound)*, const N: usize] [&Handle<T>; N] => [$value; N], Array<$wait, N>,
            self => Array::new(self.map(into_wait::<_, $value>)));
        container!([T: $($bound)*, const N: usize] &[Handle<T>; N] => [$value; N], Array<$wait, N>,
            self => Array::new(self.each_ref().map(into_wait::<_, $value>)));
        container!([T: $($bound)*] Vec<Vec<Handle<T>>> => Vec<Vec<$value>>, Many<Many<$wait>>,
            self => many::<_, Vec<$value>>(self));
        container!([T: $($bound)*] &Vec<Vec<Handle<T>>> => Vec<Vec<$value>>, Many<Many<$wait>>,
            self => many::<_, Vec<$value>>(self));
        container!([T: $($bound)*] Option<Handle<T>> => Option<$value>, Maybe<$wait>,
            self => Maybe::new(self.map(into_wait::<_, $value>)));
        container!([T: $($bound)*] Option<&Handle<T>> => Option<$value>, Maybe<$wait>,
            self => Maybe::new(self.map(into_wait::<_, $value>)));
        container!([T: $($bound)*] &Option<Handle<T>> => Option<$value>, Maybe<$wait>,
            self => Maybe::new(self.as_ref().map(into_wait::<_, $value>)));
        container!([K: Eq + Hash + Send + 'static, T: $($bound)*, S: BuildHasher + Default + Send + 'static]
            HashMap<K, Handle<T>, S> => HashMap<K, $value, S>, Pairs<K, $wait, HashMap<K, $value, S>>,
            self => pairs::<_, _, $value, _>(self));
        container!([K: Eq + Hash + Clone + Send + 'static, T: $($bound)*, S: BuildHasher + Default + Send + 'static]
            &HashMap<K, Handle<T>, S> => HashMap<K, $value, S>, Pairs<K, $wait, HashMap<K, $value, S>>,
            self => pairs::<_, _, $value, _>(self.iter().map(|(key, handle)| (key.clone(), handle))));
        container!([K: Ord + Send + 'static, T: $($bound)*]
            BTreeMap<K, Handle<T>> => BTreeMap<K, $value>, Pairs<K, $wait, BTreeMap<K, $value>>,
            self => pairs::<_, _, $value, _>(self));
        container!([K: Ord + Clone + Send + 'static, T: $($bound)*]
            &BTreeMap<K, Handle<T>> => BTreeMap<K, $value>, Pairs<K, $wait, BTreeMap<K, $value>>,
            self => pairs::<_, _, $value, _>(self.iter().map(|(key, handle)| (key.clone(), handle))));
    )*};
}

/// Calls `IntoWait::into_wait`, with the type of the argument as a parameter.
fn into_wait<X: IntoWait<T>, T>(input: X) -> X::Wait {
    input.into_wait()
}

fn many<I, T>(inputs: I) -> Many<<I::Item as IntoWait<T>>::Wait>
where
    I: IntoIterator,
    I::Item: IntoWait<T>,
{
    Many::new(inputs.into_iter().map(into_wait::<_, T>).collect())
}

fn pairs<K, X: IntoWait<T>, T, C>(
    inputs: impl IntoIterator<Item = (K, X)>,
) -> Pairs<K, X::Wait, C> {
    Pairs::new(inputs.into_iter().map(|(key, input)| (key, input.into_wait())).collect())
}

containers! {
    T, ByValue<T>, [Awaitable];
    Ref<T>, ByRef<T>, [Send + Sync + 'static];
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
        (self.into_wait(),)
    }
}

macro_rules! tuples {
    ($($A:ident $X:ident $at:tt),*) => {
        impl<$($A, $X: Input<$A>),*> Inputs<($($A,)*)> for ($($X,)*) {}

        impl<$($A, $X: IntoWait<$A>),*> IntoWaits<($($A,)*)> for ($($X,)*) {
            type Waits = ($($X::Wait,)*);

            fn into_waits(self) -> Self::Waits {
                ($(self.$at.into_wait(),)*)
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
