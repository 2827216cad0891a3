//! Retries, by options and by hand (promise 12).

use std::sync::Arc;
use std::time::Duration;

use ensue::{Client, ErrorKind, Handle, Retry, Status, as_completed, gather_settled};
use futures::StreamExt;
use futures::executor::block_on;
use futures::future::{BoxFuture, FutureExt};
use support::hold::{Gate, hold_worker, turns};
use support::observe::{Count, Counts, Log, Wakes, poll_with};
use support::{bounded, client_of, eventually, run_until_idle};

async fn inc(x: usize) -> usize {
    x + 1
}

/// A function that fails this number of times, and then returns the number of the attempt.
fn flaky(
    attempts: &Count,
    failures: usize,
) -> impl Fn() -> BoxFuture<'static, Result<usize, String>> + Clone + Send + use<> {
    let attempts = attempts.clone();
    move || {
        let attempts = attempts.clone();
        async move {
            let n = attempts.add();
            if n < failures { Err(format!("attempt {n}")) } else { Ok(n) }
        }
        .boxed()
    }
}

fn seeded(seed: u64) -> Client {
    Client::builder().seed(seed).build()
}

/// The virtual times, in steps of ten milliseconds, at which the attempts of a task that always fails begin.
fn attempt_times(client: &Client, retry: Retry) -> Vec<usize> {
    let ticks = Count::new();
    let tick = ticks.clone();
    let clock = client.spawn(async move {
        // Out of step with the delays, so that no two timers are due at the same time.
        ensue::sleep(Duration::from_millis(7)).await;
        loop {
            tick.add();
            ensue::sleep(Duration::from_millis(10)).await;
        }
    });
    let log = Log::new();
    let entry = log.clone();
    let failing = client.task().retries(retry).try_submit(
        async move || {
            entry.add(ticks.get());
            Err::<(), _>("again")
        },
        (),
    );
    assert_eq!(failing.result().unwrap_err().kind(), ErrorKind::Failed);
    drop(clock);
    log.all()
}

#[test]
fn the_budget_is_the_number_of_further_attempts() {
    bounded(|| {
        let client = client_of(2);
        for (budget, expected) in [(2, Ok(2)), (1, Err("attempt 1")), (0, Err("attempt 0"))] {
            let attempts = Count::new();
            let x = client.task().retries(budget).try_submit(flaky(&attempts, 2), ());
            match expected {
                Ok(value) => assert_eq!(x.result().unwrap(), value),
                Err(text) => {
                    let error = x.result().unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Failed);
                    assert_eq!(error.downcast_ref::<String>().unwrap(), text);
                    assert_eq!(error.origin(), x.key());
                }
            }
            assert_eq!(attempts.get(), (budget as usize + 1).min(3));
        }
    });
}

#[test]
fn without_retries_there_is_one_attempt() {
    bounded(|| {
        let client = client_of(1);
        let attempts = Count::new();
        let x = client.try_submit(flaky(&attempts, 1), ());
        assert_eq!(
            x.result().unwrap_err().to_string(),
            format!("task `{}` failed: attempt 0", x.key())
        );
        assert_eq!(attempts.get(), 1);
    });
}

#[test]
fn a_panic_uses_an_attempt_like_an_error() {
    bounded(|| {
        let client = client_of(1);
        let attempts = Count::new();
        let count = attempts.clone();
        let x = client.task().retries(3).submit(
            async move || {
                assert!(count.add() >= 2, "not yet");
                "at last"
            },
            (),
        );
        assert_eq!(x.result().unwrap(), "at last");
        assert_eq!(attempts.get(), 3);
    });
}

#[test]
fn a_timeout_uses_an_attempt() {
    bounded(|| {
        let client = seeded(1);
        let attempts = Count::new();
        let count = attempts.clone();
        let options = client.task().timeout(Duration::from_secs(60)).retries(2);
        let x = options.submit(
            async move || {
                if count.add() < 2 {
                    std::future::pending::<()>().await;
                }
            },
            (),
        );
        x.result().unwrap();
        assert_eq!(attempts.get(), 3);

        let attempts = Counts::new();
        let counts = attempts.clone();
        let options = client.task().timeout(Duration::from_secs(60)).retries(2);
        let x = options.submit(move || counts.future(std::future::pending::<()>()), ());
        assert!(x.result().unwrap_err().is_timeout());
        assert_eq!(attempts.drops.get(), 3);
    });
}

