//! Fork and join inside of tasks (promise 24).

use std::cell::Cell;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use ensue::{Client, ErrorKind, Retry, join, map_reduce};
use futures::executor::block_on;
use support::hold::{Gate, hold_worker};
use support::{bounded, client_of, eventually};

/// Runs joins until the condition holds: the points at which a thread offers its forks, and sees that its task was cancelled.
fn join_until(condition: impl Fn() -> bool) {
    while !condition() {
        join(|| (), || ());
    }
}

#[derive(Clone, Default)]
struct Flag(Arc<AtomicBool>);

impl Flag {
    fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Blocks the thread.
    fn wait(&self) {
        while !self.is_set() {
            thread::yield_now();
        }
    }
}

/// Calls the function when it's dropped.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn this_thread() -> ThreadId {
    thread::current().id()
}

fn fibonacci(n: u32) -> u64 {
    if n < 2 {
        return u64::from(n);
    }
    let (a, b) = join(|| fibonacci(n - 1), || fibonacci(n - 2));
    a + b
}

/// Joins of two, of which another thread has begun the second when the first one calls `a`.
fn join_apart<A, B>(a: impl FnOnce() -> A, b: impl FnOnce() -> B + Send) -> (A, B)
where
    B: Send,
{
    let begun = Flag::default();
    let caller = this_thread();
    join(
        || {
            join_until(|| begun.is_set());
            a()
        },
        || {
            assert_ne!(this_thread(), caller);
            begun.set();
            b()
        },
    )
}

// Results.

#[test]
fn both_results_are_returned_wherever_it_runs() {
    bounded(|| {
        let sum = || fibonacci(15);
        assert_eq!(sum(), 610);
        for workers in [1, 2, 5] {
            let client = client_of(workers);
            assert_eq!(client.submit(async move || sum(), ()).result().unwrap(), 610);
            assert_eq!(client.submit_blocking(sum, ()).result().unwrap(), 610);
            let many = client.map(async move |n| fibonacci(n), 0..20);
            let many: Vec<_> = many.into_iter().map(|handle| handle.result().unwrap()).collect();
            assert_eq!(many, (0..20).map(fibonacci).collect::<Vec<_>>());
        }
        let seeded = Client::builder().seed(1).build();
        assert_eq!(seeded.submit(async move || sum(), ()).result().unwrap(), 610);
        assert_eq!(seeded.submit_blocking(sum, ()).result().unwrap(), 610);
    });
}

#[test]
fn functions_borrow_from_the_stack_and_may_change_it() {
    bounded(|| {
        fn sort(items: &mut [u64]) {
            if items.len() < 2 {
                return;
            }
            let pivot = items[items.len() / 2];
            let mut parted: Vec<_> = items.iter().copied().filter(|x| *x < pivot).collect();
            let low = parted.len();
            parted.extend(items.iter().filter(|x| **x == pivot));
            let high = parted.len();
            parted.extend(items.iter().filter(|x| **x > pivot));
            items.copy_from_slice(&parted);
            let (left, right) = items.split_at_mut(high);
            join(|| sort(&mut left[..low]), || sort(right));
        }
        let client = client_of(3);
        let sorted = client.submit(
            async |mut items: Vec<u64>| {
                sort(&mut items);
                items
            },
            (0..20_000).map(|i| i * 7919 % 20_011).collect::<Vec<u64>>(),
        );
        assert!(sorted.result().unwrap().is_sorted());
    });
}

#[test]
fn a_result_may_own_and_the_functions_are_dropped_once() {
    bounded(|| {
        let client = client_of(2);
        let live = Arc::new(());
        let count = live.clone();
        let task = client.submit(
            async move || {
                let (a, b) = (count.clone(), count.clone());
                let apart = join_apart(move || vec![a], move || vec![b]);
                let (a, b) = (count.clone(), count.clone());
                let near = join(move || vec![a], move || vec![b]);
                (apart, near)
            },
            (),
        );
        drop(block_on(task).unwrap());
        eventually("all is dropped", || Arc::strong_count(&live) == 1);
    });
}

