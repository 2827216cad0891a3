//! Deadlines of whole tasks (promise 13).

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ensue::{Client, ErrorKind, Handle, Reason, Retry, Status, is_cancelled, sleep};
use futures::executor::block_on;
use support::hold::{Gate, hold_worker};
use support::observe::{Count, Counts, Log};
use support::{bounded, client_of, eventually};

const SOON: Duration = Duration::from_millis(20);
const HOUR: Duration = Duration::from_secs(3600);

async fn inc(x: u64) -> u64 {
    x + 1
}

fn seeded() -> Client {
    Client::builder().seed(1).limit("one", 1).build()
}

/// Submits a task with a deadline again and again, each time with a later one, until one has begun in time: no deadline is
/// long enough for any machine. Returns it with its deadline.
fn begun_in_time<T>(
    submit: impl Fn(Duration) -> Handle<T>,
    has_begun: impl Fn() -> bool,
) -> (Handle<T>, Duration) {
    let mut deadline = SOON;
    loop {
        let x = submit(deadline);
        eventually("it begins or is late", || has_begun() || x.is_finished());
        if has_begun() {
            return (x, deadline);
        }
        deadline *= 2;
    }
}

#[test]
fn a_task_that_has_not_ended_is_dropped_at_its_deadline() {
    bounded(|| {
        let client = client_of(1);
        let counts = Counts::new();
        let submit = |deadline| {
            let of = counts.clone();
            client.task().deadline(deadline).submit(move || of.future(pending::<u64>()), ())
        };
        let (x, deadline) = begun_in_time(submit, || counts.polls.get() > 0);
        let after = client.submit(inc, &x);
        let error = x.result().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.is_timeout());
        assert_eq!(error.origin(), x.key());
        assert!(
            error.to_string().contains(&format!("{deadline:?}"))
                && error.to_string().contains("deadline"),
            "{error}"
        );
        assert_eq!(x.status(), Status::Failed);
        assert_eq!(
            (counts.polls.get(), counts.drops.get()),
            (1, 1),
            "it is dropped before the task has ended"
        );
        let error = after.result().unwrap_err();
        assert!(error.is_timeout());
        assert_eq!(error.origin(), x.key());
        assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
    });
}

#[test]
fn waiting_for_inputs_counts() {
    bounded(|| {
        let client = client_of(1);
        let gate = Gate::new();
        let slow = client.spawn(gate.pass());
        eventually("the input runs", || slow.status() == Status::Running);
        let begun = Instant::now();
        let x = client.task().deadline(SOON).submit(async |(): ()| 1, &slow);
        assert!(x.result().unwrap_err().is_timeout());
        assert!(begun.elapsed() >= SOON);
        assert_eq!(slow.status(), Status::Running, "others need it, and it has no deadline");
        gate.open();
        slow.result().unwrap();
    });
}

#[test]
fn an_input_that_only_a_late_task_needs_is_abandoned() {
    bounded(|| {
        let client = client_of(1);
        let counts = Counts::new();
        let slow = client.spawn(counts.future(pending::<u64>()));
        let x = client.task().deadline(SOON).spawn(slow);
        assert!(x.result().unwrap_err().is_timeout());
        eventually("the input is dropped", || counts.drops.get() == 1);
        let counts = Counts::new();
        let slow = client.spawn(counts.future(pending::<u64>()));
        let x = client.task().deadline(SOON).submit(inc, slow);
        assert!(x.result().unwrap_err().is_timeout());
        drop(x);
        eventually("the input is dropped", || counts.drops.get() == 1);
    });
}

#[test]
fn waiting_for_a_worker_counts() {
    bounded(|| {
        let client = client_of(1);
        let held = hold_worker(&client);
        let x = client.task().deadline(SOON).submit(inc, 1);
        assert!(x.result().unwrap_err().is_timeout(), "though the only worker is held");
        held.let_go();
        assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
    });
}

