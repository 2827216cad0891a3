//! A sleep that works on any runtime, in real or in virtual time.
//!
//! | `SleepState` | meaning | next |
//! |---|---|---|
//! | `New` | not polled yet, created outside a seeded client | `Virtual` or `Real` by the first poll |
//! | `Virtual` | a timer of a seeded client's clock | `Elapsed` |
//! | `Real` | a timer of the process's timer thread | `Elapsed` |
//! | `Elapsed` | the time is over | final |

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::engine::base::user_code::wake_by_ref;
use crate::engine::core::virtual_timer::VirtualTimer;
use crate::engine::core::{budget, context};
use crate::engine::data::clock::RealTimer;

/// A future that resolves after some time; created by [`sleep`].
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    duration: Duration,
    state: SleepState,
}

enum SleepState {
    /// Created at that time.
    New(Instant),
    /// Created or first polled by a task of a seeded client.
    Virtual(VirtualTimer),
    Real(RealTimer),
    Elapsed,
}

/// Returns a future that resolves after `duration`, on any runtime.
///
/// It needs no particular runtime: a small thread of the crate's, started on demand, serves the timers of all clients. In
/// a task of a [seeded](crate::Builder::seed) client, the time is the client's virtual one and passes at once when no task
/// can run. The time counts from the call. A duration too long to be added to the present never elapses. Dropping the
/// future cancels the timer.
///
/// # Panics
///
/// The first poll panics if the system refuses the thread.
///
/// ```
/// use std::time::Duration;
///
/// let client = ensue::Client::new();
/// let late = client.submit(async || ensue::sleep(Duration::from_millis(5)).await, ());
/// assert!(late.result().is_ok());
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    let seeded = context::current_core().filter(|core| core.seeded.is_some());
    let state = match seeded {
        Some(core) => SleepState::Virtual(VirtualTimer::new(core, duration)),
        None => SleepState::New(Instant::now()),
    };
    Sleep { duration, state }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let SleepState::New(made) = self.state {
            let seeded = context::current_core().filter(|core| core.seeded.is_some());
            self.state = match seeded {
                Some(core) => SleepState::Virtual(VirtualTimer::new(core, self.duration)),
                None => SleepState::Real(RealTimer::new(made.checked_add(self.duration))),
            };
        }
        let is_over = match &mut self.state {
            SleepState::New(_) | SleepState::Elapsed => return Poll::Ready(()),
            SleepState::Virtual(timer) => timer.register(cx.waker()),
            SleepState::Real(timer) => timer.register(cx.waker()),
        };
        if !is_over {
            return Poll::Pending;
        }
        let seeded = matches!(self.state, SleepState::Virtual(_));
        self.state = SleepState::Elapsed;
        if context::take_from_budget() || budget::may_exceed(cx.waker(), seeded) {
            return Poll::Ready(());
        }
        wake_by_ref(cx.waker());
        Poll::Pending
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("duration", &self.duration).finish_non_exhaustive()
    }
}
