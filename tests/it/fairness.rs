//! A task that awaits what is ready gives way to others, and can be stopped (promise 16).

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ensue::{Client, Handle, as_completed, gather, gather_settled, sleep, wait_all, wait_any};
use futures::executor::block_on;
use futures::future::{FutureExt, join_all, select};
use futures::stream::{self, FuturesUnordered, StreamExt};
use support::hold::Gate;
use support::{bounded, client_of};

async fn inc(x: u64) -> u64 {
    x + 1
}

type Endless = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A loop without an end, which awaits the expression. Each kind of await is one.
macro_rules! endless {
    ($client:ident, $done:ident: $await:expr) => {{
        let ($client, $done) = ($client.clone(), $client.ready(1u64));
        let endless: Endless = Box::pin(async move {
            let _used = (&$client, &$done);
            loop {
                let _ = $await;
            }
        });
        (stringify!($await), endless)
    }};
}

/// Loops that only await what is ready.
fn endless(client: &Client) -> Vec<(&'static str, Endless)> {
    fn none() -> [Handle<u64>; 0] {
        []
    }
    vec![
        endless!(client, done: (&done).await),
        endless!(client, done: done.clone().await),
        endless!(client, done: done.get_ref().await),
        endless!(client, done: client.ready(2).await),
        endless!(client, done: as_completed([&done]).next().await),
        endless!(client, done: as_completed(none()).next().await),
        endless!(client, done: as_completed([&done]).next_batch().await),
        endless!(client, done: as_completed([&done]).with_results().next().await),
        endless!(client, done: gather([&done; 3]).await),
        endless!(client, done: gather(none()).await),
        endless!(client, done: gather_settled([&done]).await),
        endless!(client, done: wait_all([&done; 3]).await),
        endless!(client, done: wait_any([&done]).await),
        endless!(client, done: wait_any(none()).await),
        endless!(client, done: sleep(Duration::ZERO).await),
        endless!(client, done: join_all(vec![done.clone(); 100]).await),
        endless!(client, done: vec![done.clone(); 100].into_iter().collect::<FuturesUnordered<_>>().count().await),
        endless!(client, done: client.map_stream(stream::repeat(1), usize::MAX, inc).count().await),
    ]
}

#[test]
fn a_task_that_awaits_what_is_ready_lets_others_run_and_can_be_cancelled() {
    bounded(|| {
        for at in 0..endless(&client_of(0)).len() {
            let client = client_of(1);
            let (name, endless) = endless(&client).swap_remove(at);
            let task = client.spawn(endless);
            for n in 0..3 {
                assert_eq!(client.submit(inc, n).result().unwrap(), n + 1, "{name}");
            }
            assert!(!task.is_finished(), "{name}: {:?}", task.error());
            assert!(task.cancel(), "{name}");
            assert!(task.result().unwrap_err().is_cancelled(), "{name}");
            // Its worker is free: the client can be closed.
            block_on(client.close());
        }
    });
}

#[test]
fn a_timeout_ends_a_task_that_awaits_what_is_ready() {
    bounded(|| {
        let client = client_of(1);
        let late = Duration::from_millis(1);
        for (name, endless) in endless(&client) {
            let error = client.task().timeout(late).spawn(endless).result().unwrap_err();
            assert_eq!(error.kind(), ensue::ErrorKind::TimedOut, "{name}");
        }
    });
}

#[test]
fn a_task_that_awaits_what_is_ready_is_dropped_with_its_last_handle_or_client() {
    bounded(|| {
        let client = client_of(1);
        let handles: Vec<_> = endless(&client).into_iter().map(|(_, f)| client.spawn(f)).collect();
        client.submit(inc, 1).result().unwrap();
        // They own clients, so those that are left end only by their handles.
        drop(handles);
        block_on(client.idle());
        let done = client.ready(1u64);
        let last = client.spawn(async move {
            loop {
                (&done).await.unwrap();
            }
        });
        drop(client);
        assert_eq!(last.result().unwrap_err().kind(), ensue::ErrorKind::Closed);
    });
}

