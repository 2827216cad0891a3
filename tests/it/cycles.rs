//! Cycles of tasks that wait for each other (promise 4).

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ensue::{
    Client, Error, ErrorKind, Handle, Key, Reason, Stall, Status, as_completed, gather,
    gather_settled, wait_all, wait_any,
};
use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::{BoxFuture, join, join_all, poll_fn, select};
use futures::stream::FuturesUnordered;
use futures::task::{Poll, Waker};
use futures::{FutureExt, StreamExt};
use smol::future::yield_now;
use support::hold::{Gate, turns};
use support::{assert_linear, bounded, client_of, drive, eventually, poll_once};

/// The result of the awaited task as a task of a cycle saw it: a number, or the error.
pub(crate) type Seen = Result<u64, Error>;

/// A client of one worker, which is seeded or has a thread.
pub(crate) fn one_worker(seed: Option<u64>) -> Client {
    let builder = Client::builder().workers(1);
    match seed {
        Some(seed) => builder.seed(seed).build(),
        None => builder.build(),
    }
}

pub(crate) fn flat(awaited: Result<Seen, Error>) -> Seen {
    awaited.and_then(|seen| seen).map(|x| x + 1)
}

/// A task that gets the handle it awaits later, through a channel.
pub(crate) fn awaits_later(
    client: &Client,
    name: &str,
) -> (Handle<Seen>, oneshot::Sender<Handle<Seen>>) {
    let (sender, receiver) = oneshot::channel::<Handle<Seen>>();
    let task = async move || flat(receiver.await.unwrap().await);
    (client.task().name(name).submit(task, ()), sender)
}

fn cycle_error(handle: &Handle<Seen>) -> Error {
    let error = handle.result().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cycle);
    error
}

#[test]
fn a_task_that_awaits_itself() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let (me, sender) = awaits_later(&client, "me");
        sender.send(me.clone()).unwrap();
        let error = cycle_error(&me);
        assert_eq!(*error.origin(), me.key());
        let cycle = format!("{0} awaits {0}", me.key());
        assert!(error.to_string().contains(&cycle), "{error}");
        // The others run on.
        assert_eq!(client.submit(async || 1, ()).result().unwrap(), 1);
    });
}

#[test]
fn a_task_that_awaits_itself_through_a_borrowed_handle_a_ref_or_its_key() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let (sender, receiver) = oneshot::channel::<Handle<Seen>>();
        let borrowed = client.submit(
            async move || {
                let me = receiver.await.unwrap();
                let first = flat((&me).await);
                // It may try again, and gets the error again.
                assert_eq!(flat((&me).await).unwrap_err().kind(), ErrorKind::Cycle);
                first
            },
            (),
        );
        sender.send(borrowed.clone()).unwrap();
        cycle_error(&borrowed);

        let (sender, receiver) = oneshot::channel::<Handle<Seen>>();
        let shared = client.submit(
            async move || receiver.await.unwrap().get_ref().await.and_then(|seen| (*seen).clone()),
            (),
        );
        sender.send(shared.clone()).unwrap();
        cycle_error(&shared);

        let by_key = client
            .task()
            .key("me")
            .submit(async || flat(Client::current().unwrap().get::<Seen>("me").unwrap().await), ());
        cycle_error(&by_key);
    });
}

#[test]
fn a_cycle_of_two_and_of_three() {
    bounded(|| {
        for count in [2, 3, 10] {
            let client = Client::builder().workers(1).build();
            let (handles, senders): (Vec<_>, Vec<_>) =
                (0..count).map(|at| awaits_later(&client, &format!("t{at}"))).unzip();
            for (at, sender) in senders.into_iter().enumerate() {
                sender.send(handles[(at + 1) % count].clone()).unwrap();
            }
            // One gets the error; each other gets what the next one saw.
            let seen: Vec<_> = handles.iter().map(|handle| handle.result().unwrap()).collect();
            let error = seen[0].clone().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Cycle);
            assert!(seen.iter().all(|seen| seen.as_ref().unwrap_err().origin() == error.origin()));
            let text = error.to_string();
            for at in 0..count {
                let next =
                    format!("{} awaits {}", handles[at].key(), handles[(at + 1) % count].key());
                assert!(text.contains(&next), "{next} is not in {text}");
            }
            assert_eq!(client.submit(async || 1, ()).result().unwrap(), 1);
        }
    });
}

#[test]
fn a_cycle_of_an_input_and_an_await() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let (a, sender) = awaits_later(&client, "a");
        let b = client.task().name("b").submit(async |a: Seen| flat(Ok(a)), &a);
        sender.send(b.clone()).unwrap();
        let error = cycle_error(&a);
        let cycle = format!("{0} awaits {1} awaits {0}", a.key(), b.key());
        assert!(error.to_string().contains(&cycle), "{error}");
        assert_eq!(b.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
    });
}

#[test]
fn a_cycle_with_a_long_chain_of_inputs() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let (a, sender) = awaits_later(&client, "a");
        let mut last = a.clone();
        for _ in 0..200 {
            last = client.submit(async |x: Seen| flat(Ok(x)), last);
        }
        sender.send(last.clone()).unwrap();
        cycle_error(&a);
        assert_eq!(last.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
    });
}

