//! Handles in order of completion (promise 19).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use ensue::{AsCompleted, Client, Handle, as_completed};
use futures::executor::block_on;
use futures::stream::FusedStream;
use futures::{FutureExt, Stream, StreamExt};
use smol::future::yield_now;
use support::hold::{End, Gate};
use support::observe::{Count, Counts, Log, Wakes, poll_with};
use support::{assert_linear, bounded, client_of, drive, eventually, poll_once};

async fn inc(x: u64) -> u64 {
    x + 1
}

/// A task that waits for a gate of its own.
fn gated(client: &Client) -> (Gate, Handle<u64>) {
    let gate = Gate::new();
    let pass = gate.clone();
    let x = client.spawn(async move {
        pass.pass().await;
        1
    });
    (gate, x)
}

fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    block_on(stream.next())
}

/// Ends a gated task, and waits until the streams that have it are notified.
fn finish(gate: &Gate, x: &Handle<u64>) {
    let end = End::of(x);
    gate.open();
    end.wait();
}

#[test]
fn finished_ones_come_first_in_the_order_in_which_they_were_added() {
    bounded(|| {
        let client = client_of(1);
        let (gate, slow) = gated(&client);
        let done = client.map(inc, 0..5u64);
        for x in &done {
            x.result().unwrap();
        }
        let all = [&slow, &done[3], &done[0], &done[4]];
        let mut stream = as_completed(all);
        assert_eq!(stream.len(), 4);
        assert!(stream.has_ready());
        for x in &all[1..] {
            assert_eq!(&&next(&mut stream).unwrap(), x);
        }
        assert!(!stream.has_ready());
        gate.open();
        assert_eq!(next(&mut stream).unwrap(), slow);
        assert!(next(&mut stream).is_none());
    });
}

#[test]
fn pending_ones_come_in_order_of_completion() {
    bounded(|| {
        let client = client_of(2);
        let tasks: Vec<_> = (0..6).map(|_| gated(&client)).collect();
        let mut stream = as_completed(tasks.iter().map(|(_, x)| x));
        let order = [3, 0, 5, 1, 4, 2];
        for n in order {
            finish(&tasks[n].0, &tasks[n].1);
        }
        for n in order {
            assert_eq!(next(&mut stream).unwrap(), tasks[n].1);
        }
        assert!(next(&mut stream).is_none());
    });
}

#[test]
fn in_virtual_time_they_come_in_order_of_their_sleeps() {
    bounded(|| {
        let client = Client::builder().seed(3).build();
        let hours = async |h: u64| {
            ensue::sleep(Duration::from_secs(h * 3600)).await;
            h
        };
        let stream = as_completed(client.map(hours, [4, 2, 5, 1, 3]));
        let order: Vec<_> = block_on(stream.with_results().map(|(_, h)| h.unwrap()).collect());
        assert_eq!(order, [1, 2, 3, 4, 5]);
    });
}

#[test]
fn those_that_ended_before_one_was_added_come_before_it() {
    bounded(|| {
        let client = client_of(1);
        let (gate, first) = gated(&client);
        let second = client.submit(inc, 1);
        second.result().unwrap();
        let mut stream = as_completed([&first]);
        finish(&gate, &first);
        stream.add(&second);
        assert_eq!(next(&mut stream).unwrap(), first);
        assert_eq!(next(&mut stream).unwrap(), second);
    });
}

#[test]
fn each_comes_out_once_for_each_time_it_was_added() {
    bounded(|| {
        let client = client_of(1);
        let (gate, x) = gated(&client);
        let mut stream = as_completed([&x, &x]);
        stream.add(&x);
        stream.add(x.clone());
        assert_eq!(stream.len(), 4);
        gate.open();
        for left in (0..4).rev() {
            assert_eq!(next(&mut stream).unwrap(), x);
            assert_eq!(stream.len(), left);
        }
        assert!(next(&mut stream).is_none());
        stream.extend([&x, &x]);
        assert_eq!(stream.len(), 2);
        assert_eq!(next(&mut stream).unwrap(), x);
        assert_eq!(next(&mut stream).unwrap(), x);
        assert!(next(&mut stream).is_none());
    });
}

