//! The traversal of inputs in containers; see [`nested`](crate::handle::nested).

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};

use super::portable::{Portable, PortableInput};
use crate::Handle;
use crate::client::visit::InputVisitor;
use crate::handle::nested::{
    Deeper, Five, Four, Given, Most, Nested, One, Part, Six, Three, Two, Zero,
};
use crate::task::seal::InputSeal;

/// A [`Nested`] input whose value is [`Portable`].
pub(crate) trait PortableNested: Nested {
    /// Calls the visitor for this and all that it contains.
    fn visit<V: InputVisitor>(self, to: &mut V);
}

/// A [`Part`] whose value is [`Portable`].
pub(crate) trait PortablePart: Part {
    /// Calls the visitor for this and all that it contains.
    fn visit<V: InputVisitor>(self, to: &mut V);
}

fn visit<X, T, D, V: InputVisitor>(given: X, to: &mut V)
where
    Given<X, T, D>: PortableNested<Arg = T>,
{
    PortableNested::visit(Given::<X, T, D>::new(given), to);
}

fn visit_part<X, T, D, V: InputVisitor>(given: X, to: &mut V)
where
    Given<X, T, D>: PortablePart<Arg = T>,
{
    PortablePart::visit(Given::<X, T, D>::new(given), to);
}

impl<T: Portable, D> PortableNested for Given<Handle<T>, T, D> {
    fn visit<V: InputVisitor>(self, to: &mut V) {
        to.handle(self.into_inner());
    }
}

impl<T: Portable, D> PortableNested for Given<&Handle<T>, T, D> {
    fn visit<V: InputVisitor>(self, to: &mut V) {
        to.handle_ref(self.into_inner());
    }
}

impl<T: Portable> PortableInput<T> for Handle<T> {
    fn visit<V: InputVisitor>(self, to: &mut V, _: InputSeal) {
        to.handle(self);
    }
}

impl<T: Portable> PortableInput<T> for &Handle<T> {
    fn visit<V: InputVisitor>(self, to: &mut V, _: InputSeal) {
        to.handle_ref(self);
    }
}

/// Implements [`PortableNested`] and [`PortableInput`] for containers of `X` whose arguments are containers of `T`.
macro_rules! containers {
    ($([$($life:lifetime)? $(; $($param:tt)*)?] $given:ty => $arg:ty, of $x:ty,
        $self:ident, $to:ident => $visit:expr;)*) => {$(
        impl<$($life,)? X, T: Portable, D, $($($param)*)?> PortableNested for Given<$given, $arg, Deeper<D>>
        where
            Given<$x, T, D>: PortableNested<Arg = T>,
        {
            fn visit<V: InputVisitor>(self, $to: &mut V) {
                let $self = self.into_inner();
                $visit
            }
        }

        impl<$($life,)? X, T: Portable, $($($param)*)?> PortableInput<$arg> for $given
        where
            Given<$given, $arg, Most>: PortableNested<Arg = $arg>,
        {
            fn visit<V: InputVisitor>(self, to: &mut V, _: InputSeal) {
                visit::<_, $arg, Most, V>(self, to);
            }
        }
    )*};
}

