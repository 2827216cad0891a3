//! Handles and results (promise 7).

use std::cell::Cell;
use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use ensue::{Client, ErrorKind, Handle, Ref, Status, gather};
use futures::FutureExt;
use futures::executor::block_on;
use futures::future::FusedFuture;
use support::hold::Gate;
use support::observe::{Counted, Counts, Wakes, poll_with};
use support::{bounded, eventually, run_until_idle, run_what_is_ready};

async fn inc(x: u64) -> u64 {
    x + 1
}

/// A client without workers and a task that has finished with a counted value.
fn finished() -> (Client, Handle<Counted>, Counts) {
    let client = Client::builder().workers(0).build();
    let counts = Counts::new();
    let value = counts.value(7);
    let handle = client.submit(async move || value, ());
    run_until_idle(&client);
    (client, handle, counts)
}

// Many awaiters, on any mix of runtimes and threads.

#[test]
fn awaiters_on_every_runtime_get_the_value() {
    bounded(|| {
        let client = Client::builder().workers(2).build();
        let gate = Gate::new();
        let counts = Counts::new();
        let (waits, value) = (gate.pass(), counts.value(7));
        let handle = client.spawn(async move {
            waits.await;
            value
        });
        let started = Arc::new(Barrier::new(5));
        let threads: Vec<thread::JoinHandle<u64>> = vec![
            {
                let (handle, started) = (handle.clone(), started.clone());
                thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
                    let tasks: Vec<_> = (0..50).map(|_| runtime.spawn(handle.clone())).collect();
                    drop(handle);
                    started.wait();
                    runtime.block_on(async {
                        let mut sum = 0;
                        for task in tasks {
                            sum += task.await.unwrap().unwrap().value;
                        }
                        sum
                    })
                })
            },
            {
                let (handle, started) = (handle.clone(), started.clone());
                thread::spawn(move || {
                    let tasks: Vec<_> = (0..50).map(|_| smol::spawn(handle.clone())).collect();
                    drop(handle);
                    started.wait();
                    smol::block_on(async {
                        let mut sum = 0;
                        for task in tasks {
                            sum += task.await.unwrap().value;
                        }
                        sum
                    })
                })
            },
            {
                let (handle, started) = (handle.clone(), started.clone());
                thread::spawn(move || {
                    let all = futures::future::join_all((0..50).map(|_| handle.clone()));
                    drop(handle);
                    started.wait();
                    block_on(all).into_iter().map(|x| x.unwrap().value).sum()
                })
            },
            {
                let (handle, started) = (handle.clone(), started.clone());
                thread::spawn(move || {
                    started.wait();
                    thread::scope(|scope| {
                        let threads: Vec<_> = (0..50)
                            .map(|_| scope.spawn(|| handle.result().unwrap().value))
                            .collect();
                        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
                    })
                })
            },
        ];
        let in_tasks = client.map(async |x: Counted| x.value, (0..50).map(|_| &handle));
        started.wait();
        gate.open();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), 350);
        }
        assert_eq!(block_on(gather(in_tasks)).unwrap(), [7; 50]);
        drop(handle);
        eventually("everything is freed", || client.tasks_in_memory() == 0);
        // Each value that was made was dropped.
        assert_eq!(counts.drops.get(), counts.clones.get() + 1);
    });
}

#[test]
fn an_await_may_move_to_another_waker() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let gate = Gate::new();
        let waits = gate.pass();
        let mut handle = client.spawn(async move {
            waits.await;
            3u64
        });
        // Polled with a waker that does nothing, and with one on another thread.
        assert!(handle.poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending());
        let polled = Arc::new(Barrier::new(2));
        let signal = polled.clone();
        let other = thread::spawn(move || {
            assert!((&mut handle).now_or_never().is_none());
            signal.wait();
            block_on(handle)
        });
        polled.wait();
        gate.open();
        assert_eq!(other.join().unwrap().unwrap(), 3);
    });
}

#[test]
fn dropped_waiters_are_removed() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let gate = Gate::new();
        let waits = gate.pass();
        let handle = client.spawn(async move {
            waits.await;
            3u64
        });
        for _ in 0..1000 {
            assert!(handle.clone().now_or_never().is_none());
        }
        let kept: Vec<_> = (0..100)
            .map(|_| {
                let mut handle = handle.clone();
                assert!((&mut handle).now_or_never().is_none());
                handle
            })
            .collect();
        gate.open();
        for handle in kept {
            assert_eq!(block_on(handle).unwrap(), 3);
        }
    });
}

