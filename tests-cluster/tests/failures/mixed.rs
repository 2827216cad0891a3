//! Rust and Python workers in one cluster: each task runs on a worker that can run it, also when workers join and leave.

use std::collections::BTreeMap;
use std::time::Duration;

use ensue::Handle;
use ensue::dask::Client;
use ensue_tests_cluster::{Cluster, Setting, eventually, wait};

use crate::functions::{add, inc, total};
use crate::run::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("python_tasks_go_to_python_workers", python_tasks_go_to_python_workers),
    ("python_takes_items_of_batches", python_takes_items_of_batches),
    ("python_tasks_wait_for_a_python_worker", python_tasks_wait_for_a_python_worker),
    ("the_python_worker_is_replaced", the_python_worker_is_replaced),
    ("a_released_python_task_runs_again", a_released_python_task_runs_again),
];

/// While the Rust workers are idle.
fn python_tasks_go_to_python_workers(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let _ours = (cluster.worker("a"), cluster.worker("b"));
    let _python = cluster.python_worker("python");
    let client = cluster.client();
    let x = client.submit(inc, 1);
    let y = client.submit_python::<u64>("operator.add", (&x, 5));
    let z = client.submit(add, (&x, &y));
    assert_eq!(wait(z).expect("a sum"), 9);
    assert_eq!(wait(y).expect("a sum"), 7);
    let call = |x: u64| client.submit_python::<u64>("operator.add", (x, 1));
    let ys: Vec<_> = (0..300).map(call).collect();
    assert_eq!(wait(client.submit(total, &ys)).expect("a total"), (1..=300).sum::<u64>());
    let path = client.submit_python::<String>("os.getcwd", ());
    assert!(!wait(path).expect("a path").is_empty());
    wait(client.close());
    Ok(())
}

/// The results of a `map` are items of lists.
fn python_takes_items_of_batches(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let _ours = (cluster.worker("a"), cluster.worker("b"));
    let _python = cluster.python_worker("python");
    let client = cluster.client();
    let xs = client.map(inc, 0..200_u64);
    let python = client.submit_python::<u64>("builtins.sum", (xs.iter().collect::<Vec<_>>(),));
    let one = client.submit_python::<u64>("operator.mul", (&xs[7], &xs[150]));
    let dict = BTreeMap::from([("a", vec![&xs[3]]), ("b", vec![&xs[4], &xs[5]])]);
    let list = client.submit_python::<Vec<u64>>("operator.getitem", (dict, "b"));
    assert_eq!(wait(python).expect("a total"), (1..=200).sum::<u64>());
    assert_eq!(wait(one).expect("a product"), 8 * 151);
    assert_eq!(wait(list).expect("a list"), [5, 6]);
    wait(client.close());
    Ok(())
}

fn python_tasks_wait_for_a_python_worker(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let _ours = (cluster.worker("a"), cluster.worker("b"));
    let client = cluster.client();
    let x = client.submit(inc, 1);
    let y = client.submit_python::<u64>("operator.add", (&x, 5));
    let z = client.submit(inc, &y);
    let ys: Vec<Handle<u64>> = (0..50).map(|x| client.submit_python("operator.neg", -x)).collect();
    let sum = client.submit(total, &ys);
    drop(ys);
    drop(client.submit_python::<u64>("operator.add", (1, 2)));
    // Other tasks still run.
    assert_eq!(wait(client.submit(total, client.map(inc, 0..100_u64))).expect("a total"), 5050);
    std::thread::sleep(Duration::from_millis(700));
    assert!(!y.is_finished() && !z.is_finished());
    let _python = cluster.python_worker("python");
    assert_eq!(wait(z).expect("a result"), 8);
    assert_eq!(wait(y).expect("a result"), 7);
    assert_eq!(wait(sum).expect("a total"), (0..50).sum::<u64>());
    wait(client.close());
    Ok(())
}

fn naps(client: &Client, seconds: f64, count: usize) -> Vec<Handle<()>> {
    (0..count).map(|_| client.submit_python("time.sleep", seconds)).collect()
}

/// Some of its tasks are finished, one is running, others haven't started.
fn the_python_worker_is_replaced(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let _ours = (cluster.worker("a"), cluster.worker("b"));
    let mut first = cluster.python_worker("first");
    let client = cluster.client();
    let done = client.submit_python::<u64>("operator.add", (1, 2));
    let naps = naps(&client, 0.4, 5);
    let last = client.submit_python::<u64>("operator.add", (&done, 5));
    eventually("one is done", || naps.iter().any(Handle::is_finished));
    first.kill();
    cluster.wait_for_workers(2);
    let new = client.submit_python::<u64>("operator.add", (&done, 6));
    let _second = cluster.python_worker("second");
    assert_eq!(wait(last).expect("a sum"), 8);
    assert_eq!(wait(new).expect("a sum"), 9);
    for nap in naps {
        wait(nap).expect("a finished nap");
    }
    assert_eq!(wait(done).expect("a sum"), 3);
    wait(client.close());
    Ok(())
}

/// Its dependent's result is lost after all Python workers were replaced.
fn a_released_python_task_runs_again(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let mut ours = cluster.worker("ours");
    let mut first = cluster.python_worker("first");
    let client = cluster.client();
    let y = client.submit_python::<u64>("operator.add", (1, 2));
    let z = client.submit(inc, &y);
    eventually("the dependent is finished", || z.is_finished());
    drop(y);
    std::thread::sleep(Duration::from_millis(300));
    first.kill();
    cluster.wait_for_workers(1);
    let _second = cluster.python_worker("second");
    let _other = cluster.worker("other");
    ours.kill();
    assert_eq!(wait(z).expect("a result"), 4);
    wait(client.close());
    Ok(())
}
