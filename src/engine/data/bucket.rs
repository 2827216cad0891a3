//! The token bucket of a rate, and the timer for its next start.
//!
//! It's kept as one time (GCRA): when the bucket is full again, if nothing more is taken. Each start puts that off by one
//! interval, and is allowed if the bucket is then full within the time that its size takes to fill. All times are in
//! nanoseconds of the client's clock.

use std::sync::Arc;
use std::task::{Wake, Waker};

use crate::engine::base::lock::Lock;
use crate::engine::base::user_code::wake;
use crate::engine::data::clock::{Clock, Timer};
use crate::task::rate::Rate;

pub(crate) struct Bucket {
    rate: Rate,
    /// The time between two starts. While nothing may start it's that of before, in which the bucket goes on to fill.
    interval: u64,
    /// Wide enough for the largest burst.
    full_at: u128,
    alarm: Option<Alarm>,
}

impl Bucket {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, interval: rate.interval().unwrap_or(0), full_at: 0, alarm: None }
    }

    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    /// Sets another rate. What was taken counts: the bucket lacks as much as before.
    pub(crate) fn set(&mut self, rate: Rate, now: u64) {
        if let Some(interval) = rate.interval() {
            let lack = self.full_at.saturating_sub(now.into()).saturating_mul(interval.into());
            let lack = lack.checked_div(self.interval.into()).unwrap_or(0);
            self.full_at = lack.saturating_add(now.into());
            self.interval = interval;
        }
        self.rate = rate;
    }

    fn time_of(&self, n: usize) -> u128 {
        u128::from(self.interval) * n as u128
    }

    /// When `n` can be taken, which may be in the past; `None` if never at this rate.
    pub(crate) fn due(&self, n: usize) -> Option<u64> {
        let left = self.rate.most_at_once().checked_sub(n).filter(|_| self.rate.n() > 0)?;
        Some(to_u64(self.full_at.saturating_sub(self.time_of(left))))
    }

    pub(crate) fn has(&self, n: usize, now: u64) -> bool {
        self.due(n).is_some_and(|due| due <= now)
    }

    /// The number that can be taken now.
    pub(crate) fn available(&self, now: u64) -> usize {
        if self.rate.n() == 0 {
            return 0;
        }
        let lack = self.full_at.saturating_sub(now.into()).div_ceil(self.interval.max(1).into());
        self.rate.most_at_once().saturating_sub(usize::try_from(lack).unwrap_or(usize::MAX))
    }

    /// Takes `n`, which it has.
    pub(crate) fn take(&mut self, n: usize, now: u64) {
        self.full_at = self.full_at.max(now.into()).saturating_add(self.time_of(n));
    }

    /// Gives back what was taken for a start that didn't take place.
    pub(crate) fn give_back(&mut self, n: usize) {
        self.full_at = self.full_at.saturating_sub(self.time_of(n));
    }

    pub(crate) fn full_at(&self) -> u64 {
        to_u64(self.full_at)
    }

    /// Has a waker woken at a time, in place of the one before; none with `None`. Adds a waker that isn't needed any more to
    /// `unused`: it's user code, which mustn't run under the caller's lock. The error returns the waker, if the system
    /// refuses the thread of the timers.
    pub(crate) fn set_alarm(
        &mut self,
        clock: &Clock<'_>,
        next: Option<(u64, Waker)>,
        unused: &mut Vec<Waker>,
    ) -> Result<(), Waker> {
        let is_same = |alarm: &Alarm, at| alarm.at == at && alarm.bell.0.lock().is_some();
        match (next, &self.alarm) {
            (Some((at, waker)), Some(alarm)) if is_same(alarm, at) => {
                unused.extend(alarm.bell.0.lock().replace(waker));
                Ok(())
            }
            (next, _) => {
                if let Some(before) = self.alarm.take() {
                    unused.extend(before.bell.0.lock().take());
                    before.timer.end(clock);
                }
                let Some((at, waker)) = next else { return Ok(()) };
                let bell = Arc::new(Bell(Lock::new(Some(waker))));
                match clock.alarm(at, Waker::from(bell.clone())) {
                    Some(timer) => self.alarm = Some(Alarm { at, bell, timer }),
                    None => return bell.0.lock().take().map_or(Ok(()), Err),
                }
                Ok(())
            }
        }
    }
}

