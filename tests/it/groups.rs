//! Groups and nurseries (promises 26 and 27).

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ensue::{
    Client, ErrorKind, Group, Handle, Reason, Retry, Status, gather, gather_settled, sleep,
};
use futures::executor::block_on;
use futures::future;
use support::hold::Gate;
use support::observe::{Count, Counts, Log};
use support::{bounded, client_of, eventually, poll_once};

const HOUR: Duration = Duration::from_secs(3600);

async fn inc(x: u64) -> u64 {
    x + 1
}

fn seeded() -> Client {
    Client::builder().seed(1).limit("one", 1).build()
}

/// Tasks of a group in all states, for a client with two workers and the limit `one`.
fn in_all_states(client: &Client, group: &Group, counts: &Counts) -> Vec<Handle<()>> {
    let running = group.spawn(counts.future(pending::<()>()));
    let limited = group.task().acquire("one").spawn(counts.future(pending::<()>()));
    let waits_for_limit = group.task().acquire("one").spawn(counts.future(pending::<()>()));
    let waits = group.submit(async |(): ()| (), &running);
    let outside = client.spawn(pending::<()>());
    let waits_outside = group.submit(async |(): ()| (), outside);
    let keyed = group.task().key("keyed").spawn(counts.future(pending::<()>()));
    let retries = Retry::new(9).backoff(HOUR, HOUR);
    let delayed = group.task().retries(retries).try_submit(async || Err::<(), _>("no"), ());
    let blocking = group.submit_blocking(|| while !ensue::is_cancelled() {}, ());
    eventually("these have begun", || {
        [&running, &limited, &keyed, &blocking].iter().all(|x| x.status() == Status::Running)
            && delayed.status() == Status::Delayed
    });
    vec![running, limited, waits_for_limit, waits, waits_outside, keyed, delayed, blocking]
}

#[test]
fn a_group_holds_what_is_submitted_through_it_and_by_its_tasks() {
    bounded(|| {
        for client in [client_of(2), seeded()] {
            let group = client.group();
            let gate = Gate::new();
            let (pass, captured, outer) = (gate.clone(), client.clone(), group.len());
            let x = group.spawn(async move {
                // By the current client, a captured one, in a stream's task, in blocking work, and in a branch of a join.
                let current = Client::current().unwrap();
                for by in [&current, &captured] {
                    by.spawn(pass.pass()).detach();
                }
                let (inner, on_thread) = (pass.clone(), captured.clone());
                captured
                    .submit_blocking(move || on_thread.spawn(inner.pass()).detach(), ())
                    .await?;
                ensue::join(
                    || captured.spawn(pass.pass()).detach(),
                    || captured.spawn(pass.pass()).detach(),
                );
                Ok::<_, ensue::Error>(())
            });
            let outside = client.submit(inc, 1);
            x.result().unwrap().unwrap();
            assert_eq!(outer, 0);
            eventually("only those are left", || group.len() == 5);
            outside.result().unwrap();
            assert!(poll_once(&mut Box::pin(group.idle())).is_pending());
            gate.open();
            block_on(group.idle());
            assert!(group.is_empty());
            block_on(group.idle());
            assert_eq!(group.submit(inc, 1).result().unwrap(), 2, "it goes on");
        }
    });
}

