//! The arguments of registered functions.

use bytes::Bytes;

use super::Problem;
use crate::Portable;
use crate::dask::wire::rust::{self, Inputs};

/// The arguments of a function that can be called by name: a tuple of [`Portable`] values.
///
/// You never implement it yourself.
#[diagnostic::on_unimplemented(
    message = "a function that takes `{Self}` can't be called from another machine",
    note = "each argument must be `Serialize + DeserializeOwned + Clone + Send + Sync + 'static`",
    note = "`ensue::Ref<T>` doesn't travel between machines: take a `T`"
)]
pub trait Arguments: rust::Arguments + Send + 'static {}

macro_rules! tuples {
    ($($($A:ident)*;)*) => {$(
        impl<$($A: Portable),*> Arguments for ($($A,)*) {}
    )*};
}

tuples! {
    ;
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
    A B C D E F G H I;
    A B C D E F G H I J;
    A B C D E F G H I J K;
    A B C D E F G H I J K L;
}

/// Decodes the arguments of a call of `function`.
pub(crate) fn decode<A: Arguments>(
    function: &str,
    args: &Bytes,
    inputs: &mut Inputs,
) -> Result<A, Problem> {
    Ok(rust::decode_args(function, args, inputs)?)
}
