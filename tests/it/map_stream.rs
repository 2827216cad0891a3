//! Streams of inputs (promise 18).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ensue::{Client, ErrorKind};
use futures::executor::block_on;
use futures::stream::FusedStream;
use futures::{Stream, StreamExt, stream};
use smol::future::yield_now;
use support::hold::Gate;
use support::observe::{Count, Counts, Log, OnDrop, Wakes, poll_with};
use support::{bounded, client_of, drive, eventually, poll_once};

async fn inc(x: u64) -> u64 {
    x + 1
}

/// A stream that counts what was taken from it.
fn counted(taken: &Count, n: u64) -> impl Stream<Item = u64> + Unpin + use<> {
    let taken = taken.clone();
    stream::iter(0..n).inspect(move |_| {
        taken.add();
    })
}

fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    block_on(stream.next())
}

#[test]
fn every_input_gives_one_result() {
    bounded(|| {
        let client = client_of(2);
        for limit in [1, 2, 7, 1000, usize::MAX] {
            let results = client.map_stream(stream::iter(0..500u64), limit, inc);
            let mut results: Vec<_> = block_on(results.map(Result::unwrap).collect());
            results.sort_unstable();
            assert_eq!(results, (1..=500).collect::<Vec<_>>());
        }
        eventually("nothing is left", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn an_empty_stream_ends_at_once_and_stays_ended() {
    bounded(|| {
        let client = client_of(1);
        let mut results = client.map_stream(stream::empty::<u64>(), 3, inc);
        assert!(!results.is_terminated());
        assert!(next(&mut results).is_none());
        assert!(results.is_terminated());
        assert!(next(&mut results).is_none());
    });
}

#[test]
fn nothing_is_taken_before_the_first_poll() {
    let client = client_of(1);
    let taken = Count::new();
    let results = client.map_stream(counted(&taken, 10), 5, inc);
    assert_eq!(taken.get(), 0);
    drop(results);
    assert_eq!(taken.get(), 0);
}

#[test]
fn finished_results_that_were_not_taken_count() {
    bounded(|| {
        let client = client_of(2);
        let (taken, running, most) = (Count::new(), Count::new(), Log::new());
        let (run, see) = (running.clone(), most.clone());
        let f = async move |x: u64| {
            run.add();
            see.add(run.get());
            yield_now().await;
            run.sub();
            x
        };
        let mut results = client.map_stream(counted(&taken, 100), 4, f);
        assert_eq!(taken.get(), 0);
        let mut out = 0;
        while next(&mut results).is_some() {
            out += 1;
            block_on(client.idle());
            // No more inputs are taken, although all tasks have finished.
            assert!(taken.get() <= out + 4, "{} taken, {out} out", taken.get());
            assert!(client.tasks_in_memory() <= 4, "{}", client.tasks_in_memory());
        }
        assert_eq!((out, taken.get()), (100, 100));
        assert!(most.all().into_iter().max() <= Some(4));
    });
}

#[test]
fn all_of_the_limit_is_used() {
    bounded(|| {
        let client = client_of(1);
        let (gate, started) = (Gate::new(), Count::new());
        let (pass, start) = (gate.clone(), started.clone());
        let f = async move |x: u64| {
            start.add();
            pass.pass().await;
            x
        };
        let mut results = client.map_stream(stream::iter(0..20), 6, f);
        let mut first = Box::pin(results.next());
        assert!(poll_once(&mut first).is_pending());
        eventually("six have started", || started.get() == 6);
        client.submit(inc, 1).result().unwrap();
        assert_eq!(started.get(), 6);
        gate.open();
        assert!(block_on(first).unwrap().is_ok());
        assert_eq!(block_on(results.count()), 19);
    });
}

#[test]
fn results_come_in_order_of_completion() {
    bounded(|| {
        let client = Client::builder().seed(1).build();
        let hours = async |h: u64| {
            ensue::sleep(Duration::from_secs(h * 3600)).await;
            h
        };
        let results = client.map_stream(stream::iter([5, 1, 4, 2, 3]), 5, hours);
        let results: Vec<_> = block_on(results.map(Result::unwrap).collect());
        assert_eq!(results, [1, 2, 3, 4, 5]);
        // With a limit of two, the third begins after one hour, and so on.
        let results = client.map_stream(stream::iter([5, 1, 7, 2, 3]), 2, hours);
        let results: Vec<_> = block_on(results.map(Result::unwrap).collect());
        assert_eq!(results, [1, 5, 2, 7, 3]);
    });
}

#[test]
fn a_panic_is_one_result_and_the_stream_goes_on() {
    bounded(|| {
        let client = client_of(2);
        let f = async |x: u64| {
            assert!(x % 3 != 0, "by three");
            x
        };
        let results: Vec<_> = block_on(client.map_stream(stream::iter(0..30), 4, f).collect());
        assert_eq!(results.len(), 30);
        let errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        assert_eq!(errors.len(), 10);
        assert!(errors.iter().all(|error| error.is_panic()));
    });
}

#[test]
fn dropping_the_stream_cancels_the_tasks_in_flight() {
    bounded(|| {
        let client = client_of(2);
        let counts = Counts::new();
        let futures = counts.clone();
        let f = move |_: u64| futures.future(std::future::pending::<()>());
        let mut results = client.map_stream(stream::iter(0..100), 5, f);
        let mut first = Box::pin(results.next());
        assert!(poll_once(&mut first).is_pending());
        eventually("they run", || counts.polls.get() == 5);
        drop(first);
        drop(results);
        eventually("they're dropped", || counts.drops.get() == 5);
        eventually("nothing is left", || client.tasks_in_memory() == 0);
        block_on(client.idle());
    });
}

#[test]
fn dropping_the_stream_drops_results_that_were_not_taken() {
    bounded(|| {
        let client = client_of(1);
        let (drops, taken) = (Count::new(), Count::new());
        let dropped = drops.clone();
        let f = async move |_: u64| dropped.on_drop();
        let mut results = client.map_stream(counted(&taken, 100), 8, f);
        drop(next(&mut results));
        block_on(client.idle());
        let begun = taken.get();
        drop(results);
        eventually("all are dropped", || drops.get() == begun);
        assert_eq!(client.tasks_in_memory(), 0);
    });
}

#[test]
fn a_panicking_stream_gives_its_panic_last() {
    bounded(|| {
        let client = client_of(1);
        let inputs = stream::iter(0..5u64).map(|x| {
            assert!(x < 3, "no more than three");
            x
        });
        let mut results = client.map_stream(inputs, 2, inc);
        let mut values = Vec::new();
        let error = loop {
            match next(&mut results).expect("an error is next") {
                Ok(value) => values.push(value),
                Err(error) => break error,
            }
        };
        values.sort_unstable();
        assert_eq!(values, [1, 2, 3]);
        assert!(error.is_panic());
        assert!(error.to_string().contains("no more than three"), "{error}");
        assert!(next(&mut results).is_none());
        assert!(results.is_terminated());
    });
}

#[test]
fn inputs_that_panic_when_they_are_dropped_at_their_end_give_it_last() {
    struct Inputs(stream::Iter<std::ops::Range<u64>>);
    impl Stream for Inputs {
        type Item = u64;
        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u64>> {
            self.0.poll_next_unpin(cx)
        }
    }
    impl Drop for Inputs {
        fn drop(&mut self) {
            panic!("the inputs' destructor");
        }
    }
    bounded(|| {
        let client = client_of(1);
        let results: Vec<_> =
            block_on(client.map_stream(Inputs(stream::iter(0..3)), 2, inc).collect());
        let (values, errors): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!((values.len(), errors.len()), (3, 1));
        let error = errors[0].as_ref().unwrap_err();
        assert!(error.to_string().contains("the inputs' destructor"), "{error}");
    });
}

#[test]
fn a_limit_of_zero_is_one_error() {
    bounded(|| {
        let client = client_of(1);
        let taken = Count::new();
        let mut results = client.map_stream(counted(&taken, 5), 0, inc);
        assert_eq!(next(&mut results).unwrap().unwrap_err().kind(), ErrorKind::Limit);
        assert!(next(&mut results).is_none());
        assert!(results.is_terminated());
        assert_eq!(taken.get(), 0);
    });
}

#[test]
fn inputs_may_come_late() {
    bounded(|| {
        let client = client_of(1);
        let (send, inputs) = futures::channel::mpsc::unbounded::<u64>();
        let mut results = client.map_stream(inputs, 3, inc);
        let wakes = Wakes::new();
        let mut first = Box::pin(results.next());
        assert!(poll_with(&mut first, &wakes).is_pending());
        send.unbounded_send(1).unwrap();
        assert!(wakes.get() > 0, "an input wakes it");
        assert_eq!(block_on(first).unwrap().unwrap(), 2);
        let sender = std::thread::spawn(move || {
            for x in 2..100 {
                send.unbounded_send(x).unwrap();
                if x % 10 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let sum: u64 = block_on(results.map(Result::unwrap).fold(0, async |a, b| a + b));
        sender.join().unwrap();
        assert_eq!(sum, (3..=100).sum::<u64>());
    });
}

#[test]
fn a_result_wakes_it_while_inputs_are_pending() {
    bounded(|| {
        let client = client_of(0);
        let (send, inputs) = futures::channel::mpsc::unbounded::<u64>();
        let mut results = client.map_stream(inputs, 3, inc);
        send.unbounded_send(1).unwrap();
        let wakes = Wakes::new();
        let mut first = Box::pin(results.next());
        assert!(poll_with(&mut first, &wakes).is_pending());
        let before = wakes.get();
        drive(&client, client.submit(inc, 1)).unwrap();
        eventually("it's woken", || wakes.get() > before);
        assert_eq!(block_on(first).unwrap().unwrap(), 2);
    });
}

#[test]
fn handles_are_inputs_too() {
    bounded(|| {
        let client = client_of(2);
        let firsts = client.map(inc, 0..100u64);
        let inputs = stream::iter(firsts);
        let results = client.map_stream(inputs, 5, async |x: u64| x * 2);
        let sum: u64 = block_on(results.map(Result::unwrap).fold(0, async |a, b| a + b));
        assert_eq!(sum, 2 * (1..=100).sum::<u64>());
        let pairs = stream::iter((0..10u64).map(|n| (client.submit(inc, n), n)));
        let results = client.map_stream(pairs, 5, async |x: u64, y: u64| x * y);
        let sum: u64 = block_on(results.map(Result::unwrap).fold(0, async |a, b| a + b));
        assert_eq!(sum, (0..10).map(|n| (n + 1) * n).sum::<u64>());
    });
}

#[test]
fn options_hold_for_each_task() {
    bounded(|| {
        let client = Client::builder().workers(2).limit("one", 1).build();
        let attempts: Vec<_> = (0..10).map(|_| Count::new()).collect();
        let (counts, running) = (attempts.clone(), Count::new());
        let options = client.task().acquire("one").retries(1).key("part");
        let results = options.map_stream(stream::iter(0..10usize), 4, async move |x: usize| {
            assert_eq!(running.add(), 0, "the limit is one");
            yield_now().await;
            running.sub();
            assert!(counts[x].add() == 1, "the second attempt succeeds");
            x
        });
        let results: Vec<_> = block_on(results.collect());
        assert!(results.iter().all(|result| result.is_ok()), "{results:?}");
        assert!(attempts.iter().all(|count| count.get() == 2));
    });
}

#[test]
fn it_can_be_used_within_a_task_on_one_worker() {
    bounded(|| {
        let client = client_of(1);
        let inner = client.clone();
        let sum = client.spawn(async move {
            let results = inner.map_stream(stream::iter(0..1000u64), 3, inc);
            results.map(Result::unwrap).fold(0, async |a, b| a + b).await
        });
        assert_eq!(sum.result().unwrap(), (1..=1000).sum::<u64>());
    });
}

#[test]
fn two_streams_can_be_chained() {
    bounded(|| {
        let client = client_of(2);
        let taken = Count::new();
        let first = client.map_stream(counted(&taken, 1000), 4, inc);
        let first = first.map(Result::unwrap);
        let second = client.map_stream(first, 4, async |x: u64| x * 2);
        let mut second = second;
        let mut out = 0;
        let mut sum = 0;
        while let Some(x) = next(&mut second) {
            out += 1;
            sum += x.unwrap();
            assert!(taken.get() <= out + 8);
        }
        assert_eq!(sum, 2 * (1..=1000).sum::<u64>());
    });
}

#[test]
fn a_closed_client_gives_errors_and_an_end() {
    bounded(|| {
        let client = client_of(1);
        let mut results = client.map_stream(stream::iter(0..10u64), 3, inc);
        assert!(next(&mut results).unwrap().is_ok());
        block_on(client.close());
        let rest: Vec<_> = block_on(results.collect());
        assert_eq!(rest.len(), 9);
        let errors: Vec<_> = rest.into_iter().filter_map(Result::err).collect();
        assert!(errors.len() >= 7, "only what had finished has a value");
        assert!(errors.iter().all(|error| error.kind() == ErrorKind::Closed));
    });
}

#[test]
fn the_size_hint_is_right() {
    bounded(|| {
        let client = client_of(1);
        let mut results = client.map_stream(stream::iter(0..10u64), 3, inc);
        let (least, most) = results.size_hint();
        assert!(least <= 10 && most.is_none_or(|most| most >= 10));
        next(&mut results).unwrap().unwrap();
        let (least, most) = results.size_hint();
        assert!(least <= 9 && most.is_none_or(|most| most >= 9), "{least} {most:?}");
    });
}

#[test]
fn the_inputs_are_dropped_when_they_end() {
    struct Inputs(Option<OnDrop>);
    impl Stream for Inputs {
        type Item = u64;
        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
            assert!(self.0.is_some());
            Poll::Ready(None)
        }
    }
    bounded(|| {
        let drops = Count::new();
        let client = client_of(1);
        let mut results = client.map_stream(Inputs(Some(drops.on_drop())), 3, inc);
        assert!(next(&mut results).is_none());
        assert_eq!(drops.get(), 1);
        assert!(next(&mut results).is_none());
    });
}

#[test]
fn failed_calls_are_retried_and_the_last_error_is_the_result() {
    bounded(|| {
        let client = client_of(2);
        let begun: Arc<[Count; 20]> = Arc::default();
        let counts = begun.clone();
        let unsteady = async move |x: u64| {
            counts[x as usize].add();
            match counts[x as usize].get() {
                1 => Err("not yet".to_owned()),
                _ if x == 13 => Err("never".to_owned()),
                _ => Ok(x),
            }
        };
        let inputs = stream::iter(0..20);
        let results = client.task().retries(2).try_map_stream(inputs, 3, unsteady.clone());
        let results: Vec<_> = block_on(results.collect());
        assert_eq!(results.iter().flatten().sum::<u64>(), (0..20).sum::<u64>() - 13);
        let errors: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].kind(), ErrorKind::Failed);
        assert_eq!(errors[0].downcast_ref::<String>().unwrap(), "never");
        let attempts: Vec<_> = begun.iter().map(Count::get).collect();
        assert_eq!(attempts.iter().filter(|n| **n == 2).count(), 19);
        assert_eq!(attempts[13], 3);
        // Without options there is one attempt.
        let result = next(&mut Box::pin(client.try_map_stream(stream::iter([13]), 1, unsteady)));
        assert!(result.unwrap().is_err());
        assert_eq!(begun[13].get(), 4);
        eventually("nothing is left", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn in_order_they_come_in_the_order_of_the_inputs() {
    bounded(|| {
        let client = Client::builder().seed(1).build();
        let hours = async |h: u64| {
            ensue::sleep(Duration::from_secs(h * 3600)).await;
            h
        };
        for limit in [1, 2, 3, 100] {
            let inputs = [5, 1, 4, 2, 3, 9, 1, 1, 1];
            let results = client.map_stream(stream::iter(inputs), limit, hours).in_order();
            let results: Vec<_> = block_on(results.map(Result::unwrap).collect());
            assert_eq!(results, inputs);
        }
        let client = client_of(2);
        let results = client.map_stream(stream::iter(0..5000u64), 50, inc).in_order();
        let results: Vec<_> = block_on(results.map(Result::unwrap).collect());
        assert_eq!(results, (1..=5000).collect::<Vec<_>>());
        let within = client.clone();
        let in_a_task = client.spawn(async move {
            let results = within.map_stream(stream::iter(0..1000u64), 400, inc).in_order();
            results.map(Result::unwrap).collect::<Vec<_>>().await
        });
        assert_eq!(in_a_task.result().unwrap(), (1..=1000).collect::<Vec<_>>());
    });
}

#[test]
fn in_order_a_slow_one_bounds_how_far_it_looks_ahead() {
    bounded(|| {
        let client = client_of(1);
        let (gate, taken) = (Gate::new(), Count::new());
        let pass = gate.clone();
        let f = async move |x: u64| {
            if x == 3 {
                pass.pass().await;
            }
            x
        };
        let mut results = client.map_stream(counted(&taken, 100), 8, f).in_order();
        for x in 0..3 {
            assert_eq!(next(&mut results).unwrap().unwrap(), x);
        }
        let wakes = Wakes::new();
        let mut fourth = Box::pin(results.next());
        assert!(poll_with(&mut fourth, &wakes).is_pending());
        block_on(client.submit(inc, 1)).unwrap();
        // The seven after the slow one have ended or are about to, and no further one begins.
        eventually("it has looked at the others", || {
            poll_with(&mut fourth, &wakes).is_pending() && client.tasks_in_memory() == 1
        });
        assert_eq!(taken.get(), 3 + 8);
        gate.open();
        assert_eq!(block_on(fourth).unwrap().unwrap(), 3);
        let rest: Vec<_> = block_on(results.map(Result::unwrap).collect());
        assert_eq!(rest, (4..100).collect::<Vec<_>>());
    });
}

#[test]
fn in_order_an_error_has_its_place() {
    bounded(|| {
        let client = client_of(2);
        let f = async |x: u64| if x % 3 == 1 { Err("by three") } else { Ok(x) };
        let inputs = stream::iter(0..30).inspect(|x| assert!(*x < 20, "no more than twenty"));
        let results: Vec<_> = block_on(client.try_map_stream(inputs, 4, f).in_order().collect());
        assert_eq!(results.len(), 21);
        for (n, result) in results[..20].iter().enumerate() {
            assert_eq!(result.is_err(), n % 3 == 1);
        }
        // The one of the inputs comes after all results.
        assert!(results[20].as_ref().unwrap_err().is_panic());
    });
}

#[test]
fn in_order_dropping_the_stream_drops_what_was_held_back() {
    bounded(|| {
        let client = client_of(1);
        let drops = Count::new();
        let dropped = drops.clone();
        let f = async move |x: u64| {
            if x == 0 {
                std::future::pending::<()>().await;
            }
            dropped.on_drop()
        };
        let mut results = client.map_stream(stream::iter(0..100), 5, f).in_order();
        let wakes = Wakes::new();
        eventually("four are held back", || {
            assert!(poll_with(&mut results.next(), &wakes).is_pending());
            client.tasks_in_memory() == 1
        });
        assert_eq!(
            format!("{results:?}"),
            "MapStream { limit: 5, in_flight: 5, ended: false, .. }"
        );
        assert_eq!(drops.get(), 0);
        drop(results);
        assert_eq!(drops.get(), 4);
        eventually("nothing is left", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn a_tag_tells_which_input_it_was() {
    bounded(|| {
        let client = client_of(2);
        let f = async |x: u64| if x % 5 == 0 { Err("by five") } else { Ok(x * x) };
        let mut results = client.try_map_stream(stream::iter(0..100), 8, f).tagged(|x| *x);
        let mut seen = Vec::new();
        while let Some((x, result)) = next(&mut results) {
            assert_eq!(result.ok(), (x % 5 != 0).then_some(x * x));
            seen.push(x);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        assert!(results.is_terminated());
        // The place of an input, in order, of inputs that can't be cloned.
        struct Input(u64);
        let places = Count::new();
        let inputs = stream::iter((0..50).map(Input));
        let results = client.map_stream(inputs, 4, async |x: Input| x.0).in_order();
        let results = results.tagged(move |_| places.add());
        let results: Vec<_> = block_on(results.map(|(n, x)| (n, x.unwrap())).collect());
        assert_eq!(results, (0..50).map(|n| (n as usize, n)).collect::<Vec<_>>());
    });
}

#[test]
fn with_tags_an_error_of_no_input_is_a_panic_after_all_results() {
    bounded(|| {
        let client = client_of(1);
        let inputs = stream::iter(0..5u64).inspect(|x| assert!(*x < 3, "no more than three"));
        let drops = Count::new();
        let tags = drops.clone();
        let mut results = client.map_stream(inputs, 2, inc).tagged(move |_| tags.on_drop());
        for _ in 0..3 {
            assert!(next(&mut results).unwrap().1.is_ok());
        }
        let panicked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| next(&mut results)));
        let text = *panicked.err().unwrap().downcast::<String>().unwrap();
        assert!(text.contains("no more than three"), "{text}");
        assert!(next(&mut results).is_none());
        assert_eq!(drops.get(), 3);
        let none = client.map_stream(stream::iter(0..5), 0, inc).tagged(|x| *x);
        let task = client.spawn(async move { none.count().await });
        let error = task.result().unwrap_err();
        assert!(error.is_panic() && error.to_string().contains("use at least 1"), "{error}");
        // A tag that panics is a panic of the inputs.
        let results = client.map_stream(stream::iter(0..5u64), 2, inc);
        let mut results = results.tagged(|x| assert!(*x < 1, "no tag"));
        assert!(next(&mut results).unwrap().1.is_ok());
        let panicked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| next(&mut results)));
        assert!(panicked.err().unwrap().downcast::<String>().unwrap().contains("no tag"));
    });
}

#[test]
fn tags_and_order_are_set_before_the_first_poll() {
    bounded(|| {
        let client = client_of(1);
        let mut results = client.map_stream(stream::iter(0..5u64), 2, inc);
        next(&mut results).unwrap().unwrap();
        let late = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| results.in_order()));
        assert!(late.is_err());
    });
}

#[test]
fn a_pipeline_of_blocking_functions_keeps_few_values() {
    bounded(|| {
        let client = client_of(2);
        let counts = Counts::new();
        let (make, most) = (counts.clone(), Log::new());
        let see = most.clone();
        let read = client.map_stream_blocking(stream::iter(0..200u64), 3, move |n| make.value(n));
        let used = client.map_stream_blocking(
            read.map(Result::unwrap),
            2,
            move |value: support::observe::Counted| {
                see.add(value.counts.alive.get());
                value.value
            },
        );
        let sum: u64 = block_on(used.map(Result::unwrap).fold(0, async |a, b| a + b));
        assert_eq!(sum, (0..200).sum::<u64>());
        assert!(most.all().into_iter().max().unwrap() <= 5, "three are made, two are used");
        eventually("nothing is left", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn blocking_functions_fail_are_retried_and_come_in_order() {
    bounded(|| {
        for client in [client_of(1), Client::builder().seed(3).build()] {
            let first: Arc<[Count; 20]> = Arc::default();
            let counts = first.clone();
            let f = move |x: usize| match counts[x].add() {
                0 if x % 2 == 0 => Err(format!("{x} is not ready")),
                _ if x == 7 => panic!("seven"),
                _ => Ok(x),
            };
            let results =
                client.task().retries(1).try_map_stream_blocking(stream::iter(0..20), 4, f);
            let results: Vec<_> = block_on(results.in_order().tagged(|x| *x).collect());
            for (n, (tag, result)) in results.into_iter().enumerate() {
                assert_eq!((n, result.is_err()), (tag, n == 7));
            }
            assert_eq!(first[0].get(), 2);
            // Dropping the stream cancels a function that asks.
            let begun = Count::new();
            let begin = begun.clone();
            if !format!("{client}").contains("seeded") {
                let endless = move |_: u8| {
                    begin.add();
                    while !ensue::is_cancelled() {}
                };
                let mut results = client.map_stream_blocking(stream::iter(0..9), 2, endless);
                assert!(poll_once(&mut results.next()).is_pending());
                eventually("both run", || begun.get() == 2);
                drop(results);
            }
            block_on(client.close());
        }
    });
}
