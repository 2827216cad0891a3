//! Polls the scheduler for its workers, and restricts Python tasks to the Python workers; see
//! [`pins`](crate::dask::client::state::pins).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use async_io::Timer;

use super::identity::python_workers;
use super::shared::Shared;
use crate::dask::wire::call::{self, CallError};
use crate::dask::wire::frame::Outgoing;
use crate::dask::wire::value::Value;

/// The number of tasks that the scheduler is asked to restrict in one call.
const TASKS: usize = 1_000;

impl Shared {
    /// Polls the workers while a Python task is open, and keeps those tasks pinned.
    pub(crate) async fn keep_pinned(&self) -> Infallible {
        loop {
            let to_pin = self.to_pin.listen();
            let next_poll = {
                let pins = &self.lock().pins;
                pins.is_needed().then(|| pins.next_poll(Instant::now()))
            };
            let Some(next_poll) = next_poll else {
                to_pin.await;
                continue;
            };
            Timer::at(next_poll).await;
            // Tasks may have ended in the meantime.
            if self.lock().refresh_pins() {
                self.poll_workers().await;
                self.restrict_stale().await;
                self.warn();
            }
        }
    }

    async fn poll_workers(&self) {
        let identity = self.call(call::identity(), call::map_reply).await;
        let now = Instant::now();
        match identity {
            Ok(identity) => {
                let can_send = self.lock().polled_workers(python_workers(&identity), now);
                if can_send {
                    self.to_send.notify(1);
                }
            }
            Err(error) => {
                log::debug!("{}: can't poll the workers: {error}", self.address);
                self.lock().pins.poll_failed(now);
            }
        }
    }

    /// Restricts the tasks that name an older set of workers to the current one.
    async fn restrict_stale(&self) {
        let (tasks, version, workers) = {
            let pins = &self.lock().pins;
            let (tasks, version) = pins.stale();
            (tasks, version, pins.workers().clone())
        };
        // In parts, since the scheduler does nothing else while it handles one.
        for tasks in tasks.chunks(TASKS) {
            // If the scheduler has forgotten one of them in the meantime, all stay stale until the next poll.
            if let Err(error) = self.restrict(tasks, version, &workers).await {
                log::debug!("{}: can't restrict tasks to new workers: {error}", self.address);
            }
        }
        if !tasks.is_empty() {
            self.lock().pins.count_unneeded();
        }
    }

    async fn restrict(
        &self,
        tasks: &[Arc<str>],
        version: u64,
        workers: &[Arc<str>],
    ) -> Result<(), String> {
        let (known, unknown): (Vec<_>, Vec<_>) =
            // One unknown task would fail the call for all.
            self.task_states(tasks).await?.into_iter().partition(|(_, state)| state.is_some());
        {
            let mut state = self.lock();
            unknown.iter().for_each(|(key, _)| state.pins.unknown(key));
        }
        if known.is_empty() {
            return Ok(());
        }
        let known: Vec<_> = known.into_iter().map(|(key, _)| key).collect();
        self.call(call::restrict(&known, workers), nothing).await?;
        // The scheduler reconsiders tasks in its state `no-worker` only when a worker joins, or when they are retried.
        let states = self.task_states(&known).await?.into_iter();
        let unassigned: Vec<_> = states
            .filter(|(_, state)| state.as_deref() == Some("no-worker"))
            .map(|(key, _)| key)
            .collect();
        // A retry makes it choose among the new workers.
        if !unassigned.is_empty() {
            self.call(call::retry(&self.id, &unassigned), call::reply).await?;
        }
        let mut state = self.lock();
        known.iter().for_each(|key| state.pins.restricted(key, version));
        Ok(())
    }

    /// Asks for the scheduler's states of these tasks. A task that it doesn't know has none.
    async fn task_states(
        &self,
        tasks: &[Arc<str>],
    ) -> Result<Vec<(Arc<str>, Option<String>)>, String> {
        let states = self.call(call::states(tasks), call::states_reply).await?.into_iter();
        Ok(states.filter_map(|(key, state)| Some((key.as_str()?.into(), state))).collect())
    }

    /// Calls the scheduler.
    async fn call<T>(
        &self,
        message: Outgoing,
        read: impl FnOnce(Value) -> Result<T, CallError>,
    ) -> Result<T, String> {
        let answer = self.pool.call(&self.address, message, self.pace.silence).await;
        read(answer.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
    }

    /// Logs once that tasks wait for a Python worker.
    fn warn(&self) {
        if self.lock().pins.take_warning(Instant::now()) {
            let address = &self.address;
            log::warn!(
                "Python tasks wait, since the cluster at {address} has no Python worker: start one with `dask worker \
                 {address}`"
            );
        }
    }
}

/// Reads a reply without a value, unless the call failed.
fn nothing(reply: Value) -> Result<(), CallError> {
    match call::reply(reply) {
        Ok(_) | Err(CallError::Nothing) => Ok(()),
        Err(error) => Err(error),
    }
}