// Where it runs.

#[test]
fn an_idle_worker_runs_the_second_function() {
    bounded(|| {
        let client = client_of(2);
        let threads = client.submit(async || join_apart(this_thread, this_thread), ());
        let (a, b) = threads.result().unwrap();
        assert_ne!(a, b);
    });
}

#[test]
fn a_worker_runs_the_second_function_of_blocking_work() {
    bounded(|| {
        let client = client_of(1);
        let names = || thread::current().name().unwrap_or_default().to_owned();
        let (a, b) = client.submit_blocking(move || join_apart(names, names), ()).result().unwrap();
        assert!(a.contains("blocking") && !b.contains("blocking"), "{a} {b}");
    });
}

#[test]
fn workers_on_other_runtimes_help_each_other() {
    bounded(|| {
        let client = client_of(0);
        let hosts: Vec<_> = (0..2)
            .map(|_| {
                let worker = client.worker();
                thread::spawn(move || block_on(worker))
            })
            .collect();
        eventually("both are polled", || client.workers() == 2);
        let task = client.submit(async || join_apart(this_thread, this_thread), ());
        let (a, b) = task.result().unwrap();
        assert_ne!(a, b);
        block_on(client.close());
        hosts.into_iter().for_each(|host| host.join().unwrap());
    });
}

#[test]
fn both_run_in_order_on_this_thread_outside_of_tasks_and_on_one_worker() {
    bounded(|| {
        let in_order = || {
            let log = Mutex::new(Vec::new());
            let note = |what| log.lock().unwrap().push((what, this_thread()));
            join(
                || {
                    join(|| note(1), || note(2));
                },
                || {
                    join(|| note(3), || note(4));
                },
            );
            let log = log.into_inner().unwrap();
            assert_eq!(log, [1, 2, 3, 4].map(|what| (what, this_thread())));
        };
        in_order();
        client_of(1).submit(async move || in_order(), ()).result().unwrap();
        let seeded = Client::builder().seed(3).build();
        seeded.submit(async move || in_order(), ()).result().unwrap();
        seeded.submit_blocking(in_order, ()).result().unwrap();
    });
}

#[test]
fn each_worker_that_has_nothing_to_do_gets_a_part() {
    bounded(|| {
        fn all_at_once(levels: u32, arrived: &AtomicUsize, threads: &Mutex<HashSet<ThreadId>>) {
            if levels == 0 {
                arrived.fetch_add(1, Ordering::SeqCst);
                // Each of four leaves waits for the others: none could end on one thread.
                join_until(|| arrived.load(Ordering::SeqCst) == 4);
                threads.lock().unwrap().insert(this_thread());
                return;
            }
            let part = || all_at_once(levels - 1, arrived, threads);
            join(part, part);
        }
        let client = client_of(4);
        let task = client.submit(
            async || {
                let (arrived, threads) = (AtomicUsize::new(0), Mutex::default());
                all_at_once(2, &arrived, &threads);
                threads.into_inner().unwrap().len()
            },
            (),
        );
        assert_eq!(task.result().unwrap(), 4);
    });
}

#[test]
fn a_thread_that_waits_runs_other_branches_of_its_task() {
    bounded(|| {
        let client = client_of(2);
        let task = client.submit(
            async || {
                let caller = this_thread();
                let (begun, helped) = (Flag::default(), Flag::default());
                join(
                    || join_until(|| begun.is_set()),
                    || {
                        begun.set();
                        // The caller waits for this, and takes the inner one.
                        join(
                            || join_until(|| helped.is_set()),
                            || {
                                assert_eq!(this_thread(), caller);
                                helped.set();
                            },
                        );
                    },
                );
            },
            (),
        );
        task.result().unwrap();
    });
}

#[test]
fn other_tasks_go_on_during_a_join() {
    bounded(|| {
        let client = client_of(2);
        let others = Flag::default();
        let seen = others.clone();
        let computing = client.submit(async move || join_until(|| seen.is_set()), ());
        for i in 0..1000u64 {
            assert_eq!(client.submit(async |i| i + 1, i).result().unwrap(), i + 1);
        }
        others.set();
        computing.result().unwrap();
    });
}