#[test]
fn arguments_come_again_with_each_attempt() {
    bounded(|| {
        let client = client_of(1);
        let list = client.submit(async || vec![1, 2, 3], ());
        let attempts = Count::new();
        let count = attempts.clone();
        let x = client.task().retries(1).try_submit(
            async move |mut list: Vec<i32>| {
                let sum = list.drain(..).sum::<i32>();
                if count.add() == 0 { Err("once more") } else { Ok(sum) }
            },
            list,
        );
        assert_eq!(x.result().unwrap(), 6);
    });
}

#[test]
fn without_retries_nothing_needs_to_be_clone() {
    struct Single(usize);
    bounded(|| {
        let client = client_of(1);
        let captured = Single(1);
        let f = async move |x: Single| x.0 + captured.0;
        assert_eq!(client.submit(f, Single(1)).result().unwrap(), 2);
        let captured = Single(1);
        let f = async move |x: Single| x.0 + captured.0;
        let options = client.task().timeout(Duration::from_secs(600)).priority(1);
        assert_eq!(options.submit(f, Single(2)).result().unwrap(), 3);
    });
}

#[test]
fn a_fixed_backoff_waits_the_same_each_time() {
    bounded(|| {
        let wait = Duration::from_millis(100);
        let times = attempt_times(&seeded(2), Retry::new(4).backoff(wait, wait));
        assert_eq!(times, [0, 10, 20, 30, 40]);
    });
}

#[test]
fn an_exponential_backoff_doubles_up_to_its_maximum() {
    bounded(|| {
        let (first, max) = (Duration::from_millis(100), Duration::from_millis(350));
        let times = attempt_times(&seeded(3), Retry::new(5).backoff(first, max));
        assert_eq!(times, [0, 10, 30, 65, 100, 135]);
    });
}

#[test]
fn without_backoff_no_time_passes() {
    bounded(|| assert_eq!(attempt_times(&seeded(4), Retry::new(5)), [0; 6]));
}

#[test]
fn jitter_takes_a_part_of_the_delay_and_follows_the_seed() {
    bounded(|| {
        let wait = Duration::from_secs(10);
        let retry = Retry::new(8).backoff(wait, wait).jitter();
        let times = attempt_times(&seeded(5), retry.clone());
        let delays: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(delays.iter().all(|delay| *delay <= 1000), "{delays:?}");
        assert!(delays.iter().any(|delay| *delay != delays[0]), "{delays:?}");
        assert!(delays.iter().any(|delay| *delay < 900), "{delays:?}");
        assert_eq!(times, attempt_times(&seeded(5), retry.clone()));
        assert_ne!(times, attempt_times(&seeded(6), retry));
    });
}

#[test]
fn the_predicate_decides_by_the_error() {
    bounded(|| {
        let client = client_of(1);
        let only_first = Retry::new(10)
            .when(|error| error.downcast_ref::<String>().is_some_and(|text| text == "attempt 0"));
        let attempts = Count::new();
        let x = client.task().retries(only_first).try_submit(flaky(&attempts, 5), ());
        assert_eq!(x.result().unwrap_err().downcast_ref::<String>().unwrap(), "attempt 1");
        assert_eq!(attempts.get(), 2);

        let no_panics = Retry::new(10).when(|error| !error.is_panic());
        let attempts = Count::new();
        let count = attempts.clone();
        let x = client.task().retries(no_panics).submit(
            async move || {
                count.add();
                panic!("enough");
            },
            (),
        );
        let x: Handle<()> = x;
        assert!(x.result().unwrap_err().is_panic());
        assert_eq!(attempts.get(), 1);
    });
}

