//! Order (promise 16).

use std::future::pending;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ensue::{
    Client, ErrorKind, Handle, Status, as_completed, gather, gather_settled, wait_all, wait_any,
};
use futures::executor::block_on;
use futures::future::{BoxFuture, FutureExt, select};
use futures::stream::{self, FuturesUnordered, StreamExt};
use smol::future::yield_now;
use support::hold::{Gate, hold_worker, turns};
use support::observe::{Count, Log};
use support::{bounded, client_of, eventually, poll_once, until_asleep};

async fn inc(x: u64) -> u64 {
    x + 1
}

/// A function that logs its argument.
fn note(log: &Log<i64>) -> impl AsyncNote {
    let log = log.clone();
    move |n: i64| {
        log.add(n);
        std::future::ready(())
    }
}

trait AsyncNote: Fn(i64) -> std::future::Ready<()> + Clone + Send + 'static {}
impl<F: Fn(i64) -> std::future::Ready<()> + Clone + Send + 'static> AsyncNote for F {}

fn finish<T: Clone + Send + Sync + 'static>(handles: Vec<Handle<T>>) {
    block_on(gather(handles)).unwrap();
}

#[test]
fn higher_priorities_go_first_and_equal_ones_in_order() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let held = hold_worker(&client);
        let priorities = [0, 5, -3, 5, 0, i32::MAX - 1, i32::MIN, -3, 1, i32::MAX - 1, i32::MIN];
        let xs: Vec<_> = priorities
            .iter()
            .enumerate()
            .map(|(n, p)| client.task().priority(*p).submit(note(&log), n as i64))
            .collect();
        held.let_go();
        finish(xs);
        let mut expected: Vec<_> = (0..priorities.len()).collect();
        // A stable sort: equal priorities stay in order of submission.
        expected.sort_by_key(|n| std::cmp::Reverse(priorities[*n]));
        assert_eq!(log.all(), expected.iter().map(|n| *n as i64).collect::<Vec<_>>());
    });
}

#[test]
fn the_extreme_priorities_are_the_first_and_the_last() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let held = hold_worker(&client);
        let mut xs = Vec::new();
        for (n, priority) in [i32::MIN, -1, 0, 1, i32::MAX].into_iter().enumerate() {
            xs.extend(client.task().priority(priority).map(note(&log), [n as i64, n as i64]));
        }
        held.let_go();
        finish(xs);
        assert_eq!(log.all(), [4, 4, 3, 3, 2, 2, 1, 1, 0, 0]);
    });
}

#[test]
fn a_map_with_a_priority_starts_before_earlier_tasks() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let held = hold_worker(&client);
        let low = client.map(note(&log), 0..200);
        let high = client.task().priority(1).map(note(&log), 1000..1200);
        held.let_go();
        finish(low);
        finish(high);
        assert_eq!(log.all(), (1000..1200).chain(0..200).collect::<Vec<_>>());
    });
}

#[test]
fn a_high_priority_from_outside_is_next_even_in_a_busy_worker() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let held = hold_worker(&client);
        let entry = log.clone();
        let inner = client.clone();
        let urgent = note(&log);
        let first = client.submit(
            async move || {
                entry.add(0);
                // From another thread, while this task runs.
                let (inner, urgent) = (inner.clone(), urgent.clone());
                thread::spawn(move || inner.task().priority(1).submit(urgent, -1).detach())
                    .join()
                    .unwrap();
            },
            (),
        );
        let others = client.map(note(&log), 1..300);
        held.let_go();
        finish(others);
        first.result().unwrap();
        assert_eq!(log.all(), [0, -1].into_iter().chain(1..300).collect::<Vec<_>>());
    });
}

#[test]
fn submissions_from_outside_start_in_order() {
    bounded(|| {
        let client = client_of(1);
        for busy in [true, false] {
            let log = Log::new();
            let held = busy.then(|| hold_worker(&client));
            let xs: Vec<_> = (0..20_000).map(|n| client.submit(note(&log), n)).collect();
            if let Some(held) = held {
                held.let_go();
            }
            finish(xs);
            assert_eq!(log.all(), (0..20_000).collect::<Vec<_>>());
        }
    });
}