#[test]
fn waiting_for_a_limit_and_all_attempts_count() {
    bounded(|| {
        let client = seeded();
        let first = client.task().priority(1).acquire("one").submit(sleep, HOUR);
        let second = client.task().acquire("one").deadline(HOUR / 2).submit(inc, 1);
        assert!(second.result().unwrap_err().is_timeout());
        first.result().unwrap();
        let log = Log::new();
        let entry = log.clone();
        let retry = Retry::new(u32::MAX).backoff(HOUR, HOUR);
        let x = client.task().retries(retry).deadline(HOUR * 5 / 2).try_submit(
            async move || {
                entry.add(());
                Err::<(), _>("again")
            },
            (),
        );
        assert!(x.result().unwrap_err().is_timeout());
        assert_eq!(log.len(), 3, "at 0, 1 and 2 hours");
        // A timeout of an attempt uses up the time of the task.
        let options = client.task().retries(u32::MAX).timeout(HOUR).deadline(HOUR * 5 / 2);
        let x = options.try_submit(async || pending::<Result<(), String>>().await, ());
        assert!(x.result().unwrap_err().to_string().contains("deadline"));
    });
}

#[test]
fn a_task_in_time_has_its_value() {
    bounded(|| {
        let client = seeded();
        let x = client.task().deadline(HOUR).submit(
            async || {
                sleep(HOUR - Duration::from_secs(1)).await;
                5
            },
            (),
        );
        assert_eq!(x.result().unwrap(), 5);
        let client = client_of(2);
        let xs = client.task().deadline(HOUR).map(inc, 0..1000);
        assert!(xs.into_iter().enumerate().all(|(i, x)| x.result().unwrap() == i as u64 + 1));
        let x = client.task().deadline(HOUR).try_submit(async || Err::<(), _>("no"), ());
        assert_eq!(x.result().unwrap_err().kind(), ErrorKind::Failed);
    });
}

#[test]
fn a_task_that_has_ended_holds_no_alarm() {
    bounded(|| {
        // The alarm's waker refers to the task, whose engine a retained cell would keep, with the hook in it.
        let counts = Arc::new(());
        let in_hook = counts.clone();
        let builder = Client::builder().workers(1).on_unobserved(move |_| drop(in_hook.clone()));
        let client = builder.build();
        let ended = client.task().deadline(HOUR).submit(inc, 1);
        let failed = client.task().deadline(HOUR).try_submit(async || Err::<(), _>("no"), ());
        let waits = client.task().deadline(HOUR).submit(async |(): ()| (), &failed);
        let cancelled = client.task().deadline(HOUR).spawn(pending::<()>());
        cancelled.cancel();
        assert!(ended.result().is_ok() && failed.result().is_err() && waits.result().is_err());
        drop((ended, failed, waits, cancelled, client));
        eventually("the engine is freed", || Arc::strong_count(&counts) == 1);
    });
}

#[test]
fn extreme_deadlines_are_fine() {
    bounded(|| {
        let client = client_of(1);
        let x = client.task().deadline(Duration::MAX).submit(inc, 1);
        assert_eq!(x.result().unwrap(), 2);
        for _ in 0..200 {
            let x = client.task().deadline(Duration::ZERO).spawn(pending::<()>());
            assert!(x.result().unwrap_err().is_timeout());
            let x =
                client.task().key("x").deadline(Duration::from_nanos(1)).submit(pending::<()>, ());
            assert!(x.result().unwrap_err().is_timeout());
        }
        let client = seeded();
        let x = client.task().deadline(Duration::MAX).submit(inc, 1);
        assert_eq!(x.result().unwrap(), 2);
        let x = client.task().deadline(Duration::ZERO).spawn(pending::<()>());
        assert!(x.result().unwrap_err().is_timeout());
    });
}

#[test]
fn blocking_work_goes_on_and_can_see_it() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let begun = Count::new();
        let submit = |deadline| {
            let (entry, begin) = (log.clone(), begun.clone());
            let work = move || {
                begin.add();
                while !is_cancelled() {
                    std::thread::yield_now();
                }
                entry.add("seen");
            };
            client.task().deadline(deadline).submit_blocking(work, ())
        };
        let (x, _) = begun_in_time(submit, || begun.get() > 0);
        assert!(x.result().unwrap_err().is_timeout());
        eventually("it sees that", || log.len() == 1);
    });
}