#[test]
fn a_cycle_through_one_of_many_inputs() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let gate = Gate::new();
        let (a, sender) = awaits_later(&client, "a");
        let other = client.spawn(gate.pass().map(|()| Ok(0)));
        let b = client.submit(async |xs: Vec<Seen>| xs[1].clone(), vec![&other, &a, &other]);
        sender.send(b.clone()).unwrap();
        // Until then the other input may fail, and end the wait.
        assert_named(&client, None, &[&a, &b]);
        gate.open();
        cycle_error(&a);
        assert_eq!(b.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
    });
}

#[test]
fn a_cycle_through_gather() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        // The gathering task closes the cycle.
        let (sender, receiver) = oneshot::channel::<Vec<Handle<Seen>>>();
        let a = client.task().name("a").submit(
            async move || {
                gather(receiver.await.unwrap()).await.and_then(|seen| flat(Ok(seen[0].clone())))
            },
            (),
        );
        let other = client.submit(async || Ok(0), ());
        let b = client.task().name("b").submit(async |a: Seen| flat(Ok(a)), &a);
        sender.send(vec![other, b.clone()]).unwrap();
        let error = cycle_error(&a);
        assert!(error.to_string().contains(&*b.key()), "{error}");

        // The other task closes the cycle.
        let (sender, receiver) = oneshot::channel::<Handle<Seen>>();
        let (going, is_going) = oneshot::channel();
        let (c, sender_c) = awaits_later(&client, "c");
        let d = client.task().name("d").submit(
            async move || {
                let others = vec![receiver.await.unwrap()];
                let all = gather_settled(others);
                going.send(()).unwrap();
                flat(all.await.pop().unwrap())
            },
            (),
        );
        sender.send(c.clone()).unwrap();
        block_on(is_going).unwrap();
        sender_c.send(d.clone()).unwrap();
        cycle_error(&c);
        assert_eq!(d.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
    });
}

#[test]
fn a_cycle_through_two_awaits_at_once() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let gate = Gate::new();
        let (sender, receiver) = oneshot::channel::<Handle<Seen>>();
        let waits = client.spawn(gate.pass());
        let a = client.submit(
            async move || {
                let b = receiver.await.unwrap();
                let (_, seen) = join(waits, b).await;
                flat(seen)
            },
            (),
        );
        let b = client.submit(async |a: Seen| flat(Ok(a)), &a);
        sender.send(b.clone()).unwrap();
        gate.open();
        cycle_error(&a);
        b.result().unwrap().unwrap_err();
    });
}

#[test]
fn a_cycle_through_two_clients() {
    bounded(|| {
        let (first, second) =
            (Client::builder().workers(1).build(), Client::builder().workers(1).build());
        let (a, sender_a) = awaits_later(&first, "a");
        let (b, sender_b) = awaits_later(&second, "b");
        sender_a.send(b.clone()).unwrap();
        sender_b.send(a.clone()).unwrap();
        assert_eq!(a.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
        assert_eq!(b.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);

        let (a, sender) = awaits_later(&first, "a");
        let b = second.submit(async |a: Seen| flat(Ok(a)), &a);
        sender.send(b.clone()).unwrap();
        cycle_error(&a);
        b.result().unwrap().unwrap_err();
    });
}

#[test]
fn a_cycle_under_a_seed() {
    bounded(|| {
        for seed in 0..50 {
            let client = Client::builder().seed(seed).build();
            let (a, sender_a) = awaits_later(&client, "a");
            let (b, sender_b) = awaits_later(&client, "b");
            sender_a.send(b.clone()).unwrap();
            sender_b.send(a.clone()).unwrap();
            assert_eq!(a.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
            assert_eq!(b.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
        }
    });
}

#[test]
fn a_cycle_passed_on_fails_the_task_and_can_be_read() {
    bounded(|| {
        let client = client_of(0);
        let own = Arc::new(Mutex::new(None::<Handle<u64>>));
        let function = {
            let own = own.clone();
            move || own.lock().unwrap().clone().unwrap()
        };
        let me = client.try_submit(function, ());
        *own.lock().unwrap() = Some(me.clone());
        let error = drive(&client, me).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cycle);
        assert!(error.to_string().contains(" awaits "), "{error}");
        // A failed task keeps its function, which holds the task's own handle.
        own.lock().unwrap().take();
    });
}

#[test]
fn a_cycle_through_join_all_once_the_others_have_ended() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let gate = Gate::new();
        let mut all = vec![client.spawn(gate.pass().map(|()| Seen::Ok(0)))];
        let (sender, receiver) = oneshot::channel::<Handle<Seen>>();
        let a = client.spawn(async move {
            all.push(receiver.await.unwrap());
            flat(join_all(all).await.pop().unwrap())
        });
        let (b, sender_b) = awaits_later(&client, "b");
        sender.send(b.clone()).unwrap();
        sender_b.send(a.clone()).unwrap();
        eventually("b awaits a", || client.explain(&b).to_string().contains(&*a.key()));
        assert_eq!((a.status(), b.status()), (Status::Running, Status::Running));
        gate.open();
        cycle_error(&a);
        cycle_error(&b);
    });
}

#[test]
fn a_cycle_is_seen_when_the_last_other_waker_is_dropped() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let other = Arc::new(Mutex::new(None::<Waker>));
        let kept = other.clone();
        let (sender, receiver) = oneshot::channel::<Handle<Seen>>();
        let a = client.spawn(async move {
            let b = receiver.await.unwrap();
            let own = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
            *kept.lock().unwrap() = Some(own);
            flat(b.await)
        });
        let (b, sender_b) = awaits_later(&client, "b");
        sender.send(b.clone()).unwrap();
        sender_b.send(a.clone()).unwrap();
        eventually("b awaits a", || client.explain(&b).to_string().contains(&*a.key()));
        assert_eq!((a.status(), b.status()), (Status::Running, Status::Running));
        other.lock().unwrap().take();
        cycle_error(&a);
        cycle_error(&b);
    });
}

