//! The inputs of tasks.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;

use crate::engine::task::edges::{Array, ByRef, ByValue, Many, Maybe, Pairs, Plain, Waits};
use crate::{Handle, Ref};

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
/// You never implement it yourself.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an input for an argument of type `{T}`",
    label = "expected a `{T}`, or a `Handle` of one",
    note = "a handle's value arrives as `T`, which must be `Clone + Send + Sync`, or as `ensue::Ref<T>`",
    note = "several inputs are given as one tuple: `(&x, 7)`"
)]
pub trait Input<T> {
    #[doc(hidden)]
    type Wait: Waits<Args = T>;

    #[doc(hidden)]
    fn into_wait(self) -> Self::Wait;
}

/// The inputs of a task, which become the arguments `A`, a tuple.
///
/// They are a bare [`Input`] for one argument, a tuple of inputs for several, and `()` for none. You never implement
/// it yourself.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the inputs for the arguments `{A}`",
    label = "these inputs don't fit the function's arguments `{A}`",
    note = "inputs are given bare where there is one, as a tuple `(&x, 7)` where there are several, and as `()` where there is none",
    note = "a handle's value arrives as `T`, which must be `Clone + Send + Sync`, or as `ensue::Ref<T>`"
)]
pub trait Inputs<A> {
    #[doc(hidden)]
    type Waits: Waits<Args = A>;

    #[doc(hidden)]
    fn into_waits(self) -> Self::Waits;
}

impl<T: Send + 'static> Input<T> for T {
    type Wait = Plain<T>;

    fn into_wait(self) -> Plain<T> {
        Plain(self)
    }
}

impl<T: Clone + Send + Sync + 'static> Input<T> for Handle<T> {
    type Wait = ByValue<T>;

    fn into_wait(self) -> ByValue<T> {
        ByValue::new(self.into_typed())
    }
}

impl<T: Clone + Send + Sync + 'static> Input<T> for &Handle<T> {
    type Wait = ByValue<T>;

    fn into_wait(self) -> ByValue<T> {
        ByValue::new(self.typed().clone())
    }
}

impl<T: Send + Sync + 'static> Input<Ref<T>> for Handle<T> {
    type Wait = ByRef<T>;

    fn into_wait(self) -> ByRef<T> {
        ByRef::new(self.into_typed())
    }
}

impl<T: Send + Sync + 'static> Input<Ref<T>> for &Handle<T> {
    type Wait = ByRef<T>;

    fn into_wait(self) -> ByRef<T> {
        ByRef::new(self.typed().clone())
    }
}