#[test]
fn the_predicate_is_not_asked_when_the_budget_is_spent() {
    bounded(|| {
        let asked = Count::new();
        let ask = asked.clone();
        let retry = Retry::new(2).when(move |_| {
            ask.add();
            true
        });
        let client = client_of(1);
        let x = client.task().retries(retry).try_submit(flaky(&Count::new(), 9), ());
        assert!(x.result().is_err());
        assert_eq!(asked.get(), 2);
    });
}

#[test]
fn a_predicate_that_panics_is_the_tasks_error() {
    bounded(|| {
        let client = client_of(1);
        let retry = Retry::new(5).when(|_| panic!("the predicate broke"));
        let attempts = Count::new();
        let x = client.task().retries(retry).try_submit(flaky(&attempts, 5), ());
        let error = x.result().unwrap_err();
        assert!(error.is_panic());
        assert!(error.to_string().contains("the predicate broke"), "{error}");
        assert_eq!(attempts.get(), 1);
        assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
    });
}

#[test]
fn a_delayed_retry_holds_no_worker_and_no_limit() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("one", 1).build();
        let hour = Duration::from_secs(3600);
        let retry = Retry::new(1).backoff(hour, hour);
        let attempts = Count::new();
        let x = client.task().acquire("one").retries(retry).try_submit(flaky(&attempts, 1), ());
        eventually("the task is delayed", || x.status() == Status::Delayed);
        assert_eq!(client.task().acquire("one").submit(inc, 1).result().unwrap(), 2);
        assert_eq!(x.status(), Status::Delayed);
        assert!(x.cancel());
        assert_eq!(attempts.get(), 1);
    });
}

#[test]
fn dependents_wait_for_the_last_attempt() {
    bounded(|| {
        let client = client_of(2);
        let x = client.task().retries(3).try_submit(flaky(&Count::new(), 3), ());
        let y = client.submit(inc, &x);
        assert_eq!(y.result().unwrap(), 4);
    });
}

#[test]
fn a_blocking_closure_is_retried_too() {
    bounded(|| {
        let client = client_of(1);
        let attempts = Count::new();
        let count = attempts.clone();
        let f = move || if count.add() < 2 { Err("no") } else { Ok(7) };
        let x = client.task().retries(2).try_submit_blocking(f, ());
        assert_eq!(x.result().unwrap(), 7);
        assert_eq!(attempts.get(), 3);
    });
}

#[test]
fn each_of_a_map_has_its_own_budget() {
    bounded(|| {
        let client = client_of(2);
        let attempts: Vec<_> = (0..5).map(|_| Count::new()).collect();
        let counts = attempts.clone();
        let f = async move |n: usize| {
            if counts[n].add() < n { Err("not yet") } else { Ok(n) }
        };
        let results = client.task().retries(3).try_map(f, 0..5usize);
        let results = block_on(gather_settled(results));
        let values: Vec<_> = results.into_iter().map(Result::ok).collect();
        assert_eq!(values, [Some(0), Some(1), Some(2), Some(3), None]);
        assert_eq!(attempts.iter().map(Count::get).collect::<Vec<_>>(), [1, 2, 3, 4, 4]);
    });
}

// By hand.

#[test]
fn a_failed_task_of_a_fallible_verb_can_be_retried() {
    bounded(|| {
        let client = client_of(1);
        let attempts = Count::new();
        let x = client.try_submit(flaky(&attempts, 2), ());
        let clone = x.clone();
        assert!(x.result().is_err());
        assert!(x.retry());
        assert!(x.result().is_err());
        assert!(clone.retry());
        assert_eq!(x.result().unwrap(), 2);
        assert_eq!(clone.result().unwrap(), 2);
        assert!(!x.retry(), "it has a value");
        assert_eq!(attempts.get(), 3);
    });
}

#[test]
fn a_task_with_retries_can_be_retried_whatever_its_verb() {
    bounded(|| {
        let client = client_of(1);
        let attempts = Count::new();
        let count = attempts.clone();
        let f = async move || assert!(count.add() > 0, "not yet");
        let x = client.task().retries(0).submit(f, ());
        assert!(x.result().unwrap_err().is_panic());
        assert!(x.retry());
        x.result().unwrap();
    });
}