#[test]
fn busy_workers_take_a_branch_now_and_then() {
    bounded(|| {
        let client = client_of(2);
        let done = Flag::default();
        // More tasks than workers, each of which is always ready, but in the poll between two yields.
        let busy: Vec<_> = (0..10)
            .map(|_| {
                let done = done.clone();
                client.spawn(async move {
                    while !done.is_set() {
                        smol::future::yield_now().await;
                    }
                })
            })
            .collect();
        client.submit(async || join_apart(|| (), || ()), ()).result().unwrap();
        done.set();
        busy.into_iter().for_each(|task| task.result().unwrap());
    });
}

#[test]
fn tasks_are_run_between_branches() {
    bounded(|| {
        // One computes on its own; the other one is kept from its tasks by branches alone.
        let client = client_of(2);
        let stop = Flag::default();
        let seen = stop.clone();
        let computing = client.submit(
            async move || {
                while !seen.is_set() {
                    fibonacci(18);
                }
            },
            (),
        );
        let tasks = client.map(async |i: u64| i, 0..5000);
        let sum: u64 = tasks.into_iter().map(|task| task.result().unwrap()).sum();
        assert_eq!(sum, 5000 * 4999 / 2);
        stop.set();
        computing.result().unwrap();
    });
}

#[test]
fn deep_recursions_are_spread() {
    bounded(|| {
        fn line(n: u64) -> u64 {
            if n == 0 {
                return 0;
            }
            let (rest, one) = join(|| line(n - 1), || 1);
            rest + one
        }
        let client = Client::builder().workers(4).stack_size(64 << 20).build();
        let lines = client.map(async |n| line(n), [10_000u64; 20]);
        assert!(lines.into_iter().all(|line| line.result().unwrap() == 10_000));
    });
}

// What the functions see.

#[test]
fn a_branch_on_another_worker_belongs_to_its_task() {
    bounded(|| {
        let client = client_of(2);
        let other = client.submit(async || 3, ());
        other.result().unwrap();
        let task = client.submit(
            async move || {
                let see = |key: &'static str| {
                    let client = Client::current().expect("a client");
                    let child = client.task().key(key).submit(async || 7, ());
                    let refused = other.result().unwrap_err().kind();
                    (ensue::is_cancelled(), refused, child)
                };
                join_apart(|| see("a"), || see("b"))
            },
            (),
        );
        let (a, b) = task.result().unwrap();
        for (key, (is_cancelled, refused, child)) in [("a", a), ("b", b)] {
            assert_eq!((is_cancelled, refused), (false, ErrorKind::Blocking));
            assert_eq!(client.get::<i32>(key).expect("a task of this client"), child);
            assert_eq!(child.result().unwrap(), 7);
        }
    });
}

#[test]
fn a_branch_sees_that_its_task_is_cancelled() {
    bounded(|| {
        for is_blocking in [false, true] {
            let client = client_of(2);
            let (begun, seen) = (Flag::default(), Flag::default());
            let body = {
                let (begun, seen) = (begun.clone(), seen.clone());
                move || {
                    join_apart(
                        || (),
                        || {
                            begun.set();
                            while !ensue::is_cancelled() {
                                thread::yield_now();
                            }
                            seen.set();
                        },
                    );
                }
            };
            let task = match is_blocking {
                true => client.submit_blocking(body, ()),
                false => client.submit(async move || body(), ()),
            };
            begun.wait();
            assert!(task.cancel());
            seen.wait();
        }
    });
}

// Panics.

#[derive(Debug, PartialEq)]
struct Payload(u32);

/// The payload of the panic of `code`.
fn payload<R>(code: impl FnOnce() -> R) -> Option<u32> {
    let caught = catch_unwind(AssertUnwindSafe(code)).err()?;
    Some(caught.downcast::<Payload>().expect("the payload of this test").0)
}