#[test]
fn all_verbs_submit_to_the_group() {
    bounded(|| {
        let client = client_of(1);
        let group = client.group();
        let gate = Gate::new();
        let passed = gate.clone();
        let pass = move |_: u64| {
            let gate = passed.clone();
            async move { gate.pass().await }
        };
        let mut all = group.map(pass.clone(), 0..3);
        all.push(group.submit(pass.clone(), 1));
        all.push(group.task().priority(3).submit(pass.clone(), 1));
        all.push(group.task().key("k").retries(2).submit(pass.clone(), 1));
        all.push(group.spawn(gate.pass()));
        all.push(group.task().deadline(HOUR).spawn(gate.pass()));
        let mut stream = group.map_stream(futures::stream::iter(0..9u64), 2, pass.clone());
        let _ = poll_once(&mut futures::StreamExt::next(&mut stream));
        assert_eq!(group.len(), all.len() + 2);
        let ready = group.ready(1);
        assert_eq!(ready.result().unwrap(), 1);
        assert_eq!(group.len(), all.len() + 2, "what has ended is in no group");
        assert_eq!(group.cancel(), all.len() + 2);
        assert!(all.iter().all(|x| x.result().unwrap_err().is_cancelled()));
    });
}

#[test]
fn a_stream_submits_to_the_group_that_it_was_made_in() {
    bounded(|| {
        let client = client_of(2);
        let group = client.group();
        let plain = client.clone();
        let (sender, receiver) = std::sync::mpsc::channel();
        let make = async move {
            let inputs = futures::stream::iter(0..4u64);
            let stream = plain.map_stream(inputs, 1, async |_| pending::<()>().await);
            sender.send(stream).unwrap();
        };
        group.spawn(make).detach();
        let mut stream = receiver.recv().unwrap();
        block_on(group.idle());
        assert!(poll_once(&mut futures::StreamExt::next(&mut stream)).is_pending());
        assert_eq!(group.len(), 1, "though it's polled elsewhere");
    });
}

#[test]
fn cancelling_ends_tasks_in_all_states() {
    bounded(|| {
        let client = Client::builder().workers(2).limit("one", 1).build();
        for way in ["cancel", "cancel_with", "drop"] {
            let (group, counts) = (client.group(), Counts::new());
            let tasks = in_all_states(&client, &group, &counts);
            assert_eq!(group.len(), tasks.len());
            let inside = Client::clone(&group);
            let reason = match way {
                "cancel" => {
                    assert_eq!(group.cancel(), tasks.len());
                    assert_eq!(group.cancel_with("again"), 0);
                    "its group was cancelled"
                }
                "cancel_with" => {
                    assert_eq!(group.cancel_with("enough"), tasks.len());
                    "enough"
                }
                _ => {
                    let clone = group.clone();
                    drop(group);
                    assert!(!tasks[0].is_finished(), "a clone is left");
                    drop(clone);
                    "its group was dropped"
                }
            };
            for x in &tasks {
                let error = x.result().unwrap_err();
                assert!(error.is_cancelled(), "{way}: {error}");
                assert_eq!(error.reason(), Some(reason), "{way}");
            }
            assert_eq!(counts.drops.get(), 4, "{way}");
            for late in [inside.submit(inc, 1), inside.task().key("late").submit(inc, 1)] {
                assert_eq!(late.result().unwrap_err().reason(), Some(reason), "{way}");
            }
            assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
        }
    });
}

#[test]
fn other_tasks_are_not_affected() {
    bounded(|| {
        let client = client_of(2);
        let group = client.group();
        let gate = Gate::new();
        let input = client.spawn(gate.pass());
        let inside = group.submit(async |(): ()| 1, &input);
        let outside = client.submit(async |(): ()| 2, &input);
        let dependent = client.submit(inc, &inside);
        group.cancel_with("enough");
        let error = dependent.result().unwrap_err();
        assert_eq!((error.origin(), error.reason()), (&inside.key(), Some("enough")));
        assert!(!outside.is_finished());
        gate.open();
        assert_eq!(outside.result().unwrap(), 2);
    });
}

#[test]
fn dropping_the_last_handle_abandons_a_task_of_a_group() {
    bounded(|| {
        let client = client_of(1);
        let (group, counts) = (client.group(), Counts::new());
        drop(group.spawn(counts.future(pending::<()>())));
        group.spawn(counts.future(async {})).detach();
        block_on(group.idle());
        assert_eq!(counts.drops.get(), 2);
    });
}