#[test]
fn a_dropped_await_drops_its_waker() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let handle = client.submit(inc, 1);
        let wakes = Wakes::new();
        let mut waits = handle.clone();
        assert!(poll_with(&mut waits, &wakes).is_pending());
        assert_eq!(Arc::strong_count(&wakes), 2);
        drop(waits);
        assert_eq!(Arc::strong_count(&wakes), 1);
        run_until_idle(&client);
        assert_eq!((handle.result().unwrap(), wakes.get()), (2, 0));
    });
}

#[test]
fn finishing_races_with_awaiting() {
    bounded(|| {
        let client = Client::builder().workers(2).build();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for x in 0..2000 {
                        let handle = client.submit(inc, x);
                        let other = handle.clone();
                        assert_eq!(block_on(handle).unwrap(), x + 1);
                        assert_eq!(other.result().unwrap(), x + 1);
                    }
                });
            }
        });
        eventually("everything is freed", || client.tasks_in_memory() == 0);
    });
}

// Moving out and cloning.

#[test]
fn the_only_handle_moves_the_value_out() {
    bounded(|| {
        let (client, handle, counts) = finished();
        let value = block_on(handle).unwrap();
        assert_eq!((value.value, counts.clones.get(), counts.drops.get()), (7, 0, 0));
        assert_eq!(client.tasks_in_memory(), 0);
        drop(value);
        assert_eq!((counts.clones.get(), counts.drops.get()), (0, 1));
    });
}

#[test]
fn another_handle_forces_a_clone_and_the_last_one_gets_the_value() {
    bounded(|| {
        let (_client, handle, counts) = finished();
        let other = handle.clone();
        assert_eq!(block_on(other).unwrap().value, 7);
        assert_eq!((counts.clones.get(), counts.drops.get()), (1, 1));
        assert_eq!(block_on(handle).unwrap().value, 7);
        assert_eq!((counts.clones.get(), counts.drops.get()), (1, 2));
    });
}

#[test]
fn awaiting_a_reference_clones_and_keeps_the_handle() {
    bounded(|| {
        let (_client, handle, counts) = finished();
        for times in 1..4 {
            assert_eq!(block_on((&handle).into_future()).unwrap().value, 7);
            assert_eq!(counts.clones.get(), times);
        }
        for _ in 0..3 {
            handle.result().unwrap();
            handle.try_get().unwrap().unwrap();
        }
        assert_eq!((counts.clones.get(), counts.drops.get()), (9, 9));
        block_on(handle).unwrap();
        assert_eq!((counts.clones.get(), counts.drops.get()), (9, 10));
    });
}

#[test]
fn gather_moves_values_out_of_handles_given_by_value() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let counts = Counts::new();
        let handles = client.map(async |x: Counted| x, (0..10).map(|x| counts.value(x)));
        run_until_idle(&client);
        assert_eq!(block_on(gather(&handles)).unwrap().len(), 10);
        assert_eq!((counts.clones.get(), counts.drops.get()), (10, 10));
        let values = block_on(gather(handles)).unwrap();
        assert!(values.iter().map(|x| x.value).eq(0..10));
        assert_eq!((counts.clones.get(), counts.drops.get()), (10, 10));
        drop(values);
        assert_eq!(counts.drops.get(), 20);
    });
}

#[test]
fn a_dependent_that_has_not_taken_it_forces_a_clone() {
    bounded(|| {
        let (client, handle, counts) = finished();
        let dependent = client.submit(async |x: Counted| x.value, &handle);
        assert_eq!(block_on(handle).unwrap().value, 7);
        assert_eq!(counts.clones.get(), 1);
        run_until_idle(&client);
        assert_eq!(dependent.result().unwrap(), 7);
        // The dependent was the last one.
        assert_eq!((counts.clones.get(), counts.drops.get()), (1, 2));
    });
}

#[test]
fn a_live_ref_forces_a_clone() {
    bounded(|| {
        let (_client, handle, counts) = finished();
        let shared = block_on(handle.get_ref()).unwrap();
        assert_eq!(block_on(handle).unwrap().value, 7);
        assert_eq!((counts.clones.get(), counts.drops.get()), (1, 1));
        assert_eq!(shared.value, 7);
        let value = shared.try_into_inner().unwrap();
        assert_eq!((value.value, counts.clones.get(), counts.drops.get()), (7, 1, 1));
    });
}

