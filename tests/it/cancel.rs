//! Cancelling (promises 14 and 15).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use ensue::{Client, ErrorKind, Handle, Retry, Status, as_completed, wait_any};
use futures::StreamExt;
use futures::executor::block_on;
use smol::future::yield_now;
use support::hold::{Gate, hold_worker, turns};
use support::observe::{Count, Counted, Counts, Log, OnDrop};
use support::{bounded, client_of, eventually, poll_once};

async fn inc(x: u64) -> u64 {
    x + 1
}

fn never(client: &Client) -> Handle<u64> {
    client.submit(async || std::future::pending::<u64>().await, ())
}

fn assert_cancelled<T>(handle: &Handle<T>, origin: &ensue::Key) {
    let error = handle.error().expect("it has ended with an error");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(error.is_cancelled());
    assert_eq!(error.origin(), origin);
    assert_eq!(handle.status(), Status::Cancelled);
    assert!(handle.is_finished());
}

// Tasks in every state.

#[test]
fn a_waiting_task_and_its_dependents_end_and_its_input_runs_on() {
    bounded(|| {
        let client = client_of(1);
        let gate = Gate::new();
        let pass = gate.clone();
        let x = client.spawn(async move {
            pass.pass().await;
            1u64
        });
        let ran = Count::new();
        let run = ran.clone();
        let y = client.submit(
            async move |x: u64| {
                run.add();
                x
            },
            &x,
        );
        let z = client.submit(inc, &y);
        let other = client.submit(inc, &x);
        assert_eq!(y.status(), Status::Waiting);
        assert!(y.cancel());
        assert_cancelled(&y, &y.key());
        assert_cancelled(&z, &y.key());
        assert!(!x.is_finished());
        gate.open();
        assert_eq!(x.result().unwrap(), 1);
        assert_eq!(other.result().unwrap(), 2);
        assert_eq!(ran.get(), 0);
    });
}

#[test]
fn a_queued_task_never_starts() {
    bounded(|| {
        let client = client_of(1);
        let held = hold_worker(&client);
        let ran = Count::new();
        let run = ran.clone();
        let drops = Count::new();
        let captured = drops.on_drop();
        let x = client.submit(
            async move || {
                let _captured = &captured;
                run.add();
            },
            (),
        );
        assert_eq!(x.status(), Status::Ready);
        assert!(x.cancel());
        assert_cancelled(&x, &x.key());
        assert_eq!(drops.get(), 1, "the function is dropped at once");
        held.let_go();
        client.submit(inc, 1).result().unwrap();
        assert_eq!(ran.get(), 0);
    });
}

#[test]
fn a_task_in_a_poll_is_dropped_at_its_next_await() {
    bounded(|| {
        let client = client_of(1);
        let (in_poll, gate) = (Gate::new(), Gate::new());
        let after = Count::new();
        let drops = Count::new();
        let x = client.spawn({
            let (in_poll, gate, after, captured) =
                (in_poll.clone(), gate.clone(), after.clone(), drops.on_drop());
            async move {
                let _captured = captured;
                in_poll.open();
                gate.pass_blocking();
                assert!(ensue::is_cancelled());
                yield_now().await;
                after.add();
            }
        });
        in_poll.pass_blocking();
        assert_eq!(x.status(), Status::Running);
        assert!(x.cancel());
        assert_eq!(drops.get(), 0, "it can't be dropped while it runs");
        gate.open();
        assert!(x.result().unwrap_err().is_cancelled());
        assert_cancelled(&x, &x.key());
        assert_eq!(drops.get(), 1);
        assert_eq!(after.get(), 0);
    });
}

#[test]
fn a_value_that_comes_after_the_cancel_is_dropped() {
    bounded(|| {
        let client = client_of(1);
        let (in_poll, gate, drops) = (Gate::new(), Gate::new(), Count::new());
        let x = client.spawn({
            let (in_poll, gate, value) = (in_poll.clone(), gate.clone(), drops.on_drop());
            async move {
                in_poll.open();
                gate.pass_blocking();
                value
            }
        });
        let callbacks = Log::new();
        let callback = callbacks.clone();
        x.on_done(move |x| callback.add(x.status()));
        in_poll.pass_blocking();
        assert!(x.cancel());
        assert!(!x.cancel(), "only the first has an effect");
        gate.open();
        eventually("the callback is called", || callbacks.len() == 1);
        assert_cancelled(&x, &x.key());
        assert_eq!(drops.get(), 1);
        assert_eq!(callbacks.all(), [Status::Cancelled]);
    });
}

