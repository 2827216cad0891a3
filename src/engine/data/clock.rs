//! Clocks and their timers: the real one of the process, and the virtual one of a seeded client.
//!
//! Real timers are in one list for the whole process, served by a thread that is started with the first of them
//! and exits after a while without any. A virtual clock advances when its driver says so.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::base::lock::Lock;
use crate::engine::base::user_code::{drop_user_value, wake};

/// How long the timer thread stays without a timer: long enough not to start one for each of a series of short sleeps.
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

    /// # Errors
    ///
    /// If the system refuses the timer thread.
    fn insert(&'static self, deadline: Instant, waker: Waker) -> io::Result<u64> {
        let mut state = self.lock();
        let (timers, running) = &mut *state;
        let number = timers.insert(deadline, waker);
        if !*running {
            *running = true;
            let spawned = thread::Builder::new().name("ensue-timer".into()).spawn(|| self.serve());
            if let Err(error) = spawned {
                *running = false;
                let waker = timers.entries.remove(&(deadline, number));
                drop(state);
                drop_user_value(waker);
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
                wake(waker);
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

/// The clock of a seeded client, which advances only when it's told to, from one deadline to the next.
pub(crate) struct VirtualClock(Lock<(Duration, Timers<Duration>)>);

impl VirtualClock {
    pub(crate) fn new() -> Self {
        Self(Lock::new((Duration::ZERO, Timers::new())))
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.lock().0
    }

    /// The time on this clock after `duration`; `None` if that overflows.
    pub(crate) fn deadline_after(&self, duration: Duration) -> Option<Duration> {
        self.now().checked_add(duration)
    }

    /// Registers the waker, in place of the one of the same number; true if the deadline has passed.
    pub(crate) fn register(
        &self,
        deadline: Duration,
        number: &mut Option<u64>,
        waker: &Waker,
    ) -> bool {
        let new = waker.clone();
        let mut clock = self.0.lock();
        let (now, timers) = &mut *clock;
        if *now >= deadline {
            // A waker is user code: it's dropped without the lock.
            drop(clock);
            drop_user_value(new);
            return true;
        }
        let before = match number {
            Some(number) => timers.entries.insert((deadline, *number), new),
            None => {
                *number = Some(timers.insert(deadline, new));
                None
            }
        };
        drop(clock);
        drop_user_value(before);
        false
    }

    pub(crate) fn remove(&self, deadline: Duration, number: u64) {
        let waker = self.0.lock().1.entries.remove(&(deadline, number));
        drop_user_value(waker);
    }

    /// Advances to the next deadline and fires its timer; false if there is none.
    pub(crate) fn advance(&self) -> bool {
        let waker = {
            let (now, timers) = &mut *self.0.lock();
            let Some(first) = timers.first() else { return false };
            *now = first.max(*now);
            timers.pop_due(*now)
        };
        if let Some(waker) = waker {
            wake(waker);
        }
        true
    }
}

/// A timer of the real clock; dropping it removes it.
pub(crate) struct RealTimer {
    /// `None` for a time too far away to be told, which never comes.
    deadline: Option<Instant>,
    /// Its number in the list, once it's there.
    number: Option<u64>,
}

impl RealTimer {
    pub(crate) fn new(deadline: Option<Instant>) -> Self {
        Self { deadline, number: None }
    }

    /// Registers the waker, in place of the one before; true if the deadline has passed.
    ///
    /// # Panics
    ///
    /// If the system refuses the timer thread.
    pub(crate) fn register(&mut self, waker: &Waker) -> bool {
        let Some(deadline) = self.deadline else { return false };
        if Instant::now() >= deadline {
            return true;
        }
        let waker = waker.clone();
        match self.number {
            Some(number) => {
                let mut state = REAL.lock();
                let Some(entry) = state.0.entries.get_mut(&(deadline, number)) else {
                    drop(state);
                    drop_user_value(waker);
                    return true;
                };
                let before = std::mem::replace(entry, waker);
                drop(state);
                drop_user_value(before);
            }
            None => match REAL.insert(deadline, waker) {
                Ok(new) => self.number = Some(new),
                Err(error) => panic!("the timer thread can't be started: {error}"),
            },
        }
        false
    }
}

impl Drop for RealTimer {
    fn drop(&mut self) {
        if let (Some(deadline), Some(number)) = (self.deadline, self.number) {
            let waker = REAL.lock().0.entries.remove(&(deadline, number));
            drop_user_value(waker);
        }
    }
}

/// Wakes the waker after `duration`, unless the timer is dropped before. `None` if the system refuses the thread.
pub(crate) fn alarm(duration: Duration, waker: Waker) -> Option<RealTimer> {
    let deadline = Instant::now().checked_add(duration)?;
    let number = REAL.insert(deadline, waker).ok()?;
    Some(RealTimer { deadline: Some(deadline), number: Some(number) })
}
