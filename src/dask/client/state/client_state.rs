//! The futures of a client, and what it decides about them.
//!
//! All methods are synchronous and only change the state. The caller holds the lock, wakes the driver, and applies the
//! returned updates after it has released the lock: that notifies waiters, whose wakers may use the client.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::batched_send::{BatchedMessage, BatchedSend, Op};
use super::future_state::{FutureError, FutureState};
use super::pins::Pins;
use super::sent_tasks::SentTasks;
use super::task_spec::TaskSpec;
use crate::dask::wire::client::SchedulerEvent;
use crate::dask::wire::serialized::Serialized;
use crate::dask::wire::value::Value;
use crate::dask::wire::{WireKey, failure};

/// The reason with which the scheduler refuses the tasks of a graph.
const REFUSED: &str = "lost dependencies";

/// The state of a client.
#[derive(Debug, Default)]
pub(crate) struct ClientState {
    /// The futures that the client holds.
    futures: HashMap<Arc<str>, Weak<FutureState>>,
    /// The keys among them that the scheduler has forgotten. It would refuse a whole graph that takes one of these, so
    /// no dependent of them is sent.
    lost_keys: HashSet<Arc<str>>,
    pub(crate) batched: BatchedSend,
    sent: SentTasks,
    pub(crate) pins: Pins,
    /// The keys of failed tasks that the scheduler has to be asked to run again.
    retries: Vec<Arc<str>>,
    /// The error of all futures, once the client has ended.
    ended: Option<FutureError>,
}

/// A future, and the change of it that the scheduler reported.
pub(crate) type Update = (Arc<FutureState>, Change);

/// A reported change of a future.
#[derive(Debug)]
pub(crate) enum Change {
    InMemory {
        is_partial: bool,
    },
    Erred(Value),
    Lost,
    Retried,
    /// It has failed for good.
    Failed(FutureError),
}

impl Change {
    /// Applies the change, and notifies the waiters. Returns whether the task runs again.
    pub(crate) fn apply(self, future: &FutureState) -> bool {
        let runs_again = matches!(self, Self::Lost | Self::Retried);
        match self {
            Self::InMemory { is_partial } => future.in_memory(is_partial),
            Self::Erred(exception) => future.erred(failure::exception(&exception)),
            Self::Lost => future.lost(),
            Self::Retried => future.retried(),
            Self::Failed(error) => drop(future.fail(&error)),
        }
        runs_again
    }
}

/// The consequences of a message of the scheduler.
#[derive(Debug)]
pub(crate) struct Handled {
    pub(crate) updates: Vec<Update>,
    /// Whether the scheduler keeps the connection.
    pub(crate) is_open: bool,
    /// Whether refused tasks are to be sent again.
    pub(crate) sends_again: bool,
}

impl ClientState {
    /// Creates a future of this key, which takes the place of an earlier one. If the client has ended, it's a failed
    /// one, and `begin` isn't called.
    fn add_future(
        &mut self,
        key: &Arc<str>,
        begin: impl FnOnce(&mut Self, &Arc<FutureState>),
    ) -> Arc<FutureState> {
        if let Some(error) = &self.ended {
            return Arc::new(FutureState::failed(key.clone(), error.clone()));
        }
        let future = Arc::new(FutureState::pending(key.clone()));
        if self.futures.insert(key.clone(), Arc::downgrade(&future)).is_some() {
            // The earlier one has failed or was cancelled, and isn't dropped yet. Its own release will find that it no
            // longer has the key.
            self.push_release(key);
        }
        // The new task may be sent, and its dependents with it.
        self.lost_keys.remove(key);
        begin(self, &future);
        future
    }

    /// Submits a task.
    pub(crate) fn submit(&mut self, spec: TaskSpec, now: Instant) -> Arc<FutureState> {
        let key = spec.key.clone();
        self.add_future(&key, |state, future| {
            let inputs = spec.inputs();
            if let Some(input) = inputs.iter().find(|input| state.lost_keys.contains(**input)) {
                let why = format!("its input `{input}` is lost: submit that again first");
                // Its own dependents must not be sent either.
                state.lost_keys.insert(spec.key.clone());
                future.fail(&FutureError::Lost(why.into()));
            } else {
                state.pins.add_dependent_of(&inputs);
                // Blocked until the next answer of a poll, together with its dependents.
                if spec.is_for_any_python_worker() && !state.pins.submit(future, now) {
                    state.batched.block(&spec.key);
                }
                state.batched.push(Op::Submit(spec));
            }
        })
    }

