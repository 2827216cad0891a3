//! Pickles without Python: a writer for the objects that Dask expects, and a reader that turns a pickle into plain
//! data.
//!
//! The reader never imports or calls anything. A class is a [`Node::Class`] with its name, a call a [`Node::Call`].

mod exception;
mod read;
mod write;

pub use exception::{Exception, exception};
pub use read::{Node, NodeId, Objects, read};
pub use write::{Pickler, builtin_error, class, runtime_error};
