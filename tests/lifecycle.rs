//! Closing a client and dropping it (promise 20).

use std::cell::RefCell;
use std::sync::{Arc, Barrier, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ensue::{Client, ErrorKind, Handle, Retry, Status, as_completed, gather_settled, wait_all};
use futures::StreamExt;
use futures::executor::block_on;
use smol::future::yield_now;
use support::hold::{Gate, hold_worker, turns};
use support::observe::{Count, Counts, Log, OnDrop};
use support::{
    assert_linear, bounded, client_of, drive, eventually, poll_once, run_until_idle, until_asleep,
};

async fn inc(x: u64) -> u64 {
    x + 1
}

/// The log lines of the crate in this process. Nothing in these tests writes one.
fn logged() -> &'static Log<String> {
    struct Logger(Log<String>);
    impl log::Log for Logger {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            if record.target().starts_with("ensue") {
                self.0.add(format!("{}", record.args()));
            }
        }
        fn flush(&self) {}
    }
    static LOGGER: OnceLock<Logger> = OnceLock::new();
    let logger = LOGGER.get_or_init(|| Logger(Log::new()));
    let _ = log::set_logger(logger);
    log::set_max_level(log::LevelFilter::Trace);
    &logger.0
}

#[track_caller]
fn assert_closed<T: Clone + Send + Sync + std::fmt::Debug + 'static>(handle: &Handle<T>) {
    let error = handle.result().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(!error.is_cancelled());
    assert_eq!(handle.status(), Status::Cancelled);
}

/// Asserts that it was the task itself that was refused, and not one of its inputs.
#[track_caller]
fn assert_closed_itself(handle: &Handle<u64>) {
    assert_closed(handle);
    assert_eq!(*handle.error().unwrap().origin(), handle.key());
}

/// Tasks in all states, none of which keeps the only worker busy.
struct States {
    gate: Gate,
    futures: Counts,
    running: Handle<u64>,
    pending: Handle<u64>,
    waiting: Handle<u64>,
    delayed: Handle<u64>,
    wants_limit: Handle<u64>,
    finished: Handle<u64>,
    failed: Handle<u64>,
}

fn in_all_states(client: &Client) -> States {
    let (gate, futures) = (Gate::new(), Counts::new());
    let pass = gate.clone();
    let running = client.task().acquire("one").spawn(futures.future(async move {
        pass.pass().await;
        yield_now().await;
        1
    }));
    let pending = client.spawn(futures.future(std::future::pending::<u64>()));
    let waiting = client.submit(inc, &pending);
    let hour = Duration::from_secs(3600);
    let options = client.task().retries(Retry::new(1).backoff(hour, hour));
    let delayed = options.try_submit(async || Err::<u64, _>("no"), ());
    let wants_limit = client.task().acquire("one").submit(inc, 1);
    let finished = client.submit(inc, 1);
    finished.result().unwrap();
    let failed = client.try_submit(async || Err::<u64, _>("no"), ());
    assert!(failed.result().is_err());
    eventually("the retry is delayed", || delayed.status() == Status::Delayed);
    assert_eq!(waiting.status(), Status::Waiting);
    assert_eq!(wants_limit.status(), Status::Ready);
    eventually("they run", || futures.polls.get() == 2);
    States { gate, futures, running, pending, waiting, delayed, wants_limit, finished, failed }
}

fn limited() -> Client {
    Client::builder().workers(1).limit("one", 1).build()
}

#[test]
fn close_lets_started_work_end_and_cancels_the_rest() {
    bounded(|| {
        let client = limited();
        let tasks = in_all_states(&client);
        let held = hold_worker(&client);
        let queued = client.submit(inc, 1);
        let urgent = client.task().priority(3).submit(inc, 1);
        let mut close = Box::pin(client.close());
        assert!(poll_once(&mut close).is_pending());
        assert_closed(&queued);
        assert_closed(&urgent);
        assert_closed(&tasks.delayed);
        assert_closed(&tasks.wants_limit);
        assert!(!tasks.running.is_finished() && !tasks.pending.is_finished());
        held.let_go();
        tasks.gate.open();
        assert_eq!(tasks.running.result().unwrap(), 1);
        assert!(poll_once(&mut close).is_pending(), "one never ends");
        assert!(tasks.pending.cancel());
        assert!(tasks.waiting.result().unwrap_err().is_cancelled());
        block_on(close);
        assert_eq!(client.workers(), 0);
        assert_eq!(tasks.finished.result().unwrap(), 2);
        assert_eq!(tasks.failed.error().unwrap().kind(), ErrorKind::Failed);
        assert_eq!(tasks.futures.drops.get(), 2);
    });
}

