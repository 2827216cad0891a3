//! `progress_counts`, and the metrics of the feature `metrics` (promise 23).

use std::future::pending;

use ensue::{Client, FunctionProgress, progress_counts};
use futures::StreamExt;
use futures::executor::block_on;
use support::hold::Gate;
use support::{bounded, poll_once};

fn of(counts: &[FunctionProgress], name: &str) -> (usize, usize, usize) {
    let counted = counts.iter().find(|counted| &*counted.name == name).expect("the name is there");
    (counted.total, counted.done, counted.failed)
}

#[test]
fn the_stream_yields_changed_counts_by_name_and_ends_with_the_tasks() {
    bounded(|| {
        let client = Client::builder().seed(1).build();
        let gate = Gate::new();
        let gated = client.task().name("gated").map(
            {
                let gate = gate.clone();
                move |n: u64| {
                    let gate = gate.clone();
                    async move {
                        gate.pass().await;
                        n
                    }
                }
            },
            0..2,
        );
        let bad = client.task().name("bad").try_submit(async || Err::<(), _>("bad"), ());
        let cancelled = client.task().name("cancelled").spawn(pending::<()>());
        let done = client.ready("done");
        let mut counts = progress_counts(&gated).and([&bad]).and([&cancelled]).and([&done]);
        let first = block_on(counts.next()).unwrap();
        assert_eq!(of(&first, "gated"), (2, 0, 0));
        assert_eq!(of(&first, "bad"), (1, 0, 0));
        assert_eq!(first.iter().map(|counted| counted.done).sum::<usize>(), 1);
        assert!(poll_once(&mut counts.next()).is_pending(), "nothing has changed");
        cancelled.cancel();
        bad.result().unwrap_err();
        let second = block_on(counts.next()).unwrap();
        assert_eq!((of(&second, "bad"), of(&second, "cancelled")), ((1, 1, 1), (1, 1, 1)));
        gate.open();
        gated[1].result().unwrap();
        gated[0].result().unwrap();
        let last = block_on(counts.by_ref().collect::<Vec<_>>()).pop().unwrap();
        assert_eq!(of(&last, "gated"), (2, 2, 0));
        assert!(block_on(counts.next()).is_none());
        let data = serde_json::to_value(&last).unwrap();
        assert_eq!(
            data[0],
            serde_json::json!({"name": "gated", "total": 2, "done": 2, "failed": 0})
        );
    });
}

#[test]
fn the_stream_wakes_its_waiter_and_keeps_no_task() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let gate = Gate::new();
        let task = client.spawn({
            let gate = gate.clone();
            async move { gate.pass().await }
        });
        let dropped = client.spawn(pending::<()>());
        let counts = progress_counts([&task]).and([&dropped]);
        let reader = std::thread::spawn(move || block_on(counts.collect::<Vec<_>>()));
        drop(dropped);
        gate.open();
        let all = reader.join().unwrap();
        let last = all.last().unwrap();
        let sum = |of: fn(&FunctionProgress) -> usize| last.iter().map(of).sum::<usize>();
        assert_eq!((sum(|counted| counted.done), sum(|counted| counted.failed)), (2, 1));
    });
}

#[test]
fn without_tasks_it_ends_at_once() {
    let none: [&ensue::Handle<u64>; 0] = [];
    assert_eq!(block_on(progress_counts(none).collect::<Vec<_>>()), [Vec::new()]);
}

#[cfg(feature = "metrics")]
#[test]
fn metrics_are_published_to_the_recorder() {
    use metrics_util::MetricKind;
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    bounded(|| {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let client = Client::builder().workers(1).limit("db", 2).name("mine").build();
        let mut metrics = client.metrics();
        let tasks = client.task().name("work").acquire("db").map(async |_: u64| (), 0..5);
        tasks.iter().for_each(|task| task.result().unwrap());
        block_on(client.idle());
        metrics::with_local_recorder(&recorder, || metrics.publish());
        let metrics = snapshotter.snapshot().into_vec();
        let find = |kind, name: &str, status: Option<&str>| {
            let is_it = |key: &metrics_util::CompositeKey| {
                let labels = key.key().labels().any(|label| {
                    status.is_none_or(|status| label.key() == "status" && label.value() == status)
                });
                key.kind() == kind && key.key().name() == name && labels
            };
            metrics.iter().find(|(key, ..)| is_it(key)).map(|(.., value)| value)
        };
        let submitted = find(MetricKind::Counter, "ensue_tasks_submitted_total", None);
        assert_eq!(submitted, Some(&DebugValue::Counter(5)));
        let ended = find(MetricKind::Counter, "ensue_tasks_ended_total", Some("finished"));
        assert_eq!(ended, Some(&DebugValue::Counter(5)));
        assert_eq!(
            find(MetricKind::Gauge, "ensue_limit", None),
            Some(&DebugValue::Gauge(2.0.into()))
        );
        match find(MetricKind::Histogram, "ensue_poll_seconds", None) {
            Some(DebugValue::Histogram(polls)) => assert!(polls.len() >= 5, "{polls:?}"),
            other => panic!("{other:?}"),
        }
        match find(MetricKind::Histogram, "ensue_queue_seconds", None) {
            Some(DebugValue::Histogram(waits)) => assert!(waits.len() >= 5, "{waits:?}"),
            other => panic!("{other:?}"),
        }
    });
}