#[test]
fn inner_groups_belong_to_the_outer_one() {
    bounded(|| {
        let client = client_of(2);
        let outer = client.group();
        let inner = outer.group();
        let (a, b) = (outer.spawn(pending::<()>()), inner.spawn(pending::<()>()));
        assert_eq!((outer.len(), inner.len()), (2, 1));
        let made = outer.submit(async || Client::current().unwrap().group(), ());
        let third = made.result().unwrap();
        let c = third.spawn(pending::<()>());
        eventually("what has ended has left", || outer.len() == 3);
        assert_eq!((inner.len(), third.len()), (1, 1));
        assert_eq!(inner.cancel(), 1);
        assert!(b.result().unwrap_err().is_cancelled());
        assert!(!a.is_finished() && !c.is_finished());
        block_on(inner.idle());
        assert_eq!(outer.cancel_with("all"), 2);
        assert_eq!(c.result().unwrap_err().reason(), Some("all"));
        assert_eq!(third.submit(inc, 1).result().unwrap_err().reason(), Some("all"));
        block_on(outer.idle());
        assert_eq!((outer.len(), third.len()), (0, 0));
    });
}

#[test]
fn a_task_that_is_joined_stays_where_it_is() {
    bounded(|| {
        let client = client_of(1);
        let (one, two) = (client.group(), client.group());
        let x = one.task().key("x").spawn(pending::<()>());
        let y = two.task().key("x").spawn(pending::<()>());
        assert_eq!((one.len(), two.len()), (1, 0));
        two.cancel();
        assert!(!y.is_finished());
        one.cancel();
        assert!(x.result().is_err() && y.result().is_err());
    });
}

#[test]
fn a_retried_task_enters_its_group_again() {
    bounded(|| {
        let client = client_of(1);
        let group = client.group();
        let (gate, tries) = (Gate::new(), Count::new());
        let (pass, count) = (gate.clone(), tries.clone());
        let x = group.try_submit(
            async move || {
                if count.add() > 0 {
                    pass.pass().await;
                }
                Err::<(), _>("no")
            },
            (),
        );
        assert_eq!(x.result().unwrap_err().kind(), ErrorKind::Failed);
        block_on(group.idle());
        assert!(x.retry());
        assert_eq!(group.len(), 1);
        gate.open();
        x.result().unwrap_err();
        block_on(group.idle());
        group.cancel_with("over");
        assert!(x.retry());
        assert_eq!(x.result().unwrap_err().reason(), Some("over"));
        assert!(group.is_empty());
    });
}

#[test]
fn tasks_of_a_group_may_wait_for_it() {
    bounded(|| {
        let client = client_of(2);
        let group = Arc::new(client.group());
        let done = Count::new();
        for _ in 0..3 {
            let (of, count) = (group.clone(), done.clone());
            group
                .spawn(async move {
                    // Twice at once, too.
                    future::join(of.idle(), of.idle()).await;
                    assert_eq!(count.get(), 4);
                })
                .detach();
        }
        let (of, count) = (group.clone(), done.clone());
        let on_thread = group.submit_blocking(
            move || {
                block_on(of.idle());
                assert_eq!(count.get(), 4);
            },
            (),
        );
        for _ in 0..4 {
            let count = done.clone();
            let work = async move || {
                sleep(Duration::from_millis(5)).await;
                count.add();
            };
            group.submit(work, ()).detach();
        }
        on_thread.result().unwrap();
        block_on(group.idle());
        assert!(group.is_empty());
    });
}