#[test]
fn dependents_of_started_work_do_not_start() {
    bounded(|| {
        let client = client_of(1);
        let (gate, ran) = (Gate::new(), Count::new());
        let (pass, run) = (gate.clone(), ran.clone());
        let x = client.spawn(async move {
            pass.pass().await;
            1u64
        });
        let y = client.submit(async move |_: u64| run.add(), &x);
        turns(&client);
        let mut close = Box::pin(client.close());
        assert!(poll_once(&mut close).is_pending());
        gate.open();
        block_on(close);
        assert_eq!(x.result().unwrap(), 1);
        assert_closed(&y);
        assert_eq!(ran.get(), 0);
    });
}

#[test]
fn dropping_the_last_client_ends_everything() {
    bounded(|| {
        let client = limited();
        let tasks = in_all_states(&client);
        let second = client.clone();
        drop(client);
        assert_eq!(second.submit(inc, 1).result().unwrap(), 2, "one is left");
        drop(second);
        assert_closed_itself(&tasks.running);
        assert_closed_itself(&tasks.pending);
        assert_closed(&tasks.waiting);
        assert_closed_itself(&tasks.delayed);
        assert_closed_itself(&tasks.wants_limit);
        assert_eq!(tasks.finished.result().unwrap(), 2);
        assert_eq!(tasks.failed.error().unwrap().kind(), ErrorKind::Failed);
        assert_eq!(tasks.futures.drops.get(), 2);
    });
}

#[test]
fn dropping_the_last_client_does_not_block() {
    bounded(|| {
        let client = client_of(1);
        let (in_poll, gate, after) = (Gate::new(), Gate::new(), Count::new());
        let (enter, pass, count) = (in_poll.clone(), gate.clone(), after.clone());
        let drops = Count::new();
        let captured = drops.on_drop();
        let x = client.spawn(async move {
            let _captured = captured;
            enter.open();
            pass.pass_blocking();
            yield_now().await;
            count.add();
        });
        in_poll.pass_blocking();
        let queued = client.submit(inc, 1);
        drop(client);
        assert_closed(&queued);
        assert_eq!(drops.get(), 0);
        gate.open();
        assert_closed(&x);
        assert_eq!((drops.get(), after.get()), (1, 0));
    });
}

#[test]
fn a_blocking_closure_sees_that_the_client_was_dropped() {
    bounded(|| {
        let client = client_of(1);
        let (started, saw) = (Gate::new(), Gate::new());
        let (start, see) = (started.clone(), saw.clone());
        let x = client.submit_blocking(
            move || {
                start.open();
                while !ensue::is_cancelled() {
                    thread::yield_now();
                }
                see.open();
            },
            (),
        );
        started.pass_blocking();
        drop(client);
        assert_closed(&x);
        saw.pass_blocking();
    });
}

#[test]
fn close_waits_for_blocking_closures() {
    bounded(|| {
        let client = client_of(1);
        let (started, gate) = (Gate::new(), Gate::new());
        let (start, pass) = (started.clone(), gate.clone());
        let x = client.submit_blocking(
            move || {
                start.open();
                pass.pass_blocking();
                assert!(!ensue::is_cancelled());
                7
            },
            (),
        );
        started.pass_blocking();
        let mut close = Box::pin(client.close());
        assert!(poll_once(&mut close).is_pending());
        gate.open();
        block_on(close);
        assert_eq!(x.result().unwrap(), 7);
    });
}

#[test]
fn all_waiters_are_notified() {
    bounded(|| {
        for abort in [false, true] {
            let client = client_of(1);
            let held = hold_worker(&client);
            let xs = client.map(inc, 0..10u64);
            let last = client.submit(inc, &xs[0]);
            let called = Count::new();
            let call = called.clone();
            last.on_done(move |_| {
                call.add();
            });
            let stream = as_completed(&xs);
            let (a, b, c) = (xs.clone(), xs.clone(), xs[3].clone());
            let waiters = [
                thread::spawn(move || block_on(stream.count())),
                thread::spawn(move || {
                    block_on(gather_settled(a)).iter().filter(|x| x.is_err()).count()
                }),
                thread::spawn(move || block_on(wait_all(b)).done.len()),
                thread::spawn(move || 9 + usize::from(c.result().is_err())),
            ];
            let closing = if abort {
                drop(client);
                None
            } else {
                Some(thread::spawn(move || block_on(client.close())))
            };
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), 10);
            }
            drop(held);
            assert_closed(&last);
            eventually("the callback is called", || called.get() == 1);
            if let Some(closing) = closing {
                closing.join().unwrap();
            }
        }
    });
}

