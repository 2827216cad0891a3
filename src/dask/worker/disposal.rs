//! Dropping results where nobody waits for it.
//!
//! It may take long: much memory goes back to the system page by page, and a disk may be slow. The thread that
//! talks has heartbeats to send meanwhile, and without them the scheduler forgets the worker.

use async_channel::{Receiver, Sender};

use super::store::Value;

/// Less is dropped on the spot, which takes no longer than handing it on.
const LARGE: u64 = 1 << 20;

/// Takes what is to be dropped.
pub(super) struct Disposal {
    memory: Sender<Value>,
    files: Sender<Value>,
}

impl Disposal {
    /// What is to be emptied by [`dispose`], too: memory doesn't wait for a disk.
    pub(super) fn new() -> (Self, [Receiver<Value>; 2]) {
        let (memory, memory_to) = async_channel::unbounded();
        let (files, files_to) = async_channel::unbounded();
        (Self { memory, files }, [memory_to, files_to])
    }

    pub(super) fn take(&self, value: Value) {
        let to = match &value {
            Value::Memory(value) if value.nbytes() < LARGE => return,
            Value::Memory(_) => &self.memory,
            Value::Disk(_) => &self.files,
        };
        // If nobody empties it any more, that happens here.
        drop(to.try_send(value));
    }
}

/// Drops what comes, one after the other, on a thread that may block.
pub(super) async fn dispose(values: Receiver<Value>) {
    while let Ok(first) = values.recv().await {
        let more = values.clone();
        blocking::unblock(move || {
            drop(first);
            while more.try_recv().is_ok() {}
        })
        .await;
    }
}
