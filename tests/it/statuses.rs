//! The events of a task, one for each change of its status (promise 23).

use std::sync::Arc;
use std::task::{Context, Wake};
use std::time::Duration;

use ensue::{Client, Events, Retry, Status, Status::*};
use futures::{FutureExt, StreamExt};
use smol::future::yield_now;
use support::observe::Count;
use support::{bounded, run_until_idle};

async fn inc(x: u64) -> u64 {
    x + 1
}

/// The statuses in the pending events of this task.
fn pending(events: &mut Events, key: &str) -> Vec<Status> {
    let mut statuses = Vec::new();
    while let Some(Some(event)) = events.next().now_or_never() {
        if *event.key == *key {
            statuses.push(event.status);
        }
    }
    statuses
}

#[test]
fn each_status_is_one_event_and_in_order() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let mut events = client.events();
        let x = client.spawn(async {
            yield_now().await;
            yield_now().await;
            1
        });
        run_until_idle(&client);
        assert_eq!(pending(&mut events, &x.key()), [Ready, Running, Finished]);
        // It is waiting at first, even if its input has ended.
        let y = client.submit(inc, &x);
        run_until_idle(&client);
        assert_eq!(pending(&mut events, &y.key()), [Waiting, Ready, Running, Finished]);
        let z = client.ready(1u64);
        assert_eq!(pending(&mut events, &z.key()), [Finished]);
        let late = client.submit(async || 1, ());
        let waits = client.submit(inc, &late);
        waits.cancel();
        run_until_idle(&client);
        assert_eq!(pending(&mut events, &waits.key()), [Waiting, Cancelled]);
    });
}

#[test]
fn waiting_for_an_input_and_a_delay_are_events() {
    bounded(|| {
        let client = Client::builder().seed(1).build();
        let mut events = client.events();
        let x = client.submit(inc, 1);
        let minute = Duration::from_secs(60);
        let attempts = Count::new();
        let y = client.task().retries(Retry::new(1).backoff(minute, minute)).try_submit(
            async move |x: u64| if attempts.add() == 0 { Err("not yet") } else { Ok(x) },
            &x,
        );
        assert_eq!(y.result().unwrap(), 2);
        let all = [Waiting, Ready, Running, Delayed, Running, Finished];
        assert_eq!(pending(&mut events, &y.key()), all);
    });
}

#[test]
fn every_stream_of_events_has_them_until_it_is_dropped() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let [mut first, mut second] = [client.events(), client.events()];
        let x = client.submit(inc, 1);
        assert_eq!(pending(&mut first, &x.key()), [Ready]);
        drop(first);
        run_until_idle(&client);
        assert_eq!(pending(&mut second, &x.key()), [Ready, Running, Finished]);
        assert_eq!(second.missed(), 0);
    });
}

#[test]
fn a_waker_of_events_may_call_the_engine() {
    struct Calls(Client);
    impl Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.0.spawn(async {}).detach();
        }
    }
    bounded(|| {
        let client = Client::builder().seed(1).build();
        let mut events = client.events();
        let waker = Arc::new(Calls(client.clone())).into();
        assert!(events.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(client.spawn(async { 1 }).result().unwrap(), 1);
    });
}

#[test]
fn a_waker_of_events_that_panics_affects_no_task() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            std::panic::resume_unwind(Box::new("waker"));
        }
    }
    bounded(|| {
        let client = Client::builder().seed(1).on_unobserved(|_| ()).build();
        let mut events = client.events();
        let waker = Arc::new(Panics).into();
        assert!(events.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(client.spawn(async { 1 }).result().unwrap(), 1);
    });
}
