//! Clocks and their timers: the real one of the process, and the virtual one of a seeded client.
//!
//! Real timers are in one list for the whole process, served by a thread that is started with the first of them
//! and exits after a while without any. The child process of a fork has a list and a thread of its own. A virtual clock
//! advances when its driver says so.

use std::collections::BTreeMap;
use std::io;
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::base::lock::Lock;
use crate::engine::base::nanos::nanos;
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
    /// The process whose thread serves it.
    process: u32,
    state: Mutex<RealTimers>,
    changed: Condvar,
}

struct RealTimers {
    timers: Timers<Instant>,
    /// When the thread looks at the list by itself, at the latest; `None` if there is no thread.
    looks_at: Option<Instant>,
}

/// The clock of this process; null before its first timer.
static REAL: AtomicPtr<RealClock> = AtomicPtr::new(ptr::null_mut());

impl RealClock {
    /// Returns the clock of this process.
    ///
    /// A fork copies the parent's clock without its thread, and maybe with its lock held, so the child makes a new one.
    fn current() -> &'static Self {
        let process = process::id();
        let mut found = REAL.load(Ordering::Acquire);
        loop {
            // SAFETY: the pointer is null or one to a clock that is never freed.
            if let Some(clock) = unsafe { found.as_ref() }.filter(|clock| clock.process == process)
            {
                return clock;
            }
            let timers = RealTimers { timers: Timers::new(), looks_at: None };
            let new = Self { process, state: Mutex::new(timers), changed: Condvar::new() };
            let new = Box::into_raw(Box::new(new));
            match REAL.compare_exchange(found, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => found = new,
                Err(other) => {
                    // SAFETY: it was boxed above, and no one else knows it.
                    drop(unsafe { Box::from_raw(new) });
                    found = other;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, RealTimers> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    ///
    /// If the system refuses the timer thread.
    fn insert(&'static self, deadline: Instant, waker: Waker) -> io::Result<u64> {
        let mut state = self.lock();
        let number = state.timers.insert(deadline, waker);
        match state.looks_at {
            None => {
                let thread = thread::Builder::new().name("ensue-timer".into());
                if let Err(error) = thread.spawn(|| self.serve()) {
                    let waker = state.timers.entries.remove(&(deadline, number));
                    drop(state);
                    drop_user_value(waker);
                    return Err(error);
                }
                state.looks_at = Some(deadline);
            }
            Some(looks_at) if deadline < looks_at => {
                state.looks_at = Some(deadline);
                self.changed.notify_one();
            }
            Some(_) => {}
        }
        Ok(number)
    }

    fn remove(&self, deadline: Instant, number: u64) {
        let mut state = self.lock();
        let waker = state.timers.entries.remove(&(deadline, number));
        if state.timers.entries.is_empty() {
            // The thread needn't stay until the deadline of a timer that is gone.
            let lingers_until = Instant::now() + LINGER;
            if state.looks_at.is_some_and(|looks_at| looks_at > lingers_until) {
                state.looks_at = Some(lingers_until);
                self.changed.notify_one();
            }
        }
        drop(state);
        drop_user_value(waker);
    }

    fn serve(&self) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if let Some(waker) = state.timers.pop_due(now) {
                // It looks again after the waker.
                state.looks_at = Some(now);
                drop(state);
                wake(waker);
                state = self.lock();
                continue;
            }
            let first = state.timers.first();
            let until = first.unwrap_or(now + LINGER);
            state.looks_at = Some(until);
            let waited = self.changed.wait_timeout(state, until - now);
            let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = again;
            if first.is_none() && timeout.timed_out() && state.timers.first().is_none() {
                state.looks_at = None;
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

    /// Whether there is a timer.
    pub(crate) fn has_timer(&self) -> bool {
        self.0.lock().1.first().is_some()
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
    /// The clock and its number in the list, once it's there.
    entry: Option<(&'static RealClock, u64)>,
}

impl RealTimer {
    pub(crate) fn new(deadline: Option<Instant>) -> Self {
        Self { deadline, entry: None }
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
        match self.entry {
            Some((clock, number)) => {
                let mut state = clock.lock();
                let Some(entry) = state.timers.entries.get_mut(&(deadline, number)) else {
                    drop(state);
                    drop_user_value(waker);
                    return true;
                };
                let before = std::mem::replace(entry, waker);
                drop(state);
                drop_user_value(before);
            }
            None => {
                let clock = RealClock::current();
                match clock.insert(deadline, waker) {
                    Ok(number) => self.entry = Some((clock, number)),
                    Err(error) => panic!("the system refused the thread of the timers: {error}"),
                }
            }
        }
        false
    }
}

impl Drop for RealTimer {
    fn drop(&mut self) {
        if let (Some(deadline), Some((clock, number))) = (self.deadline, self.entry) {
            clock.remove(deadline, number);
        }
    }
}

/// Wakes the waker after `duration`. False if the system refuses the thread: then the waker is dropped.
#[cfg(not(ensue_shuttle))]
pub(crate) fn tick(duration: Duration, waker: Waker) -> bool {
    RealClock::current().insert(Instant::now() + duration, waker).is_ok()
}

/// The same at any time: this thread is one of the schedule's.
#[cfg(ensue_shuttle)]
pub(crate) fn tick(_: Duration, waker: Waker) -> bool {
    crate::engine::base::sync::thread::Builder::new().spawn(|| wake(waker)).is_ok()
}

/// Wakes the waker after `duration`, unless the timer is dropped before. `None` if the system refuses the thread.
pub(crate) fn alarm(duration: Duration, waker: Waker) -> Option<RealTimer> {
    let deadline = Instant::now().checked_add(duration)?;
    let clock = RealClock::current();
    let number = clock.insert(deadline, waker).ok()?;
    Some(RealTimer { deadline: Some(deadline), entry: Some((clock, number)) })
}

/// The clock of one client.
pub(crate) enum Clock<'a> {
    /// The real one, from when the client was made.
    Real(Instant),
    Virtual(&'a VirtualClock),
}

/// A timer of a client's clock.
pub(crate) enum Timer {
    Real {
        _timer: RealTimer,
    },
    /// Its deadline and number.
    Virtual(Duration, Option<u64>),
}

/// The longest time of a timer, after which its waker looks again: what is longer may not fit the system's clock.
const LONGEST: Duration = Duration::from_secs(1 << 25);

impl Clock<'_> {
    /// The time in nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        nanos(match self {
            Self::Real(began) => began.elapsed(),
            Self::Virtual(clock) => clock.now(),
        })
    }

    /// Wakes the waker at this time or, if that's far away, before. `None` if the system refuses the thread.
    pub(crate) fn alarm(&self, at: u64, waker: Waker) -> Option<Timer> {
        match self {
            Self::Real(_) => {
                let left = Duration::from_nanos(at.saturating_sub(self.now())).min(LONGEST);
                Some(Timer::Real { _timer: alarm(left, waker)? })
            }
            Self::Virtual(clock) => {
                let (deadline, mut number) = (Duration::from_nanos(at), None);
                // The caller has looked: the time isn't over, and doesn't go on meanwhile.
                clock.register(deadline, &mut number, &waker);
                Some(Timer::Virtual(deadline, number))
            }
        }
    }
}

impl Timer {
    pub(crate) fn end(self, clock: &Clock<'_>) {
        if let (Self::Virtual(deadline, Some(number)), Clock::Virtual(clock)) = (self, clock) {
            clock.remove(deadline, number);
        }
    }
}