#[test]
fn a_value_is_moved_out_at_most_once() {
    bounded(|| {
        // Two handles are awaited at the same time: after the value was moved out, it isn't read.
        let client = Client::builder().workers(1).build();
        for round in 0..3000u64 {
            let counts = Counts::new();
            let value = counts.value(round);
            let a = client.submit(async move || value, ());
            let b = a.clone();
            let start = Barrier::new(2);
            thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    start.wait();
                    block_on(b).unwrap().value
                });
                start.wait();
                assert_eq!(block_on(a).unwrap().value, round);
                assert_eq!(thread.join().unwrap(), round);
            });
            // The worker drops the value if it hasn't let go of the task when the last handle is dropped.
            eventually("every value is dropped", || counts.drops.get() == counts.clones.get() + 1);
            assert!(counts.clones.get() <= 2);
        }
    });
}

// A handle that has delivered.

#[test]
fn a_handle_that_has_delivered_is_terminated() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let mut handle = client.submit(inc, 1);
        assert!(!handle.is_terminated());
        assert!((&mut handle).now_or_never().is_none());
        assert!(!handle.is_terminated());
        run_until_idle(&client);
        // It has finished but not delivered.
        assert!(!handle.is_terminated());
        assert_eq!((&mut handle).now_or_never().unwrap().unwrap(), 2);
        assert!(handle.is_terminated());
        assert_eq!(handle.status(), Status::Finished);
    });
}

#[test]
fn a_value_that_was_moved_out_is_lost_to_other_handles() {
    bounded(|| {
        let (client, mut handle, counts) = finished();
        let value = block_on(&mut handle).unwrap();
        let late = handle.clone();
        let dependent = client.submit(async |x: Counted| x.value, &handle);
        let by_ref = client.submit(async |x: Ref<Counted>| x.value, &handle);
        let in_vec = client.submit(async |x: Vec<Counted>| x.len(), vec![&handle]);
        run_until_idle(&client);
        let errors = [
            block_on(late).unwrap_err(),
            handle.result().unwrap_err(),
            handle.try_get().unwrap().unwrap_err(),
            block_on(handle.get_ref()).unwrap_err(),
            dependent.result().unwrap_err(),
            by_ref.result().unwrap_err(),
            in_vec.result().unwrap_err(),
            block_on(gather([&handle])).unwrap_err(),
            block_on(&mut handle).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
            assert_eq!(*error.origin(), handle.key());
        }
        drop(handle);
        assert_eq!((value.value, counts.clones.get(), counts.drops.get()), (7, 0, 0));
    });
}

#[test]
fn a_handle_that_cloned_the_value_gives_it_again() {
    bounded(|| {
        let (_client, mut handle, _) = finished();
        let other = handle.clone();
        assert_eq!(block_on(&mut handle).unwrap().value, 7);
        assert!(handle.is_terminated());
        assert_eq!(block_on(&mut handle).unwrap().value, 7);
        drop(other);
    });
}

#[test]
fn an_error_can_be_had_again_and_again() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let mut handle = client.try_submit(async || Err::<u64, _>("no"), ());
        assert!(handle.error().is_none());
        run_until_idle(&client);
        for _ in 0..3 {
            assert_eq!(block_on(&mut handle).unwrap_err().kind(), ErrorKind::Failed);
            assert_eq!(handle.error().unwrap().kind(), ErrorKind::Failed);
        }
        assert!(finished().1.error().is_none());
    });
}

// Losing a `select!` or a timeout.

#[test]
fn the_task_is_dropped_when_its_only_handle_loses_a_select() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let counts = Counts::new();
        let handle = client.spawn(counts.future(std::future::pending::<u64>()));
        eventually("it runs", || counts.polls.get() == 1);
        block_on(async {
            let mut other = futures::future::ready(());
            futures::select! {
                _ = pin!(handle.fuse()) => unreachable!("it never ends"),
                () = other => {}
            }
        });
        eventually("it's dropped", || counts.drops.get() == 1);
        eventually("it's freed", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn a_handle_awaited_by_reference_survives_a_select() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let gate = Gate::new();
        let waits = gate.pass();
        let mut handle = client.spawn(async move {
            waits.await;
            3u64
        });
        block_on(async {
            futures::select! {
                _ = handle => unreachable!("it waits for the gate"),
                () = futures::future::ready(()) => {}
            }
            gate.open();
            // The same handle in another `select!`, which skips it once it's terminated.
            futures::select! {
                x = handle => assert_eq!(x.unwrap(), 3),
                complete => unreachable!("it hasn't delivered"),
            }
            futures::select! {
                _ = handle => unreachable!("it has delivered"),
                complete => {}
            }
        });
    });
}

