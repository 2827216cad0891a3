//! A handle that tells the model of its clones and of its end.

use ensue::Handle;

use super::instrumented::Value;
use super::model::Id;
use super::run_state::{model, with};

pub(crate) struct Tracked {
    pub(crate) id: Id,
    handle: Option<Handle<Value>>,
}

impl Tracked {
    /// For a handle that the model counts already.
    pub(crate) fn new(id: Id, handle: Handle<Value>) -> Self {
        Self { id, handle: Some(handle) }
    }

    pub(crate) fn handle(&self) -> &Handle<Value> {
        self.handle.as_ref().expect("it's there until it's given away")
    }

    /// The handle, which the model goes on counting.
    pub(crate) fn into_counted(mut self) -> (Id, Handle<Value>) {
        (self.id, self.handle.take().expect("it's there until it's given away"))
    }
}

impl Clone for Tracked {
    fn clone(&self) -> Self {
        model(|model| model.add_handle(self.id));
        Self { id: self.id, handle: self.handle.clone() }
    }
}

impl Drop for Tracked {
    /// The model is told first, so that it expects what the engine then does.
    fn drop(&mut self) {
        if self.handle.is_some() {
            model(|model| model.release(self.id));
        }
    }
}

/// The handle in a slot, cloned.
pub(crate) fn copy(slot: usize) -> Option<Tracked> {
    let copy = with(|world| {
        let tracked = world.slots[slot].as_ref()?;
        Some((tracked.id, tracked.handle().clone()))
    });
    copy.map(|(id, handle)| {
        model(|model| model.add_handle(id));
        Tracked::new(id, handle)
    })
}

/// The handle in a slot, taken out.
pub(crate) fn take(slot: usize) -> Option<Tracked> {
    with(|world| world.slots[slot].take())
}

pub(crate) fn put(slot: usize, tracked: Option<Tracked>) {
    let before = with(|world| std::mem::replace(&mut world.slots[slot], tracked));
    drop(before);
}