#[test]
fn a_wait_that_is_given_up_counts_no_longer() {
    bounded(|| {
        let client = client_of(2);
        let group = client.group();
        let (of, gate) = (group.clone(), Gate::new());
        let (pass, began) = (gate.clone(), Gate::new());
        let begin = began.clone();
        group
            .spawn(async move {
                assert!(poll_once(&mut Box::pin(of.idle())).is_ready(), "it's the only one");
                let _other = of.spawn(pending::<()>());
                {
                    let mut idle = Box::pin(of.idle());
                    assert!(poll_once(&mut idle).is_pending());
                }
                begin.open();
                pass.pass().await;
            })
            .detach();
        began.pass_blocking();
        let mut idle = Box::pin(group.idle());
        assert!(poll_once(&mut idle).is_pending());
        gate.open();
        block_on(idle);
    });
}

#[test]
fn at_most_as_many_run_as_the_limit_says() {
    bounded(|| {
        let client = Client::builder().workers(4).limit("five", 5).build();
        let group = client.group();
        group.limit_to(2);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let enter = {
            let (now, most) = (now.clone(), most.clone());
            move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::yield_now();
            }
        };
        let leave = move || now.fetch_sub(1, Ordering::SeqCst);
        let work = {
            let (enter, leave) = (enter.clone(), leave.clone());
            move |_: u64| {
                let (enter, leave) = (enter.clone(), leave.clone());
                async move {
                    enter();
                    sleep(Duration::from_micros(100)).await;
                    leave();
                }
            }
        };
        let mut all = group.map(work.clone(), 0..50);
        all.extend(group.task().acquire("five").retries(1).map(work.clone(), 0..50));
        all.extend((0..20).map(|_| {
            let (enter, leave) = (enter.clone(), leave.clone());
            let blocking = move || {
                enter();
                leave();
            };
            group.submit_blocking(blocking, ())
        }));
        block_on(gather(all)).unwrap();
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
        // Raised, it holds for those that wait; one of an inner group needs both.
        let inner = group.group();
        inner.limit_to(1);
        let running: Vec<_> = (0..2).map(|_| inner.spawn(pending::<()>())).collect();
        let outer: Vec<_> = (0..3).map(|_| group.spawn(pending::<()>())).collect();
        let used = |group: &Group| {
            let limits = client.limits();
            limits.iter().find(|limit| *limit.name == *group.name()).map_or(0, |limit| limit.used)
        };
        eventually("two run", || used(&group) == 2);
        group.limit_to(4);
        eventually("four run", || used(&group) == 4 && used(&inner) == 1);
        drop((running, outer));
        block_on(group.idle());
        drop((group, inner));
        eventually("the limits are gone", || client.limits().len() == 1);
    });
}

#[test]
fn blocking_work_that_outlives_its_group_keeps_the_limit_in_memory() {
    bounded(|| {
        let client = client_of(1);
        let group = client.group();
        group.limit_to(1);
        let (gate, began) = (Gate::new(), Gate::new());
        let (pass, begin) = (gate.clone(), began.clone());
        let work = move || {
            begin.open();
            pass.pass_blocking();
        };
        let x = group.submit_blocking(work, ());
        began.pass_blocking();
        drop(group);
        assert!(x.result().unwrap_err().is_cancelled());
        drop(x);
        // Another limit doesn't get its place meanwhile.
        let other = client.group();
        other.limit_to(1);
        assert_eq!(other.submit(inc, 1).result().unwrap(), 2);
        gate.open();
        block_on(client.close());
        drop(other);
        assert!(client.limits().is_empty());
    });
}

#[test]
fn nothing_is_left_of_groups() {
    bounded(|| {
        let client = client_of(2);
        let value = Arc::new(());
        for n in 0..200 {
            let group = client.with_context(value.clone()).group();
            if n % 2 == 0 {
                group.limit_to(1);
            }
            let inner = group.group();
            group.map(inc, 0..5).into_iter().for_each(Handle::detach);
            let failed = inner.try_submit(async || Err::<(), _>("no"), ());
            if n % 3 == 0 {
                failed.result().unwrap_err();
            }
            // Last, as it keeps the limit.
            inner.spawn(pending::<()>()).detach();
        }
        eventually("no task is left", || client.tasks_in_memory() == 0);
        eventually("no context is left", || Arc::strong_count(&value) == 1);
        assert!(client.limits().is_empty());
    });
}

