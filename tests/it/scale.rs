//! Changing the number of workers while work runs (promise 21).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use ensue::{Client, Error, gather};
use futures::executor::block_on;
use smol::future::yield_now;
use support::hold::{Gate, hold_worker};
use support::observe::Count;
use support::{bounded, client_of, eventually, poll_once};

async fn inc(x: u64) -> u64 {
    x + 1
}

#[test]
fn workers_are_counted() {
    bounded(|| {
        let client = client_of(2);
        assert_eq!(client.workers(), 2);
        client.scale(5).unwrap();
        assert_eq!(client.workers(), 5);
        client.scale(1).unwrap();
        eventually("four leave", || client.workers() == 1);
        client.scale(0).unwrap();
        eventually("the last one leaves", || client.workers() == 0);
        client.scale(2).unwrap();
        assert_eq!(client.workers(), 2);
        assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
        assert!(Client::new().workers() > 0);
    });
}

#[test]
fn threads_are_numbered() {
    bounded(|| {
        let client = Client::builder().workers(3).name("numbered").build();
        let barrier = Arc::new(Barrier::new(3));
        let name = async move |_: u64| {
            barrier.wait();
            thread::current().name().map(str::to_owned)
        };
        let mut names = block_on(gather(client.map(name, 0..3u64))).unwrap();
        names.sort();
        assert_eq!(names, [0, 1, 2].map(|n| Some(format!("numbered-{n}"))));
    });
}

#[test]
fn without_workers_tasks_wait_and_then_run() {
    bounded(|| {
        let client = client_of(0);
        let xs = client.map(inc, 0..100u64);
        thread::yield_now();
        assert!(xs.iter().all(|x| !x.is_finished()));
        client.scale(1).unwrap();
        assert_eq!(block_on(gather(xs)).unwrap().into_iter().sum::<u64>(), 5050);
    });
}

#[test]
fn a_surplus_worker_ends_its_current_task_first() {
    bounded(|| {
        let client = client_of(1);
        let held = hold_worker(&client);
        let xs = client.map(inc, 0..10u64);
        client.scale(0).unwrap();
        assert_eq!(client.workers(), 1, "it is in a poll");
        held.let_go();
        eventually("it leaves", || client.workers() == 0);
        assert!(xs.iter().all(|x| !x.is_finished()));
        client.scale(1).unwrap();
        assert_eq!(block_on(gather(xs)).unwrap().into_iter().sum::<u64>(), 55);
    });
}

#[test]
fn suspended_tasks_outlive_the_worker_that_started_them() {
    bounded(|| {
        let client = client_of(1);
        let gate = Gate::new();
        let pass = gate.clone();
        let x = client.spawn(async move {
            pass.pass().await;
            1
        });
        client.submit(inc, 1).result().unwrap();
        client.scale(0).unwrap();
        eventually("it leaves", || client.workers() == 0);
        gate.open();
        assert!(!x.is_finished());
        client.scale(1).unwrap();
        assert_eq!(x.result().unwrap(), 1);
    });
}

#[test]
fn a_task_may_scale_its_own_client() {
    bounded(|| {
        let client = client_of(1);
        let inner = client.clone();
        let x = client.spawn(async move {
            // These are in the queue of its own worker, which exits.
            let xs = inner.map(inc, 0..100u64);
            inner.scale(0).unwrap();
            yield_now().await;
            gather(xs).await.unwrap().into_iter().sum::<u64>()
        });
        eventually("it leaves", || client.workers() == 0);
        client.scale(2).unwrap();
        assert_eq!(x.result().unwrap(), 5050);
    });
}

#[test]
fn idle_does_not_resolve_while_tasks_without_a_worker_are_left() {
    bounded(|| {
        for _ in 0..50 {
            let client = client_of(1);
            let held = hold_worker(&client);
            let xs = client.map(inc, 0..100u64);
            let mut idle = Box::pin(client.idle());
            assert!(poll_once(&mut idle).is_pending());
            client.scale(0).unwrap();
            held.let_go();
            eventually("it leaves", || client.workers() == 0);
            assert!(poll_once(&mut idle).is_pending(), "100 tasks are left");
            client.scale(1).unwrap();
            block_on(idle);
            assert!(xs.iter().all(|x| x.is_finished()));
        }
    });
}

