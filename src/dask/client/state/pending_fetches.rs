//! The results to fetch, and the source to ask for each.
//!
//! | a pending fetch is | leaves that state |
//! |---|---|
//! | new | the scheduler says which workers have the result, and [`assign`](PendingFetches::assign) chooses a source |
//! | assigned | [`Sources::begin`] puts it in a call to its source |
//! | in a call | the value arrives, and its waiters are notified; or the source doesn't give it, and it's new again without that source. If the scheduler as the last source fails, its waiters are notified of that |
//!
//! A fetch whose waiters are all dropped is removed at the next step.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::Sender;

use super::future_state::ResultVersion;
use crate::dask::wire::pack::{Pack, Packer};
use crate::dask::wire::serialized::Serialized;
use crate::dask::wire::value::Value;
use crate::dask::wire::{WireError, WireKey};

/// The number of keys in the first calls, and at most. The sizes of results aren't known at first, so calls start small
/// and grow while their answers have less than [`BYTES`].
const KEYS: (usize, usize) = (4, 1024);
const BYTES: u64 = 1 << 20;
/// The number of calls at a time, to one source and to all.
const CALLS_PER_SOURCE: usize = 2;
const CALLS: usize = 16;
/// The time for which a worker isn't asked after a call couldn't reach it.
const AVOIDED: Duration = Duration::from_secs(60);

/// The outcome of a fetch.
#[derive(Clone, Debug)]
pub(crate) enum FetchOutcome {
    Fetched(Serialized),
    /// No source had the result.
    Unavailable,
    /// The location of the result changed since the fetch was started.
    Moved,
}

/// One attempt to fetch a result.
#[derive(Clone, Debug)]
pub(crate) struct FetchJob {
    pub(crate) key: Arc<str>,
    pub(crate) version: ResultVersion,
    /// The workers that didn't give it.
    tried: Vec<Arc<str>>,
}

#[derive(Debug)]
struct PendingFetch {
    version: ResultVersion,
    waiters: Vec<Sender<FetchOutcome>>,
}

/// All pending fetches.
#[derive(Debug, Default)]
pub(crate) struct PendingFetches {
    by_key: HashMap<Arc<str>, PendingFetch>,
    /// Jobs whose holders aren't known.
    new: Vec<FetchJob>,
    pub(crate) sources: Sources,
    /// Workers that couldn't be reached, and until when they aren't asked.
    avoided: HashMap<Arc<str>, Instant>,
}

impl PendingFetches {
    /// Adds a waiter for a result. Returns whether that needs a new job.
    pub(crate) fn add(
        &mut self,
        key: &Arc<str>,
        version: ResultVersion,
        waiter: Sender<FetchOutcome>,
    ) -> bool {
        let mut is_new = false;
        let fetch = self.by_key.entry(key.clone()).or_insert_with(|| {
            is_new = true;
            PendingFetch { version, waiters: vec![] }
        });
        // A waiter must not get the result of a later task that has the key.
        let is_same_task = fetch.version.task == version.task;
        fetch.waiters.retain(|waiter| is_same_task && !waiter.is_closed());
        fetch.waiters.push(waiter);
        // The result has moved: a job for the old version may fail, or take until its timeout.
        is_new |= fetch.version != version;
        fetch.version = version;
        if is_new {
            self.new.push(FetchJob { key: key.clone(), version, tried: Vec::new() });
        }
        is_new
    }

    /// Returns whether there are jobs whose holders aren't known.
    pub(crate) fn has_new(&self) -> bool {
        !self.new.is_empty()
    }

    /// Takes the jobs whose holders aren't known.
    pub(crate) fn take_new(&mut self) -> Vec<FetchJob> {
        let mut jobs = std::mem::take(&mut self.new);
        self.retain_wanted(&mut jobs);
        jobs
    }

    /// Removes jobs that are superseded, or that have no waiter.
    pub(crate) fn retain_wanted(&mut self, jobs: &mut Vec<FetchJob>) {
        jobs.retain(|job| self.is_wanted(&job.key, job.version));
    }

