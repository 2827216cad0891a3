//! Looking for a wake before a thread goes to sleep.
//!
//! To sleep and be woken takes 5 to 20 µs, in which a core could run a hundred small tasks. So a thread with nothing to do
//! looks for its wake for about that long first, if that has paid lately and the core isn't needed otherwise.
//!
//! | after | next |
//! |---|---|
//! | a look that found the wake | looks in each wait |
//! | the first look that found none | looks once more |
//! | the n-th in a row | sleeps at once in the next 2^n - 2 waits, then looks again; at most 254 |
//! | a look in which another thread had the core | as after six more looks |

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::engine::base::sync::{Instant, ROUNDS, spin_loop};

/// The time that a look takes if it finds nothing: twice that from a wake to the thread's next step, within these bounds.
const SHORTEST: Duration = Duration::from_micros(5);
const LONGEST: Duration = Duration::from_micros(50);

/// How long the first looks of a thread take, which hasn't been woken yet.
const FIRST: Duration = Duration::from_micros(20);

/// A time between two readings of the clock that says that another thread had the core meanwhile.
const GAP: Duration = Duration::from_micros(10);

/// The number of looks in a row that found nothing from which on no more waits are left out.
const MOST_FAILURES: u32 = 8;

/// Threads of which only some look at once: half of them, so that the others' cores are free for what is to be found.
pub(crate) struct Lookers {
    threads: AtomicUsize,
    looking: AtomicUsize,
}

impl Lookers {
    pub(crate) const fn new(threads: usize) -> Self {
        Self { threads: AtomicUsize::new(threads), looking: AtomicUsize::new(0) }
    }

    pub(crate) fn set_threads(&self, threads: usize) {
        self.threads.store(threads, Ordering::Relaxed);
    }

    fn enter(&self) -> Option<Looking<'_>> {
        static CORES: OnceLock<usize> = OnceLock::new();
        let cores = CORES.get_or_init(|| thread::available_parallelism().map_or(1, usize::from));
        // On a single core, nothing can happen while a thread looks.
        let most = (self.threads.load(Ordering::Relaxed) / 2).clamp(1, cores / 2 + 1);
        let looking = Looking(self);
        let before = self.looking.fetch_add(1, Ordering::Relaxed);
        (*cores > 1 && before < most).then_some(looking)
    }
}

/// A thread that looks.
struct Looking<'a>(&'a Lookers);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.looking.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a thread has learned about looking.
pub(crate) struct Patience {
    /// The looks in a row that found nothing.
    failures: u32,
    /// The waits to come in which it doesn't look.
    rest: u32,
    /// How long it looks.
    window: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { failures: 0, rest: 0, window: FIRST }
    }
}

impl Patience {
    /// Looks until `is_woken` returns true; false if it doesn't look, or gives up.
    pub(crate) fn look(&mut self, lookers: &Lookers, is_woken: impl Fn() -> bool) -> bool {
        if self.rest > 0 {
            self.rest -= 1;
            return false;
        }
        let Some(_looking) = lookers.enter() else { return false };
        let begin = Instant::now();
        let mut last = Duration::ZERO;
        for _ in 0..ROUNDS {
            for _ in 0..8 {
                if is_woken() {
                    self.failures = 0;
                    return true;
                }
                spin_loop();
            }
            let now = begin.elapsed();
            if now - last > GAP {
                self.failed(1 + 6);
                return false;
            }
            if now > self.window {
                break;
            }
            last = now;
        }
        self.failed(1);
        false
    }

    fn failed(&mut self, times: u32) {
        self.failures = (self.failures + times).min(MOST_FAILURES);
        self.rest = (1 << self.failures) - 2;
    }

    /// Learns how long it took from a wake until this thread ran.
    pub(crate) fn learn(&mut self, wake: Duration) {
        let window = (wake * 2).clamp(SHORTEST, LONGEST);
        self.window = (self.window * 7 + window) / 8;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_wake_is_found() {
        let (lookers, mut patience, looks) = (Lookers::new(2), Patience::default(), Cell::new(0));
        let is_woken = || looks.replace(looks.get() + 1) == 2;
        // Another program may have the core meanwhile.
        let found = (0..1000).any(|_| {
            looks.set(0);
            patience.look(&lookers, is_woken)
        });
        assert!(found || thread::available_parallelism().is_ok_and(|cores| cores.get() == 1));
        assert!(!found || patience.failures == 0);
    }

    #[test]
    fn looks_that_find_nothing_become_rare() {
        let (lookers, mut patience, looked) =
            (Lookers::new(2), Patience::default(), Cell::new(false));
        let mut looks = 0;
        for _ in 0..10_000 {
            looked.set(false);
            assert!(!patience.look(&lookers, || {
                looked.set(true);
                false
            }));
            looks += u32::from(looked.get());
        }
        assert!(looks <= 10 + 10_000 / 254, "{looks} looks");
    }

    #[test]
    fn half_of_the_threads_look_at_once() {
        let lookers = Lookers::new(4);
        if lookers.enter().is_none() {
            assert_eq!(thread::available_parallelism().unwrap().get(), 1);
            return;
        }
        let (first, second) = (lookers.enter(), lookers.enter());
        assert!(first.is_some() && second.is_some() && lookers.enter().is_none());
        lookers.set_threads(1);
        drop(first);
        assert!(lookers.enter().is_none());
        drop(second);
        assert!(lookers.enter().is_some());
    }

    #[test]
    fn a_look_takes_as_long_as_sleep_and_wake() {
        let mut patience = Patience::default();
        (0..100).for_each(|_| patience.learn(Duration::from_micros(8)));
        let window = patience.window.as_nanos();
        assert!((15_000..=16_100).contains(&window), "{window}");
        (0..100).for_each(|_| patience.learn(Duration::from_secs(1)));
        assert!(patience.window <= LONGEST);
    }
}
