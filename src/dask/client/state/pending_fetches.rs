//! Which results are wanted here, and whom to ask for them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::Sender;

use crate::dask::client::state::future_state::Version;
use crate::dask::wire::pack::{Pack, Packer};
use crate::dask::wire::serialized::Serialized;
use crate::dask::wire::value::Value;
use crate::dask::wire::{WireError, WireKey};

/// How many keys go in one call. At first it isn't known how large results are, so it begins with few; while
/// answers stay below the bytes it gets more.
const KEYS: (usize, usize) = (4, 1024);
const BYTES: u64 = 1 << 20;
/// How many calls are under way, to one worker and to all.
const CALLS_EACH: usize = 2;
const CALLS: usize = 16;
/// How long a worker isn't tried that couldn't be reached.
const AVOIDED: Duration = Duration::from_secs(60);

/// What became of a wish.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    Here(Serialized),
    /// Nobody gave it.
    Nowhere,
    /// It's not where it was when the wish was made.
    Moved,
}

/// A result to bring.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) key: Arc<str>,
    pub(crate) version: Version,
    /// Who didn't give it.
    tried: Vec<Arc<str>>,
}

#[derive(Debug)]
struct Wish {
    version: Version,
    senders: Vec<Sender<Found>>,
}

/// Wishes, and how far they are.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    by_key: HashMap<Arc<str>, Wish>,
    /// Of these it isn't known yet who has them.
    new: Vec<Job>,
    pub(crate) sources: Sources,
    avoided: HashMap<Arc<str>, Instant>,
}

impl Wishes {
    /// Says whether there's something to do for it that wasn't yet.
    pub(crate) fn ask(&mut self, key: &Arc<str>, version: Version, sender: Sender<Found>) -> bool {
        let mut is_new = false;
        let wish = self.by_key.entry(key.clone()).or_insert_with(|| {
            is_new = true;
            Wish { version, senders: vec![] }
        });
        // Nobody is given the result of another task that had the key.
        let is_same = wish.version.task == version.task;
        wish.senders.retain(|sender| is_same && !sender.is_closed());
        wish.senders.push(sender);
        is_new |= wish.version != version;
        wish.version = version;
        if is_new {
            self.new.push(Job { key: key.clone(), version, tried: Vec::new() });
        }
        is_new
    }

    /// Whether there are some of which it isn't known who has them.
    pub(crate) fn has_new(&self) -> bool {
        !self.new.is_empty()
    }

    pub(crate) fn take(&mut self) -> Vec<Job> {
        let mut jobs = std::mem::take(&mut self.new);
        self.retain_wanted(&mut jobs);
        jobs
    }

    pub(crate) fn retain_wanted(&mut self, jobs: &mut Vec<Job>) {
        jobs.retain(|job| self.is_wanted(&job.key, job.version));
    }

    /// Whether anybody still waits for it. If not, it's forgotten.
    fn is_wanted(&mut self, key: &Arc<str>, version: Version) -> bool {
        let Some(wish) = self.by_key.get_mut(key) else { return false };
        if wish.version != version {
            return false;
        }
        wish.senders.retain(|sender| !sender.is_closed());
        let is_wanted = !wish.senders.is_empty();
        if !is_wanted {
            self.by_key.remove(key);
        }
        is_wanted
    }

    /// Gives it to those who wait. What isn't there may be there for a later wish.
    pub(crate) fn settle(&mut self, key: &Arc<str>, version: Version, found: Found) {
        let is_here = matches!(found, Found::Here(_));
        let fits =
            |wish: &Wish| wish.version == version || is_here && wish.version.task == version.task;
        if self.by_key.get(key).is_some_and(fits) {
            for sender in self.by_key.remove(key).into_iter().flat_map(|wish| wish.senders) {
                let _ = sender.try_send(found.clone());
            }
        }
    }

    /// Decides who is asked for it.
    pub(crate) fn place(&mut self, job: Job, holders: &[String]) {
        let now = Instant::now();
        self.avoided.retain(|_, until| *until > now);
        let open = holders.iter().filter(|holder| {
            let was_tried = job.tried.iter().any(|tried| **tried == ***holder);
            !was_tried && !self.avoided.contains_key(holder.as_str())
        });
        let source = match open.min_by_key(|holder| self.sources.waiting_for(holder)) {
            Some(holder) => Source::Worker(holder.as_str().into()),
            None if holders.is_empty() => {
                return self.settle(&job.key, job.version, Found::Nowhere);
            }
            None => Source::Scheduler,
        };
        self.sources.push(source, job);
    }