// Cycles without an error, because something else might end them, or because they are too long. They are named.

fn names_cycle(reasons: &[Reason], keys: &[Key]) -> bool {
    reasons.iter().any(|reason| match reason {
        Reason::Cycle { tasks } => keys.iter().all(|key| tasks.contains(key)),
        _ => false,
    })
}

/// Waits until the cycle is named, by `explain` without a record, or by `on_stall`.
fn assert_named(
    client: &Client,
    stalls: Option<&mpsc::Receiver<Stall>>,
    handles: &[&Handle<Seen>],
) {
    let keys: Vec<_> = handles.iter().map(|handle| handle.key()).collect();
    let Some(stalls) = stalls else {
        for handle in handles {
            eventually(format!("the cycle of {keys:?} is explained"), || {
                names_cycle(&client.explain(handle).reasons, &keys)
            });
        }
        return;
    };
    // There may be a stall before the last await begins.
    loop {
        let stall = stalls.recv().unwrap();
        if stall.reasons.iter().any(|explanation| names_cycle(&explanation.reasons, &keys)) {
            assert!(stall.to_string().contains("in a cycle of tasks"), "{stall}");
            return;
        }
    }
}

/// A client of one worker, with stalls reported or not.
fn client_and_stalls(reports: bool) -> (Client, Option<mpsc::Receiver<Stall>>) {
    let builder = Client::builder().workers(1);
    if !reports {
        return (builder.build(), None);
    }
    let (send, stalls) = mpsc::channel();
    let hook = move |stall: &Stall| drop(send.send(stall.clone()));
    (builder.on_stall(Duration::from_millis(50), hook).build(), Some(stalls))
}

#[test]
fn cycles_through_combinators_are_named() {
    type Way = fn(Handle<Seen>) -> BoxFuture<'static, Option<()>>;
    let ways: [(&str, Way); 8] = [
        ("join", |b| join(b.clone(), b).map(|_| None).boxed()),
        ("join_all of many", |b| join_all(vec![b; 40]).map(|_| None).boxed()),
        ("FuturesUnordered", |b| {
            async { FuturesUnordered::from_iter([b]).next().await.map(drop) }.boxed()
        }),
        ("select", |b| {
            let late = Box::pin(ensue::sleep(Duration::from_secs(3600)));
            select(b, late).map(|_| None).boxed()
        }),
        ("as_completed", |b| async { as_completed([b]).next().await.map(drop) }.boxed()),
        ("with_results", |b| {
            async { as_completed([b]).with_results().next().await.map(drop) }.boxed()
        }),
        ("wait_any", |b| wait_any([b]).map(|_| None).boxed()),
        ("map_stream", |b| {
            let client = Client::current().unwrap();
            let inputs = futures::stream::iter([b]);
            async move { client.map_stream(inputs, 2, async |x: Seen| x).next().await.map(drop) }
                .boxed()
        }),
    ];
    for (name, way) in ways {
        for reports in [false, true] {
            bounded(move || {
                let (client, stalls) = client_and_stalls(reports);
                let (sender, receiver) = oneshot::channel::<Handle<Seen>>();
                let a = client.task().name(name).submit(
                    async move || {
                        way(receiver.await.unwrap()).await;
                        Ok(0)
                    },
                    (),
                );
                let (b, sender_b) = awaits_later(&client, "b");
                sender.send(b.clone()).unwrap();
                sender_b.send(a.clone()).unwrap();
                assert_named(&client, stalls.as_ref(), &[&a, &b]);
                assert_eq!((a.status(), b.status()), (Status::Running, Status::Running), "{name}");
            });
        }
    }
}

#[test]
fn a_cycle_through_an_await_beside_idle_or_close_is_named() {
    for close in [false, true] {
        bounded(move || {
            let client = Client::builder().workers(1).build();
            let (b, sender) = awaits_later(&client, "b");
            let (inner, awaited) = (client.clone(), b.clone());
            let a = client.spawn(async move {
                let ends = if close { inner.close().boxed() } else { inner.idle().boxed() };
                flat(join(ends, awaited).await.1)
            });
            sender.send(a.clone()).unwrap();
            assert_named(&client, None, &[&a, &b]);
            a.cancel();
        });
    }
}

