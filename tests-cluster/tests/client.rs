//! The client against stock schedulers and workers, of each release that `ENSUE_DASK` has an environment of: folders with
//! `bin/dask`, separated by colons. Without any, nothing is tested.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ensue::dask::{Client, Registry};
use ensue::{Error, ErrorKind, Handle, gather, wait_all};
use ensue_dask_proto::call;
use ensue_tests_cluster::comm::Comm;
use ensue_tests_cluster::{Cluster, Setting, environments, wait};

#[test]
fn stock_workers_run_python_functions() {
    for environment in environments() {
        println!("Dask in {}", environment.display());
        talk(environment);
    }
}

/// Returns the output of a future, which must be ready within `seconds`.
#[track_caller]
fn within<F: IntoFuture>(seconds: u64, future: F) -> F::Output {
    let start = Instant::now();
    let output = wait(future);
    assert!(start.elapsed() < Duration::from_secs(seconds), "{:?}", start.elapsed());
    output
}

#[track_caller]
fn error_of<T>(result: Result<T, Error>, kind: ErrorKind) -> String {
    let error = result.err().expect("an error");
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

fn talk(environment: PathBuf) {
    let cluster = Cluster::start(&Setting { environment, registry: Registry::new });
    let client = cluster.client();
    assert!(format!("{client:?}").contains(&cluster.address), "{client:?}");

    // Before there's a worker.
    let early = client.task().key("early-1").ready(Bytes::from_static(b"early"));
    let length: Handle<u64> = client.task().key("len-1").submit_python("builtins.len", (&early,));
    let worker = cluster.python_worker("python");
    assert_eq!(within(60, &length).unwrap(), 5);
    assert_eq!(within(60, &early).unwrap(), "early".as_bytes());

    inputs(&client);
    failures(&client);
    released(&client, &cluster);
    many_at_once(&client);
    one_by_one(&client);
    // The second worker is dropped last: the scheduler's messages about its end would meet a closed connection.
    let _worker = recomputed(&client, || {
        drop(worker);
        thread::sleep(Duration::from_secs(1));
        cluster.python_worker("python-2")
    });

    let sleep = |client: &Client, key: &str| -> Handle<Option<u64>> {
        client.task().key(key).submit_python("time.sleep", (100.0,))
    };
    let left = sleep(&client, "sleep-1");
    within(10, client.close());
    error_of(within(1, left), ErrorKind::Closed);
    within(1, client.close());
    let late: Handle<Vec<u64>> = client.task().key("late-1").submit_python("builtins.list", ());
    error_of(within(1, late), ErrorKind::Closed);

    let client = cluster.client();
    let lost = sleep(&client, "sleep-2");
    let address = cluster.address.clone();
    let log = cluster.stop();
    let error = error_of(within(10, &lost), ErrorKind::Lost);
    assert!(
        error.contains(&format!("the connection to the scheduler at {address} was lost: ")),
        "{error}"
    );
    error_of(within(1, lost), ErrorKind::Lost);
    // That of the function that doesn't exist.
    assert_eq!(log.matches("Traceback").count(), 1, "{log}");
}

fn inputs(client: &Client) {
    let one: Handle<u64> = client.task().key("add-1").submit_python("operator.add", (1, 2));
    let two: Handle<u64> = client.task().key("add-2").submit_python("operator.add", (&one, 4));
    let both = vec![one.clone(), two.clone()];
    let sum: Handle<u64> = client.task().key("sum-1").submit_python("builtins.sum", (both,));
    assert_eq!(within(60, sum).unwrap(), 10);
    assert_eq!(within(60, two).unwrap(), 7);
    within(1, wait_all([&one]));
    assert!(one.is_finished());
}

fn failures(client: &Client) {
    const BY_ZERO: &str = "ZeroDivisionError: division by zero";
    let divide = |x: u64, y: u64| -> Handle<f64> {
        client.task().key("div-1").submit_python("operator.truediv", (x, y))
    };
    let bad = divide(1, 0);
    let next: Handle<f64> = client.task().key("neg-1").submit_python("operator.neg", (&bad,));
    for handle in [&bad, &next] {
        let error = error_of(within(10, handle), ErrorKind::Failed);
        assert!(error.ends_with(BY_ZERO), "{error}");
    }
    assert!(next.retry());
    assert!(next.try_get().is_none());
    error_of(within(10, &next), ErrorKind::Failed);
    error_of(within(10, &bad), ErrorKind::Failed);
    // A function that doesn't exist, and one that does, submitted together.
    let none: Handle<u64> = client.task().key("none-1").submit_python("operator.none", ());
    let good: Handle<u64> = client.task().key("pos-1").submit_python("operator.pos", (1,));
    let error = error_of(within(10, none), ErrorKind::Failed);
    println!("  {error}");
    assert_eq!(within(60, good).unwrap(), 1);
    // A failed task is replaced.
    drop(next);
    let again = divide(1, 2);
    assert_eq!(within(60, &again).unwrap(), 0.5);
    error_of(within(1, &bad), ErrorKind::Failed);
    drop(bad);
    assert_eq!(within(60, again).unwrap(), 0.5);
}

fn released(client: &Client, cluster: &Cluster) {
    let mut calls = Comm::connect(&cluster.address);
    let identity = call::map_reply(calls.call(call::identity())).unwrap();
    assert_eq!(identity.text("type"), Some("Scheduler"));
    for round in 0..20u64 {
        let sum: Handle<u64> =
            client.task().key("again-1").submit_python("operator.add", (round, 1));
        assert_eq!(within(60, sum).unwrap(), round + 1);
    }
}

/// The only worker is killed, and `replace` starts another one, which is returned.
fn recomputed<T>(client: &Client, replace: impl FnOnce() -> T) -> T {
    let sum: Handle<u64> = client.task().key("sum-2").submit_python("operator.add", (20, 3));
    let data = client.task().key("data-2").ready(Bytes::from_static(b"only there"));
    within(10, wait_all([&sum]));
    within(10, wait_all([&data]));
    let new = replace();
    assert_eq!(within(60, sum).unwrap(), 23);
    let error = error_of(within(60, &data), ErrorKind::Lost);
    assert!(error.contains("doesn't have it any more"), "{error}");
    let next: Handle<u64> = client.task().key("len-2").submit_python("builtins.len", (&data,));
    error_of(within(1, next), ErrorKind::Lost);
    new
}

fn many_at_once(client: &Client) {
    let count = 1_000;
    let start = Instant::now();
    let abs = |at| -> Handle<u64> {
        let key = format!("abs-{count}-{at}");
        client.task().key(key).submit_python("builtins.abs", (at,))
    };
    let handles: Vec<_> = (0..count).map(abs).collect();
    let submitted = start.elapsed();
    within(120, wait_all(&handles));
    assert!(handles.iter().all(Handle::is_finished));
    let ended = start.elapsed();
    let start = Instant::now();
    let values = within(60, gather(&handles)).unwrap();
    assert_eq!(values.into_iter().sum::<u64>(), (0..count).sum::<u64>());
    let gathered = start.elapsed();
    println!("  {count}: submitted {submitted:?}, ended {ended:?}, gathered {gathered:?}");
}

fn one_by_one(client: &Client) {
    let (mut ended, mut fetched) = (Duration::ZERO, Duration::ZERO);
    for at in 0..20u64 {
        let start = Instant::now();
        let key = format!("one-{at}");
        let abs: Handle<u64> = client.task().key(key).submit_python("builtins.abs", (at,));
        within(10, wait_all([&abs]));
        ended += start.elapsed();
        let start = Instant::now();
        assert_eq!(within(60, abs).unwrap(), at);
        fetched += start.elapsed();
    }
    println!("  one after the other: ended {:?}, fetched {:?}", ended / 20, fetched / 20);
}