/// `select!` of the crate `futures` doesn't poll a terminated stream, so one that is only empty isn't.
#[test]
fn a_select_sees_the_end_of_a_stream() {
    bounded(|| {
        let client = client_of(1);
        let mut empty = AsCompleted::<u64>::new();
        let mut handles = as_completed(client.map(inc, 0..3));
        let mut results = as_completed(client.map(inc, 0..3)).with_results();
        let mut mapped = client.map_stream(futures::stream::iter(0..3), 1, inc);
        let mut seen = [0; 3];
        block_on(async {
            let mut never = futures::future::pending::<()>();
            futures::select! {
                none = empty.next() => assert!(none.is_none()),
                () = never => unreachable!("it's pending"),
            }
            let mut left = 3;
            while left > 0 {
                let (at, some) = futures::select! {
                    next = handles.next() => (0, next.is_some()),
                    next = results.next() => (1, next.is_some()),
                    next = mapped.next() => (2, next.is_some()),
                    () = never => unreachable!("it's pending"),
                };
                seen[at] += 1;
                left -= usize::from(!some);
            }
        });
        assert_eq!(seen, [4; 3]);
    });
}

#[test]
fn the_stream_continues_after_its_end() {
    bounded(|| {
        let client = client_of(1);
        let mut stream = AsCompleted::new();
        assert!(next(&mut stream).is_none());
        assert!(stream.is_empty() && stream.is_terminated());
        for n in 0..3 {
            stream.add(client.submit(inc, n));
            assert!(!stream.is_empty() && !stream.is_terminated());
            assert_eq!(next(&mut stream).unwrap().result().unwrap(), n + 1);
            assert!(next(&mut stream).is_none());
            assert!(stream.is_terminated());
        }
    });
}

#[test]
fn handles_are_added_while_it_is_polled() {
    bounded(|| {
        let client = client_of(2);
        // A sum by pairs: the sum of two handles is added again.
        let mut stream = as_completed(client.map(inc, 0..256u64));
        let total = block_on(async {
            loop {
                let a = stream.next().await.unwrap();
                match stream.next().await {
                    Some(b) => stream.add(client.submit(async |a: u64, b: u64| a + b, (a, b))),
                    None => break a.await.unwrap(),
                }
            }
        });
        assert_eq!(total, (1..=256).sum::<u64>());
    });
}

#[test]
fn a_task_comes_out_whatever_its_outcome() {
    bounded(|| {
        let client = client_of(1);
        let never = || client.spawn(std::future::pending::<u64>());
        let before = never();
        before.cancel();
        let panicked = client.submit(async || -> u64 { panic!("oh") }, ());
        let failed = client.try_submit(async || Err::<u64, _>("no"), ());
        let dependent = client.submit(inc, &failed);
        let late = client.task().timeout(Duration::from_millis(1)).spawn(std::future::pending());
        let during = never();
        let last = never();
        let all = [before, panicked, failed, dependent, late, during.clone(), last.clone()];
        let mut stream = as_completed(&all);
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(next(&mut stream).unwrap());
        }
        assert!(during.cancel());
        seen.push(next(&mut stream).unwrap());
        let canceller = thread::spawn(move || last.cancel());
        seen.push(next(&mut stream).unwrap());
        assert!(canceller.join().unwrap());
        assert!(next(&mut stream).is_none());
        assert!(all.iter().all(|x| seen.contains(x)));
        assert!(seen.iter().all(|x| x.error().is_some()));
    });
}