#[test]
fn cycles_through_idle_limits_and_threads_are_named() {
    for way in ["idle", "close", "limit", "thread"] {
        // A client that is closed reports no stalls.
        for reports in [false, true].into_iter().filter(|reports| !reports || way != "close") {
            bounded(move || {
                let builder = Client::builder().workers(2).limit("one", 1).blocking_threads(1);
                let (send, stalls) = mpsc::channel();
                let hook = move |stall: &Stall| drop(send.send(stall.clone()));
                let client = match reports {
                    true => builder.on_stall(Duration::from_millis(50), hook).build(),
                    false => builder.build(),
                };
                let stalls = reports.then_some(&stalls);
                // `a` waits for what `b` keeps from it, and `b` for `a`.
                let (a, b) = match way {
                    "idle" | "close" => {
                        // It has started before `a` finds the client idle, or closes it.
                        let (b, sender) = awaits_later(&client, "b");
                        eventually("it has started", || {
                            client.explain(&b).reasons == [Reason::Suspended]
                        });
                        let inner = client.clone();
                        let a = client.spawn(async move {
                            if way == "idle" {
                                inner.idle().await
                            } else {
                                inner.close().await
                            }
                            Ok(0)
                        });
                        sender.send(a.clone()).unwrap();
                        (a, b)
                    }
                    "limit" => {
                        let (sender, receiver) = oneshot::channel::<Handle<Seen>>();
                        let b = client
                            .task()
                            .acquire("one")
                            .spawn(async move { flat(receiver.await.unwrap().await) });
                        eventually("it has the limit", || client.stats().limits[0].used == 1);
                        let a = client.task().acquire("one").submit(async || Ok(0), ());
                        sender.send(a.clone()).unwrap();
                        (a, b)
                    }
                    _ => {
                        let (sender, receiver) = mpsc::channel::<Handle<Seen>>();
                        let b = client
                            .submit_blocking(move || flat(receiver.recv().unwrap().result()), ());
                        eventually("it has the thread", || {
                            client.explain(&b).reasons.contains(&Reason::Blocking)
                        });
                        let a = client.submit_blocking(|| Ok(0), ());
                        sender.send(a.clone()).unwrap();
                        (a, b)
                    }
                };
                assert_named(&client, stalls, &[&a, &b]);
                a.cancel();
                b.cancel();
            });
        }
    }
}

#[test]
fn tasks_that_wait_for_idleness_or_a_limit_without_a_cycle_are_in_none() {
    bounded(|| {
        let client = Client::builder().workers(2).limit("one", 1).build();
        let inner = client.clone();
        let idle = client.spawn(async move { inner.idle().await });
        let after = client.submit(async |()| (), &idle);
        let holder = client.task().acquire("one").spawn(pending::<()>());
        eventually("it has the limit", || client.stats().limits[0].used == 1);
        let wants = client.task().acquire("one").submit(async || (), ());
        eventually("it waits for the limit", || client.stats().limits[0].waiting == 1);
        for handle in [&idle, &after, &holder, &wants] {
            let explanation = client.explain(handle);
            assert!(!names_cycle(&explanation.reasons, &[]), "{explanation}");
        }
        holder.cancel();
        after.result().unwrap();
        wants.result().unwrap();
    });
}

#[test]
fn a_cycle_that_is_too_long_is_named() {
    for reports in [false, true] {
        bounded(move || {
            let (client, stalls) = client_and_stalls(reports);
            let (a, sender) = awaits_later(&client, "a");
            let mut last = a.clone();
            for _ in 0..1000 {
                last = client.submit(async |x: Seen| flat(Ok(x)), last);
            }
            sender.send(last.clone()).unwrap();
            assert_named(&client, stalls.as_ref(), &[&a, &last]);
            assert_eq!((a.status(), last.status()), (Status::Running, Status::Waiting));
            let explained = client.explain(&a);
            let lengths = explained.reasons.iter().filter_map(|reason| match reason {
                Reason::Cycle { tasks } => Some(tasks.len()),
                _ => None,
            });
            assert_eq!(lengths.collect::<Vec<_>>(), [1001]);
            assert!(explained.to_string().contains("993 more"), "{explained}");
            let key = a.key();
            a.cancel();
            assert_eq!(*last.result().unwrap_err().origin(), key);
        });
    }
}

// No cycles: none of these gets an error.

/// A `select` that gives up in the very poll that also polls the await it gives up.
#[test]
fn an_await_that_lost_to_a_timeout_closes_no_cycle() {
    type Then = fn(Client) -> BoxFuture<'static, ()>;
    let nap = |seconds| ensue::sleep(Duration::from_secs(seconds));
    let thens: [Then; 3] = [
        |_| ensue::sleep(Duration::from_secs(10)).boxed(),
        |client| {
            let other = client.spawn(ensue::sleep(Duration::from_secs(10)));
            async { other.await.unwrap() }.boxed()
        },
        |client| {
            let other = client.spawn(ensue::sleep(Duration::from_secs(10)));
            async { drop(gather([other]).await.unwrap()) }.boxed()
        },
    ];
    for then in thens {
        // In virtual time: before, during and after the wait that times out at 2.
        for begins in [1, 3, 5] {
            for gathers in [false, true] {
                bounded(move || {
                    let client = Client::builder().seed(1).build();
                    let (sender, receiver) = oneshot::channel::<Handle<Seen>>();
                    let inner = client.clone();
                    let a = client.spawn(async move {
                        let mut b = receiver.await.unwrap();
                        let mut both = gather([b.clone()]);
                        if gathers {
                            drop(select(&mut both, Box::pin(nap(2))).await);
                        } else {
                            drop(select(&mut b, Box::pin(nap(2))).await);
                        }
                        then(inner).await;
                        drop((b, both));
                        Ok(1)
                    });
                    let of_b = a.clone();
                    let b = client.spawn(async move {
                        nap(begins).await;
                        flat(of_b.await)
                    });
                    sender.send(b.clone()).unwrap();
                    assert_eq!(b.result().unwrap().unwrap(), 2);
                });
            }
        }
    }
}

