//! Feature `tracing`: a span for each task.
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

/// The record of one span.
#[derive(Clone, Debug, Default)]
struct Told {
    target: String,
    fields: HashMap<String, String>,
    parent: Option<u64>,
    follows: Vec<u64>,
    entered: usize,
    exited: usize,
    closed: bool,
}

#[derive(Clone, Default)]
struct Telling(Arc<Mutex<HashMap<u64, Told>>>);

struct Fields<'a>(&'a mut HashMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Telling {
    fn change(&self, id: &Id, change: impl FnOnce(&mut Told)) {
        change(self.0.lock().unwrap().entry(id.into_u64()).or_default());
    }

    /// The span of the task with this key.
    fn of(&self, target: &str, key: &str) -> (u64, Told) {
        let spans = self.0.lock().unwrap();
        let is_it = |told: &&Told| {
            let field = if target == "ensue::task" { "key" } else { "task.name" };
            told.target == target && told.fields.get(field).is_some_and(|value| value == key)
        };
        let mut found = spans.iter().filter(|(_, told)| is_it(told));
        let (id, told) = found.next().expect("the task has a span");
        assert!(found.next().is_none(), "one span");
        (*id, told.clone())
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Telling {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let parent = context.span(id).and_then(|span| Some(span.parent()?.id().into_u64()));
        self.change(id, |told| {
            told.target = attributes.metadata().target().to_owned();
            told.parent = parent;
            attributes.record(&mut Fields(&mut told.fields));
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        self.change(id, |told| values.record(&mut Fields(&mut told.fields)));
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, _: Context<'_, S>) {
        self.change(id, |told| told.follows.push(follows.into_u64()));
    }

    fn on_enter(&self, id: &Id, _: Context<'_, S>) {
        self.change(id, |told| told.entered += 1);
    }

    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        self.change(id, |told| told.exited += 1);
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.change(&id, |told| told.closed = true);
    }
}

/// In one test: `tracing` may disable a callsite that a thread without a subscriber reaches first.
#[test]
fn spans_tell_of_tasks_if_there_is_somebody_to_tell() {
    a_span_tells_of_its_task_and_what_it_comes_from();
    without_a_subscriber_nothing_is_recorded();
}

fn a_span_tells_of_its_task_and_what_it_comes_from() {
    bounded(|| {
        let telling = Telling::default();
        // For this thread, which is also the one that runs the tasks.
        let subscriber = Registry::default().with(telling.clone());
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

        let (x_id, told) = telling.of("ensue::task", &x.key());
        assert_eq!(told.parent, outside.id().map(|id| id.into_u64()));
        assert_eq!((told.entered, told.exited, told.closed), (2, 2, true));
        assert_eq!((&*told.fields["worker"], &*told.fields["status"]), ("0", "finished"));
        let (_, told) = telling.of("ensue::task", &y.key());
        assert_eq!(told.follows, [x_id]);
        let (parent_id, _) = telling.of("ensue::task", &parent.key());
        let (_, told) = telling.of("ensue::task", "child");
        // It's submitted in a poll of its parent, in which both of that one's spans are entered.
        let (parent_console, _) = telling.of("tokio::task", &parent.key());
        assert!([parent_id, parent_console].map(Some).contains(&told.parent), "{told:?}");
        let (_, told) = telling.of("ensue::task", &bad.key());
        assert_eq!((&*told.fields["attempt"], &*told.fields["status"]), ("2", "failed"));
        let (_, console) = telling.of("tokio::task", &x.key());
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