#[test]
fn an_infallible_task_that_started_cannot_be_retried() {
    bounded(|| {
        let client = client_of(1);
        let attempts = Count::new();
        let count = attempts.clone();
        let x = client.submit(
            async move || {
                count.add();
                assert!(count.get() > 100, "always");
            },
            (),
        );
        let error = x.result().unwrap_err();
        assert!(error.is_panic());
        assert!(!x.retry());
        let y = client.submit(async |(): ()| 1, &x);
        assert!(y.result().unwrap_err().is_panic());
        assert!(!y.retry(), "its input can't run again");
        assert_eq!(x.error().unwrap().to_string(), error.to_string());
        assert_eq!(y.status(), Status::Failed);
        assert_eq!(attempts.get(), 1);

        let timeout = Duration::from_millis(1);
        let pending = async || std::future::pending::<()>().await;
        let late = client.task().timeout(timeout).submit(pending, ());
        assert!(late.result().unwrap_err().is_timeout());
        assert!(!late.retry());
    });
}

#[test]
fn only_failed_tasks_can_be_retried() {
    bounded(|| {
        let client = client_of(1);
        let gate = Gate::new();
        let pass = gate.pass();
        let running = client.spawn(pass);
        let waiting = client.submit(async |(): ()| (), &running);
        assert!(!running.retry());
        assert!(!waiting.retry());
        gate.open();
        waiting.result().unwrap();
        assert!(!waiting.retry());
        assert!(!client.ready(1).retry());

        let cancelled =
            client.try_submit(async || std::future::pending::<Result<u8, String>>().await, ());
        let dependent = client.submit(async |_: u8| (), &cancelled);
        assert!(cancelled.cancel());
        assert!(dependent.result().is_err());
        assert!(!cancelled.retry());
        assert!(!dependent.retry());
        assert_eq!(cancelled.status(), Status::Cancelled);
        assert_eq!(dependent.status(), Status::Cancelled);

        let never = client.task().acquire("unknown").try_submit(async || Ok::<_, String>(1), ());
        assert_eq!(never.result().unwrap_err().kind(), ErrorKind::Limit);
        assert!(!never.retry(), "the limit is unknown");
    });
}

#[test]
fn retrying_a_dependent_runs_its_failed_inputs_again() {
    bounded(|| {
        let client = client_of(2);
        let (xs, ys) = (Count::new(), Count::new());
        let x = client.try_submit(flaky(&xs, 1), ());
        let good = client.try_submit(flaky(&ys, 0), ());
        let y = client.submit(inc, &x);
        let z = client.submit(async |a: usize, b: usize| a * 10 + b, (&y, &good));
        let error = z.result().unwrap_err();
        assert_eq!(error.origin(), x.key());
        assert!(z.retry());
        assert_eq!(z.result().unwrap(), 20);
        assert_eq!(y.result().unwrap(), 2);
        assert_eq!(x.result().unwrap(), 1);
        assert_eq!((xs.get(), ys.get()), (2, 1), "what succeeded doesn't run again");
    });
}

#[test]
fn inputs_without_handles_run_again_too() {
    bounded(|| {
        let client = client_of(1);
        let attempts = Count::new();
        let y = {
            let x = client.try_submit(flaky(&attempts, 1), ());
            let between = client.submit(inc, x);
            client.submit(inc, between)
        };
        assert!(y.result().is_err());
        assert!(y.retry());
        assert_eq!(y.result().unwrap(), 3);
        assert_eq!(attempts.get(), 2);
    });
}

#[test]
fn an_input_given_twice_runs_again_once() {
    bounded(|| {
        let client = client_of(1);
        let attempts = Count::new();
        let x = client.try_submit(flaky(&attempts, 1), ());
        let left = client.submit(inc, &x);
        let y = client.submit(async |a: usize, b: usize, c: usize| a + b + c, (&x, &x, &left));
        assert!(y.result().is_err());
        assert!(y.retry());
        assert_eq!(y.result().unwrap(), 4);
        assert_eq!(attempts.get(), 2);
    });
}

