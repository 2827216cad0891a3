//! Calls of Rust functions through a stock scheduler, as `ensue`'s clients and workers make them.
//!
//! Dask has no tasks in other languages than Python. A task for a Rust worker has the annotation
//! [`rust`](crate::graph::RUST), a map of
//!
//! | field     | content                                                                                       |
//! |-----------|-----------------------------------------------------------------------------------------------|
//! | `fn`      | the name under which the worker has registered the function                                   |
//! | `args`    | a msgpack array of the arguments, with a [`Placeholder`] where the result of a task belongs   |
//! | `deps`    | the keys of these tasks, in the order in which the placeholders count them                    |
//! | `timeout` | optional, the seconds that the call may take                                                  |
//!
//! Such a task also asks for the resource `rust`, which only Rust workers have.
//!
//! A result is a [`Serialized`](crate::serialized::Serialized) that [`encode`] writes and [`decode`] reads: bytes as
//! Python's `bytes`, everything else as msgpack, with the name of the Rust type in the header. [`decode`] also reads
//! what Python workers return, as long as it's plain data.
//!
//! Two more forms of calls exist:
//!
//! * A *batch*, the function's name after [`BATCH_PREFIX`] and as `args` an array of the arguments of many calls
//!   ([`batch_args`]). Its result is an array of results ([`ListWriter`]), which may be [partial](is_partial).
//! * A *pick*, the function [`PICK_FUNCTION`], whose result is an [item](pick_item) of another task's result.
//!
//! A placeholder of an item of a batch also has the [call](ItemCall) that computes the item, for the case that the
//! batch is lost with its worker and shorter when it's computed again.

mod ambiguity;
mod args;
mod error;
mod fallback;
mod items;
mod placeholder;
mod python;
mod typed;

pub use args::{ArgumentReader, Arguments, Inputs, batch_args, decode_args};
pub use error::{ArgumentError, DecodeError, EncodeError, short_type_name};
pub use fallback::{ItemCall, MissingItem, fill_missing, missing_items, pick_args, pick_item};
pub use items::Items;
pub use placeholder::{MalformedPlaceholder, Placeholder};
pub use typed::{ListWriter, append, append_owned, decode, encode, is_partial};

/// Precedes the name of a function that is to be called many times.
pub const BATCH_PREFIX: char = '*';
/// The name of the function that returns its only argument: an item of a list, as a result of its own.
pub const PICK_FUNCTION: &str = "=";

#[cfg(test)]
mod tests;
