//! A span for each task.

use std::collections::HashMap;

use tracing::span::Id;
use tracing::{Level, Span, enabled, info_span, trace_span};

use crate::engine::base::lock::Lock;
use crate::engine::task::header::TaskRef;

/// The spans of the tasks of a client.
#[derive(Default)]
pub(crate) struct Spans(Lock<HashMap<u64, Entry>>);

struct Entry {
    /// Where it has ended, nothing but its number is left, for the tasks that follow from it.
    span: Option<Both>,
    id: Option<Id>,
    entered: bool,
}

/// Ours, and the one that tokio-console looks for.
#[derive(Clone)]
struct Both {
    ours: Span,
    console: Span,
}

impl Both {
    fn enter(&self) {
        for span in [&self.ours, &self.console] {
            // Entering is undone in another call, by another moment of the same task on the same thread.
            span.with_subscriber(|(id, dispatch)| dispatch.enter(id));
        }
    }

    fn exit(&self) {
        for span in [&self.console, &self.ours] {
            span.with_subscriber(|(id, dispatch)| dispatch.exit(id));
        }
    }
}

impl Spans {
    /// Whether somebody wants them.
    pub(crate) fn are_wanted() -> bool {
        enabled!(target: "ensue::task", Level::INFO)
            || enabled!(target: "tokio::task", Level::TRACE)
    }

    /// A task was made, on the thread of its submitter.
    pub(crate) fn created(&self, task: TaskRef<'_>, number: u64, inputs: &[u64]) {
        let (key, name) = (task.key(), task.name());
        let ours = info_span!(
            target: "ensue::task",
            "task",
            name = &*name,
            key = &**key,
            attempt = 1,
            worker = tracing::field::Empty,
            status = tracing::field::Empty,
        );
        let console = trace_span!(
            target: "tokio::task",
            parent: None,
            "runtime.spawn",
            kind = "task",
            task.name = &**key,
            task.id = number,
            loc.file = &*name,
            loc.line = 0,
            loc.col = 0,
        );
        let followed: Vec<Id> = {
            let spans = self.0.lock();
            let id = |input: &u64| spans.get(input)?.id.clone();
            inputs.iter().filter_map(id).collect()
        };
        for id in followed {
            ours.follows_from(id);
        }
        let id = ours.id();
        let entry = Entry { span: Some(Both { ours, console }), id, entered: false };
        let before = self.0.lock().insert(number, entry);
        drop(before);
    }

    pub(crate) fn entered(&self, number: u64, worker: usize) {
        if let Some(both) = self.turn(number, true) {
            both.ours.record("worker", worker);
            both.enter();
        }
    }

    pub(crate) fn left(&self, number: u64) {
        if let Some(both) = self.turn(number, false) {
            both.exit();
        }
    }

    pub(crate) fn attempt(&self, number: u64, attempt: u32) {
        let both = self.0.lock().get(&number).and_then(|entry| entry.span.clone());
        if let Some(both) = both {
            both.ours.record("attempt", attempt);
        }
    }

    pub(crate) fn ended(&self, number: u64, status: crate::Status) {
        self.left(number);
        let both = self.0.lock().get_mut(&number).and_then(|entry| entry.span.take());
        if let Some(both) = both {
            both.ours.record("status", tracing::field::display(status));
        }
    }

    pub(crate) fn released(&self, number: u64) {
        let entry = self.0.lock().remove(&number);
        drop(entry);
    }

    /// Notes that a task is entered, or isn't. The subscriber, which is foreign code, is told after the lock.
    fn turn(&self, number: u64, entered: bool) -> Option<Both> {
        let mut spans = self.0.lock();
        let entry = spans.get_mut(&number).filter(|entry| entry.entered != entered)?;
        entry.entered = entered;
        entry.span.clone()
    }
}
