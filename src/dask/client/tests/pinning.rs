//! Python tasks, and the workers that they are pinned to.

use std::time::Instant;

use crate::dask::client::state::task_spec::TaskSpec;
use crate::dask::wire::graph::{Annotations, Call};
use crate::dask::wire::value::Value;
use async_io::Timer;

use super::fake::*;

const PYTHON: [&str; 3] = ["tcp://python:1", "tcp://python:2", "tcp://python:3"];

#[test]
fn python_tasks_wait_for_a_python_worker() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let first = submit_python(&link, "p-1");
        let next = submit(&link, "f-1", &["p-1"]);
        let _other = submit(&link, "f-2", &[]);
        stream.expect_keys("update-graph", &["f-2"]).await;
        drop(next);
        drop(submit_python(&link, "p-2"));
        let asked = fake.asked("identity").await;
        let start = Instant::now();
        asked.answer(identity(&[]));
        let asked = fake.asked("identity").await;
        assert!(start.elapsed() > 4 * SOON);
        let second = submit_python(&link, "p-3");
        asked.answer(identity(&PYTHON[..2]));
        // A released task isn't sent.
        let graph = stream.expect("update-graph").await;
        assert_eq!(graph.get("keys").unwrap().texts(), ["p-1", "p-3"]);
        assert_eq!(mentioned(&graph, &PYTHON), &PYTHON[..2]);
        // The workers are known now, or soon.
        let _third = submit_python(&link, "p-4");
        let graph = identify(&fake, &PYTHON[..2], stream.expect("update-graph")).await;
        assert_eq!(mentioned(&graph, &PYTHON), &PYTHON[..2]);
        drop((first, second));
        stream.expect_keys("client-releases-keys", &["p-1", "p-3"]).await;
    });
}

#[test]
fn operations_after_a_python_task_stay_in_order() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let first = submit_python(&link, "p-1");
        let next = submit(&link, "f-1", &["p-1"]);
        let last = submit(&link, "f-2", &["f-1"]);
        drop(first);
        drop(next);
        let again = submit_python(&link, "p-1");
        fake.asked("identity").await.answer(identity(&PYTHON[..1]));
        stream.expect_keys("update-graph", &["p-1"]).await;
        stream.expect_keys("update-graph", &["f-1", "f-2"]).await;
        stream.expect_keys("client-releases-keys", &["p-1", "f-1"]).await;
        stream.expect_keys("update-graph", &["p-1"]).await;
        drop((last, again));
    });
}

#[test]
fn workers_are_polled_only_while_needed() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        // A task that is dropped needs no worker.
        drop(submit_python(&link, "p-1"));
        identify_while_polled(&fake, &link, &[]).await;
        let chosen = Annotations { workers: ["a".into()].into(), ..Annotations::default() };
        let call = Call::Python { module: "m".into(), name: "f".into(), args: Vec::new() };
        let key = "p-2".into();
        let chosen =
            link.submit(TaskSpec { key, call, annotations: chosen.into(), is_alone: false });
        let graph = stream.expect("update-graph").await;
        assert_eq!(graph.get("keys").unwrap().texts(), ["p-2"]);
        Timer::after(12 * SOON).await;
        assert!(fake.calls.is_empty());

        let task = submit_python(&link, "p-3");
        fake.asked("identity").await.answer(identity(&PYTHON[..1]));
        stream.expect_keys("update-graph", &["p-3"]).await;
        stream.in_memory("p-3").await;
        soon(task.ended()).await.unwrap();
        identify_while_polled(&fake, &link, &PYTHON[..1]).await;
        Timer::after(12 * SOON).await;
        assert!(fake.calls.is_empty());
        drop(chosen);
    });
}

#[test]
fn python_tasks_follow_the_python_workers() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let _first = submit_python(&link, "p-1");
        let _second = submit_python(&link, "p-2");
        fake.asked("identity").await.answer(identity(&PYTHON[..1]));
        stream.expect_keys("update-graph", &["p-1", "p-2"]).await;
        // No worker, the same one, another one.
        fake.asked("identity").await.answer(identity(&[]));
        fake.asked("identity").await.answer(identity(&PYTHON[..1]));
        fake.asked("identity").await.answer(identity(&PYTHON[1..2]));
        // The scheduler may not have read the graph with `p-2`.
        let asked = fake.asked("get_task_status").await;
        let mut keys = asked.keys();
        keys.sort();
        assert_eq!(keys, ["p-1", "p-2"]);
        asked.answer(states(&[("p-1", Some("no-worker")), ("p-2", None)]));
        let restricted = fake.asked("set_restrictions").await;
        let workers = restricted.map.get("worker").and_then(Value::as_map).unwrap();
        assert_eq!(workers.0.len(), 1);
        assert_eq!(workers.get("p-1").unwrap().texts(), [PYTHON[1]]);
        restricted.answer(nil());
        let asked = fake.asked("get_task_status").await;
        assert_eq!(asked.keys(), ["p-1"]);
        asked.answer(states(&[("p-1", Some("no-worker"))]));
        let asked = fake.asked("retry").await;
        assert_eq!(asked.keys(), ["p-1"]);
        asked.answer(data(&[]));
        // The other task, at the next poll. The call fails, and is tried again.
        for has_failed in [true, false] {
            fake.asked("identity").await.answer(identity(&PYTHON[1..2]));
            let asked = fake.asked("get_task_status").await;
            assert_eq!(asked.keys(), ["p-2"]);
            asked.answer(states(&[("p-2", Some("waiting"))]));
            let failed = || crate::dask::wire::call::failed("KeyError");
            let answer = if has_failed { failed() } else { nil() };
            fake.asked("set_restrictions").await.answer(answer);
        }
        fake.asked("get_task_status").await.answer(states(&[("p-2", Some("waiting"))]));
        fake.asked("identity").await.answer(identity(&PYTHON[1..2]));
        fake.asked("identity").await.answer(identity(&PYTHON[1..2]));
    });
}

#[test]
fn a_released_task_may_have_to_run_again() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let (first, leaf) = (submit_python(&link, "p-1"), submit_python(&link, "p-2"));
        let next = submit(&link, "f-1", &["p-1"]);
        fake.asked("identity").await.answer(identity(&PYTHON[..1]));
        stream.expect_keys("update-graph", &["p-1", "p-2"]).await;
        for key in ["p-1", "p-2", "f-1"] {
            stream.in_memory(key).await;
        }
        soon(next.ended()).await.unwrap();
        drop((first, leaf));
        identify_while_polled(&fake, &link, &PYTHON[..1]).await;
        Timer::after(12 * SOON).await;
        assert!(fake.calls.is_empty());
        stream.say(&[("op", &"lost-data"), ("key", &"f-1")]).await;
        fake.asked("identity").await.answer(identity(&PYTHON[1..]));
        let asked = fake.asked("get_task_status").await;
        // The other one has no dependent, so it can't run again.
        assert_eq!(asked.keys(), ["p-1"]);
        asked.answer(states(&[("p-1", Some("no-worker"))]));
        fake.asked("set_restrictions").await.answer(nil());
        fake.asked("get_task_status").await.answer(states(&[("p-1", Some("no-worker"))]));
        fake.asked("retry").await.answer(data(&[]));
        stream.in_memory("f-1").await;
        Timer::after(22 * SOON).await;
        while let Ok(asked) = fake.calls.try_recv() {
            assert_eq!(asked.op, "identity");
        }
    });
}
