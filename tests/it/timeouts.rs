//! Timeouts (promise 13).

use std::sync::Arc;
use std::time::Duration;

use ensue::{Client, ErrorKind, Status, sleep};
use futures::executor::block_on;
use smol::future::{or, yield_now};
use support::hold::{Gate, hold_worker};
use support::observe::{Counts, Log, Wakes, poll_with};
use support::{bounded, client_of, eventually};

async fn inc(x: u64) -> u64 {
    x + 1
}

#[test]
fn a_late_task_fails_and_its_future_is_dropped() {
    bounded(|| {
        let client = client_of(1);
        let counts = Counts::new();
        let of = counts.clone();
        let options = client.task().timeout(Duration::from_millis(20));
        let x = options.submit(move || of.future(std::future::pending::<u64>()), ());
        let error = x.result().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.is_timeout() && !error.is_cancelled() && !error.is_panic());
        assert_eq!(error.origin(), x.key());
        assert!(error.to_string().contains("20ms"), "{error}");
        assert_eq!(x.status(), Status::Failed);
        assert_eq!(counts.drops.get(), 1, "it is dropped before the task has ended");
        // The only worker is free.
        assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
    });
}

#[test]
fn a_task_in_time_has_its_value() {
    bounded(|| {
        let client = Client::builder().seed(1).build();
        let x = client.task().timeout(Duration::from_secs(10)).submit(
            async || {
                ensue::sleep(Duration::from_secs(9)).await;
                5
            },
            (),
        );
        assert_eq!(x.result().unwrap(), 5);
        let options = client.task().timeout(Duration::from_secs(10));
        let late = options.submit(async || ensue::sleep(Duration::from_secs(11)).await, ());
        assert!(late.result().unwrap_err().is_timeout());
    });
}

#[test]
fn waiting_for_inputs_does_not_count() {
    bounded(|| {
        let client = Client::builder().seed(2).build();
        let slow = client.submit(
            async || {
                ensue::sleep(Duration::from_secs(3600)).await;
                1
            },
            (),
        );
        let x = client.task().timeout(Duration::from_secs(1)).submit(inc, &slow);
        assert_eq!(x.result().unwrap(), 2);
    });
}

#[test]
fn waiting_for_a_worker_does_not_count() {
    bounded(|| {
        let client = client_of(1);
        let held = hold_worker(&client);
        let x = client.task().timeout(Duration::from_millis(1)).submit(inc, 1);
        std::thread::sleep(Duration::from_millis(20));
        held.let_go();
        assert_eq!(x.result().unwrap(), 2);
    });
}

#[test]
fn waiting_for_a_limit_does_not_count() {
    bounded(|| {
        let client = Client::builder().seed(3).limit("one", 1).build();
        let hour = async || ensue::sleep(Duration::from_secs(3600)).await;
        let first = client.task().priority(1).acquire("one").submit(hour, ());
        let options = client.task().acquire("one").timeout(Duration::from_secs(1));
        let second = options.submit(inc, 1);
        assert_eq!(second.result().unwrap(), 2);
        assert!(first.is_finished());
    });
}

#[test]
fn each_attempt_has_the_whole_time() {
    bounded(|| {
        let client = Client::builder().seed(4).build();
        let log = Log::new();
        let entry = log.clone();
        let options = client.task().timeout(Duration::from_secs(10)).retries(2);
        // Three times six seconds are more than the timeout, but none of them alone.
        let x = options.try_submit(
            async move || {
                ensue::sleep(Duration::from_secs(6)).await;
                entry.add(());
                if entry.len() < 3 { Err("again") } else { Ok(()) }
            },
            (),
        );
        x.result().unwrap();
        assert_eq!(log.len(), 3);
    });
}

#[test]
fn the_time_counts_from_the_start_of_the_first_poll() {
    bounded(|| {
        let client = client_of(1);
        // What the function does before its first await is part of the attempt.
        let x = client.task().timeout(Duration::from_millis(30)).submit(
            async || {
                std::thread::sleep(Duration::from_millis(300));
                ensue::sleep(Duration::from_millis(1)).await;
            },
            (),
        );
        assert!(x.result().is_err_and(|error| error.is_timeout()), "it took ten times as long");
    });
}

