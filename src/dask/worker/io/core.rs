//! The state that all parts of a worker share.
//!
//! A part that has an event takes the lock, updates the state machine, and carries out its instructions before it
//! releases the lock ([`WorkerCore::update`], in [`dispatch`](super::dispatch)). So the state machine, the store and
//! the queued messages never contradict each other. Nothing waits under the lock and no user code runs: values and
//! tasks are dropped, and messages sent, after it's released.

use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_channel::{Receiver, Sender};
use event_listener::Event;

use super::metrics::{Sample, Samples};
use super::traffic::Traffic;
use crate::dask::net::Pool;
use crate::dask::registry::Registry;
use crate::dask::wire::WireKey;
use crate::dask::wire::pack::Batch;
use crate::dask::wire::serialized::Serialized;
use crate::dask::wire::value::Map;
use crate::dask::wire::worker::report::StartStop;
use crate::dask::worker::error::{WorkerError, WorkerErrorKind};
use crate::dask::worker::memory::{
    Disposal, Limits, ProcessShare, SpillDirectory, Store, StoredValue,
};
use crate::dask::worker::state::{GatherDep, WorkerState};
use crate::engine::base::lock::Lock;
use crate::engine::core::threads::Around;
use crate::{Client, Handle};

/// The part of the memory limit that may be in flight from other workers, and its minimum in bytes.
const INCOMING_FRACTION: u64 = 10;
const MIN_INCOMING_BYTES: u64 = 100 << 20;

/// The shared state of a worker.
pub(crate) struct WorkerCore {
    pub(crate) identity: WorkerIdentity,
    pub(crate) registry: Registry,
    pub(crate) pool: Pool,
    pub(super) spill_directory: SpillDirectory,
    pub(super) traffic: Traffic,
    pub(super) samples: Samples,
    pub(super) process_share: ProcessShare,
    pub(super) limits: Limits,
    inner: Lock<Inner>,
    /// When the last heartbeat that was answered was sent, and the interval that the scheduler asked for.
    last_heartbeat: Lock<(Instant, Duration)>,
    /// Notified when there are messages for the scheduler.
    pub(super) has_messages: Event,
    /// Notified when the next timeout of the state machine is earlier than before.
    pub(super) timeout_changed: Event,
    /// Notified when more is in memory than may be.
    pub(super) memory_exceeded: Event,
    pub(super) gather_commands: Sender<GatherCommand>,
    pub(super) disposal: Disposal,
    end: Sender<Result<(), WorkerError>>,
}

/// The names of a worker and of its scheduler.
#[derive(Clone, Debug)]
pub(crate) struct WorkerIdentity {
    pub(crate) address: String,
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) scheduler: String,
    /// The scheduler's own versions. Dask warns where those of a worker differ, so this worker reports the same.
    pub(crate) versions: Map,
}

/// The part of the shared state that is under the lock.
pub(crate) struct Inner {
    pub(crate) state: WorkerState,
    pub(crate) store: Store,
    /// The messages to send to the scheduler.
    pub(super) batched_send: Batch,
    /// Whether the process uses too much memory to start anything.
    pub(super) is_pressed: bool,
    pub(super) engine: Option<Client>,
    pub(super) handles: hashbrown::HashMap<u64, Handle<()>, foldhash::fast::RandomState>,
    pub(super) next_timeout: Option<Instant>,
    /// To be dropped without the lock.
    pub(super) dropped_values: Vec<StoredValue>,
    pub(super) dropped_handles: Vec<Handle<()>>,
}

/// A command for [`gather::run`](super::gather::run).
pub(crate) enum GatherCommand {
    Start(GatherDep),
    Cancel(u64),
}

/// The settings from which a core is made.
pub(super) struct CoreSettings {
    pub(super) identity: WorkerIdentity,
    pub(super) registry: Registry,
    pub(super) pool: Pool,
    pub(super) spill_directory: SpillDirectory,
    pub(super) memory_limit: u64,
    pub(super) threads: usize,
    /// Wraps these threads.
    pub(super) around: Option<Around>,
    pub(super) resources: Vec<(String, f64)>,
}

/// The receiving ends of the channels of a core, for the parts that serve them.
pub(crate) struct Outlets {
    pub(crate) gather_commands: Receiver<GatherCommand>,
    pub(crate) dropped: [Receiver<StoredValue>; 2],
    pub(crate) end: Receiver<Result<(), WorkerError>>,
}

