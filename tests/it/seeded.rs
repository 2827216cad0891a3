//! Seeded clients (promise 22).

use std::time::{Duration, Instant};

use ensue::{Client, ErrorKind, Retry, as_completed, gather, wait_any};
use futures::StreamExt;
use futures::executor::block_on;
use smol::future::yield_now;
use support::hold::Gate;
use support::observe::{Count, Log};
use support::{bounded, drive, poll_once};

async fn inc(x: u64) -> u64 {
    x + 1
}

const DAY: Duration = Duration::from_secs(86_400);

fn seeded(seed: u64) -> Client {
    Client::builder().seed(seed).limit("two", 2).build()
}

/// The order in which a program with tasks of all kinds runs.
fn schedule(seed: u64) -> Vec<u64> {
    let client = seeded(seed);
    let log = Log::new();
    let step = {
        let log = log.clone();
        async move |n: u64| {
            log.add(n);
            yield_now().await;
            log.add(n + 1000);
            ensue::sleep(Duration::from_secs(n % 7)).await;
            log.add(n + 2000);
            n
        }
    };
    let xs = client.map(step.clone(), 0..20);
    let entry = log.clone();
    let retry = Retry::new(3).backoff(Duration::from_secs(1), Duration::from_secs(9)).jitter();
    let ys = client.task().retries(retry).acquire("two").try_map(
        async move |x: u64| {
            entry.add(x + 3000);
            yield_now().await;
            if entry.len() % 3 == 0 { Err("no") } else { Ok(x) }
        },
        &xs,
    );
    let late = client.task().timeout(Duration::from_secs(4)).map(step.clone(), 100..110);
    let entry = log.clone();
    let parent = client.spawn(async move {
        let client = Client::current().unwrap();
        let mut stream = as_completed(client.map(step, 200..210));
        while let Some(x) = stream.next().await {
            entry.add(x.await.unwrap() + 5000);
        }
    });
    block_on(async {
        let mut stream = as_completed(xs.iter().chain(&ys).chain(&late)).with_results();
        while let Some((_, result)) = stream.next().await {
            log.add(result.map_or(9999, |n| n + 7000));
        }
    });
    parent.result().unwrap();
    log.all()
}

#[test]
fn the_same_seed_gives_the_same_schedule() {
    bounded(|| {
        for seed in 0..20 {
            let first = schedule(seed);
            assert!(first.len() > 200);
            assert_eq!(first, schedule(seed), "seed {seed}");
        }
    });
}

#[test]
fn other_seeds_give_other_schedules() {
    bounded(|| {
        let schedules: std::collections::HashSet<_> = (0..20).map(schedule).collect();
        assert_eq!(schedules.len(), 20);
    });
}

#[test]
fn it_picks_at_random_among_equals_only() {
    bounded(|| {
        let order = |seed| {
            let client = seeded(seed);
            let log = Log::new();
            let entry = log.clone();
            let note = async move |n: i32| entry.add(n);
            let mut all = client.task().priority(-1).map(note.clone(), 20..30);
            all.extend(client.map(note.clone(), 10..20));
            all.extend(client.task().priority(1).map(note, 0..10));
            block_on(gather(all)).unwrap();
            log.all()
        };
        let mut any_shuffled = false;
        for seed in 0..10 {
            let order = order(seed);
            for (n, level) in order.chunks(10).enumerate() {
                assert!(level.iter().all(|x| *x as usize / 10 == n), "{order:?}");
                any_shuffled |= !level.is_sorted();
            }
        }
        assert!(any_shuffled);
    });
}

#[test]
fn every_ready_task_may_be_first() {
    bounded(|| {
        let mut first = std::collections::HashSet::new();
        for seed in 0..200 {
            let client = seeded(seed);
            let log = Log::new();
            let entry = log.clone();
            block_on(gather(client.map(async move |n: i32| entry.add(n), 0..5))).unwrap();
            first.insert(log.all()[0]);
        }
        assert_eq!(first.len(), 5);
    });
}

#[test]
fn it_has_no_threads_and_does_nothing_by_itself() {
    bounded(|| {
        let client = Client::builder().seed(1).name("seeded-none").build();
        assert_eq!(client.workers(), 0);
        let ran = Count::new();
        let run = ran.clone();
        let x = client.submit(async move || run.add(), ());
        let y = client.submit(inc, 1);
        #[cfg(target_os = "linux")]
        assert_eq!(support::threads_named("seeded-none").0, 0);
        assert_eq!(ran.get(), 0);
        x.result().unwrap();
        assert_eq!(ran.get(), 1);
        y.result().unwrap();
    });
}

