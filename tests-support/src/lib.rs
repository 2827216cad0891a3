//! What the tests share: here, bounds on their time, and clients whose tasks a test runs itself. In
//! [`hold`], what keeps tasks at a known point; in [`observe`], what counts and records what they do.

// Each test file is a crate of its own and uses a part of it.
#![allow(dead_code)]

pub(crate) mod hold;
pub(crate) mod observe;

use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use ensue::Client;
use futures::executor::block_on;
use observe::{Wakes, poll_with};

/// Runs a test's body and gives it up after 20 seconds: a hang is a failure with a message.
#[track_caller]
pub(crate) fn bounded<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    within(Duration::from_secs(20), body)
}

/// Runs `body` on a thread of its own, with a stack of the usual size, and panics if it isn't done in
/// time.
#[track_caller]
pub(crate) fn within<R: Send + 'static>(
    limit: Duration,
    body: impl FnOnce() -> R + Send + 'static,
) -> R {
    let (done, ended) = mpsc::channel::<()>();
    let name = thread::current().name().unwrap_or("test").to_owned();
    let runner = thread::Builder::new().name(name).spawn(move || {
        // Dropped at the end, also by a panic.
        let _done = done;
        body()
    });
    let runner = runner.expect("a thread for the test");
    match ended.recv_timeout(limit) {
        Err(RecvTimeoutError::Timeout) => panic!("not done within {limit:?}"),
        _ => runner.join().unwrap_or_else(|payload| resume_unwind(payload)),
    }
}

/// Waits until the condition holds, which it must within ten seconds.
///
/// `what` is shown only if it fails: with `format_args!`, it shows its arguments as they are then.
#[track_caller]
pub(crate) fn eventually(what: impl Display, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "never happened: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A client with so many workers.
pub(crate) fn client_of(workers: usize) -> Client {
    Client::builder().workers(workers).build()
}

/// Runs the client's tasks on this thread while the future isn't done.
pub(crate) fn drive<R>(client: &Client, future: impl Future<Output = R>) -> R {
    let mut worker = pin!(client.worker());
    let mut future = pin!(future);
    block_on(poll_fn(move |poller| {
        if let Poll::Ready(result) = future.as_mut().poll(poller) {
            return Poll::Ready(result);
        }
        let _ = worker.as_mut().poll(poller);
        Poll::Pending
    }))
}

/// Runs the client's tasks on this thread until no task is left that isn't done.
pub(crate) fn run_until_idle(client: &Client) {
    drive(client, client.idle());
}

/// Polls a worker on this thread a few times, and as long as it wants to go on: runs what is ready, and returns though
/// tasks are left, also where they want to go on for ever.
pub(crate) fn run_what_is_ready(client: &Client) {
    let mut worker = pin!(client.worker());
    let wakes = Wakes::new();
    for polls in 0..1_000 {
        let before = wakes.get();
        let _ = poll_with(&mut worker, &wakes);
        if polls >= 20 && wakes.get() == before {
            return;
        }
    }
}

/// Polls once and doesn't ask to be woken.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// How many threads of this process have a name that begins with `prefix`, and how much time they've had,
/// in clock ticks.
#[cfg(target_os = "linux")]
pub(crate) fn threads_named(prefix: &str) -> (usize, u64) {
    let mut count = 0;
    let mut ticks = 0;
    for task in std::fs::read_dir("/proc/self/task").expect("a list of threads").flatten() {
        // A thread may end while we look.
        let Ok(name) = std::fs::read_to_string(task.path().join("comm")) else { continue };
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { continue };
        if !name.starts_with(prefix) {
            continue;
        }
        count += 1;
        // Behind the name, which is in parentheses, utime and stime are the 12th and 13th.
        let fields: Vec<_> = stat[stat.rfind(')').unwrap_or(0) + 1..].split_whitespace().collect();
        ticks += fields[11].parse::<u64>().unwrap_or(0) + fields[12].parse::<u64>().unwrap_or(0);
    }
    (count, ticks)
}