#[test]
fn maps_and_single_submissions_from_outside_start_in_order() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let held = hold_worker(&client);
        let mut xs = Vec::new();
        for n in 0..100 {
            xs.push(client.submit(note(&log), n * 100));
            xs.extend(client.map(note(&log), n * 100 + 1..n * 100 + 100));
        }
        held.let_go();
        finish(xs);
        assert_eq!(log.all(), (0..10_000).collect::<Vec<_>>());
    });
}

#[test]
fn submissions_from_a_task_start_in_order() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let (inner, noted) = (client.clone(), log.clone());
        let all = client.spawn(async move {
            let mut xs: Vec<_> = (0..5000).map(|n| inner.submit(note(&noted), n)).collect();
            xs.extend(inner.map(note(&noted), 5000..10_000));
            gather(xs).await.unwrap();
        });
        all.result().unwrap();
        assert_eq!(log.all(), (0..10_000).collect::<Vec<_>>());
    });
}

#[test]
fn priorities_hold_for_submissions_from_a_task() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let (inner, noted) = (client.clone(), log.clone());
        let all = client.spawn(async move {
            let xs: Vec<_> = [0, 2, -1, 1, 2, 0]
                .into_iter()
                .zip(0..)
                .map(|(p, n)| inner.task().priority(p).submit(note(&noted), n))
                .collect();
            gather(xs).await.unwrap();
        });
        all.result().unwrap();
        assert_eq!(log.all(), [1, 4, 3, 0, 5, 2]);
    });
}

#[test]
fn submissions_from_several_threads_keep_the_order_of_each_thread() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let threads: Vec<_> = (0..3)
            .map(|thread| {
                let (client, log) = (client.clone(), log.clone());
                thread::spawn(move || {
                    let xs = (0..3000).map(|n| client.submit(note(&log), thread * 10_000 + n));
                    xs.collect::<Vec<_>>()
                })
            })
            .collect();
        for thread in threads {
            finish(thread.join().unwrap());
        }
        for thread in 0..3 {
            let own: Vec<_> = log.all().into_iter().filter(|n| n / 10_000 == thread).collect();
            assert!(own.is_sorted(), "thread {thread}");
        }
    });
}

// Depth first: dependents before further roots.

#[test]
fn the_dependents_of_a_finished_task_start_before_further_roots() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let held = hold_worker(&client);
        let mut ends = Vec::new();
        for n in 0..10 {
            let (first, second, third) = (log.clone(), log.clone(), log.clone());
            let x = client.submit(async move |n: i64| first.add(n * 10), n);
            let y = client.submit(async move |(): ()| second.add(n * 10 + 1), x);
            ends.push(client.submit(async move |(): ()| third.add(n * 10 + 2), y));
        }
        held.let_go();
        finish(ends);
        let expected: Vec<_> = (0..10).flat_map(|n| [n * 10, n * 10 + 1, n * 10 + 2]).collect();
        assert_eq!(log.all(), expected);
    });
}

#[test]
fn few_results_of_a_wide_graph_are_alive_at_once() {
    struct Alive(Count);
    impl Alive {
        fn new(count: &Count, most: &Log<usize>) -> Self {
            count.add();
            most.add(count.get());
            Self(count.clone())
        }
    }
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.sub();
        }
    }
    bounded(|| {
        let client = client_of(1);
        let (alive, most) = (Count::new(), Log::new());
        let held = hold_worker(&client);
        let ends: Vec<_> = (0..200)
            .map(|_| {
                let (count, seen) = (alive.clone(), most.clone());
                let big = client.submit(async move || Alive::new(&count, &seen), ());
                client.submit(async |big: ensue::Ref<Alive>| drop(big), big)
            })
            .collect();
        held.let_go();
        finish(ends);
        assert_eq!(most.all().into_iter().max(), Some(1));
    });
}

#[test]
fn the_dependents_of_one_task_start_in_order() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let held = hold_worker(&client);
        let x = client.submit(inc, 0);
        let entry = log.clone();
        let ys = client.map(async move |_: u64, n: i64| entry.add(n), (0..1000).map(|n| (&x, n)));
        held.let_go();
        finish(ys);
        assert_eq!(log.all(), (0..1000).collect::<Vec<_>>());
    });
}