#[test]
fn a_timeout_of_tokio_or_smol_works_on_a_handle() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let gate = Gate::new();
        let waits = gate.pass();
        let handle = client.spawn(async move {
            waits.await;
            3u64
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let soon = Duration::from_millis(1);
            assert!(tokio::time::timeout(soon, &handle).await.is_err());
            // The handle can still be awaited.
            assert!(!handle.is_finished());
            gate.open();
            let x = tokio::time::timeout(Duration::from_secs(60), &handle).await;
            assert_eq!(x.unwrap().unwrap(), 3);
        });
        let never = client.spawn(std::future::pending::<()>());
        smol::block_on(async {
            let lost = smol::future::or(async { never.await.is_ok() }, async {
                smol::Timer::after(Duration::from_millis(1)).await;
                false
            });
            assert!(!lost.await);
        });
        eventually("the task is dropped", || client.tasks_in_memory() == 1);
    });
}

// `try_get` and `get_ref`.

#[test]
fn try_get_does_not_wait() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let ok = client.submit(inc, 1);
        let bad = client.submit(async || -> u64 { panic!("bad") }, ());
        assert!(ok.try_get().is_none() && bad.try_get().is_none());
        assert!(!ok.is_finished() && !bad.is_finished());
        run_until_idle(&client);
        assert!(ok.is_finished() && bad.is_finished());
        assert_eq!(ok.try_get().unwrap().unwrap(), 2);
        assert!(bad.try_get().unwrap().unwrap_err().is_panic());
        assert_eq!((ok.status(), bad.status()), (Status::Finished, Status::Failed));
        let cancelled = client.submit(inc, 1);
        cancelled.cancel();
        assert!(cancelled.is_finished());
        assert_eq!(cancelled.status(), Status::Cancelled);
    });
}

#[test]
fn get_ref_shares_values_that_are_not_clone() {
    #[derive(Debug)]
    struct Big(u64);
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let gate = Gate::new();
        let waits = gate.pass();
        let handle = client.spawn(async move {
            waits.await;
            Big(5)
        });
        let mut early = handle.get_ref();
        assert!((&mut early).now_or_never().is_none());
        gate.open();
        let first = block_on(early).unwrap();
        let second = block_on(handle.get_ref()).unwrap();
        assert!(std::ptr::eq(&*first, &*second));
        assert_eq!(first.as_ref().0, 5);
        assert_eq!(format!("{first:?}"), "Big(5)");
        // There are other `Ref`s.
        let first = first.try_into_inner().unwrap_err();
        drop(second);
        let first = first.try_into_inner().unwrap_err();
        drop(handle);
        let third = first.clone();
        let first = first.try_into_inner().unwrap_err();
        drop(third);
        assert_eq!(first.try_into_inner().unwrap().0, 5);
        eventually("it's freed", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn a_ref_outlives_its_handles_and_its_client() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let counts = Counts::new();
        let value = counts.value(4);
        let handle = client.submit(async move || value, ());
        let shared = block_on(handle.get_ref()).unwrap();
        block_on(client.idle());
        drop(handle);
        drop(client);
        assert_eq!((shared.value, counts.drops.get()), (4, 0));
        let other = shared.clone();
        drop(shared);
        thread::spawn(move || drop(other)).join().unwrap();
        assert_eq!((counts.clones.get(), counts.drops.get()), (0, 1));
    });
}

#[test]
fn get_ref_gives_errors_too() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let handle = client.submit(async || -> u64 { panic!("bad") }, ());
        let early = handle.get_ref();
        run_until_idle(&client);
        assert!(block_on(early).unwrap_err().is_panic());
        assert!(block_on(handle.get_ref()).unwrap_err().is_panic());
    });
}

#[test]
fn a_value_may_be_neither_clone_nor_sync() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let (send, receive) = std::sync::mpsc::channel();
        let handle = client.submit(async || Cell::new(Box::new(1)), ());
        handle.on_done(move |handle| send.send(handle.status()).unwrap());
        assert_eq!(receive.recv().unwrap(), Status::Finished);
        assert!(handle.error().is_none());
        handle.cancel();
        drop(handle);
        eventually("it's freed", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn values_of_any_size_and_alignment() {
    #[derive(Clone, Debug, PartialEq)]
    #[repr(align(128))]
    struct Aligned(u8);
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let handle = client.submit(async |x: Aligned| x, Aligned(9));
        let shared = block_on(handle.get_ref()).unwrap();
        assert_eq!(std::ptr::from_ref(&*shared) as usize % 128, 0);
        assert_eq!(handle.result().unwrap(), Aligned(9));
        assert!(client.submit(async || (), ()).result().is_ok());
        let large = client.submit(async |x: [u64; 1000]| x, [3; 1000]);
        assert_eq!(client.submit(async |x: Ref<[u64; 1000]>| x[999], &large).result().unwrap(), 3);
        assert_eq!(block_on(large).unwrap()[0], 3);
    });
}

