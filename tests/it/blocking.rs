//! Blocking: work that blocks, its threads, and blocking on results (promises 3, 15 and 20).

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use ensue::{Client, ErrorKind, Handle, Reason, Retry, gather};
use futures::executor::block_on;
use support::hold::Gate;
use support::observe::{Count, Log};
use support::{bounded, client_of, drive, eventually, poll_once};

async fn inc(x: u64) -> u64 {
    x + 1
}

#[test]
fn result_inside_a_task_is_refused_with_advice() {
    bounded(|| {
        let client = client_of(2);
        let x = client.spawn(std::future::pending::<u64>());
        let inner = x.clone();
        let y = client.spawn(async move { inner.result() });
        let error = y.result().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Blocking);
        let text = error.to_string();
        assert!(text.contains("await") && text.contains(x.key().as_str()), "{text}");
        assert_eq!(error.origin(), x.key());
        assert!(!x.is_finished(), "nothing has happened to it");
    });
}

#[test]
fn result_is_refused_for_other_clients_and_finished_tasks_too() {
    bounded(|| {
        let (one, two) = (client_of(1), client_of(1));
        let done = two.submit(inc, 1);
        done.result().unwrap();
        let x = one.spawn(async move { (done.result(), done.try_get()) });
        let (result, value) = x.result().unwrap();
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Blocking);
        assert_eq!(value.unwrap().unwrap(), 2, "it doesn't wait");
    });
}

#[test]
fn result_is_refused_where_a_worker_is_driven_by_hand() {
    bounded(|| {
        let client = client_of(0);
        let x = client.submit(inc, 1);
        let inner = x.clone();
        let y = client.spawn(async move { inner.result() });
        let result = drive(&client, y).unwrap();
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Blocking);
        drive(&client, x).unwrap();
    });
}

#[test]
fn a_blocking_closure_may_wait_for_results() {
    bounded(|| {
        let client = client_of(1);
        let inner = client.clone();
        let x = client.submit_blocking(
            move || {
                let xs = inner.map(inc, 0..10u64);
                let by_current = Client::current().unwrap().submit(inc, 100).result().unwrap();
                xs.iter().map(|x| x.result().unwrap()).sum::<u64>() + by_current
            },
            (),
        );
        assert_eq!(x.result().unwrap(), 55 + 101);
    });
}

#[test]
fn blocking_closures_wait_for_each_other() {
    bounded(|| {
        fn down(client: Client, depth: u64) -> u64 {
            if depth == 0 {
                return 0;
            }
            let inner = client.clone();
            client.submit_blocking(move || down(inner, depth - 1), ()).result().unwrap() + 1
        }
        let client = client_of(1);
        let inner = client.clone();
        assert_eq!(client.submit_blocking(move || down(inner, 20), ()).result().unwrap(), 20);
    });
}

#[test]
fn a_blocking_closure_leaves_the_worker_free() {
    bounded(|| {
        let client = client_of(1);
        let gate = Gate::new();
        let blocked: Vec<_> = (0..4)
            .map(|n| {
                let pass = gate.clone();
                client.submit_blocking(
                    move || {
                        pass.pass_blocking();
                        n
                    },
                    (),
                )
            })
            .collect();
        assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
        assert!(blocked.iter().all(|x| !x.is_finished()));
        gate.open();
        assert_eq!(block_on(gather(blocked)).unwrap(), [0, 1, 2, 3]);
    });
}

#[test]
fn blocking_work_has_inputs_and_a_value_like_a_task() {
    bounded(|| {
        let client = client_of(1);
        let x = client.submit(inc, 1);
        let y = client.submit_blocking(|x: u64, z: u64| x * z, (&x, 21));
        assert_eq!(client.submit(inc, &y).result().unwrap(), 43);
        let failed = client.try_submit_blocking(|x: u64| Err::<u64, _>(format!("not {x}")), &x);
        let error = failed.result().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert_eq!(error.downcast_ref::<String>().unwrap(), "not 2");
        let panics = client.submit_blocking(|| -> u64 { panic!("with a message") }, ());
        let error = panics.result().unwrap_err();
        assert!(error.is_panic() && error.to_string().contains("with a message"), "{error}");
        let dependent = client.submit_blocking(|x: u64| x, &panics);
        assert_eq!(dependent.result().unwrap_err().origin(), panics.key());
    });
}

