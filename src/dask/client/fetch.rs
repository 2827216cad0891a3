//! Bringing results here.
//!
//! What is wanted at the same time is asked for together: where it is, of the scheduler, and then each worker for
//! what it has. What a worker doesn't give is asked of others that have it, and last of the scheduler, which can
//! reach workers that we may not.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use async_executor::Executor;
use async_io::Timer;
use event_listener::Event;

use crate::dask::net::{NetError, Pool};
use crate::dask::wire::call::{self, CallError, Data};
use crate::dask::wire::frame::Outgoing;
use crate::dask::wire::pack::Packer;
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
/// How many keys the scheduler is asked for at once.
const QUESTION: usize = 4096;
/// For so long no byte may come from a worker, or from the scheduler, which may get it from a worker first.
const SILENCE: Duration = Duration::from_secs(10);
const LONG_SILENCE: Duration = Duration::from_secs(60);
/// When to ask a worker again that has too much to do.
const BUSY: Duration = Duration::from_millis(150);
/// How long a worker isn't tried that couldn't be reached.
const AVOIDED: Duration = Duration::from_secs(60);

/// What became of a wish.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Here(Serialized),
    /// Nobody gave it.
    Nowhere,
    /// It's not where it was when the wish was made.
    Moved,
}

/// What is wanted here, and what is done for it.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    wishes: Mutex<Wishes>,
    news: Event,
}

impl Fetches {
    /// The answer comes when the result is here, or can't be had. `version` tells wishes apart that were made when
    /// the result was in different places.
    pub(super) fn ask(&self, key: &Arc<str>, version: u32) -> Receiver<Found> {
        let (sender, receiver) = async_channel::bounded(1);
        if self.lock().ask(key, version, sender) {
            self.news.notify(1);
        }
        receiver
    }

    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is asked.
    pub(super) async fn drive(&self, scheduler: &str, pool: &Pool) -> Infallible {
        let executor = Executor::new();
        let main = async {
            loop {
                let news = self.news.listen();
                let jobs = self.lock().take();
                for jobs in jobs.chunks(QUESTION) {
                    self.place(jobs.to_vec(), scheduler, pool).await;
                    while let Some(first) = self.begin() {
                        executor.spawn(self.call_sources(first, scheduler, pool)).detach();
                    }
                }
                if jobs.is_empty() {
                    news.await;
                }
            }
        };
        executor.run(main).await
    }

    fn begin(&self) -> Option<(Source, Vec<Job>)> {
        self.lock().sources.begin()
    }

    /// Asks who has them.
    async fn place(&self, jobs: Vec<Job>, scheduler: &str, pool: &Pool) {
        let keys: Vec<&str> = jobs.iter().map(|job| &*job.key).collect();
        let answer = pool.call(scheduler, call::who_has(&keys), LONG_SILENCE).await;
        let who_has = answer
            .map_err(|error| error.to_string())
            .and_then(|value| call::who_has_reply(value).map_err(|error| error.to_string()));
        let who_has: HashMap<WireKey, Vec<String>> = match who_has {
            Ok(who_has) => who_has.into_iter().collect(),
            Err(error) => {
                log::debug!("asking where results are: {error}");
                jobs.iter()
                    .for_each(|job| self.lock().settle(&job.key, job.version, Found::Nowhere));
                return;
            }
        };
        let mut wishes = self.lock();
        for job in jobs {
            let holders = who_has.get(&WireKey::from(&*job.key)).map_or(&[][..], |found| found);
            wishes.place(job, holders);
        }
    }

    /// Calls a source, and then whichever has something.
    async fn call_sources(&self, first: (Source, Vec<Job>), scheduler: &str, pool: &Pool) {
        let mut next = Some(first);
        while let Some((source, jobs)) = next {
            self.call(&source, jobs, scheduler, pool).await;
            let mut wishes = self.lock();
            wishes.sources.end(&source);
            if !wishes.new.is_empty() {
                self.news.notify(1);
            }
            next = wishes.sources.begin();
        }
    }

    async fn call(&self, source: &Source, mut jobs: Vec<Job>, scheduler: &str, pool: &Pool) {
        loop {
            self.lock().retain_wanted(&mut jobs);
            if jobs.is_empty() {
                return;
            }
            let keys: Vec<&str> = jobs.iter().map(|job| &*job.key).collect();
            let answer = match source {
                Source::Worker(address) => get_data(pool, address, &keys).await,
                Source::Scheduler => {
                    let question = call::gather(&keys, &call::FORMS);
                    match pool.call(scheduler, question, LONG_SILENCE).await {
                        Ok(value) => call::data_reply(value).map_err(Trouble::Call),
                        Err(error) => Err(Trouble::Net(error)),
                    }
                }
            };
            match answer {
                Ok(Data::Here(values)) => return self.lock().here(source, jobs, values),
                Ok(Data::Busy) => _ = Timer::after(BUSY).await,
                Ok(Data::Missing(missing)) => {
                    // The others are there, and nothing was given of them.
                    let missing: HashSet<_> = missing.into_iter().collect();
                    let (gone, rest): (Vec<_>, Vec<_>) = jobs
                        .into_iter()
                        .partition(|job| missing.contains(&WireKey::from(&*job.key)));
                    if gone.is_empty() {
                        return self.lock().failed(source, rest, false);
                    }
                    self.lock().failed(source, gone, false);
                    jobs = rest;
                }
                Err(trouble) => {
                    log::debug!("fetching results: {trouble}");
                    let is_away = matches!(trouble, Trouble::Net(_));
                    return self.lock().failed(source, jobs, is_away);
                }
            }
        }
    }
}

