//! Waiting for tasks without their results.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::FusedFuture;

use super::{AsHandle, assert_unresolved};
use crate::Handle;
use crate::engine::futures::completion::Completions;
use crate::engine::futures::sleep::{Sleep, sleep};
use crate::task::seal::SEAL;

/// Waits until all tasks have ended, whatever their outcome.
///
/// Accepts every iterator over handles or references to them. With a [`timeout`](Wait::timeout) it resolves after
/// that time at the latest. It returns the handles of the tasks that have ended, and those of the others.
///
/// ```
/// # futures_lite::future::block_on(async {
/// use std::time::Duration;
/// use ensue::{Client, wait_all};
///
/// let client = Client::new();
/// let quick = client.submit(async || (), ());
/// let slow = client.submit(async || ensue::sleep(Duration::from_secs(600)).await, ());
/// let waited = wait_all([&quick, &slow]).timeout(Duration::from_millis(50)).await;
/// assert_eq!((waited.done, waited.pending), (vec![quick], vec![slow]));
/// # });
/// ```
pub fn wait_all<I>(handles: I) -> Wait<<I::Item as AsHandle>::Value>
where
    I: IntoIterator,
    I::Item: AsHandle,
{
    Wait::new(handles, usize::MAX)
}

/// Waits until at least one task has ended, whatever its outcome.
///
/// Accepts every iterator over handles or references to them. Without handles it resolves at once.
///
/// Each call looks at all handles. To take the results of many tasks one by one, don't call it in a loop with those that are
/// left, which takes time in proportion to the square of their number: [`as_completed`](crate::as_completed) yields each handle
/// as its task ends, and takes further ones.
///
/// ```
/// # futures_lite::future::block_on(async {
/// use std::time::Duration;
/// use ensue::{Client, wait_any};
///
/// let client = Client::new();
/// let quick = client.submit(async || (), ());
/// let slow = client.submit(async || ensue::sleep(Duration::from_secs(600)).await, ());
/// let waited = wait_any([&slow, &quick]).await;
/// assert_eq!((waited.done, waited.pending), (vec![quick], vec![slow]));
/// # });
/// ```
pub fn wait_any<I>(handles: I) -> Wait<<I::Item as AsHandle>::Value>
where
    I: IntoIterator,
    I::Item: AsHandle,
{
    Wait::new(handles, 1)
}

/// The output of [`wait_all`] and [`wait_any`]: the handles in two parts, each in the given order.
#[derive(Debug)]
#[non_exhaustive]
pub struct WaitOutput<T> {
    /// The handles of tasks that have ended, in any way; a task that was [retried](Handle::retry) since then may run again.
    pub done: Vec<Handle<T>>,
    /// The handles of the other tasks.
    pub pending: Vec<Handle<T>>,
}

/// The future of [`wait_all`] and [`wait_any`]. Polling it after it has resolved panics.
#[must_use = "futures do nothing unless awaited"]
pub struct Wait<T> {
    handles: Vec<Handle<T>>,
    /// Which of these have been seen to end. They may have been retried since then.
    ended: Vec<bool>,
    completions: Completions<T>,
    /// The number of tasks that must still end before it resolves.
    missing: usize,
    timeout: Option<Sleep>,
    done: bool,
}

impl<T: 'static> Wait<T> {
    fn new<I>(handles: I, at_least: usize) -> Self
    where
        I: IntoIterator,
        I::Item: AsHandle<Value = T>,
    {
        let handles: Vec<_> = handles.into_iter().map(|handle| handle.into_handle(SEAL)).collect();
        let mut completions = Completions::new();
        for (at, handle) in handles.iter().enumerate() {
            completions.add(handle.typed().clone(), at);
        }
        let ended = vec![false; handles.len()];
        let missing = at_least.min(handles.len());
        Self { handles, ended, completions, missing, timeout: None, done: false }
    }

    /// Resolves after `timeout` at the latest, counted from this call.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(sleep(timeout));
        self
    }
}

impl<T: 'static> Future for Wait<T> {
    type Output = WaitOutput<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<WaitOutput<T>> {
        let this = &mut *self;
        assert_unresolved(this.done);
        loop {
            match this.completions.poll_pop(cx) {
                Poll::Ready(Some((_, at))) => {
                    this.ended[at] = true;
                    this.missing -= 1;
                    if this.missing == 0 {
                        break;
                    }
                }
                Poll::Ready(None) => break,
                Poll::Pending => {
                    let late = this.timeout.as_mut();
                    if late.is_some_and(|late| Pin::new(late).poll(cx).is_ready()) {
                        break;
                    }
                    return Poll::Pending;
                }
            }
        }
        this.done = true;
        this.completions.clear();
        let (mut done, mut pending) = (Vec::new(), Vec::new());
        for (handle, ended) in this.handles.drain(..).zip(&this.ended) {
            let part = if *ended || handle.is_finished() { &mut done } else { &mut pending };
            part.push(handle);
        }
        Poll::Ready(WaitOutput { done, pending })
    }
}

impl<T: 'static> FusedFuture for Wait<T> {
    fn is_terminated(&self) -> bool {
        self.done
    }
}

impl<T> fmt::Debug for Wait<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("handles", &self.handles)
            .field("missing", &self.missing)
            .finish_non_exhaustive()
    }
}
