//! Clients and workers that join and leave.

use std::collections::HashSet;
use std::time::Duration;

use ensue::{Handle, gather};
use ensue_tests_cluster::{Cluster, Process, Setting, eventually, wait};

use crate::functions::{add, inc, slowly, total, worker_id};
use crate::run::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("two_clients", two_clients),
    ("a_worker_is_retired_and_another_takes_its_name", a_worker_is_retired),
    ("a_worker_retires_on_a_signal", a_worker_retires_on_a_signal),
    ("the_cluster_is_restarted", the_cluster_is_restarted),
    ("the_cluster_grows_while_tasks_wait", the_cluster_grows_while_tasks_wait),
];

/// A result that one client releases stays for the other.
fn two_clients(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let (_a, _b) = (cluster.worker("a"), cluster.worker("b"));
    let (one, two) = (cluster.client(), cluster.client());
    let ours = one.task().key("shared").submit(slowly, (300, 7));
    let theirs = two.task().key("shared").submit(slowly, (300, 7));
    let next = two.submit(inc, &theirs);
    let xs: Vec<_> = (0..200).map(|x| one.submit(inc, x)).collect();
    let ys: Vec<_> = (0..200).map(|y| two.submit(inc, 1000 + y)).collect();
    let (xs, ys) = (one.submit(total, xs), two.submit(total, ys));
    assert_eq!(wait(xs).expect("a total"), (1..=200).sum::<u64>());
    drop(ours);
    wait(one.close());
    assert_eq!(wait(ys).expect("a total"), (1001..=1200).sum::<u64>());
    assert_eq!(wait(next).expect("a result"), 8);
    assert_eq!(wait(theirs).expect("a result"), 7);
    // A client that is dropped without `close` has no effect on the others.
    let three = cluster.client();
    let left: Handle<u64> = three.submit(slowly, (60_000, 1));
    drop((three, left));
    assert_eq!(wait(two.submit(add, (1, 2))).expect("a result"), 3);
    wait(two.close());
    Ok(())
}

/// Its results are moved to the other worker first, and no task runs again.
fn a_worker_is_retired(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let mut first = cluster.worker("first");
    let client = cluster.client();
    let ids: Vec<_> = (0..20).map(|x| client.submit(worker_id, x)).collect();
    eventually("all are finished", || ids.iter().all(Handle::is_finished));
    let _second = cluster.worker("second");
    cluster.python("client.retire_workers(names=['first'])");
    let status = first.ended_within(Duration::from_secs(30));
    assert!(status.success(), "{}", first.log());
    let ids = wait(gather(ids)).expect("all");
    assert!(ids.iter().all(|id| *id == first.id()), "{ids:?} instead of {}", first.id());

    let again = cluster.worker("first");
    let id = client.task().workers(["first"]).submit(worker_id, 100);
    assert_eq!(wait(id).expect("a result"), again.id());
    wait(client.close());
    Ok(())
}

/// Kubernetes and Slurm send these signals. The worker moves its results before it exits.
fn a_worker_retires_on_a_signal(setting: &Setting) -> Outcome {
    for signal in ["TERM", "INT"] {
        let cluster = Cluster::start(setting);
        let mut first = cluster.worker("first");
        let client = cluster.client();
        let ids: Vec<_> = (0..20).map(|x| client.submit(worker_id, x)).collect();
        eventually("all are finished", || ids.iter().all(Handle::is_finished));
        let _second = cluster.worker("second");
        first.signal(signal);
        let status = first.ended_within(Duration::from_secs(40));
        assert!(status.success(), "{}", first.log());
        let ids = wait(gather(ids)).expect("all");
        assert!(ids.iter().all(|id| *id == first.id()), "{ids:?} instead of {}", first.id());
        cluster.wait_for_workers(1);
        wait(client.close());
    }
    Ok(())
}

/// Dask forgets all tasks. Their handles are lost; with new workers, the same client works again.
fn the_cluster_is_restarted(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let mut worker = cluster.worker("worker");
    let client = cluster.client();
    let slow: Vec<_> = (0..3).map(|x| client.submit(slowly, (60_000, x))).collect();
    let next = client.submit(inc, &slow[0]);
    // It waits for new workers, which nothing starts without a nanny.
    cluster.python("client.restart(wait_for_workers=False)");
    assert!(wait(next).is_err());
    for handle in slow {
        assert!(wait(handle).is_err());
    }
    worker.ended_within(Duration::from_secs(30));
    cluster.wait_for_workers(0);
    let _worker = cluster.worker("worker");
    assert_eq!(wait(client.submit(inc, 1)).expect("a result"), 2);
    wait(client.close());
    Ok(())
}

/// The test asks the scheduler for its target number of workers, as Dask's adaptive clusters do, and starts them; they
/// share the waiting tasks. In the end the target is lower.
fn the_cluster_grows_while_tasks_wait(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let client = cluster.client();
    let xs: Vec<_> = (0..150).map(|x| client.submit(slowly, (200, x))).collect();
    let ids: Vec<_> = xs.iter().map(|x| client.submit(worker_id, x)).collect();
    assert!(wanted(&cluster) > 0);
    let mut workers: Vec<Process> = vec![cluster.worker("worker-0")];
    eventually("one is done", || xs[0].is_finished());
    let more = wanted(&cluster).min(4);
    assert!(more > 1, "{more} for 30 s of work");
    for at in 1..more {
        workers.push(cluster.worker(&format!("worker-{at}")));
    }
    let ids: HashSet<_> = wait(gather(ids)).expect("all").into_iter().collect();
    let ours = workers.iter().map(Process::id).collect();
    assert_eq!(ids, ours, "all share the work");
    drop(xs);
    eventually("the target is lower", || wanted(&cluster) < more);
    wait(client.close());
    Ok(())
}

fn wanted(cluster: &Cluster) -> usize {
    let program = "print(client.run_on_scheduler(lambda dask_scheduler: \
                   dask_scheduler.adaptive_target(target_duration='1s')))";
    let text = cluster.python(program);
    text.trim().parse().unwrap_or_else(|_| panic!("{text}"))
}
