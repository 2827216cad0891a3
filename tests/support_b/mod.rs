//! What the tests share: bounds in time, gates to hold tasks at a known point, futures and wakers that
//! count.

// Each test file uses some of it.
#![allow(dead_code)]

use std::future::Future;
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use ensue::{Client, Handle};

/// Runs a test's body and gives it up after 20 seconds: a hang is a failure with a message.
#[track_caller]
pub(crate) fn bounded<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    within(Duration::from_secs(20), body)
}

/// Runs `body` on a thread of its own and panics if it isn't done in time.
#[track_caller]
pub(crate) fn within<R: Send + 'static>(
    limit: Duration,
    body: impl FnOnce() -> R + Send + 'static,
) -> R {
    let (done, result) = mpsc::channel();
    let name = thread::current().name().unwrap_or("test").to_owned();
    let runner = thread::Builder::new().name(name).spawn(move || {
        let _ = done.send(body());
    });
    let runner = runner.expect("a thread for the test");
    match result.recv_timeout(limit) {
        Ok(result) => {
            let _ = runner.join();
            result
        }
        Err(RecvTimeoutError::Timeout) => panic!("not done within {limit:?}"),
        Err(RecvTimeoutError::Disconnected) => match runner.join() {
            Err(payload) => resume_unwind(payload),
            Ok(()) => unreachable!("a body that returns has sent its result"),
        },
    }
}

/// Waits until the condition holds, which it must within ten seconds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "never happened: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) use futures::executor::block_on;

/// A gate that tasks wait at, asynchronously or not, until it's opened.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<GateState>>);

#[derive(Default)]
struct GateState {
    open: bool,
    wakers: Vec<Waker>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn open(&self) {
        let wakers = {
            let mut state = self.0.lock().unwrap();
            state.open = true;
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.lock().unwrap().open
    }

    /// An await that ends when the gate is open.
    pub(crate) fn pass(&self) -> Pass {
        Pass(self.clone())
    }

    /// Blocks until the gate is open.
    pub(crate) fn pass_blocking(&self) {
        block_on(self.pass());
    }
}

pub(crate) struct Pass(Gate);

impl Future for Pass {
    type Output = ();

    fn poll(self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.0.lock().unwrap();
        if state.open {
            return Poll::Ready(());
        }
        state.wakers.push(poller.waker().clone());
        Poll::Pending
    }
}

/// A shared list of what happened, in order.
#[derive(Debug)]
pub(crate) struct Log<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone> Log<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn add(&self, entry: T) {
        self.0.lock().unwrap().push(entry);
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// A shared number.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds one and returns the number before.
    pub(crate) fn add(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn sub(&self) -> usize {
        self.0.fetch_sub(1, Ordering::SeqCst)
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Something that adds one when it's dropped.
    pub(crate) fn on_drop(&self) -> OnDrop {
        OnDrop(self.clone())
    }
}

/// Adds one to a [`Count`] when it's dropped.
pub(crate) struct OnDrop(Count);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.add();
    }
}

/// How often a future was polled and dropped.
#[derive(Clone, Default)]
pub(crate) struct Counts {
    pub(crate) polls: Count,
    pub(crate) drops: Count,
}

impl Counts {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn of<F>(&self, future: F) -> Counted<F> {
        Counted { future: Box::pin(future), polls: self.polls.clone(), _drop: self.drops.on_drop() }
    }
}

/// A future that counts.
pub(crate) struct Counted<F> {
    future: Pin<Box<F>>,
    polls: Count,
    _drop: OnDrop,
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<F::Output> {
        self.polls.add();
        self.future.as_mut().poll(poller)
    }
}

/// A waker that counts how often it was woken.
#[derive(Default)]
pub(crate) struct Wakes(AtomicUsize);

impl Wakes {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls once, with a waker that counts.
pub(crate) fn poll_with<F: Future + Unpin>(future: &mut F, wakes: &Arc<Wakes>) -> Poll<F::Output> {
    let waker = Waker::from(wakes.clone());
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

/// Polls once and doesn't ask to be woken.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Pending once, and woken at once.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|poller| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        poller.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A worker that is kept in a poll until it's let go, so that what is submitted meanwhile queues up.
#[must_use]
pub(crate) struct Held {
    go: Option<mpsc::Sender<()>>,
    task: Option<Handle<()>>,
}

/// Keeps one worker busy. Returns when it is.
pub(crate) fn hold_worker(client: &Client) -> Held {
    let (go, wait) = mpsc::channel::<()>();
    let (busy, is_busy) = mpsc::channel();
    let wait = Mutex::new(wait);
    let body = async move {
        let _ = busy.send(());
        let _ = wait.lock().unwrap().recv();
    };
    // Ahead of everything that is queued.
    let task = client.task().priority(i32::MAX).spawn(body);
    is_busy.recv().expect("a worker took the task");
    Held { go: Some(go), task: Some(task) }
}

impl Held {
    pub(crate) fn let_go(mut self) {
        self.go = None;
        if let Some(task) = self.task.take() {
            task.result().expect("the worker was only held");
        }
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
    block_on(std::future::poll_fn(move |poller| {
        if let Poll::Ready(result) = future.as_mut().poll(poller) {
            return Poll::Ready(result);
        }
        let _ = worker.as_mut().poll(poller);
        Poll::Pending
    }))
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