#[test]
fn diamonds_are_no_cycles() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let gate = Gate::new();
        let base = client.spawn(gate.pass().map(|()| 1u64));
        let middle: Vec<_> = (0..10)
            .map(|_| {
                let base = base.clone();
                client.submit(async move || base.await.unwrap() + 1, ())
            })
            .collect();
        let (left, right) = (middle.clone(), middle.clone());
        let top = client.submit(async move || gather(left).await.unwrap().iter().sum::<u64>(), ());
        let both = client.submit(
            async move |base: u64| {
                let mut sum = base;
                for handle in right {
                    sum += handle.await.unwrap();
                }
                sum
            },
            &base,
        );
        gate.open();
        assert_eq!((top.result().unwrap(), both.result().unwrap()), (20, 21));
    });
}

#[test]
fn as_completed_and_wait_make_no_edge() {
    bounded(|| {
        // In virtual time a timeout elapses only when nothing else can run.
        for seed in 0..20 {
            let client = Client::builder().seed(seed).build();
            let (sender, receiver) = oneshot::channel::<Handle<Seen>>();
            let a = client.submit(
                async move || {
                    let b = receiver.await.unwrap();
                    let any = wait_any([&b]).timeout(Duration::from_secs(1)).await;
                    let all = wait_all([&b]).timeout(Duration::from_secs(1)).await;
                    let mut stream = as_completed([&b]);
                    let late = Box::pin(ensue::sleep(Duration::from_secs(1)));
                    let next = select(stream.next(), late).await;
                    assert!(matches!(next, futures::future::Either::Right(_)));
                    assert_eq!((any.done.len(), all.done.len()), (0, 0));
                    Ok(5)
                },
                (),
            );
            let (b, sender_b) = awaits_later(&client, "b");
            sender.send(b.clone()).unwrap();
            sender_b.send(a.clone()).unwrap();
            assert_eq!(b.result().unwrap().unwrap(), 6);
        }
    });
}

#[test]
fn an_edge_ends_with_the_next_poll() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let (sender, receiver) = oneshot::channel::<Handle<Seen>>();
        let (awaited, is_awaited) = oneshot::channel();
        let gate = Gate::new();
        let (waits, moved_on) = (gate.pass(), Gate::new());
        let signal = moved_on.clone();
        let last = Gate::new();
        let ends = last.pass();
        let a = client.submit(
            async move || {
                let mut b = receiver.await.unwrap();
                awaited.send(()).unwrap();
                // It awaits `b` until the gate opens, and then something else.
                select(&mut b, Box::pin(waits)).await;
                yield_now().await;
                signal.open();
                ends.await;
                Ok(1)
            },
            (),
        );
        let (b, sender_b) = awaits_later(&client, "b");
        sender.send(b.clone()).unwrap();
        block_on(is_awaited).unwrap();
        gate.open();
        moved_on.pass_blocking();
        sender_b.send(a.clone()).unwrap();
        // The only worker runs this one after `b` was woken.
        client.submit(async || (), ()).result().unwrap();
        last.open();
        assert_eq!(b.result().unwrap().unwrap(), 2);
        assert_eq!(a.result().unwrap().unwrap(), 1);
    });
}

#[test]
fn an_edge_that_has_ended_is_in_no_cycle_though_others_wait() {
    bounded(|| {
        for gathers in [false, true] {
            let client = Client::builder().workers(1).build();
            let (sender, receiver) = oneshot::channel::<Handle<Seen>>();
            let (gate, moved_on, last) = (Gate::new(), Gate::new(), Gate::new());
            let (waits, signal, ends) = (gate.pass(), moved_on.clone(), last.pass());
            let a = client.spawn(async move {
                let mut b = receiver.await.unwrap();
                // It awaits `b` until the gate opens, and then something else.
                select(&mut b, Box::pin(waits)).await;
                yield_now().await;
                signal.open();
                ends.await;
                Ok(1)
            });
            let others: Vec<_> =
                (0..4).map(|_| client.spawn(last.pass().map(|()| Seen::Ok(0)))).collect();
            let (sender_b, receiver_b) = oneshot::channel::<Handle<Seen>>();
            let b = client.spawn(async move {
                let a = receiver_b.await.unwrap();
                if !gathers {
                    return flat(a.await);
                }
                flat(gather_settled(others.into_iter().chain([a])).await.pop().unwrap())
            });
            let c = client.submit(async |b: Seen| flat(Ok(b)), &b);
            sender.send(b.clone()).unwrap();
            gate.open();
            moved_on.pass_blocking();
            sender_b.send(a).unwrap();
            // The only worker runs this one after `b` was woken.
            client.submit(async || (), ()).result().unwrap();
            last.open();
            assert_eq!(c.result().unwrap().unwrap(), 3, "gathers: {gathers}");
        }
    });
}

#[test]
fn a_cycle_through_a_gather_of_many_is_named_in_order() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let gate = Gate::new();
        let others: Vec<_> =
            (0..4).map(|_| client.spawn(gate.pass().map(|()| Seen::Ok(0)))).collect();
        let (a, sender_a) = awaits_later(&client, "a");
        let (sender_b, receiver_b) = oneshot::channel::<Handle<Seen>>();
        let b = client.spawn(async move {
            let a = receiver_b.await.unwrap();
            flat(gather_settled(others.into_iter().chain([a])).await.pop().unwrap())
        });
        sender_a.send(b.clone()).unwrap();
        // The only worker has polled `a` before this.
        client.submit(async || (), ()).result().unwrap();
        sender_b.send(a.clone()).unwrap();
        let error = cycle_error(&b);
        let cycle = format!("{1} awaits {0} awaits {1}", a.key(), b.key());
        assert!(error.to_string().contains(&cycle), "{error}");
        gate.open();
    });
}

