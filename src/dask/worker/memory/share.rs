//! The shares of the workers in the memory of their process.

use std::sync::MutexGuard;

use slab::Slab;

use crate::engine::base::lock::Lock;

/// The managed bytes of each worker in a process. A process may have several workers, and what it uses besides their
/// results must be counted once, not once per worker.
#[derive(Debug)]
struct ProcessWorkers(Lock<Slab<u64>>);

static WORKERS: ProcessWorkers = ProcessWorkers::new();

impl ProcessWorkers {
    const fn new() -> Self {
        Self(Lock::new(Slab::new()))
    }

    fn lock(&self) -> MutexGuard<'_, Slab<u64>> {
        self.0.lock()
    }

    fn register(&'static self) -> ProcessShare {
        ProcessShare { workers: self, id: self.lock().insert(0) }
    }
}

/// A worker's registration among the workers of its process.
#[derive(Debug)]
pub(crate) struct ProcessShare {
    workers: &'static ProcessWorkers,
    id: usize,
}

impl ProcessShare {
    pub(crate) fn new() -> Self {
        WORKERS.register()
    }

    /// Returns the bytes to count for this worker: the `managed` bytes of its results, and an equal share of what the
    /// process uses besides the results of all workers.
    pub(crate) fn share(&self, process: u64, managed: u64) -> u64 {
        let mut workers = self.workers.lock();
        // The others see this worker's bytes as they were at its last call, which is recent enough.
        if let Some(known) = workers.get_mut(self.id) {
            *known = managed;
        }
        let all: u64 = workers.iter().map(|(_, managed)| *managed).sum();
        managed + process.saturating_sub(all) / workers.len().max(1) as u64
    }
}

impl Drop for ProcessShare {
    fn drop(&mut self) {
        self.workers.lock().try_remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmanaged_memory_is_divided_equally() {
        static WORKERS: ProcessWorkers = ProcessWorkers::new();
        let (one, two) = (WORKERS.register(), WORKERS.register());
        assert_eq!(one.share(1000, 100), 100 + 900 / 2);
        assert_eq!(two.share(1000, 300), 300 + 600 / 2);
        drop(one);
        assert_eq!(two.share(1000, 300), 1000);
        assert_eq!(two.share(10, 300), 300);
    }
}