#[test]
fn close_may_be_called_again_and_at_the_same_time() {
    bounded(|| {
        let client = client_of(2);
        let gate = Gate::new();
        let pass = gate.clone();
        let counts = Counts::new();
        let x = client.spawn(counts.future(async move { pass.pass().await }));
        eventually("it runs", || counts.polls.get() == 1);
        let closers: Vec<_> = (0..5)
            .map(|_| {
                let client = client.clone();
                thread::spawn(move || block_on(client.close()))
            })
            .collect();
        gate.open();
        for closer in closers {
            closer.join().unwrap();
        }
        x.result().unwrap();
        block_on(client.close());
        block_on(client.clone().close());
        block_on(client.idle());
    });
}

#[test]
fn close_begins_with_its_first_poll() {
    bounded(|| {
        let client = client_of(1);
        drop(client.close());
        let close = client.close();
        assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
        block_on(close);
        assert_closed(&client.submit(inc, 1));
    });
}

#[test]
fn a_dropped_close_has_begun() {
    bounded(|| {
        let client = client_of(1);
        let held = hold_worker(&client);
        let queued = client.submit(inc, 1);
        let mut close = Box::pin(client.close());
        assert!(poll_once(&mut close).is_pending());
        drop(close);
        assert_closed(&queued);
        held.let_go();
        eventually("its workers leave", || client.workers() == 0);
    });
}

#[test]
fn submitting_after_close_gives_closed_handles() {
    bounded(|| {
        for client in [client_of(1), client_of(0), Client::builder().seed(1).build()] {
            let before = client.submit(inc, 1);
            let value = client.ready(3u64);
            if client.workers() > 0 {
                before.result().unwrap();
            }
            block_on(client.close());
            assert_closed(&client.submit(inc, 1));
            assert_closed(&client.task().key("k").priority(4).submit(inc, 1));
            assert_closed(&client.try_submit(async || Ok::<_, String>(1), ()));
            assert_closed(&client.submit_blocking(|| 1, ()));
            assert_closed(&client.submit_pure(inc, 1));
            assert_closed(&client.spawn(async { 1 }));
            assert_closed(&client.task().retries(3).submit(inc, 1));
            for x in client.map(inc, 0..3) {
                assert_closed(&x);
            }
            assert_closed(&client.submit(inc, &value));
            assert_eq!(value.result().unwrap(), 3);
            let stream = client.map_stream(futures::stream::iter(0..3), 2, inc);
            let kinds: Vec<_> = block_on(stream.map(|x| x.unwrap_err().kind()).collect());
            assert_eq!(kinds, [ErrorKind::Closed; 3]);
            client.scale(3).unwrap();
            assert_eq!(client.workers(), 0);
        }
    });
}

#[test]
fn close_does_not_wait_for_the_next_attempt_of_a_parked_task() {
    bounded(|| {
        let client = client_of(1);
        let hour = Duration::from_secs(3600);
        let options = client.task().retries(Retry::new(1).backoff(hour, hour));
        let attempts = Count::new();
        let count = attempts.clone();
        let fails = async move || {
            count.add();
            Err::<u64, _>("no")
        };
        let x = options.try_submit(fails, ());
        let y = client.submit(inc, &x);
        eventually("it's parked", || x.status() == Status::Delayed);
        block_on(client.close());
        assert_closed(&x);
        assert_closed(&y);
        assert_eq!(attempts.get(), 1);
    });
}

#[test]
fn close_does_not_wait_for_tasks_that_are_parked_meanwhile() {
    bounded(|| {
        for round in 0..500 {
            let client = client_of(1);
            let hour = Duration::from_secs(3600);
            let options = client.task().retries(Retry::new(1).backoff(hour, hour));
            let attempts = Count::new();
            let count = attempts.clone();
            let fails = async move || {
                count.add();
                Err::<u64, _>("no")
            };
            let x = options.try_submit(fails, ());
            // The worker parks it a moment later.
            while attempts.get() == 0 {
                thread::yield_now();
            }
            for _ in 0..round % 100 {
                std::hint::spin_loop();
            }
            block_on(client.close());
            assert!(x.result().is_err());
            assert_eq!(attempts.get(), 1);
        }
    });
}