#[test]
fn virtual_time_takes_no_real_time() {
    bounded(|| {
        let start = Instant::now();
        let client = seeded(1);
        client.submit(async || ensue::sleep(DAY * 365).await, ()).result().unwrap();
        let late = client.task().timeout(DAY).spawn(std::future::pending::<()>());
        assert!(late.result().unwrap_err().is_timeout());
        let attempts = Count::new();
        let count = attempts.clone();
        let retry = Retry::new(50).backoff(DAY, DAY * 1000);
        let failing = client.task().retries(retry).try_submit(
            async move || {
                count.add();
                Err::<(), _>("no")
            },
            (),
        );
        assert!(failing.result().is_err());
        assert_eq!(attempts.get(), 51);
        let waited = client.spawn(async {
            let never = Client::current().unwrap().spawn(std::future::pending::<()>());
            wait_any([&never]).timeout(DAY).await.pending.len()
        });
        assert_eq!(waited.result().unwrap(), 1);
        assert!(start.elapsed() < Duration::from_secs(120));
    });
}

#[test]
fn the_clock_advances_only_when_no_task_is_ready() {
    bounded(|| {
        for seed in 0..20 {
            let client = seeded(seed);
            let log = Log::new();
            let entry = log.clone();
            let sleeper = client.spawn(async move {
                ensue::sleep(Duration::from_nanos(1)).await;
                entry.add("slept");
            });
            let entry = log.clone();
            let busy = client.spawn(async move {
                for _ in 0..1000 {
                    yield_now().await;
                }
                entry.add("worked");
            });
            block_on(gather([sleeper, busy])).unwrap();
            assert_eq!(log.all(), ["worked", "slept"]);
        }
    });
}

#[test]
fn sleeps_count_from_their_call() {
    bounded(|| {
        let client = seeded(1);
        let log = Log::new();
        let entry = log.clone();
        let x = client.spawn(async move {
            let nap = ensue::sleep(Duration::from_secs(10));
            ensue::sleep(Duration::from_secs(8)).await;
            nap.await;
            entry.add("ten");
        });
        let entry = log.clone();
        let y = client.spawn(async move {
            ensue::sleep(Duration::from_secs(11)).await;
            entry.add("eleven");
        });
        block_on(gather([y, x])).unwrap();
        assert_eq!(log.all(), ["ten", "eleven"]);
    });
}

#[test]
fn a_dropped_sleep_does_not_advance_the_clock() {
    bounded(|| {
        let client = seeded(1);
        let x = client.spawn(async {
            assert!(futures::poll!(Box::pin(ensue::sleep(DAY))).is_pending());
            let short = Box::pin(ensue::sleep(Duration::from_secs(2)));
            let long = Box::pin(ensue::sleep(Duration::from_secs(5)));
            matches!(futures::future::select(short, long).await, futures::future::Either::Left(_))
        });
        assert!(x.result().unwrap());
    });
}

#[test]
fn results_and_awaits_and_streams_drive_it() {
    bounded(|| {
        let client = seeded(4);
        let x = client.submit(inc, 1);
        let y = client.submit(inc, &x);
        assert_eq!(y.result().unwrap(), 3);
        assert_eq!(block_on(client.submit(inc, 1)).unwrap(), 2);
        assert_eq!(*block_on(client.submit(inc, 1).get_ref()).unwrap(), 2);
        assert_eq!(block_on(gather(client.map(inc, 0..10))).unwrap().len(), 10);
        assert_eq!(block_on(as_completed(client.map(inc, 0..10)).count()), 10);
        assert_eq!(block_on(ensue::wait_all(client.map(inc, 0..10))).done.len(), 10);
        let stream = client.map_stream(futures::stream::iter(0..10), 3, inc);
        assert_eq!(block_on(stream.count()), 10);
        let z = client.submit(inc, 1);
        block_on(client.idle());
        assert!(z.is_finished());
        let z = client.submit(inc, 1);
        assert_eq!(drive(&client, &mut { z }).unwrap(), 2);
        smol::block_on(async { client.submit(inc, 1).await.unwrap() });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(client.submit(inc, 1)).unwrap(), 2);
    });
}

#[test]
fn two_threads_may_wait_at_once() {
    bounded(|| {
        for seed in 0..100 {
            let client = seeded(seed);
            let gate = Gate::new();
            let pass = gate.clone();
            let x = client.spawn(async move {
                yield_now().await;
                pass.pass().await;
                1
            });
            let y = client.submit(inc, &x);
            let waiters: Vec<_> = [x.clone(), y.clone()]
                .map(|x| std::thread::spawn(move || x.result().unwrap()))
                .into();
            gate.open();
            let results: Vec<_> =
                waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect();
            assert_eq!(results, [1, 2]);
        }
    });
}

