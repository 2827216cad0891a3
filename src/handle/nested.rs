//! Inputs in containers, and containers in those.
//!
//! A vector of handles becomes a vector of values, and so does a vector of tuples or vectors of handles. But a vector of
//! plain values is a plain value, and must have one meaning only. So a container is taken apart if it contains a handle, which
//! [`Nested`] says. That no value is both, the compiler must see for all types:
//!
//! * A type `X` that is given for an argument of type `T` is a type of its own, [`Given<X, T, D>`](Given). No other crate can
//!   implement a trait of this one for that, so the compiler knows all of its implementations.
//! * `D` is the number of containers that may be inside of each other, so going through them ends.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;

use super::input::{Input, IntoWait};
use super::settled::Settled;
use crate::engine::task::containers::{Array, Fallible, Many, Maybe, Pairs};
use crate::engine::task::edges::{ByRef, ByValue, Plain, Waits};
use crate::engine::task::settled::{SettledRef, SettledValue};
use crate::task::seal::InputSeal;
use crate::{Awaitable, Error, Handle, Ref};

/// An `X` that is given for an argument of type `T`, with up to `D` containers inside of each other.
#[derive(Debug)]
pub struct Given<X, T, D>(X, PhantomData<(T, D)>);

impl<X, T, D> Given<X, T, D> {
    pub(crate) fn new(given: X) -> Self {
        Self(given, PhantomData)
    }

    pub(crate) fn into_inner(self) -> X {
        self.0
    }
}

/// No container.
#[derive(Debug)]
pub struct Zero;

/// One container more.
#[derive(Debug)]
pub struct Deeper<D>(PhantomData<D>);

pub(crate) type One = Deeper<Zero>;
pub(crate) type Two = Deeper<One>;
pub(crate) type Three = Deeper<Two>;
pub(crate) type Four = Deeper<Three>;
pub(crate) type Five = Deeper<Four>;
pub(crate) type Six = Deeper<Five>;

/// The most containers inside of each other.
pub(crate) type Most = Six;

/// Implemented for a [`Given`] that is a handle, or a container in which there's a handle.
///
/// It's public, as these types are, since they're what an input becomes; but no other crate can name or make any of them.
#[allow(private_bounds)] // no other crate can call it
pub trait Nested {
    /// The type of the argument.
    type Arg;
    type Wait: Waits<Args = Self::Arg>;

    fn into_wait(self) -> Self::Wait;
}

/// Implemented for a [`Given`] that is [`Nested`] or a plain value: the parts of a tuple.
#[allow(private_bounds)]
pub trait Part {
    type Arg;
    type Wait: Waits<Args = Self::Arg>;

    fn into_wait(self) -> Self::Wait;
}

type WaitOf<X, T, D> = <Given<X, T, D> as Nested>::Wait;
type PartOf<X, T, D> = <Given<X, T, D> as Part>::Wait;

/// Turns what is given for a `T` into what is stored of it.
pub(crate) fn wait<X, T, D>(given: X) -> WaitOf<X, T, D>
where
    Given<X, T, D>: Nested<Arg = T>,
{
    Given::new(given).into_wait()
}

fn part<X, T, D>(given: X) -> PartOf<X, T, D>
where
    Given<X, T, D>: Part<Arg = T>,
{
    Given::new(given).into_wait()
}

/// Implements [`Nested`] for handles.
macro_rules! handles {
    ($([$($bound:tt)*] $given:ty => $arg:ty, $wait:ty, $self:ident => $typed:expr;)*) => {$(
        impl<T: $($bound)*, D> Nested for Given<$given, $arg, D> {
            type Arg = $arg;
            type Wait = $wait;

            fn into_wait(self) -> $wait {
                let $self = self.0;
                <$wait>::new($typed)
            }
        }

        impl<T: $($bound)*> IntoWait<$arg> for $given {
            type Wait = $wait;

            fn into_wait(self, _: InputSeal) -> $wait {
                let $self = self;
                <$wait>::new($typed)
            }
        }
    )*};
}

// Not by the macro: the compiler shows these lines where a type doesn't fit.
impl<T: Awaitable> Input<T> for Handle<T> {}
impl<T: Awaitable> Input<T> for &Handle<T> {}
impl<T: Send + Sync + 'static> Input<Ref<T>> for Handle<T> {}
impl<T: Send + Sync + 'static> Input<Ref<T>> for &Handle<T> {}
impl<T: Clone + Send + Sync + 'static> Input<Result<T, Error>> for Settled<T> {}
impl<T: Clone + Send + Sync + 'static> Input<Result<T, Error>> for &Settled<T> {}
impl<T: Send + Sync + 'static> Input<Result<Ref<T>, Error>> for Settled<T> {}
impl<T: Send + Sync + 'static> Input<Result<Ref<T>, Error>> for &Settled<T> {}

