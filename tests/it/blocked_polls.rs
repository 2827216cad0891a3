//! Polls that block their worker, as `explain` and `on_stall` show them (promise 23).

use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use ensue::{Client, Handle, Key, Reason, Stall};
use futures::future::{self, BoxFuture, FutureExt};
use support::hold::Gate;
use support::{bounded, client_of, eventually};

/// A way to block on a future.
type BlockOn = fn(BoxFuture<'static, ()>);

/// Those of the crates that tasks are likely to meet.
fn ways_to_block() -> Vec<BlockOn> {
    vec![
        |waits| futures::executor::block_on(waits),
        |waits| futures_lite::future::block_on(waits),
        |waits| smol::block_on(waits),
        |waits| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.handle().block_on(waits);
        },
    ]
}

async fn compute(begun: Gate, until: Gate) {
    begun.open();
    until.pass_blocking();
}

/// A task that is blocked in its poll until the gate is opened.
fn blocked(client: &Client, until: &Gate) -> Handle<()> {
    let begun = Gate::new();
    let task = client.submit(compute, (begun.clone(), until.clone()));
    begun.pass_blocking();
    task
}

/// The task and the function of a worker that is said to be blocked.
fn blocked_by(reasons: &[Reason]) -> Option<(Option<Key>, String)> {
    reasons.iter().find_map(|reason| match reason {
        Reason::Blocked { task, function, .. } => Some((task.clone(), function.clone())),
        _ => None,
    })
}

#[test]
fn a_block_on_of_another_crate_is_found_without_recording() {
    bounded(|| {
        for block_on in ways_to_block() {
            let client = client_of(1);
            let gate = Gate::new();
            let (send, receive) = mpsc::channel();
            let until = gate.pass();
            let parent = client.task().name("parent").spawn(async move {
                let child = Client::current().unwrap().submit(async || (), ());
                send.send(child.clone()).unwrap();
                block_on(future::select(child, until).map(|_| ()).boxed());
            });
            let child = receive.recv().unwrap();
            eventually("the waiting task's explanation names it", || {
                let found = blocked_by(&client.explain(&child).reasons);
                found.is_some_and(|(task, _)| task == Some(parent.key()))
            });
            let text = client.explain(&child).to_string();
            let what = format!("worker 0 is blocked in a poll of `{}` for ", parent.key());
            assert!(text.contains(&what) && text.contains("submit_blocking"), "{text}");
            let explanation = client.explain(&parent);
            let [Reason::Running { worker: Some(0), lasted: Some(lasted) }] = &*explanation.reasons
            else {
                panic!("{explanation:?}");
            };
            assert!(*lasted >= Duration::from_millis(100));
            let text = explanation.to_string();
            assert!(text.contains("it runs on worker 0, blocked in a poll for "), "{text}");
            assert_eq!(client.stats().submitted, 0, "it records");
            gate.open();
            parent.result().unwrap();
            child.result().unwrap();
        }
    });
}

#[test]
fn a_long_computation_is_found_by_its_function_without_recording() {
    bounded(|| {
        let client = client_of(1);
        let gate = Gate::new();
        let task = blocked(&client, &gate);
        let queued = client.submit(async || 1, ());
        let next = client.submit(async |x: i32| x, &queued);
        let name = || Some((None, "compute".to_owned()));
        eventually("the queued task's explanation names it", || {
            blocked_by(&client.explain(&queued).reasons) == name()
        });
        // The task that waits for the queued one says why that hasn't run.
        let reasons = client.explain(&next).reasons;
        let [Reason::WaitsFor { why, .. }] = &*reasons else { panic!("{reasons:?}") };
        assert_eq!(blocked_by(why), name());
        let data = serde_json::to_value(client.explain(&queued)).unwrap();
        let reasons = data["reasons"].as_array().unwrap();
        let blocked = reasons.iter().find(|reason| reason["kind"] == "blocked").unwrap();
        assert_eq!((&blocked["worker"], &blocked["function"]), (&0.into(), &"compute".into()));
        assert!(blocked["lasted"].as_f64().unwrap() >= 0.1 && blocked["task"].is_null());
        gate.open();
        assert_eq!(next.result().unwrap(), 1);
        task.result().unwrap();
    });
}

