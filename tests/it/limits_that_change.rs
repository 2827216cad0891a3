//! Limits that are declared, changed and shown while tasks run, and those of patterns (promise 17).

use std::sync::Arc;
use std::thread;

use ensue::{Client, ErrorKind, Handle, Reason, Status, gather};
use futures::executor::block_on;
use smol::future::yield_now;
use support::hold::{Gate, turns};
use support::observe::{Count, Log};
use support::{assert_linear, bounded, eventually};

async fn inc(x: u64) -> u64 {
    x + 1
}

/// Submits a task that holds `n` of a limit until the gate opens, and waits until it does.
fn hold(client: &Client, name: &str, n: usize, gate: &Gate) -> Handle<()> {
    let held = client.task().acquire_many(name, n).spawn(gate.pass());
    eventually("it runs", || held.status() == Status::Running);
    held
}

/// The total, what is used, and the number of tasks that wait.
fn limit(client: &Client, name: &str) -> (usize, usize, usize) {
    let limits = client.limits();
    let found = limits.iter().find(|limit| limit.name == name);
    let limit = found.unwrap_or_else(|| panic!("no limit {name} in {limits:?}"));
    (limit.of, limit.used, limit.waiting)
}

#[test]
fn raising_a_limit_starts_waiting_tasks_at_once() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("db", 1).build();
        let gate = Gate::new();
        let first = hold(&client, "db", 1, &gate);
        let others = client.task().acquire("db").map(inc, 0..3);
        turns(&client);
        assert_eq!(limit(&client, "db"), (1, 1, 3));
        client.set_limit("db", 2);
        block_on(gather(others)).unwrap();
        assert!(!first.is_finished());
        assert_eq!(limit(&client, "db"), (2, 1, 0));
        gate.open();
        first.result().unwrap();
    });
}

#[test]
fn lowering_a_limit_lets_its_holders_end_and_starts_no_others() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("db", 3).build();
        let gates = [(); 3].map(|()| Gate::new());
        let held = gates.each_ref().map(|gate| hold(&client, "db", 1, gate));
        client.set_limit("db", 1);
        let (last, blocking) = (Gate::new(), Gate::new());
        let waits = client.task().acquire("db").spawn(last.pass());
        turns(&client);
        let (pass, options) = (blocking.clone(), client.task().acquire("db"));
        let behind = options.submit_blocking(move || pass.pass_blocking(), ());
        for (n, gate) in gates.iter().enumerate() {
            turns(&client);
            assert_eq!(limit(&client, "db"), (1, 3 - n, 2));
            assert_eq!(waits.status(), Status::Ready);
            gate.open();
            held[n].result().unwrap();
        }
        eventually("one runs", || limit(&client, "db") == (1, 1, 1));
        last.open();
        waits.result().unwrap();
        blocking.open();
        behind.result().unwrap();
    });
}

#[test]
fn a_task_that_needs_more_than_a_lowered_limit_waits_and_lets_others_go() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("db", 4).build();
        let gate = Gate::new();
        let first = hold(&client, "db", 4, &gate);
        let large = client.task().acquire_many("db", 3).submit(inc, 1);
        let small = client.task().acquire("db").submit(inc, 2);
        turns(&client);
        client.set_limit("db", 2);
        // One that comes later, too: it could have had as much.
        let later = client.task().acquire_many("db", 4).submit(inc, 3);
        gate.open();
        first.result().unwrap();
        assert_eq!(small.result().unwrap(), 3);
        turns(&client);
        assert_eq!(limit(&client, "db"), (2, 0, 2));
        let text = client.explain(&large).to_string();
        let wanted = "it needs 3 of the limit `db`, of which 0 of 2 are in use, until `set_limit` allows as much";
        assert!(text.contains(wanted), "{text}");
        client.set_limit("db", 3);
        assert_eq!(large.result().unwrap(), 2);
        assert!(!later.is_finished());
        client.set_limit("db", 9);
        assert_eq!(later.result().unwrap(), 4);
        assert_eq!(limit(&client, "db"), (9, 0, 0));
    });
}

#[test]
fn a_task_that_needs_more_than_a_limit_has_ever_been_fails_at_once() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("db", 2).build();
        client.set_limit("db", 1);
        let three = || client.task().acquire_many("db", 3).submit(inc, 1);
        let error = three().result().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.to_string().contains("3 of the limit `db`, which is 2"), "{error}");
        client.set_limit("db", 3);
        client.set_limit("db", 0);
        let waits = three();
        turns(&client);
        assert_eq!(waits.status(), Status::Ready);
        client.set_limit("db", usize::MAX);
        assert_eq!(waits.result().unwrap(), 2);
    });
}

