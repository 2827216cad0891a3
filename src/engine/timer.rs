//! Time: a timer for any runtime, and the virtual clock of a seeded client.
//!
//! Real timers are in one list for the whole process, served by a thread that is started with the
//! first of them and ends when there has been none for a while.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Poller, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use super::context;
use super::core::CoreRef;
use super::lock::Lock;

/// How long the timer thread stays when there is no timer. Long enough not to start one for each of a
/// series of short sleeps.
const LINGER: Duration = Duration::from_millis(200);

/// Timers in order of their deadlines.
struct Timers<I> {
    entries: BTreeMap<(I, u64), Waker>,
    count: u64,
}

impl<I: Ord + Copy> Timers<I> {
    const fn new() -> Self {
        Self { entries: BTreeMap::new(), count: 0 }
    }

    fn insert(&mut self, deadline: I, waker: Waker) -> u64 {
        self.count += 1;
        self.entries.insert((deadline, self.count), waker);
        self.count
    }

    fn first(&self) -> Option<I> {
        self.entries.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    fn pop_due(&mut self, now: I) -> Option<Waker> {
        let first = self.entries.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

struct RealClock {
    timers: Mutex<(Timers<Instant>, bool)>,
    changed: Condvar,
}

static REAL: RealClock =
    RealClock { timers: Mutex::new((Timers::new(), false)), changed: Condvar::new() };

impl RealClock {
    fn lock(&self) -> MutexGuard<'_, (Timers<Instant>, bool)> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails where the system refuses the thread.
    fn insert(&'static self, deadline: Instant, waker: Waker) -> io::Result<u64> {
        let mut state = self.lock();
        let (timers, running) = &mut *state;
        let number = timers.insert(deadline, waker);
        if !*running {
            *running = true;
            let spawned = thread::Builder::new().name("ensue-timer".into()).spawn(|| self.serve());
            if let Err(error) = spawned {
                *running = false;
                timers.entries.remove(&(deadline, number));
                return Err(error);
            }
        } else if timers.first() == Some(deadline) {
            self.changed.notify_one();
        }
        Ok(number)
    }

    fn serve(&self) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if let Some(waker) = state.0.pop_due(now) {
                drop(state);
                context::foreign(|| waker.wake());
                state = self.lock();
                continue;
            }
            let first = state.0.first();
            let wait = first.map_or(LINGER, |deadline| deadline - now);
            let (again, timeout) =
                self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
            state = again;
            if first.is_none() && timeout.timed_out() && state.0.first().is_none() {
                state.1 = false;
                return;
            }
        }
    }
}

/// The clock of a seeded client: it moves on when told to.
pub(crate) struct VirtualClock(Lock<(Duration, Timers<Duration>)>);

impl VirtualClock {
    pub(crate) fn new() -> Self {
        Self(Lock::new((Duration::ZERO, Timers::new())))
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.lock().0
    }

    /// Moves on to the next deadline; false where there is none.
    pub(crate) fn advance(&self) -> bool {
        let waker = {
            let (now, timers) = &mut *self.0.lock();
            let Some(first) = timers.first() else { return false };
            *now = first.max(*now);
            timers.pop_due(*now)
        };
        if let Some(waker) = waker {
            context::foreign(|| waker.wake());
        }
        true
    }
}

/// A future that resolves after some time; made by [`sleep`].
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    duration: Duration,
    state: State,
}

enum State {
    /// Not polled yet; made at that time.
    New(Instant),
    /// Made or polled by a task of a seeded client.
    Virtual {
        core: CoreRef,
        deadline: Option<Duration>,
        number: Option<u64>,
    },
    Real {
        deadline: Option<Instant>,
        number: Option<u64>,
    },
    Elapsed,
}

/// A future that resolves after `duration`, on any runtime.
///
/// It needs no particular runtime: a small thread of the crate's, started on demand, serves the
/// timers of all clients. In a task of a [seeded](crate::Builder::seed) client the time is the client's
/// virtual one and passes at once when nothing else is left to do. The time counts from the call. A
/// duration too long to be added to the present never elapses. Dropping the future gives up the timer.
///
/// # Panics
///
/// The first poll panics where the system refuses the thread.
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
        Some(core) => State::in_virtual_time(core, duration),
        None => State::New(Instant::now()),
    };
    Sleep { duration, state }
}

/// Wakes the waker in a while, unless it's dropped before. `None` where the system refuses the thread.
pub(crate) fn alarm(duration: Duration, waker: Waker) -> Option<Sleep> {
    let deadline = Instant::now().checked_add(duration)?;
    let number = REAL.insert(deadline, waker).ok()?;
    Some(Sleep { duration, state: State::Real { deadline: Some(deadline), number: Some(number) } })
}

impl State {
    fn in_virtual_time(core: CoreRef, duration: Duration) -> Self {
        let deadline =
            core.seeded.as_ref().and_then(|seeded| seeded.clock.0.lock().0.checked_add(duration));
        Self::Virtual { core, deadline, number: None }
    }

    /// Registers, or registers again; true where the time is over.
    fn poll(&mut self, waker: &Waker) -> bool {
        match self {
            Self::New(_) | Self::Elapsed => true,
            Self::Virtual { core, deadline, number } => {
                let (Some(deadline), Some(seeded)) = (*deadline, &core.seeded) else {
                    return false;
                };
                let mut waker = Some(waker.clone());
                let mut clock = seeded.clock.0.lock();
                let (now, timers) = &mut *clock;
                let over = *now >= deadline;
                if !over {
                    // Foreign code is dropped after the lock.
                    waker = match number {
                        Some(number) => waker
                            .and_then(|waker| timers.entries.insert((deadline, *number), waker)),
                        None => {
                            *number = waker.map(|waker| timers.insert(deadline, waker));
                            None
                        }
                    };
                }
                drop(clock);
                drop(waker);
                over
            }
            Self::Real { deadline, number } => {
                let Some(deadline) = *deadline else { return false };
                if Instant::now() >= deadline {
                    return true;
                }
                let waker = waker.clone();
                match number {
                    Some(number) => {
                        let mut state = REAL.lock();
                        let Some(entry) = state.0.entries.get_mut(&(deadline, *number)) else {
                            return true;
                        };
                        let before = std::mem::replace(entry, waker);
                        drop(state);
                        drop(before);
                    }
                    None => match REAL.insert(deadline, waker) {
                        Ok(new) => *number = Some(new),
                        Err(error) => panic!("no thread for timers: {error}"),
                    },
                }
                false
            }
        }
    }

    fn give_up(&mut self) {
        match std::mem::replace(self, Self::Elapsed) {
            Self::Virtual { core, deadline: Some(deadline), number: Some(number) } => {
                if let Some(seeded) = &core.seeded {
                    let waker = seeded.clock.0.lock().1.entries.remove(&(deadline, number));
                    drop(waker);
                }
            }
            Self::Real { deadline: Some(deadline), number: Some(number) } => {
                let waker = REAL.lock().0.entries.remove(&(deadline, number));
                drop(waker);
            }
            _ => {}
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<()> {
        if let State::New(made) = self.state {
            let seeded = context::current_core().filter(|core| core.seeded.is_some());
            self.state = match seeded {
                Some(core) => State::in_virtual_time(core, self.duration),
                None => State::Real { deadline: made.checked_add(self.duration), number: None },
            };
        }
        if !self.state.poll(poller.waker()) {
            return Poll::Pending;
        }
        self.state.give_up();
        Poll::Ready(())
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.state.give_up();
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("duration", &self.duration).finish_non_exhaustive()
    }
}
