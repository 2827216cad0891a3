//! A second run of what takes unusually long.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::engine::base::lock::Lock;
use crate::engine::base::nanos::nanos;
use crate::engine::core::context;
use crate::sleep;

/// Runs asynchronous code a second time if the first run takes unusually long, and uses whichever ends first.
///
/// Of many calls of a service, some take far longer than the others. A second call usually doesn't, so those that wait for
/// many of them needn't wait for the slowest. [`run`](Self::run) starts the second run after a fixed [time](Self::after), or
/// after the time in which a [part](Self::at_quantile) of the runs ends, as measured. The run that loses is dropped: a
/// future is not polled again, and a task of which only it has a handle is cancelled.
///
/// Clones share their measurements and their budget, so one `Hedge` belongs to calls that take about equally long.
///
/// Both runs are polled by the task that awaits them. What needs a thread of its own, a limit or retries is submitted in the
/// run, as a task, which is then also shown by `explain`, the graph and the dashboard:
///
/// ```
/// use std::time::Duration;
/// use ensue::{Client, Hedge};
///
/// async fn fetch(page: u32) -> String {
///     ensue::sleep(Duration::from_millis(2)).await;
///     format!("page {page}")
/// }
///
/// # futures_lite::future::block_on(async {
/// let client = Client::builder().limit("server", 8).build();
/// let hedge = Hedge::at_quantile(0.95);
/// let pages = client.map(
///     {
///         let (client, hedge) = (client.clone(), hedge.clone());
///         async move |page: u32| hedge.run(|| client.submit(fetch, page)).await
///     },
///     0..10,
/// );
/// let pages: Vec<_> = ensue::gather(pages).await?.into_iter().collect::<Result<_, _>>()?;
/// assert_eq!(pages[3], "page 3");
/// assert_eq!(hedge.stats().first_runs, 10);
/// # Ok::<_, ensue::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Hedge(Arc<Shared>);

struct Shared {
    delay: Delay,
    budget: f64,
    state: Lock<State>,
}

#[derive(Clone, Copy, Debug)]
enum Delay {
    Fixed(Duration),
    Quantile(f64),
}

#[derive(Default)]
struct State {
    stats: HedgeStats,
    /// The latest first runs, and the second ones of these: both are halved from time to time.
    latest: (u32, u32),
    times: Times,
}

/// What a [`Hedge`] has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HedgeStats {
    /// The number of first runs.
    pub first_runs: u64,
    /// The number of second runs, at most one for each first run.
    pub second_runs: u64,
    /// The number of second runs whose output was used.
    pub second_won: u64,
    /// The time after which a second run starts now; `None` while too few runs were measured.
    pub delay: Option<Duration>,
}

impl Hedge {
    /// Starts the second run when the first one has taken this time. Each first run may have a second one, unless a
    /// [budget](Self::budget) is set.
    pub fn after(delay: Duration) -> Self {
        Self::new(Delay::Fixed(delay), 1.0)
    }

    /// Starts the second run when the first one has taken longer than this part of the runs, such as 0.95.
    ///
    /// The time is measured to within an eighth, over about the last 4,000 runs. Until 32 of them have ended, there are no
    /// second runs. The [budget](Self::budget) is twice the part that is left, here 0.1: if everything becomes slow, no more
    /// than about that is asked a second time.
    ///
    /// # Panics
    ///
    /// If `quantile` isn't between 0 and 1.
    pub fn at_quantile(quantile: f64) -> Self {
        assert!(
            quantile > 0.0 && quantile < 1.0,
            "a quantile is between 0 and 1, such as 0.95, not {quantile}"
        );
        Self::new(Delay::Quantile(quantile), 2.0 * (1.0 - quantile))
    }