fn raise(n: u32) {
    resume_unwind(Box::new(Payload(n)));
}

#[test]
fn the_payload_of_a_panic_is_resumed() {
    bounded(|| {
        let check = || {
            assert_eq!(payload(|| join(|| raise(1), || ())), Some(1));
            assert_eq!(payload(|| join(|| (), || raise(2))), Some(2));
            assert_eq!(payload(|| join(|| raise(1), || raise(2))), Some(1));
        };
        check();
        client_of(1).submit(async move || check(), ()).result().unwrap();
        let client = client_of(2);
        let apart = || {
            assert_eq!(payload(|| join_apart(|| raise(1), || ())), Some(1));
            assert_eq!(payload(|| join_apart(|| (), || raise(2))), Some(2));
            assert_eq!(payload(|| join_apart(|| raise(1), || raise(2))), Some(1));
            assert_eq!(fibonacci(10), 55);
        };
        client.submit(async move || apart(), ()).result().unwrap();
        client.submit_blocking(apart, ()).result().unwrap();
    });
}

#[test]
fn a_panic_is_the_error_of_the_task() {
    bounded(|| {
        let client = client_of(2);
        let task = client.submit(
            async || {
                join_apart(|| (), || panic_any("the branch's panic"));
            },
            (),
        );
        let error = task.result().unwrap_err();
        assert!(error.is_panic() && error.to_string().contains("the branch's panic"), "{error}");
        // Known to the thread that ran the branch.
        assert!(error.panicked_at().unwrap().starts_with(file!()), "{error}");
    });
}

#[test]
fn a_panic_waits_for_a_branch_that_has_begun_and_drops_one_that_has_not() {
    bounded(|| {
        let client = client_of(2);
        let task = client.submit(
            async || {
                let data = vec![1u64, 2, 3];
                let (panics, ended) = (Flag::default(), Cell::new(false));
                let by = Flag::default();
                let first = || {
                    let _panics = OnDrop(|| panics.set());
                    raise(1);
                };
                let second = || {
                    panics.wait();
                    // Time for the caller to go on, if it would.
                    thread::sleep(Duration::from_millis(20));
                    assert_eq!(data.iter().sum::<u64>(), 6);
                    by.set();
                };
                assert_eq!(payload(|| join_apart(first, second)), Some(1));
                ended.set(by.is_set());
                drop(data);
                ended.get()
            },
            (),
        );
        assert!(task.result().unwrap());
        let one = client_of(1);
        let dropped = Arc::new(());
        let count = dropped.clone();
        let task = one.submit(
            async move || {
                let moved = count;
                payload(|| {
                    join(
                        || raise(1),
                        move || {
                            drop(moved);
                            unreachable!("it's dropped");
                        },
                    )
                })
            },
            (),
        );
        assert_eq!(block_on(task).unwrap(), Some(1));
        eventually("the function is dropped", || Arc::strong_count(&dropped) == 1);
    });
}

// Cancellation.

/// A task that computes until it's unwound, and what it tells of that.
struct Computing {
    begun: Flag,
    dropped: Flag,
    caught: Arc<AtomicUsize>,
}

impl Computing {
    fn new() -> Self {
        Self { begun: Flag::default(), dropped: Flag::default(), caught: Arc::default() }
    }

    /// A body that never returns, with branches on other workers where there are any.
    fn body(&self, workers: usize) -> impl FnOnce() + Send + 'static {
        let (begun, dropped, caught) =
            (self.begun.clone(), self.dropped.clone(), self.caught.clone());
        let dropped = OnDrop(move || dropped.set());
        move || {
            let _dropped = dropped;
            let data = vec![1u64; 100];
            let compute = || {
                loop {
                    let sum = map_reduce(&data, |x| *x, |a, b| a + b);
                    assert_eq!(sum, Some(100));
                    begun.set();
                }
            };
            let catches = || {
                // It goes on after the first.
                let again = catch_unwind(AssertUnwindSafe(compute));
                assert!(again.is_err());
                caught.fetch_add(1, Ordering::SeqCst);
                compute();
            };
            if workers > 1 {
                join_apart(compute, catches)
            } else {
                join(catches, compute)
            };
        }
    }
}