#[test]
fn a_panic_of_a_cancelled_closure_affects_nothing_else() {
    bounded(|| {
        let client = client_of(1);
        let (started, gate) = (Gate::new(), Gate::new());
        let (start, pass) = (started.clone(), gate.clone());
        let x = client.submit_blocking(
            move || {
                start.open();
                pass.pass_blocking();
                panic!("too late");
            },
            (),
        );
        let x: ensue::Handle<u64> = x;
        started.pass_blocking();
        assert!(x.cancel());
        gate.open();
        assert_eq!(client.submit_blocking(|| 1, ()).result().unwrap(), 1);
    });
}

#[test]
fn the_value_of_a_cancelled_closure_is_dropped() {
    bounded(|| {
        let client = client_of(1);
        let drops = Count::new();
        let (started, gate) = (Gate::new(), Gate::new());
        let (start, pass, value) = (started.clone(), gate.clone(), drops.on_drop());
        let x = client.submit_blocking(
            move || {
                start.open();
                pass.pass_blocking();
                Arc::new(value)
            },
            (),
        );
        started.pass_blocking();
        drop(x);
        assert_eq!(drops.get(), 0);
        gate.open();
        eventually("it's dropped", || drops.get() == 1);
        eventually("nothing is left", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn is_cancelled_is_about_the_calling_closure() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let gates: Vec<_> = (0..2).map(|_| (Gate::new(), Gate::new())).collect();
        let xs: Vec<_> = gates
            .iter()
            .zip(0..)
            .map(|((started, gate), n)| {
                let (start, pass, entry) = (started.clone(), gate.clone(), log.clone());
                client.submit_blocking(
                    move || {
                        start.open();
                        pass.pass_blocking();
                        entry.add((n, ensue::is_cancelled()));
                    },
                    (),
                )
            })
            .collect();
        for (started, _) in &gates {
            started.pass_blocking();
        }
        assert!(xs[0].cancel());
        eventually("it has ended", || xs[0].is_finished());
        for (_, gate) in &gates {
            gate.open();
        }
        xs[1].result().unwrap();
        eventually("both have asked", || log.len() == 2);
        assert!(
            log.all().contains(&(0, true)) && log.all().contains(&(1, false)),
            "{:?}",
            log.all()
        );
        assert!(!ensue::is_cancelled());
        assert!(!client.submit_blocking(ensue::is_cancelled, ()).result().unwrap());
    });
}

#[test]
fn without_workers_result_waits_until_a_worker_is_polled() {
    bounded(|| {
        let client = client_of(0);
        let x = client.submit(inc, 1);
        let waiter = {
            let x = x.clone();
            thread::spawn(move || x.result())
        };
        assert!(!waiter.is_finished() && !x.is_finished());
        let worker = client.worker();
        let driver = thread::spawn(move || block_on(worker));
        assert_eq!(waiter.join().unwrap().unwrap(), 2);
        block_on(client.close());
        driver.join().unwrap();
    });
}

#[test]
fn many_threads_wait_for_one_task() {
    bounded(|| {
        let client = client_of(1);
        let gate = Gate::new();
        let pass = gate.clone();
        let x = client.spawn(async move {
            pass.pass().await;
            7
        });
        let waiters: Vec<_> = (0..20)
            .map(|n| {
                let x = x.clone();
                thread::spawn(move || if n % 2 == 0 { x.result() } else { block_on(x) })
            })
            .collect();
        gate.open();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap().unwrap(), 7);
        }
    });
}

