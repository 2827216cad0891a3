//! The traversal of inputs whose shape alone says how they're visited: those of Python functions, which have no types.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::Handle;
use crate::client::visit::InputVisitor;

/// A type whose shape alone says how it's visited: a handle, plain data, or a container of these.
#[allow(unreachable_pub)] // part of a bound of `dask::PythonInputs`
pub trait Visit {
    /// Calls the visitor for this and all that it contains.
    fn visit<V: InputVisitor>(self, to: &mut V);
}

impl<T> Visit for Handle<T> {
    fn visit<V: InputVisitor>(self, to: &mut V) {
        to.handle(self);
    }
}

impl<T> Visit for &Handle<T> {
    fn visit<V: InputVisitor>(self, to: &mut V) {
        to.handle_ref(self);
    }
}

macro_rules! lists {
    ($([$($param:tt)*] $list:ty;)*) => {$(
        impl<$($param)*> Visit for $list
        where
            <$list as IntoIterator>::Item: Visit,
        {
            fn visit<V: InputVisitor>(self, to: &mut V) {
                to.list(self.len());
                self.into_iter().for_each(|item| item.visit(to));
            }
        }
    )*};
}

lists! {
    [X] Vec<X>;
    ['a, X] &'a Vec<X>;
    ['a, X] &'a [X];
    [X, const N: usize] [X; N];
    ['a, X, const N: usize] &'a [X; N];
}

impl<X: Visit> Visit for Box<[X]> {
    fn visit<V: InputVisitor>(self, to: &mut V) {
        Vec::from(self).visit(to);
    }
}

impl<X: Visit> Visit for Option<X> {
    fn visit<V: InputVisitor>(self, to: &mut V) {
        match self {
            Some(inside) => inside.visit(to),
            None => to.plain(&()),
        }
    }
}

impl<'a, X> Visit for &'a Option<X>
where
    &'a X: Visit,
{
    fn visit<V: InputVisitor>(self, to: &mut V) {
        self.as_ref().visit(to);
    }
}

macro_rules! maps {
    ($([$($param:tt)*] $map:ty, $value:ty;)*) => {$(
        impl<$($param)*> Visit for $map
        where
            K: Serialize,
            $value: Visit,
        {
            fn visit<V: InputVisitor>(self, to: &mut V) {
                to.map(self.len());
                for (key, value) in self {
                    to.plain(&key);
                    value.visit(to);
                }
            }
        }
    )*};
}

maps! {
    [K, X] BTreeMap<K, X>, X;
    ['a, K, X] &'a BTreeMap<K, X>, &'a X;
    [K, X, S] HashMap<K, X, S>, X;
    ['a, K, X, S] &'a HashMap<K, X, S>, &'a X;
}
