//! Blocking a thread on a future.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// What wakes a blocked thread.
#[derive(Default)]
struct Signal {
    is_set: Mutex<bool>,
    changed: Condvar,
}

thread_local! {
    /// The thread's signal while it isn't blocked. It's kept because a seeded client knows a thread that waits by its
    /// waker.
    static SIGNAL: Cell<Option<Arc<Signal>>> = const { Cell::new(None) };
}

/// Blocks until the future is ready. It may be called within a poll of another `block_on`, and by the destructors of
/// thread locals.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let signal = SIGNAL.try_with(Cell::take).ok().flatten().unwrap_or_default();
    let waker = Waker::from(signal.clone());
    let mut cx = Context::from_waker(&waker);
    let output = loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            break output;
        }
        signal.wait();
    };
    // There is none to keep it on a thread that is exiting.
    let _ = SIGNAL.try_with(|kept| kept.set(Some(signal)));
    output
}

impl Signal {
    fn wait(&self) {
        let is_set = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        let is_set = self.changed.wait_while(is_set, |is_set| !*is_set);
        *is_set.unwrap_or_else(PoisonError::into_inner) = false;
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}