impl WorkerCore {
    pub(super) fn new(settings: CoreSettings) -> (Arc<Self>, Outlets) {
        let CoreSettings {
            identity,
            registry,
            pool,
            spill_directory,
            memory_limit,
            threads,
            around,
            resources,
        } = settings;
        let (gather_commands, gather_receiver) = async_channel::unbounded();
        let (disposal, dropped) = Disposal::new();
        // One place: the first reason to end is the one that is reported.
        let (end, end_receiver) = async_channel::bounded(1);
        let builder = Client::builder().name("ensue-worker").workers(threads);
        let engine = builder.around(around).build();
        let max_incoming_bytes = (memory_limit / INCOMING_FRACTION).max(MIN_INCOMING_BYTES);
        let inner = Lock::new(Inner {
            state: WorkerState::new(&identity.address, threads, resources, max_incoming_bytes),
            store: Store::default(),
            batched_send: Batch::new(),
            is_pressed: false,
            engine: Some(engine),
            handles: Default::default(),
            next_timeout: None,
            dropped_values: Vec::new(),
            dropped_handles: Vec::new(),
        });
        let core = Self {
            identity,
            registry,
            pool,
            spill_directory,
            traffic: Traffic::default(),
            samples: Samples::default(),
            process_share: ProcessShare::new(),
            limits: Limits::of(memory_limit),
            inner,
            last_heartbeat: Lock::new((Instant::now(), Duration::ZERO)),
            has_messages: Event::new(),
            timeout_changed: Event::new(),
            memory_exceeded: Event::new(),
            gather_commands,
            disposal,
            end,
        };
        let outlets = Outlets { gather_commands: gather_receiver, dropped, end: end_receiver };
        (Arc::new(core), outlets)
    }

    /// Takes the lock. Changes of the state machine need [`update`](Self::update) instead, which carries out its
    /// instructions.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Ends the worker with this result. Only the first call has an effect.
    pub(crate) fn close(&self, result: Result<(), WorkerError>) {
        let _ = self.end.try_send(result);
    }

    /// Records that the scheduler has answered the heartbeat of that time, and when it expects the next.
    pub(super) fn heartbeat_answered(&self, sent: Instant, interval: Duration) {
        *self.last_heartbeat.lock() = (sent, interval);
    }

    /// Returns for how long answers to heartbeats have been overdue.
    pub(super) fn silence(&self) -> Duration {
        let (sent, interval) = *self.last_heartbeat.lock();
        sent.elapsed().saturating_sub(interval)
    }

    pub(crate) fn record_sample(&self, sample: Sample) {
        self.samples.record(sample);
    }

    pub(super) fn forgotten(&self) -> WorkerError {
        let WorkerIdentity { scheduler, address, .. } = self.identity.clone();
        WorkerErrorKind::Forgotten { scheduler, address }.into()
    }

    /// Drops all tasks at their next await, the threads they run on, and all results, and removes the spill folder.
    /// The folder is removed when this returns.
    pub(crate) fn shut_down(&self) {
        let mut inner = self.lock();
        let engine = inner.engine.take();
        let handles = std::mem::take(&mut inner.handles);
        let store = std::mem::take(&mut inner.store);
        drop(inner);
        // Dropping a task takes the lock again, so none of this may happen under it.
        drop(handles);
        drop(engine);
        self.pool.close();
        // A blocking function that still runs keeps a reference to all of this, maybe for long. Memory and files must
        // not wait for it.
        drop(store);
        self.spill_directory.remove();
    }
}

impl Inner {
    /// Puts a result into the store.
    pub(crate) fn store_result(&mut self, key: WireKey, value: Serialized) {
        // The replaced value may be large, and is dropped without the lock.
        let replaced = self.store.insert(key, value);
        self.discard(replaced);
    }

    /// Drops a value after the lock is released.
    pub(super) fn discard(&mut self, value: Option<StoredValue>) {
        self.dropped_values.extend(value);
    }

    /// Drops the task of an attempt after the lock is released.
    pub(super) fn drop_handle(&mut self, attempt: u64) {
        let handle = self.handles.remove(&attempt);
        self.dropped_handles.extend(handle);
    }
}

/// Returns the seconds since 1970.
pub(super) fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// Returns the time from `start` until now.
pub(super) fn span(start: f64) -> StartStop {
    // The system's clock may have been set back.
    StartStop { start, stop: now().max(start) }
}