    /// Gives a value to the cluster, under this key.
    pub(crate) fn scatter(&mut self, key: &Arc<str>, value: Serialized) -> Arc<FutureState> {
        self.add_future(key, |state, _| state.batched.push(Op::Scatter(key.clone(), value)))
    }

    /// Releases the key of a future, if no later future has it. Returns whether it did.
    pub(crate) fn release(&mut self, future: &Arc<FutureState>) -> bool {
        let has_key = self.has_key(future);
        if has_key {
            self.futures.remove(future.key());
            self.lost_keys.remove(future.key());
            self.push_release(future.key());
        }
        has_key
    }

    fn push_release(&mut self, key: &Arc<str>) {
        // A refused task must not be sent again after its release.
        self.sent.forget(key);
        self.batched.push(Op::Release(key.clone()));
    }

    /// Returns whether no later future has the key: messages of the scheduler would be about that one.
    fn has_key(&self, future: &Arc<FutureState>) -> bool {
        let held = self.futures.get(future.key());
        held.is_some_and(|held| std::ptr::eq(held.as_ptr(), Arc::as_ptr(future)))
    }

    /// Asks the scheduler for the state of a key. Returns whether there is something to send.
    pub(crate) fn report_key(&mut self, key: &Arc<str>) -> bool {
        let is_open = self.ended.is_none();
        if is_open {
            self.batched.push(Op::ReportKey(key.clone()));
        }
        is_open
    }

    /// Makes a failed task pending again. Returns whether the scheduler has to be asked to run it.
    pub(crate) fn retry(&mut self, future: &Arc<FutureState>) -> bool {
        let retries = self.ended.is_none() && self.has_key(future) && future.retry();
        if retries {
            // Until it runs again, the scheduler fails its new dependents at once.
            self.batched.block(future.key());
            self.retries.push(future.key().clone());
            self.pins.watch(future);
        }
        retries
    }