    /// Sets the number of second runs for each first run, over about the last 1,000 of these: with 0.03, at most 30 of them have
    /// a second one, and if there were none for a while, at most 30 may follow each other at once. With 1, all may. What has no
    /// budget left goes on with its first run. Measurements begin anew.
    ///
    /// # Panics
    ///
    /// If `part` isn't between 0 and 1.
    #[must_use]
    pub fn budget(self, part: f64) -> Self {
        assert!(
            (0.0..=1.0).contains(&part),
            "a budget is a part of the runs, from 0 to 1, such as 0.03, not {part}"
        );
        Self::new(self.0.delay, part)
    }

    fn new(delay: Delay, budget: f64) -> Self {
        Self(Arc::new(Shared { delay, budget, state: Lock::default() }))
    }

    /// Awaits what `make` returns. If that takes unusually long, calls `make` once more, and returns the output of
    /// whichever is ready first.
    ///
    /// In a task of a [seeded](crate::Builder::seed) client, time is the client's virtual time. Dropping the future drops
    /// both runs. A panic of either run is one of this future. A blocking closure of a seeded client runs in its first poll, and
    /// so never has a second run.
    pub async fn run<Fut: Future>(&self, make: impl FnMut() -> Fut) -> Fut::Output {
        self.race(make, |_| true).await
    }

    /// The same for code that returns a `Result`: an error ends it only if no other run is under way. So it's that of the
    /// run that ended last.
    ///
    /// A run that fails early isn't repeated: that is what [retries](crate::Options::retries) are for.
    pub async fn try_run<T, E, Fut>(&self, make: impl FnMut() -> Fut) -> Result<T, E>
    where
        Fut: Future<Output = Result<T, E>>,
    {
        self.race(make, Result::is_ok).await
    }

    /// Returns what it has done so far.
    pub fn stats(&self) -> HedgeStats {
        let state = self.0.state.lock();
        HedgeStats { delay: self.delay(&state), ..state.stats }
    }

    async fn race<Fut: Future>(
        &self,
        mut make: impl FnMut() -> Fut,
        counts: impl Fn(&Fut::Output) -> bool,
    ) -> Fut::Output {
        let delay = {
            let mut state = self.0.state.lock();
            state.stats.first_runs += 1;
            let (first, second) = &mut state.latest;
            *first += 1;
            if *first > LATEST {
                // What wasn't used in a quiet time is no budget for a bad one.
                (*first, *second) = (*first / 2, *second / 2);
            }
            self.delay(&state)
        };
        let first_run = FirstRun { hedge: self, began: now() };
        let mut first = pin!(make());
        if let Some(delay) = delay {
            let mut late = pin!(sleep(delay));
            let in_time = poll_fn(|cx| match first.as_mut().poll(cx) {
                Poll::Ready(output) => Poll::Ready(Some(output)),
                Poll::Pending => late.as_mut().poll(cx).map(|()| None),
            });
            if let Some(output) = in_time.await {
                return output;
            }
        }
        if delay.is_none() || !self.take_from_budget() {
            return first.await;
        }
        let second = pin!(make());
        // Those that have not ended.
        let mut runs = [Some(first), Some(second)];
        let (output, won) = poll_fn(|cx| {
            for at in 0..runs.len() {
                let Some(run) = &mut runs[at] else { continue };
                if let Poll::Ready(output) = run.as_mut().poll(cx) {
                    runs[at] = None;
                    if counts(&output) || runs.iter().all(Option::is_none) {
                        return Poll::Ready((output, at == 1));
                    }
                }
            }
            Poll::Pending
        })
        .await;
        drop(first_run);
        self.0.state.lock().stats.second_won += u64::from(won);
        output
    }

    fn delay(&self, state: &State) -> Option<Duration> {
        match self.0.delay {
            Delay::Fixed(delay) => Some(delay),
            Delay::Quantile(quantile) => state.times.quantile(quantile),
        }
    }

