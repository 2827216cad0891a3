//! Dropping the last handle of a task ends it, and `detach` opts out (promise 8).

use std::mem;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use ensue::{Client, Error, ErrorKind, Handle, Ref, Status, as_completed, gather};
use futures::FutureExt;
use futures::executor::block_on;
use smol::future::yield_now;
use support::hold::{Gate, hold_worker};
use support::observe::{Count, Counted, Counts};
use support::{bounded, eventually, run_until_idle, run_what_is_ready};

async fn inc(x: u64) -> u64 {
    x + 1
}

/// A client without workers, and the errors that its hook got.
fn listening() -> (Client, Arc<Mutex<Vec<Error>>>) {
    let reported: Arc<Mutex<Vec<Error>>> = Arc::default();
    let hook = reported.clone();
    let hook = move |error: &Error| hook.lock().unwrap().push(error.clone());
    (Client::builder().workers(0).on_unobserved(hook).build(), reported)
}

#[test]
fn queued_work_never_starts() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let (calls, captured, input) = (Count::new(), Counts::new(), Counts::new());
        let (function, held) = (calls.clone(), captured.value(0));
        let handle = client.submit(
            async move |x: Counted| {
                function.add();
                (held, x)
            },
            input.value(0),
        );
        let other = handle.clone();
        drop(handle);
        assert_eq!((captured.drops.get(), input.drops.get()), (0, 0));
        drop(other);
        // At once, without a worker.
        assert_eq!((captured.drops.get(), input.drops.get()), (1, 1));
        run_what_is_ready(&client);
        assert_eq!((calls.get(), client.tasks_in_memory()), (0, 0));
    });
}

#[test]
fn a_thousand_queued_tasks_without_handles_never_start() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let calls = Count::new();
        let held = hold_worker(&client);
        let wanted = client.submit(inc, 1);
        let task = {
            let calls = calls.clone();
            async move |_: u64| {
                calls.add();
            }
        };
        drop(client.map(task, 0..1000));
        held.let_go();
        assert_eq!(wanted.result().unwrap(), 2);
        block_on(client.idle());
        assert_eq!(calls.get(), 0);
        eventually("only one is held", || client.tasks_in_memory() == 1);
    });
}

#[test]
fn a_waiting_task_is_dropped_with_the_inputs_that_only_it_needs() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let calls = Count::new();
        let called = || {
            let calls = calls.clone();
            async move |x: u64| {
                calls.add();
                x
            }
        };
        let shared = client.submit(called(), 1);
        let mut end = client.submit(called(), &shared);
        for _ in 0..10 {
            end = client.submit(called(), end);
        }
        drop(end);
        run_what_is_ready(&client);
        // An input with another handle stays.
        assert_eq!(shared.result().unwrap(), 1);
        assert_eq!((calls.get(), client.tasks_in_memory()), (1, 1));
    });
}

#[test]
fn a_running_future_is_dropped_at_its_next_await() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let counts = Counts::new();
        let gate = Gate::new();
        let handle = client.spawn(counts.future(gate.pass()));
        run_what_is_ready(&client);
        assert_eq!((counts.polls.get(), counts.drops.get()), (1, 0));
        // It is suspended at an await, so it is dropped at once.
        drop(handle);
        assert_eq!((counts.polls.get(), counts.drops.get()), (1, 1));
        gate.open();
        run_what_is_ready(&client);
        assert_eq!((counts.polls.get(), counts.drops.get(), client.tasks_in_memory()), (1, 1, 0));
    });
}

