//! Bringing results here.
//!
//! What is wanted at the same time is asked for together: where it is, of the scheduler, and then each worker for
//! what it has. What a worker doesn't give is asked of others that have it, and last of the scheduler, which can
//! reach workers that we may not.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use async_channel::Receiver;
use async_executor::Executor;
use async_io::Timer;
use event_listener::Event;

use crate::dask::client::state::future_state::Version;
use crate::dask::client::state::pending_fetches::{Found, Job, Source, Wishes};
use crate::dask::net::{NetError, Pool};
use crate::dask::wire::WireKey;
use crate::dask::wire::call::{self, CallError, Data};
use crate::engine::base::lock::Lock;

/// How many keys the scheduler is asked for at once.
const QUESTION: usize = 4096;
/// For so long no byte may come from a worker, or from the scheduler, which may get it from a worker first.
const SILENCE: Duration = Duration::from_secs(10);
const LONG_SILENCE: Duration = Duration::from_secs(60);
/// When to ask a worker again that has too much to do.
const BUSY: Duration = Duration::from_millis(150);
/// What is wanted here, and what is done for it.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    wishes: Lock<Wishes>,
    news: Event,
}

impl Fetches {
    /// The answer comes when the result is here, or can't be had. `version` tells wishes apart that were made when
    /// the result was in different places.
    pub(crate) fn ask(&self, key: &Arc<str>, version: Version) -> Receiver<Found> {
        let (sender, receiver) = async_channel::bounded(1);
        if self.lock().ask(key, version, sender) {
            self.news.notify(1);
        }
        receiver
    }

    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock()
    }

    /// Does what is asked.
    pub(crate) async fn drive(&self, scheduler: &str, pool: &Pool) -> Infallible {
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
            if wishes.has_new() {
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

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(error) => error.fmt(f),
            Self::Call(error) => error.fmt(f),
        }
    }
}

async fn get_data(pool: &Pool, address: &str, keys: &[&str]) -> Result<Data, Trouble> {
    let question = call::get_data(keys, None, &call::FORMS);
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
