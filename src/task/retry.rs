//! The rules for further attempts after a failed one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Error;

/// The number of retries of a task, their delays, and the errors that are retried; see
/// [`Options::retries`](crate::Options::retries). `u32` converts into it.
///
/// ```
/// use std::time::Duration;
/// use ensue::{Client, Retry};
///
/// let client = Client::new();
/// let retry = Retry::new(3)
///     .backoff(Duration::from_millis(1), Duration::from_millis(8))
///     .jitter()
///     .when(|error| !error.is_panic());
/// let x = client.task().retries(retry).try_submit(async || "7".parse::<u8>(), ());
/// assert_eq!(x.result().unwrap(), 7);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Retry {
    budget: u32,
    first: Duration,
    max: Duration,
    jitter: bool,
    when: Option<Predicate>,
}

type Predicate = Arc<dyn Fn(&Error) -> bool + Send + Sync>;

impl Retry {
    /// Allows up to `n` further attempts after the first, without delay and for all errors.
    pub fn new(n: u32) -> Self {
        Self { budget: n, first: Duration::ZERO, max: Duration::ZERO, jitter: false, when: None }
    }

    /// Waits `first` before the second attempt, and doubles the delay for each further one. No delay, not even the
    /// first, is longer than `max`. The same duration twice gives a fixed delay. A waiting task holds no worker and no
    /// limit.
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.first = first;
        self.max = max;
        self
    }

    /// Waits for a random part of the delay, uniformly distributed, so that tasks that failed together are not
    /// retried together.
    pub fn jitter(mut self) -> Self {
        self.jitter = true;
        self
    }

    /// Retries an error only if `predicate` returns true for it, for example `when(Error::is_timeout)`, which is also true of
    /// the [error of another task](Error#the-error-of-another-task) that the function returned. It runs on the worker that made the attempt. If it
    /// panics, that panic becomes the task's error.
    pub fn when(mut self, predicate: impl Fn(&Error) -> bool + Send + Sync + 'static) -> Self {
        self.when = Some(Arc::new(predicate));
        self
    }

    pub(crate) fn allows(&self, failures: u32, error: &Error) -> bool {
        failures <= self.budget && self.when.as_ref().is_none_or(|when| when(error))
    }

    /// Returns the number of retries if they have neither delays nor a predicate.
    #[cfg(feature = "dask")]
    pub(crate) fn plain(&self) -> Option<u32> {
        (self.max.is_zero() && self.when.is_none()).then_some(self.budget)
    }

    /// Returns the delay after the given number of failures, which is at least 1; `random` is from 0 to 1.
    pub(crate) fn delay(&self, failures: u32, random: impl FnOnce() -> f64) -> Duration {
        let factor = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let delay = self.first.saturating_mul(factor).min(self.max);
        if !self.jitter {
            return delay;
        }
        // The longest durations overflow when they are converted back from a float.
        Duration::try_from_secs_f64(delay.as_secs_f64() * random()).unwrap_or(delay)
    }
}

impl From<u32> for Retry {
    fn from(n: u32) -> Self {
        Self::new(n)
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("budget", &self.budget)
            .field("first", &self.first)
            .field("max", &self.max)
            .field("jitter", &self.jitter)
            .field("when", &self.when.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_without_overflow() {
        let retry = Retry::new(u32::MAX).backoff(Duration::from_secs(1), Duration::from_secs(10));
        let delays: Vec<_> = (1..7).map(|n| retry.delay(n, || 1.0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 10, 10]);
        assert_eq!(retry.delay(u32::MAX, || 1.0), Duration::from_secs(10));
        let longest = Retry::new(1).backoff(Duration::MAX, Duration::MAX);
        assert_eq!(longest.delay(u32::MAX, || 1.0), Duration::MAX);
        let _ = longest.jitter().delay(3, || 1.0);
    }

    #[test]
    fn without_backoff_there_is_no_delay() {
        assert_eq!(Retry::new(3).delay(2, || 1.0), Duration::ZERO);
    }
}
