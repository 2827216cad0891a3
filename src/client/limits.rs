//! The methods of a client that change and show its limits and rates.

use super::Client;
use crate::Rate;
use crate::engine::data::limit_table::{Amount, Declaration};
use crate::observe::stats::{LimitStats, RateStats};

impl Client {
    /// Changes a limit, or declares a new one, while tasks run; see [`Builder::limit`](crate::Builder::limit).
    ///
    /// If it's raised, waiting tasks start at once. If it's lowered below what is in use, the tasks that hold it go on, and no
    /// other one starts until enough of them have ended. A task that needs more than the limit is *now* waits until it's
    /// raised, and lets others go first; one that needs more than it has *ever* been fails when it's submitted,
    /// unless that was 0.
    ///
    /// So 0 holds back all new tasks, and `usize::MAX` lifts the limit. A limit can't be removed, since tasks may name it at any
    /// time: for names that come and go, declare a [pattern](Client::set_limit_each).
    ///
    /// ```
    /// let client = ensue::Client::builder().workers(1).limit("db", 2).build();
    /// client.set_limit("db", 0);
    /// let row = client.task().acquire("db").submit(async || 1, ());
    /// client.submit(async || (), ()).result().unwrap();
    /// assert!(!row.is_finished());
    /// client.set_limit("db", 8);
    /// assert_eq!(row.result().unwrap(), 1);
    /// ```
    pub fn set_limit(&self, name: impl Into<String>, n: usize) {
        self.declare(name.into(), false, Amount::Limit(n));
    }

    /// Changes the limits of a pattern, or declares a new pattern, while tasks run; see
    /// [`Builder::limit_each`](crate::Builder::limit_each) and [`set_limit`](Client::set_limit).
    ///
    /// The limits that this very pattern has made are changed, too. Those that are declared by their names, or by other
    /// patterns, are not.
    ///
    /// ```
    /// let client = ensue::Client::builder().limit_each("host:*", 2).build();
    /// client.set_limit_each("host:*", 4);
    /// let four = client.task().acquire_many("host:a", 4).submit(async || 4, ());
    /// assert_eq!(four.result().unwrap(), 4);
    /// ```
    pub fn set_limit_each(&self, pattern: impl Into<String>, n: usize) {
        self.declare(pattern.into(), true, Amount::Limit(n));
    }

    /// Changes a rate, or declares a new one, while tasks run; see [`Builder::rate`](crate::Builder::rate).
    ///
    /// It takes effect at once, also for the tasks that wait. Starts of before count: what was taken of the burst, and not made
    /// up for yet, stays taken. While `n` is 0 nothing starts. A task that needs more than the burst is *now* waits until
    /// that is raised; one that needs more than it has *ever* been fails when it's submitted.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ensue::{Client, Rate};
    ///
    /// let client = Client::builder().rate("api", Rate::new(1, Duration::from_secs(3600))).build();
    /// let calls = client.task().acquire("api").map(async |_: u32| (), 0..3);
    /// client.set_rate("api", Rate::new(1000, Duration::from_secs(1)));
    /// client.submit(async |_: Vec<()>| (), calls).result().unwrap();
    /// ```
    pub fn set_rate(&self, name: impl Into<String>, rate: Rate) {
        self.declare(name.into(), false, Amount::Rate(rate));
    }

    /// Changes the rates of a pattern, or declares a new pattern, while tasks run; see
    /// [`Builder::rate_each`](crate::Builder::rate_each) and [`set_limit_each`](Client::set_limit_each).
    ///
    /// ```
    /// use std::time::Duration;
    /// use ensue::{Client, Rate};
    ///
    /// let client = Client::new();
    /// client.set_rate_each("host:*", Rate::new(100, Duration::from_secs(1)));
    /// let page = client.task().acquire("host:a").submit(async || 1, ());
    /// assert_eq!(page.result().unwrap(), 1);
    /// ```
    pub fn set_rate_each(&self, pattern: impl Into<String>, rate: Rate) {
        self.declare(pattern.into(), true, Amount::Rate(rate));
    }

    fn declare(&self, name: String, is_pattern: bool, amount: Amount) {
        let core = self.core();
        core.limits.declare(Declaration { name, is_pattern, amount }, &core.clock());
    }

    /// Returns the limits: first those that were declared by name, in order, and then those that patterns have made and that
    /// tasks use or wait for, by name.
    ///
    /// ```
    /// let client = ensue::Client::builder().limit("db", 4).build();
    /// let limits = client.limits();
    /// assert_eq!((&*limits[0].name, limits[0].of, limits[0].used, limits[0].waiting), ("db", 4, 0, 0));
    /// ```
    pub fn limits(&self) -> Vec<LimitStats> {
        LimitStats::of(self.core()).0
    }

    /// Returns the rates, in the same order as [`limits`](Client::limits).
    ///
    /// ```
    /// use std::time::Duration;
    /// use ensue::{Client, Rate};
    ///
    /// let client = Client::builder().rate("api", Rate::new(10, Duration::from_secs(1)).burst(5)).build();
    /// let rates = client.rates();
    /// assert_eq!((&*rates[0].name, rates[0].available, rates[0].waiting), ("api", 5, 0));
    /// ```
    pub fn rates(&self) -> Vec<RateStats> {
        LimitStats::of(self.core()).1
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{Client, Handle, Rate, Retry, sleep};

    /// Submits a task with each option that keeps what it has acquired in a place of its own.
    fn submit(client: &Client, n: usize, name: &str) -> Handle<usize> {
        let options = client.task().acquire(format!("{name}:{n}")).key(n.to_string());
        match n % 6 {
            0 => options.submit(async || 1, ()),
            1 => options.submit_blocking(|| 1, ()),
            2 => options.try_submit(async || Err::<usize, _>("no"), ()),
            3 => {
                let retry = Retry::new(2).backoff(Duration::from_nanos(1), Duration::from_nanos(1));
                options.retries(retry).try_submit(async || Err::<usize, _>("no"), ())
            }
            4 => options
                .timeout(Duration::from_nanos(1))
                .submit(async || std::future::pending().await, ()),
            _ => options.submit(async || panic!("oh"), ()),
        }
    }

    #[test]
    fn what_patterns_have_made_goes_with_the_tasks_that_need_it() {
        let rate = Rate::new(1, Duration::from_secs(1)).burst(3);
        let client =
            Client::builder().seed(1).limit_each("limit:*", 1).rate_each("rate:*", rate).build();
        for name in ["limit", "rate"] {
            let tasks: Vec<_> = (0..60).map(|n| submit(&client, n, name)).collect();
            assert_eq!(client.core().limits.len(), 60);
            // Joins the task of the key, and fails, and is dropped while it waits.
            drop(submit(&client, 0, name));
            drop(client.task().acquire_many(format!("{name}:too many"), 9).submit(async || (), ()));
            drop(client.task().acquire(format!("{name}:dropped")).submit(async || (), ()));
            tasks.iter().for_each(|task| drop(task.result()));
            drop(tasks);
            client.submit(async || sleep(Duration::from_secs(60)).await, ()).result().unwrap();
            client.limits();
            assert_eq!(client.core().limits.len(), 0, "{name}");
        }
    }
}