#[test]
fn a_chain_does_not_starve_tasks_submitted_after_its_first() {
    bounded(|| {
        let client = client_of(1);
        let held = hold_worker(&client);
        let mut chain = client.submit(inc, 0);
        for _ in 0..5000 {
            chain = client.submit(inc, chain);
        }
        let end = chain.clone();
        // It is queued behind the first task of the chain, and starts long before the last.
        let other = client.submit(async move || end.is_finished(), ());
        held.let_go();
        assert!(!other.result().unwrap());
        assert_eq!(chain.result().unwrap(), 5001);
    });
}

// Yields and wakes.

#[test]
fn tasks_that_always_yield_starve_no_others() {
    bounded(|| {
        let client = client_of(1);
        let stop = Gate::new();
        let loops: Vec<_> = (0..3)
            .map(|_| {
                let stop = stop.clone();
                client.spawn(async move {
                    while !stop.is_open() {
                        yield_now().await;
                    }
                })
            })
            .collect();
        // From outside, from inside, and as a chain.
        for n in 0..100 {
            let x = client.submit(inc, n);
            let inner = client.clone();
            let y = client.spawn(async move { inner.submit(inc, x).await.unwrap() });
            assert_eq!(client.submit(inc, y).result().unwrap(), n + 3);
        }
        stop.open();
        finish(loops);
    });
}

#[test]
fn two_tasks_that_wake_each_other_starve_no_others() {
    bounded(|| {
        let client = client_of(1);
        let (to_a, from_b) = futures::channel::mpsc::unbounded::<()>();
        let (to_b, from_a) = futures::channel::mpsc::unbounded::<()>();
        let play = |to: futures::channel::mpsc::UnboundedSender<()>,
                    mut from: futures::channel::mpsc::UnboundedReceiver<()>| {
            async move {
                use futures::StreamExt;
                while from.next().await.is_some() && to.unbounded_send(()).is_ok() {}
            }
        };
        to_b.unbounded_send(()).unwrap();
        let b = client.spawn(play(to_a, from_a));
        let a = client.spawn(play(to_b, from_b));
        for n in 0..100 {
            assert_eq!(client.submit(inc, n).result().unwrap(), n + 1);
        }
        drop((a, b));
    });
}

#[test]
fn a_woken_task_queues_behind_those_that_are_ready() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let held = hold_worker(&client);
        let entry = log.clone();
        let yields = client.spawn(async move {
            for n in [100, 200, 300] {
                entry.add(n);
                yield_now().await;
            }
        });
        let others = client.map(note(&log), 0..5);
        held.let_go();
        finish(others);
        yields.result().unwrap();
        assert_eq!(log.all(), [100, 0, 1, 2, 3, 4, 200, 300]);
    });
}

#[test]
fn tasks_that_submit_themselves_again_starve_none_from_outside() {
    bounded(|| {
        let client = client_of(1);
        let stop = Gate::new();
        fn again(client: Client, stop: Gate) {
            if !stop.is_open() {
                let next = client.clone();
                client.submit(async move || again(next, stop), ()).detach();
            }
        }
        again(client.clone(), stop.clone());
        for n in 0..100 {
            assert_eq!(client.submit(inc, n).result().unwrap(), n + 1);
        }
        stop.open();
        block_on(client.idle());
    });
}

// Inheritance.

#[test]
fn an_input_inherits_the_priority_of_its_dependent() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let held = hold_worker(&client);
        let low = client.task().priority(-5).submit(note(&log), 1);
        let before = client.map(note(&log), [10, 11]);
        let middle = client.task().priority(3).submit(note(&log), 20);
        let entry = log.clone();
        let urgent = client.task().priority(7).submit(async move |(): ()| entry.add(2), &low);
        held.let_go();
        finish(vec![low, middle, urgent]);
        finish(before);
        assert_eq!(log.all(), [1, 2, 20, 10, 11]);
    });
}

#[test]
fn a_chain_inherits_to_its_root() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let held = hold_worker(&client);
        let others = client.map(note(&log), 100..110);
        let mut last = client.submit(note(&log), 0);
        for n in 1..50 {
            let entry = log.clone();
            last = client.submit(async move |(): ()| entry.add(n), last);
        }
        let entry = log.clone();
        let end = client.task().priority(1).submit(async move |(): ()| entry.add(50), &last);
        held.let_go();
        end.result().unwrap();
        finish(others);
        assert_eq!(log.all(), (0..=50).chain(100..110).collect::<Vec<_>>());
    });
}

