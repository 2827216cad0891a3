//! Support for the tests and benches of `ensue`: time limits, bounded waits, and workers that a test polls itself.
//! [`hold`] keeps tasks at a known point; [`observe`] counts and records what is done to them.
//!
//! No limit here is tight: each is long enough for a busy machine, and only a hang exceeds it.

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

/// Runs a test's body, and fails the test where it hangs.
#[track_caller]
pub fn bounded<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    within(Duration::from_secs(300), body)
}

/// Runs `body` on a thread of its own, with a stack of the usual size, and panics if it exceeds the limit.
#[track_caller]
pub fn within<R: Send + 'static>(limit: Duration, body: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, ended) = mpsc::channel::<()>();
    let name = thread::current().name().unwrap_or("test").to_owned();
    let runner = thread::Builder::new().name(name).spawn(move || {
        // Dropped at the end, even if the body panics.
        let _done = done;
        body()
    });
    let runner = runner.expect("a thread for the test");
    match ended.recv_timeout(limit) {
        Err(RecvTimeoutError::Timeout) => panic!("not done within {limit:?}"),
        _ => runner.join().unwrap_or_else(|payload| resume_unwind(payload)),
    }
}

/// Polls the condition until it holds, and panics after a minute.
///
/// `what` is formatted only for the panic: with `format_args!`, it shows its arguments as they are then.
#[track_caller]
pub fn eventually(what: impl Display, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "never happened: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Asserts that the time of `work(n)` is about proportional to `n`: that of `n` is less than ten times that of `n / 4`,
/// where quadratic work takes sixteen times as long.
///
/// Other programs can only add to a measured time, so the least of several is compared, and of as many as a busy machine
/// needs.
#[track_caller]
pub fn assert_linear(n: usize, work: impl Fn(usize)) {
    let time = |n| {
        let start = Instant::now();
        work(n);
        start.elapsed()
    };
    let start = Instant::now();
    let (mut small, mut large) = (Duration::MAX, Duration::MAX);
    for round in 1.. {
        small = small.min(time(n / 4));
        large = large.min(time(n));
        if round >= 2 && large < 10 * small {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{small:?} grew to {large:?}");
    }
}

/// A client with this number of workers.
pub fn client_of(workers: usize) -> Client {
    Client::builder().workers(workers).build()
}

/// Runs the client's tasks on this thread until the future is done.
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

/// Runs the client's tasks on this thread until all have ended.
pub fn run_until_idle(client: &Client) {
    drive(client, client.idle());
}

/// Polls a worker on this thread until it no longer wakes itself, at most a thousand times: runs the ready tasks, and
/// returns even if suspended tasks are left, or some that never stop yielding.
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

/// Polls once, with a waker that does nothing.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// The number of threads of this process whose names begin with `prefix`, and their processor time in clock ticks.
#[cfg(target_os = "linux")]
pub fn threads_named(prefix: &str) -> (usize, u64) {
    let threads = threads(prefix);
    (threads.len(), threads.iter().map(|thread| thread.ticks).sum())
}

/// Waits until there are at least so many threads whose names begin with `prefix`, and all of them sleep: they have done
/// what they had to do, and do nothing more until they are woken.
pub fn until_asleep(prefix: &str, at_least: usize) {
    #[cfg(target_os = "linux")]
    {
        // Two looks: a thread may also sleep for an instant, waiting for a mutex.
        let mut before = Vec::new();
        eventually(format_args!("the threads `{prefix}` sleep"), || {
            thread::sleep(Duration::from_millis(2));
            let now = threads(prefix);
            let sleep = now.len() >= at_least && now.iter().all(|thread| thread.state == 'S');
            sleep && std::mem::replace(&mut before, now.clone()) == now
        });
    }
    // Other systems don't say, so this is time in which they usually fall asleep.
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (prefix, at_least);
        thread::sleep(Duration::from_millis(50));
    }
}

/// What Linux says of a thread.
#[cfg(target_os = "linux")]
#[derive(Clone, PartialEq)]
struct Thread {
    id: std::ffi::OsString,
    /// `R` is running or runnable, `S` sleeps.
    state: char,
    ticks: u64,
    /// How often it was taken off its processor, voluntarily and not.
    switches: String,
}

#[cfg(target_os = "linux")]
fn threads(prefix: &str) -> Vec<Thread> {
    let thread = |task: std::fs::DirEntry| {
        let read = |file| std::fs::read_to_string(task.path().join(file)).ok();
        // A thread may end at any time, and its files with it.
        let (name, stat, status) = (read("comm")?, read("stat")?, read("status")?);
        // The name is in parentheses; utime and stime are the 12th and 13th field after it.
        let fields: Vec<_> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
        let ticks = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?;
        let switches = status.lines().filter(|line| line.contains("ctxt_switches")).collect();
        let state = fields[0].chars().next()?;
        name.starts_with(prefix).then(|| Thread { id: task.file_name(), state, ticks, switches })
    };
    let tasks = std::fs::read_dir("/proc/self/task").expect("a list of threads");
    tasks.flatten().filter_map(thread).collect()
}