#[test]
fn dependents_stay_failed_until_they_are_retried() {
    bounded(|| {
        let client = client_of(1);
        let x = client.try_submit(flaky(&Count::new(), 1), ());
        let y = client.submit(inc, &x);
        assert!(y.result().is_err());
        assert!(x.retry());
        assert_eq!(x.result().unwrap(), 1);
        assert_eq!(y.status(), Status::Failed);
        assert!(y.result().is_err());
        let new = client.submit(inc, &x);
        assert_eq!(new.result().unwrap(), 2);
        assert!(y.retry());
        assert_eq!(y.result().unwrap(), 2);
    });
}

#[test]
fn a_dependent_submitted_while_its_input_is_retried_waits_for_it() {
    bounded(|| {
        let client = client_of(1);
        let gate = Gate::new();
        let attempts = Count::new();
        let (count, open) = (attempts.clone(), gate.clone());
        let x = client.try_submit(
            async move || {
                if count.add() == 0 {
                    return Err("first");
                }
                open.pass().await;
                Ok(1)
            },
            (),
        );
        assert!(x.result().is_err());
        assert!(x.retry());
        let y = client.submit(inc, &x);
        assert!(!x.retry(), "it runs already");
        assert!(!y.is_finished());
        gate.open();
        assert_eq!(y.result().unwrap(), 2);
    });
}

#[test]
fn the_key_of_a_retried_task_can_be_joined() {
    bounded(|| {
        let client = client_of(1);
        let gate = Gate::new();
        let (count, open) = (Count::new(), gate.clone());
        let x = client.task().key("k").try_submit(
            async move || {
                if count.add() == 0 {
                    return Err("first");
                }
                open.pass().await;
                Ok(1usize)
            },
            (),
        );
        assert!(x.result().is_err());
        assert!(x.retry());
        let joined = client.task().key("k").try_submit(async || Ok::<usize, String>(99), ());
        assert_eq!(joined, x);
        assert_eq!(client.get::<usize>("k").unwrap(), x);
        gate.open();
        assert_eq!(joined.result().unwrap(), 1);
    });
}

#[test]
fn a_replaced_task_that_is_retried_leaves_the_key_to_the_new_one() {
    bounded(|| {
        let client = client_of(1);
        let old = client.task().key("k").try_submit(flaky(&Count::new(), 1), ());
        assert!(old.result().is_err());
        let new = client.task().key("k").try_submit(async || Ok::<usize, String>(99), ());
        assert_ne!(old, new);
        assert_eq!(new.result().unwrap(), 99);
        assert!(old.retry());
        assert_eq!(old.result().unwrap(), 1);
        assert_eq!(new.result().unwrap(), 99);
        assert_eq!(client.get::<usize>("k").unwrap(), new);
        drop(old);
        assert_eq!(client.get::<usize>("k").unwrap(), new);
    });
}

#[test]
fn completion_streams_and_callbacks_see_the_second_end() {
    bounded(|| {
        let client = client_of(1);
        let x = client.try_submit(flaky(&Count::new(), 1), ());
        let log = Log::new();
        let entry = log.clone();
        x.on_done(move |x| entry.add(("before", x.status())));
        assert!(x.result().is_err());
        let mut stream = as_completed([&x]);
        assert_eq!(block_on(stream.next()).unwrap().status(), Status::Failed);
        eventually("the callback was called", || log.len() == 1);
        assert!(x.retry());
        let entry = log.clone();
        x.on_done(move |x| entry.add(("after", x.status())));
        stream.add(&x);
        let again = block_on(stream.next()).unwrap();
        assert_eq!(again.result().unwrap(), 1);
        eventually("the second callback was called", || log.len() == 2);
        assert_eq!(log.all(), [("before", Status::Failed), ("after", Status::Finished)]);
    });
}

