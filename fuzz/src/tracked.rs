//! A handle whose clones and drop are reported to the model.

use ensue::Handle;

use super::instrumented::Value;
use super::model::Id;
use super::run_state::{model, with};

pub(crate) struct Tracked {
    pub(crate) id: Id,
    handle: Option<Handle<Value>>,
}

impl Tracked {
    /// Wraps a handle that the model counts already.
    pub(crate) fn new(id: Id, handle: Handle<Value>) -> Self {
        Self { id, handle: Some(handle) }
    }

    pub(crate) fn handle(&self) -> &Handle<Value> {
        self.handle.as_ref().expect("present until `into_counted`")
    }

    /// Returns the handle, which the model still counts.
    pub(crate) fn into_counted(mut self) -> (Id, Handle<Value>) {
        (self.id, self.handle.take().expect("present until `into_counted`"))
    }
}

impl Clone for Tracked {
    fn clone(&self) -> Self {
        model(|model| model.add_handle(self.id));
        Self { id: self.id, handle: self.handle.clone() }
    }
}

impl Drop for Tracked {
    /// Updates the model before the engine drops the handle, so that it expects the consequences.
    fn drop(&mut self) {
        if self.handle.is_some() {
            model(|model| model.release(self.id));
        }
    }
}

/// Clones the handle in a slot.
pub(crate) fn copy(slot: usize) -> Option<Tracked> {
    let copy = with(|state| {
        let tracked = state.slots[slot].as_ref()?;
        Some((tracked.id, tracked.handle().clone()))
    });
    copy.map(|(id, handle)| {
        model(|model| model.add_handle(id));
        Tracked::new(id, handle)
    })
}

/// Takes the handle out of a slot.
pub(crate) fn take(slot: usize) -> Option<Tracked> {
    with(|state| state.slots[slot].take())
}

pub(crate) fn put(slot: usize, tracked: Option<Tracked>) {
    let before = with(|state| std::mem::replace(&mut state.slots[slot], tracked));
    drop(before);
}
