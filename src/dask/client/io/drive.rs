//! What the thread of a link does: it writes what is to be said, reads what is said, fetches results, and finds out
//! whether the scheduler is still there.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::future::{or, zip};

use crate::dask::client::io::dask_future::Failure;
use crate::dask::client::io::link::{Core, FAREWELL};
use crate::dask::client::state::batched_send::{Load, Op, Outbox};
use crate::dask::net::{Reader, Writer};
use crate::dask::wire::call::CallError;
use crate::dask::wire::client::Event;
use crate::dask::wire::serialized::Serialized;
use crate::dask::wire::{WireKey, call, unpack};
use crate::engine::base::lock::Lock;

/// How long to gather what is submitted next, after something was sent.
const GATHERING: Duration = Duration::from_millis(2);

/// How often values are given again that couldn't be given.
const ATTEMPTS: u32 = 4;
/// How much is given to workers in one call, unless one value alone is more.
const VALUES: (usize, u64) = (256, 8 << 20);

impl Core {
    /// What goes to the scheduler next.
    async fn next_load(&self) -> Load {
        loop {
            let filled = self.filled.listen();
            {
                let state = &mut *self.lock();
                if state.outbox.has_values() {
                    self.values.notify(1);
                }
                if let Some(load) = state.outbox.take() {
                    load.graphs().iter().for_each(|graph| state.sent.remember(graph));
                    return load;
                }
            }
            filled.await;
        }
    }

    /// Writes what is to be said. Gives the error that ends that.
    async fn write(&self, mut writer: Writer) -> String {
        loop {
            let load = self.next_load().await;
            let (message, is_full, is_last) =
                (load.message(&self.forms), load.is_full(), load.is_last());
            drop(load);
            if let Err(error) = writer.send_within(message, self.pace.silence).await {
                return error.to_string();
            }
            if is_last {
                Timer::after(FAREWELL).await;
                return "it doesn't take leave".to_owned();
            }
            if !is_full {
                Timer::after(GATHERING).await;
            }
        }
    }

    /// Reads what the scheduler says. Gives the error that ends that.
    async fn read(&self, mut reader: Reader, heard: &Lock<Instant>) -> String {
        loop {
            let frames = match reader.receive().await {
                Ok(Some(frames)) => frames,
                Ok(None) => return "it closed the connection".to_owned(),
                Err(error) => return error.to_string(),
            };
            *heard.lock() = Instant::now();
            let events = unpack::operations(&frames, Event::read);
            match events.map(|events| self.hear(events)) {
                Ok(true) => {}
                Ok(false) => return "it ended the connection".to_owned(),
                Err(error) => return error.to_string(),
            }
        }
    }

    /// Tells the scheduler that we are there, and finds out if it is. Gives the error that ends that.
    async fn beat(&self, heard: &Lock<Instant>) -> String {
        loop {
            Timer::after(self.pace.heartbeat).await;
            self.lock().outbox.push(Op::Heartbeat);
            self.filled.notify(1);
            self.pool.sweep();
            let since = *heard.lock();
            if since.elapsed() < self.pace.doubt {
                continue;
            }
            let echo = call::request("echo", &[("data", &1u64)]);
            if let Err(error) = self.pool.call(&self.address, echo, self.pace.silence).await {
                return error.to_string();
            }
            *heard.lock() = Instant::now();
        }
    }

    /// Gives values to workers, as soon as there are some.
    async fn give(&self) -> Infallible {
        loop {
            let more = self.values.listen();
            let values = self.lock().outbox.take_values(VALUES.0, VALUES.1);
            if values.is_empty() {
                more.await;
                continue;
            }
            // What is left is for the other one that gives.
            self.values.notify(1);
            let outcome = self.give_these(&values).await;
            let keys: Vec<_> = values.into_iter().map(|(key, _)| key).collect();
            match outcome {
                Ok(()) => self.lock().outbox.settle(&keys),
                Err(error) => self.give_up(&keys, &format!("no worker took it: {error}")),
            }
            self.filled.notify(1);
        }
    }