#[test]
fn a_long_chain_inherits_without_recursion() {
    bounded(|| {
        let client = client_of(1);
        let held = hold_worker(&client);
        let mut last = client.submit(inc, 0);
        for _ in 0..100_000 {
            last = client.submit(inc, last);
        }
        let end = client.task().priority(9).submit(inc, last);
        held.let_go();
        assert_eq!(end.result().unwrap(), 100_002);
    });
}

#[test]
fn a_joiner_lends_its_priority() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let held = hold_worker(&client);
        let others = client.map(note(&log), 10..20);
        let x = client.task().key("k").submit(note(&log), 1);
        let joiner = client.task().key("k").priority(4).submit(note(&log), 2);
        assert_eq!(x, joiner);
        held.let_go();
        finish(others);
        joiner.result().unwrap();
        assert_eq!(log.all(), std::iter::once(1).chain(10..20).collect::<Vec<_>>());
    });
}

#[test]
fn a_joiner_of_lower_priority_does_not_lower_it() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let held = hold_worker(&client);
        let others = client.map(note(&log), 10..20);
        let x = client.task().key("k").priority(4).submit(note(&log), 1);
        let joiner = client.task().key("k").priority(-4).submit(note(&log), 2);
        held.let_go();
        finish(others);
        finish(vec![x, joiner]);
        assert_eq!(log.all(), std::iter::once(1).chain(10..20).collect::<Vec<_>>());
    });
}

#[test]
fn an_awaited_task_inherits() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let held = hold_worker(&client);
        let low = client.task().priority(-1).submit(note(&log), 1);
        let others = client.map(note(&log), 10..20);
        let (awaited, entry) = (low.clone(), log.clone());
        let urgent = client.task().priority(5).spawn(async move {
            entry.add(0);
            awaited.await.unwrap();
            entry.add(2);
        });
        held.let_go();
        finish(others);
        finish(vec![low, urgent]);
        assert_eq!(log.all(), [0, 1, 2].into_iter().chain(10..20).collect::<Vec<_>>());
    });
}

#[test]
fn an_await_lends_its_priority_to_the_inputs_of_the_awaited_task() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let held = hold_worker(&client);
        let root = client.task().priority(-2).submit(note(&log), 1);
        let entry = log.clone();
        let middle = client.task().priority(-1).submit(async move |(): ()| entry.add(2), root);
        let others = client.map(note(&log), 10..20);
        let entry = log.clone();
        let urgent = client.task().priority(5).spawn(async move {
            middle.await.unwrap();
            entry.add(3);
        });
        held.let_go();
        finish(others);
        urgent.result().unwrap();
        assert_eq!(log.all(), [1, 2, 3].into_iter().chain(10..20).collect::<Vec<_>>());
    });
}

#[test]
fn a_priority_goes_through_awaits_that_began_before() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let gate = Gate::new();
        let (pass, entry) = (gate.clone(), log.clone());
        // `inner` is suspended when the priority comes, and is woken with it.
        let inner = client.spawn(async move {
            pass.pass().await;
            entry.add(1);
        });
        let (awaited, entry) = (inner.clone(), log.clone());
        let outer = client.spawn(async move {
            awaited.await.unwrap();
            entry.add(2);
        });
        turns(&client);
        let held = hold_worker(&client);
        let others = client.map(note(&log), 10..20);
        let entry = log.clone();
        let urgent = client.task().priority(5).submit(async move |(): ()| entry.add(3), &outer);
        gate.open();
        held.let_go();
        finish(others);
        finish(vec![inner, outer, urgent]);
        assert_eq!(log.all(), [1, 2, 3].into_iter().chain(10..20).collect::<Vec<_>>());
    });
}