#[test]
fn an_await_outside_of_tasks_is_in_no_cycle() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let (sender, receiver) = oneshot::channel::<u64>();
        let x = client.submit(async move || receiver.await.unwrap(), ());
        let mut waiting = x.clone();
        assert!((&mut waiting).now_or_never().is_none());
        let y = client.submit(async |x: u64| x + 1, &x);
        assert!(y.clone().now_or_never().is_none());
        sender.send(1).unwrap();
        assert_eq!(block_on(waiting).unwrap(), 1);
        assert_eq!(y.result().unwrap(), 2);
    });
}

// The search costs little, and finds every cycle.

#[test]
fn an_await_is_cheap_also_where_many_depend_on_the_task() {
    bounded(|| {
        assert_linear(20_000, |n| {
            let client = Client::builder().workers(1).build();
            let (gate, awaits) = (Gate::new(), n as u64 / 5);
            let waits = gate.pass();
            let children = client.spawn(async move {
                waits.await;
                let client = Client::current().unwrap();
                let mut sum = 0;
                for x in 0..awaits {
                    sum += client.submit(async |x: u64| x, x).await.unwrap();
                }
                sum
            });
            // No await may search through all of these.
            let dependents =
                client.map(async |x: u64, y: u64| x + y, (0..n as u64).map(|y| (&children, y)));
            gate.open();
            let sum = awaits * (awaits - 1) / 2;
            assert_eq!(children.result().unwrap(), sum);
            assert_eq!(dependents[n - 1].result().unwrap(), sum + n as u64 - 1);
        });
    });
}

#[test]
fn an_await_is_cheap_where_many_depend_on_the_task_and_the_awaited_one_waits_too() {
    bounded(|| {
        assert_linear(30_000, |n| {
            let client = Client::builder().workers(1).build();
            let (gate, awaits) = (Gate::new(), n as u64 / 10);
            let waits = gate.pass();
            let nested = client.spawn(async move {
                waits.await;
                let client = Client::current().unwrap();
                let mut sum = 0;
                for x in 0..awaits {
                    let input = client.submit(async |x: u64| x, x);
                    sum += client.submit(async |x: u64| x, input).await.unwrap();
                }
                sum
            });
            let dependents: Vec<_> = (0..n as u64)
                .map(|y| client.submit(async |x: u64, y: u64| x + y, (&nested, y)))
                .collect();
            gate.open();
            let sum = awaits * (awaits - 1) / 2;
            assert_eq!(nested.result().unwrap(), sum);
            assert_eq!(dependents[n - 1].result().unwrap(), sum + n as u64 - 1);
        });
    });
}

#[test]
fn an_await_that_is_polled_often_is_cheap_where_the_awaited_one_has_many_inputs() {
    bounded(|| {
        assert_linear(30_000, |n| {
            let client = Client::builder().workers(1).build();
            let gate = Gate::new();
            let waits = gate.pass();
            let nested = client.submit(
                async move |waits| {
                    let client = Client::current().unwrap();
                    let first = client.spawn(waits);
                    let mut all = client.map(async |()| 1, vec![&first; n]);
                    all.push(client.submit(async || 1, ()));
                    let mut sum = client.submit(async |xs: Vec<usize>| xs.len(), all);
                    for _ in 0..n / 10 {
                        assert!(futures::poll!(&mut sum).is_pending());
                        yield_now().await;
                    }
                    Some(sum)
                },
                waits,
            );
            let dependent = client
                .submit(async |sum: Option<Handle<usize>>| sum.unwrap().await.unwrap(), &nested);
            assert_eq!(nested.result().unwrap().unwrap().status(), Status::Waiting);
            gate.open();
            assert_eq!(dependent.result().unwrap(), n + 1);
        });
    });
}

#[test]
fn dropping_many_awaits_in_the_poll_that_made_them_is_cheap() {
    bounded(|| {
        assert_linear(100_000, |n| {
            let client = Client::builder().workers(1).build();
            let gate = Gate::new();
            let waits = gate.pass();
            let first = client.spawn(waits);
            let mut many = client.map(async |()| (), vec![&first; n]);
            // As `select` does if the other side is ready at once.
            let other = client.spawn(poll_fn(move |cx| {
                assert!(many.iter_mut().all(|x| x.poll_unpin(cx).is_pending()));
                many.clear();
                Poll::Ready(1)
            }));
            assert_eq!(other.result().unwrap(), 1);
            gate.open();
            first.result().unwrap();
        });
    });
}

#[test]
fn of_many_awaits_those_that_were_given_up_are_in_no_cycle() {
    bounded(|| {
        for gives_up in [false, true] {
            let client = Client::builder().seed(1).build();
            let nap = async |seconds| ensue::sleep(Duration::from_secs(seconds)).await;
            let mut others = client.map(nap, [1000; 40]);
            let place = Arc::new(Mutex::new(None::<Handle<bool>>));
            let of_a = place.clone();
            let b = client.spawn(async move {
                nap(1).await;
                let mut a = of_a.lock().unwrap().clone();
                poll_fn(|cx| {
                    assert!(a.iter_mut().all(|a| a.poll_unpin(cx).is_pending()));
                    assert!(others.iter_mut().all(|other| other.poll_unpin(cx).is_pending()));
                    Poll::Ready(())
                })
                .await;
                if gives_up {
                    a = None;
                }
                others.drain(5..10);
                nap(10).await;
                drop(a);
            });
            let a = client.spawn(async move {
                nap(5).await;
                b.await.is_ok()
            });
            // The search starts from the dependents of the awaiting task.
            let _dependent = client.submit(async |x: bool| x, &a);
            *place.lock().unwrap() = Some(a.clone());
            // It naps, whether it keeps the handle or not.
            assert!(a.result().unwrap(), "drops the handle: {gives_up}");
        }
    });
}

