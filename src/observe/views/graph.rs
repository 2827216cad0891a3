//! A snapshot of the graph of tasks.

use std::panic::Location;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::serial::{FileLine, serialize};
use crate::observe::record::recorder::Recorder;
pub use crate::observe::record::task_record::EdgeKind;
use crate::observe::record::task_record::TaskRecord;
use crate::{Key, Status};

/// A snapshot of a client's tasks and of the edges between them; made by [`Client::graph`](crate::Client::graph).
///
/// It has the tasks that were [watched in detail](crate::Client::observe) and aren't forgotten: up to 100,000 tasks and
/// 500,000 edges. It implements `serde::Serialize`.
///
/// ```
/// let client = ensue::Client::builder().seed(1).observe().build();
/// let x = client.task().name("x").submit(async || 1, ());
/// let y = client.task().name("y").submit(async |x: u64| x + 1, &x);
/// y.result().unwrap();
/// let graph = client.graph();
/// let names: Vec<_> = graph.tasks.iter().map(|task| &*task.name).collect();
/// assert_eq!(names, ["x", "y"]);
/// assert_eq!((graph.edges[0].from, graph.edges[0].to), (graph.tasks[0].id, graph.tasks[1].id));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Graph {
    /// The tasks, in the order in which they were submitted.
    pub tasks: Vec<GraphTask>,
    /// The edges between these tasks, in the order of the tasks that they lead to.
    pub edges: Vec<GraphEdge>,
    /// The number of tasks that were submitted since recording began and aren't in this graph.
    pub omitted: u64,
}

/// A task in a [`Graph`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GraphTask {
    /// The number that edges refer to.
    pub id: u64,
    /// The key of the task.
    pub key: Key,
    /// The name of its function, or that given with [`name`](crate::Options::name).
    pub name: Arc<str>,
    /// The line of the call that submitted it.
    pub submitted_at: Option<&'static Location<'static>>,
    /// Its status at the time of the snapshot.
    pub status: Status,
    /// Its priority when it was submitted.
    pub priority: i32,
    /// The attempt that it's in or waits for; 1 for the first.
    pub attempt: u32,
    /// One more than the greatest depth of its inputs and of the task that has submitted it; 0 where it has neither.
    pub depth: u32,
    /// The number of the worker that is polling it.
    pub worker: Option<usize>,
    /// Whether its value is in memory.
    pub held: bool,
    /// The text of its error, with the causes, if it has failed; the reason, if it was cancelled with one.
    pub error: Option<Arc<str>>,
}

/// An edge of a [`Graph`]: one task uses the value of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GraphEdge {
    /// The task whose value is used.
    pub from: u64,
    /// The task that uses it.
    pub to: u64,
    /// How it uses it.
    pub kind: EdgeKind,
}

serialize!(Graph, this: tasks = this.tasks, edges = this.edges, omitted = this.omitted);
serialize!(GraphEdge, this: from = this.from, to = this.to, kind = this.kind);
serialize!(GraphTask, this:
    id = this.id,
    key = this.key,
    name = *this.name,
    submitted_at = this.submitted_at.map(FileLine),
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
        // Read before the record, so that every recorded task is counted.
        let counts = recorder.functions.counts();
        let submitted: u64 = counts.iter().map(|counts| counts.submitted).sum();
        let record = &*recorder.record();
        let mut tasks: Vec<_> = record.tasks.iter().collect();
        tasks.sort_unstable_by_key(|(id, _)| **id);
        let mut edges = Vec::new();
        for (to, task) in &tasks {
            let known = task.edges.iter().filter(|edge| record.tasks.contains_key(&edge.from));
            edges.extend(known.map(|edge| GraphEdge {
                from: edge.from,
                to: **to,
                kind: edge.kind,
            }));
        }
        let public_task = |(id, task): (&u64, &TaskRecord)| {
            let name = record.name(task.name).clone();
            GraphTask {
                id: *id,
                key: task.key(&name, *id),
                name,
                submitted_at: task.submitted_at,
                status: task.status,
                priority: task.priority,
                attempt: task.attempt,
                depth: task.depth,
                worker: task.worker.map(|worker| worker as usize),
                held: task.held,
                error: task.error.clone(),
            }
        };
        let omitted = submitted.saturating_sub(record.tasks.len() as u64 + record.retried);
        Self { tasks: tasks.into_iter().map(public_task).collect(), edges, omitted }
    }
}
