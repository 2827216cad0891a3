//! The futures that run on a client's thread: they write, read, send heartbeats, scatter values and ask for retries.
//!
//! The connection ends with the first of them that returns; each returns the reason.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::future::{or, zip};

use super::shared::{FAREWELL, Shared};
use crate::dask::client::state::batched_send::{BatchedMessage, Op};
use crate::dask::client::state::future_state::FutureError;
use crate::dask::net::{Reader, Writer};
use crate::dask::wire::call::CallError;
use crate::dask::wire::client::SchedulerEvent;
use crate::dask::wire::serialized::Serialized;
use crate::dask::wire::{WireKey, call, unpack};
use crate::engine::base::lock::Lock;

/// The pause after a message, so that the next operations are sent together.
const GATHERING: Duration = Duration::from_millis(2);

/// The number of times that values are scattered again before their futures fail.
const ATTEMPTS: u32 = 4;
/// The limits of one scatter: the number of values, and their bytes unless one alone has more.
const VALUES: (usize, u64) = (256, 8 << 20);

impl Shared {
    /// Waits for operations, and returns the next message.
    async fn next_message(&self) -> BatchedMessage {
        loop {
            // Registered before the state is looked at, so that no notification is missed.
            let to_send = self.to_send.listen();
            {
                let mut state = self.lock();
                // Unblocked operations may include scatters.
                if state.batched.has_scatters() {
                    self.to_scatter.notify(1);
                }
                if let Some(message) = state.next_message() {
                    return message;
                }
            }
            to_send.await;
        }
    }

    /// Writes messages to the scheduler. Returns why it stopped.
    async fn write(&self, mut writer: Writer) -> String {
        loop {
            let message = self.next_message().await;
            let (encoded, is_full, is_last) =
                (message.encode(&self.forms), message.is_full(), message.is_last());
            // It may be large, and sending may take long.
            drop(message);
            if let Err(error) = writer.send_within(encoded, self.pace.silence).await {
                return error.to_string();
            }
            if is_last {
                // The scheduler closes the connection, which ends the reader first.
                Timer::after(FAREWELL).await;
                return "it didn't close the connection of a client that left".to_owned();
            }
            if !is_full {
                Timer::after(GATHERING).await;
            }
        }
    }

    /// Handles messages of the scheduler until the stream closes or one is malformed. Returns why it stopped.
    async fn read(&self, mut reader: Reader, last_heard: &Lock<Instant>) -> String {
        loop {
            let frames = match reader.receive().await {
                Ok(Some(frames)) => frames,
                Ok(None) => return "it closed the connection".to_owned(),
                Err(error) => return error.to_string(),
            };
            *last_heard.lock() = Instant::now();
            let events = unpack::operations(&frames, SchedulerEvent::read);
            match events.map(|events| self.handle(events)) {
                Ok(true) => {}
                Ok(false) => return "it ended the connection".to_owned(),
                Err(error) => return error.to_string(),
            }
        }
    }

    /// Sends heartbeats, and asks for an echo after a long silence. Returns the error of that.
    async fn beat(&self, last_heard: &Lock<Instant>) -> String {
        loop {
            Timer::after(self.pace.heartbeat).await;
            self.send(Op::Heartbeat);
            // Closes connections that weren't used for long.
            self.pool.sweep();
            let last = *last_heard.lock();
            // Any message proves that the scheduler lives.
            if last.elapsed() < self.pace.doubt {
                continue;
            }
            let echo = call::request("echo", &[("data", &1u64)]);
            if let Err(error) = self.pool.call(&self.address, echo, self.pace.silence).await {
                return error.to_string();
            }
            *last_heard.lock() = Instant::now();
        }
    }

    /// Scatters values as they are submitted.
    async fn scatter_values(&self) -> Infallible {
        loop {
            let to_scatter = self.to_scatter.listen();
            let values = self.lock().batched.take_scatters(VALUES.0, VALUES.1);
            if values.is_empty() {
                to_scatter.await;
                continue;
            }
            // The rest is for the other future that scatters.
            self.to_scatter.notify(1);
            let outcome = self.scatter_these(&values).await;
            let keys: Vec<_> = values.into_iter().map(|(key, _)| key).collect();
            match outcome {
                Ok(()) => {
                    self.lock().batched.unblock(&keys);
                    self.to_send.notify(1);
                }
                Err(error) => self.call_failed(&keys, &format!("no worker took it: {error}")),
            }
        }
    }

