//! Values and arguments as they travel: msgpack, with places for the results of other tasks.

mod args;
mod batch;
mod encoder;
mod items;
mod nothing;
mod places;
mod problem;
mod python;
mod scan;
mod spare;
mod value;

pub use args::{Arguments, Inputs, Reader, decode};
pub(crate) use batch::Batch;
pub(crate) use encoder::Encoded;
pub use encoder::{Encode, Encoder, Plain};
pub(crate) use items::Items;
pub(crate) use places::Place;
pub(crate) use problem::short;
pub use problem::{Misfit, Problem, ProblemKind};
pub(crate) use spare::{Missing, Spare, filled, missing, pick, picked};
pub(crate) use value::{is_partial, list};
pub use value::{read, write};

/// What comes before a function's name where it's to be called many times.
pub(crate) const MANY: char = '*';
/// What a function is called that gives what it's given: an item of a list, as a result of its own.
pub(crate) const PICK: &str = "=";

#[cfg(test)]
mod tests;