    fn take_from_budget(&self) -> bool {
        let state = &mut *self.0.state.lock();
        let (first, second) = &mut state.latest;
        let is_granted =
            self.0.budget >= 1.0 || f64::from(*second + 1) <= f64::from(*first) * self.0.budget;
        *second += u32::from(is_granted);
        state.stats.second_runs += u64::from(is_granted);
        is_granted
    }
}

impl fmt::Debug for Hedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedge")
            .field("delay", &self.0.delay)
            .field("budget", &self.0.budget)
            .field("stats", &self.stats())
            .finish()
    }
}

/// Measures a first run when it's dropped. One that lost counts with the time until then: without it, the runs that take long
/// would be missing, and the quantile would become shorter and shorter.
struct FirstRun<'a> {
    hedge: &'a Hedge,
    began: Duration,
}

impl Drop for FirstRun<'_> {
    fn drop(&mut self) {
        if let Delay::Quantile(_) = self.hedge.0.delay {
            let took = now().saturating_sub(self.began);
            self.hedge.0.state.lock().times.add(took);
        }
    }
}

/// The time on the clock that [`sleep`] has here.
fn now() -> Duration {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    match context::current_core().filter(|core| core.seeded.is_some()) {
        Some(core) => core.now(),
        None => BEGAN.elapsed(),
    }
}

/// The most first runs that count for the budget.
const LATEST: u32 = 1000;

/// The parts of an octave that are told apart.
const PARTS: usize = 8;

/// The number of times from which on there is a quantile.
const FEWEST: u32 = 32;

/// The number of times after which all counts are halved.
const MOST: u32 = 4096;

/// How many runs took how long.
#[derive(Default)]
struct Times {
    /// For each eighth of each octave of nanoseconds; longer ones are added when needed.
    counts: Vec<u32>,
    total: u32,
}

impl Times {
    fn add(&mut self, time: Duration) {
        let time = nanos(time).max(PARTS as u64);
        let octave = time.ilog2() as usize;
        let part = (time >> (octave - 3)) as usize % PARTS;
        let at = octave * PARTS + part;
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += 1;
        self.total += 1;
        if self.total >= MOST {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    /// Returns a time that at least this part of the runs didn't exceed.
    fn quantile(&self, quantile: f64) -> Option<Duration> {
        if self.total < FEWEST {
            return None;
        }
        let wanted = f64::from(self.total) * quantile;
        let mut sum = 0;
        let at = self.counts.iter().position(|count| {
            sum += count;
            f64::from(sum) >= wanted
        })?;
        let (octave, part) = (at / PARTS, at % PARTS);
        let end = ((PARTS + part + 1) as u128) << (octave - 3);
        Some(Duration::from_nanos(u64::try_from(end).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_an_eighth_too_long_at_most() {
        for scale in [1, 1000, 1_000_000, 1_000_000_000, 3_600_000_000_000] {
            let mut times = Times::default();
            (1..=1000).for_each(|n| times.add(Duration::from_nanos(n * scale)));
            for wanted in [10, 500, 950, 999] {
                #[allow(clippy::cast_precision_loss)]
                let found = times.quantile(wanted as f64 / 1000.0).unwrap().as_nanos();
                let wanted = u128::from(wanted * scale);
                assert!(found >= wanted && found <= wanted * 9 / 8 + 8, "{found} for {wanted}");
            }
        }
        let mut times = Times::default();
        (0..FEWEST).for_each(|_| times.add(Duration::MAX));
        assert_eq!(times.quantile(0.5), Some(Duration::from_nanos(u64::MAX)));
        assert_eq!(Times::default().quantile(0.5), None);
    }

    #[test]
    fn old_times_are_forgotten() {
        let mut times = Times::default();
        (0..MOST * 4).for_each(|_| times.add(Duration::from_secs(1)));
        (0..MOST * 4).for_each(|_| times.add(Duration::from_millis(1)));
        assert!(times.quantile(0.99).unwrap() < Duration::from_millis(2));
    }
}
