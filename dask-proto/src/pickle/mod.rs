//! Python's pickles: the few that Dask wants from us, written by hand, and those of exceptions, read without
//! running anything.

mod exception;
mod read;
mod write;

pub use exception::{Exception, exception};
pub use read::{Node, NodeId, Objects, read};
pub use write::{Pickler, builtin_error, class, runtime_error};
