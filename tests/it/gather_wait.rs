//! Waiting for many tasks at once: `gather`, `gather_settled`, `wait_all`, `wait_any` (promise 19).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ensue::{Client, ErrorKind, Handle, Status, gather, gather_settled, wait_all, wait_any};
use futures::FutureExt;
use futures::executor::block_on;
use futures::future::FusedFuture;
use support::hold::{End, Gate};
use support::observe::{Count, Counts, Wakes, poll_with};
use support::{
    bounded, client_of, drive, eventually, poll_once, run_until_idle, run_what_is_ready,
};

async fn inc(x: u64) -> u64 {
    x + 1
}

fn never(client: &Client) -> Handle<u64> {
    client.spawn(std::future::pending())
}

fn gated(client: &Client, value: u64) -> (Gate, Handle<u64>) {
    let gate = Gate::new();
    let pass = gate.clone();
    let x = client.spawn(async move {
        pass.pass().await;
        value
    });
    (gate, x)
}

#[test]
fn gather_keeps_the_order_of_the_handles() {
    bounded(|| {
        let client = client_of(2);
        let tasks: Vec<_> = (0..5).map(|n| gated(&client, n)).collect();
        let all = gather(tasks.iter().map(|(_, x)| x));
        for n in [3, 1, 4, 0, 2] {
            tasks[n].0.open();
            tasks[n].1.result().unwrap();
        }
        assert_eq!(block_on(all).unwrap(), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn gather_takes_anything_that_iterates() {
    bounded(|| {
        let client = client_of(1);
        let xs = client.map(inc, 0..3u64);
        assert_eq!(block_on(gather(&xs)).unwrap(), [1, 2, 3]);
        assert_eq!(block_on(gather([&xs[2], &xs[0]])).unwrap(), [3, 1]);
        assert_eq!(block_on(gather(xs.iter().rev())).unwrap(), [3, 2, 1]);
        assert_eq!(block_on(gather(Some(&xs[1]))).unwrap(), [2]);
        assert_eq!(block_on(gather(xs)).unwrap(), [1, 2, 3]);
    });
}

#[test]
fn nothing_is_gathered_at_once() {
    assert_eq!(
        gather(Vec::<Handle<u64>>::new()).now_or_never().unwrap().unwrap(),
        Vec::<u64>::new()
    );
    assert!(gather_settled(Vec::<Handle<u64>>::new()).now_or_never().unwrap().is_empty());
    let waited = wait_all(Vec::<Handle<u64>>::new()).now_or_never().unwrap();
    assert!(waited.done.is_empty() && waited.pending.is_empty());
    let waited = wait_any(Vec::<Handle<u64>>::new()).now_or_never().unwrap();
    assert!(waited.done.is_empty() && waited.pending.is_empty());
}

#[test]
fn duplicates_are_gathered_each() {
    bounded(|| {
        let client = client_of(1);
        let x = client.submit(async || vec![1, 2], ());
        let y = x.clone();
        let all = block_on(gather([x.clone(), y, x])).unwrap();
        assert_eq!(all, [vec![1, 2], vec![1, 2], vec![1, 2]]);
        let (gate, z) = gated(&client, 3);
        let all = gather([&z, &z]);
        let settled = gather_settled([&z, &z]);
        let waited = wait_all([&z, &z]);
        gate.open();
        assert_eq!(block_on(all).unwrap(), [3, 3]);
        assert_eq!(block_on(settled).len(), 2);
        assert_eq!(block_on(waited).done.len(), 2);
    });
}

#[test]
fn gather_fails_fast_and_leaves_the_others() {
    bounded(|| {
        let client = client_of(2);
        let (gate, slow) = gated(&client, 1);
        let (fail, failing) = (Gate::new(), Gate::new());
        let (pass, also) = (fail.clone(), failing.clone());
        let bad = client.try_submit(
            async move || {
                pass.pass().await;
                also.open();
                Err::<u64, _>("bad")
            },
            (),
        );
        let mut all = gather([&slow, &bad]);
        assert!(poll_once(&mut all).is_pending());
        fail.open();
        let error = block_on(&mut all).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert_eq!(error.origin(), bad.key());
        assert!(all.is_terminated());
        assert!(!slow.is_finished());
        gate.open();
        assert_eq!(slow.result().unwrap(), 1);
    });
}

#[test]
fn gather_gives_the_first_error_to_happen() {
    bounded(|| {
        let client = client_of(2);
        let (first, second) = (never(&client), never(&client));
        let all = gather([&first, &second]);
        let end = End::of(&second);
        assert!(second.cancel());
        end.wait();
        assert!(first.cancel());
        assert_eq!(block_on(all).unwrap_err().origin(), second.key());
    });
}

#[test]
fn a_failed_gather_drops_its_handles() {
    bounded(|| {
        let client = client_of(2);
        let counts = Counts::new();
        let slow = client.spawn(counts.future(std::future::pending::<u64>()));
        eventually("it runs", || counts.polls.get() == 1);
        let bad = client.try_submit(async || Err::<u64, _>("bad"), ());
        assert!(block_on(gather([slow, bad])).is_err());
        eventually("it's dropped", || counts.drops.get() == 1);
    });
}

#[test]
fn a_dropped_gather_drops_its_handles() {
    bounded(|| {
        let client = client_of(1);
        let counts = Counts::new();
        let (x, kept) =
            (client.spawn(counts.future(std::future::pending::<u64>())), never(&client));
        eventually("it runs", || counts.polls.get() == 1);
        let mut all = gather([x, kept.clone()]);
        assert!(poll_once(&mut all).is_pending());
        drop(all);
        eventually("it's dropped", || counts.drops.get() == 1);
        assert!(!kept.is_finished());
    });
}

#[test]
fn values_are_moved_out_of_the_last_handles() {
    struct Cloned(Count);
    impl Clone for Cloned {
        fn clone(&self) -> Self {
            self.0.add();
            Self(self.0.clone())
        }
    }
    bounded(|| {
        let client = client_of(1);
        let clones = Count::new();
        let make = || {
            let count = clones.clone();
            client.submit(async move || Cloned(count), ())
        };
        let xs = vec![make(), make(), make()];
        block_on(client.idle());
        assert!(block_on(gather(xs)).is_ok());
        assert_eq!(clones.get(), 0);
        let xs = vec![make(), make()];
        assert!(block_on(gather(&xs)).is_ok());
        assert_eq!(clones.get(), 2);
    });
}

#[test]
fn a_value_that_was_moved_out_is_lost() {
    bounded(|| {
        let client = client_of(1);
        let mut x = client.submit(inc, 1);
        assert_eq!(block_on(&mut x).unwrap(), 2);
        assert_eq!(block_on(gather([&x])).unwrap_err().kind(), ErrorKind::Lost);
        assert_eq!(block_on(wait_all([&x])).done.len(), 1);
    });
}

#[test]
fn settled_waits_for_all_and_keeps_the_order() {
    bounded(|| {
        let client = client_of(1);
        let (gate, slow) = gated(&client, 1);
        let bad = client.try_submit(async || Err::<u64, _>("bad"), ());
        let gone = never(&client);
        gone.cancel();
        let fine = client.submit(inc, 1);
        let mut all = gather_settled([&slow, &bad, &gone, &fine]);
        assert!(bad.result().is_err());
        fine.result().unwrap();
        assert!(poll_once(&mut all).is_pending());
        gate.open();
        let results = block_on(&mut all);
        assert_eq!(results[0].as_ref().unwrap(), &1);
        assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::Failed);
        assert_eq!(results[2].as_ref().unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(results[3].as_ref().unwrap(), &2);
        assert!(all.is_terminated());
    });
}

#[test]
fn wait_all_waits_whatever_the_outcome() {
    bounded(|| {
        let client = client_of(1);
        let xs = client.try_map(async |x: u64| if x == 1 { Err("no") } else { Ok(x) }, 0..3u64);
        let gone = never(&client);
        gone.cancel();
        let waited = block_on(wait_all(xs.iter().chain([&gone])));
        assert_eq!(waited.done, [xs[0].clone(), xs[1].clone(), xs[2].clone(), gone]);
        assert!(waited.pending.is_empty());
    });
}

#[test]
fn wait_any_waits_for_one_and_keeps_the_order_in_both_parts() {
    bounded(|| {
        let client = client_of(1);
        let slow: Vec<_> = (0..3).map(|_| never(&client)).collect();
        let (gate, quick) = gated(&client, 1);
        let mut waiting = wait_any([&slow[0], &quick, &slow[1], &slow[2]]);
        assert!(poll_once(&mut waiting).is_pending());
        gate.open();
        let waited = block_on(waiting);
        assert_eq!((waited.done, &waited.pending), (vec![quick.clone()], &slow));
        // Tasks that had ended before count, too, and there may be several.
        let other = client.submit(inc, 1);
        other.result().unwrap();
        let waited = block_on(wait_any([&other, &slow[0], &quick]));
        assert_eq!(waited.done, [other, quick]);
        assert_eq!(waited.pending, [slow[0].clone()]);
    });
}

#[test]
fn wait_any_counts_failures() {
    bounded(|| {
        let client = client_of(1);
        let slow = never(&client);
        let bad = client.try_submit(async || Err::<u64, _>("bad"), ());
        assert_eq!(block_on(wait_any([&slow, &bad])).done, [bad]);
    });
}

#[test]
fn a_timeout_gives_both_parts_and_cancels_nothing() {
    bounded(|| {
        let client = client_of(1);
        let slow = never(&client);
        let quick = client.submit(inc, 1);
        quick.result().unwrap();
        let start = Instant::now();
        let waited = block_on(wait_all([&slow, &quick]).timeout(Duration::from_millis(30)));
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert_eq!((waited.done, waited.pending), (vec![quick.clone()], vec![slow.clone()]));
        let waited = block_on(wait_any([&slow]).timeout(Duration::from_millis(1)));
        assert_eq!((waited.done, waited.pending), (vec![], vec![slow.clone()]));
        assert_eq!(slow.status(), Status::Running);
        let waited = block_on(wait_all([&quick]).timeout(Duration::ZERO));
        assert_eq!(waited.done.len(), 1, "it had ended before");
        let waited = block_on(wait_all([&quick]).timeout(Duration::MAX));
        assert_eq!(waited.done.len(), 1);
    });
}

#[test]
fn a_timeout_in_a_task_of_a_seeded_client_is_virtual() {
    bounded(|| {
        let client = Client::builder().seed(1).build();
        let x = client.spawn(async {
            let client = Client::current().unwrap();
            let hours = async |h: u64| ensue::sleep(Duration::from_secs(3600 * h)).await;
            let xs = client.map(hours, [1, 3, 5]);
            let waited = wait_all(&xs).timeout(Duration::from_secs(4 * 3600)).await;
            (waited.done.len(), waited.pending.len())
        });
        assert_eq!(x.result().unwrap(), (2, 1));
    });
}

#[test]
fn the_waits_do_not_take_values() {
    bounded(|| {
        let client = client_of(1);
        let x = client.submit(async || Arc::new(5), ());
        let waited = block_on(wait_all([x]));
        let x = waited.done.into_iter().next().unwrap();
        let value = block_on(x).unwrap();
        assert_eq!(Arc::strong_count(&value), 1);
    });
}

#[test]
fn what_has_resolved_resolves_again_or_panics() {
    fn panics(mut future: impl FusedFuture + Unpin) {
        assert!(!future.is_terminated());
        assert!(poll_once(&mut future).is_ready());
        assert!(future.is_terminated());
        let again = catch_unwind(AssertUnwindSafe(|| poll_once(&mut future).is_ready()));
        let message = *again.expect_err("it has no second output").downcast::<&str>().unwrap();
        assert_eq!(message, "a future was polled after it had resolved");
    }
    bounded(|| {
        let client = client_of(1);
        let x = client.ready(1u64);
        panics(gather([&x]));
        panics(gather(Vec::<Handle<u64>>::new()));
        panics(gather_settled([&x]));
        panics(wait_all([&x]));
        panics(wait_any([&x]));
        let failed = client.submit(async || -> u64 { panic!("fails") }, ());
        failed.result().unwrap_err();
        panics(gather([&failed]));

        let mut handle = x.clone();
        assert_eq!(block_on(&mut handle).unwrap(), 1);
        assert_eq!(block_on(&mut handle).unwrap(), 1);
        let mut shared = x.get_ref();
        assert_eq!(block_on(&mut shared).map(|x| *x).unwrap(), 1);
        assert_eq!(block_on(&mut shared).map(|x| *x).unwrap(), 1);
        let mut sleep = ensue::sleep(Duration::ZERO);
        block_on(&mut sleep);
        block_on(&mut sleep);
    });
}

#[test]
fn a_gather_is_woken_for_its_own_tasks_only() {
    bounded(|| {
        let client = client_of(0);
        let (gate, x) = gated(&client, 1);
        let other = client.submit(inc, 1);
        let wakes = Wakes::new();
        let mut all = gather([&x]);
        assert!(poll_with(&mut all, &wakes).is_pending());
        drive(&client, other).unwrap();
        assert_eq!(wakes.get(), 0);
        gate.open();
        drive(&client, x.clone()).unwrap();
        assert_eq!(wakes.get(), 1);
        assert!(poll_with(&mut all, &wakes).is_ready());
    });
}

#[test]
fn gathers_on_several_threads_get_all_values() {
    bounded(|| {
        let client = client_of(2);
        for _ in 0..100 {
            let xs = Arc::new(client.map(inc, 0..100u64));
            let threads: Vec<_> = (0..3)
                .map(|n| {
                    let xs = xs.clone();
                    thread::spawn(move || match n {
                        0 => block_on(gather(&*xs)).unwrap().len(),
                        1 => block_on(gather_settled(&*xs)).len(),
                        _ => block_on(wait_all(&*xs)).done.len(),
                    })
                })
                .collect();
            for thread in threads {
                assert_eq!(thread.join().unwrap(), 100);
            }
        }
        eventually("nothing is left", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn a_task_gathers_many_children_on_one_worker() {
    bounded(|| {
        let client = client_of(1);
        let x = client.spawn(async {
            let client = Client::current().unwrap();
            gather(client.map(inc, 0..20_000u64)).await.unwrap().len()
        });
        assert_eq!(x.result().unwrap(), 20_000);
    });
}

#[test]
fn what_has_ended_once_is_done_though_it_is_retried_before_the_wait_resolves() {
    bounded(|| {
        let client = client_of(0);
        let gate = Gate::new();
        let pass = gate.clone();
        let x = client.try_submit(async || Err::<(), _>("never"), ());
        let y = client.spawn(async move { pass.pass().await });
        let mut all = wait_all([&x, &y]);
        run_what_is_ready(&client);
        assert!(poll_once(&mut all).is_pending() && x.is_finished());
        assert!(y.cancel() && x.retry());
        let waited = block_on(all);
        assert_eq!((waited.done, waited.pending), (vec![x, y], vec![]));
    });
}

#[test]
fn a_task_that_is_retried_before_the_next_poll_is_waited_for_again() {
    bounded(|| {
        let client = client_of(0);
        let attempts = Count::new();
        let count = attempts.clone();
        let flaky = async move || if count.add() == 0 { Err("not yet") } else { Ok(5u64) };
        let x = client.try_submit(flaky, ());
        let y = client.submit(inc, 1);
        let mut all = gather([&x, &y]);
        let mut settled = gather_settled([&x, &y]);
        assert!(poll_once(&mut all).is_pending() && poll_once(&mut settled).is_pending());
        run_until_idle(&client);
        assert_eq!(x.status(), Status::Failed);
        assert!(x.retry());
        assert!(poll_once(&mut all).is_pending() && poll_once(&mut settled).is_pending());
        run_until_idle(&client);
        assert_eq!(block_on(all).unwrap(), [5, 2]);
        let settled: Vec<_> = block_on(settled).into_iter().map(Result::unwrap).collect();
        assert_eq!(settled, [5, 2]);
        assert_eq!(attempts.get(), 2);
    });
}

#[test]
fn a_tuple_gathers_values_of_different_types() {
    bounded(|| {
        for client in [client_of(2), Client::builder().seed(5).build()] {
            let text = client.submit(async || "text".to_owned(), ());
            let number = client.submit(inc, 1);
            let unit = client.submit_blocking(|| (), ());
            let gathered = block_on(gather((&text, number, &unit, &text))).unwrap();
            assert_eq!(gathered, ("text".to_owned(), 2, (), "text".to_owned()));
            assert_eq!(block_on(gather((text,))).unwrap(), ("text".to_owned(),));
            let n = |n: u8| client.ready(n);
            let twelve = gather((
                n(0),
                n(1),
                n(2),
                n(3),
                n(4),
                n(5),
                n(6),
                n(7),
                n(8),
                n(9),
                n(10),
                client.ready('x'),
            ));
            assert_eq!(block_on(twelve).unwrap().11, 'x');
            // Within a task, of a vector and a tuple.
            let both = client.spawn(async move {
                let client = Client::current().unwrap();
                let (a, b) = (client.submit(inc, 1), client.submit(async || 'b', ()));
                (gather((&a, b)).await, gather([&a]).await)
            });
            let (tuple, vector) = both.result().unwrap();
            assert_eq!((tuple.unwrap(), vector.unwrap()), ((2, 'b'), vec![2]));
            eventually("nothing is left but the handle of the unit", || {
                run_what_is_ready(&client);
                client.tasks_in_memory() <= 2
            });
        }
    });
}

#[test]
fn a_tuple_moves_values_fails_fast_and_drops_its_handles() {
    bounded(|| {
        let client = client_of(2);
        let counts = Counts::new();
        let make = || {
            let counts = counts.clone();
            client.submit(async move || counts.value(1), ())
        };
        let (a, b) = block_on(gather((make(), make()))).unwrap();
        assert_eq!((counts.clones.get(), counts.alive.get()), (0, 2));
        drop((a, b));
        let slow = client.spawn(counts.future(std::future::pending::<u64>()));
        eventually("it runs", || counts.polls.get() == 1);
        let ended = make();
        eventually("it has a value", || ended.is_finished());
        let drops = counts.drops.get();
        let bad = client.try_submit(async || Err::<String, _>("bad"), ());
        let error = block_on(gather((slow, &bad, ended))).unwrap_err();
        assert_eq!(error.origin(), &bad.key());
        eventually("the others are dropped", || counts.drops.get() == drops + 2);
        assert_eq!(counts.alive.get(), 0);
        let mut done = gather((client.submit(inc, 1), client.ready('x')));
        assert!(!done.is_terminated());
        block_on(&mut done).unwrap();
        assert!(done.is_terminated());
    });
}

#[test]
fn a_tuple_settles_whatever_the_outcomes() {
    bounded(|| {
        let client = client_of(2);
        let number = client.submit(inc, 1);
        let panics = client.submit(async || -> String { panic!("no text") }, ());
        let cancelled = never(&client);
        cancelled.cancel();
        let (a, b, c) = block_on(gather_settled((number, &panics, &cancelled)));
        assert_eq!(a.unwrap(), 2);
        assert!(b.unwrap_err().is_panic() && c.unwrap_err().is_cancelled());
        // A client without workers, as closing would wait for an endless task that has started.
        let client = client_of(0);
        let open = never(&client);
        let settled = gather_settled((&open, client.ready(1u8)));
        block_on(client.close());
        let (open, ready) = block_on(settled);
        assert_eq!((open.unwrap_err().kind(), ready.unwrap()), (ErrorKind::Closed, 1));
    });
}

#[test]
fn a_tuple_that_closes_a_cycle_is_refused() {
    bounded(|| {
        let client = client_of(1);
        for settles in [false, true] {
            let (sender, receiver) = futures::channel::oneshot::channel::<Handle<u64>>();
            let a = client.task().name("a").spawn(async move {
                let both = (receiver.await.unwrap(), Client::current().unwrap().ready("text"));
                if settles {
                    let (number, text) = gather_settled(both).await;
                    assert_eq!(text.unwrap_err().kind(), ErrorKind::Cycle);
                    number
                } else {
                    gather(both).await.map(|(number, _)| number)
                }
            });
            let b = client.submit(async |_: Result<u64, ensue::Error>| 1u64, &a);
            sender.send(b.clone()).unwrap();
            let error = a.result().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Cycle);
            assert!(error.to_string().contains(&*b.key()), "{error}");
        }
    });
}