    async fn scatter_these(&self, values: &[(Arc<str>, Serialized)]) -> Result<(), String> {
        let values = values.iter().map(|(key, value)| (WireKey::from(&**key), value.clone()));
        let values: Vec<_> = values.collect();
        let ask = |question| async {
            let answer = self.pool.call(&self.address, question, self.pace.silence).await;
            Ok::<_, String>(call::reply(answer.map_err(|error| error.to_string())?))
        };
        let mut attempts = 0;
        loop {
            // Without workers the scheduler would wait for one for two seconds, and then fail.
            let workers = ask(call::request("ncores_running", &[])).await?;
            let workers = workers.map_err(|error| error.to_string())?;
            if workers.as_map().is_some_and(|workers| workers.0.is_empty()) {
                Timer::after(self.pace.again).await;
                continue;
            }
            match ask(call::scatter(&self.id, &values, None)).await? {
                Err(CallError::Failed(text)) if text.contains("No valid workers") => {}
                // Mostly a worker has left that was to take some of them. The scheduler may believe that it has them,
                // and would do so for ever if they weren't given to another one.
                Err(CallError::Failed(_)) if attempts < ATTEMPTS => {
                    attempts += 1;
                    Timer::after(self.pace.again).await;
                }
                answer => return answer.map(drop).map_err(|error| error.to_string()),
            }
        }
    }

    /// Asks the scheduler to run failed tasks again, as they are retried.
    async fn retry_tasks(&self) -> Infallible {
        loop {
            let to_retry = self.to_retry.listen();
            let keys = self.lock().take_retries();
            if keys.is_empty() {
                to_retry.await;
            } else if self.retry_these(&keys).await.is_err() {
                // One key that the scheduler has forgotten fails the call for all.
                for key in &keys {
                    let key = std::slice::from_ref(key);
                    if let Err(error) = self.retry_these(key).await {
                        self.call_failed(key, &format!("it can't run again: {error}"));
                    }
                }
            }
        }
    }

    async fn retry_these(&self, keys: &[Arc<str>]) -> Result<(), String> {
        let names: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let answer =
            self.pool.call(&self.address, call::retry(&self.id, &names), self.pace.silence).await;
        let answer = answer.map_err(|error| error.to_string())?;
        call::reply(answer).map_err(|error| error.to_string())?;
        self.lock().retries_accepted(keys);
        self.to_send.notify(1);
        Ok(())
    }
}

/// Fails all futures when the thread stops driving the connection, whether it returned or was dropped.
struct End {
    shared: Arc<Shared>,
    why: String,
}

impl Drop for End {
    fn drop(&mut self) {
        let Self { shared, why } = self;
        let why = format!("the connection to the scheduler at {} was lost: {why}", shared.address);
        shared.end(&FutureError::Lost(why.into()));
        // Futures that still exist would keep its idle connections open.
        shared.pool.close();
        shared.has_ended.store(true, Ordering::SeqCst);
        shared.ended.wake_all();
    }
}

/// Drives the connection until it ends.
pub(crate) async fn run(shared: Arc<Shared>, writer: Writer, reader: Reader) {
    // A guard, since the future may also be dropped or panic: waiters must not wait for ever.
    let mut end = End { shared: shared.clone(), why: "the connection was dropped".to_owned() };
    let last_heard = Lock::new(Instant::now());
    let fetch = async { match shared.fetcher.drive(&shared.address, &shared.pool).await {} };
    let retry = async { match shared.retry_tasks().await {} };
    let pin = async { match shared.keep_pinned().await {} };
    let beat = shared.beat(&last_heard);
    let talk = or(shared.write(writer), or(shared.read(reader, &last_heard), beat));
    // Two, so that a large value doesn't delay all others.
    let scatter = async { match zip(shared.scatter_values(), shared.scatter_values()).await.0 {} };
    end.why = or(talk, or(fetch, or(retry, or(scatter, pin)))).await;
}
