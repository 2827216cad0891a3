//! `Client::stats` and `Client::events` (promise 23). What recording keeps in memory is tested in `tests/recording.rs`.

use std::future::pending;

use ensue::{Client, Status, gather};
use futures::StreamExt;
use futures::executor::block_on;
use support::hold::Gate;
use support::{bounded, client_of, eventually, run_what_is_ready};

async fn inc(x: u64) -> u64 {
    x + 1
}

#[test]
fn without_recording_stats_has_the_workers_and_the_tasks_in_memory() {
    bounded(|| {
        let client = Client::builder().workers(2).limit("db", 3).build();
        let kept = client.submit(inc, 1);
        kept.result().unwrap();
        block_on(client.idle());
        let stats = client.stats();
        assert_eq!((stats.workers, stats.tasks_in_memory), (2, 1));
        assert_eq!((stats.submitted, stats.recording_for), (0, None));
        assert!(stats.functions.is_empty());
        eventually("the workers sleep", || client.stats().busy == 0);
        let held = support::hold::hold_worker(&client);
        assert!(client.stats().busy >= 1);
        held.let_go();
    });
}

#[test]
fn tasks_are_counted_by_function_and_by_status() {
    bounded(|| {
        let client = Client::builder().seed(1).observe().build();
        let gate = Gate::new();
        let gated = client.task().name("gated").spawn({
            let gate = gate.clone();
            async move {
                gate.pass().await;
                1
            }
        });
        let waiting = client.map(inc, [&gated, &gated]);
        let bad = client.task().name("bad").try_submit(async || Err::<(), _>("bad"), ());
        let dropped = client.task().name("dropped").spawn(pending::<()>());
        run_what_is_ready(&client);
        drop(dropped);
        let ready = client.submit(inc, 1);
        let stats = client.stats();
        assert_eq!((stats.submitted, stats.left), (6, 4));
        assert_eq!((stats.finished, stats.failed, stats.cancelled), (0, 1, 1));
        assert_eq!((stats.waiting, stats.ready, stats.running, stats.delayed), (2, 1, 1, 0));
        let names: Vec<_> = stats.functions.iter().map(|function| &*function.name).collect();
        assert_eq!(names, ["gated", "inc", "bad", "dropped"]);
        let inc = &stats.functions[1];
        assert_eq!((inc.submitted, inc.left, inc.waiting, inc.ready), (3, 3, 2, 1));
        assert_eq!(stats.functions[2].failed, 1);
        gate.open();
        block_on(gather(&waiting)).unwrap();
        ready.result().unwrap();
        let stats = client.stats();
        assert_eq!((stats.finished, stats.left), (4, 0));
        assert_eq!((stats.waiting, stats.ready, stats.running), (0, 0, 0));
        assert_eq!(stats.functions[0].polls, 2);
        assert!(stats.recording_for.is_some());
        let data = serde_json::to_value(&stats).unwrap();
        assert_eq!(data["functions"][1]["finished"], 3);
        drop(bad);
    });
}

#[test]
fn the_counts_of_a_thread_outlive_it() {
    bounded(|| {
        let client = Client::builder().workers(2).observe().build();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let handles = client.map(inc, 0..1_000);
                    block_on(gather(handles)).unwrap();
                });
            }
        });
        block_on(client.idle());
        for _ in 0..2 {
            let stats = client.stats();
            assert_eq!((stats.submitted, stats.finished, stats.left), (8_000, 8_000, 0));
        }
    });
}

#[test]
fn clients_that_take_turns_on_a_thread_have_counts_of_their_own() {
    bounded(|| {
        let clients: Vec<_> =
            (0..7).map(|_| Client::builder().workers(0).observe().build()).collect();
        for turn in 0..500 {
            for client in &clients[..turn % 7 + 1] {
                client.submit(inc, 1).detach();
            }
        }
        for (at, client) in clients.iter().enumerate() {
            let turns = (0..500).filter(|turn| turn % 7 >= at).count() as u64;
            assert_eq!((client.stats().submitted, client.stats().left), (turns, turns));
            run_what_is_ready(client);
            assert_eq!((client.stats().finished, client.stats().left), (turns, 0));
        }
    });
}

async fn one_of_many<const N: usize>() -> usize {
    N
}

