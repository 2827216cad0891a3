//! Tracing spans: one for each task, entered while the task is polled.

use std::collections::HashMap;

use tracing::span::Id;
use tracing::{Level, Span, enabled, info_span, trace_span};

use crate::engine::base::lock::Lock;
use crate::engine::task::header::TaskRef;

/// The spans of a client's tasks, by number.
///
/// The subscriber is user code, and may submit or drop tasks: it's never called under the lock.
#[derive(Default)]
pub(crate) struct Spans(Lock<HashMap<u64, TaskSpans>>);

struct TaskSpans {
    /// `None` after the task has ended, so that its spans are closed then.
    spans: Option<SpanPair>,
    /// Kept until the task is freed: a dependent that is submitted later follows from it.
    id: Option<Id>,
    entered: bool,
    /// The worker of the last poll. Subscribers append each record of a field to the line of a span.
    worker: Option<usize>,
}

/// This crate's span of a task, and the one that tokio-console looks for.
#[derive(Clone)]
struct SpanPair {
    own: Span,
    console: Span,
}

impl SpanPair {
    fn enter(&self) {
        for span in [&self.own, &self.console] {
            // Without tracing's guard: the span is exited in another call, by the event that ends the poll.
            span.with_subscriber(|(id, dispatch)| dispatch.enter(id));
        }
    }

    fn exit(&self) {
        for span in [&self.console, &self.own] {
            span.with_subscriber(|(id, dispatch)| dispatch.exit(id));
        }
    }
}

impl Spans {
    /// Returns whether a subscriber takes spans of tasks.
    pub(crate) fn are_wanted() -> bool {
        enabled!(target: "ensue::task", Level::INFO)
            || enabled!(target: "tokio::task", Level::TRACE)
    }

    /// Makes the spans of a new task. Runs on the submitter's thread, whose current span becomes the parent.
    pub(crate) fn created(&self, task: TaskRef<'_>, number: u64, inputs: &[u64]) {
        let (key, name) = (task.key(), task.name());
        let own = info_span!(
            target: "ensue::task",
            "task",
            name = &*name,
            key = &**key,
            attempt = 1,
            worker = tracing::field::Empty,
            status = tracing::field::Empty,
        );
        // The name and the fields are those of tokio's own spans.
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
            own.follows_from(id);
        }
        let id = own.id();
        let new =
            TaskSpans { spans: Some(SpanPair { own, console }), id, entered: false, worker: None };
        let before = self.0.lock().insert(number, new);
        drop(before);
    }

    /// Enters the spans of a task that a worker begins to poll.
    pub(crate) fn entered(&self, number: u64, worker: usize) {
        if let Some((spans, is_other)) = self.set_entered(number, Some(worker)) {
            if is_other {
                spans.own.record("worker", worker);
            }
            spans.enter();
        }
    }

    /// Exits the spans of a task whose poll has returned.
    pub(crate) fn exited(&self, number: u64) {
        if let Some((spans, _)) = self.set_entered(number, None) {
            spans.exit();
        }
    }

    /// Records the number of a new attempt.
    pub(crate) fn attempt(&self, number: u64, attempt: u32) {
        let spans = self.0.lock().get(&number).and_then(|task| task.spans.clone());
        if let Some(spans) = spans {
            spans.own.record("attempt", attempt);
        }
    }

    /// Records the status of a task that has ended, and closes its spans.
    pub(crate) fn ended(&self, number: u64, status: crate::Status) {
        self.exited(number);
        let spans = self.0.lock().get_mut(&number).and_then(|task| task.spans.take());
        if let Some(spans) = spans {
            spans.own.record("status", tracing::field::display(status));
        }
    }

    /// Forgets a task that was freed.
    pub(crate) fn freed(&self, number: u64) {
        let spans = self.0.lock().remove(&number);
        drop(spans);
    }

    /// Marks the task as entered on a worker, or as not entered. Returns its spans if that has changed anything, and whether it's
    /// another worker than before.
    fn set_entered(&self, number: u64, on: Option<usize>) -> Option<(SpanPair, bool)> {
        let mut spans = self.0.lock();
        let task = spans.get_mut(&number).filter(|task| task.entered != on.is_some())?;
        task.entered = on.is_some();
        let is_other = on.is_some() && task.worker != on;
        task.worker = on.or(task.worker);
        Some((task.spans.clone()?, is_other))
    }
}