fn to_u64(time: u128) -> u64 {
    u64::try_from(time).unwrap_or(u64::MAX)
}

/// The timer of a bucket.
struct Alarm {
    at: u64,
    bell: Arc<Bell>,
    timer: Timer,
}

/// The waker of the request that is served next, until it's woken. It isn't the timer's own waker, so that dropping that
/// runs no user code.
struct Bell(Lock<Option<Waker>>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let waker = self.0.lock().take();
        if let Some(waker) = waker {
            wake(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn bucket(n: usize, burst: usize) -> Bucket {
        Bucket::new(Rate::new(n, Duration::from_secs(1)).burst(burst))
    }

    /// Takes one whenever that's possible, and returns the times.
    fn starts(bucket: &mut Bucket, count: usize) -> Vec<u64> {
        let mut now = 0;
        let mut take = |_| {
            now = now.max(bucket.due(1).unwrap());
            assert!(bucket.has(1, now));
            bucket.take(1, now);
            now
        };
        (0..count).map(&mut take).collect()
    }

    #[test]
    fn starts_are_spaced_and_in_bursts_up_to_the_size() {
        let tenth = SECOND / 10;
        assert_eq!(starts(&mut bucket(10, 1), 4), [0, tenth, 2 * tenth, 3 * tenth]);
        assert_eq!(starts(&mut bucket(10, 3), 5), [0, 0, 0, tenth, 2 * tenth]);
        // In no second more than three, though a third of a second is no whole number of nanoseconds.
        let starts = starts(&mut bucket(3, 1), 4000);
        assert!(starts.windows(4).all(|four| four[3] - four[0] >= SECOND));
    }

    #[test]
    fn what_was_taken_counts_after_a_change_and_a_pause() {
        let mut bucket = bucket(10, 4);
        bucket.take(3, 0);
        assert_eq!(bucket.available(0), 1);
        bucket.set(Rate::new(1, Duration::from_secs(1)).burst(4), 0);
        assert_eq!((bucket.available(0), bucket.due(2)), (1, Some(SECOND)));
        bucket.set(Rate::new(0, Duration::from_secs(1)).burst(4), 0);
        assert_eq!((bucket.available(9 * SECOND), bucket.due(1)), (0, None));
        bucket.set(Rate::new(1, Duration::from_secs(1)).burst(4), SECOND);
        assert_eq!(bucket.available(SECOND), 2);
        bucket.set(Rate::new(5, Duration::ZERO).burst(2), SECOND);
        assert_eq!((bucket.available(SECOND), bucket.due(3)), (usize::MAX, Some(SECOND)));
        bucket.take(2, SECOND);
        assert!(bucket.has(1000, SECOND), "no bound");
    }

    #[test]
    fn a_start_that_is_given_back_can_be_taken_again() {
        let mut bucket = bucket(1, 1);
        bucket.take(1, 5);
        assert!(!bucket.has(1, 5));
        bucket.give_back(1);
        assert!(bucket.has(1, 5));
    }

    #[test]
    fn times_too_long_to_be_told_never_come() {
        let mut bucket = Bucket::new(Rate::new(1, Duration::MAX).burst(usize::MAX));
        bucket.take(usize::MAX, u64::MAX);
        assert!(!bucket.has(1, u64::MAX - 1));
        bucket.set(Rate::new(usize::MAX, Duration::from_nanos(1)), 0);
        assert!(bucket.due(1).is_some());
    }
}