#[test]
fn clear_forgets_all() {
    bounded(|| {
        let client = client_of(1);
        let (gate, x) = gated(&client);
        let done = client.submit(inc, 1);
        done.result().unwrap();
        let mut stream = as_completed([&x, &done]);
        stream.clear();
        assert!(stream.is_empty() && !stream.has_ready());
        assert!(next(&mut stream).is_none());
        finish(&gate, &x);
        assert!(next(&mut stream).is_none());
        stream.add(&x);
        assert_eq!(next(&mut stream).unwrap(), x);
    });
}

#[test]
fn clear_wakes_the_waiter() {
    bounded(|| {
        let client = client_of(0);
        let (_gate, x) = gated(&client);
        let mut stream = as_completed([&x]);
        let wakes = Wakes::new();
        assert!(poll_with(&mut stream.next(), &wakes).is_pending());
        stream.clear();
        assert_eq!(wakes.get(), 1, "it's at its end");
        assert!(poll_with(&mut stream.next(), &wakes).is_ready());
        // What is added after it wakes too.
        let y = client.submit(inc, 1);
        stream.add(&y);
        assert!(poll_with(&mut stream.next(), &wakes).is_pending());
        drive(&client, y.clone()).unwrap();
        assert_eq!(wakes.get(), 2);
        assert_eq!(next(&mut stream).unwrap(), y);
    });
}

#[test]
fn a_dropped_stream_releases_its_handles_only() {
    bounded(|| {
        let client = client_of(1);
        let (gate, kept) = gated(&client);
        let counts = Counts::new();
        let only = client.spawn(counts.future(std::future::pending()));
        eventually("it runs", || counts.polls.get() == 1);
        let stream = as_completed([kept.clone(), only]);
        drop(stream);
        eventually("the one without another handle is dropped", || counts.drops.get() == 1);
        finish(&gate, &kept);
    });
}

#[test]
fn the_stream_keeps_its_tasks_alive() {
    bounded(|| {
        let client = client_of(1);
        let xs = client.map(inc, 0..10u64);
        let stream = as_completed(xs);
        let results: Vec<_> = block_on(stream.with_results().map(|(_, x)| x.unwrap()).collect());
        assert_eq!(results.into_iter().sum::<u64>(), 55);
    });
}

#[test]
fn the_stream_releases_tasks_that_came_out() {
    bounded(|| {
        let client = client_of(1);
        let mut stream = as_completed(client.map(inc, 0..10u64));
        for left in (0..10).rev() {
            drop(next(&mut stream));
            eventually("it's freed", || client.tasks_in_memory() <= left);
        }
        let owned = client.submit(async || Arc::new(1), ());
        stream.clear();
        let mut stream = as_completed([owned]);
        let value = block_on(next(&mut stream).unwrap()).unwrap();
        assert_eq!(Arc::strong_count(&value), 1, "moved out: there is no other handle");
    });
}

#[test]
fn batches_have_each_ready_handle_once() {
    bounded(|| {
        let client = client_of(1);
        let tasks: Vec<_> = (0..5).map(|_| gated(&client)).collect();
        let mut stream = as_completed(tasks.iter().map(|(_, x)| x));
        assert!(stream.ready_batch().is_empty());
        for n in [2, 0] {
            finish(&tasks[n].0, &tasks[n].1);
        }
        let batch = stream.ready_batch();
        assert_eq!(batch, [tasks[2].1.clone(), tasks[0].1.clone()]);
        assert!(stream.ready_batch().is_empty());
        assert_eq!(stream.len(), 3);
        let mut waiting = Box::pin(stream.next_batch());
        assert!(poll_once(&mut waiting).is_pending());
        finish(&tasks[4].0, &tasks[4].1);
        finish(&tasks[1].0, &tasks[1].1);
        let batch = block_on(waiting);
        assert_eq!(batch, [tasks[4].1.clone(), tasks[1].1.clone()]);
        tasks[3].0.open();
        assert_eq!(block_on(stream.next_batch()), [tasks[3].1.clone()]);
        assert!(block_on(stream.next_batch()).is_empty());
        assert!(stream.ready_batch().is_empty());
    });
}