    pub(crate) fn here(&mut self, source: &Source, jobs: Vec<Job>, values: Vec<(WireKey, Value)>) {
        let mut bytes = 0;
        let count = values.len();
        let mut values: HashMap<WireKey, Value> = values.into_iter().collect();
        let mut rest = Vec::new();
        for job in jobs {
            match values.remove(&WireKey::from(&*job.key)).map(object) {
                Some(Ok(value)) => {
                    bytes += value.nbytes();
                    self.settle(&job.key, job.version, Found::Here(value));
                }
                _ => rest.push(job),
            }
        }
        self.sources.adapt(count, bytes);
        self.failed(source, rest, false);
    }

    /// The source didn't give these. If it's away, it's not asked for a while.
    pub(crate) fn failed(&mut self, source: &Source, jobs: Vec<Job>, is_away: bool) {
        let Source::Worker(address) = source else {
            jobs.iter().for_each(|job| self.settle(&job.key, job.version, Found::Nowhere));
            return;
        };
        for mut job in jobs {
            job.tried.push(address.clone());
            self.new.push(job);
        }
        if is_away {
            self.avoided.insert(address.clone(), Instant::now() + AVOIDED);
            let waiting = self.sources.forget(source);
            self.new.extend(waiting);
        }
    }
}

/// Where a result may come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Worker(Arc<str>),
    Scheduler,
}

/// What is to be asked of whom.
#[derive(Debug)]
pub(crate) struct Sources {
    waiting: HashMap<Source, VecDeque<Job>>,
    calls: HashMap<Source, usize>,
    /// How many keys go in one call.
    keys: usize,
}

impl Default for Sources {
    fn default() -> Self {
        Self { waiting: HashMap::new(), calls: HashMap::new(), keys: KEYS.0 }
    }
}

impl Sources {
    fn push(&mut self, source: Source, job: Job) {
        self.waiting.entry(source).or_default().push_back(job);
    }

    fn waiting_for(&self, address: &str) -> usize {
        self.waiting.get(&Source::Worker(address.into())).map_or(0, VecDeque::len)
    }

    fn forget(&mut self, source: &Source) -> VecDeque<Job> {
        self.waiting.remove(source).unwrap_or_default()
    }

    /// Whom to call next, and for what.
    pub(crate) fn begin(&mut self) -> Option<(Source, Vec<Job>)> {
        if self.calls.values().sum::<usize>() == CALLS {
            return None;
        }
        let calls = |source: &Source| self.calls.get(source).copied().unwrap_or(0);
        let sources = self.waiting.keys().map(|source| (calls(source), source));
        let open = sources.filter(|(calls, _)| *calls < CALLS_EACH);
        let source = open.min_by_key(|(calls, _)| *calls)?.1.clone();
        let waiting = self.waiting.get_mut(&source)?;
        let jobs = waiting.drain(..self.keys.min(waiting.len())).collect();
        if waiting.is_empty() {
            self.waiting.remove(&source);
        }
        *self.calls.entry(source.clone()).or_default() += 1;
        Some((source, jobs))
    }

    pub(crate) fn end(&mut self, source: &Source) {
        if let Some(calls) = self.calls.get_mut(source) {
            *calls -= 1;
            if *calls == 0 {
                self.calls.remove(source);
            }
        }
    }

    /// An answer of so many results had so many bytes.
    fn adapt(&mut self, results: usize, bytes: u64) {
        if results > 0 {
            let each = (bytes / results as u64).max(1);
            let most = (self.keys * 4).min(KEYS.1);
            self.keys = usize::try_from(BYTES / each).unwrap_or(most).clamp(1, most);
        }
    }
}