#[test]
fn work_that_is_on_a_worker_ends_at_its_next_await_and_not_before() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let (started, is_started) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel::<()>();
        let (reached, has_reached) = mpsc::channel();
        let counts = Counts::new();
        let handle = client.spawn(counts.future(async move {
            started.send(()).unwrap();
            goes_on.recv().unwrap();
            reached.send("the await").unwrap();
            yield_now().await;
            reached.send("beyond").unwrap();
        }));
        is_started.recv().unwrap();
        drop(handle);
        assert_eq!(counts.drops.get(), 0);
        go_on.send(()).unwrap();
        assert_eq!(has_reached.iter().collect::<Vec<_>>(), ["the await"]);
        // The sender is dropped a moment before the rest of the future.
        eventually("its future is dropped", || counts.drops.get() == 1);
        assert_eq!(counts.polls.get(), 1);
        eventually("it's freed", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn a_task_that_ends_in_the_poll_in_which_it_was_dropped_leaves_nothing() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let (started, is_started) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel::<()>();
        let counts = Counts::new();
        let value = counts.value(1);
        let handle = client.submit(
            async move || {
                started.send(()).unwrap();
                goes_on.recv().unwrap();
                value
            },
            (),
        );
        is_started.recv().unwrap();
        drop(handle);
        go_on.send(()).unwrap();
        eventually("the value is dropped", || counts.drops.get() == 1);
        eventually("it's freed", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn a_result_is_freed_at_once() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let counts = Counts::new();
        let handles = client.map(async |x: Counted| x, (0..5).map(|x| counts.value(x)));
        run_until_idle(&client);
        for (at, handle) in handles.into_iter().enumerate() {
            assert_eq!((counts.drops.get(), client.tasks_in_memory()), (at, 5 - at));
            drop(handle);
        }
        assert_eq!((counts.drops.get(), client.tasks_in_memory()), (5, 0));
    });
}

#[test]
fn a_failure_is_freed_with_the_last_handle() {
    #[derive(Clone, Debug)]
    struct Failure(#[allow(unused)] Arc<Counted>);
    impl std::fmt::Display for Failure {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("failed")
        }
    }
    impl std::error::Error for Failure {}

    bounded(|| {
        let client = Client::builder().workers(0).build();
        let (failure, input) = (Counts::new(), Counts::new());
        let error = Failure(Arc::new(failure.value(0)));
        let handle =
            client.try_submit(async move |_: Counted| Err::<u64, _>(error), input.value(0));
        let dependent = client.submit(inc, &handle);
        run_until_idle(&client);
        drop(handle);
        assert_eq!(failure.drops.get(), 0);
        let seen = dependent.error().unwrap();
        drop(dependent);
        assert_eq!(client.tasks_in_memory(), 0);
        assert_eq!(input.drops.get(), input.clones.get() + 1);
        // A clone of the error keeps its source.
        assert_eq!(failure.drops.get(), 0);
        drop(seen);
        assert_eq!(failure.drops.get(), 1);
    });
}

#[test]
fn a_ref_and_a_waiting_dependent_keep_the_value() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let counts = Counts::new();
        let value = counts.value(5);
        let gate = Gate::new();
        let other = client.spawn(gate.pass());
        let x = client.submit(async move || value, ());
        let y = client.submit(async |x: Ref<Counted>, (): ()| x, (&x, &other));
        drop(x);
        run_what_is_ready(&client);
        assert_eq!(counts.drops.get(), 0);
        gate.open();
        run_until_idle(&client);
        let shared = block_on(y).unwrap();
        assert_eq!((shared.value, counts.drops.get()), (5, 0));
        drop(shared);
        assert_eq!((counts.drops.get(), counts.clones.get()), (1, 0));
    });
}

#[test]
fn a_handle_awaited_in_a_dropped_future_is_dropped() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let counts = Counts::new();
        let inner = client.spawn(counts.future(std::future::pending::<()>()));
        let outer = client.spawn(async move { inner.await.is_ok() });
        run_what_is_ready(&client);
        assert_eq!((counts.polls.get(), counts.drops.get()), (1, 0));
        // The outer task's future holds the only handle.
        drop(outer);
        assert_eq!(counts.drops.get(), 1);
        run_what_is_ready(&client);
        assert_eq!(client.tasks_in_memory(), 0);
    });
}

#[test]
fn dropped_combinators_drop_their_handles() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let counts = Counts::new();
        let never = || client.spawn(counts.future(std::future::pending::<u64>()));
        let mut gathering = gather([never(), never()]);
        let stream = as_completed([never(), never()]);
        let mut cleared = as_completed([never()]);
        run_what_is_ready(&client);
        assert!((&mut gathering).now_or_never().is_none());
        assert_eq!((counts.polls.get(), counts.drops.get()), (5, 0));
        drop(gathering);
        assert_eq!(counts.drops.get(), 2);
        drop(stream);
        assert_eq!(counts.drops.get(), 4);
        cleared.clear();
        assert_eq!((counts.drops.get(), cleared.len()), (5, 0));
        // Tasks with other handles run on.
        let kept = never();
        drop(gather([&kept]));
        drop(as_completed([&kept]));
        run_what_is_ready(&client);
        assert_eq!((kept.status(), counts.drops.get()), (Status::Running, 5));
    });
}

