//! Submitting (promises 1 to 3).

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use ensue::{Client, ErrorKind, Handle, Status, as_completed, gather};
use futures::StreamExt;
use futures::executor::block_on;
use support::hold::{Gate, hold_worker};
use support::observe::{Count, Counted, Counts};
use support::{bounded, eventually, run_until_idle, run_what_is_ready};

async fn inc(x: u64) -> u64 {
    x + 1
}

async fn double(x: u64) -> u64 {
    x * 2
}

async fn add(x: u64, y: u64) -> u64 {
    x + y
}

async fn sum(xs: Vec<u64>) -> u64 {
    xs.into_iter().sum()
}

#[test]
fn smoke() {
    bounded(|| {
        let client = Client::new();
        let x = client.submit(inc, 1);
        let y = client.submit(double, &x);
        let z = client.submit(add, (&x, &y));
        let c = client.submit(async |a: u64, b: u64| a * b, (&x, 7));
        assert_eq!(block_on(z).unwrap(), 6);
        assert_eq!(c.result().unwrap(), 14);
    });
}

/// `inc`, `double` and `add` for each number, and the sum of all.
fn notebook(client: &Client) -> Handle<u64> {
    let xs = client.map(inc, 0..256u64);
    let ys = client.map(double, &xs);
    let zs = client.map(add, xs.iter().zip(&ys));
    client.submit(sum, &zs)
}

#[test]
fn a_graph_gives_the_same_on_any_number_of_workers() {
    bounded(|| {
        for workers in [1, 2, 5] {
            let client = Client::builder().workers(workers).build();
            for _ in 0..20 {
                assert_eq!(notebook(&client).result().unwrap(), 98_688);
            }
            eventually("everything is freed", || client.tasks_in_memory() == 0);
        }
        for seed in 0..20 {
            let client = Client::builder().seed(seed).build();
            assert_eq!(notebook(&client).result().unwrap(), 98_688);
        }
    });
}

// Promise 1: submit never blocks and never fails.

#[test]
fn submitting_needs_no_worker() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let calls = Count::new();
        let handles: Vec<_> = (0..1000u64)
            .map(|x| {
                let calls = calls.clone();
                client.submit(
                    async move |x: u64| {
                        calls.add();
                        x
                    },
                    x,
                )
            })
            .collect();
        let total = client.submit(sum, &handles);
        assert!(handles.iter().all(|handle| handle.status() == Status::Ready));
        assert_eq!(total.status(), Status::Waiting);
        assert_eq!(calls.get(), 0);
        run_until_idle(&client);
        assert_eq!(calls.get(), 1000);
        assert_eq!(total.result().unwrap(), 499_500);
    });
}

#[test]
fn submitting_does_not_wait_for_busy_workers() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let held = hold_worker(&client);
        let handles = client.map(inc, 0..1000u64);
        let one = client.submit(inc, 1);
        assert!(!one.is_finished() && handles.iter().all(|handle| !handle.is_finished()));
        held.let_go();
        assert_eq!(one.result().unwrap(), 2);
        assert_eq!(client.submit(sum, handles).result().unwrap(), 500_500);
    });
}

#[test]
fn work_starts_without_being_awaited() {
    bounded(|| {
        let client = Client::new();
        let (send, receive) = mpsc::channel();
        let handle = client.submit(async move |x: u64| send.send(x).unwrap(), 7);
        assert_eq!(receive.recv().unwrap(), 7);
        eventually("it finishes", || handle.is_finished());
        assert_eq!(handle.status(), Status::Finished);
    });
}

#[test]
fn an_invalid_submission_gives_a_handle_with_an_error() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("db", 2).build();
        let unknown = client.task().acquire("disk").submit(inc, 1);
        let too_much = client.task().acquire_many("db", 3).submit(inc, 1);
        assert_eq!(unknown.result().unwrap_err().kind(), ErrorKind::Limit);
        assert_eq!(too_much.result().unwrap_err().kind(), ErrorKind::Limit);

        let taken = client.task().key("k").submit(inc, 1);
        let other = client.task().key("k").submit(async || "text", ());
        assert_eq!(other.result().unwrap_err().kind(), ErrorKind::KeyConflict);
        assert_eq!(taken.result().unwrap(), 2);

        block_on(client.close());
        let late = client.submit(inc, 1);
        assert_eq!(late.result().unwrap_err().kind(), ErrorKind::Closed);
        let later = client.submit(inc, &late);
        assert_eq!(later.result().unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn a_function_that_panics_before_its_first_await_does_not_panic_the_submitter() {
    bounded(|| {
        fn eager(x: u64) -> std::future::Ready<u64> {
            panic!("no future for {x}")
        }
        let client = Client::builder().workers(0).build();
        let handle = client.submit(eager, 3);
        run_until_idle(&client);
        assert!(handle.result().unwrap_err().is_panic());
    });
}

#[test]
fn many_threads_submit_to_one_client() {
    bounded(|| {
        let client = Client::builder().workers(2).build();
        let threads: Vec<_> = (0..8u64)
            .map(|at| {
                let client = client.clone();
                thread::spawn(move || {
                    let handles = client.map(inc, (0..500).map(|x| at * 1000 + x));
                    client.submit(sum, handles).result().unwrap()
                })
            })
            .collect();
        let total: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        let expected: u64 = (0..8).flat_map(|at| (0..500).map(move |x| at * 1000 + x + 1)).sum();
        assert_eq!(total, expected);
    });
}

#[test]
fn inputs_may_be_in_any_state_when_they_are_submitted() {
    bounded(|| {
        let client = Client::builder().workers(2).build();
        let gate = Gate::new();
        let waits = gate.pass();
        let running = client.spawn(async move {
            waits.await;
            1u64
        });
        eventually("it runs", || running.status() == Status::Running);
        let waiting = client.submit(inc, &running);
        let finished = client.ready(10u64);
        let all = client.submit(sum, vec![&running, &waiting, &finished]);
        assert_eq!(all.status(), Status::Waiting);
        gate.open();
        assert_eq!(all.result().unwrap(), 13);
        let late = client.submit(sum, vec![&running, &waiting, &finished, &all]);
        assert_eq!(late.result().unwrap(), 26);
    });
}

#[test]
fn the_same_handle_may_be_given_twice() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let x = client.submit(inc, 1);
        let y = client.submit(add, (&x, &x));
        let z = client.submit(sum, vec![&x, &y, &x, &y]);
        run_until_idle(&client);
        assert_eq!((y.result().unwrap(), z.result().unwrap()), (4, 12));
    });
}

