//! Blocking a thread on a future.
//!
//! | `state` of the signal | meaning | next |
//! |---|---|---|
//! | `RUNS` | the thread runs, or looks for a wake | `SLEEPS` by the thread; `IS_SET` by a wake |
//! | `SLEEPS` | it sleeps, or is about to and has the lock | `IS_SET` by a wake, which then takes the lock and notifies it |
//! | `IS_SET` | it was woken | `RUNS` by the thread, which then polls again |
//!
//! So the wake of a thread that [looks](super::look) for it is one exchange, without a system call.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::engine::base::look::{Lookers, Patience};
use crate::engine::base::sync::{AtomicU8, Cell, Condvar, Instant, Mutex, Ordering, thread_local};

const RUNS: u8 = 0;
const SLEEPS: u8 = 1;
const IS_SET: u8 = 2;

/// What wakes a blocked thread.
struct Signal {
    state: AtomicU8,
    /// When the sleeping thread was woken.
    woken: Mutex<Option<Instant>>,
    changed: Condvar,
}

impl Default for Signal {
    fn default() -> Self {
        let (woken, changed) = (Mutex::new(None), Condvar::new());
        Self { state: AtomicU8::new(RUNS), woken, changed }
    }
}

thread_local! {
    /// The thread's signal while it isn't blocked. It's kept because a seeded client knows a thread that waits by its
    /// waker, and with it what the thread has learned.
    static SIGNAL: Cell<Option<(Arc<Signal>, Patience)>> = const { Cell::new(None) };
}

/// Blocks until the future is ready. It may be called within a poll of another `block_on`, and by the destructors of
/// thread locals.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    /// Of the threads of an application that block, one looks for its wake at a time.
    static LOOKERS: Lookers = Lookers::new(1);
    block_on_among(&LOOKERS, future)
}

/// The same, as one of several threads of which some look for their wakes.
pub(crate) fn block_on_among<F: Future>(lookers: &Lookers, future: F) -> F::Output {
    let mut future = pin!(future);
    let (signal, mut patience) = SIGNAL.try_with(Cell::take).ok().flatten().unwrap_or_default();
    let waker = Waker::from(signal.clone());
    let mut cx = Context::from_waker(&waker);
    let output = loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            break output;
        }
        signal.wait(lookers, &mut patience);
    };
    // There is none to keep it on a thread that is exiting.
    let _ = SIGNAL.try_with(|kept| kept.set(Some((signal, patience))));
    output
}

impl Signal {
    /// Waits for a wake, or returns at once if there was one since the last wait.
    fn wait(&self, lookers: &Lookers, patience: &mut Patience) {
        let is_set = || self.state.load(Ordering::Acquire) == IS_SET;
        if !is_set() && !patience.look(lookers, is_set) {
            self.sleep(patience);
        }
        // Acquires what happened before each of the wakes so far, of which this may be one of several.
        self.state.swap(RUNS, Ordering::Acquire);
    }

    fn sleep(&self, patience: &mut Patience) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        // Of the last sleep, from which something else may have woken the thread before.
        *woken = None;
        // The lock is held until the thread sleeps, so a wake that sees `SLEEPS` can't notify it too early.
        let asleep =
            self.state.compare_exchange(RUNS, SLEEPS, Ordering::Acquire, Ordering::Acquire);
        while asleep.is_ok() && self.state.load(Ordering::Acquire) == SLEEPS {
            woken = self.changed.wait(woken).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(woken) = woken.take() {
            patience.learn(woken.elapsed());
        }
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Releases what the waking thread did before.
        if self.state.swap(IS_SET, Ordering::AcqRel) == SLEEPS {
            *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            self.changed.notify_one();
        }
    }
}