/// A value as an object, also where it came as part of a message.
fn object(value: Value) -> Result<Serialized, WireError> {
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

    fn version(count: u32) -> Version {
        Version { task: 7, count }
    }

    fn ask(wishes: &mut Wishes, key: &str, count: u32) -> Receiver<Found> {
        let (sender, receiver) = async_channel::bounded(1);
        wishes.ask(&key.into(), version(count), sender);
        receiver
    }

    fn value(key: &str) -> (WireKey, Value) {
        (key.into(), Value::Bin(key.as_bytes().to_vec().into()))
    }

    fn names(jobs: &[Job]) -> Vec<&str> {
        jobs.iter().map(|job| &*job.key).collect()
    }

    #[test]
    fn one_job_serves_all_who_ask() {
        let mut wishes = Wishes::default();
        let (first, given_up) = (ask(&mut wishes, "a", 1), ask(&mut wishes, "b", 1));
        let second = ask(&mut wishes, "a", 1);
        drop(given_up);
        let jobs = wishes.take();
        assert_eq!(names(&jobs), ["a"]);
        // It's elsewhere now, and the old job's failure doesn't matter; its success would.
        let third = ask(&mut wishes, "a", 2);
        wishes.settle(&"a".into(), version(1), Found::Nowhere);
        assert_eq!(names(&wishes.take()), ["a"]);
        wishes.settle(&"a".into(), version(1), Found::Here(Serialized::bytes("v".into())));
        for receiver in [first, second, third] {
            assert!(matches!(receiver.try_recv(), Ok(Found::Here(_))));
        }
        assert!(wishes.by_key.is_empty());
    }

    #[test]
    fn a_result_is_only_for_those_who_want_that_task() {
        let mut wishes = Wishes::default();
        let old = ask(&mut wishes, "a", 1);
        assert_eq!(wishes.take().len(), 1);
        let (sender, new) = async_channel::bounded(1);
        let next = Version { task: 8, count: 1 };
        assert!(wishes.ask(&"a".into(), next, sender));
        wishes.settle(&"a".into(), version(1), Found::Here(Serialized::bytes("old".into())));
        assert!(old.is_closed() && new.is_empty());
        wishes.settle(&"a".into(), next, Found::Here(Serialized::bytes("new".into())));
        assert!(matches!(new.try_recv(), Ok(Found::Here(_))));
    }

    #[test]
    fn each_holder_is_tried_and_then_the_scheduler() {
        let mut wishes = Wishes::default();
        let answer = ask(&mut wishes, "a", 1);
        let holders = ["w1".to_owned(), "w2".to_owned()];
        let mut tried = Vec::new();
        for is_away in [false, true, false] {
            for job in wishes.take() {
                wishes.place(job, &holders);
            }
            let (source, jobs) = wishes.sources.begin().unwrap();
            wishes.failed(&source, jobs, is_away);
            wishes.sources.end(&source);
            tried.push(source);
        }
        let worker = |name: &str| Source::Worker(name.into());
        assert!(tried.contains(&worker("w1")) && tried.contains(&worker("w2")));
        assert_eq!(tried[2], Source::Scheduler);
        assert!(matches!(answer.try_recv(), Ok(Found::Nowhere)));
        // The one that was away isn't asked at all for a while.
        let _answer = ask(&mut wishes, "b", 1);
        let job = wishes.take().remove(0);
        let Source::Worker(away) = &tried[1] else { unreachable!() };
        wishes.place(job, &[away.to_string()]);
        assert_eq!(wishes.sources.begin().unwrap().0, Source::Scheduler);
    }

    #[test]
    fn calls_grow_while_results_are_small() {
        let mut wishes = Wishes::default();
        let names: Vec<_> = (0..3_000).map(|at| format!("k{at}")).collect();
        let answers: Vec<_> = names.iter().map(|name| ask(&mut wishes, name, 1)).collect();
        for job in wishes.take() {
            wishes.place(job, &["w".to_owned()]);
        }
        let mut sizes = Vec::new();
        while let Some((source, jobs)) = wishes.sources.begin() {
            sizes.push(jobs.len());
            let values = jobs.iter().map(|job| value(&job.key)).collect();
            wishes.here(&source, jobs, values);
            wishes.sources.end(&source);
        }
        assert_eq!(sizes, [4, 16, 64, 256, 1024, 1024, 612]);
        assert!(answers.iter().all(|answer| matches!(answer.try_recv(), Ok(Found::Here(_)))));
        wishes.sources.adapt(1, 200 << 20);
        assert_eq!(wishes.sources.keys, 1);
    }

    #[test]
    fn few_calls_go_to_one_worker() {
        let mut sources = Sources::default();
        let job = || Job { key: "k".into(), version: version(0), tried: Vec::new() };
        for at in 0..100 {
            for worker in ["a", "b"] {
                sources.push(Source::Worker(worker.into()), Job { version: version(at), ..job() });
            }
        }
        let begun: Vec<_> = std::iter::from_fn(|| sources.begin()).collect();
        assert_eq!(begun.len(), 4);
        sources.end(&begun[0].0);
        assert_eq!(sources.begin().unwrap().0, begun[0].0);
    }
}