#[test]
fn a_wake_from_another_thread_is_noticed() {
    bounded(|| {
        let client = seeded(1);
        let (send, receive) = futures::channel::oneshot::channel();
        let polled = Gate::new();
        let signal = polled.clone();
        let x = client.spawn(async move {
            signal.open();
            receive.await.unwrap()
        });
        let waiter = std::thread::spawn(move || x.result().unwrap());
        let sender = std::thread::spawn(move || {
            polled.pass_blocking();
            send.send(5).unwrap();
        });
        assert_eq!(waiter.join().unwrap(), 5);
        sender.join().unwrap();
        drop(client);
    });
}

#[test]
fn blocking_work_runs_on_the_driving_thread() {
    bounded(|| {
        let client = seeded(1);
        let this_thread = std::thread::current().id();
        let x = client.submit_blocking(|| std::thread::current().id(), ());
        assert_eq!(x.result().unwrap(), this_thread);
        let error = client.try_submit_blocking(|| Err::<(), _>("no"), ()).result().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        let error = client.submit_blocking(|| -> u64 { panic!("oh") }, ()).result().unwrap_err();
        assert!(error.is_panic());
    });
}

#[test]
fn a_blocking_closure_may_wait_for_a_task() {
    bounded(|| {
        // As on a client with threads: a program has the same outcome with a seed.
        let client = seeded(1);
        let x = client.submit_blocking(
            || {
                let x = Client::current().unwrap().submit(inc, 1);
                x.result()
            },
            (),
        );
        assert_eq!(x.result().unwrap().unwrap(), 2);
    });
}

#[test]
fn tasks_of_two_seeded_clients_depend_on_each_other() {
    bounded(|| {
        for seed in 0..20 {
            let (one, two) = (seeded(seed), seeded(seed + 1));
            let x = one.submit(inc, 1);
            one.submit(inc, 5).result().unwrap();
            // Each client runs only while a result of it is awaited.
            x.result().unwrap();
            let y = two.submit(inc, &x);
            assert_eq!(y.result().unwrap(), 3);
        }
    });
}

