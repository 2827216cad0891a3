//! The events of a task, one for each change of its status (promise 23).

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake};
use std::thread;
use std::time::Duration;

use ensue::{Client, ErrorKind, Events, Handle, Retry, Status, Status::*};
use futures::executor::block_on;
use futures::stream::FusedStream;
use futures::{FutureExt, StreamExt};
use smol::future::yield_now;
use support::hold::{Gate, turns};
use support::observe::Count;
use support::{bounded, client_of, poll_once, run_until_idle, within};

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
fn the_events_end_with_the_tasks_of_a_closed_client() {
    bounded(|| {
        for closes in [true, false] {
            let client = client_of(1);
            let mut events = client.events();
            let gate = Gate::new();
            let pass = gate.clone();
            let task = client.spawn(async move {
                pass.pass().await;
                1u64
            });
            let waits = client.submit(async |x: u64| x + 1, &task);
            turns(&client);
            let reader = thread::spawn(move || {
                let all: Vec<_> = block_on(events.by_ref().collect());
                assert!(events.is_terminated());
                all
            });
            if closes {
                let mut close = Box::pin(client.close());
                assert!(poll_once(&mut close).is_pending());
                gate.open();
                block_on(close);
                assert_eq!(task.result().unwrap(), 1);
            } else {
                drop(client);
                assert_eq!(task.result().unwrap_err().kind(), ErrorKind::Closed);
            }
            // Though handles of both tasks are left.
            let seen = reader.join().unwrap();
            for handle in [&task, &waits] {
                let last = seen.iter().rev().find(|event| event.key == handle.key());
                assert_eq!(last.map(|event| event.status), Some(handle.status()));
            }
            assert_eq!(waits.result().unwrap_err().kind(), ErrorKind::Closed);
        }
    });
}

#[test]
fn a_waker_of_events_may_retry_the_task_that_ends() {
    struct Retries {
        task: Handle<u64>,
        events: Mutex<Events>,
        ended: Count,
    }
    impl Wake for Retries {
        fn wake(self: Arc<Self>) {
            if self.task.is_finished() {
                // It's still ending.
                assert!(!self.task.retry());
                self.ended.add();
            }
            self.read();
        }
    }
    impl Retries {
        fn read(self: &Arc<Self>) {
            let waker = self.clone().into();
            let mut events = self.events.lock().unwrap();
            let mut cx = Context::from_waker(&waker);
            while matches!(events.poll_next_unpin(&mut cx), Poll::Ready(Some(_))) {}
        }
    }
    within(Duration::from_secs(60), || {
        let client = Client::builder().seed(1).build();
        let events = Mutex::new(client.events());
        let task = client.try_submit(async || Err::<u64, _>("fails"), ());
        let reader = Arc::new(Retries { task: task.clone(), events, ended: Count::new() });
        reader.read();
        task.result().unwrap_err();
        assert_eq!(reader.ended.get(), 1);
        assert!(task.retry());
        task.result().unwrap_err();
        assert_eq!(reader.ended.get(), 2);
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
