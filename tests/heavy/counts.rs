//! Millions of handles, inputs and wakers of one task (promise 9): more than its state word has room for.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ensue::{Client, Handle, Ref};
use futures::stream::{FuturesUnordered, StreamExt};
use support::hold::Gate;
use support::{eventually, within};

/// So many, or in a debug build a part of it.
const fn many(n: usize) -> usize {
    if cfg!(debug_assertions) { n / 50 } else { n }
}

/// A longer limit: these take seconds, and far more on a busy machine.
fn patiently(body: impl FnOnce() + Send + 'static) {
    within(Duration::from_secs(900), body);
}

/// A task that waits for the gate.
fn gated(client: &Client) -> (Handle<u64>, Gate) {
    let gate = Gate::new();
    let waits = gate.pass();
    let handle = client.spawn(async move {
        waits.await;
        1
    });
    (handle, gate)
}

fn all_freed(client: &Client) {
    eventually("everything is freed", || client.tasks_in_memory() == 0);
}

#[test]
fn a_task_awaits_millions_of_handles_of_one_task() {
    patiently(|| {
        let client = Client::builder().workers(1).build();
        let (x, gate) = gated(&client);
        let n = many(4_300_000);
        let sum = client.spawn(async move {
            let all: FuturesUnordered<_> = (0..n).map(|_| x.clone()).collect();
            drop(x);
            let mut sum = pin!(all.fold(0, |sum, x| async move { sum + x.unwrap() }));
            poll_fn(move |cx| {
                // The first poll registers all of them.
                let polled = sum.as_mut().poll(cx);
                gate.open();
                polled
            })
            .await
        });
        assert_eq!(sum.result().unwrap(), n as u64);
        drop(sum);
        all_freed(&client);
    });
}

#[test]
fn millions_of_handles_and_references_share_a_value() {
    patiently(|| {
        let client = Client::builder().workers(0).build();
        let x = client.ready(1u64);
        let handles: Vec<_> = (0..many(17_000_000)).map(|_| x.clone()).collect();
        assert!(handles.iter().all(|x| x.is_finished()));
        assert_eq!(client.tasks_in_memory(), 1);
        drop(handles);
        let value: Ref<u64> = futures::executor::block_on(x.get_ref()).unwrap();
        let values: Vec<_> = (0..many(9_000_000)).map(|_| value.clone()).collect();
        drop((x, value));
        assert_eq!(*values[values.len() - 1], 1);
        let mut values = values;
        values.truncate(1);
        // Nothing else has the value any more.
        assert!(matches!(values.pop().unwrap().try_into_inner(), Ok(1)));
        all_freed(&client);
    });
}

#[test]
fn a_task_may_have_millions_of_wakers() {
    patiently(|| {
        let client = Client::builder().workers(1).build();
        let (sender, wakers) = std::sync::mpsc::channel();
        let mut sender = Some(sender);
        let x = client.spawn(poll_fn(move |cx| match sender.take() {
            Some(sender) => {
                let n = many(9_000_000);
                sender.send((0..n).map(|_| cx.waker().clone()).collect::<Vec<_>>()).unwrap();
                Poll::Pending
            }
            None => Poll::Ready(1),
        }));
        let mut wakers = wakers.recv().unwrap();
        wakers.pop().unwrap().wake();
        assert_eq!(x.result().unwrap(), 1);
        drop(x);
        assert_eq!(client.tasks_in_memory(), 1, "its wakers keep the memory");
        drop(wakers);
        all_freed(&client);
    });
}