    /// Returns whether a fetch has a waiter, and removes it if it hasn't.
    fn is_wanted(&mut self, key: &Arc<str>, version: ResultVersion) -> bool {
        let Some(fetch) = self.by_key.get_mut(key) else { return false };
        if fetch.version != version {
            return false;
        }
        fetch.waiters.retain(|waiter| !waiter.is_closed());
        let is_wanted = !fetch.waiters.is_empty();
        if !is_wanted {
            self.by_key.remove(key);
        }
        is_wanted
    }

    /// Notifies the waiters of a fetch. A value is right for all versions of its task; that it's unavailable is only
    /// true of this version.
    pub(crate) fn settle(&mut self, key: &Arc<str>, version: ResultVersion, outcome: FetchOutcome) {
        let is_fetched = matches!(outcome, FetchOutcome::Fetched(_));
        let fits = |fetch: &PendingFetch| {
            fetch.version == version || is_fetched && fetch.version.task == version.task
        };
        if self.by_key.get(key).is_some_and(fits) {
            for waiter in self.by_key.remove(key).into_iter().flat_map(|fetch| fetch.waiters) {
                // It fails if the waiter is dropped. Each channel has room for one outcome, and gets one.
                let _ = waiter.try_send(outcome.clone());
            }
        }
    }

    /// Assigns a job to one of the workers that have the result; to the scheduler if none of these can be asked.
    pub(crate) fn assign(&mut self, job: FetchJob, holders: &[String], now: Instant) {
        self.avoided.retain(|_, until| *until > now);
        // If all holders were tried or are avoided, the scheduler is asked, which may be able to reach them.
        let candidates = holders.iter().filter(|holder| {
            let was_tried = job.tried.iter().any(|tried| **tried == ***holder);
            !was_tried && !self.avoided.contains_key(holder.as_str())
        });
        let source = match candidates.min_by_key(|holder| self.sources.waiting_for(holder)) {
            Some(holder) => Source::Worker(holder.as_str().into()),
            // The scheduler couldn't gather it either.
            None if holders.is_empty() => {
                return self.settle(&job.key, job.version, FetchOutcome::Unavailable);
            }
            None => Source::Scheduler,
        };
        self.sources.push(source, job);
    }

    /// Handles the values that a source has sent for these jobs. It may have sent only some of them.
    pub(crate) fn arrived(
        &mut self,
        source: &Source,
        jobs: Vec<FetchJob>,
        values: Vec<(WireKey, Value)>,
    ) {
        let mut bytes = 0;
        let count = values.len();
        let mut values: HashMap<WireKey, Value> = values.into_iter().collect();
        let mut missing = Vec::new();
        for job in jobs {
            match values.remove(&WireKey::from(&*job.key)).map(serialized) {
                Some(Ok(value)) => {
                    bytes += value.nbytes();
                    self.settle(&job.key, job.version, FetchOutcome::Fetched(value));
                }
                // Also a value that can't be decoded: another source may have it in another form.
                _ => missing.push(job),
            }
        }
        self.sources.adapt(count, bytes);
        self.failed(source, missing);
    }

    /// Handles jobs whose source didn't give the results.
    pub(crate) fn failed(&mut self, source: &Source, jobs: Vec<FetchJob>) {
        let Source::Worker(address) = source else {
            // The scheduler was the last source. The future asks again after a pause.
            for job in jobs {
                self.settle(&job.key, job.version, FetchOutcome::Unavailable);
            }
            return;
        };
        for mut job in jobs {
            job.tried.push(address.clone());
            self.new.push(job);
        }
    }

    /// Handles jobs whose source couldn't be reached. A worker isn't asked for a while then.
    pub(crate) fn unreachable(&mut self, source: &Source, jobs: Vec<FetchJob>, now: Instant) {
        self.failed(source, jobs);
        if let Source::Worker(address) = source {
            self.avoided.insert(address.clone(), now + AVOIDED);
            // The other jobs for it would each wait for a timeout.
            let waiting = self.sources.forget(source);
            self.new.extend(waiting);
        }
    }
}

/// A place to fetch results from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Worker(Arc<str>),
    /// It gathers results from workers that this client may not be able to reach.
    Scheduler,
}

/// The jobs that are assigned to sources, and the calls to these.
#[derive(Debug)]
pub(crate) struct Sources {
    waiting: HashMap<Source, VecDeque<FetchJob>>,
    /// The number of calls under way.
    calls: HashMap<Source, usize>,
    /// The number of keys in the next call.
    keys: usize,
}