#[test]
fn a_suspended_task_is_dropped_at_once() {
    bounded(|| {
        let client = client_of(1);
        let counts = Counts::new();
        let x = client.spawn(counts.future(std::future::pending::<u64>()));
        let y = client.submit(inc, &x);
        turns(&client);
        assert!(x.cancel());
        assert_eq!(counts.drops.get(), 1);
        assert_cancelled(&x, &x.key());
        assert_cancelled(&y, &x.key());
        assert_eq!(counts.polls.get(), 1);
    });
}

#[test]
fn a_suspended_task_without_workers_is_dropped_by_its_canceller() {
    bounded(|| {
        let client = client_of(0);
        let counts = Counts::new();
        let x = client.spawn(counts.future(std::future::pending::<u64>()));
        let mut worker = client.worker();
        assert!(poll_once(&mut worker).is_pending());
        assert_eq!(counts.polls.get(), 1);
        assert!(x.cancel());
        assert_eq!(counts.drops.get(), 1);
        assert_cancelled(&x, &x.key());
        drop(worker);
        assert_eq!(client.tasks_in_memory(), 1, "the handle's own");
    });
}

#[test]
fn a_delayed_task_is_cancelled() {
    bounded(|| {
        let client = client_of(1);
        let hour = Duration::from_secs(3600);
        let options = client.task().retries(Retry::new(3).backoff(hour, hour));
        let x = options.try_submit(async || Err::<u64, _>("no"), ());
        let y = client.submit(inc, &x);
        eventually("it's delayed", || x.status() == Status::Delayed);
        assert!(x.cancel());
        assert_cancelled(&x, &x.key());
        assert_cancelled(&y, &x.key());
    });
}

#[test]
fn a_task_that_waits_for_a_limit_is_cancelled_and_leaves_the_queue() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("two", 2).build();
        let gate = Gate::new();
        let pass = gate.clone();
        let first = client.task().acquire("two").spawn(async move { pass.pass().await });
        eventually("the first runs", || first.status() == Status::Running);
        let big = client.task().acquire_many("two", 2).submit(inc, 1);
        eventually("the big one waits for the limit", || client.submit(inc, 1).result().is_ok());
        let small = client.task().acquire("two").submit(inc, 2);
        client.submit(inc, 1).result().unwrap();
        assert!(!small.is_finished(), "it doesn't overtake");
        assert_eq!(big.status(), Status::Ready);
        assert!(big.cancel());
        assert_cancelled(&big, &big.key());
        assert_eq!(small.result().unwrap(), 3, "it is the first that waits");
        gate.open();
        first.result().unwrap();
        assert_eq!(client.task().acquire_many("two", 2).submit(inc, 3).result().unwrap(), 4);
    });
}

#[test]
fn a_blocking_closure_sees_the_cancel_and_keeps_its_limit_until_it_returns() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("one", 1).build();
        let (started, saw, gate) = (Gate::new(), Gate::new(), Gate::new());
        let x = client.task().acquire("one").submit_blocking(
            {
                let (started, saw, gate) = (started.clone(), saw.clone(), gate.clone());
                move || {
                    assert!(!ensue::is_cancelled());
                    started.open();
                    while !ensue::is_cancelled() {
                        std::thread::yield_now();
                    }
                    saw.open();
                    gate.pass_blocking();
                }
            },
            (),
        );
        started.pass_blocking();
        let next = client.task().acquire("one").submit(inc, 1);
        assert!(x.cancel());
        assert!(x.result().unwrap_err().is_cancelled());
        saw.pass_blocking();
        client.submit(inc, 1).result().unwrap();
        assert!(!next.is_finished(), "the limit is held by the closure");
        gate.open();
        assert_eq!(next.result().unwrap(), 2);
    });
}