    /// Takes the keys of the tasks that the scheduler has to be asked to run again.
    pub(crate) fn take_retries(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.retries)
    }

    /// Records that the scheduler has accepted the retries of these keys.
    pub(crate) fn retries_accepted(&mut self, keys: &[Arc<str>]) {
        self.batched.unblock(keys);
        for key in keys {
            if self.futures.contains_key(key) {
                // The task may have failed again before the client heard that it runs. That error was ignored.
                self.batched.push(Op::ReportKey(key.clone()));
            }
        }
    }

    /// Takes the next message to send, if there is one.
    pub(crate) fn next_message(&mut self) -> Option<BatchedMessage> {
        let message = self.batched.next_message()?;
        message.graphs().iter().for_each(|graph| self.sent.remember(graph));
        Some(message)
    }

    /// Returns whether the client has to poll the workers, after it has dropped waiting tasks that aren't needed.
    pub(crate) fn refresh_pins(&mut self) -> bool {
        if !self.pins.waiting().is_empty() {
            self.batched.drop_unneeded(self.pins.waiting());
        }
        self.pins.refresh_need()
    }

    /// Handles an answer with the connected Python workers. Returns whether waiting tasks can be sent.
    pub(crate) fn polled_workers(&mut self, workers: Vec<Arc<str>>, now: Instant) -> bool {
        let (tasks, has_changed) = self.pins.polled(workers, now);
        if has_changed {
            self.batched.set_python_workers(self.pins.workers().clone());
        }
        if !tasks.is_empty() {
            self.batched.unblock(&tasks);
        }
        !tasks.is_empty()
    }

    /// Handles a message of the scheduler at this address.
    pub(crate) fn handle(&mut self, events: Vec<SchedulerEvent>, scheduler: &str) -> Handled {
        let mut is_open = true;
        let mut refused = HashSet::new();
        let mut updates = Vec::new();
        for event in events {
            match event {
                SchedulerEvent::InMemory { key, is_partial, .. } => {
                    updates.extend(self.update(&key, Change::InMemory { is_partial }));
                }
                // Older schedulers refuse a graph by failing each of its tasks.
                SchedulerEvent::Erred { key, exception, traceback }
                    if key.as_str().is_some_and(|key| self.sent.contains(key))
                        && failure::is_of_lost_dependencies(&exception, &traceback) =>
                {
                    refused.extend(key.as_str().map(Arc::from));
                }
                SchedulerEvent::Erred { key, exception, .. } => {
                    updates.extend(self.update(&key, Change::Erred(exception)));
                }
                SchedulerEvent::Lost { key } => updates.extend(self.update(&key, Change::Lost)),
                SchedulerEvent::Retried { key } => {
                    updates.extend(self.update(&key, Change::Retried))
                }
                SchedulerEvent::Cancelled { keys, reason } => {
                    let why = cancellation(scheduler, reason.as_deref());
                    let keys = keys.iter().filter_map(WireKey::as_str);
                    // An answer to a probe concerns no task.
                    let keys = keys.filter(|key| !self.batched.unknown_key(key));
                    let keys: HashSet<_> = keys.map(Arc::from).collect();
                    if reason.as_deref() == Some(REFUSED) {
                        refused.extend(keys);
                    } else {
                        updates.extend(self.forget(keys, &why));
                    }
                }
                // All tasks are forgotten, including those that the client holds.
                SchedulerEvent::Restarted => {
                    let why = format!("the cluster at {scheduler} was restarted");
                    let keys = self.futures.keys().cloned().collect();
                    updates.extend(self.forget(keys, &FutureError::Lost(why.into())));
                }
                SchedulerEvent::Closed => is_open = false,
                // Newer schedulers may send operations that this client has no use for.
                SchedulerEvent::Started { .. } | SchedulerEvent::Other(_) => {}
            }
        }
        let sends_again = !refused.is_empty();
        if sends_again {
            // After the loop: an event later in the message may say which input is lost.
            self.send_again(&mut refused);
            updates.extend(self.forget(refused, &cancellation(scheduler, Some(REFUSED))));
        }
        Handled { updates, is_open, sends_again }
    }

    /// Returns the update of a key that the scheduler has sent a message about, unless that's stale.
    fn update(&mut self, key: &WireKey, change: Change) -> Option<Update> {
        let key = key.as_str().filter(|key| !self.batched.is_released(key))?;
        // The scheduler has accepted the task.
        self.sent.forget(key);
        Some((self.futures.get(key)?.upgrade()?, change))
    }

    /// Sends refused tasks again, and leaves those in `keys` that take a lost result.
    fn send_again(&mut self, keys: &mut HashSet<Arc<str>>) {
        keys.retain(|key| !self.batched.is_released(key));
        for spec in self.sent.refused(keys, &self.lost_keys) {
            self.batched.push(Op::Submit(spec));
        }
    }

    /// Fails the futures of keys that the scheduler has forgotten, and of their unsent dependents.
    fn forget(&mut self, mut keys: HashSet<Arc<str>>, why: &FutureError) -> Vec<Update> {
        keys.retain(|key| !self.batched.is_released(key));
        // The scheduler would refuse them, together with all tasks in the same graph.
        self.batched.drop_dependents(&mut keys);
        let mut updates = Vec::new();
        for key in keys {
            if let Some(future) = self.futures.get(&key) {
                let future = future.upgrade();
                updates.extend(future.map(|future| (future, Change::Failed(why.clone()))));
                // Until its future is dropped, dependents could still be submitted.
                self.lost_keys.insert(key);
            }
        }
        updates
    }

    /// Fails the futures whose scatter or retry has failed, and their unsent dependents.
    pub(crate) fn call_failed(&mut self, keys: &[Arc<str>], why: &str) -> Vec<Update> {
        let error = FutureError::Lost(why.into());
        // In this order: unblocked dependents would be sent.
        let updates = self.forget(keys.iter().cloned().collect(), &error);
        self.batched.unblock(keys);
        updates
    }

    /// Ends the client. Returns the futures to fail with the error, unless they have ended. The first end decides what
    /// is still sent: after [`Closed`](FutureError::Closed) the farewell, otherwise nothing.
    pub(crate) fn end(&mut self, why: &FutureError) -> Vec<Arc<FutureState>> {
        if self.ended.is_none() {
            self.ended = Some(why.clone());
            match why {
                FutureError::Closed => self.batched.close(),
                _ => self.batched = BatchedSend::default(),
            }
        }
        // Taken, so that releases of these futures find nothing to send.
        let futures = std::mem::take(&mut self.futures);
        self.lost_keys.clear();
        self.sent.clear();
        futures.values().filter_map(Weak::upgrade).collect()
    }
}

/// Returns the error of keys that the scheduler has cancelled.
fn cancellation(scheduler: &str, reason: Option<&str>) -> FutureError {
    match reason {
        Some(REFUSED) => FutureError::Lost(
            "the result of one of its inputs is lost: submit that again first".into(),
        ),
        None | Some("already forgotten") => {
            let why =
                format!("the scheduler at {scheduler} doesn't have it any more: submit it again");
            FutureError::Lost(why.into())
        }
        Some(reason) => FutureError::Cancelled(reason.into()),
    }
}