impl Default for Sources {
    fn default() -> Self {
        Self { waiting: HashMap::new(), calls: HashMap::new(), keys: KEYS.0 }
    }
}

impl Sources {
    fn push(&mut self, source: Source, job: FetchJob) {
        self.waiting.entry(source).or_default().push_back(job);
    }

    fn waiting_for(&self, address: &str) -> usize {
        self.waiting.get(&Source::Worker(address.into())).map_or(0, VecDeque::len)
    }

    fn forget(&mut self, source: &Source) -> VecDeque<FetchJob> {
        self.waiting.remove(source).unwrap_or_default()
    }

    /// Begins the next call, if the limits allow one: returns its source and jobs.
    pub(crate) fn begin(&mut self) -> Option<(Source, Vec<FetchJob>)> {
        if self.calls.values().sum::<usize>() == CALLS {
            return None;
        }
        let calls = |source: &Source| self.calls.get(source).copied().unwrap_or(0);
        let sources = self.waiting.keys().map(|source| (calls(source), source));
        let open = sources.filter(|(calls, _)| *calls < CALLS_PER_SOURCE);
        // Sources without a call first, so that they send at the same time.
        let source = open.min_by_key(|(calls, _)| *calls)?.1.clone();
        let waiting = self.waiting.get_mut(&source)?;
        let jobs = waiting.drain(..self.keys.min(waiting.len())).collect();
        if waiting.is_empty() {
            self.waiting.remove(&source);
        }
        *self.calls.entry(source.clone()).or_default() += 1;
        Some((source, jobs))
    }

    /// Ends a call to this source.
    pub(crate) fn end(&mut self, source: &Source) {
        if let Some(calls) = self.calls.get_mut(source) {
            *calls -= 1;
            if *calls == 0 {
                self.calls.remove(source);
            }
        }
    }

    /// Adapts the number of keys in a call to an answer of this many results with this many bytes.
    fn adapt(&mut self, results: usize, bytes: u64) {
        if results > 0 {
            let bytes_each = (bytes / results as u64).max(1);
            // At most fourfold, since the next results may be larger.
            let most = (self.keys * 4).min(KEYS.1);
            self.keys = usize::try_from(BYTES / bytes_each).unwrap_or(most).clamp(1, most);
        }
    }
}

/// Returns a value as a serialized object, also if it's inline in the message.
fn serialized(value: Value) -> Result<Serialized, WireError> {
    Ok(match value {
        Value::Serialized(object) => *object,
        Value::Pickled(object) => Serialized::pickle(object.pickle()?),
        Value::Bin(bytes) => Serialized::bytes(bytes),
        value => {
            let mut packer = Packer::new();
            value.pack(&mut packer);
            Serialized::msgpack(packer.into_msgpack().into())
        }
    })
}

#[cfg(test)]
mod tests {
    use async_channel::Receiver;

    use super::*;

    fn version(count: u32) -> ResultVersion {
        ResultVersion { task: 7, count }
    }

    fn add(fetches: &mut PendingFetches, key: &str, count: u32) -> Receiver<FetchOutcome> {
        let (sender, receiver) = async_channel::bounded(1);
        fetches.add(&key.into(), version(count), sender);
        receiver
    }

    fn value(key: &str) -> (WireKey, Value) {
        (key.into(), Value::Bin(key.as_bytes().to_vec().into()))
    }

    fn fetched(bytes: &'static str) -> FetchOutcome {
        FetchOutcome::Fetched(Serialized::bytes(bytes.into()))
    }

    fn names(jobs: &[FetchJob]) -> Vec<&str> {
        jobs.iter().map(|job| &*job.key).collect()
    }

    #[test]
    fn one_job_serves_all_waiters() {
        let mut fetches = PendingFetches::default();
        let (first, cancelled) = (add(&mut fetches, "a", 1), add(&mut fetches, "b", 1));
        let second = add(&mut fetches, "a", 1);
        drop(cancelled);
        let jobs = fetches.take_new();
        assert_eq!(names(&jobs), ["a"]);
        // The result has moved: a failure of the old job doesn't count, but its success does.
        let third = add(&mut fetches, "a", 2);
        fetches.settle(&"a".into(), version(1), FetchOutcome::Unavailable);
        assert_eq!(names(&fetches.take_new()), ["a"]);
        fetches.settle(&"a".into(), version(1), fetched("v"));
        for receiver in [first, second, third] {
            assert!(matches!(receiver.try_recv(), Ok(FetchOutcome::Fetched(_))));
        }
        assert!(fetches.by_key.is_empty());
    }