#[test]
fn limits_can_be_declared_while_the_client_runs() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let error = client.task().acquire("db").submit(inc, 1).result().unwrap_err();
        assert!(error.to_string().contains("`set_limit`"), "{error}");
        client.set_limit("db", 1);
        // By a task, too.
        let inner = client.clone();
        let by_task = async move || {
            inner.set_limit("net", 1);
            inner.task().acquire("net").acquire("db").submit(inc, 1).await
        };
        assert_eq!(client.submit(by_task, ()).result().unwrap().unwrap(), 2);
        let names: Vec<_> = client.limits().into_iter().map(|limit| limit.name).collect();
        assert_eq!(names, ["db", "net"]);
        assert_eq!(client.to_string(), "client `ensue`: 1 worker, limits: db 1, net 1");
    });
}

#[test]
fn tasks_that_wait_for_a_limit_of_zero_are_cancelled_dropped_and_closed() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("db", 5).build();
        client.set_limit("db", 0);
        let mut tasks = client.task().acquire_many("db", 5).map(inc, 0..3);
        turns(&client);
        assert_eq!(limit(&client, "db"), (0, 0, 3));
        assert!(tasks[0].cancel());
        drop(tasks.pop());
        eventually("one is left", || limit(&client, "db") == (0, 0, 1));
        block_on(client.close());
        assert_eq!(tasks[1].result().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(limit(&client, "db"), (0, 0, 0));
        // Nobody is left to start.
        client.set_limit("db", 5);
    });
}

#[test]
fn a_limit_that_changes_all_the_time_is_never_exceeded_by_what_starts() {
    bounded(|| {
        const MOST: usize = 4;
        let client = Client::builder().workers(3).limit("db", MOST).build();
        let running = Arc::new(Count::new());
        let count = running.clone();
        let work = async move |_: u32| {
            let now = count.add() + 1;
            yield_now().await;
            count.sub();
            now
        };
        let tasks = client.task().acquire("db").map(work, 0..2000);
        let (changes, done) = (client.clone(), Gate::new());
        let is_done = done.clone();
        let thread = thread::spawn(move || {
            for n in (0..=MOST).cycle() {
                changes.set_limit("db", n);
                if n == MOST && is_done.is_open() {
                    break;
                }
            }
        });
        let all = block_on(gather(tasks)).unwrap();
        done.open();
        thread.join().unwrap();
        assert!(all.iter().all(|now| *now <= MOST), "{:?}", all.iter().max());
        assert_eq!(limit(&client, "db"), (MOST, 0, 0));
    });
}

// Patterns.

#[test]
fn each_name_of_a_pattern_has_its_own_limit() {
    bounded(|| {
        let builder = Client::builder().workers(1).limit_each("host:*", 1);
        let client = builder.limit("host:two", 2).limit_each("*", 7).build();
        let gate = Gate::new();
        let a = hold(&client, "host:a", 1, &gate);
        let b = hold(&client, "host:b", 1, &gate);
        let two = hold(&client, "host:two", 2, &gate);
        let waits = client.task().acquire("host:a").submit(inc, 1);
        turns(&client);
        assert_eq!(limit(&client, "host:a"), (1, 1, 1));
        assert_eq!(limit(&client, "host:b"), (1, 1, 0));
        assert_eq!(limit(&client, "host:two"), (2, 2, 0));
        let error = client.task().acquire_many("host:c", 2).submit(inc, 1).result().unwrap_err();
        assert!(error.to_string().contains("2 of the limit `host:c`, which is 1"), "{error}");
        // The first pattern that matches counts.
        let seven = client.task().acquire_many("any", 7).submit(inc, 1);
        assert_eq!(seven.result().unwrap(), 2);
        assert_eq!(client.limits()[1].pattern.as_deref(), Some("host:*"));
        gate.open();
        block_on(gather([a, b, two])).unwrap();
        assert_eq!(waits.result().unwrap(), 2);
    });
}

