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