/// Submits one task for each of three hundred functions.
fn submit_three_hundred(client: &Client) {
    macro_rules! ten {
        ($submit:ident, $n:expr) => {
            $submit!($n + 0);
            $submit!($n + 1);
            $submit!($n + 2);
            $submit!($n + 3);
            $submit!($n + 4);
            $submit!($n + 5);
            $submit!($n + 6);
            $submit!($n + 7);
            $submit!($n + 8);
            $submit!($n + 9);
        };
    }
    macro_rules! one {
        ($n:expr) => {
            client.submit(one_of_many::<{ $n }>, ()).detach();
        };
    }
    macro_rules! some {
        ($n:expr) => {
            ten!(one, 10 * ($n));
        };
    }
    ten!(some, 0);
    ten!(some, 10);
    ten!(some, 20);
}

#[test]
fn functions_that_exceed_the_table_of_a_thread_are_counted() {
    bounded(|| {
        let client = Client::builder().workers(2).observe().build();
        for _ in 0..100 {
            submit_three_hundred(&client);
        }
        block_on(client.idle());
        let stats = client.stats();
        assert_eq!((stats.submitted, stats.finished, stats.left), (30_000, 30_000, 0));
    });
}

#[test]
fn many_names_are_bounded() {
    bounded(|| {
        let client = Client::builder().workers(1).observe().build();
        for n in 0..10_000 {
            client.task().name(format!("name {n}")).submit(inc, n).detach();
        }
        block_on(client.idle());
        let stats = client.stats();
        assert_eq!(stats.functions.iter().map(|function| function.finished).sum::<u64>(), 10_000);
        assert!(stats.functions.len() <= 4_096, "{}", stats.functions.len());
        assert_eq!(&*stats.functions.last().unwrap().name, "(others)");
    });
}

#[test]
fn events_have_the_worker_and_the_attempt_in_order() {
    bounded(|| {
        let client = Client::builder().seed(2).build();
        let before = client.task().name("before").spawn(async {
            futures_lite::future::yield_now().await;
        });
        let mut events = client.events();
        let task = client.task().name("task").retries(1).try_submit(async || Err::<(), _>("x"), ());
        task.result().unwrap_err();
        before.result().unwrap();
        let key = task.key();
        drop((client, task, before));
        let all: Vec<_> = block_on(events.by_ref().collect());
        use Status::{Delayed, Failed, Finished, Ready, Running};
        let of_task: Vec<_> = all.iter().filter(|event| event.key == key).collect();
        let statuses: Vec<_> = of_task.iter().map(|event| (event.status, event.attempt)).collect();
        assert_eq!(statuses, [(Ready, 1), (Running, 1), (Delayed, 2), (Running, 2), (Failed, 2)]);
        let workers: Vec<_> = of_task.iter().map(|event| event.worker).collect();
        assert_eq!(workers, [None, Some(0), Some(0), Some(0), Some(0)]);
        assert!(all.windows(2).all(|pair| pair[0].at <= pair[1].at));
        let of_old = all.iter().filter(|event| &*event.name == "before");
        assert_eq!(of_old.map(|event| event.status).collect::<Vec<_>>(), [Running, Finished]);
        assert_eq!(events.missed(), 0);
    });
}

#[test]
fn events_come_in_order_for_each_task_from_many_threads() {
    bounded(|| {
        let client = client_of(4);
        let mut events = client.events();
        let reader = std::thread::spawn(move || {
            let mut last = std::collections::HashMap::new();
            let mut ended = 0;
            block_on(async {
                while let Some(event) = events.next().await {
                    let step = match event.status {
                        Status::Waiting => 0,
                        Status::Ready => 1,
                        Status::Running => 2,
                        _ => 3,
                    };
                    ended += u64::from(step == 3);
                    let before = last.insert(event.key.clone(), step);
                    assert!(
                        before.is_none_or(|before| before < step),
                        "{event:?} after {before:?}"
                    );
                }
            });
            ended + events.missed()
        });
        let mut last = client.map(inc, 0..2_000);
        for _ in 0..3 {
            last = client.map(inc, last);
        }
        block_on(gather(last)).unwrap();
        drop(client);
        assert!(reader.join().unwrap() >= 8_000);
    });
}

#[test]
fn a_slow_reader_misses_the_oldest_events_and_their_number_is_known() {
    bounded(|| {
        let client = client_of(2);
        let mut events = client.events();
        // Few enough for the buffers in front of the record, where lost events aren't counted exactly.
        let handles = client.map(inc, 0..5_000);
        block_on(gather(handles)).unwrap();
        drop(client);
        let seen: Vec<_> = block_on(events.by_ref().collect());
        assert!(seen.len() <= 10_000, "{}", seen.len());
        assert_eq!(seen.last().unwrap().status, Status::Finished);
        // Three for each task.
        assert!(events.missed() > 0);
        assert_eq!(seen.len() as u64 + events.missed(), 15_000);
    });
}