#[test]
fn cycles_closed_from_two_workers_at_once_are_always_seen() {
    bounded(|| {
        let client = Client::builder().workers(2).build();
        for round in 0..3000 {
            // Each spins until the other does, so that the two awaits begin at the same time.
            let spinning = Arc::new(AtomicUsize::new(0));
            let task = |sender: oneshot::Receiver<Handle<Seen>>| {
                let spinning = spinning.clone();
                client.submit(
                    async move || {
                        let other = sender.await.unwrap();
                        spinning.fetch_add(1, SeqCst);
                        for _ in 0..10_000 {
                            if spinning.load(SeqCst) == 2 {
                                break;
                            }
                            std::hint::spin_loop();
                        }
                        flat(other.await)
                    },
                    (),
                )
            };
            let (sender_a, receiver_a) = oneshot::channel();
            let (sender_b, receiver_b) = oneshot::channel();
            let (a, b) = (task(receiver_a), task(receiver_b));
            sender_a.send(b.clone()).unwrap();
            sender_b.send(a.clone()).unwrap();
            for handle in [a, b] {
                let error = handle.result().unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Cycle, "round {round}: {error}");
            }
        }
        eventually("everything is freed", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn a_cycle_is_seen_when_the_other_task_leaves_its_poll() {
    bounded(|| {
        let client = Client::builder().workers(2).build();
        let (awaits, it_awaits) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let (sender_a, receiver_a) = oneshot::channel::<Handle<Seen>>();
        let a = client.spawn(async move {
            let mut other = receiver_a.await.unwrap();
            // Begins to await the other, and then stays in this poll.
            let begun = (&mut other).now_or_never();
            awaits.send(begun.is_none()).unwrap();
            wait.lock().unwrap().recv().unwrap();
            flat(other.await)
        });
        let (b, sender_b) = awaits_later(&client, "b");
        sender_a.send(b.clone()).unwrap();
        assert!(it_awaits.recv().unwrap());
        sender_b.send(a.clone()).unwrap();
        eventually("b awaits a", || client.explain(&b).to_string().contains(&*a.key()));
        // Until then `a` might do something else.
        assert_eq!(b.status(), Status::Running);
        go.send(()).unwrap();
        cycle_error(&a);
        cycle_error(&b);
    });
}

#[test]
fn cycles_of_many_closed_by_several_workers_are_always_seen() {
    bounded(|| {
        let client = Client::builder().workers(4).build();
        for round in 0..500 {
            let count = 2 + round % 5;
            let (handles, senders): (Vec<_>, Vec<_>) =
                (0..count).map(|at| awaits_later(&client, &format!("t{at}"))).unzip();
            let gathers = round % 2 == 0;
            let outside = gathers.then(|| {
                let handles = handles.clone();
                client.submit(async move || gather(handles).await, ())
            });
            for (at, sender) in senders.into_iter().enumerate() {
                sender.send(handles[(at + 1) % count].clone()).unwrap();
            }
            for handle in &handles {
                assert_eq!(handle.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
            }
            if let Some(outside) = outside {
                // It awaits a cycle, and is in none.
                assert_eq!(outside.result().unwrap().unwrap().len(), count);
            }
        }
    });
}

#[test]
fn cycles_of_gathers_closed_at_once_are_always_seen() {
    bounded(|| {
        let client = Client::builder().workers(2).build();
        for _ in 0..1000 {
            let task = |receiver: oneshot::Receiver<Handle<Seen>>, extra: Handle<Seen>| {
                client.submit(
                    async move || {
                        let other = receiver.await.unwrap();
                        gather([extra, other]).await.and_then(|seen| flat(Ok(seen[1].clone())))
                    },
                    (),
                )
            };
            let extra = client.submit(async || Ok(0), ());
            let (sender_a, receiver_a) = oneshot::channel();
            let (sender_b, receiver_b) = oneshot::channel();
            let (a, b) = (task(receiver_a, extra.clone()), task(receiver_b, extra));
            sender_a.send(b.clone()).unwrap();
            sender_b.send(a.clone()).unwrap();
            for handle in [a, b] {
                let error = handle.result().unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Cycle);
            }
        }
    });
}

#[test]
fn an_input_edge_and_an_await_that_meet_are_always_seen() {
    bounded(|| {
        let client = Client::builder().workers(2).build();
        for _ in 0..2000 {
            let (a, sender) = awaits_later(&client, "a");
            let (c, sender_c) = awaits_later(&client, "c");
            // `b` waits for `a` and `a` for `c`, while `c` begins to await `b`.
            let b = client.submit(async |a: Seen| flat(Ok(a)), &a);
            sender.send(c.clone()).unwrap();
            sender_c.send(b.clone()).unwrap();
            for handle in [a, b, c] {
                assert_eq!(handle.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
            }
        }
    });
}

/// Blocking work waits on behalf of its task.
#[test]
fn blocking_work_that_waits_for_its_own_task_is_a_cycle() {
    for seed in [None, Some(1)] {
        bounded(move || {
            let client = one_worker(seed);
            let me = client.task().key("me").submit_blocking(
                || {
                    let client = Client::current().expect("blocking work has a client");
                    let dependent = client.submit(
                        async |kind: Option<ErrorKind>| kind,
                        client.get::<Option<ErrorKind>>("me").expect("it runs"),
                    );
                    dependent.result().err().map(|error| error.kind())
                },
                (),
            );
            assert_eq!(me.result().expect("it goes on after the refusal"), Some(ErrorKind::Cycle));
        });
    }
}

#[test]
fn the_ended_members_of_a_gather_are_in_no_cycle() {
    bounded(|| {
        let client = client_of(1);
        let gates = [(); 3].map(|()| Gate::new());
        let task = |gate: &Gate, x: Option<u64>| {
            let gate = gate.clone();
            client.spawn(async move {
                gate.pass().await;
                x.unwrap()
            })
        };
        let members = vec![
            task(&gates[0], None),
            task(&gates[1], Some(2)),
            task(&gates[1], Some(3)),
            task(&gates[2], Some(4)),
        ];
        let gathers = client.spawn(async move { gather_settled(members).await.len() });
        turns(&client);
        // One has ended, and its memory is reused for tasks that depend on the gathering one.
        gates[0].open();
        turns(&client);
        let (inner, on) = (client.clone(), gathers.clone());
        let dependents = client.submit(
            async move || {
                fn use_again<const N: usize>(client: &Client, on: &Handle<usize>) -> Handle<usize> {
                    client.submit(async |n: usize, _: [u64; N]| n, (on, [0; N]))
                }
                let sizes = [
                    use_again::<1>,
                    use_again::<5>,
                    use_again::<9>,
                    use_again::<13>,
                    use_again::<17>,
                ];
                let all = sizes.iter().flat_map(|submit| [(); 50].map(|()| submit(&inner, &on)));
                all.collect::<Vec<_>>()
            },
            (),
        );
        let dependents = block_on(dependents.get_ref()).unwrap();
        gates[2].open();
        turns(&client);
        gates[1].open();
        assert!(dependents.iter().all(|n| n.result().unwrap() == 4));
    });
}

#[test]
fn only_the_await_that_closes_a_cycle_is_refused() {
    bounded(|| {
        for gathers in [false, true] {
            let client = Client::builder().seed(1).build();
            let place = Arc::new(Mutex::new(None::<Handle<bool>>));
            let of_a = place.clone();
            let b = client.spawn(async move {
                ensue::sleep(Duration::from_secs(1)).await;
                let a = of_a.lock().unwrap().clone().unwrap();
                let refused = match gathers {
                    true => gather([a]).await.unwrap_err(),
                    false => a.await.unwrap_err(),
                };
                assert_eq!(refused.kind(), ErrorKind::Cycle);
                ensue::sleep(Duration::from_secs(10)).await;
                7
            });
            let a = client.spawn(async move { b.await.ok() == Some(7) });
            // The search starts from the dependents of the awaiting task.
            let _dependent = client.submit(async |x: bool| x, &a);
            *place.lock().unwrap() = Some(a.clone());
            assert!(a.result().unwrap(), "by gather: {gathers}");
        }
    });
}

#[test]
fn an_await_outside_that_begins_beside_a_refused_one_goes_on() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let (first, to_first) = awaits_later(&client, "first");
        let (sender, receiver) = oneshot::channel::<Handle<Seen>>();
        let second = client.submit(
            async move || {
                let mut own = receiver.await.unwrap();
                // Nobody in the cycle waits by these, on both sides of the one that closes it.
                let mut others = [own.clone(), own.clone()];
                let seen = poll_fn(|cx| {
                    assert!(poll_once(&mut others[0]).is_pending());
                    let seen = own.poll_unpin(cx);
                    assert!(poll_once(&mut others[1]).is_pending());
                    seen
                });
                flat(seen.await)
            },
            (),
        );
        to_first.send(second.clone()).unwrap();
        client.submit(async || 1, ()).result().unwrap();
        sender.send(first.clone()).unwrap();
        cycle_error(&second);
        cycle_error(&first);
    });
}

#[test]
fn a_dropped_await_closes_no_cycle() {
    bounded(|| {
        for polled_twice in [false, true] {
            let client = Client::builder().seed(1).build();
            let place = Arc::new(Mutex::new(None::<Handle<bool>>));
            let of_a = place.clone();
            let b = client.spawn(async move {
                ensue::sleep(Duration::from_secs(1)).await;
                let mut a = of_a.lock().unwrap().clone().unwrap();
                if polled_twice {
                    assert!(futures::poll!(&mut a).is_pending());
                }
                select(a, ensue::sleep(Duration::from_secs(1))).await;
                // From that poll on it waits for this only.
                ensue::sleep(Duration::from_secs(10)).await;
                7
            });
            let a = client.spawn(async move {
                ensue::sleep(Duration::from_secs(5)).await;
                b.await.ok() == Some(7)
            });
            // The search starts from the dependents of the awaiting task.
            let _dependent = client.submit(async |x: bool| x, &a);
            *place.lock().unwrap() = Some(a.clone());
            assert!(a.result().unwrap());
        }
    });
}