#[test]
fn gathered_tasks_inherit() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let held = hold_worker(&client);
        let others = client.map(note(&log), 10..20);
        let low = client.task().priority(-1).map(note(&log), 1..5);
        let inner = low.clone();
        let urgent = client.task().priority(5).spawn(async move {
            gather(inner).await.unwrap();
        });
        held.let_go();
        finish(others);
        urgent.result().unwrap();
        finish(low);
        assert_eq!(log.all(), (1..5).chain(10..20).collect::<Vec<_>>());
    });
}

/// A way to wait for a task inside another.
type Wait = fn(Client, Handle<()>) -> BoxFuture<'static, ()>;

const WAITS: [(&str, Wait); 13] = [
    ("await", |_, x| async move { x.await.unwrap() }.boxed()),
    ("get_ref", |_, x| async move { _ = x.get_ref().await.unwrap() }.boxed()),
    ("gather", |_, x| async move { _ = gather([x]).await.unwrap() }.boxed()),
    ("gather_settled", |_, x| async move { _ = gather_settled([x]).await }.boxed()),
    ("as_completed", |_, x| async move { _ = as_completed([x]).next().await }.boxed()),
    ("add", |client, x| {
        async move {
            let mut all = as_completed([client.spawn(async {})]);
            _ = all.next().await;
            all.add(x);
            _ = all.next().await;
        }
        .boxed()
    }),
    ("next_batch", |_, x| async move { _ = as_completed([x]).next_batch().await }.boxed()),
    ("with_results", |_, x| {
        async move { _ = as_completed([x]).with_results().next().await }.boxed()
    }),
    ("wait_all", |_, x| async move { _ = wait_all([x]).await }.boxed()),
    ("wait_any", |_, x| async move { _ = wait_any([x]).await }.boxed()),
    ("map_stream", |client, x| {
        async move {
            let low = client.task().priority(-1);
            low.map_stream(stream::iter([x]), 1, async |()| ()).next().await.unwrap().unwrap();
        }
        .boxed()
    }),
    ("select", |client, x| {
        async move {
            let never = client.spawn(pending::<()>());
            select(never, as_completed([x]).next()).await;
        }
        .boxed()
    }),
    ("FuturesUnordered", |_, x| {
        async move { _ = FuturesUnordered::from_iter([x]).next().await }.boxed()
    }),
];

#[test]
fn every_wait_lends_its_priority() {
    bounded(|| {
        for (name, wait) in WAITS {
            let client = client_of(1);
            let log = Log::new();
            let held = hold_worker(&client);
            let low = client.task().priority(-1).submit(note(&log), 1);
            let others = client.map(note(&log), 10..20);
            let urgent = client.task().priority(5).spawn(wait(client.clone(), low.clone()));
            held.let_go();
            finish(others);
            finish(vec![low, urgent]);
            assert_eq!(log.all()[0], 1, "{name}");
        }
    });
}

#[test]
fn a_priority_goes_through_every_wait_that_began_before() {
    bounded(|| {
        for (name, wait) in WAITS {
            let client = client_of(1);
            let log = Log::new();
            let (gate, entry) = (Gate::new(), log.clone());
            let pass = gate.clone();
            let inner = client.spawn(async move {
                pass.pass().await;
                entry.add(1);
            });
            // In the middle, to be reached through two waits.
            let middle = client.spawn(wait(client.clone(), inner.clone()));
            let outer = client.spawn(wait(client.clone(), middle.clone()));
            turns(&client);
            let held = hold_worker(&client);
            let others = client.map(note(&log), 10..20);
            let urgent = client.task().priority(5).spawn(wait(client.clone(), outer.clone()));
            // Once all have been polled with the new priority.
            let opens = client.task().priority(4).spawn(async move { gate.open() });
            held.let_go();
            finish(others);
            finish(vec![inner, middle, outer, urgent, opens]);
            assert_eq!(log.all()[0], 1, "{name}");
        }
    });
}