#[test]
fn a_blocking_closure_that_has_not_begun_never_does() {
    bounded(|| {
        let client = client_of(1);
        let held = hold_worker(&client);
        let ran = Count::new();
        let run = ran.clone();
        let x = client.submit_blocking(move || run.add(), ());
        assert!(x.cancel());
        held.let_go();
        client.submit_blocking(|| (), ()).result().unwrap();
        assert_eq!(ran.get(), 0);
        assert!(!ensue::is_cancelled(), "outside a task it's false");
    });
}

#[test]
fn an_ended_task_is_not_cancelled() {
    bounded(|| {
        let client = client_of(1);
        let x = client.submit(inc, 1);
        x.result().unwrap();
        assert!(!x.cancel());
        assert_eq!(x.result().unwrap(), 2);
        assert_eq!(client.submit(inc, &x).result().unwrap(), 3);
        assert!(!client.ready(1).cancel());
        let failed = client.try_submit(async || Err::<u64, _>("no"), ());
        assert!(failed.result().is_err());
        assert!(!failed.cancel());
        assert_eq!(failed.error().unwrap().kind(), ErrorKind::Failed);
        let cancelled = never(&client);
        assert!(cancelled.cancel());
        assert!(!cancelled.cancel());
    });
}

// Dependents, handles and keys.

