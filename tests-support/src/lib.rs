//! Support for the tests and benches of `ensue`: time limits, and clients whose tasks a test runs itself.

pub mod allocator;
pub mod chromium;
pub mod hold;
pub mod http;
pub mod observe;

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

/// Runs the body of a test, which has 20 seconds: a hang is a failure with a message.
///
/// # Panics
///
/// If `body` panics, or isn't done in time.
#[track_caller]
pub fn bounded<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    within(Duration::from_secs(20), body)
}

/// Runs `body` on a thread of its own, with a stack of the default size.
///
/// # Panics
///
/// If `body` panics, or isn't done within `limit`.
#[track_caller]
pub fn within<R: Send + 'static>(limit: Duration, body: impl FnOnce() -> R + Send + 'static) -> R {
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

/// Polls `condition` until it holds.
///
/// `what` is formatted only on failure: with `format_args!`, it shows its arguments as they are then.
///
/// # Panics
///
/// If the condition doesn't hold within ten seconds.
#[track_caller]
pub fn eventually(what: impl Display, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "never happened: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Returns a client with this number of workers.
pub fn client_of(workers: usize) -> Client {
    Client::builder().workers(workers).build()
}

/// Runs the client's tasks on the calling thread until `future` is ready, and returns its output.
pub fn drive<R>(client: &Client, future: impl Future<Output = R>) -> R {
    let mut worker = pin!(client.worker());
    let mut future = pin!(future);
    block_on(poll_fn(move |cx| {
        if let Poll::Ready(result) = future.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        let _ = worker.as_mut().poll(cx);
        Poll::Pending
    }))
}

/// Runs the client's tasks on the calling thread until all of them are done.
pub fn run_until_idle(client: &Client) {
    drive(client, client.idle());
}

/// Runs the client's ready tasks on the calling thread: polls a worker at least 20 times, and as long as it wakes itself,
/// at most 1000 times. Tasks that wake themselves forever don't keep it from returning.
pub fn run_what_is_ready(client: &Client) {
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

/// Polls a future once, with a waker that does nothing.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Returns the number of threads of this process whose name begins with `prefix`, and their processor time in clock
/// ticks.
#[cfg(target_os = "linux")]
pub fn threads_named(prefix: &str) -> (usize, u64) {
    let mut count = 0;
    let mut ticks = 0;
    for task in std::fs::read_dir("/proc/self/task").expect("a list of threads").flatten() {
        // A thread may end after it was listed.
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