#[test]
fn started_work_is_about_as_fast_while_closing() {
    /// The time in which this number of started tasks runs to its end.
    fn time(tasks: usize, closing: bool) -> Duration {
        let client = client_of(1);
        let (gate, started) = (Gate::new(), Count::new());
        let xs: Vec<_> = (0..tasks)
            .map(|_| {
                let (pass, start) = (gate.clone(), started.clone());
                client.spawn(async move {
                    start.add();
                    pass.pass().await;
                    for _ in 0..10 {
                        yield_now().await;
                    }
                })
            })
            .collect();
        eventually("all have started", || started.get() == tasks);
        turns(&client);
        let mut close = Box::pin(client.close());
        if closing {
            assert!(poll_once(&mut close).is_pending());
        }
        let start = Instant::now();
        gate.open();
        for x in &xs {
            x.result().unwrap();
        }
        let time = start.elapsed();
        block_on(close);
        time
    }
    bounded(|| {
        // If each push searched all queues, it would take some hundred times as long, every time.
        let (mut open, mut closing) = (Duration::MAX, Duration::MAX);
        eventually("closing is about as fast", || {
            open = open.min(time(4000, false));
            closing = closing.min(time(4000, true));
            closing < 20 * open
        });
    });
}

#[test]
fn refusing_tasks_while_closing_costs_no_search_of_the_started_ones() {
    bounded(|| assert_linear(20_000, refuse_tasks_while_closing));
}

fn refuse_tasks_while_closing(n: usize) {
    {
        let client = client_of(1);
        let gate = Gate::new();
        let running: Vec<_> = (0..n)
            .map(|_| {
                let waits = gate.pass();
                client.spawn(async move {
                    waits.await;
                    1
                })
            })
            .collect();
        let dependents: Vec<_> = running.iter().map(|x| client.submit(inc, x)).collect();
        turns(&client);
        let (go, held) = mpsc::channel::<()>();
        let (busy, is_busy) = mpsc::channel();
        let _holds = client.spawn(async move {
            busy.send(()).unwrap();
            held.recv().is_ok()
        });
        is_busy.recv().unwrap();
        // All of them are in a queue now.
        gate.open();
        let mut close = Box::pin(client.close());
        assert!(poll_once(&mut close).is_pending());
        let late = client.map(inc, 0..n as u64);
        let later: Vec<_> = (0..n as u64).map(|x| client.submit(inc, x)).collect();
        late.iter().chain(&later).for_each(assert_closed);
        go.send(()).unwrap();
        block_on(close);
        assert!(running.iter().all(|x| x.result().is_ok()));
        dependents.iter().for_each(assert_closed);
    }
}

#[test]
fn submitting_while_closing_never_hangs() {
    bounded(|| {
        for _ in 0..100 {
            let client = client_of(2);
            let start = Arc::new(Barrier::new(3));
            let submitters: Vec<_> = (0..2)
                .map(|n| {
                    let (client, start) = (client.clone(), start.clone());
                    thread::spawn(move || {
                        start.wait();
                        let mut x = client.submit(inc, 0);
                        let mut all = Vec::new();
                        for round in 0..100u64 {
                            all.push(client.submit(inc, round));
                            all.push(client.task().priority(n).submit(inc, round));
                            x = client.submit(inc, x);
                        }
                        all.push(x);
                        for x in all {
                            if let Err(error) = x.result() {
                                assert_eq!(error.kind(), ErrorKind::Closed);
                            }
                        }
                    })
                })
                .collect();
            start.wait();
            block_on(client.close());
            for submitter in submitters {
                submitter.join().unwrap();
            }
            drop(client);
        }
    });
}

#[test]
fn dropping_while_submitting_never_hangs() {
    bounded(|| {
        for _ in 0..200 {
            let client = client_of(2);
            let xs: Vec<_> = (0..100).map(|n| client.submit(inc, n)).collect();
            let mut chain = client.submit(inc, 0);
            for _ in 0..100 {
                chain = client.submit(inc, chain);
            }
            drop(client);
            for x in xs.iter().chain([&chain]) {
                if let Err(error) = x.result() {
                    assert_eq!(error.kind(), ErrorKind::Closed);
                }
            }
        }
    });
}

