//! Workers on several hosts.

use std::time::{Duration, Instant};

use ensue_tests_cluster::hosts::Network;
use ensue_tests_cluster::{Cluster, Options, Setting, eventually, wait};

use crate::functions::{blob, inc, length, slowly, total};
use crate::run::{Outcome, Skipped, Test};

pub(crate) const TESTS: &[Test] =
    &[("workers_on_hosts", workers_on_hosts), ("a_host_is_unplugged", a_host_is_unplugged)];

/// Large results are sent from worker to worker, not through the scheduler or the client.
fn workers_on_hosts(setting: &Setting) -> Outcome {
    const LENGTH: u64 = 20_000_000;
    let mut network = Network::new().map_err(Skipped)?;
    let hosts = [network.host(), network.host(), network.host()];
    let [center, left, right] = hosts.map(|host| host.map_err(Skipped));
    let (center, left, right) = (center?, left?, right?);
    let cluster =
        Cluster::start_with(setting, &Options { host: Some(&center), ..Default::default() });
    let (_left, _right) = (cluster.worker_on(&left, "left"), cluster.worker_on(&right, "right"));
    let client = cluster.client();
    let blobs: Vec<_> =
        (0..4).map(|at| client.task().workers(["left"]).submit(blob, LENGTH + at)).collect();
    let sums = blobs.iter().map(|bytes| client.task().workers(["right"]).submit(length, bytes));
    let sums: Vec<_> = sums.collect();
    let expected: u64 = (0..4).map(|at| LENGTH + at).sum();
    assert_eq!(wait(client.submit(total, sums)).expect("a total"), expected);
    assert!(right.received() > 4 * LENGTH, "{} bytes", right.received());
    assert!(center.received() < LENGTH, "{} bytes", center.received());
    assert!(left.received() < LENGTH, "{} bytes", left.received());
    // The client fetches from a worker on another host.
    assert_eq!(wait(&blobs[3]).expect("bytes").len() as u64, LENGTH + 3);
    wait(client.close());
    Ok(())
}

/// No connection is closed, and no message is answered.
fn a_host_is_unplugged(setting: &Setting) -> Outcome {
    let mut network = Network::new().map_err(Skipped)?;
    let hosts = [network.host(), network.host(), network.host()];
    let [center, left, right] = hosts.map(|host| host.map_err(Skipped));
    let (center, left, right) = (center?, left?, right?);
    let variables = [("DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL", "4s")];
    let options = Options { host: Some(&center), variables: &variables, ..Default::default() };
    let cluster = Cluster::start_with(setting, &options);
    let (_left, _right) = (cluster.worker_on(&left, "left"), cluster.worker_on(&right, "right"));
    let client = cluster.client();
    let next = |x| client.submit(inc, client.submit(slowly, (200, x)));
    let ys: Vec<_> = (0..16).map(next).collect();
    eventually("some are done", || ys.iter().filter(|y| y.is_finished()).count() >= 4);
    left.unplug();
    let start = Instant::now();
    assert_eq!(wait(client.submit(total, ys)).expect("a total"), (1..=16).sum::<u64>());
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    wait(client.close());
    Ok(())
}
