//! The feature `tracing`: a span for each task (promise 23).
#![cfg(feature = "tracing")]

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use ensue::{Client, Retry};
use support::bounded;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Subscriber, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// The recorded calls of one span.
#[derive(Clone, Debug, Default)]
struct Span {
    target: String,
    fields: HashMap<String, String>,
    /// How often `worker` was recorded.
    workers: usize,
    parent: Option<u64>,
    follows: Vec<u64>,
    entered: usize,
    exited: usize,
    closed: bool,
}

#[derive(Clone, Default)]
struct Recording(Arc<Mutex<HashMap<u64, Span>>>);

struct Fields<'a>(&'a mut HashMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Recording {
    fn change(&self, id: &Id, change: impl FnOnce(&mut Span)) {
        change(self.0.lock().unwrap().entry(id.into_u64()).or_default());
    }

    /// The span of the task with this key.
    fn of(&self, target: &str, key: &str) -> (u64, Span) {
        let spans = self.0.lock().unwrap();
        let is_it = |span: &&Span| {
            let field = if target == "ensue::task" { "key" } else { "task.name" };
            span.target == target && span.fields.get(field).is_some_and(|value| value == key)
        };
        let mut found = spans.iter().filter(|(_, span)| is_it(span));
        let (id, span) = found.next().expect("the task has a span");
        assert!(found.next().is_none(), "one span");
        (*id, span.clone())
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recording {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let parent = context.span(id).and_then(|span| Some(span.parent()?.id().into_u64()));
        self.change(id, |span| {
            span.target = attributes.metadata().target().to_owned();
            span.parent = parent;
            attributes.record(&mut Fields(&mut span.fields));
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        self.change(id, |span| {
            let before = span.fields.remove("worker");
            values.record(&mut Fields(&mut span.fields));
            match span.fields.contains_key("worker") {
                true => span.workers += 1,
                false => span.fields.extend(before.map(|worker| ("worker".to_owned(), worker))),
            }
        });
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, _: Context<'_, S>) {
        self.change(id, |span| span.follows.push(follows.into_u64()));
    }

    fn on_enter(&self, id: &Id, _: Context<'_, S>) {
        self.change(id, |span| span.entered += 1);
    }

    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        self.change(id, |span| span.exited += 1);
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.change(&id, |span| span.closed = true);
    }
}

/// One test: `tracing` may cache that a callsite is disabled if a thread without a subscriber reaches it first.
#[test]
fn tasks_have_spans_if_there_is_a_subscriber() {
    a_span_has_the_data_of_its_task();
    without_a_subscriber_nothing_is_recorded();
}

fn a_span_has_the_data_of_its_task() {
    bounded(|| {
        let recording = Recording::default();
        // For this thread, which also runs the tasks.
        let subscriber = Registry::default().with(recording.clone());
        let _default = tracing::subscriber::set_default(subscriber);
        let client = Client::builder().seed(1).build();
        let outside = info_span!("outside");
        let (x, y) = outside.in_scope(|| {
            let x = client.submit(async || futures_lite::future::yield_now().await, ());
            let y = client.submit(async |_: ()| (), &x);
            (x, y)
        });
        let parent = client.spawn(async {
            let client = Client::current().unwrap();
            client.task().key("child").submit(async || 5, ()).await
        });
        let bad = client.task().retries(Retry::new(1)).try_submit(async || Err::<(), _>("no"), ());
        y.result().unwrap();
        parent.result().unwrap().unwrap();
        bad.result().unwrap_err();

        let (x_id, span) = recording.of("ensue::task", &x.key());
        assert_eq!(span.parent, outside.id().map(|id| id.into_u64()));
        assert_eq!((span.entered, span.exited, span.closed), (2, 2, true));
        assert_eq!((&*span.fields["worker"], &*span.fields["status"]), ("0", "finished"));
        assert_eq!(span.workers, 1, "both polls were on one worker");
        let (_, span) = recording.of("ensue::task", &y.key());
        assert_eq!(span.follows, [x_id]);
        let (parent_id, _) = recording.of("ensue::task", &parent.key());
        let (_, span) = recording.of("ensue::task", "child");
        // It is submitted in a poll of its parent, in which both spans of the parent are entered.
        let (parent_console, _) = recording.of("tokio::task", &parent.key());
        assert!([parent_id, parent_console].map(Some).contains(&span.parent), "{span:?}");
        let (_, span) = recording.of("ensue::task", &bad.key());
        assert_eq!((&*span.fields["attempt"], &*span.fields["status"]), ("2", "failed"));
        let (_, console) = recording.of("tokio::task", &x.key());
        assert_eq!(console.fields["kind"], "task");
        assert_eq!((console.entered, console.exited, console.closed), (2, 2, true));
    });
}

fn without_a_subscriber_nothing_is_recorded() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        client.submit(async || (), ()).result().unwrap();
        assert_eq!(client.stats().recording_for, None);
    });
}