containers! {
    [] Vec<X> => Vec<T>, of X, given, to => list::<X, T, D, V>(given.len(), given, to);
    ['a] &'a Vec<X> => Vec<T>, of &'a X, given, to => list::<&'a X, T, D, V>(given.len(), given, to);
    ['a] &'a [X] => Vec<T>, of &'a X, given, to => list::<&'a X, T, D, V>(given.len(), given, to);
    [] Box<[X]> => Vec<T>, of X, given, to => list::<X, T, D, V>(given.len(), Vec::from(given), to);
    [; const N: usize] [X; N] => Vec<T>, of X, given, to => list::<X, T, D, V>(N, given, to);
    ['a; const N: usize] &'a [X; N] => Vec<T>, of &'a X, given, to => list::<&'a X, T, D, V>(N, given, to);
    [; const N: usize] [X; N] => [T; N], of X, given, to => list::<X, T, D, V>(N, given, to);
    ['a; const N: usize] &'a [X; N] => [T; N], of &'a X, given, to => list::<&'a X, T, D, V>(N, given, to);
    [] Option<X> => Option<T>, of X, given, to => option::<X, T, D, V>(given, to);
    ['a] &'a Option<X> => Option<T>, of &'a X, given, to => option::<&'a X, T, D, V>(given.as_ref(), to);
    [; E: Portable] Result<X, E> => Result<T, E>, of X, given, to => result::<X, T, E, D, V>(given, to);
    [; K: Portable + Eq + Hash, S: BuildHasher + Default + Send + 'static]
        HashMap<K, X, S> => HashMap<K, T, S>, of X, given, to => map::<K, X, T, D, V>(given.len(), given, to);
    ['a; K: Portable + Eq + Hash, S: BuildHasher + Default + Send + 'static]
        &'a HashMap<K, X, S> => HashMap<K, T, S>, of &'a X,
        given, to => map::<&'a K, &'a X, T, D, V>(given.len(), given, to);
    [; K: Portable + Ord] BTreeMap<K, X> => BTreeMap<K, T>, of X,
        given, to => map::<K, X, T, D, V>(given.len(), given, to);
    ['a; K: Portable + Ord] &'a BTreeMap<K, X> => BTreeMap<K, T>, of &'a X,
        given, to => map::<&'a K, &'a X, T, D, V>(given.len(), given, to);
}

fn list<X, T, D, V: InputVisitor>(len: usize, items: impl IntoIterator<Item = X>, to: &mut V)
where
    Given<X, T, D>: PortableNested<Arg = T>,
{
    to.list(len);
    items.into_iter().for_each(|item| visit::<X, T, D, V>(item, to));
}

fn option<X, T, D, V: InputVisitor>(given: Option<X>, to: &mut V)
where
    Given<X, T, D>: PortableNested<Arg = T>,
{
    match given {
        Some(inside) => visit::<X, T, D, V>(inside, to),
        None => to.plain(&()),
    }
}

/// As serde writes an enum: a map from the name of the variant to what is in it.
fn result<X, T, E: Portable, D, V: InputVisitor>(given: Result<X, E>, to: &mut V)
where
    Given<X, T, D>: PortableNested<Arg = T>,
{
    to.map(1);
    match given {
        Ok(inside) => {
            to.plain("Ok");
            visit::<X, T, D, V>(inside, to);
        }
        Err(error) => {
            to.plain("Err");
            to.plain(&error);
        }
    }
}

fn map<K, X, T, D, V>(len: usize, pairs: impl IntoIterator<Item = (K, X)>, to: &mut V)
where
    K: serde::Serialize,
    Given<X, T, D>: PortableNested<Arg = T>,
    V: InputVisitor,
{
    to.map(len);
    for (key, value) in pairs {
        to.plain(&key);
        visit::<X, T, D, V>(value, to);
    }
}

/// Implements [`PortablePart`], and [`PortableNested`] for tuples, at each number of containers.
macro_rules! levels {
    ($($inner:ident in $outer:ident;)*) => {$(
        impl<T: Portable> PortablePart for Given<T, T, $inner> {
            fn visit<V: InputVisitor>(self, to: &mut V) {
                to.value(self.into_inner());
            }
        }

        impl<X, T> PortablePart for Given<X, T, $inner>
        where
            Given<X, T, $inner>: PortableNested<Arg = T>,
        {
            fn visit<V: InputVisitor>(self, to: &mut V) {
                PortableNested::visit(self, to);
            }
        }

        tuple!(2 $inner in $outer: [] X0 A0 0, [X1 A1 1]);
        tuple!(2 $inner in $outer: [A0 0] X1 A1 1, []);
        tuple!(3 $inner in $outer: [] X0 A0 0, [X1 A1 1, X2 A2 2]);
        tuple!(3 $inner in $outer: [A0 0] X1 A1 1, [X2 A2 2]);
        tuple!(3 $inner in $outer: [A0 0, A1 1] X2 A2 2, []);
        tuple!(4 $inner in $outer: [] X0 A0 0, [X1 A1 1, X2 A2 2, X3 A3 3]);
        tuple!(4 $inner in $outer: [A0 0] X1 A1 1, [X2 A2 2, X3 A3 3]);
        tuple!(4 $inner in $outer: [A0 0, A1 1] X2 A2 2, [X3 A3 3]);
        tuple!(4 $inner in $outer: [A0 0, A1 1, A2 2] X3 A3 3, []);
    )*};
}

/// Implements [`PortableNested`] for tuples: `[plain values] the first part with a handle, [any parts]`.
macro_rules! tuple {
    ($n:literal $inner:ident in $outer:ident:
        [$($P:ident $p:tt),*] $X:ident $A:ident $x:tt, [$($Y:ident $B:ident $y:tt),*]) => {
        impl<$($P: Portable,)* $X, $A, $($Y, $B),*> PortableNested
            for Given<($($P,)* $X, $($Y),*), ($($P,)* $A, $($B),*), $outer>
        where
            Given<$X, $A, $inner>: PortableNested<Arg = $A>,
            $(Given<$Y, $B, $inner>: PortablePart<Arg = $B>,)*
        {
            fn visit<V: InputVisitor>(self, to: &mut V) {
                let given = self.into_inner();
                to.list($n);
                $(to.value(given.$p);)*
                visit::<$X, $A, $inner, V>(given.$x, to);
                $(visit_part::<$Y, $B, $inner, V>(given.$y, to);)*
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

/// Implements [`PortableInput`] for tuples in which there's a handle.
macro_rules! tuples {
    ($($X:ident $A:ident),*) => {
        impl<$($X, $A),*> PortableInput<($($A),*)> for ($($X),*)
        where
            Given<($($X),*), ($($A),*), Most>: PortableNested<Arg = ($($A),*)>,
        {
            fn visit<V: InputVisitor>(self, to: &mut V, _: InputSeal) {
                visit::<_, ($($A),*), Most, V>(self, to);
            }
        }
    };
}

tuples!(X0 A0, X1 A1);
tuples!(X0 A0, X1 A1, X2 A2);
tuples!(X0 A0, X1 A1, X2 A2, X3 A3);