#[test]
fn dependents_fail_with_the_same_timeout() {
    bounded(|| {
        let client = client_of(1);
        let options = client.task().timeout(Duration::from_millis(1));
        let x = options.submit(async || std::future::pending::<u64>().await, ());
        let y = client.submit(inc, &x);
        let z = client.submit(inc, &y);
        let error = z.result().unwrap_err();
        assert!(error.is_timeout());
        assert_eq!(error.origin(), x.key());
    });
}

#[test]
fn extreme_timeouts_are_fine() {
    bounded(|| {
        let client = client_of(1);
        let x = client.task().timeout(Duration::MAX).submit(
            async || {
                yield_now().await;
                1
            },
            (),
        );
        assert_eq!(x.result().unwrap(), 1);
        let pending = async || std::future::pending::<()>().await;
        let zero = client.task().timeout(Duration::ZERO).submit(pending, ());
        assert!(zero.result().unwrap_err().is_timeout());
        let seeded = Client::builder().seed(1).build();
        let x = seeded.task().timeout(Duration::MAX).submit(async || yield_now().await, ());
        x.result().unwrap();
    });
}

#[test]
fn a_late_blocking_closure_sees_it_and_keeps_its_limit_until_it_returns() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("one", 1).build();
        let (gate, begun, saw) = (Gate::new(), Gate::new(), Gate::new());
        let mut timeout = Duration::from_millis(50);
        let next = loop {
            let (begin, pass, see) = (begun.clone(), gate.clone(), saw.clone());
            let x = client.task().acquire("one").timeout(timeout).submit_blocking(
                move || {
                    begin.open();
                    while !ensue::is_cancelled() {
                        std::thread::yield_now();
                    }
                    see.open();
                    pass.pass_blocking();
                },
                (),
            );
            assert!(x.result().unwrap_err().is_timeout());
            let next = client.task().acquire("one").submit(inc, 1);
            // On a busy machine it may be late before it has begun. Then it never does, and leaves the limit.
            eventually("it has begun or left", || begun.is_open() || next.is_finished());
            if begun.is_open() {
                break next;
            }
            timeout *= 2;
        };
        saw.pass_blocking();
        // The worker is free, the limit isn't.
        assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
        assert!(!next.is_finished());
        gate.open();
        assert_eq!(next.result().unwrap(), 2);
    });
}

#[test]
fn a_panic_while_a_late_future_is_dropped_does_not_end_the_worker() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped badly");
        }
    }
    bounded(|| {
        let client = Client::builder().workers(1).on_unobserved(|_| {}).build();
        let options = client.task().timeout(Duration::from_millis(1));
        let x = options.submit(
            async || {
                let _bomb = Bomb;
                std::future::pending::<u64>().await
            },
            (),
        );
        assert!(x.result().is_err());
        assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
    });
}

#[test]
fn a_dropped_timer_holds_nothing() {
    async fn loses_a_race() -> u64 {
        let hour = async {
            sleep(Duration::from_secs(3600)).await;
            0
        };
        let soon = async {
            yield_now().await;
            1
        };
        or(hour, soon).await
    }
    bounded(|| {
        for client in [Client::builder().seed(1).build(), client_of(1)] {
            // Its own timers, and that of a timeout.
            let plain = client.submit(loses_a_race, ());
            let limited = client.task().timeout(Duration::from_secs(3600)).submit(loses_a_race, ());
            assert_eq!((plain.result().unwrap(), limited.result().unwrap()), (1, 1));
            drop((plain, limited));
            eventually(format_args!("nothing is held by {client:?}"), || {
                client.tasks_in_memory() == 0
            });
        }
    });
}

// Sleeping, outside any task.

#[test]
fn one_sleep_after_the_other_ends() {
    bounded(|| {
        for _ in 0..5 {
            block_on(sleep(Duration::from_millis(1)));
        }
    });
}

#[test]
fn a_dropped_sleep_drops_its_waker() {
    bounded(|| {
        let mut nap = sleep(Duration::from_secs(3600));
        assert_eq!(format!("{nap:?}"), "Sleep { duration: 3600s, .. }");
        let wakes = Wakes::new();
        assert!(poll_with(&mut nap, &wakes).is_pending());
        assert_eq!(Arc::strong_count(&wakes), 2);
        drop(nap);
        assert_eq!((Arc::strong_count(&wakes), wakes.get()), (1, 0));
    });
}