#[test]
fn each_poll_of_a_task_takes_a_bounded_number_of_ready_results() {
    bounded(|| {
        let client = client_of(1);
        let done = client.ready(1u64);
        let mut taken = 0;
        let mut polls = Vec::new();
        let all = Arc::new(AtomicUsize::new(0));
        let counter = all.clone();
        let mut inner = Box::pin(async move {
            for _ in 0..1000 {
                (&done).await.unwrap();
                let _ = as_completed([&done]).next().await.unwrap();
                counter.fetch_add(2, Ordering::Relaxed);
            }
        });
        let polled = client.spawn(poll_fn(move |cx| {
            let poll = inner.as_mut().poll(cx);
            let now = all.load(Ordering::Relaxed);
            polls.push(now - taken);
            taken = now;
            poll.map(|()| std::mem::take(&mut polls))
        }));
        // 128, and the one for which the poll before gave way.
        let mut polls = polled.result().unwrap();
        assert_eq!(polls.iter().sum::<usize>(), 2000);
        polls.pop();
        assert!(polls.iter().all(|taken| (127..=130).contains(taken)), "{polls:?}");
    });
}

#[test]
fn what_comes_behind_a_busy_loop_in_the_same_task_has_its_result() {
    bounded(|| {
        let client = client_of(1);
        for (name, endless) in endless(&client) {
            let gate = Gate::new();
            let opened = gate.clone();
            let stop = client.spawn(async move { opened.pass().await });
            // The loop is polled first, and leaves nothing of the budget.
            let task = client.spawn(async move {
                select(endless, stop).await;
            });
            client.submit(inc, 1).result().unwrap();
            gate.open();
            task.result().expect(name);
        }
    });
}

#[test]
fn an_executor_within_a_poll_has_all_results() {
    bounded(|| {
        let client = client_of(1);
        let inner = client.clone();
        let task = client.spawn(async move {
            let done = inner.ready(1u64);
            block_on(async {
                for _ in 0..1000 {
                    (&done).await.unwrap();
                    let _ = as_completed([&done]).next().await.unwrap();
                    gather([&done; 200]).await.unwrap();
                    assert_eq!(wait_all([&done; 200]).await.done.len(), 200);
                    assert_eq!(join_all(vec![done.clone(); 200]).await.len(), 200);
                }
            });
            // One that polls once has a result that is there.
            (0..1000).all(|_| (&done).into_future().now_or_never().is_some())
        });
        assert!(task.result().unwrap());
        let done = client.ready(1u64);
        assert!((0..1000).all(|_| (&done).into_future().now_or_never().is_some()));
        assert!((0..1000).all(|_| done.result().is_ok()));
    });
}

#[test]
fn results_beyond_the_budget_of_a_poll_are_all_delivered_in_order() {
    bounded(|| {
        for client in [client_of(1), Client::builder().seed(1).build()] {
            let inner = client.clone();
            let task = client.spawn(async move {
                let xs: Vec<_> = (0..1000).map(|n| inner.ready(n)).collect();
                assert_eq!(as_completed(&xs).collect::<Vec<_>>().await, xs);
                let all: Vec<_> = as_completed(&xs).with_results().collect().await;
                let all: Vec<_> = all.into_iter().map(|(_, x)| x.unwrap()).collect();
                assert_eq!(all, (0..1000).collect::<Vec<_>>());
                assert_eq!(gather(inner.map(inc, 0..1000)).await.unwrap().len(), 1000);
                let mapped = inner.map_stream(stream::iter(0..1000), 500, inc);
                assert_eq!(mapped.count().await, 1000);
                let waited = wait_all(inner.map(inc, 0..1000)).await;
                assert_eq!((waited.done.len(), waited.pending.len()), (1000, 0));
            });
            task.result().unwrap();
        }
    });
}

#[test]
fn code_outside_of_tasks_gives_way_to_its_runtime() {
    bounded(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let client = client_of(1);
            for (name, endless) in endless(&client) {
                let endless = tokio::spawn(endless);
                // The runtime has one thread, and runs this only if the loop leaves its poll.
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
                endless.abort();
                assert!(endless.await.unwrap_err().is_cancelled(), "{name}");
            }
        });
    });
}
