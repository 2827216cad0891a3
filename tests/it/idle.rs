//! `Client::idle`, and that an idle client uses no processor time (promises 20 and 21).

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ensue::Client;
use futures::executor::block_on;
use smol::future::yield_now;
use support::hold::{Gate, hold_worker};
use support::observe::Count;
use support::{assert_linear, bounded, client_of, eventually, poll_once, until_asleep};

async fn inc(x: u64) -> u64 {
    x + 1
}

#[test]
fn a_client_without_tasks_is_idle() {
    bounded(|| {
        block_on(client_of(2).idle());
        block_on(client_of(0).idle());
        block_on(Client::builder().seed(1).build().idle());
    });
}

#[test]
fn it_waits_for_queued_waiting_and_running_tasks() {
    bounded(|| {
        let client = client_of(2);
        let gate = Gate::new();
        let pass = gate.clone();
        let x = client.spawn(async move {
            pass.pass().await;
            1u64
        });
        let ys = client.map(inc, (0..100).map(|_| &x));
        let mut idle = Box::pin(client.idle());
        client.submit(inc, 1).result().unwrap();
        assert!(poll_once(&mut idle).is_pending());
        gate.open();
        block_on(idle);
        assert!(ys.iter().all(|y| y.is_finished()));
    });
}

#[test]
fn it_waits_for_detached_delayed_and_blocking_work() {
    bounded(|| {
        let client = client_of(1);
        let done = Count::new();
        let (a, b, c) = (done.clone(), done.clone(), done.clone());
        client
            .submit(
                async move || {
                    ensue::sleep(Duration::from_millis(30)).await;
                    a.add();
                },
                (),
            )
            .detach();
        client
            .submit_blocking(
                move || {
                    thread::sleep(Duration::from_millis(30));
                    b.add();
                },
                (),
            )
            .detach();
        let wait = Duration::from_millis(30);
        let retry = ensue::Retry::new(1).backoff(wait, wait);
        let options = client.task().retries(retry);
        options
            .try_submit(async move || if c.add() == 0 { Err("no") } else { Ok(()) }, ())
            .detach();
        block_on(client.idle());
        assert_eq!(done.get(), 4);
    });
}

#[test]
fn it_waits_for_tasks_that_tasks_submit() {
    bounded(|| {
        let client = client_of(2);
        let done = Count::new();
        let count = done.clone();
        client
            .submit(
                async move || {
                    let client = Client::current().unwrap();
                    for _ in 0..100 {
                        let count = count.clone();
                        let child = async move || {
                            yield_now().await;
                            count.add();
                        };
                        client.submit(child, ()).detach();
                    }
                },
                (),
            )
            .detach();
        block_on(client.idle());
        assert_eq!(done.get(), 100);
    });
}

#[test]
fn a_task_may_await_it() {
    bounded(|| {
        let client = client_of(1);
        let done = Count::new();
        let (inner, count) = (client.clone(), done.clone());
        let waits = client.spawn(async move {
            for _ in 0..10 {
                let count = count.clone();
                let child = async move || {
                    yield_now().await;
                    count.add();
                };
                inner.submit(child, ()).detach();
            }
            inner.idle().await;
            count.get()
        });
        assert_eq!(waits.result().unwrap(), 10);
    });
}

#[test]
fn blocking_work_may_wait_for_it() {
    bounded(|| {
        let client = client_of(1);
        let nap = client.submit(async || ensue::sleep(Duration::from_millis(20)).await, ());
        let waits = || {
            let (idle, nap) = (client.idle(), nap.clone());
            let wait = move || {
                block_on(idle);
                nap.is_finished()
            };
            client.submit_blocking(wait, ())
        };
        let both = [waits(), waits()];
        assert!(both.iter().all(|x| x.result().unwrap()));
        block_on(client.idle());
    });
}

#[test]
fn two_tasks_may_await_it_at_once() {
    bounded(|| {
        let client = client_of(1);
        // Before they wait, else they may be done before this is submitted.
        let x = client.submit(async || ensue::sleep(Duration::from_millis(20)).await, ());
        let waits: Vec<_> = (0..2)
            .map(|_| {
                let inner = client.clone();
                client.spawn(async move { inner.idle().await })
            })
            .collect();
        for wait in waits {
            wait.result().unwrap();
        }
        assert!(x.is_finished());
    });
}

#[test]
fn a_task_that_awaits_it_twice_at_once_counts_as_one() {
    bounded(|| {
        for (workers, name) in [(1, "idle-twice-1"), (2, "idle-twice-2")] {
            let client = Client::builder().workers(workers).name(name).build();
            let (gate, started) = (Gate::new(), Gate::new());
            let (pass, start) = (gate.pass(), started.clone());
            let other = client.spawn(async move {
                start.open();
                pass.await;
            });
            started.pass_blocking();
            let (inner, open) = (client.clone(), gate.clone());
            let waits = client.spawn(async move {
                futures::join!(inner.idle(), inner.idle());
                open.is_open()
            });
            until_asleep(name, workers);
            assert!(!waits.is_finished() && !other.is_finished(), "another one runs");
            gate.open();
            assert!(waits.result().unwrap());
        }
    });
}

#[test]
fn an_idle_future_that_outlives_its_task_exempts_no_other() {
    bounded(an_idle_future_outlives_its_task);
}