#[test]
fn a_seeded_client_can_be_closed_and_its_tasks_cancelled() {
    bounded(|| {
        let client = seeded(1);
        let x = client.submit(inc, 1);
        assert!(x.cancel());
        assert!(x.result().unwrap_err().is_cancelled());
        let never = client.spawn(std::future::pending::<u64>());
        let queued = client.submit(inc, &never);
        block_on(client.close());
        assert_eq!(queued.result().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(client.submit(inc, 1).result().unwrap_err().kind(), ErrorKind::Closed);
        let client = seeded(2);
        let never = client.spawn(std::future::pending::<u64>());
        drop(client);
        assert_eq!(never.result().unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn random_graphs_give_the_same_sums_for_all_seeds() {
    bounded(|| {
        let sum = |client: &Client| {
            let mut xs = client.map(inc, 0..30u64);
            for round in 0..4 {
                xs = xs
                    .iter()
                    .zip(xs.iter().skip(1))
                    .map(|(a, b)| {
                        let add = async move |a: u64, b: u64| {
                            if (a + b) % 3 == round {
                                ensue::sleep(Duration::from_secs(a)).await;
                            }
                            a + b
                        };
                        client.submit(add, (a, b))
                    })
                    .collect();
            }
            block_on(gather(xs)).unwrap().into_iter().sum::<u64>()
        };
        let expected = sum(&seeded(0));
        for seed in 1..50 {
            assert_eq!(sum(&seeded(seed)), expected);
        }
    });
}

#[test]
fn closing_beside_a_worker_stays_pending_while_a_task_hangs() {
    bounded(|| {
        let client = Client::builder().seed(1).build();
        let mut worker = client.worker();
        let x = client.spawn(std::future::pending::<()>());
        assert!(poll_once(&mut worker).is_pending());
        let mut close = Box::pin(client.close());
        assert!(poll_once(&mut close).is_pending());
        let mut idle = Box::pin(client.idle());
        assert!(poll_once(&mut idle).is_pending());
        drop(x);
        assert!(poll_once(&mut close).is_ready());
        assert!(poll_once(&mut idle).is_ready());
    });
}

#[test]
fn awaiting_idle_runs_tasks_that_are_woken_from_outside() {
    bounded(|| {
        let client = Client::builder().seed(1).build();
        let (sender, receiver) = futures::channel::oneshot::channel();
        let x = client.spawn(async move { receiver.await.unwrap() + 1 });
        let mut idle = Box::pin(client.idle());
        assert!(poll_once(&mut idle).is_pending());
        let thread = std::thread::spawn(move || sender.send(1).unwrap());
        block_on(idle);
        assert!(x.is_finished());
        thread.join().unwrap();
    });
}

/// A trial that reports each of its steps, and sleeps between them. What it reports is how many it has made.
async fn trial(n: u64, steps: u64, reports: futures::channel::mpsc::UnboundedSender<(u64, u64)>) {
    for step in 1..=steps {
        reports.unbounded_send((n, step)).unwrap();
        ensue::sleep(Duration::from_secs(60)).await;
    }
}

/// A controller outside of the tasks cancels all trials but one once each has made three steps. Returns how many steps all
/// have made, and how many trials have ended by themselves.
fn controlled(seed: u64, drive: impl AsyncFnOnce(&Client, &[ensue::Handle<()>])) -> (u64, usize) {
    let client = seeded(seed);
    let (send, mut reports) = futures::channel::mpsc::unbounded();
    let trials = client.map(trial, (0..200).map(|n| (n, 10, send.clone())));
    drop(send);
    let made = std::cell::Cell::new(0);
    let control = async {
        while let Some((n, step)) = reports.next().await {
            made.set(made.get() + 1);
            if n > 0 && step == 3 {
                assert!(trials[n as usize].cancel());
            }
        }
    };
    block_on(async { futures::join!(control, drive(&client, &trials)) });
    (made.get(), trials.iter().filter(|trial| trial.error().is_none()).count())
}

#[test]
fn a_controller_outside_acts_between_the_steps_of_tasks() {
    bounded(|| {
        // 199 trials of three steps, and one of ten.
        let expected = (199 * 3 + 10, 1);
        let by_gather = async |_: &Client, trials: &[ensue::Handle<()>]| {
            ensue::gather_settled(trials).await;
        };
        assert_eq!(controlled(1, by_gather), expected);
        let by_stream = async |_: &Client, trials: &[ensue::Handle<()>]| {
            assert_eq!(as_completed(trials).count().await, 200);
        };
        assert_eq!(controlled(2, by_stream), expected);
        let by_handles = async |_: &Client, trials: &[ensue::Handle<()>]| {
            futures::future::join_all(trials.iter().cloned()).await;
        };
        assert_eq!(controlled(3, by_handles), expected);
        let by_idle = async |client: &Client, _: &[ensue::Handle<()>]| client.idle().await;
        assert_eq!(controlled(4, by_idle), expected);
        let by_wait = async |_: &Client, trials: &[ensue::Handle<()>]| {
            ensue::wait_all(trials).await;
        };
        assert_eq!(controlled(5, by_wait), expected);
        let by_worker = async |client: &Client, _: &[ensue::Handle<()>]| {
            futures::future::select(client.worker(), Box::pin(client.idle())).await;
        };
        assert_eq!(controlled(6, by_worker), expected);
    });
}

#[test]
fn the_clock_waits_for_code_outside_though_several_futures_drive_it() {
    bounded(|| {
        let client = seeded(1);
        let (send, mut asked) = futures::channel::mpsc::unbounded();
        let question = async move || {
            let (answer, answered) = futures::channel::oneshot::channel();
            send.unbounded_send(answer).unwrap();
            answered.await.unwrap()
        };
        // The answer comes from outside. If time passed before that, the task would be late.
        let timed = client.task().timeout(Duration::from_secs(1));
        let first = timed.submit(question, ());
        let others: Vec<_> =
            (2..9).map(|n| client.submit(async move || ensue::sleep(n * DAY).await, ())).collect();
        let answer = async {
            let answer = asked.next().await.unwrap();
            answer.send(7).unwrap();
        };
        let all = futures::future::join_all(others);
        let (first, _, ()) = block_on(async { futures::join!(first, all, answer) });
        assert_eq!(first.unwrap(), 7);
    });
}

#[test]
fn an_await_that_is_polled_once_runs_all_that_can_run() {
    bounded(|| {
        let client = seeded(1);
        let days = client.submit(async || ensue::sleep(3 * DAY).await, ());
        let (mut all, mut idle) = (gather([&days]), Box::pin(client.idle()));
        assert!(poll_once(&mut all).is_ready());
        assert!(poll_once(&mut idle).is_ready());
    });
}

#[test]
fn what_waits_for_a_foreign_timer_is_late_on_a_virtual_clock() {
    bounded(|| {
        let client = seeded(1);
        let foreign = client.task().timeout(Duration::from_secs(10)).spawn(async {
            smol::Timer::after(Duration::from_millis(50)).await;
        });
        assert_eq!(foreign.result().unwrap_err().kind(), ErrorKind::TimedOut);
    });
}