// From inside a task.

#[test]
fn a_task_may_await_close() {
    bounded(|| {
        for workers in [1, 2] {
            let client = client_of(workers);
            let gate = Gate::new();
            let pass = gate.clone();
            let counts = Counts::new();
            let other = client.spawn(counts.future(async move {
                pass.pass().await;
                1
            }));
            eventually("it has started", || counts.polls.get() == 1);
            let inner = client.clone();
            let closer = client.spawn(async move {
                inner.close().await;
                7
            });
            eventually("it closes", || client.submit(inc, 1).error().is_some());
            assert!(!closer.is_finished(), "another one runs");
            gate.open();
            assert_eq!(closer.result().unwrap(), 7);
            assert_eq!(other.result().unwrap(), 1);
            eventually("all workers are gone", || client.workers() == 0);
            block_on(client.close());
        }
    });
}

#[test]
fn blocking_work_may_wait_for_close() {
    bounded(|| {
        for workers in [1, 2] {
            for _ in 0..50 {
                let client = client_of(workers);
                let started = Gate::new();
                let start = started.clone();
                let nap = client.spawn(async move {
                    start.open();
                    ensue::sleep(Duration::from_millis(2)).await;
                });
                started.pass_blocking();
                let closes = || {
                    let client = client.clone();
                    client.clone().submit_blocking(move || block_on(client.close()), ())
                };
                // The second to close may have come too late to start.
                let (closed, late): (Vec<_>, Vec<_>) =
                    [closes(), closes()].into_iter().partition(|x| x.result().is_ok());
                assert!(!closed.is_empty());
                late.iter().for_each(assert_closed);
                assert!(nap.result().is_ok());
                block_on(client.close());
                assert_eq!(client.workers(), 0);
            }
        }
        let seeded = Client::builder().seed(1).build();
        let close = seeded.close();
        assert!(seeded.submit_blocking(|| smol::block_on(close), ()).result().is_ok());
    });
}

#[test]
fn two_tasks_may_await_close_at_once() {
    bounded(|| {
        for workers in [1, 2] {
            let client = client_of(workers);
            let closers: Vec<_> = (0..2)
                .map(|n| {
                    let inner = client.clone();
                    client.spawn(async move {
                        // Both have started when the first one closes.
                        yield_now().await;
                        yield_now().await;
                        inner.close().await;
                        n
                    })
                })
                .collect();
            for (n, closer) in closers.iter().enumerate() {
                match closer.result() {
                    Ok(value) => assert_eq!(value, n),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
                }
            }
            assert!(closers.iter().any(|closer| closer.result().is_ok()));
            block_on(client.close());
            assert_eq!(client.workers(), 0);
        }
    });
}

#[test]
fn a_task_that_awaits_close_twice_waits_for_the_other_tasks() {
    bounded(|| {
        for workers in [1, 2] {
            for idle in [false, true] {
                let name = if idle { "close-idle" } else { "close-twice" };
                let client = Client::builder().workers(workers).name(name).build();
                let gate = Gate::new();
                let pass = gate.clone();
                let counts = Counts::new();
                let other = client.spawn(counts.future(async move {
                    pass.pass().await;
                    1
                }));
                eventually("it has started", || counts.polls.get() == 1);
                let (inner, open) = (client.clone(), gate.clone());
                let closer = client.spawn(async move {
                    let first = async {
                        if idle {
                            inner.idle().await;
                        } else {
                            inner.close().await;
                        }
                        open.is_open()
                    };
                    let second = async {
                        inner.close().await;
                        open.is_open()
                    };
                    futures::join!(first, second)
                });
                eventually("it closes", || client.submit(inc, 1).error().is_some());
                until_asleep(name, 1);
                assert!(!other.is_finished() && !closer.is_finished());
                gate.open();
                assert_eq!(other.result().unwrap(), 1);
                assert_eq!(closer.result().unwrap(), (true, true), "both waited for it");
                block_on(client.close());
                assert_eq!(client.workers(), 0);
            }
        }
    });
}

#[test]
fn a_task_and_the_outside_may_close_at_once() {
    bounded(|| {
        for _ in 0..100 {
            let client = client_of(1);
            let inner = client.clone();
            let closer = client.spawn(async move { inner.close().await });
            block_on(client.close());
            let _ = closer.result();
            block_on(client.close());
            assert_eq!(client.workers(), 0);
        }
    });
}