#[test]
fn a_failed_gather_leaves_the_other_tasks_to_their_handles() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let (mine, kept) = (Counts::new(), Counts::new());
        let bad = client.submit(async || -> u64 { panic!("bad") }, ());
        let only = client.spawn(mine.future(std::future::pending::<u64>()));
        let held = client.spawn(kept.future(std::future::pending::<u64>()));
        let gathering = gather([bad, only, held.clone()]);
        run_what_is_ready(&client);
        assert!(block_on(gathering).unwrap_err().is_panic());
        assert_eq!((mine.drops.get(), kept.drops.get()), (1, 0));
    });
}

// `detach` opts out.

#[test]
fn a_detached_task_runs_to_its_end() {
    bounded(|| {
        let (client, reported) = listening();
        let calls = Count::new();
        let called = |x: u64| {
            let calls = calls.clone();
            client.submit(
                async move |x: u64| {
                    yield_now().await;
                    calls.add();
                    x
                },
                x,
            )
        };
        called(1).detach();
        // With its inputs.
        let input = called(2);
        let count = calls.clone();
        client.submit(async move |_: u64| count.add(), &input).detach();
        drop(input);
        run_until_idle(&client);
        assert_eq!((calls.get(), client.tasks_in_memory()), (3, 0));
        assert!(reported.lock().unwrap().is_empty());
    });
}

#[test]
fn detaching_one_handle_keeps_the_task_for_all() {
    bounded(|| {
        let (client, _) = listening();
        let calls = Count::new();
        let count = calls.clone();
        let handle = client.submit(async move || count.add(), ());
        let other = handle.clone();
        handle.detach();
        drop(other);
        run_until_idle(&client);
        assert_eq!((calls.get(), client.tasks_in_memory()), (1, 0));
    });
}

#[test]
fn a_detached_task_can_still_be_cancelled() {
    bounded(|| {
        let (client, reported) = listening();
        let counts = Counts::new();
        let handle = client.spawn(counts.future(std::future::pending::<()>()));
        handle.clone().detach();
        run_what_is_ready(&client);
        assert!(handle.cancel());
        assert_eq!(counts.drops.get(), 1);
        drop(handle);
        run_what_is_ready(&client);
        assert_eq!(client.tasks_in_memory(), 0);
        assert!(reported.lock().unwrap().is_empty(), "a cancelled task is not reported");
    });
}

#[test]
fn the_hook_gets_errors_that_no_handle_can_see() {
    bounded(|| {
        let (client, reported) = listening();
        client.try_submit(async || Err::<u64, _>("lost error"), ()).detach();
        client.submit(async || -> u64 { panic!("lost panic") }, ()).detach();
        client.submit(inc, 1).detach();
        run_until_idle(&client);
        let kinds: Vec<_> = reported.lock().unwrap().iter().map(Error::kind).collect();
        assert_eq!(kinds, [ErrorKind::Failed, ErrorKind::Panicked]);
        assert!(reported.lock().unwrap()[0].to_string().contains("lost error"));
        assert!(reported.lock().unwrap()[1].to_string().contains("lost panic"));
        assert_eq!(client.tasks_in_memory(), 0);
    });
}

#[test]
fn a_detached_error_that_a_handle_can_see_is_reported_when_the_handle_is_dropped() {
    bounded(|| {
        let (client, reported) = listening();
        let handle = client.try_submit(async || Err::<u64, _>("seen"), ());
        handle.clone().detach();
        run_until_idle(&client);
        assert!(handle.is_finished());
        assert!(reported.lock().unwrap().is_empty());
        // It was never observed, and no handle is left.
        drop(handle);
        assert_eq!(reported.lock().unwrap().len(), 1);
    });
}

#[test]
fn errors_of_dropped_tasks_are_not_reported() {
    bounded(|| {
        let (client, reported) = listening();
        let handle = client.try_submit(async || Err::<u64, _>("held"), ());
        run_until_idle(&client);
        drop(handle);
        drop(client.try_submit(async || Err::<u64, _>("never runs"), ()));
        run_what_is_ready(&client);
        assert!(reported.lock().unwrap().is_empty());
    });
}