#[test]
fn pairs_are_added_until_one_is_left() {
    bounded(|| {
        let client = Client::new();
        let mut running = as_completed(client.map(inc, 0..256u64));
        let total = block_on(async {
            let mut last = None;
            while let Some(x) = running.next().await {
                match last.take() {
                    None => last = Some(x),
                    Some(y) => running.add(client.submit(add, (x, y))),
                }
            }
            last.unwrap().await
        });
        assert_eq!(total.unwrap(), 32_896);
    });
}

// Promise 2: an input edge owns what it needs.

#[test]
fn the_callers_handle_may_be_dropped_before_the_input_has_run() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let x = client.submit(inc, 1);
        let y = client.submit(double, &x);
        drop(x);
        let z = client.submit(double, y);
        run_until_idle(&client);
        assert_eq!(z.result().unwrap(), 8);
    });
}

#[test]
fn the_callers_handle_may_be_dropped_while_the_input_runs_or_when_it_has_finished() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let gate = Gate::new();
        let waits = gate.pass();
        let x = client.spawn(async move {
            waits.await;
            1u64
        });
        eventually("it runs", || x.status() == Status::Running);
        let y = client.submit(inc, &x);
        drop(x);
        gate.open();
        assert_eq!(y.result().unwrap(), 2);

        let held = hold_worker(&client);
        let z = client.submit(inc, &y);
        drop(y);
        held.let_go();
        assert_eq!(z.result().unwrap(), 3);
    });
}

#[test]
fn only_the_end_of_a_graph_needs_to_be_held() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let mut level = client.map(inc, 0..64u64);
        while level.len() > 1 {
            // This drops the handles of the level below.
            level = level.chunks(2).map(|pair| client.submit(add, (&pair[0], &pair[1]))).collect();
        }
        run_until_idle(&client);
        assert_eq!(level[0].result().unwrap(), 2080);
        assert_eq!(client.tasks_in_memory(), 1);
    });
}

#[test]
fn an_input_is_released_when_the_task_has_taken_it() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let counts = Counts::new();
        let value = counts.value(5);
        let x = client.submit(async move || value, ());
        let gate = Gate::new();
        let waits = gate.pass();
        let y = client.submit(
            async move |x: Counted| {
                let value = x.value;
                drop(x);
                waits.await;
                value
            },
            x,
        );
        run_what_is_ready(&client);
        // The dependent still runs, and no other task needs the input.
        assert_eq!(y.status(), Status::Running);
        assert_eq!((counts.clones.get(), counts.drops.get()), (0, 1));
        assert_eq!(client.tasks_in_memory(), 1);
        gate.open();
        run_until_idle(&client);
        assert_eq!(y.result().unwrap(), 5);
    });
}

#[test]
fn plain_inputs_are_dropped_once() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let counts = Counts::new();
        let ran = client.submit(async |x: Counted| x.value, counts.value(1));
        run_until_idle(&client);
        assert_eq!((counts.clones.get(), counts.drops.get()), (0, 1));
        assert_eq!(ran.result().unwrap(), 1);

        // One that never runs drops them too.
        let dropped = client.submit(async |x: Counted| x.value, counts.value(2));
        drop(dropped);
        assert_eq!((counts.clones.get(), counts.drops.get()), (0, 2));
    });
}

// Promise 3: a task may submit and await tasks.

fn descend(client: Client, depth: u64) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(async move {
        if depth == 0 {
            return 0;
        }
        let below = client.submit(descend, (client.clone(), depth - 1));
        below.await.unwrap() + 1
    })
}