#[test]
fn a_task_may_close_on_a_worker_future() {
    bounded(|| {
        let client = client_of(0);
        let inner = client.clone();
        let closer = client.spawn(async move {
            inner.close().await;
            7
        });
        assert_eq!(drive(&client, closer).unwrap(), 7);
    });
}

#[test]
fn a_task_may_close_a_seeded_client() {
    bounded(|| {
        let client = Client::builder().seed(1).build();
        let inner = client.clone();
        let closer = client.spawn(async move {
            inner.close().await;
            7
        });
        assert_eq!(closer.result().unwrap(), 7);
    });
}

#[test]
fn a_task_of_another_client_may_close_it() {
    bounded(|| {
        let (one, two) = (client_of(1), client_of(1));
        let x = one.submit(inc, 1);
        let inner = one.clone();
        two.spawn(async move { inner.close().await }).result().unwrap();
        let _ = x.result();
        assert_eq!(one.workers(), 0);
    });
}

#[test]
fn a_client_captured_by_a_task_keeps_itself_alive() {
    bounded(|| {
        let client = client_of(1);
        let gate = Gate::new();
        let (pass, inner) = (gate.clone(), client.clone());
        let x = client.spawn(async move {
            pass.pass().await;
            inner.submit(inc, 41).await.unwrap()
        });
        drop(client);
        gate.open();
        assert_eq!(x.result().unwrap(), 42);
    });
}

#[test]
fn the_last_client_may_be_dropped_inside_its_own_task() {
    bounded(|| {
        let client = client_of(1);
        let (gate, after) = (Gate::new(), Count::new());
        let (pass, inner, count) = (gate.clone(), client.clone(), after.clone());
        let queued = client.task().priority(-1).spawn(std::future::pending::<u64>());
        let x = client.spawn(async move {
            pass.pass().await;
            drop(inner);
            assert!(ensue::is_cancelled());
            yield_now().await;
            count.add();
        });
        eventually("it has started", || queued.status() == Status::Running);
        drop(client);
        gate.open();
        assert_closed(&x);
        assert_closed(&queued);
        assert_eq!(after.get(), 0);
    });
}

