//! Workers as futures on other runtimes, and several clients at once (promises 20 and 21).

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Wake;
use std::thread;
use std::time::Duration;

use ensue::{Client, Error, ErrorKind, Handle, Worker, as_completed, gather};
use futures::StreamExt;
use futures::executor::block_on;
use futures::task::{Context, Poll, Waker};
use smol::future::yield_now;
use support::hold::Gate;
use support::observe::{Count, Counts, Log, Wakes, poll_with};
use support::{bounded, client_of, drive, eventually, poll_once, run_what_is_ready};

async fn inc(x: u64) -> u64 {
    x + 1
}

async fn sum(xs: Vec<u64>) -> u64 {
    xs.into_iter().sum()
}

#[test]
fn on_a_tokio_runtime_with_threads() {
    bounded(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let client = client_of(0);
            let workers: Vec<_> = (0..2).map(|_| tokio::spawn(client.worker())).collect();
            let xs = client.map(inc, 0..1000);
            assert_eq!(client.submit(sum, &xs).await.unwrap(), 500_500);
            // Its timers work within tasks.
            let slept = client.submit(
                async || {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    1
                },
                (),
            );
            assert_eq!(slept.await.unwrap(), 1);
            client.close().await;
            for worker in workers {
                worker.await.unwrap();
            }
            assert_eq!(client.workers(), 0);
        });
    });
}

#[test]
fn on_a_tokio_runtime_with_one_thread() {
    bounded(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = client_of(0);
            let worker = tokio::spawn(client.worker());
            let xs = client.map(inc, 0..1000);
            assert_eq!(client.submit(sum, &xs).await.unwrap(), 500_500);
            let tokios =
                client.spawn(async { tokio::spawn(async { 7 }).await.expect("tokio's own task") });
            assert_eq!(tokios.await.unwrap(), 7);
            client.close().await;
            worker.await.unwrap();
        });
    });
}

#[test]
fn a_busy_worker_lets_its_runtime_run_others() {
    bounded(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = client_of(0);
            let _worker = tokio::spawn(client.worker());
            let stop = Gate::new();
            let end = stop.clone();
            let busy = client.spawn(async move {
                while !end.is_open() {
                    yield_now().await;
                }
            });
            // With a worker that never yields this would not be reached.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            stop.open();
            busy.await.unwrap();
        });
    });
}

#[test]
fn a_worker_gives_way_after_a_task_that_took_long() {
    bounded(|| {
        let client = client_of(0);
        let counts = Counts::new();
        let xs: Vec<_> = (0..20)
            .map(|_| {
                let long = async { thread::sleep(Duration::from_millis(1)) };
                client.spawn(counts.future(long))
            })
            .collect();
        // Its host has timers and sockets to look at.
        let mut worker = pin!(client.worker());
        for polled in 1..=20 {
            assert!(poll_once(&mut worker).is_pending());
            assert_eq!(counts.polls.get(), polled);
        }
        drop(xs);
    });
}

#[test]
fn each_task_has_the_budget_that_its_runtime_gives_to_one_poll() {
    bounded(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = client_of(0);
        let free = Arc::new(tokio::sync::Semaphore::new(1000));
        let polls = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let (free, polls) = (free.clone(), polls.clone());
                let mut body = Box::pin(async move {
                    for _ in 0..1000 {
                        let _permit = free.acquire().await.unwrap();
                    }
                });
                client.spawn(poll_fn(move |cx| {
                    polls.fetch_add(1, Ordering::Relaxed);
                    body.as_mut().poll(cx)
                }))
            })
            .collect();
        runtime.spawn(client.worker());
        runtime.block_on(gather(tasks)).unwrap();
        // 128 operations a poll, as in tasks of tokio's own.
        let polls = polls.load(Ordering::Relaxed) / 50;
        assert!(polls <= 10, "{polls} polls for each task");
    });
}

#[test]
fn on_smol() {
    bounded(|| {
        let executor = Arc::new(smol::Executor::new());
        let client = client_of(0);
        let workers: Vec<_> = (0..2).map(|_| executor.spawn(client.worker())).collect();
        smol::block_on(executor.run(async {
            let xs = client.map(inc, 0..1000);
            assert_eq!(client.submit(sum, &xs).await.unwrap(), 500_500);
            let timer = client.spawn(async {
                smol::Timer::after(Duration::from_millis(5)).await;
                1
            });
            assert_eq!(timer.await.unwrap(), 1);
            client.close().await;
            for worker in workers {
                worker.await;
            }
        }));
    });
}