    async fn give_these(&self, values: &[(Arc<str>, Serialized)]) -> Result<(), String> {
        let values = values.iter().map(|(key, value)| (WireKey::from(&**key), value.clone()));
        let values: Vec<_> = values.collect();
        let ask = |question| async {
            let answer = self.pool.call(&self.address, question, self.pace.silence).await;
            Ok::<_, String>(call::reply(answer.map_err(|error| error.to_string())?))
        };
        let mut attempts = 0;
        loop {
            // Without any, the scheduler would wait for one for two seconds, and then fail.
            let workers = ask(call::request("ncores_running", &[])).await?;
            let workers = workers.map_err(|error| error.to_string())?;
            if workers.as_map().is_some_and(|workers| workers.0.is_empty()) {
                Timer::after(self.pace.again).await;
                continue;
            }
            match ask(call::scatter(&self.id, &values, None)).await? {
                Err(CallError::Failed(text)) if text.contains("No valid workers") => {}
                // Mostly a worker has gone that was to take some. The scheduler may believe that it has them, and
                // would keep that for ever, if they weren't given to another.
                Err(CallError::Failed(_)) if attempts < ATTEMPTS => {
                    attempts += 1;
                    Timer::after(self.pace.again).await;
                }
                answer => return answer.map(drop).map_err(|error| error.to_string()),
            }
        }
    }

    /// Has tasks run again.
    async fn repeat(&self) -> Infallible {
        loop {
            let retries = self.retries.listen();
            let keys = std::mem::take(&mut self.lock().retries);
            if keys.is_empty() {
                retries.await;
            } else if self.repeat_these(&keys).await.is_err() {
                // One that the scheduler has forgotten is an error for all.
                for key in &keys {
                    if let Err(error) = self.repeat_these(std::slice::from_ref(key)).await {
                        let why = format!("it can't run again: {error}");
                        self.give_up(std::slice::from_ref(key), &why);
                    }
                }
            }
        }
    }

    async fn repeat_these(&self, keys: &[Arc<str>]) -> Result<(), String> {
        let names: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let answer =
            self.pool.call(&self.address, call::retry(&self.id, &names), self.pace.silence).await;
        let answer = answer.map_err(|error| error.to_string())?;
        call::reply(answer).map_err(|error| error.to_string())?;
        let mut state = self.lock();
        state.outbox.settle(keys);
        for key in keys {
            if state.remotes.contains_key(key) {
                // It may have failed again before we knew that it had begun to run.
                state.outbox.push(Op::Report(key.clone()));
            }
        }
        drop(state);
        self.filled.notify(1);
        Ok(())
    }
}

/// Ends everything when the thread does, whatever the reason.
struct End {
    core: Arc<Core>,
    why: String,
}

impl Drop for End {
    fn drop(&mut self) {
        let Self { core, why } = self;
        let why = format!("the scheduler at {} is gone: {why}", core.address);
        core.end(&Failure::Lost(why.into()), |outbox| *outbox = Outbox::default());
        core.pool.close();
        core.is_over.store(true, Ordering::SeqCst);
        core.over.notify(usize::MAX);
    }
}

/// What the thread does.
pub(crate) async fn run(core: Arc<Core>, writer: Writer, reader: Reader) {
    let mut end = End { core: core.clone(), why: "the connection was dropped".to_owned() };
    let heard = Lock::new(Instant::now());
    let fetch = async { match core.fetches.drive(&core.address, &core.pool).await {} };
    let repeat = async { match core.repeat().await {} };
    let pin = async { match core.keep_pinned().await {} };
    let talk = or(core.write(writer), or(core.read(reader, &heard), core.beat(&heard)));
    // A large value doesn't keep all others waiting.
    let give = async { match zip(core.give(), core.give()).await.0 {} };
    end.why = or(talk, or(fetch, or(repeat, or(give, pin)))).await;
}