/// On a thread that has used a client, destructors of thread locals run before and after those of the client's own.
#[test]
fn destructors_of_thread_locals_may_use_a_client() {
    struct Probe(Client, Log<(u64, bool)>);
    impl Drop for Probe {
        fn drop(&mut self) {
            let Self(client, seen) = self;
            let x = client.submit(inc, 1);
            let blocking = client.submit_blocking(ensue::is_cancelled, ());
            assert!(!blocking.result().unwrap());
            let pending = client.spawn(std::future::pending::<()>());
            assert!(client.explain(&pending).key == pending.key() && pending.cancel());
            seen.add((x.result().unwrap(), ensue::is_cancelled()));
            let other = Client::builder().seed(7).build();
            assert_eq!(other.submit(inc, other.submit(inc, 1)).result().unwrap(), 3);
            assert!(!other.submit_blocking(ensue::is_cancelled, ()).result().unwrap());
        }
    }
    thread_local! {
        static EARLY: RefCell<Option<Probe>> = const { RefCell::new(None) };
        static LATE: RefCell<Option<Probe>> = const { RefCell::new(None) };
    }
    bounded(|| {
        let client = client_of(1);
        let seen = Log::new();
        let (one, two) = (Probe(client.clone(), seen.clone()), Probe(client.clone(), seen.clone()));
        thread::spawn(move || {
            let client = one.0.clone();
            EARLY.set(Some(one));
            assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
            assert!(!ensue::is_cancelled());
            LATE.set(Some(two));
        })
        .join()
        .unwrap();
        assert_eq!(seen.all(), [(2, false), (2, false)]);
    });
}

/// Blocking work that waits for the gate, after it has begun.
fn holding(client: &Client, gate: &Gate) -> Handle<()> {
    let begun = Gate::new();
    let (begin, pass) = (begun.clone(), gate.clone());
    let work = move || {
        begin.open();
        pass.pass_blocking();
    };
    let handle = client.submit_blocking(work, ());
    begun.pass_blocking();
    handle
}

#[test]
fn blocking_work_says_whether_it_has_a_thread() {
    bounded(|| {
        let client = Client::builder().workers(1).blocking_threads(1).build();
        let why = |task: &_| client.explain(task).reasons;
        let gate = Gate::new();
        let first = holding(&client, &gate);
        eventually("it has the thread", || why(&first) == [Reason::Blocking]);
        let second = client.submit_blocking(|| (), ());
        eventually("no thread is free", || why(&second) == [Reason::WaitsForThread]);
        assert_eq!(why(&first), [Reason::Blocking]);

        let texts = [&first, &second].map(|task| client.explain(task).to_string());
        assert!(texts[0].ends_with(" is running: its blocking work runs on a thread"));
        assert!(
            texts[1].ends_with(" is running: its blocking work waits for a thread of the pool")
        );
        let data = serde_json::to_value(client.explain(&second)).unwrap();
        assert_eq!(data["reasons"][0]["kind"], "waits_for_thread");
        gate.open();
        first.result().unwrap();
        second.result().unwrap();

        // An attempt that timed out keeps the thread, and the next one waits for it.
        let gate = Gate::new();
        let begun = Count::new();
        let (inner, count) = (gate.clone(), begun.clone());
        let options =
            client.task().timeout(Duration::from_millis(50)).retries(Retry::new(u32::MAX));
        let work = move || {
            count.add();
            inner.pass_blocking();
        };
        let third = options.submit_blocking(work, ());
        eventually("an attempt has the thread", || begun.get() == 1);
        eventually("the next one waits", || why(&third) == [Reason::WaitsForThread]);
        assert_eq!(begun.get(), 1);
        gate.open();
        third.result().unwrap();
    });
}

#[test]
fn five_hundred_blocking_closures_wait_for_each_other() {
    bounded(|| {
        let client = client_of(2);
        let all = Arc::new(Barrier::new(500));
        let meet = |_| {
            let all = all.clone();
            let wait = move || {
                all.wait();
            };
            client.submit_blocking(wait, ())
        };
        let xs: Vec<_> = (0..500).map(meet).collect();
        block_on(gather(xs)).unwrap();
    });
}