#[test]
fn a_dropped_next_batch_loses_nothing() {
    bounded(|| {
        let client = client_of(1);
        let (gate, x) = gated(&client);
        let mut stream = as_completed([&x]);
        for _ in 0..3 {
            assert!(stream.next_batch().now_or_never().is_none());
            assert!(stream.next().now_or_never().is_none());
        }
        gate.open();
        assert_eq!(block_on(stream.next_batch()), [x]);
    });
}

#[test]
fn with_results_gives_the_handle_and_its_result() {
    bounded(|| {
        let client = client_of(1);
        let xs = client.try_map(async |n: u64| if n == 2 { Err("two") } else { Ok(n) }, 0..4u64);
        let mut stream = as_completed(&xs).with_results();
        assert_eq!(stream.len(), 4);
        stream.add(&xs[0]);
        let mut count = 0;
        while let Some((x, result)) = next(&mut stream) {
            count += 1;
            assert!(xs.contains(&x));
            assert_eq!(result.is_err(), x == xs[2]);
        }
        assert_eq!(count, 5);
        assert!(stream.is_empty() && stream.is_terminated());
    });
}

#[test]
fn with_results_knows_how_many_are_left() {
    bounded(|| {
        let client = client_of(1);
        let (gate, x) = gated(&client);
        let mut stream = as_completed([&x, &x]).with_results();
        assert_eq!(format!("{stream:?}"), "WithResults(AsCompleted { len: 2, has_ready: false })");
        assert!(!stream.is_empty() && !stream.is_terminated());
        finish(&gate, &x);
        for left in [2, 1] {
            assert_eq!((stream.len(), stream.size_hint()), (left, (left, None)));
            assert!(format!("{stream:?}").ends_with("has_ready: true })"));
            assert_eq!(next(&mut stream).unwrap().0, x);
        }
        assert!(stream.is_empty() && !stream.is_terminated());
        assert_eq!((stream.len(), stream.size_hint()), (0, (0, None)));
        assert!(next(&mut stream).is_none());
        assert!(stream.is_terminated());
    });
}

#[test]
fn it_collects_and_extends_from_handles_and_references() {
    bounded(|| {
        let client = client_of(1);
        let xs = client.map(inc, 0..4u64);
        let mut stream: AsCompleted<u64> = xs.iter().collect();
        stream.extend(&xs);
        stream.extend(xs);
        stream.extend(Vec::<Handle<u64>>::new());
        assert_eq!(stream.len(), 12);
        assert_eq!(stream.size_hint().0, 12);
        assert_eq!(block_on(stream.count()), 12);
        let mut empty = AsCompleted::<u64>::default();
        assert!(next(&mut empty).is_none());
    });
}

#[test]
fn the_stream_works_in_select() {
    bounded(|| {
        let client = client_of(1);
        let mut xs = as_completed(client.map(inc, 0..10u64));
        let mut ys = as_completed(client.map(inc, 100..110u64));
        let (mut small, mut large) = (0, 0);
        block_on(async {
            loop {
                futures::select! {
                    x = xs.select_next_some() => small += x.await.unwrap(),
                    y = ys.select_next_some() => large += y.await.unwrap(),
                    complete => break,
                }
            }
        });
        assert_eq!((small, large), ((1..=10).sum(), (101..=110).sum()));
    });
}

#[test]
fn only_the_streams_own_tasks_wake_it() {
    bounded(|| {
        let client = client_of(0);
        let (gate, x) = gated(&client);
        let (other_gate, y) = gated(&client);
        let mut stream = as_completed([&x]);
        let wakes = Wakes::new();
        assert!(poll_with(&mut stream.next(), &wakes).is_pending());
        other_gate.open();
        drive(&client, y.clone()).unwrap();
        assert_eq!(wakes.get(), 0);
        gate.open();
        drive(&client, x.clone()).unwrap();
        assert_eq!(wakes.get(), 1);
        assert_eq!(next(&mut stream).unwrap(), x);
    });
}

