//! Second runs of what takes unusually long (promise 25).

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ensue::{Client, Error, Hedge, gather, is_cancelled, sleep};
use futures::executor::block_on;
use futures::{StreamExt, stream};
use support::hold::Gate;
use support::observe::{Counts, Log};
use support::{bounded, client_of, eventually};

const SECOND: Duration = Duration::from_secs(1);

fn seeded() -> Client {
    Client::builder().seed(7).build()
}

/// Runs a test as a task of a seeded client, in its virtual time.
fn in_virtual_time<Fut>(test: impl FnOnce(Client) -> Fut + Send + 'static)
where
    Fut: Future<Output = ()> + Send + 'static,
{
    bounded(|| {
        let client = seeded();
        client.spawn(test(client.clone())).result().unwrap();
    });
}

#[test]
fn what_is_quick_runs_once() {
    in_virtual_time(|_| async {
        let hedge = Hedge::after(2 * SECOND);
        for n in 0..10 {
            let made = Log::new();
            let of = made.clone();
            let output = hedge.run(|| {
                of.add(());
                async move {
                    sleep(SECOND).await;
                    n
                }
            });
            assert_eq!(output.await, n);
            assert_eq!(made.len(), 1);
        }
        let stats = hedge.stats();
        assert_eq!((stats.first_runs, stats.second_runs, stats.second_won), (10, 0, 0));
        assert_eq!(stats.delay, Some(2 * SECOND));
    });
}

#[test]
fn what_takes_long_runs_twice_and_the_loser_is_dropped() {
    in_virtual_time(|client| async move {
        let hedge = Hedge::after(SECOND);
        // The first run would take an hour.
        let counts = Counts::new();
        let mut runs = 0;
        let before = client.submit(async || sleep(90 * SECOND).await, ());
        let output = hedge.run(|| {
            runs += 1;
            let lasts = if runs == 1 { 3600 * SECOND } else { SECOND };
            let run = runs;
            counts.future(async move {
                sleep(lasts).await;
                run
            })
        });
        assert_eq!(output.await, 2);
        assert!(!before.is_finished(), "after two seconds");
        assert_eq!(counts.drops.get(), 2);
        // The first run wins if it ends first.
        let mut runs = 0;
        let output = hedge.run(|| {
            runs += 1;
            let lasts = if runs == 1 { 2 * SECOND } else { 5 * SECOND };
            let run = runs;
            counts.future(async move {
                sleep(lasts).await;
                run
            })
        });
        assert_eq!(output.await, 1);
        assert_eq!(counts.drops.get(), 4);
        let stats = hedge.stats();
        assert_eq!((stats.first_runs, stats.second_runs, stats.second_won), (2, 2, 1));
    });
}

#[test]
fn an_error_ends_it_only_if_no_other_run_is_under_way() {
    in_virtual_time(|_| async {
        let hedge = Hedge::after(SECOND);
        let outcome = |run: u32, lasts: u32, is_ok: bool| async move {
            sleep(lasts * SECOND).await;
            if is_ok { Ok(run) } else { Err(run) }
        };
        // (how long the first and the second run take, whether they succeed), and what comes out.
        for (first, second, expected) in [
            ((0, false), (0, true), Err(1)),
            ((2, false), (5, true), Ok(2)),
            ((2, false), (5, false), Err(2)),
            ((5, false), (2, false), Err(1)),
            ((5, true), (2, false), Ok(1)),
            ((5, true), (2, true), Ok(2)),
        ] {
            let mut runs = 0;
            let output = hedge.try_run(|| {
                runs += 1;
                let (lasts, is_ok) = if runs == 1 { first } else { second };
                outcome(runs, lasts, is_ok)
            });
            assert_eq!(output.await, expected, "{first:?} {second:?}");
        }
        let output: Result<u32, u32> = hedge.try_run(|| outcome(1, 0, false)).await;
        assert_eq!(output, Err(1));
        assert_eq!(hedge.run(|| outcome(1, 0, false)).await, Err(1));
    });
}

#[test]
fn stragglers_no_longer_make_the_tail() {
    in_virtual_time(|client| async move {
        /// Of 100 calls, one takes 100 times as long.
        async fn call(n: u64) {
            let is_slow = fastrand::Rng::with_seed(n).u32(..100) == 0;
            sleep(Duration::from_millis(if is_slow { 1000 } else { 10 })).await;
        }

        /// Returns the time that 999 of 1,000 calls don't exceed, in milliseconds, and the number of calls for each task.
        async fn measure(client: &Client, hedge: Option<Hedge>) -> (u64, f64) {
            const TASKS: u64 = 20_000;
            // The virtual time in milliseconds.
            let now = Arc::new(AtomicU64::new(0));
            let ticks = now.clone();
            let clock = client.spawn(async move {
                loop {
                    sleep(Duration::from_millis(1)).await;
                    ticks.fetch_add(1, Ordering::Relaxed);
                }
            });
            let calls = Arc::new(AtomicU64::new(0));
            let counted = calls.clone();
            let task = async move |_: u64| {
                let make = || call(counted.fetch_add(1, Ordering::Relaxed));
                let began = now.load(Ordering::Relaxed);
                match &hedge {
                    Some(hedge) => hedge.run(make).await,
                    None => make().await,
                }
                now.load(Ordering::Relaxed) - began
            };
            let times = client.map_stream(stream::iter(0..TASKS), 16, task);
            let mut times: Vec<_> = times.map(Result::unwrap).collect().await;
            drop(clock);
            times.sort();
            let calls = calls.load(Ordering::Relaxed) as f64 / TASKS as f64;
            (times[times.len() * 999 / 1000], calls)
        }

        let (plain, calls) = measure(&client, None).await;
        assert!(plain >= 999 && calls == 1.0, "{plain} {calls}");
        let (hedged, calls) = measure(&client, Some(Hedge::at_quantile(0.98).budget(0.03))).await;
        assert!(hedged <= plain / 10, "{hedged} of {plain} ms");
        assert!(calls <= 1.03, "{calls}");
    });
}

#[test]
fn without_enough_measurements_there_is_no_second_run() {
    in_virtual_time(|_| async {
        let hedge = Hedge::at_quantile(0.9);
        for n in 0..32 {
            assert_eq!(hedge.stats().delay, None, "{n}");
            hedge.run(|| sleep(if n == 31 { 3600 * SECOND } else { SECOND })).await;
        }
        let delay = hedge.stats().delay.unwrap();
        assert!(delay >= SECOND && delay <= SECOND * 9 / 8, "{delay:?}");
        assert_eq!(hedge.stats().second_runs, 0);
    });
}

#[test]
fn a_quantile_does_not_become_shorter_by_what_is_hedged() {
    in_virtual_time(|_| async {
        let hedge = Hedge::at_quantile(0.9).budget(1.0);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..5000 {
            // From 1 to 2 seconds: a tenth takes longer than 1.9.
            let lasts = SECOND + Duration::from_millis(random.u64(..1000));
            hedge.run(|| sleep(lasts)).await;
        }
        let stats = hedge.stats();
        let delay = stats.delay.unwrap();
        // To within an eighth.
        let exact = Duration::from_millis(1900);
        assert!(delay >= exact * 8 / 9 && delay <= exact * 9 / 8, "{delay:?}");
        assert!(stats.second_runs <= 5000 * 15 / 100, "{stats:?}");
    });
}

#[test]
fn if_everything_is_slow_the_budget_bounds_the_second_runs() {
    in_virtual_time(|client| async move {
        let hedge = Hedge::at_quantile(0.95).budget(0.05);
        for _ in 0..1000 {
            hedge.run(|| sleep(SECOND)).await;
        }
        let slow: Vec<_> = (0..1000)
            .map(|_| {
                let hedge = hedge.clone();
                client.spawn(async move { hedge.run(|| sleep(100 * SECOND)).await })
            })
            .collect();
        gather(slow).await.unwrap();
        let stats = hedge.stats();
        assert_eq!(stats.first_runs, 2000);
        assert!((25..=50).contains(&stats.second_runs), "{stats:?}");
        // However long all was well before.
        let hedge = Hedge::after(SECOND).budget(0.03);
        for _ in 0..40_000 {
            hedge.run(|| async {}).await;
        }
        for _ in 0..1000 {
            hedge.run(|| sleep(2 * SECOND)).await;
        }
        let stats = hedge.stats();
        assert!((30..=60).contains(&stats.second_runs), "{stats:?}");
        // One with no budget never has a second run.
        let hedge = Hedge::after(SECOND).budget(0.0);
        hedge.run(|| sleep(2 * SECOND)).await;
        assert_eq!(hedge.stats().second_runs, 0);
    });
}

#[test]
fn a_task_that_loses_is_cancelled() {
    bounded(|| {
        let client = client_of(2);
        let hedge = Hedge::after(Duration::from_millis(1));
        let (gate, log) = (Gate::new(), Log::new());
        let mut runs = 0;
        let output: Result<&str, Error> = block_on(hedge.try_run(|| {
            runs += 1;
            let (gate, entry, is_first) = (gate.clone(), log.clone(), runs == 1);
            client.submit_blocking(
                move || {
                    if is_first {
                        gate.open();
                        while !is_cancelled() {
                            std::thread::yield_now();
                        }
                        entry.add("stopped");
                        return "first";
                    }
                    gate.pass_blocking();
                    "second"
                },
                (),
            )
        }));
        assert_eq!(output.unwrap(), "second");
        eventually("the first one stops", || log.len() == 1);
    });
}

#[test]
fn dropping_it_drops_both_runs() {
    bounded(|| {
        let client = client_of(1);
        let hedge = Hedge::after(Duration::from_millis(1));
        let counts = Counts::new();
        let task = {
            let (hedge, counts) = (hedge.clone(), counts.clone());
            client.spawn(async move { hedge.run(|| counts.future(pending::<()>())).await })
        };
        eventually("it runs twice", || hedge.stats().second_runs == 1);
        task.cancel();
        eventually("both are dropped", || counts.drops.get() == 2);
        let late = client.task().timeout(Duration::from_millis(20)).spawn(async move {
            hedge.run(pending::<()>).await;
        });
        assert!(late.result().unwrap_err().is_timeout());
    });
}

#[test]
fn a_panic_of_a_run_is_that_of_the_task() {
    bounded(|| {
        let client = client_of(1);
        for panics_at in 1..=2 {
            let hedge = Hedge::after(Duration::from_millis(1));
            let task = client.spawn(async move {
                let mut runs = 0;
                hedge
                    .run(|| {
                        runs += 1;
                        let run = runs;
                        async move {
                            assert_ne!(run, panics_at, "run {run} panics");
                            pending::<()>().await;
                        }
                    })
                    .await;
            });
            let error = task.result().unwrap_err();
            assert!(error.is_panic() && error.to_string().contains("panics"), "{error}");
        }
    });
}

#[test]
fn bad_values_say_what_is_wrong() {
    let text = |make: fn() -> Hedge| {
        let panic = std::panic::catch_unwind(make).unwrap_err();
        *panic.downcast::<String>().unwrap()
    };
    assert_eq!(
        text(|| Hedge::at_quantile(95.0)),
        "a quantile is between 0 and 1, such as 0.95, not 95"
    );
    assert!(text(|| Hedge::at_quantile(f64::NAN)).ends_with("not NaN"));
    assert!(text(|| Hedge::at_quantile(1.0)).ends_with("not 1"));
    assert_eq!(
        text(|| Hedge::after(SECOND).budget(3.0)),
        "a budget is a part of the runs, from 0 to 1, such as 0.03, not 3"
    );
    assert!(text(|| Hedge::after(SECOND).budget(-0.1)).ends_with("not -0.1"));
}