#[test]
fn right_after_submitting_it_and_its_dependents_are_cancelled() {
    bounded(|| {
        let client = client_of(2);
        for _ in 0..500 {
            let x = never(&client);
            let y = client.submit(inc, &x);
            assert!(x.cancel());
            assert!(y.result().unwrap_err().is_cancelled());
            assert!(x.result().unwrap_err().is_cancelled());
        }
        eventually("nothing is left", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn every_clone_and_every_joiner_sees_the_cancel() {
    bounded(|| {
        let client = client_of(1);
        let x = client.task().key("k").submit(async || std::future::pending::<u64>().await, ());
        let joiner = client.task().key("k").submit(inc, 1);
        assert_eq!(x, joiner);
        let waiter = {
            let x = x.clone();
            std::thread::spawn(move || x.result())
        };
        assert!(joiner.cancel());
        assert!(waiter.join().unwrap().unwrap_err().is_cancelled());
        assert!(x.result().unwrap_err().is_cancelled());
    });
}

#[test]
fn the_key_is_free_at_once() {
    bounded(|| {
        let client = client_of(1);
        let (in_poll, gate) = (Gate::new(), Gate::new());
        let old = client.task().key("k").submit(
            {
                let (in_poll, gate) = (in_poll.clone(), gate.clone());
                async move || {
                    in_poll.open();
                    gate.pass_blocking();
                    1u64
                }
            },
            (),
        );
        in_poll.pass_blocking();
        assert!(old.cancel());
        assert!(client.get::<u64>("k").is_none());
        let new = client.task().key("k").submit(inc, 41);
        assert_ne!(old, new);
        gate.open();
        assert_eq!(new.result().unwrap(), 42);
        assert!(old.result().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_new_task_on_a_cancelled_one_is_cancelled() {
    bounded(|| {
        let client = client_of(1);
        let x = never(&client);
        assert!(x.cancel());
        let y = client.submit(inc, &x);
        assert!(y.result().unwrap_err().is_cancelled());
        assert_cancelled(&y, &x.key());
        let many = client.submit(async |xs: Vec<u64>| xs.len(), [&x, &client.ready(1)]);
        assert!(many.result().unwrap_err().is_cancelled());
    });
}

#[test]
fn with_two_cancelled_inputs_one_is_the_origin() {
    bounded(|| {
        let client = client_of(1);
        let (a, b) = (never(&client), never(&client));
        let sum = client.submit(async |a: u64, b: u64| a + b, (&a, &b));
        turns(&client);
        assert!(a.cancel());
        assert_cancelled(&sum, &a.key());
        assert!(b.cancel());
        assert_cancelled(&sum, &a.key());
        assert!(!sum.cancel());
    });
}

#[test]
fn streams_and_waits_yield_cancelled_tasks() {
    bounded(|| {
        let client = client_of(1);
        let (x, y) = (never(&client), never(&client));
        let mut stream = as_completed([&x, &y]);
        assert!(y.cancel());
        assert_eq!(block_on(stream.next()).unwrap(), y);
        let waiter = {
            let x = x.clone();
            std::thread::spawn(move || block_on(wait_any([x])).done.len())
        };
        assert!(x.cancel());
        assert_eq!(block_on(stream.next()).unwrap(), x);
        assert!(block_on(stream.next()).is_none());
        assert_eq!(waiter.join().unwrap(), 1);
    });
}

#[test]
fn an_awaiting_task_gets_the_error_and_runs_on() {
    bounded(|| {
        let client = client_of(1);
        let x = never(&client);
        let inner = x.clone();
        let y = client.spawn(async move { inner.await.is_err_and(|error| error.is_cancelled()) });
        eventually("it awaits", || y.status() == Status::Running);
        assert!(x.cancel());
        assert!(y.result().unwrap());
    });
}

#[test]
fn a_long_chain_and_a_wide_fan_are_cancelled() {
    bounded(|| {
        let client = client_of(2);
        let x = never(&client);
        let mut last = client.submit(inc, &x);
        for _ in 0..50_000 {
            last = client.submit(inc, last);
        }
        let fan = client.map(inc, (0..10_000).map(|_| &x));
        assert!(x.cancel());
        assert!(last.result().unwrap_err().is_cancelled());
        for y in &fan {
            assert_eq!(y.result().unwrap_err().origin(), x.key());
        }
        drop((last, fan, x));
        eventually("nothing is left", || client.tasks_in_memory() == 0);
    });
}

// From inside a task.

#[test]
fn a_task_that_cancels_itself_stops_at_its_next_await() {
    bounded(|| {
        let client = client_of(1);
        let after = Count::new();
        let count = after.clone();
        let handle = Arc::new(std::sync::OnceLock::<Handle<u64>>::new());
        let (mine, gate) = (handle.clone(), Gate::new());
        let pass = gate.clone();
        let x = client.spawn(async move {
            pass.pass().await;
            assert!(!ensue::is_cancelled());
            assert!(mine.get().unwrap().cancel());
            assert!(ensue::is_cancelled());
            yield_now().await;
            count.add();
            1u64
        });
        handle.set(x.clone()).unwrap();
        gate.open();
        assert!(x.result().unwrap_err().is_cancelled());
        assert_eq!(after.get(), 0);
        assert_cancelled(&x, &x.key());
    });
}

#[test]
fn a_task_that_cancels_itself_and_returns_is_cancelled() {
    bounded(|| {
        let client = client_of(1);
        let x = client.task().key("me").submit(
            async || {
                let me = Client::current().unwrap().get::<u64>("me").unwrap();
                assert!(me.cancel());
                1u64
            },
            (),
        );
        assert!(x.result().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_task_can_cancel_its_input_its_dependent_and_its_child() {
    bounded(|| {
        let client = client_of(1);
        let x = client.submit(inc, 1);
        x.result().unwrap();
        let input = x.clone();
        let me = client.task().key("me").submit(
            async move |_: u64| {
                let client = Client::current().unwrap();
                let child = client.submit(inc, 1);
                assert!(child.cancel());
                assert!(child.await.unwrap_err().is_cancelled());
                assert!(!input.cancel());
                let dependent = client.get::<u64>("dependent").unwrap();
                assert!(dependent.cancel());
                7u64
            },
            &x,
        );
        let dependent = client.task().key("dependent").submit(inc, &me);
        // It may have run before the dependent was submitted.
        let mine = me.result();
        if let Ok(mine) = mine {
            assert_eq!(mine, 7);
            assert!(dependent.result().unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn dropping_a_cancelled_future_may_cancel_others() {
    struct Canceller(Handle<u64>);
    impl Drop for Canceller {
        fn drop(&mut self) {
            self.0.cancel();
        }
    }
    bounded(|| {
        let client = client_of(1);
        // Each task cancels the next when it's dropped.
        let last = never(&client);
        let mut x = last.clone();
        for _ in 0..1000 {
            let next = Canceller(x);
            x = client.spawn(async move {
                let _next = &next;
                std::future::pending::<u64>().await
            });
        }
        client.submit(inc, 1).result().unwrap();
        assert!(x.cancel());
        assert!(last.result().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_future_that_panics_when_dropped_is_reported_to_the_hook() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped badly");
        }
    }
    bounded(|| {
        let reported = Log::new();
        let entry = reported.clone();
        let client =
            Client::builder().workers(1).on_unobserved(move |e| entry.add(e.to_string())).build();
        let bomb = Bomb;
        let x = client.spawn(async move {
            let _bomb = bomb;
            std::future::pending::<u64>().await
        });
        eventually("it's suspended", || x.status() == Status::Running);
        client.submit(inc, 1).result().unwrap();
        assert!(x.cancel());
        assert!(x.result().unwrap_err().is_cancelled());
        eventually("the hook is called", || reported.len() == 1);
        assert!(reported.all()[0].contains("dropped badly"), "{:?}", reported.all());
        assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
    });
}

// Races.

#[test]
fn the_outcome_is_what_cancel_returned() {
    bounded(|| {
        let client = client_of(2);
        for round in 0..3000u64 {
            let drops = Count::new();
            let value = drops.on_drop();
            let x = client.spawn(async move {
                if round % 3 == 0 {
                    yield_now().await;
                }
                Arc::new(value)
            });
            let y = client.submit(async |_: Arc<OnDrop>| 1, &x);
            let start = Arc::new(Barrier::new(2));
            let cancellers: Vec<_> = (0..2)
                .map(|_| {
                    let (x, start) = (x.clone(), start.clone());
                    std::thread::spawn(move || {
                        start.wait();
                        x.cancel()
                    })
                })
                .collect();
            let cancelled = cancellers.into_iter().map(|thread| thread.join().unwrap());
            let cancelled = cancelled.filter(|cancelled| *cancelled).count();
            assert!(cancelled <= 1);
            let result = x.result();
            assert_eq!(result.is_err(), cancelled == 1);
            assert_eq!(y.result().is_err(), cancelled == 1);
            drop((result, x, y));
            eventually("the value or what would have made it is dropped", || drops.get() == 1);
        }
        eventually("nothing is left", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn every_callback_is_called_once_however_it_ends() {
    bounded(|| {
        let client = client_of(2);
        let called = Count::new();
        let stop = Arc::new(AtomicBool::new(false));
        let noise = {
            let (client, stop) = (client.clone(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    client.submit(inc, 1).result().unwrap();
                }
            })
        };
        for _ in 0..3000 {
            let x = client.submit(inc, 1);
            let call = called.clone();
            x.on_done(move |x| {
                assert!(x.is_finished());
                call.add();
            });
            let cancelled = x.cancel();
            assert_eq!(x.result().is_err(), cancelled);
        }
        stop.store(true, Ordering::Relaxed);
        noise.join().unwrap();
        eventually("all are called", || called.get() == 3000);
        block_on(client.idle());
        assert_eq!(called.get(), 3000);
    });
}

#[test]
fn cancelling_both_ends_of_graphs_at_once_leaves_no_waiter() {
    bounded(|| {
        let client = client_of(2);
        for _ in 0..300 {
            let roots: Vec<_> = (0..4).map(|n| client.submit(inc, n)).collect();
            let middle: Vec<_> = (0..4)
                .map(|_| client.submit(async |xs: Vec<u64>| xs.len() as u64, &roots))
                .collect();
            let end = client.submit(async |xs: Vec<u64>| xs.len() as u64, &middle);
            let threads: Vec<_> = [roots[0].clone(), middle[1].clone(), end.clone()]
                .map(|x| std::thread::spawn(move || x.cancel()))
                .into();
            let did: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            let result = end.result();
            assert_eq!(result.is_err(), did.contains(&true), "{did:?} {result:?}");
            for x in roots.iter().chain(&middle) {
                let _ = x.result();
            }
        }
        eventually("nothing is left", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn a_task_cancelled_while_it_fails_keeps_nothing() {
    bounded(|| {
        let client = Client::builder().seed(1).build();
        let counts = Counts::new();
        let handle = Arc::new(Mutex::new(None::<Handle<()>>));
        let inside = handle.clone();
        let x = client.try_submit(
            async move |_argument: Counted| {
                inside.lock().unwrap().take().unwrap().cancel();
                Err::<(), _>("no")
            },
            counts.value(1),
        );
        *handle.lock().unwrap() = Some(x.clone());
        assert!(x.result().unwrap_err().is_cancelled());
        assert_eq!(counts.alive.get(), 0);
    });
}