#[test]
fn a_detached_failure_is_reported_once_for_all_its_dependents() {
    bounded(|| {
        let (client, reported) = listening();
        let bad = client.try_submit(async || Err::<u64, _>("root"), ());
        client.submit(inc, &bad).detach();
        bad.detach();
        run_until_idle(&client);
        let reported = reported.lock().unwrap();
        assert!(!reported.is_empty());
        assert!(reported.iter().all(|error| error.origin() == reported[0].origin()));
    });
}

#[test]
fn a_detached_task_drops_its_value_at_its_end() {
    bounded(|| {
        let (client, _) = listening();
        let counts = Counts::new();
        client.submit(async |x: Counted| x, counts.value(1)).detach();
        run_until_idle(&client);
        assert_eq!((counts.drops.get(), client.tasks_in_memory()), (1, 0));
    });
}

// `mem::forget` leaks only the forgotten task.

#[test]
fn a_forgotten_handle_leaks_its_task_and_nothing_else() {
    bounded(|| {
        let client = Client::builder().workers(2).build();
        let counts = Counts::new();
        let value = counts.value(1);
        let forgotten = client.submit(async move || value, ());
        let dependent = client.submit(async |x: Ref<Counted>| x.value, &forgotten);
        mem::forget(forgotten);
        assert_eq!(dependent.result().unwrap(), 1);
        drop(dependent);
        // One that is awaited, and one that is polled and forgotten while it waits.
        let gate = Gate::new();
        let mut waiting = client.spawn(gate.pass());
        let other = waiting.clone();
        assert!((&mut waiting).now_or_never().is_none());
        mem::forget(waiting);
        mem::forget(client.get::<u64>("none"));
        let mut stream = as_completed([&other]);
        stream.add(&other);
        mem::forget(stream);
        mem::forget(gather([&other]));
        gate.open();
        other.result().unwrap();
        drop(other);
        let rest = client.map(inc, 0..1000u64);
        assert_eq!(block_on(gather(rest)).unwrap().len(), 1000);
        eventually("the rest is freed", || client.tasks_in_memory() == 2);
        assert_eq!(counts.drops.get(), 0);
        block_on(client.close());
        assert_eq!(client.workers(), 0);
    });
}

#[test]
fn dropping_the_last_handle_inside_its_own_task_ends_it() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let (send, receive) = futures::channel::oneshot::channel::<Handle<()>>();
        let counts = Counts::new();
        let handle = client.spawn(counts.future(async move {
            drop(receive.await.unwrap());
            std::future::pending::<()>().await;
        }));
        send.send(handle).unwrap();
        eventually("it's dropped", || counts.drops.get() == 1);
        eventually("it's freed", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn dropping_races_with_running() {
    bounded(|| {
        let client = Client::builder().workers(2).build();
        let counts = Counts::new();
        for round in 0..3000 {
            let handle = client.submit(
                async |x: Counted| {
                    yield_now().await;
                    x
                },
                counts.value(round),
            );
            let dependent = client.submit(async |x: Ref<Counted>| x.value, &handle);
            drop(handle);
            if round % 3 == 0 {
                assert_eq!(dependent.result().unwrap(), round);
            } else if round % 3 == 1 {
                std::thread::yield_now();
            }
            drop(dependent);
        }
        eventually("everything is freed", || client.tasks_in_memory() == 0);
        assert_eq!((counts.drops.get(), counts.clones.get()), (3000, 0));
    });
}

#[test]
fn a_value_that_is_being_dropped_may_not_block_on_a_task() {
    struct Asks(Handle<u64>, mpsc::Sender<Result<u64, Error>>);
    impl Drop for Asks {
        fn drop(&mut self) {
            let _ = self.1.send(self.0.result());
        }
    }
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let x = client.ready(1u64);
        let (send, results) = mpsc::channel();
        drop(client.ready(Asks(x.clone(), send)));
        assert_eq!(results.recv().unwrap().unwrap_err().kind(), ErrorKind::Blocking);
        assert_eq!(x.result().unwrap(), 1);
    });
}
