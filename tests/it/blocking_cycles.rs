//! Cycles that lead through blocking work (promise 4).

use std::sync::mpsc;
use std::time::Duration;

use ensue::{Client, ErrorKind, Handle};
use futures::channel::oneshot;
use support::{bounded, eventually};

use crate::cycles::{Seen, flat};

/// A task that gets the handle that it waits for later.
struct Later {
    handle: Handle<Seen>,
    send: Box<dyn FnOnce(Handle<Seen>)>,
}

/// One whose blocking work waits in `result`, or one that awaits.
fn later(client: &Client, blocks: bool) -> Later {
    if blocks {
        let (sender, receiver) = mpsc::channel::<Handle<Seen>>();
        let work = move || flat(receiver.recv().unwrap().result());
        let handle = client.task().name("blocks").submit_blocking(work, ());
        return Later { handle, send: Box::new(move |of| sender.send(of).unwrap()) };
    }
    let (sender, receiver) = oneshot::channel::<Handle<Seen>>();
    let task = async move || flat(receiver.await.unwrap().await);
    let handle = client.task().name("awaits").submit(task, ());
    Later { handle, send: Box::new(move |of| sender.send(of).unwrap()) }
}

/// Waits until all have ended: one was refused, and each other one saw what the next one saw.
fn assert_refused(handles: &[Handle<Seen>]) {
    let seen: Vec<_> = handles.iter().map(|x| x.result().unwrap().unwrap_err()).collect();
    for error in &seen {
        assert_eq!((error.kind(), error.origin()), (ErrorKind::Cycle, seen[0].origin()));
    }
    let text = seen[0].to_string();
    for (at, handle) in handles.iter().enumerate() {
        let next = &handles[(at + 1) % handles.len()];
        let link = format!("{} awaits {}", handle.key(), next.key());
        assert!(text.contains(&link), "{link} is not in {text}");
    }
}

#[test]
fn a_wait_of_blocking_work_is_seen_by_the_wait_that_closes_the_cycle() {
    let ways: [&[bool]; 7] = [
        &[true],
        &[true, true],
        &[true, false],
        &[false, true],
        &[true, false, true],
        &[false, true, false],
        &[true, true, true, true],
    ];
    for blocks in ways {
        for in_turn in [false, true] {
            bounded(move || {
                let client = Client::builder().workers(2).build();
                let all: Vec<_> = blocks.iter().map(|blocks| later(&client, *blocks)).collect();
                let handles: Vec<_> = all.iter().map(|task| task.handle.clone()).collect();
                for (at, task) in all.into_iter().enumerate() {
                    let next = &handles[(at + 1) % handles.len()];
                    (task.send)(next.clone());
                    // The last one closes the cycle.
                    if in_turn && at + 1 < handles.len() {
                        eventually("it waits", || {
                            client.explain(&handles[at]).to_string().contains(&*next.key())
                        });
                    }
                }
                assert_refused(&handles);
            });
        }
    }
}

#[test]
fn a_wait_of_blocking_work_is_seen_under_a_seed() {
    for seed in 0..20 {
        for blocks in [[true, false], [true, true]] {
            bounded(move || {
                let client = Client::builder().seed(seed).build();
                let all = blocks.map(|blocks| later(&client, blocks));
                let handles = [all[0].handle.clone(), all[1].handle.clone()];
                for (task, next) in all.into_iter().zip(handles.iter().rev()) {
                    (task.send)(next.clone());
                }
                assert_refused(&handles);
            });
        }
    }
}

#[test]
fn blocking_work_that_waits_for_a_dependent_of_its_task_is_refused() {
    bounded(|| {
        let client = Client::builder().workers(2).build();
        let a = later(&client, true);
        let b = client.submit(async |a: Seen| flat(Ok(a)), &a.handle);
        let c = client.submit(async |b: Seen| flat(Ok(b)), &b);
        (a.send)(c.clone());
        assert_eq!(a.handle.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
        assert_eq!(c.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
    });
}

/// Work that has timed out goes on, but its task doesn't wait for it any more.
#[test]
fn blocking_work_that_was_given_up_is_in_no_cycle() {
    bounded(|| {
        let client = Client::builder().workers(2).build();
        let (sender, receiver) = mpsc::channel::<Handle<Seen>>();
        let receiver = std::sync::Arc::new(std::sync::Mutex::new(Some(receiver)));
        let (saw, what_it_saw) = mpsc::channel();
        let work = move || {
            let Some(receiver) = receiver.lock().unwrap().take() else { return Ok(1) };
            let seen = flat(receiver.recv().unwrap().result());
            saw.send(seen.clone()).unwrap();
            seen
        };
        let options = client.task().timeout(Duration::from_millis(300)).retries(1000);
        let a = options.submit_blocking(work, ());
        let b = later(&client, false);
        (b.send)(a.clone());
        sender.send(b.handle.clone()).unwrap();
        assert_eq!(a.result().unwrap().unwrap(), 1);
        assert_eq!(b.handle.result().unwrap().unwrap(), 2);
        assert_eq!(what_it_saw.recv().unwrap().unwrap(), 3);
    });
}
