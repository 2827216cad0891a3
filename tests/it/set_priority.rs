//! Priorities that are changed after the submission (promise 16).

use std::cmp::Reverse;
use std::thread;

use ensue::{Client, Handle, as_completed, gather};
use futures::StreamExt;
use futures::executor::block_on;
use support::hold::{Gate, hold_worker};
use support::observe::Log;
use support::{bounded, client_of, eventually};

/// Submits tasks of these priorities that log their numbers.
fn submit(client: &Client, log: &Log<usize>, priorities: &[i32]) -> Vec<Handle<()>> {
    let of = |n: usize| {
        let entry = log.clone();
        async move || entry.add(n)
    };
    let submit = |(n, p): (usize, &i32)| client.task().priority(*p).submit(of(n), ());
    priorities.iter().enumerate().map(submit).collect()
}

/// The numbers of tasks in the order of their priorities, which differ.
fn in_order(priorities: &[i32]) -> Vec<usize> {
    let mut numbers: Vec<_> = (0..priorities.len()).collect();
    numbers.sort_by_key(|n| Reverse(priorities[*n]));
    numbers
}

const CHANGES: [(&[i32], &[i32]); 5] = [
    (&[0, 0, 0, 0], &[0, -1, 1, -2]),
    (&[5, 4, 3, 2, 1, 0], &[0, 1, 2, 3, 4, 5]),
    (&[5, 0, -5], &[-5, 0, 5]),
    (&[-1, -2, -3], &[-3, -2, i32::MIN]),
    (&[i32::MAX, i32::MIN, 7], &[i32::MIN, i32::MAX, 0]),
];

#[test]
fn queued_tasks_run_in_the_order_of_their_new_priorities() {
    bounded(|| {
        for (before, after) in CHANGES {
            let client = client_of(1);
            let log = Log::new();
            let held = hold_worker(&client);
            let tasks = submit(&client, &log, before);
            // By way of another one: entries of all of them are in the queues.
            for between in [3, -3] {
                tasks.iter().for_each(|task| assert!(task.set_priority(between)));
            }
            tasks.iter().zip(after).for_each(|(task, p)| assert!(task.set_priority(*p)));
            held.let_go();
            block_on(gather(tasks)).unwrap();
            assert_eq!(log.all(), in_order(after), "{before:?} {after:?}");
        }
    });
}

#[test]
fn a_seeded_client_follows_new_priorities() {
    bounded(|| {
        for (before, after) in CHANGES {
            let client = Client::builder().seed(3).build();
            let log = Log::new();
            let tasks = submit(&client, &log, before);
            tasks.iter().zip(after).for_each(|(task, p)| assert!(task.set_priority(*p)));
            block_on(gather(tasks)).unwrap();
            assert_eq!(log.all(), in_order(after), "{before:?} {after:?}");
        }
    });
}

#[test]
fn tasks_that_a_worker_has_in_its_own_queue_can_be_lowered() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let task = {
            let (client, log) = (client.clone(), log.clone());
            client.clone().spawn(async move {
                let tasks = submit(&client, &log, &[0, 0, 0, 0]);
                for (n, task) in tasks.iter().enumerate() {
                    task.set_priority(-(n as i32 * 7 % 5));
                }
                tasks
            })
        };
        let tasks = task.result().unwrap();
        block_on(gather(tasks)).unwrap();
        // Of the priorities 0, -2, -4, -1.
        assert_eq!(log.all(), [0, 3, 1, 2]);
    });
}

#[test]
fn a_task_that_waits_for_inputs_can_be_changed() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let gate = Gate::new();
        let input = client.spawn(gate.pass());
        let tasks: Vec<_> = [1, 2, 3]
            .into_iter()
            .enumerate()
            .map(|(n, p)| {
                let entry = log.clone();
                client.task().priority(p).submit(async move |(): ()| entry.add(n), &input)
            })
            .collect();
        tasks[2].set_priority(-1);
        tasks[0].set_priority(9);
        gate.open();
        block_on(gather(tasks)).unwrap();
        assert_eq!(log.all(), [0, 1, 2]);
    });
}

