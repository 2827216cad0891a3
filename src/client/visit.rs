//! The traversal of inputs by an engine that sends them to other machines.

use serde::Serialize;

use crate::{Handle, Portable};

/// A visitor of inputs: it's called for each value and each handle, from the outside to the inside.
pub trait InputVisitor {
    /// Visits an input that is a value. Bytes may be sent as such.
    fn value<T: Portable>(&mut self, value: T);

    /// Visits a part of an input that is neither a handle nor a container of them: a map's key, or a value of plain
    /// data.
    fn plain<T: Serialize + ?Sized>(&mut self, value: &T);

    /// Visits a handle.
    fn handle<T>(&mut self, handle: Handle<T>);

    /// Visits a borrowed handle.
    fn handle_ref<T>(&mut self, handle: &Handle<T>);

    /// Enters a list; `len` items follow.
    fn list(&mut self, len: usize);

    /// Enters a map; `len` pairs of key and value follow.
    fn map(&mut self, len: usize);
}
