//! The graph of tasks, as a snapshot.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::serial::serialize;
use crate::observe::record::recorder::Recorder;
use crate::observe::record::task_record::Kind;
use crate::{Key, Status};

/// The tasks of a client and what leads from one to another; made by
/// [`Client::graph`](crate::Client::graph).
///
/// Those are in it that the client remembers: up to 100,000 tasks and 500,000 edges.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Graph {
    /// The tasks, in the order in which they were made.
    pub tasks: Vec<GraphTask>,
    /// What leads from one to another.
    pub edges: Vec<GraphEdge>,
    /// Tasks that were submitted since recording began, and that are not in it.
    pub omitted: u64,
}

/// A task in a [`Graph`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GraphTask {
    /// What the edges know it by.
    pub id: u64,
    /// Its key.
    pub key: Key,
    /// The name of its function, or that given with [`name`](crate::Options::name).
    pub name: Arc<str>,
    /// How it stands.
    pub status: Status,
    /// Its priority when it was made.
    pub priority: i32,
    /// Which attempt it is at; 1 for the first.
    pub attempt: u32,
    /// One more than the greatest depth of the tasks it takes inputs from and of the one that has submitted it.
    pub depth: u32,
    /// The number of the worker that polls it.
    pub worker: Option<usize>,
    /// Whether its value is in memory.
    pub held: bool,
    /// Its error.
    pub error: Option<Arc<str>>,
}

/// What leads from one task of a [`Graph`] to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GraphEdge {
    /// The task whose value is used.
    pub from: u64,
    /// The task that uses it.
    pub to: u64,
    /// How it does.
    pub kind: EdgeKind,
}

/// How one task uses the value of another; see [`GraphEdge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EdgeKind {
    /// It takes it as an input.
    Taken,
    /// It has awaited it.
    Awaited,
}

serialize!(Graph, this: tasks = this.tasks, edges = this.edges, omitted = this.omitted);
serialize!(GraphEdge, this: from = this.from, to = this.to, kind = this.kind);
serialize!(GraphTask, this:
    id = this.id,
    key = this.key,
    name = *this.name,
    status = this.status,
    priority = this.priority,
    attempt = this.attempt,
    depth = this.depth,
    worker = this.worker,
    held = this.held,
    error = this.error.as_deref(),
);

impl Serialize for EdgeKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Taken => "input",
            Self::Awaited => "awaited",
        })
    }
}

impl Graph {
    pub(crate) fn of(recorder: &Recorder) -> Self {
        // Counted first: then no task is known that isn't counted.
        let counts = recorder.functions.counts();
        let submitted: u64 = counts.iter().map(|counts| counts.submitted).sum();
        let record = &*recorder.record();
        let mut entries: Vec<_> = record.tasks.iter().collect();
        entries.sort_unstable_by_key(|(id, _)| **id);
        let mut edges = Vec::new();
        for (to, entry) in &entries {
            let known = entry.edges.iter().filter(|edge| record.tasks.contains_key(&edge.from));
            edges.extend(known.map(|edge| GraphEdge {
                from: edge.from,
                to: **to,
                kind: match edge.kind {
                    Kind::Input => EdgeKind::Taken,
                    Kind::Awaited => EdgeKind::Awaited,
                },
            }));
        }
        let task = |(id, entry): (&u64, &crate::observe::record::task_record::Entry)| {
            let name = record.name(entry.name).clone();
            GraphTask {
                id: *id,
                key: entry.key(&name, *id),
                name,
                status: entry.status,
                priority: entry.priority,
                attempt: entry.attempt,
                depth: entry.depth,
                worker: entry.worker.map(|worker| worker as usize),
                held: entry.held,
                error: entry.error.clone(),
            }
        };
        let omitted = submitted.saturating_sub(record.tasks.len() as u64 + record.again);
        Self { tasks: entries.into_iter().map(task).collect(), edges, omitted }
    }
}