#[test]
fn a_cancelled_or_dropped_task_unwinds_at_a_join() {
    bounded(|| {
        for workers in [1, 2, 3] {
            for drops in [false, true] {
                let client = Client::builder()
                    .workers(workers)
                    .on_unobserved(|error| panic!("unobserved: {error}"))
                    .build();
                let computing = Computing::new();
                let body = computing.body(workers);
                let task = client.submit(async move || body(), ());
                computing.begun.wait();
                if drops {
                    drop(task);
                } else {
                    assert!(task.cancel());
                    assert_eq!(task.result().unwrap_err().kind(), ErrorKind::Cancelled);
                }
                computing.dropped.wait();
                assert_eq!(computing.caught.load(Ordering::SeqCst), 1);
                block_on(client.close());
            }
        }
    });
}

#[test]
fn blocking_work_unwinds_at_a_join_when_it_is_cancelled_or_late() {
    bounded(|| {
        for is_late in [false, true] {
            let client = client_of(2);
            let computing = Computing::new();
            let options = client.task();
            let options =
                if is_late { options.timeout(Duration::from_millis(20)) } else { options };
            let task = options.submit_blocking(computing.body(2), ());
            // If it's late, it may not even have begun.
            if !is_late {
                computing.begun.wait();
                assert!(task.cancel());
            }
            computing.dropped.wait();
            let error = task.result().unwrap_err();
            let expected = if is_late { ErrorKind::TimedOut } else { ErrorKind::Cancelled };
            assert_eq!(error.kind(), expected);
        }
    });
}