#[test]
fn only_the_last_waker_is_woken() {
    bounded(|| {
        let client = client_of(0);
        let (gate, x) = gated(&client);
        let mut stream = as_completed([&x]);
        let (old, new) = (Wakes::new(), Wakes::new());
        assert!(poll_with(&mut stream.next(), &old).is_pending());
        assert!(poll_with(&mut stream.next(), &new).is_pending());
        gate.open();
        drive(&client, x.clone()).unwrap();
        assert_eq!((old.get(), new.get()), (0, 1));
    });
}

#[test]
fn the_waiter_is_woken_though_finished_handles_are_added_meanwhile() {
    bounded(|| {
        let client = client_of(0);
        let (gate, x) = gated(&client);
        let done = client.ready(5);
        // As if the stream was shared behind a mutex: one task awaits it while another adds to it.
        let mut stream = as_completed([&x]);
        let wakes = Wakes::new();
        assert!(poll_with(&mut stream.next(), &wakes).is_pending());
        stream.add(&done);
        gate.open();
        drive(&client, x.clone()).unwrap();
        assert!(wakes.get() > 0, "two handles are ready, and the waiter isn't notified");
    });
}

#[test]
fn the_waiter_is_woken_though_the_stream_was_polled_without_it() {
    bounded(|| {
        let client = client_of(0);
        let (gate, x) = gated(&client);
        let mut stream = as_completed([&x]);
        let wakes = Wakes::new();
        assert!(poll_with(&mut stream.next(), &wakes).is_pending());
        assert!(!stream.has_ready());
        assert!(stream.ready_batch().is_empty());
        gate.open();
        drive(&client, x.clone()).unwrap();
        assert!(wakes.get() > 0);
    });
}