#[test]
fn a_retry_by_hand_begins_the_time_anew() {
    bounded(|| {
        let client = client_of(1);
        let gate = Gate::new();
        let pass = gate.clone();
        let x = client.task().deadline(SOON).try_submit(
            async move || {
                pass.pass().await;
                Ok::<_, String>(5)
            },
            (),
        );
        assert!(x.result().unwrap_err().is_timeout());
        for _ in 0..50 {
            assert!(x.retry(), "it kept its function");
            assert!(x.result().unwrap_err().is_timeout());
        }
        gate.open();
        // However slow the machine is, one of them is in time.
        eventually("it has a value", || x.retry() && x.result().is_ok_and(|it| it == 5));
    });
}

#[test]
fn retries_by_hand_race_with_deadlines() {
    bounded(|| {
        let client = client_of(2);
        let micros = |n| Duration::from_micros(n);
        let tasks: Vec<_> = (0..200)
            .map(|n| {
                client.task().deadline(micros(n)).try_submit(
                    async move || {
                        sleep(micros(100)).await;
                        if n % 2 == 0 { Err("odd only") } else { Ok(()) }
                    },
                    (),
                )
            })
            .collect();
        for _ in 0..20 {
            for x in &tasks {
                let _ = x.result();
                x.retry();
            }
        }
        // None hangs.
        tasks.iter().for_each(|x| drop(x.result()));
    });
}

#[test]
fn cancel_drop_and_close_come_first() {
    bounded(|| {
        let client = client_of(1);
        let x = client.task().deadline(HOUR).spawn(pending::<()>());
        x.cancel();
        assert!(x.result().unwrap_err().is_cancelled());
        let counts = Counts::new();
        drop(client.task().deadline(HOUR).spawn(counts.future(pending::<()>())));
        eventually("it is dropped", || counts.drops.get() == 1);
        // Closing waits for what has started, which the deadline ends.
        let counts = Counts::new();
        let submit =
            |deadline| client.task().deadline(deadline).spawn(counts.future(pending::<()>()));
        let (x, _) = begun_in_time(submit, || counts.polls.get() > 0);
        block_on(client.close());
        assert!(x.result().unwrap_err().is_timeout());
        let refused = client.task().deadline(SOON).submit(inc, 1);
        assert_eq!(refused.result().unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn a_panicking_destructor_does_not_stop_the_timers() {
    bounded(|| {
        struct Bomb;

        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropped late");
            }
        }

        let client = client_of(1);
        let bomb = Bomb;
        let x = client.task().deadline(SOON).spawn(async move {
            pending::<()>().await;
            drop(bomb);
        });
        assert!(x.result().unwrap_err().is_timeout());
        block_on(sleep(Duration::from_millis(1)));
        let x = client.task().deadline(SOON).spawn(pending::<()>());
        assert!(x.result().unwrap_err().is_timeout());
    });
}

#[test]
fn a_key_that_is_joined_keeps_its_deadline() {
    bounded(|| {
        let client = seeded();
        let x = client.task().key("x").deadline(HOUR).submit(sleep, HOUR * 2);
        let y = client.task().key("x").deadline(HOUR * 4).submit(sleep, HOUR * 2);
        assert!(x.result().unwrap_err().is_timeout());
        assert!(y.result().unwrap_err().is_timeout());
        let z = client.task().key("x").submit(sleep, HOUR * 2);
        assert!(z.result().is_ok(), "one that failed is replaced");
    });
}

#[test]
fn a_deadline_is_explained_with_the_time_left() {
    bounded(|| {
        let client = seeded();
        let x = client.task().deadline(HOUR).submit(sleep, HOUR * 2);
        let explanation = client.explain(&x);
        assert_eq!(explanation.reasons.last(), Some(&Reason::Deadline { left: HOUR }));
        assert!(explanation.to_string().ends_with("its deadline is in 3600.0s"), "{explanation}");
        let of = (client.clone(), x.clone());
        let at_half = client.spawn(async move {
            sleep(HOUR / 2).await;
            of.0.explain(&of.1)
        });
        let explanation = at_half.result().unwrap();
        assert_eq!(explanation.reasons.last(), Some(&Reason::Deadline { left: HOUR / 2 }));
        assert!(x.result().unwrap_err().is_timeout());
        assert!(!client.explain(&x).reasons.iter().any(|it| matches!(it, Reason::Deadline { .. })));
    });
}