#[test]
fn the_last_client_may_be_dropped_with_its_tasks_future_or_value() {
    bounded(|| {
        for _ in 0..200 {
            let client = client_of(1);
            let inner = client.clone();
            // With the future, on the worker.
            let x = client.spawn(async move {
                let _inner = &inner;
                1
            });
            drop(client);
            let _ = x.result();
            // With the value.
            let client = client_of(1);
            let inner = client.clone();
            let x = client.submit(async move || Arc::new(inner), ());
            drop(client);
            match x.result() {
                Ok(inner) => {
                    drop(x);
                    drop(inner);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
            }
        }
    });
}

#[test]
fn the_last_client_may_be_dropped_in_a_callback() {
    bounded(|| {
        for _ in 0..100 {
            let client = client_of(1);
            let gate = Gate::new();
            let pass = gate.clone();
            let x = client.spawn(async move {
                pass.pass().await;
                1
            });
            let last = Mutex::new(Some(client.clone()));
            x.on_done(move |_| drop(last.lock().unwrap().take()));
            let other = client.spawn(std::future::pending::<u64>());
            drop(client);
            gate.open();
            assert_eq!(x.result().unwrap(), 1);
            assert_closed(&other);
        }
    });
}

#[test]
fn the_last_client_may_be_dropped_on_a_blocking_thread() {
    bounded(|| {
        let client = client_of(1);
        let inner = client.clone();
        let x = client.submit_blocking(move || drop(inner), ());
        drop(client);
        // It has ended before or because of the drop.
        if let Err(error) = x.result() {
            assert_eq!(error.kind(), ErrorKind::Closed);
        }
    });
}

#[test]
fn current_is_a_client_of_its_own() {
    bounded(|| {
        let client = client_of(1);
        let gate = Gate::new();
        let pass = gate.clone();
        let x = client.spawn(async move {
            let client = Client::current().unwrap();
            pass.pass().await;
            client.submit(inc, 1).await.unwrap()
        });
        turns(&client);
        drop(client);
        gate.open();
        assert_eq!(x.result().unwrap(), 2);
    });
}

/// The name of a thread can't have a NUL in it.
#[test]
fn a_name_with_a_nul_is_fine() {
    bounded(|| {
        let client = Client::builder().workers(2).name("a\0b\0").limit("c\0d", 1).build();
        assert_eq!(client.to_string(), "client `a\0b\0`: 2 workers, limits: c\0d 1");
        let thread = client.submit(async || thread::current().name().map(str::to_owned), ());
        assert!(thread.result().unwrap().unwrap().starts_with("ab-"));
        let x = client.task().name("e\0f").key("g\0h").acquire("c\0d").submit(inc, 1);
        assert_eq!(x.result().unwrap(), 2);
        client.scale(3).unwrap();
        assert_eq!(client.workers(), 3);
    });
}

// Nothing is left behind.

#[cfg(target_os = "linux")]
#[test]
fn no_thread_is_left() {
    bounded(|| {
        for _ in 0..20 {
            let client = Client::builder().workers(4).name("left-closed").build();
            let xs = client.map(inc, 0..100u64);
            eventually("they're named", || support::threads_named("left-closed-").0 == 4);
            block_on(client.close());
            drop(xs);
            eventually("the threads end", || support::threads_named("left-closed").0 == 0);
        }
        for _ in 0..20 {
            let client = Client::builder().workers(4).name("left-dropped").build();
            let xs = client.map(inc, 0..100u64);
            drop(client);
            eventually("the threads end", || support::threads_named("left-dropped").0 == 0);
            drop(xs);
        }
    });
}

#[test]
fn no_future_and_no_value_is_left_after_a_drop_at_any_time() {
    bounded(|| {
        for round in 0..300 {
            let made = Count::new();
            let drops = Count::new();
            let client = client_of(1 + round % 2);
            for n in 0..20 {
                made.add();
                let value = drops.on_drop();
                let x = client.spawn(async move {
                    for _ in 0..n % 4 {
                        yield_now().await;
                    }
                    if n % 5 == 0 {
                        std::future::pending::<()>().await;
                    }
                    Arc::new(value)
                });
                let y = client.submit(async |x: Arc<OnDrop>| x, &x);
                match n % 3 {
                    0 => x.detach(),
                    1 => y.detach(),
                    _ => drop(y),
                }
            }
            if round % 3 == 0 {
                thread::yield_now();
            }
            drop(client);
            eventually("all are dropped", || drops.get() == made.get());
        }
    });
}

#[test]
fn a_client_with_a_thousand_running_tasks_closes_without_a_log_line() {
    bounded(|| {
        let log = logged();
        for abort in [true, false] {
            let client = client_of(2);
            let xs: Vec<_> = (0..1000u64)
                .map(|n| {
                    client.spawn(async move {
                        yield_now().await;
                        n
                    })
                })
                .collect();
            let detached = client.map(inc, 0..1000u64);
            detached.into_iter().for_each(Handle::detach);
            xs[0].result().unwrap();
            if abort {
                drop(client);
            } else {
                block_on(client.close());
            }
            for x in &xs {
                let _ = x.result();
            }
        }
        assert_eq!(log.all(), Vec::<String>::new());
    });
}

#[test]
fn nothing_of_a_client_stays_with_a_thread_that_used_it() {
    bounded(|| {
        let captured = Arc::new(());
        let hook = captured.clone();
        let client =
            Client::builder().workers(0).on_unobserved(move |_| drop(hook.clone())).build();
        let other = client.clone();
        // A thread that ends, and this one.
        let x = thread::spawn(move || other.submit(inc, 1)).join().unwrap();
        let y = client.submit(inc, &x);
        run_until_idle(&client);
        assert_eq!(y.result().unwrap(), 3);
        drop((x, y, client));
        assert_eq!(Arc::strong_count(&captured), 1);
    });
}

#[test]
fn a_hook_that_panics_when_it_is_dropped_affects_nothing_else() {
    struct Bomb(Count);
    impl Drop for Bomb {
        fn drop(&mut self) {
            self.0.add();
            panic!("a hook's destructor");
        }
    }
    bounded(|| {
        let drops = Count::new();
        let bomb = Bomb(drops.clone());
        let client = Client::builder().workers(0).on_unobserved(move |_| _ = &bomb).build();
        let x = client.submit(inc, 1);
        drop(client);
        assert_closed(&x);
        drop(x);
        assert_eq!(drops.get(), 1);
    });
}

#[test]
fn close_waits_for_the_threads_to_exit() {
    struct Slow(Count);
    impl Drop for Slow {
        fn drop(&mut self) {
            thread::sleep(Duration::from_millis(30));
            self.0.add();
        }
    }
    thread_local! {
        static SLOW: RefCell<Option<Slow>> = const { RefCell::new(None) };
    }
    bounded(|| {
        let client = client_of(1);
        let ended = Count::new();
        let slow = Slow(ended.clone());
        let x = client.spawn(async move { SLOW.set(Some(slow)) });
        x.result().unwrap();
        client.scale(2).unwrap();
        block_on(client.close());
        assert_eq!(ended.get(), 1);
    });
}

/// A task that is in its first poll, or one after that, and ends it with `pending`.
fn in_a_poll(client: &Client, first: bool) -> (mpsc::Sender<()>, Handle<()>) {
    let (busy, is_busy) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let x = client.spawn(async move {
        if !first {
            yield_now().await;
        }
        busy.send(()).unwrap();
        let _ = wait.lock().unwrap().recv();
        std::future::pending().await
    });
    is_busy.recv().unwrap();
    (go, x)
}

#[test]
fn dropping_the_last_client_ends_tasks_that_are_in_a_poll() {
    bounded(|| {
        for first in [true, false] {
            let client = client_of(1);
            let (go, x) = in_a_poll(&client, first);
            drop(client);
            go.send(()).unwrap();
            assert_closed(&x);
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn all_threads_exit_when_the_last_poll_is_over() {
    bounded(|| {
        let client = Client::builder().workers(3).name("poll-over").build();
        let (go, x) = in_a_poll(&client, false);
        drop(client);
        // The other two find that a task is left, and sleep.
        until_asleep("poll-over", 3);
        go.send(()).unwrap();
        assert_closed(&x);
        eventually("the threads end", || support::threads_named("poll-over").0 == 0);
    });
}

#[test]
fn closing_ends_the_tasks_in_the_queue_of_a_busy_worker_at_once() {
    bounded(|| {
        let client = client_of(0);
        let (go, wait) = mpsc::channel();
        let (busy, is_busy) = mpsc::channel();
        let wait = Mutex::new(wait);
        let x = client.spawn(async move {
            busy.send(()).unwrap();
            wait.lock().unwrap().recv().unwrap();
        });
        let ys = client.map(inc, 0..10u64);
        // The worker takes them all into its queue, and stays in the first.
        let worker = client.worker();
        let driver = thread::spawn(move || block_on(worker));
        is_busy.recv().unwrap();
        let _ = poll_once(&mut Box::pin(client.close()));
        assert!(ys.iter().all(Handle::is_finished));
        ys.iter().for_each(assert_closed);
        go.send(()).unwrap();
        x.result().unwrap();
        driver.join().unwrap();
    });
}

#[test]
fn clients_come_and_go() {
    bounded(|| {
        for n in 0..300u64 {
            let client = client_of(2);
            let x = client.submit(inc, n);
            if n % 2 == 0 {
                assert_eq!(x.result().unwrap(), n + 1);
            }
            if n % 3 == 0 {
                block_on(client.close());
            }
        }
    });
}

#[test]
fn a_task_that_drops_the_last_client_and_returns_keeps_its_value() {
    bounded(|| {
        for raised in [false, true] {
            let client = Client::builder().seed(1).build();
            let last = Arc::new(Mutex::new(None::<Client>));
            let inside = last.clone();
            let x = client
                .task()
                .key("k")
                .submit(async move || drop(inside.lock().unwrap().take()), ());
            if raised {
                // It is queued a second time, and its first entry is stale.
                client.task().key("k").priority(1).submit(async || (), ()).detach();
            }
            let mut worker = client.worker();
            *last.lock().unwrap() = Some(client);
            let _ = poll_once(&mut worker);
            assert!(x.result().is_ok(), "raised: {raised}");
        }
    });
}

#[test]
fn a_task_submitted_after_closing_has_one_event() {
    bounded(|| {
        let client = Client::builder().seed(1).build();
        block_on(client.close());
        let events = client.events();
        let late = client.submit(async || 1, ());
        assert_eq!(late.result().unwrap_err().kind(), ErrorKind::Closed);
        drop((late, client));
        let statuses: Vec<_> = block_on(events.map(|event| event.status).collect());
        assert_eq!(statuses, [Status::Cancelled]);
    });
}