#[test]
fn a_task_that_waits_for_a_limit_lends_its_priority_to_its_holders() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("one", 1).limit("two", 2).build();
        let log = Log::new();
        // Holders in the states in which a task can be: suspended, in a queue, or waiting for others.
        let gate = Gate::new();
        let (pass, entry) = (gate.clone(), log.clone());
        let low = client.task().priority(-2);
        let first = low.acquire("one").spawn(async move {
            pass.pass().await;
            entry.add(1);
        });
        let (pass, entry) = (gate.clone(), log.clone());
        let inner = client.task().priority(-3).spawn(async move {
            pass.pass().await;
            entry.add(2);
        });
        let awaited = inner.clone();
        let second = client.task().priority(-2).acquire_many("two", 2).spawn(async move {
            awaited.await.unwrap();
        });
        client.task().priority(-9).submit(inc, 1).result().unwrap();
        let held = hold_worker(&client);
        let others = client.map(note(&log), 10..20);
        let both = client.task().priority(5).acquire("one").acquire("two");
        let entry = log.clone();
        let urgent = both.spawn(async move { entry.add(3) });
        // Once all have been polled with the new priority.
        let opens = client.task().priority(4).spawn(async move { gate.open() });
        held.let_go();
        finish(others);
        finish(vec![first, inner, second, urgent, opens]);
        let log = log.all();
        assert!([[1, 2, 3], [2, 1, 3]].contains(&[log[0], log[1], log[2]]), "{log:?}");
    });
}

#[test]
fn a_task_keeps_its_priority_when_it_is_woken() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let held = hold_worker(&client);
        let entry = log.clone();
        let high = client.task().priority(1).spawn(async move {
            for n in 0..3 {
                entry.add(n);
                yield_now().await;
            }
        });
        let entry = log.clone();
        let low = client.task().priority(-1).spawn(async move {
            for n in 20..23 {
                entry.add(n);
                yield_now().await;
            }
        });
        let middle = client.map(note(&log), 10..13);
        held.let_go();
        finish(vec![high, low]);
        finish(middle);
        assert_eq!(log.all(), [0, 1, 2, 10, 11, 12, 20, 21, 22]);
    });
}

#[test]
fn a_dependent_made_ready_does_not_start_before_a_higher_priority() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let held = hold_worker(&client);
        let inner = client.clone();
        let (entry, urgent) = (log.clone(), note(&log));
        let x = client.submit(
            async move || {
                entry.add(0);
                inner.task().priority(1).submit(urgent, 1).detach();
            },
            (),
        );
        let entry = log.clone();
        let y = client.submit(async move |(): ()| entry.add(2), x);
        held.let_go();
        y.result().unwrap();
        assert_eq!(log.all(), [0, 1, 2]);
    });
}

