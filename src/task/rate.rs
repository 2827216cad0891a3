//! How often tasks may start.

use std::fmt;
use std::time::Duration;

/// How often tasks may start: so many in so much time, evenly spaced, or in bursts; see
/// [`Builder::rate`](crate::Builder::rate).
///
/// It's a token bucket. In any time `t`, at most `burst + n * t / per` starts are acquired. With the default burst of 1, they
/// are evenly spaced, so that no interval of the length `per` has more than `n`, wherever it begins: the bound that most
/// services set. A larger burst lets starts that weren't used be made up for, up to that many at once.
///
/// ```
/// use std::time::Duration;
/// use ensue::{Client, Rate};
///
/// let per_second = Rate::new(10, Duration::from_secs(1));
/// let client = Client::builder().seed(1).rate("api", per_second).rate("mail", per_second.burst(5)).build();
/// let calls = client.task().acquire("api").map(async |_: u32| (), 0..25);
/// client.submit(async |_: Vec<()>| (), calls).result().unwrap(); // after 2.4 s of virtual time
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Rate {
    n: usize,
    per: Duration,
    burst: usize,
}

impl Rate {
    /// Allows `n` starts in each interval of the length `per`, one by one: the first at once, and each further one `per / n`
    /// after the one before, rounded up to nanoseconds. With an `n` of 0 nothing starts; with a `per` of zero there is no
    /// bound.
    pub const fn new(n: usize, per: Duration) -> Self {
        Self { n, per, burst: 1 }
    }

    /// Allows up to `n` starts at once, if there were none for long enough. The default is 1, and so is 0.
    ///
    /// A task that [acquires several](crate::Options::acquire_many) needs a burst that is as large.
    pub const fn burst(mut self, n: usize) -> Self {
        self.burst = if n == 0 { 1 } else { n };
        self
    }

    /// The number of starts in each interval.
    pub const fn n(self) -> usize {
        self.n
    }

    /// The length of the interval.
    pub const fn per(self) -> Duration {
        self.per
    }

    /// The most starts at once: the burst, or [`usize::MAX`] if there is no bound.
    pub const fn most_at_once(self) -> usize {
        if self.n > 0 && self.per.is_zero() { usize::MAX } else { self.burst }
    }

    /// The time between two starts, in nanoseconds; `None` if nothing starts.
    pub(crate) fn interval(self) -> Option<u64> {
        let nanos = self.per.as_nanos().div_ceil(self.n.max(1) as u128);
        (self.n > 0).then(|| u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Writes `10 per 1s`, and the burst if it's more than 1.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {:?}", self.n, self.per)?;
        if self.burst > 1 { write!(f, ", up to {} at once", self.burst) } else { Ok(()) }
    }
}