#[test]
fn nothing_is_lost_or_run_twice_while_it_goes_up_and_down() {
    bounded(|| {
        let client = client_of(2);
        let stop = Arc::new(AtomicBool::new(false));
        let scaler = {
            let (client, stop) = (client.clone(), stop.clone());
            thread::spawn(move || {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n = (n + 1) % 5;
                    client.scale(n).unwrap();
                    thread::yield_now();
                }
                client.scale(1).unwrap();
            })
        };
        let runs = Count::new();
        for round in 0..50 {
            let (run, inner) = (runs.clone(), client.clone());
            let xs = client.map(
                async move |x: u64| {
                    run.add();
                    if x % 3 == 0 {
                        yield_now().await;
                    }
                    inner.submit(inc, x).await.unwrap()
                },
                0..100u64,
            );
            let ys = client.map(inc, &xs);
            let urgent = client.task().priority(1).map(inc, &ys);
            if round % 10 == 9 {
                block_on(gather(urgent)).unwrap();
            } else {
                urgent.into_iter().for_each(ensue::Handle::detach);
            }
        }
        stop.store(true, Ordering::Relaxed);
        scaler.join().unwrap();
        block_on(client.idle());
        assert_eq!(runs.get(), 5000);
        eventually("nothing is left", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn several_threads_may_scale_at_once() {
    bounded(|| {
        let client = client_of(1);
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let client = client.clone();
                thread::spawn(move || {
                    for round in 0..100 {
                        client.scale((n + round) % 4).unwrap();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        client.scale(3).unwrap();
        eventually("three are left", || client.workers() == 3);
        assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
        block_on(client.close());
        assert_eq!(client.workers(), 0);
    });
}

#[test]
fn scaling_while_closing_leaves_no_worker() {
    bounded(|| {
        for round in 0..500 {
            let client = client_of(round % 2);
            let scaler = {
                let client = client.clone();
                thread::spawn(move || {
                    client.scale(2).unwrap();
                    client.scale(1).unwrap();
                    client.scale(3).unwrap();
                })
            };
            block_on(client.close());
            scaler.join().unwrap();
            eventually("all are gone", || client.workers() == 0);
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn the_threads_exit_with_the_workers() {
    bounded(|| {
        let client = Client::builder().workers(3).name("scale-thr").build();
        client.submit(inc, 1).result().unwrap();
        eventually("three", || support::threads_named("scale-thr-").0 == 3);
        client.scale(1).unwrap();
        eventually("one", || support::threads_named("scale-thr-").0 == 1);
        client.scale(0).unwrap();
        eventually("none", || support::threads_named("scale-thr-").0 == 0);
    });
}

#[test]
fn a_seeded_client_has_no_workers_to_scale() {
    bounded(|| {
        let client = Client::builder().seed(1).workers(4).build();
        client.scale(3).unwrap();
        assert_eq!(client.workers(), 0);
        assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
    });
}

/// No system has that much memory for a stack.
const TOO_LARGE: usize = usize::MAX / 2;

#[test]
fn a_client_whose_threads_are_refused_is_not_built() {
    bounded(|| {
        let builder = || Client::builder().workers(2).stack_size(TOO_LARGE);
        let error = builder().try_build().unwrap_err();
        assert!(error.to_string().contains("refused the thread of worker 1 of 2"), "{error}");
        let built = std::panic::catch_unwind(|| drop(builder().build()));
        let text = built.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains("can't be built: the system refused the thread"), "{text}");
    });
}

#[test]
fn a_thread_that_is_refused_is_an_error_and_the_client_goes_on() {
    bounded(|| {
        let client = Client::builder().workers(0).stack_size(TOO_LARGE).build();
        let x = client.submit(inc, 1);
        assert!(client.scale(1).is_err());
        assert_eq!(client.workers(), 0);
        assert_eq!(support::drive(&client, x).unwrap(), 2);
        client.scale(0).unwrap();
        support::drive(&client, client.close());
    });
}

#[test]
fn a_stack_of_nothing_is_large_enough_for_small_tasks() {
    bounded(|| {
        let client = Client::builder().workers(1).stack_size(0).build();
        let x = client.submit(inc, 1);
        let y = client.submit_blocking(|x: u64| x + 1, &x);
        let z = client.task().retries(1).try_submit(async |x: u64| Ok::<_, Error>(x + 1), &y);
        assert_eq!(z.result().unwrap(), 4);
        block_on(client.close());
    });
}