#[test]
fn on_a_thread_pool_beside_the_clients_own_threads() {
    bounded(|| {
        let client = client_of(1);
        let drivers: Vec<_> = (0..3)
            .map(|_| {
                let worker = client.worker();
                thread::spawn(move || block_on(worker))
            })
            .collect();
        eventually("all are counted", || client.workers() == 4);
        for _ in 0..50 {
            let xs = client.map(inc, 0..1000);
            assert_eq!(client.submit(sum, xs).result().unwrap(), 500_500);
        }
        block_on(client.close());
        for driver in drivers {
            driver.join().unwrap();
        }
        assert_eq!(client.workers(), 0);
    });
}

#[test]
fn a_worker_that_is_not_polled_is_not_counted() {
    let client = client_of(0);
    let mut worker = client.worker();
    assert_eq!(client.workers(), 0);
    assert!(poll_once(&mut worker).is_pending());
    assert_eq!(client.workers(), 1);
    drop(worker);
    assert_eq!(client.workers(), 0);
}

#[test]
fn a_worker_of_a_closed_client_resolves_and_stays_resolved() {
    bounded(|| {
        let client = client_of(0);
        block_on(client.close());
        let mut worker = client.worker();
        assert!(poll_once(&mut worker).is_ready());
        assert!(poll_once(&mut worker).is_ready());
    });
}