#[test]
fn ready_is_finished_at_once() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let counts = Counts::new();
        let handle = client.ready(counts.value(1));
        assert_eq!(handle.status(), Status::Finished);
        assert_eq!(handle.clone().now_or_never().unwrap().unwrap().value, 1);
        assert!(!handle.cancel());
        assert_eq!(handle.now_or_never().unwrap().unwrap().value, 1);
        assert_eq!((counts.clones.get(), counts.drops.get()), (1, 2));
    });
}

// `Debug`, equality, status and callbacks.

#[test]
fn debug_shows_key_and_status() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let handle = client.task().key("k").submit(inc, 1);
        assert_eq!(format!("{handle:?}"), r#"Handle { key: "k", status: Ready }"#);
        run_until_idle(&client);
        assert_eq!(format!("{handle:?}"), r#"Handle { key: "k", status: Finished }"#);
        let get_ref = handle.get_ref();
        assert_eq!(format!("{get_ref:?}"), format!("GetRef({handle:?})"));
    });
}

#[test]
fn a_ref_is_shown_as_its_value() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let value = block_on(client.ready("four".to_owned()).get_ref()).unwrap();
        assert_eq!(format!("{value}, {value:>6}, {value:?}"), "four,   four, \"four\"");
    });
}

#[test]
fn handles_are_equal_if_they_are_of_one_task() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let (a, b) = (client.submit(inc, 1), client.submit(inc, 1));
        assert_eq!(a, a.clone());
        assert_ne!(a, b);
        let set = std::collections::HashSet::from([a.clone(), b.clone(), a.clone()]);
        assert_eq!(set.len(), 2);
        assert!(set.contains(&a));
    });
}

#[test]
fn statuses_follow_the_task() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let gate = Gate::new();
        let x = client.spawn(gate.pass());
        let y = client.submit(async |(): ()| (), &x);
        assert_eq!((x.status(), y.status()), (Status::Ready, Status::Waiting));
        run_what_is_ready(&client);
        assert_eq!((x.status(), y.status()), (Status::Running, Status::Waiting));
        gate.open();
        run_until_idle(&client);
        assert_eq!((x.status(), y.status()), (Status::Finished, Status::Finished));
    });
}

#[test]
fn on_done_is_called_once_whatever_the_outcome() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let note = |name: &'static str| {
            let seen = seen.clone();
            move |handle: &Handle<u64>| seen.lock().unwrap().push((name, handle.status()))
        };
        let ok = client.submit(inc, 1);
        ok.on_done(note("ok"));
        ok.on_done(note("ok again"));
        let bad = client.submit(async || -> u64 { panic!("bad") }, ());
        bad.on_done(note("bad"));
        let cancelled = client.submit(inc, 1);
        cancelled.on_done(note("cancelled"));
        let dropped = client.submit(inc, 1);
        dropped.on_done(note("dropped"));
        cancelled.cancel();
        // The callback doesn't keep the task.
        drop(dropped);
        assert_eq!(seen.lock().unwrap().len(), 2);
        run_until_idle(&client);
        ok.on_done(note("late"));
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_by_key(|(name, _)| *name);
        let expected = [
            ("bad", Status::Failed),
            ("cancelled", Status::Cancelled),
            ("dropped", Status::Cancelled),
            ("late", Status::Finished),
            ("ok", Status::Finished),
            ("ok again", Status::Finished),
        ];
        assert_eq!(seen, expected);
    });
}

#[test]
fn polling_after_the_end_never_panics() {
    bounded(|| {
        let (_client, mut handle, _) = finished();
        let mut cx = Context::from_waker(Waker::noop());
        let mut handle = std::pin::Pin::new(&mut handle);
        assert!(matches!(handle.as_mut().poll(&mut cx), Poll::Ready(Ok(_))));
        for _ in 0..3 {
            let Poll::Ready(Err(error)) = handle.as_mut().poll(&mut cx) else {
                panic!("it was moved out")
            };
            assert_eq!(error.kind(), ErrorKind::Lost);
        }
    });
}
