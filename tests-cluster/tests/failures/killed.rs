//! Workers that are killed: while they compute, while others fetch from them, and by their own tasks.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ensue::dask::Client;
use ensue::{ErrorKind, Handle};
use ensue_tests_cluster::proxy::{Proxy, Then};
use ensue_tests_cluster::{Cluster, Process, Setting, eventually, free_port, wait};

use crate::functions::{blob, die, inc, length, slowly, total};
use crate::run::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("killed_mid_graph", killed_mid_graph),
    ("killed_while_serving", killed_while_serving),
    ("stopped_while_a_peer_fetches", stopped_while_a_peer_fetches),
    ("a_task_that_kills_its_worker", a_task_that_kills_its_worker),
    ("killed_after_spilling", killed_after_spilling),
];

/// Some of its tasks are finished, some are running, some haven't started: the other worker computes all of them.
fn killed_mid_graph(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let (mut first, _second) = (cluster.worker("first"), cluster.worker("second"));
    let client = cluster.client();
    // Tasks run in the order of submission, so some are finished while others wait.
    let next = |x| client.submit(inc, client.submit(slowly, (200, x)));
    let ys: Vec<_> = (0..16).map(next).collect();
    let sum = client.submit(total, &ys);
    eventually("a quarter is done", || done(&ys) >= 4);
    assert!(done(&ys) < 16, "the worker is killed too late");
    first.kill();
    assert_eq!(wait(sum).expect("a total"), (0..16).map(|x| x + 1).sum::<u64>());
    cluster.wait_for_workers(1);
    wait(client.close());
    Ok(())
}

fn done(handles: &[Handle<u64>]) -> usize {
    handles.iter().filter(|handle| handle.is_finished()).count()
}

const LENGTH: u64 = 50_000_000;

/// A worker behind a proxy, and one that fetches a large result from it, of which half has arrived.
struct Fetching {
    source: Process,
    _other: Process,
    _cable: Proxy,
    sum: Handle<u64>,
    client: Client,
}

fn fetching(cluster: &Cluster) -> Fetching {
    // All of 127.0.0.0/8 is loopback: the proxy listens on the same port of another address.
    let port = free_port();
    let cable =
        Proxy::start(&format!("127.0.0.2:{port}"), SocketAddr::from(([127, 0, 0, 1], port)));
    let listen = format!("127.0.0.1:{port}");
    let source = cluster.worker_with("source", &["--listen", &listen, "--announce", "127.0.0.2"]);
    let client = cluster.client();
    let bytes = client.submit(blob, LENGTH);
    eventually("the blob is finished", || bytes.is_finished());
    let other = cluster.worker("other");
    cable.after(LENGTH / 2, Then::Stall);
    let sum = client.task().workers(["other"]).submit(length, &bytes);
    drop(bytes);
    eventually("half of it has come", || cable.is_stalled());
    Fetching { source, _other: other, _cable: cable, sum, client }
}

fn killed_while_serving(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let mut fetching = fetching(&cluster);
    fetching.source.kill();
    drop(fetching._cable);
    assert_eq!(wait(fetching.sum).expect("a sum"), LENGTH);
    wait(fetching.client.close());
    Ok(())
}

/// No connection is closed. The fetching worker times out, and the scheduler removes the stopped worker after its TTL. When
/// that one continues, it learns that it was removed, and exits.
fn stopped_while_a_peer_fetches(setting: &Setting) -> Outcome {
    let variables = [("DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL", "4s")];
    let options = ensue_tests_cluster::Options { variables: &variables, ..Default::default() };
    let cluster = Cluster::start_with(setting, &options);
    let mut fetching = fetching(&cluster);
    fetching.source.signal("STOP");
    let start = Instant::now();
    assert_eq!(wait(fetching.sum).expect("a sum"), LENGTH);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    // A worker that was silent for this long takes the scheduler's request to close for its removal, which is an error.
    std::thread::sleep(Duration::from_secs(25).saturating_sub(start.elapsed()));
    fetching.source.signal("CONT");
    let status = fetching.source.ended_within(Duration::from_secs(30));
    let log = fetching.source.log();
    assert!(!status.success() && log.contains(&cluster.address), "{status}:\n{log}");
    wait(fetching.client.close());
    Ok(())
}

/// Dask fails the task after its fourth worker.
fn a_task_that_kills_its_worker(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let _workers: Vec<_> = (0..5).map(|at| cluster.worker(&format!("worker-{at}"))).collect();
    let client = cluster.client();
    let bad = client.submit(die, 1);
    let after = client.submit(inc, &bad);
    let error = wait(&bad).expect_err("it can't be done");
    assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
    assert!(error.to_string().contains("KilledWorker"), "{error}");
    let error = wait(after).expect_err("it can't be done");
    assert_eq!((error.kind(), error.origin()), (ErrorKind::Failed, &bad.key()), "{error}");
    cluster.wait_for_workers(1);
    assert_eq!(wait(client.submit(inc, 1)).expect("one is left"), 2);
    wait(client.close());
    Ok(())
}

/// The next worker with the same local directory removes its files, but not those of a live worker.
fn killed_after_spilling(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let folder = cluster.folder().join("spilled");
    fs::create_dir(&folder).expect("a folder");
    let path = folder.to_str().expect("text");
    let options = ["--memory-limit", "100MB", "--local-directory", path];
    let client = cluster.client();
    let spilled = |name: &'static str| {
        let before = folders(&folder);
        let worker = cluster.worker_with(name, &options);
        let task = |at: u64| client.task().workers([name]).submit(blob, 10_000_000 + at);
        let blobs: Vec<_> = (0..15).map(task).collect();
        eventually("all are finished", || blobs.iter().all(Handle::is_finished));
        let own = folders(&folder).into_iter().find(|own| !before.contains(own));
        (worker, own.expect("a folder of its own"), blobs)
    };
    let (mut first, left, blobs) = spilled("first");
    let (_second, kept, other_blobs) = spilled("second");
    let files = |folder: &Path| fs::read_dir(folder).map_or(0, Iterator::count);
    assert!(files(&left) > 2 && files(&kept) > 2);
    first.kill();
    drop(blobs);
    cluster.wait_for_workers(1);
    let third = cluster.worker_with("third", &options);
    eventually("the files of the first worker are removed", || !left.exists());
    assert_eq!(folders(&folder), [kept]);
    for (at, bytes) in (0..).zip(other_blobs) {
        assert_eq!(wait(client.submit(length, bytes)).expect("its length"), 10_000_000 + at);
    }
    assert!(third.log().contains("its worker was killed"), "{}", third.log());
    wait(client.close());
    Ok(())
}

fn folders(within: &Path) -> Vec<PathBuf> {
    fs::read_dir(within).expect("a folder").map(|entry| entry.expect("an entry").path()).collect()
}