#[test]
fn dropping_the_client_unwinds_a_join() {
    bounded(|| {
        let client = client_of(2);
        let computing = Computing::new();
        let body = computing.body(2);
        let task = client.submit(async move || body(), ());
        computing.begun.wait();
        drop(client);
        computing.dropped.wait();
        assert_eq!(task.result().unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn closing_lets_a_join_end() {
    bounded(|| {
        let client = client_of(2);
        let (begun, close) = (Flag::default(), Flag::default());
        let (is_begun, may_end) = (begun.clone(), close.clone());
        let task = client.submit(
            async move || {
                is_begun.set();
                join_until(|| may_end.is_set());
                fibonacci(15)
            },
            (),
        );
        begun.wait();
        let mut closing = Box::pin(client.close());
        assert!(support::poll_once(&mut closing).is_pending());
        close.set();
        block_on(closing);
        assert_eq!(task.result().unwrap(), 610);
    });
}

#[test]
fn a_task_that_unwinds_is_not_tried_again() {
    bounded(|| {
        for limited in [false, true] {
            let client = Client::builder().workers(2).limit("one", 1).build();
            let computing = Computing::new();
            let asked = Flag::default();
            let ask = asked.clone();
            let retry = Retry::new(3).when(move |_| {
                ask.set();
                true
            });
            let options = client.task().retries(retry);
            let options = if limited { options.acquire("one") } else { options };
            let body = Mutex::new(Some(computing.body(2)));
            let body = Arc::new(body);
            let task = options.submit(
                async move || {
                    let body = body.lock().unwrap().take().expect("one attempt");
                    body();
                },
                (),
            );
            computing.begun.wait();
            assert!(task.cancel());
            computing.dropped.wait();
            // The limit is free again.
            client.task().acquire("one").submit(async || (), ()).result().unwrap();
            assert!(!asked.is_set());
        }
    });
}

#[test]
fn a_seeded_task_that_cancels_itself_unwinds_at_its_next_join() {
    bounded(|| {
        let client = Client::builder().seed(5).build();
        let joined = Flag::default();
        let (seen, gate) = (joined.clone(), Gate::new());
        let pass = gate.clone();
        let inner = client.clone();
        let task = client.task().key("self").submit(
            async move || {
                pass.pass().await;
                let this = inner.get::<()>("self").expect("this task");
                join(|| this.cancel(), || ());
                join(|| (), || ());
                seen.set();
            },
            (),
        );
        gate.open();
        assert_eq!(task.result().unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(!joined.is_set());
    });
}

// Everything at once.

#[test]
fn random_trees_end_right_whatever_panics_or_is_cancelled() {
    bounded(|| {
        /// Counts what exists of its kind.
        struct Counted<'a>(&'a AtomicUsize);
        impl<'a> Counted<'a> {
            fn new(count: &'a AtomicUsize) -> Self {
                count.fetch_add(1, Ordering::SeqCst);
                Self(count)
            }
        }
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }

        /// A tree whose shape depends on its number; some nodes panic.
        fn tree<'a>(number: u64, levels: u32, live: &'a AtomicUsize) -> (u64, Counted<'a>) {
            let local = [number; 8];
            let here = Counted::new(live);
            if number % 1777 == 1776 {
                raise(number as u32);
            }
            if levels == 0 || number % 11 == 3 {
                return (1, here);
            }
            let child = |n| number.wrapping_mul(6_364_136_223_846_793_005).rotate_left(17) ^ n;
            let (a, b) = join(
                || tree(child(1) % 100_000, levels - 1, live),
                || tree(child(2) % 100_000, levels - 1, live),
            );
            assert_eq!(local, [number; 8]);
            drop(here);
            (a.0 + b.0, Counted::new(live))
        }

        let client = client_of(4);
        for round in 0..60 {
            let live = Arc::new(AtomicUsize::new(0));
            let tasks: Vec<_> = (0..4)
                .map(|n| {
                    let live = live.clone();
                    let number = round * 4 + n;
                    let code = move || payload(|| tree(number, 12, &live).0);
                    if n == 3 {
                        client.submit_blocking(code, ())
                    } else {
                        client.submit(async move || code(), ())
                    }
                })
                .collect();
            if round % 3 == 0 {
                tasks[(round % 4) as usize].cancel();
            }
            for task in tasks {
                let _ = task.result();
            }
            eventually("nothing is left", || live.load(Ordering::SeqCst) == 0);
        }
        let held = hold_worker(&client);
        assert_eq!(client.submit(async || fibonacci(12), ()).result().unwrap(), 144);
        held.let_go();
    });
}

// Loops.

#[test]
fn loops_go_over_ranges_and_slices_in_order() {
    bounded(|| {
        let check = || {
            let list = |from: i64, to| map_reduce(from..to, |i| vec![i], |a, b| [a, b].concat());
            assert_eq!(list(0, 0), None);
            assert_eq!(list(3, -3), None);
            assert_eq!(list(-3, 100), Some((-3..100).collect()));
            let ends = map_reduce(i8::MIN..i8::MAX, |i| (i, i, 1), |a, b| (a.0, b.1, a.2 + b.2));
            assert_eq!(ends, Some((i8::MIN, i8::MAX - 1, 255)));
            let mut data = vec![1u32; 1000];
            map_reduce(&mut data, |x| *x += 1, |(), ()| ());
            assert_eq!(map_reduce(&data, |x| *x, |a, b| a + b), Some(2000));
            assert_eq!(map_reduce(&[2, 3], |x| *x, |a, b| a * b), Some(6));
            let shape = map_reduce(0..5, |i: u8| i.to_string(), |a, b| format!("({a}, {b})"));
            assert_eq!(shape.unwrap(), "((0, 1), (2, (3, 4)))");
        };
        check();
        client_of(3).submit(async move || check(), ()).result().unwrap();
    });
}

#[test]
fn a_sum_of_floats_is_the_same_on_any_number_of_threads() {
    bounded(|| {
        let sum = || map_reduce(1..100_000u32, |i| 1.0 / f64::from(i), |a, b| a + b).unwrap();
        let here = sum();
        for workers in 1..4 {
            let there = client_of(workers).submit(async move || sum(), ()).result().unwrap();
            assert_eq!(there.to_bits(), here.to_bits());
        }
    });
}
