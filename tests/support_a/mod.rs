//! What the tests share: a bound on their time, gates to order things by, and values and futures that
//! count what is done to them.

// Each test file uses a part of it, as a module of its own.
#![allow(dead_code, unreachable_pub)]

use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use ensue::Client;
use futures::executor::block_on;
use futures::future::select;

/// What a test may take, unless it says otherwise.
const USUAL: Duration = Duration::from_secs(20);

/// Runs a test that must not hang: on a thread of its own, of the usual size, within the usual time.
pub fn bounded<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    within(USUAL, body)
}

/// Runs a test on a thread of its own and panics if it isn't done in time.
pub fn within<R: Send + 'static>(limit: Duration, body: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, ended) = mpsc::channel::<()>();
    let name = thread::current().name().unwrap_or("test").to_owned();
    let test = thread::Builder::new().name(name).spawn(move || {
        // Dropped at the end, also by a panic.
        let _done = done;
        body()
    });
    match ended.recv_timeout(limit) {
        Err(RecvTimeoutError::Timeout) => panic!("the test hangs: it was not done in {limit:?}"),
        _ => test.unwrap().join().unwrap_or_else(|payload| resume_unwind(payload)),
    }
}

/// Waits for something that happens soon but tells nobody.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "it never came about: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs a client's tasks on this thread until none can go on.
pub fn run_until_idle(client: &Client) {
    block_on(select(pin!(client.idle()), pin!(client.worker())));
}

/// Polls a worker a few times on this thread: runs what is ready, and returns though tasks are left.
pub fn run_what_is_ready(client: &Client) {
    let mut worker = pin!(client.worker());
    for _ in 0..20 {
        let _ = worker.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
}

/// Keeps a worker busy until this is dropped.
pub struct Plug(#[allow(unused)] mpsc::Sender<()>);

/// Returns when a worker is at it.
pub fn plug(client: &Client) -> Plug {
    let (release, released) = mpsc::channel();
    let (started, is_started) = mpsc::channel();
    let task = async move || {
        started.send(()).unwrap();
        let _ = released.recv();
    };
    client.task().priority(i32::MAX).submit(task, ()).detach();
    is_started.recv().unwrap();
    Plug(release)
}

/// A gate that lets everyone pass once it's open.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn open(&self) {
        let wakers = {
            let mut gate = self.0.lock().unwrap();
            gate.0 = true;
            std::mem::take(&mut gate.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub fn pass(&self) -> impl Future<Output = ()> + Send + use<> {
        let gate = self.clone();
        poll_fn(move |poller| {
            let mut gate = gate.0.lock().unwrap();
            if gate.0 {
                return Poll::Ready(());
            }
            gate.1.push(poller.waker().clone());
            Poll::Pending
        })
    }

    /// For threads.
    pub fn wait(&self) {
        block_on(self.pass());
    }
}

#[derive(Clone, Debug, Default)]
pub struct Count(Arc<AtomicUsize>);

impl Count {
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number before.
    pub fn add(&self) -> usize {
        self.0.fetch_add(1, SeqCst)
    }

    pub fn get(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// How often something was polled, cloned and dropped.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub polls: Count,
    pub clones: Count,
    pub drops: Count,
}

impl Counts {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn value(&self, value: u64) -> Counted {
        Counted { value, counts: self.clone() }
    }

    pub fn future<F>(&self, future: F) -> CountedFuture<F> {
        CountedFuture { future: Box::pin(future), counts: self.clone() }
    }
}

/// A value that counts its clones and drops.
#[derive(Debug)]
pub struct Counted {
    pub value: u64,
    counts: Counts,
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.counts.clones.add();
        Self { value: self.value, counts: self.counts.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counts.drops.add();
    }
}

/// A future that counts its polls and its drop.
pub struct CountedFuture<F> {
    future: Pin<Box<F>>,
    counts: Counts,
}

impl<F: Future> Future for CountedFuture<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<F::Output> {
        self.counts.polls.add();
        self.future.as_mut().poll(poller)
    }
}

impl<F> Drop for CountedFuture<F> {
    fn drop(&mut self) {
        self.counts.drops.add();
    }
}