/// Implements [`Input`] for containers of handles, whose arguments are containers of `$value`.
macro_rules! containers {
    ($($value:ty, $wait:ty, [$($bound:tt)*];)*) => {$(
        impl<T: $($bound)*> Input<Vec<$value>> for Vec<Handle<T>> {
            type Wait = Many<$wait>;
            fn into_wait(self) -> Self::Wait {
                Many(self.into_iter().map(into_wait::<_, $value>).collect())
            }
        }

        impl<T: $($bound)*> Input<Vec<$value>> for Vec<&Handle<T>> {
            type Wait = Many<$wait>;
            fn into_wait(self) -> Self::Wait {
                Many(self.into_iter().map(into_wait::<_, $value>).collect())
            }
        }

        impl<T: $($bound)*> Input<Vec<$value>> for &Vec<Handle<T>> {
            type Wait = Many<$wait>;
            fn into_wait(self) -> Self::Wait {
                Many(self.iter().map(into_wait::<_, $value>).collect())
            }
        }

        impl<T: $($bound)*> Input<Vec<$value>> for &[Handle<T>] {
            type Wait = Many<$wait>;
            fn into_wait(self) -> Self::Wait {
                Many(self.iter().map(into_wait::<_, $value>).collect())
            }
        }

        impl<T: $($bound)*> Input<Vec<$value>> for Box<[Handle<T>]> {
            type Wait = Many<$wait>;
            fn into_wait(self) -> Self::Wait {
                Many(Vec::from(self).into_iter().map(into_wait::<_, $value>).collect())
            }
        }

        impl<T: $($bound)*, const N: usize> Input<Vec<$value>> for [Handle<T>; N] {
            type Wait = Many<$wait>;
            fn into_wait(self) -> Self::Wait {
                Many(self.into_iter().map(into_wait::<_, $value>).collect())
            }
        }

        impl<T: $($bound)*, const N: usize> Input<Vec<$value>> for [&Handle<T>; N] {
            type Wait = Many<$wait>;
            fn into_wait(self) -> Self::Wait {
                Many(self.into_iter().map(into_wait::<_, $value>).collect())
            }
        }

        impl<T: $($bound)*, const N: usize> Input<Vec<$value>> for &[Handle<T>; N] {
            type Wait = Many<$wait>;
            fn into_wait(self) -> Self::Wait {
                Many(self.iter().map(into_wait::<_, $value>).collect())
            }
        }

        impl<T: $($bound)*, const N: usize> Input<[$value; N]> for [Handle<T>; N] {
            type Wait = Array<$wait, N>;
            fn into_wait(self) -> Self::Wait {
                Array(self.map(into_wait::<_, $value>))
            }
        }

        impl<T: $($bound)*, const N: usize> Input<[$value; N]> for [&Handle<T>; N] {
            type Wait = Array<$wait, N>;
            fn into_wait(self) -> Self::Wait {
                Array(self.map(into_wait::<_, $value>))
            }
        }

        impl<T: $($bound)*, const N: usize> Input<[$value; N]> for &[Handle<T>; N] {
            type Wait = Array<$wait, N>;
            fn into_wait(self) -> Self::Wait {
                Array(self.each_ref().map(into_wait::<_, $value>))
            }
        }

        impl<T: $($bound)*> Input<Vec<Vec<$value>>> for Vec<Vec<Handle<T>>> {
            type Wait = Many<Many<$wait>>;
            fn into_wait(self) -> Self::Wait {
                Many(self.into_iter().map(into_wait::<_, Vec<$value>>).collect())
            }
        }

        impl<T: $($bound)*> Input<Vec<Vec<$value>>> for &Vec<Vec<Handle<T>>> {
            type Wait = Many<Many<$wait>>;
            fn into_wait(self) -> Self::Wait {
                Many(self.iter().map(into_wait::<_, Vec<$value>>).collect())
            }
        }

        impl<T: $($bound)*> Input<Option<$value>> for Option<Handle<T>> {
            type Wait = Maybe<$wait>;
            fn into_wait(self) -> Self::Wait {
                Maybe(self.map(into_wait::<_, $value>))
            }
        }

        impl<T: $($bound)*> Input<Option<$value>> for Option<&Handle<T>> {
            type Wait = Maybe<$wait>;
            fn into_wait(self) -> Self::Wait {
                Maybe(self.map(into_wait::<_, $value>))
            }
        }

        impl<T: $($bound)*> Input<Option<$value>> for &Option<Handle<T>> {
            type Wait = Maybe<$wait>;
            fn into_wait(self) -> Self::Wait {
                Maybe(self.as_ref().map(into_wait::<_, $value>))
            }
        }

        impl<K, T, S> Input<HashMap<K, $value, S>> for HashMap<K, Handle<T>, S>
        where
            K: Eq + Hash + Send + 'static,
            T: $($bound)*,
            S: BuildHasher + Default + Send + 'static,
        {
            type Wait = Pairs<K, $wait, HashMap<K, $value, S>>;
            fn into_wait(self) -> Self::Wait {
                let pairs = self.into_iter().map(|(key, handle)| (key, into_wait::<_, $value>(handle)));
                Pairs(pairs.collect(), PhantomData)
            }
        }

        impl<K, T, S> Input<HashMap<K, $value, S>> for &HashMap<K, Handle<T>, S>
        where
            K: Eq + Hash + Clone + Send + 'static,
            T: $($bound)*,
            S: BuildHasher + Default + Send + 'static,
        {
            type Wait = Pairs<K, $wait, HashMap<K, $value, S>>;
            fn into_wait(self) -> Self::Wait {
                let pairs = self.iter().map(|(key, handle)| (key.clone(), into_wait::<_, $value>(handle)));
                Pairs(pairs.collect(), PhantomData)
            }
        }

        impl<K, T> Input<BTreeMap<K, $value>> for BTreeMap<K, Handle<T>>
        where
            K: Ord + Send + 'static,
            T: $($bound)*,
        {
            type Wait = Pairs<K, $wait, BTreeMap<K, $value>>;
            fn into_wait(self) -> Self::Wait {
                let pairs = self.into_iter().map(|(key, handle)| (key, into_wait::<_, $value>(handle)));
                Pairs(pairs.collect(), PhantomData)
            }
        }

        impl<K, T> Input<BTreeMap<K, $value>> for &BTreeMap<K, Handle<T>>
        where
            K: Ord + Clone + Send + 'static,
            T: $($bound)*,
        {
            type Wait = Pairs<K, $wait, BTreeMap<K, $value>>;
            fn into_wait(self) -> Self::Wait {
                let pairs = self.iter().map(|(key, handle)| (key.clone(), into_wait::<_, $value>(handle)));
                Pairs(pairs.collect(), PhantomData)
            }
        }
    )*};
}

/// Calls `Input::into_wait`, with the type of the argument as a parameter.
fn into_wait<X: Input<T>, T>(input: X) -> X::Wait {
    input.into_wait()
}

containers! {
    T, ByValue<T>, [Clone + Send + Sync + 'static];
    Ref<T>, ByRef<T>, [Send + Sync + 'static];
}

impl Inputs<()> for () {
    type Waits = ();

    fn into_waits(self) {}
}

impl<A, X: Input<A>> Inputs<(A,)> for X {
    type Waits = (X::Wait,);

    fn into_waits(self) -> Self::Waits {
        (self.into_wait(),)
    }
}

macro_rules! tuples {
    ($($A:ident $X:ident $at:tt),*) => {
        impl<$($A, $X: Input<$A>),*> Inputs<($($A,)*)> for ($($X,)*) {
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