#[test]
fn a_stream_may_be_dropped_while_its_tasks_finish() {
    bounded(|| {
        let client = client_of(2);
        for round in 0..1000 {
            let xs = client.map(inc, 0..8u64);
            let mut stream = as_completed(&xs);
            if round % 2 == 0 {
                let _ = stream.next().now_or_never();
            }
            let dropper = thread::spawn(move || drop(stream));
            for x in xs {
                x.result().unwrap();
            }
            dropper.join().unwrap();
        }
        eventually("nothing is left", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn a_stream_may_be_dropped_by_its_last_task() {
    bounded(|| {
        let client = client_of(1);
        let stream = Arc::new(std::sync::Mutex::new(None));
        let x = client.submit(inc, 1);
        let inner = stream.clone();
        let y = client.submit(
            async move |_: u64| {
                // This task is a member of the stream.
                drop(inner.lock().unwrap().take());
            },
            &x,
        );
        *stream.lock().unwrap() = Some(as_completed([&y]));
        y.result().unwrap();
    });
}

#[test]
fn adding_taking_and_cancelling_from_several_threads() {
    bounded(|| {
        let client = client_of(2);
        let threads: Vec<_> = (0..3)
            .map(|seed| {
                let client = client.clone();
                thread::spawn(move || {
                    let mut stream = AsCompleted::new();
                    let (mut added, mut out) = (0, 0);
                    for n in 0..3000u64 {
                        let x = if n % 3 == 0 {
                            client.submit(
                                async |x: u64| {
                                    yield_now().await;
                                    x
                                },
                                n,
                            )
                        } else {
                            client.submit(inc, n)
                        };
                        if n % 7 == seed {
                            x.cancel();
                        }
                        stream.add(x);
                        added += 1;
                        match n % 5 {
                            0 => out += stream.ready_batch().len(),
                            1 => out += usize::from(next(&mut stream).is_some()),
                            2 => {
                                out += usize::from(matches!(
                                    stream.next().now_or_never(),
                                    Some(Some(_))
                                ))
                            }
                            _ => {}
                        }
                        assert_eq!(stream.len(), added - out);
                    }
                    while next(&mut stream).is_some() {
                        out += 1;
                    }
                    assert_eq!(added, out);
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        eventually("nothing is left", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn a_consumer_is_always_woken() {
    bounded(|| {
        let client = client_of(2);
        for _ in 0..2000 {
            let stream = as_completed(client.map(inc, 0..3u64));
            assert_eq!(block_on(stream.count()), 3);
        }
    });
}

#[test]
fn a_task_may_read_it_on_one_worker() {
    bounded(|| {
        let client = client_of(1);
        let (inner, log) = (client.clone(), Log::new());
        let entry = log.clone();
        let reader = client.spawn(async move {
            let mut stream = as_completed(inner.map(inc, 0..100u64));
            while let Some(x) = stream.next().await {
                entry.add(x.await.unwrap());
            }
        });
        reader.result().unwrap();
        assert_eq!(log.all().iter().sum::<u64>(), (1..=100).sum::<u64>());
    });
}

#[test]
fn the_stream_moves_between_threads() {
    bounded(|| {
        let client = client_of(1);
        let (gate, x) = gated(&client);
        let mut stream = as_completed([&x]);
        assert!(poll_once(&mut stream.next()).is_pending());
        let counted = Count::new();
        let count = counted.clone();
        let reader = thread::spawn(move || {
            while next(&mut stream).is_some() {
                count.add();
            }
        });
        gate.open();
        reader.join().unwrap();
        assert_eq!(counted.get(), 1);
    });
}

#[test]
fn adding_while_many_are_pending_is_cheap_even_if_the_client_is_observed() {
    bounded(|| {
        assert_linear(40_000, |n| {
            let client = Client::builder().workers(1).build();
            client.observe();
            let task = client.spawn(async move {
                let client = Client::current().unwrap();
                let pending = client.spawn(std::future::pending::<()>());
                let mut all = as_completed(vec![&pending; n]);
                for _ in 0..n / 10 {
                    all.add(client.submit(async || (), ()));
                    assert!(all.next().await.is_some());
                }
            });
            task.result().unwrap();
        });
    });
}

#[test]
fn a_task_that_is_retried_before_it_came_out_comes_out_when_it_has_ended_again() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let gate = Gate::new();
        let pass = gate.clone();
        // Each attempt gets the function as it was submitted.
        let is_fine = Arc::new(AtomicBool::new(false));
        let probe = is_fine.clone();
        let flaky = client.try_submit(
            move || {
                let (fails, pass) = (!probe.load(SeqCst), pass.clone());
                async move {
                    if !fails {
                        pass.pass().await;
                    }
                    if fails { Err("the first call fails") } else { Ok(1) }
                }
            },
            (),
        );
        flaky.result().unwrap_err();
        let (mut stream, mut results) =
            (as_completed([&flaky]), as_completed([&flaky]).with_results());
        let (mut batches, mut any) = (as_completed([&flaky]), ensue::wait_any([&flaky]));
        is_fine.store(true, SeqCst);
        assert!(flaky.retry());
        assert!(poll_once(&mut stream.next()).is_pending());
        assert!(poll_once(&mut results.next()).is_pending());
        assert!(batches.ready_batch().is_empty());
        assert!(poll_once(&mut any).is_pending());
        assert_eq!((stream.len(), batches.len(), results.len()), (1, 1, 1));
        gate.open();
        assert!(next(&mut stream).unwrap().is_finished());
        assert_eq!(next(&mut results).unwrap().1.unwrap(), 1);
        assert_eq!(block_on(batches.next_batch()).len(), 1);
        assert_eq!(block_on(any).done.len(), 1);
        assert!(next(&mut stream).is_none());
    });
}

#[test]
fn tags_come_out_with_their_handles() {
    bounded(|| {
        let client = Client::builder().seed(4).build();
        let hours = async |h: u64| {
            ensue::sleep(Duration::from_secs(h * 3600)).await;
            h
        };
        let names = ["three", "one", "five"];
        let handles = client.map(hours, [3, 1, 5]);
        let mut stream = as_completed(names.into_iter().zip(&handles));
        let (tag, handle) = next(&mut stream).unwrap();
        assert_eq!((tag, handle), ("one", handles[1].clone()));
        // Added while it runs, and twice.
        let late = client.submit(hours, 3);
        stream.add(("four", &late));
        stream.extend([("again", late)]);
        assert_eq!(stream.len(), 4);
        let tags: Vec<_> = block_on(stream.by_ref().map(|(tag, _)| tag).collect());
        assert_eq!((tags[0], tags[3]), ("three", "five"));
        assert_eq!(
            {
                let mut two = tags[1..3].to_vec();
                two.sort_unstable();
                two
            },
            ["again", "four"]
        );
        assert!(stream.is_terminated());
        stream.add(("six", client.submit(hours, 0)));
        let (tag, _) = block_on(stream.next_batch()).pop().unwrap();
        assert_eq!(tag, "six");
        assert!(stream.ready_batch().is_empty());
    });
}

#[test]
fn a_tag_comes_with_the_result() {
    bounded(|| {
        let client = client_of(2);
        let by_name: std::collections::BTreeMap<String, Handle<u64>> =
            (0..50).map(|n| (n.to_string(), client.submit(inc, n))).collect();
        // By reference, as one iterates over a map.
        let mut results = as_completed(&by_name).with_results();
        let last = "last".to_owned();
        results.add((&last, client.submit(inc, 99)));
        let mut seen = 0;
        while let Some(((name, handle), result)) = next(&mut results) {
            seen += 1;
            let value = result.unwrap();
            assert_eq!(handle.result().unwrap(), value);
            let n = name.parse().unwrap_or(99);
            assert_eq!(value, n + 1);
        }
        assert_eq!(seen, 51);
        assert!(results.is_terminated());
    });
}

#[test]
fn tags_are_dropped_with_what_they_belong_to() {
    bounded(|| {
        let client = client_of(1);
        let drops = Count::new();
        let (gate, slow) = gated(&client);
        let mut stream = as_completed([(drops.on_drop(), &slow), (drops.on_drop(), &slow)]);
        stream.add((drops.on_drop(), client.submit(inc, 1)));
        let (tag, _) = next(&mut stream).unwrap();
        assert_eq!(drops.get(), 0);
        drop(tag);
        assert_eq!(drops.get(), 1);
        stream.clear();
        assert_eq!((drops.get(), stream.len()), (3, 0));
        assert!(next(&mut stream).is_none());
        stream.add((drops.on_drop(), slow));
        drop(stream);
        assert_eq!(drops.get(), 4);
        gate.open();
        eventually("nothing is left", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn a_tag_stays_with_a_task_that_is_retried_fails_or_is_cancelled() {
    bounded(|| {
        let client = client_of(1);
        let again = Count::new();
        let count = again.clone();
        let flaky = client.try_submit(
            async move || {
                count.add();
                if count.get() == 1 { Err("the first call fails") } else { Ok(1u64) }
            },
            (),
        );
        flaky.result().unwrap_err();
        let bad = client.submit(async || -> u64 { panic!("it's bad") }, ());
        let (_gate, cancelled) = gated(&client);
        cancelled.cancel();
        let all = [('f', &flaky), ('b', &bad), ('c', &cancelled)];
        let mut results = as_completed(all).with_results();
        assert!(flaky.retry());
        let mut seen = Vec::new();
        while let Some(((tag, _), result)) = next(&mut results) {
            seen.push((tag, result.is_ok()));
        }
        seen.sort_unstable();
        assert_eq!(seen, [('b', false), ('c', false), ('f', true)]);
        block_on(client.close());
        let mut closed = as_completed([(5, client.submit(inc, 1))]).with_results();
        let ((tag, _), result) = next(&mut closed).unwrap();
        assert_eq!((tag, result.unwrap_err().kind()), (5, ensue::ErrorKind::Closed));
    });
}
