//! Values and arguments as they travel: msgpack, with places for the results of other tasks.

mod args;
mod batch;
mod encoder;
mod places;
mod problem;
mod python;
mod scan;
mod value;

pub use args::{Arguments, Inputs, Reader, decode};
pub(crate) use batch::Batch;
pub use encoder::{Encode, Encoder, Plain};
pub(crate) use places::Place;
pub(crate) use problem::short;
pub use problem::{Misfit, Problem, ProblemKind};
pub use value::{read, write};

#[cfg(test)]
mod tests;