#[test]
fn no_more_threads_than_the_bound_run_blocking_work() {
    bounded(|| {
        let client = Client::builder().workers(2).blocking_threads(3).build();
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let xs: Vec<_> = (0..200)
            .map(|_| {
                let (running, most) = (running.clone(), most.clone());
                let work = move || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                };
                client.submit_blocking(work, ())
            })
            .collect();
        block_on(gather(xs)).unwrap();
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
        // All three are used.
        let all = Arc::new(Barrier::new(3));
        let meet = |_| {
            let all = all.clone();
            let wait = move || {
                all.wait();
            };
            client.submit_blocking(wait, ())
        };
        block_on(gather((0..3).map(meet).collect::<Vec<_>>())).unwrap();
    });
}

#[test]
fn a_cancelled_closure_that_waits_for_a_thread_is_dropped_at_once() {
    bounded(|| {
        let client = Client::builder().workers(1).blocking_threads(1).limit("one", 1).build();
        let gate = Gate::new();
        let first = holding(&client, &gate);
        let drops = Count::new();
        for end in [|x: Handle<()>| assert!(x.cancel()), drop] {
            let before = drops.get();
            let captured = drops.on_drop();
            let work = move || drop(captured);
            let second = client.task().acquire("one").submit_blocking(work, ());
            let why = || client.explain(&second).reasons;
            eventually("no thread is free", || why() == [Reason::WaitsForThread]);
            end(second);
            eventually("its closure is dropped", || drops.get() == before + 1);
            // Its limit is free, though the thread isn't.
            assert_eq!(client.task().acquire("one").submit(inc, 1).result().unwrap(), 2);
        }
        assert!(!first.is_finished());
        gate.open();
        first.result().unwrap();
        assert_eq!(client.submit_blocking(|| 3, ()).result().unwrap(), 3);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn the_threads_end_with_the_client() {
    let threads = |name: &str| support::threads_named(name).0;
    bounded(move || {
        for name in ["pool-c", "pool-d"] {
            let client = Client::builder().workers(1).name(name).build();
            let gate = Gate::new();
            let xs: Vec<_> = (0..40).map(|_| holding(&client, &gate)).collect();
            assert!(threads(&format!("{name}-blo")) >= 40);
            gate.open();
            block_on(gather(xs)).unwrap();
            if name == "pool-c" {
                block_on(client.close());
                eventually("the threads end", || threads(name) == 0);
            } else {
                drop(client);
                eventually("the threads end", || threads(name) == 0);
            }
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_thread_without_work_exits() {
    bounded(|| {
        let client = Client::builder().workers(1).name("pool-i").build();
        let gate = Gate::new();
        let xs: Vec<_> = (0..10).map(|_| holding(&client, &gate)).collect();
        gate.open();
        block_on(gather(xs)).unwrap();
        eventually("they exit", || support::threads_named("pool-i-blo").0 == 0);
        assert_eq!(client.submit_blocking(|| 1, ()).result().unwrap(), 1);
    });
}

#[test]
fn close_waits_for_the_closure_of_a_cancelled_task() {
    bounded(|| {
        let client = client_of(1);
        let gate = Gate::new();
        let x = holding(&client, &gate);
        assert!(x.cancel());
        eventually("no task is left", || x.is_finished());
        drop(x);
        let mut close = Box::pin(client.close());
        let waiting = thread::spawn(move || {
            let is_waiting = poll_once(&mut close).is_pending();
            (is_waiting, close)
        });
        let (is_waiting, close) = waiting.join().unwrap();
        assert!(is_waiting);
        gate.open();
        block_on(close);
    });
}

#[test]
fn the_closure_of_a_cancelled_task_may_wait_for_close() {
    bounded(|| {
        let client = client_of(1);
        let (begun, gate, closed) = (Gate::new(), Gate::new(), Gate::new());
        let (begin, pass, open) = (begun.clone(), gate.clone(), closed.clone());
        let inner = client.clone();
        let work = move || {
            begin.open();
            pass.pass_blocking();
            // Twice at once: it counts as one thread.
            block_on(futures::future::join(inner.close(), inner.close()));
            open.open();
        };
        let x = client.submit_blocking(work, ());
        begun.pass_blocking();
        assert!(x.cancel());
        gate.open();
        closed.pass_blocking();
        block_on(client.close());
    });
}

#[test]
fn a_task_fails_if_the_system_refuses_its_only_thread() {
    bounded(|| {
        // No system has that much memory for a stack.
        let builder = Client::builder().workers(0).stack_size(usize::MAX / 2);
        let client = builder.limit("one", 1).build();
        let drops = Count::new();
        let captured = drops.on_drop();
        let work = move || drop(captured);
        let x = client.task().acquire("one").submit_blocking(work, ());
        let y = client.task().retries(2).submit_blocking(|| 1, ());
        let z = client.task().acquire("one").submit(inc, 1);
        let error = drive(&client, x).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert!(error.to_string().contains("the system refused a thread"), "{error}");
        assert!(error.downcast_ref::<io::Error>().is_some());
        assert_eq!(drops.get(), 1);
        assert_eq!(drive(&client, z).unwrap(), 2, "the worker goes on");
        assert_eq!(drive(&client, y).unwrap_err().kind(), ErrorKind::Failed);
        drive(&client, client.close());
    });
}

#[test]
fn a_stall_is_reported_though_all_threads_are_occupied() {
    bounded(|| {
        let (send, stalls) = mpsc::channel();
        let hook = move |stall: &ensue::Stall| {
            let _ = send.send(stall.left);
        };
        let builder = Client::builder().workers(1).blocking_threads(1);
        let client = builder.on_stall(Duration::from_millis(20), hook).build();
        let gate = Gate::new();
        let pass = gate.clone();
        let x = client.submit_blocking(move || pass.pass_blocking(), ());
        let y = client.submit_blocking(|| (), ());
        assert!(stalls.recv().unwrap() >= 1);
        gate.open();
        block_on(gather([x, y])).unwrap();
    });
}

/// A thread whose closure waits for the client has its place taken, so that what it waits for can run.
#[test]
fn the_only_thread_may_wait_for_the_client() {
    bounded(|| {
        for close in [false, true] {
            let client = Client::builder().workers(1).blocking_threads(1).build();
            let (begun, gate) = (Gate::new(), Gate::new());
            let waiting = client.submit_blocking(
                {
                    let (client, begun, gate) = (client.clone(), begun.clone(), gate.clone());
                    move || {
                        begun.open();
                        gate.pass_blocking();
                        match close {
                            true => block_on(client.close()),
                            false => block_on(client.idle()),
                        }
                    }
                },
                (),
            );
            begun.pass_blocking();
            let queued = client.submit_blocking(|| 2, ());
            eventually("it waits for a thread", || {
                client.explain(&queued).reasons == [Reason::WaitsForThread]
            });
            gate.open();
            assert_eq!((waiting.result().unwrap(), queued.result().unwrap()), ((), 2));
            block_on(client.close());
        }
    });
}

/// A thread that exits after a while runs the destructors of its thread locals when it has left the pool.
#[test]
fn a_destructor_of_a_thread_local_may_close_the_client_when_its_thread_expires() {
    struct Close(Client, mpsc::Sender<()>);
    impl Drop for Close {
        fn drop(&mut self) {
            block_on(self.0.close());
            let _ = self.1.send(());
        }
    }
    thread_local! {
        static CLOSE: RefCell<Option<Close>> = const { RefCell::new(None) };
    }
    bounded(|| {
        let client = client_of(1);
        let (send, closed) = mpsc::channel();
        // Two threads, which close the same client, one during the other.
        let both = Arc::new(Barrier::new(2));
        let leave = |_| {
            let (close, both) = (Close(client.clone(), send.clone()), both.clone());
            let work = move || {
                both.wait();
                CLOSE.set(Some(close));
            };
            client.submit_blocking(work, ())
        };
        block_on(gather((0..2).map(leave).collect::<Vec<_>>())).unwrap();
        for _ in 0..2 {
            closed.recv_timeout(Duration::from_secs(60)).expect("it's closed");
        }
    });
}