    #[test]
    fn a_result_is_only_for_waiters_of_that_task() {
        let mut fetches = PendingFetches::default();
        let old = add(&mut fetches, "a", 1);
        assert_eq!(fetches.take_new().len(), 1);
        let (sender, new) = async_channel::bounded(1);
        let next = ResultVersion { task: 8, count: 1 };
        assert!(fetches.add(&"a".into(), next, sender));
        fetches.settle(&"a".into(), version(1), fetched("old"));
        assert!(old.is_closed() && new.is_empty());
        fetches.settle(&"a".into(), next, fetched("new"));
        assert!(matches!(new.try_recv(), Ok(FetchOutcome::Fetched(_))));
    }

    #[test]
    fn each_holder_is_tried_and_then_the_scheduler() {
        let mut fetches = PendingFetches::default();
        let now = Instant::now();
        let answer = add(&mut fetches, "a", 1);
        let holders = ["w1".to_owned(), "w2".to_owned()];
        let mut tried = Vec::new();
        for is_unreachable in [false, true, false] {
            for job in fetches.take_new() {
                fetches.assign(job, &holders, now);
            }
            let (source, jobs) = fetches.sources.begin().unwrap();
            match is_unreachable {
                true => fetches.unreachable(&source, jobs, now),
                false => fetches.failed(&source, jobs),
            }
            fetches.sources.end(&source);
            tried.push(source);
        }
        let worker = |name: &str| Source::Worker(name.into());
        assert!(tried.contains(&worker("w1")) && tried.contains(&worker("w2")));
        assert_eq!(tried[2], Source::Scheduler);
        assert!(matches!(answer.try_recv(), Ok(FetchOutcome::Unavailable)));
        // The unreachable one isn't asked for a while.
        for (key, later, expected) in
            [("b", Duration::ZERO, Source::Scheduler), ("c", AVOIDED, tried[1].clone())]
        {
            let _answer = add(&mut fetches, key, 1);
            let job = fetches.take_new().remove(0);
            let Source::Worker(unreachable) = &tried[1] else { unreachable!() };
            fetches.assign(job, &[unreachable.to_string()], now + later);
            let (source, _) = fetches.sources.begin().unwrap();
            assert_eq!(source, expected);
        }
    }

    #[test]
    fn calls_grow_while_results_are_small() {
        let mut fetches = PendingFetches::default();
        let names: Vec<_> = (0..3_000).map(|at| format!("k{at}")).collect();
        let answers: Vec<_> = names.iter().map(|name| add(&mut fetches, name, 1)).collect();
        for job in fetches.take_new() {
            fetches.assign(job, &["w".to_owned()], Instant::now());
        }
        let mut sizes = Vec::new();
        while let Some((source, jobs)) = fetches.sources.begin() {
            sizes.push(jobs.len());
            let values = jobs.iter().map(|job| value(&job.key)).collect();
            fetches.arrived(&source, jobs, values);
            fetches.sources.end(&source);
        }
        assert_eq!(sizes, [4, 16, 64, 256, 1024, 1024, 612]);
        let is_fetched =
            |answer: &Receiver<_>| matches!(answer.try_recv(), Ok(FetchOutcome::Fetched(_)));
        assert!(answers.iter().all(is_fetched));
        fetches.sources.adapt(1, 200 << 20);
        assert_eq!(fetches.sources.keys, 1);
    }

    #[test]
    fn few_calls_go_to_one_worker() {
        let mut sources = Sources::default();
        let job = || FetchJob { key: "k".into(), version: version(0), tried: Vec::new() };
        for at in 0..100 {
            for worker in ["a", "b"] {
                let job = FetchJob { version: version(at), ..job() };
                sources.push(Source::Worker(worker.into()), job);
            }
        }
        let begun: Vec<_> = std::iter::from_fn(|| sources.begin()).collect();
        assert_eq!(begun.len(), 4);
        sources.end(&begun[0].0);
        assert_eq!(sources.begin().unwrap().0, begun[0].0);
    }
}