#[test]
fn priorities_with_two_workers_and_many_threads_lose_nothing() {
    bounded(|| {
        let client = client_of(2);
        let ran = Count::new();
        let threads: Vec<_> = (0..3)
            .map(|seed| {
                let (client, ran) = (client.clone(), ran.clone());
                thread::spawn(move || {
                    let mut random = fastrand_like(seed);
                    let mut xs = vec![client.ready(0u64)];
                    for _ in 0..3000 {
                        let input = &xs[random() as usize % xs.len()];
                        let run = ran.clone();
                        let f = async move |x: u64| {
                            run.add();
                            if x % 3 == 0 {
                                yield_now().await;
                            }
                            x + 1
                        };
                        let x = client.task().priority(random() as i32 % 5 - 2).submit(f, input);
                        xs.push(x);
                    }
                    assert!(block_on(wait_all(&xs)).pending.is_empty());
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(ran.get(), 9000);
        eventually("nothing is left", || client.tasks_in_memory() == 0);
    });
}

/// Pseudo-random numbers, the same for the same seed.
fn fastrand_like(seed: u64) -> impl FnMut() -> u32 {
    let mut state = seed * 2 + 1;
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u32
    }
}

#[test]
fn a_task_is_not_run_twice_for_a_raised_priority() {
    bounded(|| {
        let client = client_of(2);
        for _ in 0..500 {
            let runs = Count::new();
            let run = runs.clone();
            let x = client.submit(async move || run.add(), ());
            let ys: Vec<_> =
                (1..5).map(|p| client.task().priority(p).submit(async |_: usize| (), &x)).collect();
            finish(ys);
            assert_eq!(runs.get(), 1);
        }
    });
}

#[test]
fn a_worker_prefers_priority_to_depth() {
    bounded(|| {
        let client = client_of(1);
        let (send, order) = mpsc::channel();
        let held = hold_worker(&client);
        let mut last = client.submit(inc, 0);
        for n in 0..10 {
            let send = send.clone();
            let step = async move |x: u64| {
                send.send(n).unwrap();
                x
            };
            last = client.task().priority(n).submit(step, last);
        }
        let send = send.clone();
        let other = client.task().priority(5).submit(async move || send.send(100).unwrap(), ());
        held.let_go();
        finish(vec![other]);
        last.result().unwrap();
        // The whole chain inherits the priority of its last task, which is above the other's.
        let order: Vec<_> = order.try_iter().collect();
        assert_eq!(order, (0..10).chain([100]).collect::<Vec<_>>());
    });
}

#[test]
fn a_task_raised_to_zero_is_queued_once_while_closing() {
    bounded(|| {
        let client = client_of(0);
        let low = client.task().priority(-1).spawn(async {
            for _ in 0..1000 {
                yield_now().await;
            }
            7
        });
        let mut worker = client.worker();
        // It has started, and is queued again when the poll ends.
        assert!(poll_once(&mut worker).is_pending());
        // This puts it into a second queue.
        let dependent = client.submit(inc, &low);
        let mut close = Box::pin(client.close());
        assert!(poll_once(&mut close).is_pending());
        block_on(worker);
        block_on(close);
        assert_eq!(low.result().unwrap(), 7);
        assert_eq!(dependent.result().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(client.tasks_in_memory(), 2);
    });
}

#[test]
fn a_task_raised_to_zero_is_not_starved_by_others_at_zero() {
    bounded(|| {
        let client = client_of(1);
        let stop = Gate::new();
        let loops: Vec<_> = (0..3)
            .map(|_| {
                let stop = stop.clone();
                client.spawn(async move {
                    while !stop.is_open() {
                        yield_now().await;
                    }
                })
            })
            .collect();
        let low = client.task().priority(-1).submit(inc, 0);
        assert_eq!(client.submit(inc, &low).result().unwrap(), 2);
        stop.open();
        finish(loops);
    });
}

#[test]
fn a_dependent_in_a_workers_slot_does_not_wait_for_an_urgent_task() {
    bounded(|| {
        for _ in 0..10 {
            let client = Client::builder().workers(2).name("order-kept").build();
            let gate = Gate::new();
            let inner = gate.clone();
            let first = client.spawn(async move { inner.pass().await });
            let plain = client.submit(async |()| (), &first);
            let (end, ended) = mpsc::channel();
            plain.on_done(move |_| {
                let _ = end.send(());
            });
            let urgent = client.task().priority(1).submit(
                // It keeps its worker busy until the other task has ended.
                async move |()| ended.recv_timeout(Duration::from_secs(60)).is_ok(),
                &first,
            );
            eventually("the first is polled", || first.status() == Status::Running);
            until_asleep("order-kept", 2);
            gate.open();
            assert!(urgent.result().unwrap(), "the other waited for it to end");
            plain.result().unwrap();
        }
    });
}

#[test]
fn the_dependents_of_one_task_start_in_order_beside_other_waiters() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Beside {
        Nothing,
        Handle,
        Urgent,
    }
    bounded(|| {
        for beside in [Beside::Nothing, Beside::Handle, Beside::Urgent] {
            let client = client_of(1);
            let held = hold_worker(&client);
            // Enough for one of them to be at the end of the worker's turn.
            let logs: Vec<_> = (0..100).map(|_| Log::new()).collect();
            let mut waiting = Vec::new();
            for log in &logs {
                let first = client.submit(async || 1, ());
                for (n, priority) in [(0, 0), (1, 0), (2, 0), (3, 0), (100, 1)] {
                    if priority == 0 || beside == Beside::Urgent {
                        let log = log.clone();
                        let task = client.task().priority(priority);
                        task.submit(async move |_: i32| log.add(n), &first).detach();
                    }
                }
                if beside == Beside::Handle {
                    waiting.push(first);
                    assert!(waiting.last_mut().is_some_and(|first| poll_once(first).is_pending()));
                } else {
                    first.detach();
                }
            }
            held.let_go();
            block_on(client.idle());
            for log in logs {
                let order: Vec<_> = log.all().into_iter().filter(|n| *n < 4).collect();
                assert_eq!(order, [0, 1, 2, 3], "{beside:?}");
            }
        }
    });
}