#[test]
fn many_groups_inside_of_each_other_are_dropped() {
    bounded(|| {
        let client = client_of(1);
        let mut group = client.group();
        for _ in 0..100_000 {
            group = group.group();
        }
        // The outer ones were dropped, which ended them.
        let late = group.submit(inc, 1);
        assert_eq!(late.result().unwrap_err().reason(), Some("its group was dropped"));
        drop((late, group));
    });
}

#[test]
fn closing_the_client_ends_its_groups() {
    bounded(|| {
        let client = client_of(1);
        let group = client.group();
        let gate = Gate::new();
        let started = group.spawn(gate.pass());
        let waits = group.submit(async |(): ()| (), &started);
        eventually("it runs", || started.status() == Status::Running);
        let mut close = Box::pin(client.close());
        assert!(poll_once(&mut close).is_pending());
        let idle = group.idle();
        gate.open();
        block_on(idle);
        block_on(close);
        assert_eq!(waits.result().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(group.submit(inc, 1).result().unwrap_err().kind(), ErrorKind::Closed);
        assert!(group.is_empty());
    });
}

#[test]
fn submitting_while_a_group_is_cancelled_leaves_nothing() {
    bounded(|| {
        let client = client_of(2);
        for round in 0..200 {
            let group = client.group();
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let group = group.clone();
                    thread::spawn(move || {
                        let tasks: Vec<_> = (0..50)
                            .map(|_| {
                                group.try_spawn(async {
                                    let inner = Client::current().unwrap().spawn(pending::<()>());
                                    inner.await
                                })
                            })
                            .collect();
                        tasks.iter().all(|x| x.result().is_err_and(|error| error.is_cancelled()))
                    })
                })
                .collect();
            if round % 2 == 0 {
                thread::yield_now();
            }
            group.cancel();
            assert!(threads.into_iter().all(|it| it.join().unwrap()));
            block_on(group.idle());
        }
    });
}

#[test]
fn a_nursery_returns_its_value_when_all_have_ended() {
    bounded(|| {
        for client in [client_of(2), seeded()] {
            let done = Count::new();
            let borrowed = [1u64, 2, 3];
            let value = block_on(client.nursery(async |group| {
                for _ in 0..5 {
                    let count = done.clone();
                    group
                        .submit(
                            async move || {
                                sleep(Duration::from_millis(2)).await;
                                let inner = count.clone();
                                // What a task leaves behind is awaited, too.
                                let late = async move || {
                                    sleep(Duration::from_millis(2)).await;
                                    inner.add();
                                };
                                Client::current().unwrap().submit(late, ()).detach();
                                count.add();
                            },
                            (),
                        )
                        .detach();
                }
                let all = group.map(inc, borrowed.iter().copied());
                Ok(gather(all).await?.iter().sum::<u64>())
            }));
            assert_eq!(value.unwrap(), 9);
            assert_eq!(done.get(), 10, "{client}");
        }
    });
}