handles! {
    [Awaitable] Handle<T> => T, ByValue<T>, given => given.into_typed();
    [Awaitable] &Handle<T> => T, ByValue<T>, given => given.typed().clone();
    [Send + Sync + 'static] Handle<T> => Ref<T>, ByRef<T>, given => given.into_typed();
    [Send + Sync + 'static] &Handle<T> => Ref<T>, ByRef<T>, given => given.typed().clone();
    [Clone + Send + Sync + 'static] Settled<T> => Result<T, Error>, SettledValue<T>, given => given.into_typed();
    [Clone + Send + Sync + 'static] &Settled<T> => Result<T, Error>, SettledValue<T>, given => given.typed().clone();
    [Send + Sync + 'static] Settled<T> => Result<Ref<T>, Error>, SettledRef<T>, given => given.into_typed();
    [Send + Sync + 'static] &Settled<T> => Result<Ref<T>, Error>, SettledRef<T>, given => given.typed().clone();
}

/// Implements [`Nested`] and [`Input`] for containers of `X` whose arguments are containers of `T`.
macro_rules! containers {
    ($([$($life:lifetime)? $(; $($param:tt)*)?] $given:ty => $arg:ty, of $x:ty, $wait:ty, $self:ident => $stored:expr;)*) => {$(
        #[diagnostic::do_not_recommend]
        impl<$($life,)? X, T: Send + 'static, D, $($($param)*)?> Nested for Given<$given, $arg, Deeper<D>>
        where
            Given<$x, T, D>: Nested<Arg = T>,
        {
            type Arg = $arg;
            type Wait = $wait;

            fn into_wait(self) -> Self::Wait {
                let $self = self.0;
                $stored
            }
        }

        #[diagnostic::do_not_recommend]
        impl<$($life,)? X, T: Send + 'static, $($($param)*)?> Input<$arg> for $given where Given<$given, $arg, Most>: Nested<Arg = $arg> {}

        impl<$($life,)? X, T: Send + 'static, $($($param)*)?> IntoWait<$arg> for $given
        where
            Given<$given, $arg, Most>: Nested<Arg = $arg>,
        {
            type Wait = WaitOf<$given, $arg, Most>;

            fn into_wait(self, _: InputSeal) -> Self::Wait {
                wait::<_, $arg, Most>(self)
            }
        }
    )*};
}

containers! {
    [] Vec<X> => Vec<T>, of X, Many<WaitOf<X, T, D>>, given => many::<X, T, D>(given);
    ['a] &'a Vec<X> => Vec<T>, of &'a X, Many<WaitOf<&'a X, T, D>>, given => many::<&'a X, T, D>(given);
    ['a] &'a [X] => Vec<T>, of &'a X, Many<WaitOf<&'a X, T, D>>, given => many::<&'a X, T, D>(given);
    [] Box<[X]> => Vec<T>, of X, Many<WaitOf<X, T, D>>, given => many::<X, T, D>(Vec::from(given));
    [; const N: usize] [X; N] => Vec<T>, of X, Many<WaitOf<X, T, D>>, given => many::<X, T, D>(given);
    ['a; const N: usize] &'a [X; N] => Vec<T>, of &'a X, Many<WaitOf<&'a X, T, D>>,
        given => many::<&'a X, T, D>(given);
    [; const N: usize] [X; N] => [T; N], of X, Array<WaitOf<X, T, D>, N>,
        given => Array::new(given.map(wait::<X, T, D>));
    ['a; const N: usize] &'a [X; N] => [T; N], of &'a X, Array<WaitOf<&'a X, T, D>, N>,
        given => Array::new(given.each_ref().map(wait::<&'a X, T, D>));
    [] Option<X> => Option<T>, of X, Maybe<WaitOf<X, T, D>>, given => Maybe::new(given.map(wait::<X, T, D>));
    ['a] &'a Option<X> => Option<T>, of &'a X, Maybe<WaitOf<&'a X, T, D>>,
        given => Maybe::new(given.as_ref().map(wait::<&'a X, T, D>));
    [; E: Send + 'static] Result<X, E> => Result<T, E>, of X, Fallible<WaitOf<X, T, D>, E>,
        given => Fallible::new(given.map(wait::<X, T, D>));
    [; K: Eq + Hash + Send + 'static, S: BuildHasher + Default + Send + 'static]
        HashMap<K, X, S> => HashMap<K, T, S>, of X, Pairs<K, WaitOf<X, T, D>, HashMap<K, T, S>>,
        given => pairs::<K, X, T, D, _>(given);
    ['a; K: Eq + Hash + Clone + Send + 'static, S: BuildHasher + Default + Send + 'static]
        &'a HashMap<K, X, S> => HashMap<K, T, S>, of &'a X, Pairs<K, WaitOf<&'a X, T, D>, HashMap<K, T, S>>,
        given => pairs::<K, &'a X, T, D, _>(given.iter().map(|(key, part)| (key.clone(), part)));
    [; K: Ord + Send + 'static]
        BTreeMap<K, X> => BTreeMap<K, T>, of X, Pairs<K, WaitOf<X, T, D>, BTreeMap<K, T>>,
        given => pairs::<K, X, T, D, _>(given);
    ['a; K: Ord + Clone + Send + 'static]
        &'a BTreeMap<K, X> => BTreeMap<K, T>, of &'a X, Pairs<K, WaitOf<&'a X, T, D>, BTreeMap<K, T>>,
        given => pairs::<K, &'a X, T, D, _>(given.iter().map(|(key, part)| (key.clone(), part)));
}

fn many<X, T, D>(given: impl IntoIterator<Item = X>) -> Many<WaitOf<X, T, D>>
where
    Given<X, T, D>: Nested<Arg = T>,
{
    Many::new(given.into_iter().map(wait::<X, T, D>).collect())
}

fn pairs<K, X, T, D, C>(given: impl IntoIterator<Item = (K, X)>) -> Pairs<K, WaitOf<X, T, D>, C>
where
    Given<X, T, D>: Nested<Arg = T>,
{
    Pairs::new(given.into_iter().map(|(key, part)| (key, wait::<X, T, D>(part))).collect())
}

/// Implements [`Part`] and [`Nested`] for tuples at each number of containers.
macro_rules! levels {
    ($($inner:ident in $outer:ident;)*) => {$(
        impl<T: Send + 'static> Part for Given<T, T, $inner> {
            type Arg = T;
            type Wait = Plain<T>;

            fn into_wait(self) -> Plain<T> {
                Plain(self.0)
            }
        }

        impl<X, T> Part for Given<X, T, $inner>
        where
            Given<X, T, $inner>: Nested<Arg = T>,
        {
            type Arg = T;
            type Wait = WaitOf<X, T, $inner>;

            fn into_wait(self) -> Self::Wait {
                Nested::into_wait(self)
            }
        }

        tuple!($inner in $outer: [] X0 A0 0, [X1 A1 1]);
        tuple!($inner in $outer: [A0 0] X1 A1 1, []);
        tuple!($inner in $outer: [] X0 A0 0, [X1 A1 1, X2 A2 2]);
        tuple!($inner in $outer: [A0 0] X1 A1 1, [X2 A2 2]);
        tuple!($inner in $outer: [A0 0, A1 1] X2 A2 2, []);
        tuple!($inner in $outer: [] X0 A0 0, [X1 A1 1, X2 A2 2, X3 A3 3]);
        tuple!($inner in $outer: [A0 0] X1 A1 1, [X2 A2 2, X3 A3 3]);
        tuple!($inner in $outer: [A0 0, A1 1] X2 A2 2, [X3 A3 3]);
        tuple!($inner in $outer: [A0 0, A1 1, A2 2] X3 A3 3, []);
    )*};
}

/// Implements [`Nested`] for tuples: `[plain values] the first part with a handle, [any parts]`.
macro_rules! tuple {
    ($inner:ident in $outer:ident: [$($P:ident $p:tt),*] $X:ident $A:ident $x:tt, [$($Y:ident $B:ident $y:tt),*]) => {
        #[diagnostic::do_not_recommend]
        impl<$($P: Send + 'static,)* $X, $A, $($Y, $B),*> Nested
            for Given<($($P,)* $X, $($Y),*), ($($P,)* $A, $($B),*), $outer>
        where
            Given<$X, $A, $inner>: Nested<Arg = $A>,
            $(Given<$Y, $B, $inner>: Part<Arg = $B>,)*
        {
            type Arg = ($($P,)* $A, $($B),*);
            type Wait = ($(Plain<$P>,)* WaitOf<$X, $A, $inner>, $(PartOf<$Y, $B, $inner>),*);

            fn into_wait(self) -> Self::Wait {
                let given = self.0;
                ($(Plain(given.$p),)* wait::<$X, $A, $inner>(given.$x), $(part::<$Y, $B, $inner>(given.$y)),*)
            }
        }
    };
}

levels! {
    Zero in One;
    One in Two;
    Two in Three;
    Three in Four;
    Four in Five;
    Five in Six;
}

/// Implements [`Input`] for tuples in which there's a handle.
macro_rules! tuples {
    ($($X:ident $A:ident),*) => {
        #[diagnostic::do_not_recommend]
        impl<$($X, $A),*> Input<($($A),*)> for ($($X),*)
        where
            Given<($($X),*), ($($A),*), Most>: Nested<Arg = ($($A),*)>,
        {
        }

        impl<$($X, $A),*> IntoWait<($($A),*)> for ($($X),*)
        where
            Given<($($X),*), ($($A),*), Most>: Nested<Arg = ($($A),*)>,
        {
            type Wait = WaitOf<($($X),*), ($($A),*), Most>;

            fn into_wait(self, _: InputSeal) -> Self::Wait {
                wait::<_, ($($A),*), Most>(self)
            }
        }
    };
}

tuples!(X0 A0, X1 A1);
tuples!(X0 A0, X1 A1, X2 A2);
tuples!(X0 A0, X1 A1, X2 A2, X3 A3);