enum Trouble {
    Net(NetError),
    Call(CallError),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Net(error) => error.fmt(f),
            Self::Call(error) => error.fmt(f),
        }
    }
}

async fn get_data(pool: &Pool, address: &str, keys: &[&str]) -> Result<Data, Trouble> {
    let question: Outgoing = call::get_data(keys, None, &call::FORMS);
    let (value, mut lease) =
        pool.call_and_keep(address, question, SILENCE).await.map_err(Trouble::Net)?;
    let data = call::data_reply(value).map_err(Trouble::Call)?;
    if let Data::Here(_) = data {
        // It's here; what becomes of the connection doesn't matter.
        if lease.send_within(call::delivered(), SILENCE).await.is_ok() {
            lease.done();
        }
    } else {
        lease.done();
    }
    Ok(data)
}

/// A value as an object, also where it came as part of a message.
fn object(value: Value) -> Result<Serialized, WireError> {
    Ok(match value {
        Value::Serialized(object) => *object,
        Value::Pickled(object) => Serialized::pickle(object.pickle()?),
        Value::Bin(bytes) => Serialized::bytes(bytes),
        value => {
            let mut packer = Packer::new();
            crate::dask::wire::pack::Pack::pack(&value, &mut packer);
            Serialized::msgpack(packer.into_msgpack().into())
        }
    })
}

/// A result to bring.
#[derive(Clone, Debug)]
struct Job {
    key: Arc<str>,
    version: u32,
    /// Who didn't give it.
    tried: Vec<Arc<str>>,
}

#[derive(Debug)]
struct Wish {
    version: u32,
    senders: Vec<Sender<Found>>,
}

/// Wishes, and how far they are.
#[derive(Debug, Default)]
struct Wishes {
    by_key: HashMap<Arc<str>, Wish>,
    /// Of these it isn't known yet who has them.
    new: Vec<Job>,
    sources: Sources,
    avoided: HashMap<Arc<str>, Instant>,
}

impl Wishes {
    /// Says whether there's something to do for it that wasn't yet.
    fn ask(&mut self, key: &Arc<str>, version: u32, sender: Sender<Found>) -> bool {
        let wish = self.by_key.entry(key.clone());
        let wish =
            wish.or_insert_with(|| Wish { version: version.wrapping_sub(1), senders: vec![] });
        wish.senders.retain(|sender| !sender.is_closed());
        wish.senders.push(sender);
        let is_new = wish.version != version;
        if is_new {
            wish.version = version;
            self.new.push(Job { key: key.clone(), version, tried: Vec::new() });
        }
        is_new
    }

    fn take(&mut self) -> Vec<Job> {
        let mut jobs = std::mem::take(&mut self.new);
        self.retain_wanted(&mut jobs);
        jobs
    }

    fn retain_wanted(&mut self, jobs: &mut Vec<Job>) {
        jobs.retain(|job| self.is_wanted(&job.key, job.version));
    }

    /// Whether anybody still waits for it. If not, it's forgotten.
    fn is_wanted(&mut self, key: &Arc<str>, version: u32) -> bool {
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
    fn settle(&mut self, key: &Arc<str>, version: u32, found: Found) {
        let is_here = matches!(found, Found::Here(_));
        if self.by_key.get(key).is_some_and(|wish| is_here || wish.version == version) {
            for sender in self.by_key.remove(key).into_iter().flat_map(|wish| wish.senders) {
                let _ = sender.try_send(found.clone());
            }
        }
    }

    /// Decides who is asked for it.
    fn place(&mut self, job: Job, holders: &[String]) {
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

    fn here(&mut self, source: &Source, jobs: Vec<Job>, values: Vec<(WireKey, Value)>) {
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
    fn failed(&mut self, source: &Source, jobs: Vec<Job>, is_away: bool) {
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
enum Source {
    Worker(Arc<str>),
    Scheduler,
}

/// What is to be asked of whom.
#[derive(Debug)]
struct Sources {
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
    fn begin(&mut self) -> Option<(Source, Vec<Job>)> {
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

    fn end(&mut self, source: &Source) {
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
