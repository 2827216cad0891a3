//! Results to drop, and the task that drops them on a thread that may block.
//!
//! Dropping takes long where much memory is returned to the system page by page, or a disk is slow. The thread that
//! drives the connections has to send heartbeats meanwhile: without them the scheduler removes the worker.

use async_channel::{Receiver, Sender};

use super::store::StoredValue;

/// Smaller results are dropped immediately, which takes no longer than sending them.
const LARGE: u64 = 1 << 20;

/// The queues of results to drop.
pub(crate) struct Disposal {
    memory: Sender<StoredValue>,
    files: Sender<StoredValue>,
}

impl Disposal {
    /// Returns empty queues and their receivers, each of which needs a [`dispose`] of its own: memory must not wait
    /// for a disk.
    pub(crate) fn new() -> (Self, [Receiver<StoredValue>; 2]) {
        let (memory, memory_receiver) = async_channel::unbounded();
        let (files, files_receiver) = async_channel::unbounded();
        (Self { memory, files }, [memory_receiver, files_receiver])
    }

    /// Drops a result, mostly later and on another thread.
    pub(crate) fn push(&self, value: StoredValue) {
        let queue = match &value {
            StoredValue::Memory(value) if value.nbytes() < LARGE => return,
            StoredValue::Memory(_) => &self.memory,
            StoredValue::Disk(_) => &self.files,
        };
        // After the worker has shut down there's no receiver, and the value is dropped on this thread.
        drop(queue.try_send(value));
    }
}

/// Drops the results of one queue, one after the other.
pub(crate) async fn dispose(values: Receiver<StoredValue>) {
    while let Ok(first) = values.recv().await {
        let more = values.clone();
        // One switch of threads for all results that are queued by now.
        blocking::unblock(move || {
            drop(first);
            while more.try_recv().is_ok() {}
        })
        .await;
    }
}