#[test]
fn a_task_gets_no_lower_than_what_waits_for_it() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let held = hold_worker(&client);
        let tasks = submit(&client, &log, &[0, 0]);
        let dependent = client.task().priority(5).submit(async |(): ()| (), &tasks[1]);
        tasks[1].set_priority(-5);
        held.let_go();
        dependent.result().unwrap();
        assert_eq!(log.all()[0], 1, "the dependent's priority counts");
        block_on(gather(tasks)).unwrap();
        // The same for a task that awaits it.
        let (gate, log) = (Gate::new(), Log::new());
        let entry = log.clone();
        let pass = gate.pass();
        let awaited = client.spawn(async move {
            pass.await;
            entry.add(9);
        });
        let awaiting = client.task().priority(5).spawn(awaited.clone());
        eventually("it's awaited", || client.explain(&awaiting).to_string().contains("awaits `"));
        awaited.set_priority(-5);
        let held = hold_worker(&client);
        let tasks = submit(&client, &log, &[3]);
        gate.open();
        held.let_go();
        awaiting.result().unwrap().unwrap();
        block_on(gather(tasks)).unwrap();
        assert_eq!(log.all(), [9, 0]);
    });
}

#[test]
fn what_a_stream_has_lent_is_taken_back() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        // The task awaits all of them through a stream, and lowers all but the last.
        let task = {
            let (client, log) = (client.clone(), log.clone());
            client.clone().task().priority(1).spawn(async move {
                let tasks = submit(&client, &log, &[0, 0, 0]);
                let mut stream = as_completed(&tasks);
                let waits = async { while stream.next().await.is_some() {} };
                let lowers = async {
                    ensue::sleep(std::time::Duration::ZERO).await;
                    tasks[0].set_priority(-2);
                    tasks[1].set_priority(-1);
                };
                futures::join!(waits, lowers);
            })
        };
        task.result().unwrap();
        assert_eq!(log.all(), [2, 1, 0]);
    });
}

#[test]
fn blocking_work_that_waits_for_a_thread_follows() {
    bounded(|| {
        let client = Client::builder().workers(1).blocking_threads(1).build();
        let (gate, log) = (Gate::new(), Log::new());
        let busy = {
            let gate = gate.clone();
            client.submit_blocking(move || gate.pass_blocking(), ())
        };
        let tasks: Vec<_> = (0..3)
            .map(|n| {
                let entry = log.clone();
                client.submit_blocking(move || entry.add(n), ())
            })
            .collect();
        eventually("they wait for the thread", || {
            tasks.iter().all(|task| client.explain(task).to_string().contains("waits for a thread"))
        });
        tasks[0].set_priority(-1);
        tasks[2].set_priority(1);
        // Each is polled, to move, by its new priority.
        client.task().priority(i32::MIN).submit(async || (), ()).result().unwrap();
        gate.open();
        busy.result().unwrap();
        block_on(gather(tasks)).unwrap();
        assert_eq!(log.all(), [2, 1, 0]);
    });
}

#[test]
fn a_task_that_has_ended_has_no_priority() {
    bounded(|| {
        let client = client_of(1);
        let task = client.submit(async || 1, ());
        task.result().unwrap();
        assert!(!task.set_priority(3));
        let cancelled = client.spawn(std::future::pending::<()>());
        cancelled.cancel();
        eventually("it has ended", || cancelled.is_finished() || cancelled.error().is_some());
        assert!(!cancelled.set_priority(3));
    });
}

#[test]
fn changes_from_many_threads_lose_no_task() {
    bounded(|| {
        let client = client_of(2);
        for _ in 0..20 {
            let tasks = client.map(async |n: u64| n, 0..200);
            thread::scope(|scope| {
                for seed in 0..3 {
                    let tasks = &tasks;
                    scope.spawn(move || {
                        let mut random = fastrand::Rng::with_seed(seed);
                        for _ in 0..500 {
                            tasks[random.usize(..200)].set_priority(random.i32(-3..=3));
                        }
                    });
                }
            });
            let values = block_on(gather(tasks)).unwrap();
            assert!(values.into_iter().eq(0..200));
        }
    });
}