#[test]
fn the_first_failure_ends_a_nursery() {
    bounded(|| {
        for client in [client_of(2), seeded()] {
            for way in ["error", "panic", "timeout"] {
                let counts = Counts::new();
                let body_ended = Log::new();
                struct Ended(Log<&'static str>);
                impl Drop for Ended {
                    fn drop(&mut self) {
                        self.0.add("dropped");
                    }
                }
                let ended = Ended(body_ended.clone());
                let result = block_on(client.nursery(async |group| {
                    let _ended = ended;
                    let sibling = group.spawn(counts.future(pending::<()>()));
                    let deadline = Duration::from_millis(5);
                    match way {
                        "error" => group.try_submit(async || Err::<(), _>("no"), ()).detach(),
                        "panic" => group.spawn(async { panic!("oh") }).detach(),
                        _ => group.task().timeout(deadline).spawn(pending::<()>()).detach(),
                    }
                    pending::<()>().await;
                    drop(sibling);
                    Ok(())
                }));
                let error = result.unwrap_err();
                let kind = match way {
                    "error" => ErrorKind::Failed,
                    "panic" => ErrorKind::Panicked,
                    _ => ErrorKind::TimedOut,
                };
                assert_eq!(error.kind(), kind);
                assert_eq!(body_ended.all(), ["dropped"]);
                assert_eq!(counts.drops.get(), 1, "the sibling was dropped before it returned");
            }
        }
    });
}

#[test]
fn siblings_are_told_of_the_failure() {
    bounded(|| {
        let client = client_of(2);
        let kept = Log::new();
        let result = block_on(client.nursery(async |group| {
            kept.add(group.spawn(pending::<()>()));
            kept.add(group.task().key("bad").try_submit(async || Err::<(), _>("no"), ()));
            pending::<Result<(), _>>().await
        }));
        assert_eq!(result.unwrap_err().origin(), "bad");
        let [sibling, bad] = &kept.all()[..] else { panic!("two were submitted") };
        let error = sibling.result().unwrap_err();
        assert_eq!(error.reason(), Some("another task of its group failed: task `bad` failed: no"));
        assert_eq!(bad.result().unwrap_err().kind(), ErrorKind::Failed);
    });
}

#[test]
fn an_error_of_the_body_ends_the_tasks() {
    bounded(|| {
        let client = client_of(2);
        let counts = Counts::new();
        let result = block_on(client.nursery(async |group| {
            group.spawn(counts.future(pending::<()>())).detach();
            let outside = client.try_submit(async || Err::<u64, _>("outside"), ());
            outside.await
        }));
        assert!(result.unwrap_err().to_string().contains("outside"));
        assert_eq!(counts.drops.get(), 1);
        assert_eq!(client.tasks_in_memory(), 0);
    });
}

#[test]
fn what_is_cancelled_or_abandoned_is_no_failure() {
    bounded(|| {
        let client = client_of(2);
        let value = block_on(client.nursery(async |group| {
            let cancelled = group.spawn(pending::<()>());
            cancelled.cancel();
            drop(group.spawn(pending::<()>()));
            // Nor is a failure in a group of its own, which is no nursery.
            let inner = group.group();
            let bad = inner.try_submit(async || Err::<(), _>("no"), ());
            let results = gather_settled([bad, cancelled]).await;
            Ok(results.iter().filter(|it| it.is_err()).count())
        }));
        assert_eq!(value.unwrap(), 2);
    });
}

#[test]
fn an_inner_nursery_fails_its_own_task() {
    bounded(|| {
        let client = client_of(2);
        let log = Log::new();
        let result = block_on(client.nursery(async |group| {
            let entry = log.clone();
            let inner = group.spawn(async move {
                let inner = Client::current().unwrap().nursery(async |group| {
                    group.try_submit(async || Err::<(), _>("deep"), ()).detach();
                    Ok(())
                });
                entry.add(inner.await.unwrap_err().to_string());
            });
            inner.await
        }));
        result.unwrap();
        assert!(log.all()[0].contains("deep"));
    });
}

#[test]
fn dropping_a_nursery_cancels_its_tasks() {
    bounded(|| {
        let client = client_of(1);
        let counts = Counts::new();
        let of = counts.clone();
        let mut nursery = Box::pin(client.nursery(async move |group| {
            group.spawn(of.future(pending::<()>())).detach();
            Ok(())
        }));
        assert_eq!(counts.polls.get(), 0, "it begins when it's polled");
        assert!(poll_once(&mut nursery).is_pending());
        eventually("its task runs", || counts.polls.get() == 1);
        drop(nursery);
        eventually("its task is dropped", || counts.drops.get() == 1);
        // In a task that is cancelled, too.
        let of = counts.clone();
        let task = client.spawn(async move {
            let client = Client::current().unwrap();
            let nursery = client.nursery(async |group| {
                group.spawn(of.future(pending::<()>())).detach();
                pending::<Result<(), _>>().await
            });
            nursery.await
        });
        eventually("its task runs", || counts.polls.get() == 2);
        task.cancel();
        eventually("its task is dropped", || counts.drops.get() == 2);
    });
}

#[test]
fn a_panic_of_the_body_cancels_the_tasks() {
    bounded(|| {
        let client = client_of(1);
        let counts = Counts::new();
        let of = counts.clone();
        let task = client.spawn(async move {
            let client = Client::current().unwrap();
            let nursery = client.nursery(async |group| {
                group.spawn(of.future(pending::<()>())).detach();
                if !group.is_empty() {
                    panic!("the body");
                }
                Ok(())
            });
            nursery.await
        });
        assert!(task.result().unwrap_err().is_panic());
        eventually("its task is dropped", || counts.drops.get() == 1);
    });
}

#[test]
fn a_nursery_of_a_closed_client_fails() {
    bounded(|| {
        let client = client_of(1);
        block_on(client.close());
        let result = block_on(client.nursery(async |group| {
            group.submit(inc, 1).detach();
            Ok(())
        }));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed);
        block_on(client.nursery(async |_| Ok(()))).unwrap();
    });
}

