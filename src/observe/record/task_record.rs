//! The record of one task.

use std::mem;
use std::sync::Arc;

use crate::task::key;
use crate::task::subject::SubmittedAt;
use crate::{Key, Status};

/// The capacity that the lists of a forgotten task keep for the next one.
const LIST_CAPACITY: usize = 8;

/// The maximum number of transitions that are kept of a task: the first ones and the last ones.
const TRANSITIONS: usize = 100;

pub(crate) struct TaskRecord {
    /// The index of its function's name.
    pub(crate) name: u32,
    pub(crate) key_source: KeySource,
    pub(crate) submitted_at: SubmittedAt,
    pub(crate) status: Status,
    /// It waits for a limit or its next attempt. Its future may be polled meanwhile, which must not show as running.
    pub(crate) parked: bool,
    /// Its value is in memory.
    pub(crate) held: bool,
    /// The memory of the task was freed.
    pub(crate) freed: bool,
    pub(crate) priority: i32,
    /// One more than the greatest depth of its inputs and of the task that has submitted it.
    pub(crate) depth: u32,
    /// 1 for the first.
    pub(crate) attempt: u32,
    /// The worker that polls it.
    pub(crate) worker: Option<u32>,
    /// When the current or the last poll began.
    pub(crate) polled_at: u64,
    /// The sum of its polls, in nanoseconds.
    pub(crate) run_time: u64,
    pub(crate) edges: Vec<Edge>,
    pub(crate) transitions: Vec<Transition>,
    /// How many transitions were not kept.
    pub(crate) transitions_dropped: u32,
    pub(crate) error: Option<Arc<str>>,
    /// The revision of its last change.
    pub(crate) revision: u64,
    /// The index of that in the change log, counted from the first entry there ever was.
    pub(crate) log_index: u64,
}

/// The parts that a task's key is made from. A key is made only when it's shown: most never are.
pub(crate) enum KeySource {
    /// Its name and its number.
    Number,
    /// The key itself.
    Given(Key),
    /// Its name and the digest of a pure call.
    Derived(Box<u128>),
}

/// An edge to the task that has it in its record.
#[derive(Clone, Copy)]
pub(crate) struct Edge {
    pub(crate) from: u64,
    pub(crate) kind: EdgeKind,
    pub(crate) revision: u64,
}

/// How one task uses the value of another; see [`GraphEdge`](crate::GraphEdge).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EdgeKind {
    /// As an input: the task starts when all of its inputs have finished.
    Taken,
    /// By awaiting it after it has started.
    Awaited,
}

/// A change of a task's status.
#[derive(Clone, Copy)]
pub(crate) struct Transition {
    /// The new status.
    pub(crate) status: Status,
    /// In nanoseconds of the engine's clock.
    pub(crate) at: u64,
    /// The worker that was polling the task.
    pub(crate) worker: Option<u32>,
    pub(crate) attempt: u32,
}

impl TaskRecord {
    pub(crate) fn new(name: u32, priority: i32, status: Status) -> Self {
        Self {
            name,
            key_source: KeySource::Number,
            submitted_at: None,
            status,
            parked: false,
            held: false,
            freed: false,
            priority,
            depth: 0,
            attempt: 1,
            worker: None,
            polled_at: 0,
            run_time: 0,
            edges: Vec::new(),
            transitions: Vec::new(),
            transitions_dropped: 0,
            error: None,
            revision: 0,
            log_index: u64::MAX,
        }
    }

    /// Frees everything but a little memory of its lists, which [`reuse`](Self::reuse) makes use of.
    pub(crate) fn clear(&mut self) {
        self.key_source = KeySource::Number;
        self.error = None;
        self.edges.clear();
        self.edges.shrink_to(LIST_CAPACITY);
        self.transitions.clear();
        self.transitions.shrink_to(LIST_CAPACITY);
    }

    /// Makes a cleared record that of a new task.
    pub(crate) fn reuse(&mut self, name: u32, priority: i32, status: Status) {
        let (edges, transitions) = (mem::take(&mut self.edges), mem::take(&mut self.transitions));
        *self = Self { edges, transitions, ..Self::new(name, priority, status) };
    }

    /// Returns the key of the task, which has this name and this number.
    pub(crate) fn key(&self, name: &str, number: u64) -> Key {
        match &self.key_source {
            KeySource::Number => format!("{name}-{number}").into(),
            KeySource::Given(key) => key.clone(),
            KeySource::Derived(digest) => key::derived(name, **digest),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        is_end(self.status)
    }

    /// Adds the transition to the current status. When there are too many, one from the middle is dropped: a task that
    /// is retried hundreds of times is understood from its first and its last attempts.
    pub(crate) fn push_transition(&mut self, at: u64) {
        if self.transitions.len() == TRANSITIONS {
            self.transitions.remove(TRANSITIONS / 2);
            self.transitions_dropped += 1;
        }
        self.transitions.push(self.transition(at));
    }

    /// Returns the transition to the current status.
    pub(crate) fn transition(&self, at: u64) -> Transition {
        let Self { status, worker, attempt, .. } = *self;
        Transition { status, at, worker, attempt }
    }
}

/// Returns whether a task of this status has ended.
pub(crate) fn is_end(status: Status) -> bool {
    matches!(status, Status::Finished | Status::Failed | Status::Cancelled)
}
