//! Logs, counters, and values, futures and wakers that count what is done to them.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// A shared list of events, in order.
#[derive(Clone, Debug)]
pub struct Log<T>(Arc<Mutex<Vec<T>>>);

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Log<T> {
    /// Returns an empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an event.
    pub fn add(&self, entry: T) {
        self.0.lock().unwrap().push(entry);
    }

    /// Returns a copy of all events.
    pub fn all(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }

    /// Returns the number of events.
    #[expect(clippy::len_without_is_empty, reason = "no test asks for it")]
    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// A shared counter.
#[derive(Clone, Debug, Default)]
pub struct Count(Arc<AtomicUsize>);

impl Count {
    /// Returns a counter at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one and returns the previous number.
    pub fn add(&self) -> usize {
        self.0.fetch_add(1, SeqCst)
    }

    /// Subtracts one and returns the previous number.
    pub fn sub(&self) -> usize {
        self.0.fetch_sub(1, SeqCst)
    }

    /// Returns the number.
    pub fn get(&self) -> usize {
        self.0.load(SeqCst)
    }

    /// Returns a value that adds one when it's dropped.
    pub fn on_drop(&self) -> OnDrop {
        OnDrop(self.clone())
    }
}

/// Adds one to a [`Count`] when it's dropped.
#[derive(Debug)]
pub struct OnDrop(Count);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.add();
    }
}

/// Counters of what is done to values and futures.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Polls of the futures.
    pub polls: Count,
    /// Clones of the values.
    pub clones: Count,
    /// Drops of the values and the futures.
    pub drops: Count,
    /// Values that exist now.
    pub alive: Count,
}

impl Counts {
    /// Returns counters at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a value that is counted in these counters.
    pub fn value(&self, value: u64) -> Counted {
        self.alive.add();
        Counted { value, counts: self.clone() }
    }

    /// Returns a future that is counted in these counters.
    pub fn future<F>(&self, future: F) -> CountedFuture<F> {
        let (future, polls) = (Box::pin(future), self.polls.clone());
        CountedFuture { future, polls, _drop: self.drops.on_drop() }
    }
}

/// A value that counts its clones and drops.
#[derive(Debug)]
pub struct Counted {
    /// The value itself.
    pub value: u64,
    /// The counters that count it.
    pub counts: Counts,
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.counts.clones.add();
        self.counts.value(self.value)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counts.alive.sub();
        self.counts.drops.add();
    }
}

/// A future that counts its polls and its drop.
#[derive(Debug)]
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

/// Polls a future once, with a waker that counts.
pub fn poll_with<F: Future + Unpin>(future: &mut F, wakes: &Arc<Wakes>) -> Poll<F::Output> {
    let waker = Waker::from(wakes.clone());
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

/// A waker that counts how often it was woken.
#[derive(Debug, Default)]
pub struct Wakes(Count);

impl Wakes {
    /// Returns a waker that wasn't woken yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Returns how often it was woken.
    pub fn get(&self) -> usize {
        self.0.get()
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.add();
    }
}