#[test]
fn a_pattern_changes_all_that_it_has_made() {
    bounded(|| {
        let client = Client::builder().workers(1).limit_each("host:*", 1).build();
        let gate = Gate::new();
        let held = ["host:a", "host:b"].map(|name| hold(&client, name, 1, &gate));
        client.set_limit("host:b", 1);
        let waits = ["host:a", "host:b"].map(|name| client.task().acquire(name).submit(inc, 1));
        turns(&client);
        client.set_limit_each("host:*", 2);
        assert_eq!(waits[0].result().unwrap(), 2);
        turns(&client);
        assert!(!waits[1].is_finished(), "it has a declaration of its own");
        client.set_limit("host:b", 2);
        assert_eq!(waits[1].result().unwrap(), 2);
        gate.open();
        block_on(gather(held)).unwrap();
        let names: Vec<_> = client.limits().into_iter().map(|limit| limit.name).collect();
        assert_eq!(names, ["host:b"]);
    });
}

#[test]
fn a_slow_name_does_not_keep_what_others_can_use() {
    bounded(|| {
        let client =
            Client::builder().workers(1).limit("sockets", 3).limit_each("host:*", 1).build();
        let get = |host: &str| client.task().acquire("sockets").acquire(format!("host:{host}"));
        let gate = Gate::new();
        let slow = get("slow").spawn(gate.pass());
        let behind = get("slow").map(inc, 0..50);
        turns(&client);
        assert_eq!(limit(&client, "host:slow"), (1, 1, 50));
        for n in 0..200 {
            assert_eq!(get(&format!("{}", n % 7)).submit(inc, n).result().unwrap(), n + 1);
        }
        assert_eq!(behind.iter().filter(|task| task.is_finished()).count(), 0);
        gate.open();
        slow.result().unwrap();
        block_on(gather(behind)).unwrap();
    });
}

#[test]
fn no_task_starves_that_needs_several_limits() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("a", 1).limit("b", 1).build();
        let done = Gate::new();
        let log = Log::new();
        // Each submits the next one before it ends, so there is always one that wants the limit.
        fn chain(client: Client, name: &'static str, done: Gate, log: Log<&'static str>) {
            let next = client.clone();
            let work = async move || {
                yield_now().await;
                log.add(name);
                if !done.is_open() {
                    chain(next, name, done, log);
                }
                yield_now().await;
            };
            client.task().acquire(name).submit(work, ()).detach();
        }
        for name in ["a", "b", "a", "b"] {
            chain(client.clone(), name, done.clone(), log.clone());
        }
        eventually("they run", || log.len() > 100);
        client.task().acquire("a").acquire("b").submit(inc, 1).result().unwrap();
        done.open();
        block_on(client.idle());
    });
}

#[test]
fn tasks_of_many_names_are_cheap_and_leave_nothing() {
    bounded(|| assert_linear(10_000, use_many_names));
}

/// All of them wait for one limit, too, and hold and release each its own.
fn use_many_names(count: usize) {
    let client = Client::builder().workers(1).limit("sockets", 2).limit_each("host:*", 1).build();
    let gate = Gate::new();
    let held = [(); 2].map(|()| hold(&client, "sockets", 1, &gate));
    let tasks: Vec<_> = (0..count)
        .map(|n| {
            let options = client.task().acquire("sockets").acquire(format!("host:{}", n / 2));
            options.submit(async || yield_now().await, ())
        })
        .collect();
    turns(&client);
    assert_eq!(client.limits().len(), 1 + count / 2);
    gate.open();
    block_on(gather(held)).unwrap();
    block_on(gather(tasks)).unwrap();
    assert_eq!(client.limits().len(), 1);
}

#[test]
fn what_a_task_of_a_pattern_waits_for_is_named() {
    bounded(|| {
        let client = Client::builder().workers(1).limit_each("host:*", 1).build();
        let gate = Gate::new();
        let held = hold(&client, "host:a", 1, &gate);
        let waits = client.task().acquire("host:a").submit(inc, 1);
        turns(&client);
        let full = Reason::LimitFull {
            name: "host:a".into(),
            of: 1,
            used: 1,
            needed: 1,
            ahead: 0,
            holders: vec![held.key()],
        };
        assert_eq!(client.explain(&waits).reasons, [full]);
        gate.open();
        waits.result().unwrap();
    });
}

#[test]
fn a_limit_that_is_declared_with_0_holds_its_tasks_back() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("built", 0).build();
        client.set_limit("set", 0);
        for name in ["built", "set"] {
            let held = client.task().acquire_many(name, 3).submit(inc, 1);
            eventually("it waits", || limit(&client, name) == (0, 0, 1));
            client.set_limit(name, 1);
            client.submit(inc, 1).result().unwrap();
            assert!(!held.is_finished());
            client.set_limit(name, 3);
            assert_eq!(held.result().unwrap(), 2);
            // Now it's known what there can be.
            let error = client.task().acquire_many(name, 4).submit(inc, 1).result().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Limit);
        }
    });
}