#[test]
fn one_worker_goes_down_ten_thousand_nested_awaits() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let handle = client.submit(descend, (client.clone(), 10_000));
        assert_eq!(handle.result().unwrap(), 10_000);
    });
}

fn fib(n: u64) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(async move {
        if n < 2 {
            return n;
        }
        let client = Client::current().unwrap();
        let (a, b) = (client.submit(fib, n - 1), client.submit(fib, n - 2));
        a.await.unwrap() + b.await.unwrap()
    })
}

#[test]
fn a_tree_of_tasks_that_await_their_children_runs_on_one_worker() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        assert_eq!(client.submit(fib, 17).result().unwrap(), 1597);
        eventually("everything is freed", || client.tasks_in_memory() == 0);
        let client = Client::builder().workers(3).build();
        assert_eq!(client.submit(fib, 17).result().unwrap(), 1597);
        assert_eq!(Client::builder().seed(3).build().submit(fib, 12).result().unwrap(), 144);
    });
}

#[test]
fn a_task_gathers_and_iterates_over_its_children_on_one_worker() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let total = client.submit(
            async || {
                let client = Client::current().unwrap();
                let gathered: u64 =
                    gather(client.map(inc, 0..100u64)).await.unwrap().into_iter().sum();
                let mut iterated = 0;
                let mut children = as_completed(client.map(double, 0..100u64)).with_results();
                while let Some((_, result)) = children.next().await {
                    iterated += result.unwrap();
                }
                gathered + iterated
            },
            (),
        );
        assert_eq!(total.result().unwrap(), 5050 + 9900);
    });
}

#[test]
fn a_handle_that_a_task_returns_is_a_value() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let outer = client.submit(async || Client::current().unwrap().submit(inc, 1), ());
        let inner: Handle<u64> = outer.result().unwrap();
        assert_eq!(inner.result().unwrap(), 2);
    });
}

#[test]
fn awaiting_yields_the_worker_to_others() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let gate = Gate::new();
        let first = client.spawn(gate.pass());
        eventually("it awaits", || first.status() == Status::Running);
        // The only worker has to run the task that opens the gate.
        let second = client.submit(async move || gate.open(), ());
        second.result().unwrap();
        first.result().unwrap();
    });
}

#[test]
fn blocking_on_a_worker_is_an_error_and_not_a_hang() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let handle = client.submit(
            async || {
                let child = Client::current().unwrap().submit(inc, 1);
                let error = child.result().unwrap_err();
                (error.kind(), *error.origin() == child.key(), child.await.unwrap())
            },
            (),
        );
        assert_eq!(handle.result().unwrap(), (ErrorKind::Blocking, true, 2));
    });
}

#[test]
fn blocking_work_may_submit_and_wait() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let handle = client.submit_blocking(
            |x: u64| {
                let client = Client::current().unwrap();
                let child = client.submit(inc, x);
                client.submit_blocking(move |y: u64| y * 10, &child).result().unwrap()
            },
            4,
        );
        assert_eq!(handle.result().unwrap(), 50);
    });
}

#[test]
fn the_current_client_is_that_of_the_task() {
    bounded(|| {
        assert!(Client::current().is_none());
        let (a, b) = (
            Client::builder().name("a").workers(1).build(),
            Client::builder().name("b").seed(1).build(),
        );
        let name = || async { Client::current().unwrap().to_string() };
        assert!(a.spawn(name()).result().unwrap().contains("`a`"));
        assert!(b.spawn(name()).result().unwrap().contains("`b`"));
        assert!(Client::current().is_none());
    });
}

#[test]
fn a_task_may_await_a_task_of_another_client() {
    bounded(|| {
        let (a, b) = (Client::builder().workers(1).build(), Client::builder().workers(1).build());
        let x = a.submit(inc, 1);
        let y = b.submit(double, &x);
        let awaited = b.clone();
        let z = a.submit(async move |y: u64| awaited.submit(inc, y).await.unwrap(), &y);
        assert_eq!(z.result().unwrap(), 5);
    });
}

#[test]
fn spawned_futures_and_futures_of_other_crates_are_tasks_too() {
    bounded(|| {
        use futures::task::SpawnExt;
        let client = Client::builder().workers(1).build();
        let (send, receive) = futures::channel::oneshot::channel();
        client.spawn(async { send.send(5).unwrap() }).detach();
        assert_eq!(block_on(receive).unwrap(), 5);
        let remote = SpawnExt::spawn_with_handle(&client, async { 6 }).unwrap();
        assert_eq!(block_on(remote), 6);
    });
}

#[test]
fn inputs_of_a_map_may_come_from_its_tasks() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let (sender, receiver) = std::sync::mpsc::channel();
        sender.send(0u64).unwrap();
        let sender = Arc::new(Mutex::new(Some(sender)));
        let on = async move |x: u64| {
            let mut sender = sender.lock().unwrap();
            match (x, &*sender) {
                (0..100, Some(sender)) => sender.send(x + 1).unwrap(),
                _ => *sender = None,
            }
        };
        assert_eq!(client.map(on, receiver).len(), 101);
    });
}