#[test]
fn a_worker_does_not_keep_the_client() {
    bounded(|| {
        let client = client_of(0);
        let worker = client.worker();
        let x = client.submit(async || std::future::pending::<()>().await, ());
        let driver = thread::spawn(move || block_on(worker));
        eventually("it's polled", || client.workers() == 1);
        drop(client);
        driver.join().unwrap();
        assert_eq!(x.result().unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn a_worker_dropped_between_polls_loses_no_task() {
    bounded(|| {
        let client = client_of(0);
        let ran = Count::new();
        let run = ran.clone();
        let xs = client.map(
            async move |x: u64| {
                yield_now().await;
                run.add();
                x
            },
            0..1000u64,
        );
        while xs.iter().any(|x| !x.is_finished()) {
            let mut worker = client.worker();
            let _ = poll_once(&mut worker);
        }
        assert_eq!(ran.get(), 1000);
    });
}

#[test]
fn each_task_runs_once_on_any_of_several_workers() {
    bounded(|| {
        let client = client_of(0);
        let log = Log::new();
        let entry = log.clone();
        let xs = client.map(async move |x: u64| entry.add(x), 0..1000u64);
        while xs.iter().any(|x| !x.is_finished()) {
            let mut worker = client.worker();
            let _ = poll_once(&mut worker);
        }
        let mut sorted = log.all();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
    });
}

#[test]
fn a_wake_of_a_dropped_worker_is_passed_on_to_another() {
    let client = client_of(0);
    let wakes = [Wakes::new(), Wakes::new()];
    let mut workers = [Some(client.worker()), Some(client.worker())];
    for (worker, wakes) in workers.iter_mut().zip(&wakes) {
        assert!(poll_with(worker.as_mut().unwrap(), wakes).is_pending());
    }
    let x = client.submit(inc, 1);
    let woken = wakes.iter().position(|wakes| wakes.get() > 0).expect("one is woken");
    let other = 1 - woken;
    workers[woken] = None;
    assert!(wakes[other].get() > 0, "the other one isn't woken, and the task stays in the queue");
    let _ = poll_with(workers[other].as_mut().unwrap(), &wakes[other]);
    assert!(x.is_finished());
}

#[test]
fn a_worker_that_is_not_polled_keeps_no_task_from_the_clients_own() {
    bounded(|| {
        let client = client_of(1);
        // It sleeps and isn't polled any more, as on a runtime whose thread is blocked.
        let mut unpolled = Box::pin(client.worker());
        block_on(client.idle());
        assert!(poll_once(&mut unpolled).is_pending());
        assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
    });
}

#[test]
fn a_worker_takes_tasks_from_one_that_came_later() {
    bounded(|| {
        let client = client_of(0);
        let mut first = client.worker();
        assert!(poll_once(&mut first).is_pending());
        let (busy, is_busy) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let held = client.spawn(async move {
            busy.send(()).unwrap();
            wait.lock().unwrap().recv().unwrap();
        });
        let xs = client.map(inc, 0..10);
        // It takes them all into its queue, and stays in the first.
        let second = thread::spawn({
            let worker = client.worker();
            move || block_on(worker)
        });
        is_busy.recv().unwrap();
        while xs.iter().any(|x| !x.is_finished()) {
            let _ = poll_once(&mut first);
        }
        assert!(!held.is_finished());
        go.send(()).unwrap();
        held.result().unwrap();
        drop((first, client));
        second.join().unwrap();
    });
}

#[test]
fn another_worker_is_woken_for_the_tasks_that_one_takes() {
    bounded(|| {
        let client = client_of(0);
        let mut workers: Vec<_> = (0..8).map(|_| (client.worker(), Wakes::new())).collect();
        for (worker, wakes) in &mut workers {
            assert!(poll_with(worker, wakes).is_pending());
        }
        let wakes: Vec<_> = workers.iter().map(|(_, wakes)| wakes.clone()).collect();
        let woken = move || wakes.iter().map(|wakes| wakes.get()).sum::<usize>();
        // Only one is woken for the submission.
        let wait = async move |_: u64| eventually("another one is woken", || woken() > 1);
        let xs = client.map(wait, 0..3u64);
        // This one takes them all into its queue. It may give way between them.
        let (worker, wakes) = workers.iter_mut().find(|(_, wakes)| wakes.get() > 0).unwrap();
        while xs.iter().any(|x| !x.is_finished()) {
            let _ = poll_with(worker, wakes);
        }
        block_on(gather(xs)).unwrap();
    });
}

#[test]
fn another_worker_is_woken_for_the_tasks_that_one_steals() {
    bounded(|| {
        let client = client_of(0);
        let wakes: Vec<_> = (0..8).map(|_| Wakes::new()).collect();
        let seen = wakes.clone();
        let woken = move || seen.iter().map(|wakes| wakes.get()).sum::<usize>();
        let (busy, is_busy) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let (wait, inner) = (Mutex::new(wait), client.clone());
        let task = client.spawn(async move {
            let wait = wait.lock().unwrap();
            busy.send(Vec::new()).unwrap();
            wait.recv().unwrap();
            // Into the queue of its own worker, which it keeps busy. One is woken for that.
            let look = async move |_: u64| eventually("another one is woken", || woken() > 1);
            busy.send(inner.map(look, 0..8u64)).unwrap();
            wait.recv().unwrap();
        });
        let worker = client.worker();
        let driver = thread::spawn(move || block_on(worker));
        is_busy.recv().unwrap();
        let mut workers: Vec<_> = (0..8).map(|_| client.worker()).collect();
        for (worker, wakes) in workers.iter_mut().zip(&wakes) {
            assert!(poll_with(worker, wakes).is_pending());
        }
        go.send(()).unwrap();
        let xs = is_busy.recv().unwrap();
        let woken = || wakes.iter().position(|wakes| wakes.get() > 0);
        eventually("one is woken", || woken().is_some());
        let thief = woken().unwrap();
        let _ = poll_with(&mut workers[thief], &wakes[thief]);
        let stolen: Vec<_> = xs.iter().filter_map(Handle::try_get).collect();
        assert!(!stolen.is_empty() && stolen.into_iter().all(|looked| looked.is_ok()));
        go.send(()).unwrap();
        task.result().unwrap();
        drop((workers, xs, client));
        driver.join().unwrap();
    });
}

/// Two workers. When one of them runs the task of [`Pair::new`], it polls the other one, which goes to sleep.
struct Pair {
    workers: [Mutex<Worker>; 2],
    wakes: [Arc<Wakes>; 2],
}

impl Pair {
    /// Polls a worker on a thread of its own, so that a task of the other one may do it.
    fn poll(&self, at: usize) {
        let poll = || {
            let mut worker = self.workers[at].try_lock().expect("it isn't being polled");
            let _ = poll_with(&mut *worker, &self.wakes[at]);
        };
        thread::scope(|scope| scope.spawn(poll).join().unwrap());
    }

    /// The worker that isn't being polled, and how often it was woken; to be called in a task.
    fn other(&self) -> (usize, usize) {
        let at = self.workers.iter().position(|worker| worker.try_lock().is_ok()).unwrap();
        (at, self.wakes[at].get())
    }

    /// Two workers, and a task that, once the gate is open, polls the other worker and ends.
    fn new(client: &Client) -> (Arc<Self>, Gate, Handle<(usize, usize)>) {
        let pair = Arc::new(Self {
            workers: [client.worker(), client.worker()].map(Mutex::new),
            wakes: [Wakes::new(), Wakes::new()],
        });
        let gate = Gate::new();
        let (pass, of_task) = (gate.pass(), pair.clone());
        let x = client.spawn(async move {
            pass.await;
            of_task.poll(of_task.other().0);
            of_task.other()
        });
        (0..2).for_each(|at| pair.poll(at));
        assert!(!x.is_finished());
        (pair, gate, x)
    }
}

#[test]
fn another_worker_is_woken_for_the_dependents_of_a_task() {
    bounded(|| {
        let client = client_of(0);
        let (pair, gate, x) = Pair::new(&client);
        let ys: Vec<_> = (0..2)
            .map(|_| {
                let pair = pair.clone();
                let look = async move |(_, before): (usize, usize)| {
                    eventually("the other one is woken", || pair.other().1 > before);
                };
                client.submit(look, &x)
            })
            .collect();
        gate.open();
        // It may give way after the first task.
        while ys.iter().any(|y| !y.is_finished()) {
            pair.poll(0);
        }
        block_on(gather(ys)).unwrap();
    });
}

#[test]
fn a_task_made_ready_can_be_run_by_another_worker_while_a_waker_is_called() {
    struct OnWake(Box<dyn Fn() + Send + Sync>);
    impl Wake for OnWake {
        fn wake(self: Arc<Self>) {
            (self.0)();
        }
    }
    bounded(|| {
        let client = client_of(0);
        let (pair, gate, x) = Pair::new(&client);
        let y = client.submit(async |_: (usize, usize)| (), &x);
        let seen = Log::new();
        let on_wake = {
            let (pair, x, y, seen) = (pair.clone(), x.clone(), y.clone(), seen.clone());
            OnWake(Box::new(move || {
                let (other, before) = x.try_get().unwrap().unwrap();
                eventually("the other one is woken", || pair.wakes[other].get() > before);
                pair.poll(other);
                seen.add(y.is_finished());
            }))
        };
        let waker = Waker::from(Arc::new(on_wake));
        let mut waits = x.clone();
        assert!(pin!(&mut waits).poll(&mut Context::from_waker(&waker)).is_pending());
        gate.open();
        pair.poll(0);
        pair.poll(1);
        assert_eq!(seen.all(), [true]);
    });
}

#[test]
fn closing_ends_started_tasks_that_no_worker_is_left_to_run() {
    bounded(|| {
        let client = client_of(0);
        let x = client.submit(async || std::future::pending::<u64>().await, ());
        let mut worker = client.worker();
        assert!(poll_once(&mut worker).is_pending());
        let mut close = Box::pin(client.close());
        assert!(poll_once(&mut close).is_pending(), "a task has started");
        drop(worker);
        block_on(close);
        assert_eq!(x.result().unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn a_worker_can_be_polled_within_a_task_of_another_client() {
    bounded(|| {
        let outer = client_of(1);
        let inner = client_of(0);
        let x = inner.submit(inc, 1);
        let worker = inner.worker();
        let result = outer.spawn(async move {
            let mut worker = pin!(worker);
            let mut x = x;
            std::future::poll_fn(move |cx| {
                let _ = worker.as_mut().poll(cx);
                std::pin::Pin::new(&mut x).poll(cx)
            })
            .await
        });
        assert_eq!(result.result().unwrap().unwrap(), 2);
    });
}

#[test]
fn a_task_on_any_thread_sees_its_own_client() {
    bounded(|| {
        let (one, two) = (client_of(1), client_of(1));
        assert!(Client::current().is_none());
        let name = |client: &Client| {
            client.submit(async || Client::current().map(|client| client.to_string()), ())
        };
        assert_eq!(name(&one).result().unwrap().unwrap(), one.to_string());
        let three = Client::builder().workers(1).name("three").build();
        assert!(name(&three).result().unwrap().unwrap().contains("three"));
        assert_eq!(name(&two).result().unwrap().unwrap(), two.to_string());
        drive(&client_of(0), async { assert!(Client::current().is_none()) });
    });
}

// Two clients.

#[test]
fn a_task_submitted_to_another_client_runs_on_that_client() {
    bounded(|| {
        let (first, second) = (client_of(0), client_of(0));
        let other = second.clone();
        let x = first.spawn(async move {
            let y = other.submit(inc, 1);
            (y,)
        });
        let (y,) = drive(&first, x).unwrap();
        run_what_is_ready(&first);
        assert!(!y.is_finished());
        assert_eq!(drive(&second, y).unwrap(), 2);
    });
}

#[test]
fn tasks_take_inputs_from_another_client() {
    bounded(|| {
        let (one, two) = (client_of(1), client_of(1));
        for _ in 0..200 {
            let mut x = one.submit(inc, 0);
            for n in 0..20 {
                x = if n % 2 == 0 { two.submit(inc, x) } else { one.submit(inc, x) };
            }
            assert_eq!(x.result().unwrap(), 21);
        }
        eventually("nothing is left", || one.tasks_in_memory() + two.tasks_in_memory() == 0);
    });
}

#[test]
fn tasks_await_tasks_of_another_client() {
    bounded(|| {
        let (one, two) = (client_of(1), client_of(1));
        let inner = two.clone();
        let xs: Vec<_> = (0..100)
            .map(|n| {
                let two = inner.clone();
                one.spawn(async move { two.submit(inc, n).await.unwrap() })
            })
            .collect();
        drop(inner);
        let total: u64 = block_on(gather(&xs)).unwrap().into_iter().sum();
        assert_eq!(total, 5050);
        let mut stream = as_completed(xs.iter().cloned().chain([two.submit(inc, 0)]));
        let mut count = 0;
        while let Some(x) = block_on(stream.next()) {
            assert!(x.is_finished());
            count += 1;
        }
        assert_eq!(count, 101);
    });
}

fn two_clients_with_a_dependent() -> (Client, Client, Gate, Handle<u64>, Handle<u64>) {
    let (one, two) = (client_of(1), client_of(1));
    let gate = Gate::new();
    let pass = gate.clone();
    let counts = Counts::new();
    let x = one.spawn(counts.future(async move {
        pass.pass().await;
        1u64
    }));
    let y = two.submit(inc, &x);
    eventually("the first runs", || counts.polls.get() == 1);
    (one, two, gate, x, y)
}

#[test]
fn closing_the_client_of_the_dependent_leaves_the_input() {
    bounded(|| {
        let (_one, two, gate, x, y) = two_clients_with_a_dependent();
        block_on(two.close());
        assert_eq!(y.result().unwrap_err().kind(), ErrorKind::Closed);
        assert!(!x.is_finished());
        gate.open();
        assert_eq!(x.result().unwrap(), 1);
    });
}

#[test]
fn closing_the_client_of_the_input_lets_it_run_and_the_dependent_too() {
    bounded(|| {
        let (one, _two, gate, x, y) = two_clients_with_a_dependent();
        let mut close = Box::pin(one.close());
        assert!(poll_once(&mut close).is_pending());
        gate.open();
        block_on(close);
        assert_eq!(x.result().unwrap(), 1);
        assert_eq!(y.result().unwrap(), 2);
    });
}

#[test]
fn a_queued_input_of_a_closed_client_fails_its_dependent_of_another() {
    bounded(|| {
        let (one, two) = (client_of(0), client_of(1));
        let x = one.submit(inc, 0);
        let y = two.submit(inc, &x);
        block_on(one.close());
        let error = y.result().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert_eq!(error.origin(), x.key());
        assert_eq!(two.submit(inc, 1).result().unwrap(), 2);
    });
}

#[test]
fn dropping_the_client_of_the_input_fails_its_dependent_of_another() {
    bounded(|| {
        let (one, two, _gate, x, y) = two_clients_with_a_dependent();
        drop(one);
        assert_eq!(y.result().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(x.result().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(two.submit(inc, 1).result().unwrap(), 2);
    });
}

#[test]
fn dropping_the_client_of_the_dependent_leaves_the_input() {
    bounded(|| {
        let (_one, two, gate, x, y) = two_clients_with_a_dependent();
        drop(two);
        assert_eq!(y.result().unwrap_err().kind(), ErrorKind::Closed);
        gate.open();
        assert_eq!(x.result().unwrap(), 1);
    });
}

#[test]
fn a_dependent_is_started_though_both_clients_are_polled_by_one_thread() {
    bounded(|| {
        let (one, two) = (client_of(0), client_of(0));
        let x = one.submit(inc, 0);
        let y = two.submit(inc, &x);
        let z = one.submit(inc, &y);
        let (mut first, mut second) = (one.worker(), two.worker());
        let mut z = z;
        let result = block_on(std::future::poll_fn(move |cx| {
            let _ = std::pin::Pin::new(&mut first).poll(cx);
            let _ = std::pin::Pin::new(&mut second).poll(cx);
            match std::pin::Pin::new(&mut z).poll(cx) {
                Poll::Ready(result) => Poll::Ready(result),
                Poll::Pending => Poll::Pending,
            }
        }));
        assert_eq!(result.unwrap(), 3);
    });
}

#[test]
fn two_clients_that_close_while_they_feed_each_other() {
    bounded(|| {
        for round in 0..100 {
            let (one, two) = (client_of(1), client_of(1));
            let mut xs = Vec::new();
            for n in 0..20u64 {
                let x = one.submit(inc, n);
                let y = two.submit(inc, &x);
                let z = one.submit(inc, &y);
                xs.extend([x, y, z]);
            }
            let closing = {
                let one = one.clone();
                thread::spawn(move || block_on(one.close()))
            };
            if round % 2 == 0 {
                block_on(two.close());
            } else {
                drop(two);
            }
            closing.join().unwrap();
            for x in xs {
                match x.result() {
                    Ok(_) => {}
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
                }
            }
        }
    });
}

#[test]
fn a_task_that_polls_a_worker_of_its_own_client_panics() {
    bounded(|| {
        let client = client_of(1);
        let tasks: Vec<_> = (0..1000).map(|_| client.spawn(client.worker())).collect();
        // Also where a task of another client is between.
        let other = client_of(0);
        let worker = other.worker();
        let through_other = client.spawn(worker);
        let inner = other.spawn(client.worker());
        for task in tasks.into_iter().chain([inner]) {
            let error = task.result().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Panicked);
            assert!(error.to_string().contains("spawn workers outside"), "{error}");
        }
        assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
        block_on(other.close());
        through_other.result().unwrap();
        assert_eq!(client.workers(), 1);
    });
}

#[test]
fn a_dropped_worker_drops_no_running_future() {
    bounded(|| {
        let client = client_of(0);
        let counts = Counts::new();
        let gate = Gate::new();
        let x = client.spawn(counts.future(gate.pass()));
        let mut worker = client.worker();
        assert!(poll_once(&mut worker).is_pending());
        drop(worker);
        assert_eq!(counts.drops.get(), 0);
        gate.open();
        drive(&client, x).unwrap();
        assert_eq!((counts.polls.get(), counts.drops.get()), (2, 1));
    });
}

#[test]
fn clients_of_one_thread_end_once_though_a_hook_holds_handles_of_another() {
    /// A client whose hook counts its drop and holds a handle.
    fn ends_with(drops: &Count, handle: Option<Handle<u64>>) -> Client {
        let held = (drops.on_drop(), handle);
        let hook = move |_: &Error| {
            let _ = &held;
        };
        Client::builder().workers(0).on_unobserved(hook).build()
    }
    bounded(|| {
        let ends = [Count::new(), Count::new(), Count::new()];
        let counts = ends.clone();
        let ended = move || counts.each_ref().map(Count::get);
        let [first_ends, second_ends, third_ends] = ends;
        let seen = ended.clone();
        let user = thread::spawn(move || {
            let first = ends_with(&first_ends, None);
            let second = ends_with(&second_ends, Some(first.ready(5)));
            let third = ends_with(&third_ends, None);
            // This thread was the last to use `second`, whose client and handles another thread drops.
            let x = second.ready(1u64);
            thread::spawn(move || drop((second, x))).join().unwrap();
            // So it ends on this thread, and its hook drops a handle of `first`.
            let x = third.ready(2u64);
            assert_eq!(seen(), [0, 1, 0]);
            drop(first);
            drop(third);
            assert_eq!(seen()[2], 0, "a handle is left");
            assert_eq!(x.try_get().unwrap().unwrap(), 2);
            let last = x.clone();
            thread::spawn(move || drop(last)).join().unwrap();
            assert_eq!(x.result().unwrap(), 2);
        });
        user.join().unwrap();
        eventually("each has ended", || ended() == [1, 1, 1]);
    });
}
