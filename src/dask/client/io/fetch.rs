//! Fetches results from the workers that have them.
//!
//! Results that are wanted at the same time are fetched together: the scheduler says which workers have them, and then
//! each worker is asked for several in one call. A result that a worker doesn't give is asked of other holders, and
//! last of the scheduler, which can reach workers that this client may not.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use async_channel::Receiver;
use async_executor::Executor;
use async_io::Timer;
use event_listener::Event as Notify;

use crate::dask::client::state::future_state::ResultVersion;
use crate::dask::client::state::pending_fetches::{FetchJob, FetchOutcome, PendingFetches, Source};
use crate::dask::net::{NetError, Pool};
use crate::dask::wire::WireKey;
use crate::dask::wire::call::{self, CallError, Data};
use crate::engine::base::lock::Lock;

/// The number of keys in one `who_has` question to the scheduler.
const WHO_HAS: usize = 4096;
/// The limits of silence of a worker, and of the scheduler, which may have to gather from a worker first.
const SILENCE: Duration = Duration::from_secs(10);
const SCHEDULER_SILENCE: Duration = Duration::from_secs(60);
/// The pause before a busy worker is asked again.
const BUSY: Duration = Duration::from_millis(150);

/// The pending fetches, and the event that wakes the future that drives them.
#[derive(Debug, Default)]
pub(crate) struct Fetcher {
    pending: Lock<PendingFetches>,
    has_new: Notify,
}

impl Fetcher {
    /// Starts to fetch a result of this version. The receiver gets the outcome; dropping it cancels the fetch, unless
    /// another waiter has the same.
    pub(crate) fn fetch(&self, key: &Arc<str>, version: ResultVersion) -> Receiver<FetchOutcome> {
        let (sender, receiver) = async_channel::bounded(1);
        if self.lock().add(key, version, sender) {
            self.has_new.notify(1);
        }
        receiver
    }

    fn lock(&self) -> MutexGuard<'_, PendingFetches> {
        self.pending.lock()
    }

    /// Drives all fetches, on the client's thread.
    pub(crate) async fn drive(&self, scheduler: &str, pool: &Pool) -> Infallible {
        // Its tasks borrow from this future, and are dropped with it.
        let executor = Executor::new();
        let main = async {
            loop {
                let has_new = self.has_new.listen();
                let jobs = self.lock().take_new();
                for jobs in jobs.chunks(WHO_HAS) {
                    self.assign(jobs.to_vec(), scheduler, pool).await;
                    // Each call goes on with the next jobs when it has ended, so this starts only as many as are free.
                    while let Some(first) = self.begin() {
                        executor.spawn(self.call_sources(first, scheduler, pool)).detach();
                    }
                }
                if jobs.is_empty() {
                    has_new.await;
                }
            }
        };
        executor.run(main).await
    }

    fn begin(&self) -> Option<(Source, Vec<FetchJob>)> {
        self.lock().sources.begin()
    }

    /// Asks the scheduler which workers have the results, and assigns the jobs to these.
    async fn assign(&self, jobs: Vec<FetchJob>, scheduler: &str, pool: &Pool) {
        let keys: Vec<&str> = jobs.iter().map(|job| &*job.key).collect();
        let answer = pool.call(scheduler, call::who_has(&keys), SCHEDULER_SILENCE).await;
        let who_has = answer
            .map_err(FetchError::Net)
            .and_then(|value| call::who_has_reply(value).map_err(FetchError::Call));
        let mut pending = self.lock();
        let who_has: HashMap<WireKey, Vec<String>> = match who_has {
            Ok(who_has) => who_has.into_iter().collect(),
            Err(error) => {
                log::debug!("{scheduler}: can't ask for the holders of results: {error}");
                // The futures ask again after a pause; an end of the connection fails them.
                for job in &jobs {
                    pending.settle(&job.key, job.version, FetchOutcome::Unavailable);
                }
                return;
            }
        };
        let now = Instant::now();
        for job in jobs {
            let holders = who_has.get(&WireKey::from(&*job.key)).map_or(&[][..], |found| found);
            pending.assign(job, holders, now);
        }
    }

    /// Calls this source, and then others as long as jobs are assigned.
    async fn call_sources(&self, first: (Source, Vec<FetchJob>), scheduler: &str, pool: &Pool) {
        let mut next = Some(first);
        while let Some((source, jobs)) = next {
            self.call(&source, jobs, scheduler, pool).await;
            let mut pending = self.lock();
            pending.sources.end(&source);
            // Jobs that this source didn't serve need new holders.
            if pending.has_new() {
                self.has_new.notify(1);
            }
            next = pending.sources.begin();
        }
    }

    async fn call(&self, source: &Source, mut jobs: Vec<FetchJob>, scheduler: &str, pool: &Pool) {
        loop {
            // Waiters may be dropped while a job waits for its call, or while the worker is busy.
            self.lock().retain_wanted(&mut jobs);
            if jobs.is_empty() {
                return;
            }
            let keys: Vec<&str> = jobs.iter().map(|job| &*job.key).collect();
            let answer = match source {
                Source::Worker(address) => get_data(pool, address, &keys).await,
                Source::Scheduler => gather(pool, scheduler, &keys).await,
            };
            match answer {
                Ok(Data::Here(values)) => return self.lock().arrived(source, jobs, values),
                Ok(Data::Busy) => _ = Timer::after(BUSY).await,
                Ok(Data::Missing(missing)) => {
                    // The source has the others, but sent none of them.
                    let missing: HashSet<_> = missing.into_iter().collect();
                    let (missing, rest): (Vec<_>, Vec<_>) = jobs
                        .into_iter()
                        .partition(|job| missing.contains(&WireKey::from(&*job.key)));
                    if missing.is_empty() {
                        // Asking again would get the same answer.
                        return self.lock().failed(source, rest);
                    }
                    self.lock().failed(source, missing);
                    jobs = rest;
                }
                Err(error) => {
                    log::debug!("can't fetch results from {source:?}: {error}");
                    let mut pending = self.lock();
                    return match error {
                        FetchError::Net(_) => pending.unreachable(source, jobs, Instant::now()),
                        FetchError::Call(_) => pending.failed(source, jobs),
                    };
                }
            }
        }
    }
}

/// The error of a call for results.
enum FetchError {
    /// The other side can't be reached.
    Net(NetError),
    /// It can, but the call failed.
    Call(CallError),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(error) => error.fmt(f),
            Self::Call(error) => error.fmt(f),
        }
    }
}

/// Asks a worker for results.
async fn get_data(pool: &Pool, address: &str, keys: &[&str]) -> Result<Data, FetchError> {
    let question = call::get_data(keys, None, &call::FORMS);
    let (value, mut lease) =
        pool.call_and_keep(address, question, SILENCE).await.map_err(FetchError::Net)?;
    let data = call::data_reply(value).map_err(FetchError::Call)?;
    if let Data::Here(_) = data {
        // The data has arrived, so a failure from now on only costs the connection.
        if lease.send_within(call::delivered(), SILENCE).await.is_ok() {
            lease.done();
        }
    } else {
        // A worker that is busy or failed expects no confirmation.
        lease.done();
    }
    Ok(data)
}

/// Asks the scheduler to gather results from their workers.
async fn gather(pool: &Pool, scheduler: &str, keys: &[&str]) -> Result<Data, FetchError> {
    let question = call::gather(keys, &call::FORMS);
    let value = pool.call(scheduler, question, SCHEDULER_SILENCE).await.map_err(FetchError::Net)?;
    call::data_reply(value).map_err(FetchError::Call)
}
