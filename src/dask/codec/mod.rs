//! The engine's side of calls by name: encoding of inputs with handles, arguments of functions, and batches.
//!
//! The encoding itself is defined in [`wire::rust`](crate::dask::wire::rust).

mod args;
mod batch;
mod encoder;
mod problem;
pub(crate) mod visit;

pub use args::Arguments;
pub(crate) use args::decode;
pub(crate) use batch::Batch;
pub use encoder::Plain;
pub(crate) use encoder::{Encoded, Encoder};
pub(crate) use problem::{Problem, ProblemKind};

use super::wire::rust::{self, DecodeError};
use super::wire::serialized::Serialized;
use crate::Portable;

/// Encodes a value as an object.
pub(crate) fn write<T: Portable>(value: T) -> Result<Serialized, Problem> {
    Ok(rust::encode(value)?)
}

/// Decodes an object that [`write()`] or a Python worker has written.
pub(crate) fn read<T: Portable>(object: &Serialized) -> Result<T, DecodeError> {
    rust::decode(object)
}

#[cfg(test)]
mod tests;