#[test]
fn an_await_that_began_before_a_retry_sees_an_end() {
    bounded(|| {
        let client = client_of(2);
        let x = client.task().retries(1).try_submit(flaky(&Count::new(), 3), ());
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let x = x.clone();
                std::thread::spawn(move || x.result())
            })
            .collect();
        eventually("the task has failed", || x.is_finished());
        let _ = x.retry();
        for waiter in waiters {
            // The first or the second outcome is right, but no hang.
            let _ = waiter.join().unwrap();
        }
        assert_eq!(x.result().unwrap(), 3);
    });
}

#[test]
fn a_handle_that_awaited_the_first_end_is_woken_by_the_second() {
    bounded(|| {
        let client = client_of(0);
        let x = client.try_submit(flaky(&Count::new(), 1), ());
        let mut waits = x.clone();
        let [first, second] = [Wakes::new(), Wakes::new()];
        assert!(poll_with(&mut waits, &first).is_pending());
        run_until_idle(&client);
        assert_eq!((x.status(), first.get()), (Status::Failed, 1));
        assert!(x.retry());
        assert!(poll_with(&mut waits, &second).is_pending());
        run_until_idle(&client);
        assert_eq!((first.get(), second.get()), (1, 1));
        assert_eq!(block_on(waits).unwrap(), 1);
    });
}

#[test]
fn an_unobserved_error_is_reported_though_one_before_a_retry_was_observed() {
    bounded(|| {
        let reported = Count::new();
        let count = reported.clone();
        let client = Client::builder().workers(0).on_unobserved(move |_| _ = count.add()).build();
        let x = client.try_submit(flaky(&Count::new(), 2), ());
        run_until_idle(&client);
        assert!(x.error().is_some());
        assert!(x.retry());
        run_until_idle(&client);
        assert_eq!(x.status(), Status::Failed);
        x.detach();
        assert_eq!(reported.get(), 1);
    });
}

#[test]
fn of_several_retries_at_once_one_has_an_effect() {
    bounded(|| {
        let client = client_of(2);
        for _ in 0..200 {
            let gate = Gate::new();
            let (count, open) = (Count::new(), gate.clone());
            let x = client.try_submit(
                async move || {
                    if count.add() == 0 {
                        return Err("first");
                    }
                    open.pass().await;
                    Ok(1)
                },
                (),
            );
            let y = client.submit(inc, &x);
            assert!(y.result().is_err());
            let threads: Vec<_> = (0..4)
                .map(|n| {
                    let (x, y) = (x.clone(), y.clone());
                    std::thread::spawn(move || if n % 2 == 0 { x.retry() } else { y.retry() })
                })
                .collect();
            let did = threads.into_iter().map(|thread| thread.join().unwrap());
            let did = did.filter(|did| *did).count();
            assert!((1..=2).contains(&did), "{did}");
            gate.open();
            assert_eq!(x.result().unwrap(), 1);
            if y.error().is_some() {
                assert!(y.retry());
            }
            assert_eq!(y.result().unwrap(), 2);
        }
    });
}

#[test]
fn a_long_chain_is_retried_without_recursion() {
    bounded(|| {
        let client = client_of(1);
        let x = client.try_submit(flaky(&Count::new(), 1), ());
        let mut last = client.submit(inc, &x);
        for _ in 0..20_000 {
            last = client.submit(inc, last);
        }
        assert!(last.result().is_err());
        assert!(last.retry());
        assert_eq!(last.result().unwrap(), 20_002);
    });
}

#[test]
fn after_close_a_failed_task_stays_as_it_is() {
    bounded(|| {
        let client = client_of(1);
        let x = client.try_submit(flaky(&Count::new(), 1), ());
        assert!(x.result().is_err());
        block_on(client.close());
        assert!(!x.retry(), "it can't run");
        assert_eq!(x.error().unwrap().kind(), ErrorKind::Failed);
    });
}