fn an_idle_future_outlives_its_task() {
    let client = client_of(0);
    let gate = Gate::new();
    let other = client.spawn(gate.pass());
    let (send, sent) = mpsc::channel();
    let inner = client.clone();
    let ends = client.spawn(async move {
        yield_now().await;
        let mut idle = Box::pin(inner.idle());
        assert!(poll_once(&mut idle).is_pending());
        // The future outlives the task.
        send.send(idle).unwrap();
    });
    let mut worker = client.worker();
    while !ends.is_finished() {
        assert!(poll_once(&mut worker).is_pending());
    }
    let mut handed_on = sent.recv().unwrap();
    for _ in 0..3 {
        let _ = poll_once(&mut worker);
    }
    assert!(poll_once(&mut handed_on).is_pending(), "another one runs");
    assert!(poll_once(&mut Box::pin(client.idle())).is_pending(), "another one runs");
    gate.open();
    while !other.is_finished() {
        let _ = poll_once(&mut worker);
    }
    let _ = poll_once(&mut worker);
    assert!(poll_once(&mut handed_on).is_ready());
    assert!(poll_once(&mut Box::pin(client.idle())).is_ready());
}

#[test]
fn a_client_is_not_idle_when_a_worker_is_dropped_with_tasks_in_its_queue() {
    bounded(drop_a_worker_with_tasks_in_its_queue);
}

fn drop_a_worker_with_tasks_in_its_queue() {
    let client = client_of(0);
    // More than a worker runs in one poll, so that some are in its own queue after it.
    let xs = client.map(inc, 0..100u64);
    let mut worker = client.worker();
    assert!(poll_once(&mut worker).is_pending());
    assert!(xs.iter().any(|x| !x.is_finished()));
    let mut idle = Box::pin(client.idle());
    assert!(poll_once(&mut idle).is_pending());
    drop(worker);
    assert!(poll_once(&mut idle).is_pending(), "tasks are left");
    let mut worker = client.worker();
    while xs.iter().any(|x| !x.is_finished()) {
        let _ = poll_once(&mut worker);
    }
    let _ = poll_once(&mut worker);
    assert!(poll_once(&mut idle).is_ready());
}

#[test]
fn without_workers_cancelled_tasks_do_not_count() {
    let client = client_of(0);
    let x = client.submit(inc, 1);
    let urgent = client.task().priority(1).submit(inc, 1);
    let mut idle = Box::pin(client.idle());
    assert!(poll_once(&mut idle).is_pending());
    assert!(x.cancel());
    drop(urgent);
    assert!(poll_once(&mut Box::pin(client.idle())).is_ready(), "no task is left");
    assert!(poll_once(&mut idle).is_ready(), "no task is left");
}

#[test]
fn cancelling_many_without_workers_is_cheap_while_idle_is_awaited() {
    bounded(|| {
        for priority in [0, 1] {
            assert_linear(60_000, |n| {
                let client = client_of(0);
                let task = |x| client.task().priority(priority).submit(inc, x);
                let handles: Vec<_> = (0..n as u64).map(task).collect();
                let mut idle = Box::pin(client.idle());
                assert!(poll_once(&mut idle).is_pending());
                let (first, last) = handles.split_at(n / 2);
                assert!(first.iter().chain(last.iter().rev()).all(ensue::Handle::cancel));
                assert!(poll_once(&mut idle).is_ready(), "no task is left");
            });
        }
    });
}

#[test]
fn it_resolves_when_the_last_task_is_cancelled_or_dropped() {
    bounded(|| {
        let client = client_of(1);
        let x = client.submit(async || std::future::pending::<()>().await, ());
        let idle = {
            let client = client.clone();
            thread::spawn(move || block_on(client.idle()))
        };
        eventually("it runs", || x.status() == ensue::Status::Running);
        x.cancel();
        idle.join().unwrap();
        let x = client.submit(async || std::future::pending::<()>().await, ());
        let mut idle = Box::pin(client.idle());
        eventually("it runs", || x.status() == ensue::Status::Running);
        assert!(poll_once(&mut idle).is_pending());
        drop(x);
        block_on(idle);
    });
}

#[test]
fn all_tasks_of_a_burst_have_ended_when_it_resolves() {
    bounded(|| {
        let client = client_of(2);
        for round in 0..500 {
            let xs = client.map(inc, 0..50u64);
            block_on(client.idle());
            assert!(xs.iter().all(|x| x.is_finished()), "round {round}");
        }
    });
}

#[test]
fn a_held_worker_is_not_idle() {
    bounded(|| {
        let client = Client::builder().workers(2).name("idle-held").build();
        let held = hold_worker(&client);
        let mut idle = Box::pin(client.idle());
        client.submit(inc, 1).result().unwrap();
        until_asleep("idle-held", 2);
        assert!(poll_once(&mut idle).is_pending());
        held.let_go();
        block_on(idle);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn an_idle_client_uses_no_processor_time() {
    bounded(|| {
        let client = Client::builder().workers(8).name("idle-cpu").build();
        let _pending = client.submit(async || std::future::pending::<()>().await, ());
        let xs = client.map(inc, 0..10_000u64);
        block_on(ensue::gather(xs)).unwrap();
        until_asleep("idle-cpu", 8);
        let (threads, before) = support::threads_named("idle-cpu");
        assert_eq!(threads, 8);
        thread::sleep(Duration::from_secs(3));
        let (_, after) = support::threads_named("idle-cpu");
        // A tick is ten milliseconds; the last one may have been almost over at the start.
        assert!(after - before <= 1, "{} ticks in 3 s", after - before);
    });
}