#[test]
fn a_nursery_can_be_spawned_and_nested() {
    bounded(|| {
        fn tree(
            client: Client,
            depth: u32,
        ) -> future::BoxFuture<'static, Result<u64, ensue::Error>> {
            Box::pin(async move {
                let inner = client.clone();
                let nursery = client.nursery(async move |group| {
                    if depth == 0 {
                        return Ok(1);
                    }
                    let halves = (0..2).map(|_| group.try_spawn(tree(inner.clone(), depth - 1)));
                    Ok(gather(halves).await?.iter().sum())
                });
                nursery.await
            })
        }
        for client in [client_of(2), seeded()] {
            let root = client.try_spawn(tree(client.clone(), 6));
            assert_eq!(root.result().unwrap(), 64);
            eventually("nothing is left", || {
                drop(client.submit(inc, 1).result());
                client.tasks_in_memory() <= 1
            });
        }
    });
}

#[test]
fn what_awaits_a_group_is_explained() {
    bounded(|| {
        let client = client_of(2);
        let group = client.group();
        let _one = group.spawn(pending::<()>());
        let awaits = client.spawn(group.idle());
        let reason = || client.explain(&awaits).reasons;
        let expected = Reason::AwaitsGroup { group: group.name().to_owned(), tasks: 1 };
        eventually("it awaits", || reason() == [expected.clone()]);
        let text = client.explain(&awaits).to_string();
        assert!(
            text.contains(&format!("it awaits `{}`, which has 1 task left", group.name())),
            "{text}"
        );
        group.cancel();
        awaits.result().unwrap();
        // The limit is named after the group.
        let group = client.group();
        group.limit_to(0);
        let x = group.submit(inc, 1);
        eventually("it waits", || client.explain(&x).to_string().contains(group.name()));
        group.limit_to(1);
        assert_eq!(x.result().unwrap(), 2);
    });
}

#[test]
fn a_seeded_client_cancels_in_order() {
    bounded(|| {
        let order = |seed| {
            let client = Client::builder().seed(seed).build();
            let (group, log) = (client.group(), Log::new());
            for n in 0..20 {
                let log = log.clone();
                let task = group.spawn(pending::<()>());
                task.on_done(move |_| log.add(n));
                task.detach();
            }
            group.cancel();
            log.all()
        };
        assert_eq!(order(1), order(1));
        assert_eq!(order(1), (0..20).collect::<Vec<_>>());
    });
}