#[test]
fn a_poll_that_ended_is_not_blamed_for_the_next() {
    bounded(|| {
        let client = client_of(1);
        let gates = [Gate::new(), Gate::new()];
        let tasks = gates.each_ref().map(|gate| {
            let task = blocked(&client, gate);
            let queued = client.submit(async || (), ());
            eventually("it is blocked", || blocked_by(&client.explain(&queued).reasons).is_some());
            gate.open();
            queued.result().unwrap();
            let idle = client.submit(async || (), ());
            idle.result().unwrap();
            assert_eq!(blocked_by(&client.explain(&idle).reasons), None);
            task
        });
        // The first look at a poll knows nothing of how long it has lasted.
        let gate = Gate::new();
        let last = blocked(&client, &gate);
        let first = client.explain(&last).reasons;
        assert_eq!(first, [Reason::Running { worker: Some(0), lasted: None }]);
        gate.open();
        last.result().unwrap();
        tasks.into_iter().for_each(|task| task.result().unwrap());
    });
}

/// Makes progress on the other workers until a report comes; not so much that only some tasks are watched.
fn next_report(client: &Client, stalls: &Receiver<Stall>) -> Stall {
    loop {
        client.submit(async || (), ()).result().unwrap();
        if let Ok(stall) = stalls.recv_timeout(Duration::from_millis(1)) {
            return stall;
        }
    }
}

/// The tasks whose polls a report names.
fn named(stall: &Stall) -> Vec<Key> {
    let blocked = stall.blocked.iter().map(|reason| match reason {
        Reason::Blocked { task: Some(task), .. } => task.clone(),
        other => panic!("{other:?}"),
    });
    blocked.collect()
}

/// Blocks one worker of three and then another. False if the machine was so busy that no task moved at all for a while,
/// which is reported as such.
fn two_blocked_workers_are_reported_one_by_one() -> bool {
    let (send, stalls) = mpsc::channel();
    let hook = move |stall: &Stall| {
        let _ = send.send(stall.clone());
    };
    let client = Client::builder().workers(3).on_stall(Duration::from_millis(100), hook).build();
    let gate = Gate::new();
    let tasks = [(); 2].map(|()| {
        let task = blocked(&client, &gate);
        (next_report(&client, &stalls), task)
    });
    let are_only_blocked = tasks.iter().all(|(stall, _)| stall.reasons.is_empty());
    if are_only_blocked {
        for (stall, task) in &tasks {
            assert_eq!(named(stall), [task.key()]);
            let text = stall.to_string();
            assert!(text.starts_with("1 worker blocked, "), "{text}");
            assert!(
                text.contains(&format!("blocked in a poll of `{}` for ", task.key())),
                "{text}"
            );
        }
    }
    gate.open();
    tasks.into_iter().for_each(|(_, task)| task.result().unwrap());
    are_only_blocked
}

#[test]
fn on_stall_names_a_blocked_worker_once_though_others_make_progress() {
    bounded(|| while !two_blocked_workers_are_reported_one_by_one() {});
}

#[test]
fn a_stall_names_the_poll_that_blocks_the_only_worker() {
    bounded(|| {
        let (send, stalls) = mpsc::channel();
        let client = Client::builder()
            .workers(1)
            .on_stall(Duration::from_millis(20), move |stall| send.send(stall.clone()).unwrap())
            .build();
        let gate = Gate::new();
        let task = blocked(&client, &gate);
        let queued = client.submit(async || (), ());
        let of_both = |stall: &Stall| stall.left == 2 && !stall.blocked.is_empty();
        let stall = stalls.iter().find(of_both).unwrap();
        assert_eq!(named(&stall), [task.key()]);
        let text = stall.to_string();
        assert!(!text.contains(&format!("`{}` is running", task.key())), "{text}");
        gate.open();
        task.result().unwrap();
        queued.result().unwrap();
    });
}