#[test]
fn a_failed_task_drops_its_function_with_its_last_handle() {
    bounded(|| {
        let client = client_of(1);
        let drops = Count::new();
        let captured = std::sync::Arc::new(drops.on_drop());
        let x = client.try_submit(
            async move || {
                let _captured = &captured;
                Err::<(), _>("no")
            },
            (),
        );
        assert!(x.result().is_err());
        assert_eq!(drops.get(), 0, "a retry needs it");
        drop(x);
        eventually("the function is dropped", || drops.get() == 1);
        eventually("the task is freed", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn a_task_with_a_raised_priority_can_be_retried_while_workers_look_for_work() {
    bounded(|| {
        for _ in 0..30 {
            let client = client_of(2);
            let held = [hold_worker(&client), hold_worker(&client)];
            let attempts = Count::new();
            let count = attempts.clone();
            let fails = async move || {
                count.add();
                Err::<usize, _>("always")
            };
            let x = client.try_submit(fails, ());
            // Each of these raises its priority and leaves a stale entry in a queue.
            let dependents: Vec<_> =
                (1..3000).map(|p| client.task().priority(p).submit(inc, &x)).collect();
            held.into_iter().for_each(|held| held.let_go());
            let mut retries = 0;
            for _ in 0..500 {
                // Not `result()`, which takes longer to notice the end.
                while !x.is_finished() {
                    std::thread::yield_now();
                }
                assert!(x.try_get().expect("it has ended").is_err());
                retries += usize::from(x.retry());
            }
            assert_eq!(x.result().unwrap_err().kind(), ErrorKind::Failed);
            assert_eq!(attempts.get(), retries + 1);
            for dependent in &dependents {
                assert_eq!(dependent.result().unwrap_err().origin(), x.key());
            }
            assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
            block_on(client.close());
        }
    });
}

/// What an input returns or holds while it runs: counted, to see whether it's released.
fn is_released(what: &Arc<()>) -> bool {
    Arc::strong_count(what) == 1
}

#[test]
fn a_task_that_cant_be_retried_releases_its_other_inputs() {
    for fails_first in [false, true] {
        bounded(move || {
            let client = client_of(1);
            let (value, running) = (Arc::new(()), Arc::new(()));
            let (gate, held) = (Gate::new(), running.clone());
            let of = value.clone();
            let has_ended = client.submit(async move || of, ());
            let endless = client.spawn(async move { std::future::pending().map(|()| held).await });
            let passed = gate.pass();
            let lost = client.spawn(async move {
                passed.await;
                panic!("it can't run again")
            });
            if fails_first {
                gate.open();
                wait_until_failed(&lost);
            }
            let middle = client.submit(async |_: Arc<()>, (): ()| (), (has_ended, &lost));
            let last = client.submit(async |(): (), _: Arc<()>| (), (&middle, endless));
            drop(lost);
            gate.open();
            assert_eq!(last.result().unwrap_err().kind(), ErrorKind::Panicked);
            eventually("all is released", || is_released(&value) && is_released(&running));
            assert!(!last.retry() && !middle.retry());
        });
    }
}

fn wait_until_failed<T>(task: &Handle<T>) {
    eventually("it fails", || task.status() == Status::Failed);
}

#[test]
fn a_task_that_can_be_retried_keeps_its_inputs_until_its_handle_is_dropped() {
    bounded(|| {
        let client = client_of(1);
        let (value, running) = (Arc::new(()), Arc::new(()));
        let (of, held, gate) = (value.clone(), running.clone(), Gate::new());
        let passed = gate.pass();
        let has_ended = client.submit(async move || of, ());
        let runs = client.spawn(async move {
            passed.await;
            held
        });
        let attempts = Count::new();
        let fails = client.try_submit(flaky(&attempts, 1), ());
        let last =
            client.submit(async |_: Arc<()>, _: Arc<()>, n: usize| n, (has_ended, runs, fails));
        assert_eq!(last.result().unwrap_err().kind(), ErrorKind::Failed);
        turns(&client);
        assert!(!is_released(&value) && !is_released(&running));
        assert!(last.retry());
        gate.open();
        assert_eq!(last.result().unwrap(), 1);
        drop(last);
        eventually("all is released", || is_released(&value) && is_released(&running));
    });
}
