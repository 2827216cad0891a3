//! The records that the state machine keeps of keys, tasks and attempts.

use std::time::Instant;

use crate::dask::wire::WireKey;
use crate::dask::wire::rust::is_partial;
use crate::dask::wire::serialized::Serialized;
use crate::dask::wire::worker::order::{Priority, Rust};
use crate::dask::wire::worker::report::StartStop;

pub(super) type Table<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;

/// The resources that a task occupies while it runs: names and amounts.
pub(super) type Resources = Vec<(String, f64)>;

/// All that is known of a key. It exists while any of the fields is in use.
#[derive(Default)]
pub(super) struct TaskState {
    /// The task, from its order until its outcome is known.
    pub(super) task: Option<Box<ComputeTask>>,
    /// The result, while it's stored.
    pub(super) result: Option<InMemory>,
    /// The number of unfinished tasks on this worker that take the result.
    pub(super) dependents: usize,
    /// The dependents that wait for the result, with the sequence number of each order. Cancelled tasks are removed
    /// only together, so an entry counts only if the task still has that number.
    pub(super) waiters: Vec<(WireKey, u64)>,
    /// The attempt in state `cancelled`.
    pub(super) cancelled: Option<u64>,
}

impl TaskState {
    pub(super) fn is_unused(&self) -> bool {
        self.task.is_none()
            && self.result.is_none()
            && self.dependents == 0
            && self.cancelled.is_none()
    }
}

/// A task that the scheduler has ordered and whose outcome isn't known yet.
pub(super) struct ComputeTask {
    pub(super) run: i64,
    pub(super) stimulus: String,
    pub(super) rank: Rank,
    pub(super) resources: Resources,
    /// Without duplicates.
    pub(super) inputs: Vec<WireKey>,
    pub(super) phase: Phase,
}

pub(super) enum Phase {
    /// For this number of inputs; an earlier attempt of the key that still runs counts as one more.
    Waiting(usize, Rust),
    Ready(Rust),
    /// The attempt that runs it.
    Executing(u64),
}

/// The position of a task in the queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) priority: Priority,
    /// Unique: tasks of equal priority start in the order in which they came.
    pub(super) sequence: u64,
}

/// An attempt to run a task, which occupies a thread.
pub(super) struct Attempt {
    pub(super) key: WireKey,
    pub(super) resources: Resources,
    pub(super) since: Instant,
    /// False once the task was cancelled or its outcome is known.
    pub(super) is_wanted: bool,
}

/// A stored result, and when it was computed.
#[derive(Clone, Copy)]
pub(super) struct InMemory {
    pub(super) meta: ResultMeta,
    pub(super) took: StartStop,
}

/// The size of a result, and whether it's complete.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ResultMeta {
    pub(crate) nbytes: u64,
    /// Whether only some calls of a batch were made.
    pub(crate) is_partial: bool,
}

impl ResultMeta {
    /// Returns the size and completeness of a value.
    pub(crate) fn of(value: &Serialized) -> Self {
        Self { nbytes: value.nbytes(), is_partial: is_partial(value) }
    }

    #[cfg(test)]
    pub(crate) fn complete(nbytes: u64) -> Self {
        Self { nbytes, is_partial: false }
    }
}
