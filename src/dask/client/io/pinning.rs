//! Keeps tasks in Python on the workers that can run them; see [`pins`](super::pins).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use async_io::Timer;

use crate::dask::client::api::client::is_ours;
use crate::dask::client::io::link::Core;
use crate::dask::wire::call::{self, CallError};
use crate::dask::wire::frame::Outgoing;
use crate::dask::wire::value::{Map, Value};

/// How many tasks the scheduler is told of at once.
const TASKS: usize = 1_000;

impl Core {
    /// Asks who is there while that matters, and tells the scheduler.
    pub(crate) async fn keep_pinned(&self) -> Infallible {
        loop {
            let needed = self.lock().pins.until_needed();
            if let Some(needed) = needed {
                needed.await;
                continue;
            }
            let due = self.lock().pins.due(Instant::now());
            Timer::at(due).await;
            if self.is_pinning() {
                self.ask_who_is_there().await;
                self.pin_again().await;
                self.warn();
            }
        }
    }

    /// Whether it matters who is there.
    fn is_pinning(&self) -> bool {
        // Dropped when the lock isn't held any more, which dropping takes.
        let mut kept = Vec::new();
        let mut state = self.lock();
        let state = &mut *state;
        if !state.pins.waiting().is_empty() {
            state.outbox.forget_unneeded(state.pins.waiting());
        }
        state.pins.check(&mut kept)
    }

    async fn ask_who_is_there(&self) {
        let workers = self.call(call::identity(), call::map_reply).await;
        let now = Instant::now();
        let mut state = self.lock();
        let state = &mut *state;
        match workers {
            Ok(identity) => {
                let (tasks, is_new) = state.pins.hear(python_workers(&identity), now);
                if is_new {
                    state.outbox.pin_to(state.pins.workers().clone());
                }
                if !tasks.is_empty() {
                    state.outbox.settle(&tasks);
                    self.filled.notify(1);
                }
            }
            Err(error) => {
                log::debug!("{}: doesn't say who its workers are: {error}", self.address);
                state.pins.hear_nothing(now);
            }
        }
    }

    /// Tells the scheduler of workers that have come or gone.
    async fn pin_again(&self) {
        let (tasks, version, workers) = {
            let pins = &self.lock().pins;
            let (tasks, version) = pins.stale();
            (tasks, version, pins.workers().clone())
        };
        for tasks in tasks.chunks(TASKS) {
            // If one of them isn't known any more, it's left for the next time.
            if let Err(error) = self.pin_these(tasks, version, &workers).await {
                log::debug!("{}: doesn't take other workers for tasks: {error}", self.address);
            }
        }
        if !tasks.is_empty() {
            self.lock().pins.count();
        }
    }

    async fn pin_these(
        &self,
        tasks: &[Arc<str>],
        version: u64,
        workers: &[Arc<str>],
    ) -> Result<(), String> {
        let (known, unknown): (Vec<_>, Vec<_>) =
            self.states(tasks).await?.into_iter().partition(|(_, state)| state.is_some());
        {
            let mut state = self.lock();
            unknown.iter().for_each(|(key, _)| state.pins.settle(key, None));
        }
        if known.is_empty() {
            return Ok(());
        }
        let known: Vec<_> = known.into_iter().map(|(key, _)| key).collect();
        self.call(call::restrict(&known, workers), nothing).await?;
        // The scheduler looks again at those that have waited for a worker only when one joins, or if they're to run
        // again.
        let states = self.states(&known).await?.into_iter();
        let idle: Vec<_> = states
            .filter(|(_, state)| state.as_deref() == Some("no-worker"))
            .map(|(key, _)| key)
            .collect();
        if !idle.is_empty() {
            self.call(call::retry(&self.id, &idle), call::reply).await?;
        }
        let mut state = self.lock();
        known.iter().for_each(|key| state.pins.settle(key, Some(version)));
        Ok(())
    }

    /// In what states the scheduler has these tasks.
    async fn states(&self, tasks: &[Arc<str>]) -> Result<Vec<(Arc<str>, Option<String>)>, String> {
        let states = self.call(call::states(tasks), call::states_reply).await?.into_iter();
        Ok(states.filter_map(|(key, state)| Some((key.as_str()?.into(), state))).collect())
    }

    /// A call of the scheduler.
    async fn call<T>(
        &self,
        message: Outgoing,
        read: impl FnOnce(Value) -> Result<T, CallError>,
    ) -> Result<T, String> {
        let answer = self.pool.call(&self.address, message, self.pace.silence).await;
        read(answer.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
    }

    /// Says once that tasks wait for somebody to run them.
    fn warn(&self) {
        if self.lock().pins.warns(Instant::now()) {
            let address = &self.address;
            log::warn!(
                "tasks in Python wait, since the cluster at {address} has no worker in Python: start one with `dask \
                 worker {address}`"
            );
        }
    }
}

/// A reply that is nothing, unless the call failed.
fn nothing(reply: Value) -> Result<(), CallError> {
    match call::reply(reply) {
        Ok(_) | Err(CallError::Nothing) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Those in an identity that aren't ours, and will take tasks.
fn python_workers(identity: &Map) -> Vec<Arc<str>> {
    let workers = identity.get("workers").and_then(Value::as_map);
    let workers = workers.into_iter().flat_map(Map::named);
    let takes_tasks = |worker: &Map| {
        !matches!(worker.text("status"), Some("closing_gracefully" | "closing" | "closed"))
    };
    let fits = |worker: &Map| !is_ours(worker) && takes_tasks(worker);
    let fitting = workers.filter(|(_, worker)| worker.as_map().is_some_and(fits));
    let mut addresses: Vec<Arc<str>> = fitting.map(|(address, _)| address.into()).collect();
    addresses.sort_unstable();
    addresses
}
