//! Values, futures and wakers that count what is done to them.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// A shared list of what happened, in order.
#[derive(Clone, Debug)]
pub struct Log<T>(Arc<Mutex<Vec<T>>>);

impl<T: Clone> Log<T> {
    pub fn new() -> Self {
        Self(Arc::default())
    }

    pub fn add(&self, entry: T) {
        self.0.lock().unwrap().push(entry);
    }

    pub fn all(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// A shared number.
#[derive(Clone, Debug, Default)]
pub struct Count(Arc<AtomicUsize>);

impl Count {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one and returns the number before.
    pub fn add(&self) -> usize {
        self.0.fetch_add(1, SeqCst)
    }

    /// Subtracts one and returns the number before.
    pub fn sub(&self) -> usize {
        self.0.fetch_sub(1, SeqCst)
    }

    pub fn get(&self) -> usize {
        self.0.load(SeqCst)
    }

    /// A value that adds one when it's dropped.
    pub fn on_drop(&self) -> OnDrop {
        OnDrop(self.clone())
    }
}

/// Adds one to a [`Count`] when it's dropped.
pub struct OnDrop(Count);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.add();
    }
}

/// Counts of what is done to values and futures: polls, clones and drops.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub polls: Count,
    pub clones: Count,
    pub drops: Count,
    /// The number of values that exist now.
    pub alive: Count,
}

impl Counts {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn value(&self, value: u64) -> FunctionProgress {
        self.alive.add();
        FunctionProgress { value, counts: self.clone() }
    }

    pub fn future<F>(&self, future: F) -> CountedFuture<F> {
        let (future, polls) = (Box::pin(future), self.polls.clone());
        CountedFuture { future, polls, _drop: self.drops.on_drop() }
    }
}

/// A value that counts its clones and drops.
#[derive(Debug)]
pub struct FunctionProgress {
    pub value: u64,
    pub counts: Counts,
}

impl Clone for FunctionProgress {
    fn clone(&self) -> Self {
        self.counts.clones.add();
        self.counts.value(self.value)
    }
}

impl Drop for FunctionProgress {
    fn drop(&mut self) {
        self.counts.alive.sub();
        self.counts.drops.add();
    }
}

/// A future that counts its polls and its drop.
pub struct CountedFuture<F> {
    future: Pin<Box<F>>,
    polls: Count,
    _drop: OnDrop,
}

impl<F: Future> Future for CountedFuture<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.polls.add();
        self.future.as_mut().poll(cx)
    }
}

/// Polls once, with a waker that counts.
pub fn poll_with<F: Future + Unpin>(future: &mut F, wakes: &Arc<Wakes>) -> Poll<F::Output> {
    let waker = Waker::from(wakes.clone());
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

/// A waker that counts its wakes.
#[derive(Default)]
pub struct Wakes(Count);

impl Wakes {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn get(&self) -> usize {
        self.0.get()
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.add();
    }
}
