//! Batches of small calls that are lost with their worker, and that another worker splits into shorter ones.

use std::fs;

use ensue::{Handle, gather, wait_all};
use ensue_tests_cluster::{Cluster, Setting, eventually, wait};

use crate::functions::{add, delayed, inc, total};
use crate::run::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("dependents_use_the_calls_of_a_shorter_batch", dependents_use_the_calls_of_a_shorter_batch),
    ("a_shorter_batch_serves_python", a_shorter_batch_serves_python),
];

const COUNT: u64 = 64;

/// Calls on a worker that will be killed. They take longer from then on.
struct Calls {
    path: String,
    results: Vec<Handle<u64>>,
}

impl Calls {
    fn make(cluster: &Cluster, client: &ensue::dask::Client) -> Self {
        let path = cluster.folder().join("slow").to_str().expect("a path").to_owned();
        let results = client.map(delayed, (0..COUNT).map(|x| (path.clone(), x)));
        wait(wait_all(&results));
        Self { path, results }
    }

    fn slow_down(&self) {
        fs::write(&self.path, "").expect("a file");
    }
}

/// Some dependents of the calls are finished, and lost with them. Others haven't started.
fn dependents_use_the_calls_of_a_shorter_batch(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let mut first = cluster.worker("first");
    let client = cluster.client();
    let calls = Calls::make(&cluster, &client);
    let xs = &calls.results;
    let pairs: Vec<_> = xs.iter().zip(xs.iter().rev()).collect();
    let sums: Vec<_> = pairs.into_iter().map(|pair| client.submit(add, pair)).collect();
    let next: Vec<_> = sums.iter().map(|sum| client.submit(inc, sum)).collect();
    wait(wait_all(&next));
    // No handle is left of the inputs of `next`.
    drop(sums);
    let late = client.task().workers(["second"]).submit(total, xs);
    calls.slow_down();
    first.kill();
    let _second = cluster.worker("second");
    assert_eq!(wait(late).expect("a sum"), (0..COUNT).sum::<u64>());
    assert_eq!(wait(gather(next)).expect("sums"), vec![COUNT; COUNT as usize]);
    assert_eq!(wait(gather(calls.results)).expect("values"), (0..COUNT).collect::<Vec<_>>());
    wait(client.close());
    Ok(())
}

fn a_shorter_batch_serves_python(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let mut first = cluster.worker("first");
    let mut python = cluster.python_worker("python");
    let client = cluster.client();
    let calls = Calls::make(&cluster, &client);
    let negated: Vec<Handle<i64>> =
        calls.results.iter().map(|x| client.submit_python("operator.neg", x)).collect();
    eventually("all are negated", || negated.iter().all(Handle::is_finished));
    calls.slow_down();
    first.kill();
    python.kill();
    let _second = cluster.worker("second");
    let _python = cluster.python_worker("another");
    let expected: Vec<_> = (0..COUNT as i64).map(|x| -x).collect();
    assert_eq!(wait(gather(negated)).expect("values"), expected);
    wait(client.close());
    Ok(())
}
