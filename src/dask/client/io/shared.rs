//! The state of a client, and the events that wake its thread.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use event_listener::Event as Notify;

use super::fetch::Fetcher;
use crate::dask::client::state::batched_send::Op;
use crate::dask::client::state::client_state::{ClientState, Update};
use crate::dask::client::state::future_state::{FutureError, FutureState};
use crate::dask::client::state::task_spec::TaskSpec;
use crate::dask::net::{Address, Pool};
use crate::dask::wire::capabilities::Forms;
use crate::dask::wire::client::SchedulerEvent;
use crate::dask::wire::serialized::Serialized;
use crate::engine::base::lock::Lock;
use crate::engine::data::waker_list::WakerList;

/// The limit of leaving the scheduler.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);

/// The intervals after which the client sends a heartbeat, and gives the scheduler up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The interval of heartbeats.
    pub(crate) heartbeat: Duration,
    /// After this silence the client asks the scheduler for an echo: it may have nothing to say to an idle client for
    /// ever.
    pub(crate) doubt: Duration,
    /// The time for which the scheduler may owe an answer, or read nothing.
    pub(crate) silence: Duration,
    /// The pause before values are scattered again after a failure.
    pub(crate) again: Duration,
}

/// The data that a client, its futures and its thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) scheduler: Address,
    /// The scheduler's address as text.
    pub(crate) address: String,
    /// The client's name.
    pub(crate) id: String,
    pub(crate) forms: Forms,
    pub(crate) pace: Pace,
    pub(crate) pool: Pool,
    pub(crate) fetcher: Fetcher,
    state: Lock<ClientState>,
    /// Wakes the writer: there are operations to send.
    pub(crate) to_send: Notify,
    /// Wakes the task that asks the scheduler for retries.
    pub(crate) to_retry: Notify,
    /// Wakes a task that scatters values.
    pub(crate) to_scatter: Notify,
    /// Wakes the task that polls the workers.
    pub(crate) to_pin: Notify,
    /// Whether the thread has nothing more to do.
    pub(crate) has_ended: AtomicBool,
    /// Those that wait for that: callers, whose wakers event-listener would call under its lock.
    pub(crate) ended: Arc<WakerList>,
}

impl Shared {
    pub(crate) fn new(
        scheduler: Address,
        id: String,
        forms: Forms,
        pace: Pace,
        pool: Pool,
    ) -> Self {
        Self {
            address: scheduler.to_string(),
            scheduler,
            id,
            forms,
            pace,
            pool,
            fetcher: Fetcher::default(),
            state: Lock::default(),
            to_send: Notify::new(),
            to_retry: Notify::new(),
            to_scatter: Notify::new(),
            to_pin: Notify::new(),
            has_ended: AtomicBool::new(false),
            ended: Arc::default(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, ClientState> {
        self.state.lock()
    }

    /// Submits a task.
    pub(crate) fn submit(&self, spec: TaskSpec) -> Arc<FutureState> {
        let mut state = self.lock();
        let future = state.submit(spec, Instant::now());
        let is_pinning = state.pins.is_needed();
        // Woken threads would only wait for the lock.
        drop(state);
        self.to_send.notify(1);
        if is_pinning {
            self.to_pin.notify(1);
        }
        future
    }

    /// Gives a value to the cluster, under this key.
    pub(crate) fn scatter(&self, key: &Arc<str>, value: Serialized) -> Arc<FutureState> {
        let future = self.lock().scatter(key, value);
        self.to_scatter.notify(1);
        // The value may have to wait for a probe, which the writer sends.
        self.to_send.notify(1);
        future
    }

    /// Releases the key of a future that is dropped.
    pub(crate) fn release(&self, future: &Arc<FutureState>) {
        if self.lock().release(future) {
            self.to_send.notify(1);
        }
    }

    /// Asks the scheduler for the state of a key.
    pub(crate) fn report_key(&self, key: &Arc<str>) {
        if self.lock().report_key(key) {
            self.to_send.notify(1);
        }
    }

    /// Has a failed task run again.
    pub(crate) fn retry(&self, future: &Arc<FutureState>) {
        // A task that can't run again stays as it is.
        if self.lock().retry(future) {
            self.to_retry.notify(1);
            self.to_pin.notify(1);
        }
    }

    /// Sends an operation that concerns no key.
    pub(crate) fn send(&self, op: Op) {
        self.lock().batched.push(op);
        self.to_send.notify(1);
    }

    /// Handles a message of the scheduler. Returns whether it keeps the connection.
    pub(crate) fn handle(&self, events: Vec<SchedulerEvent>) -> bool {
        let mut state = self.lock();
        let handled = state.handle(events, &self.address);
        let has_scatters = state.batched.has_scatters();
        drop(state);
        if handled.sends_again {
            self.to_send.notify(1);
        }
        // An answer to a probe lets delayed scatters start.
        if has_scatters {
            self.to_scatter.notify(1);
        }
        self.apply(handled.updates);
        handled.is_open
    }

    /// Applies updates, which notifies waiters: the lock must not be held.
    fn apply(&self, updates: Vec<Update>) {
        for (future, change) in updates {
            // After the change: one that isn't open would no longer be watched at the next poll.
            if change.apply(&future) {
                self.lock().pins.watch(&future);
                self.to_pin.notify(1);
            }
        }
    }

    /// Fails the futures whose scatter or retry has failed.
    pub(crate) fn call_failed(&self, keys: &[Arc<str>], why: &str) {
        let updates = self.lock().call_failed(keys, why);
        self.apply(updates);
        self.to_send.notify(1);
    }

    /// Leaves the scheduler: all futures that haven't ended fail, and nothing can be submitted any more.
    pub(crate) fn close(&self) {
        self.end(&FutureError::Closed);
        // The farewell.
        self.to_send.notify(1);
    }

    /// Fails all futures that haven't ended.
    pub(crate) fn end(&self, why: &FutureError) {
        // Waiters are notified without the lock, as in `apply`.
        let futures = self.lock().end(why);
        for future in futures {
            future.fail(why);
        }
    }
}
