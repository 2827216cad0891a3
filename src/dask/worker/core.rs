//! What all parts of a worker share: the state, the store, and what becomes of [`Action`]s.
//!
//! Whoever has news takes the lock, tells the state, and carries out what that wants, all before anybody else
//! learns of anything. Under the lock nothing waits and no user code runs: it's dropped, and sent, afterwards.

use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_channel::{Receiver, Sender};
use event_listener::Event;

use super::disposal::Disposal;
use super::error::{Kind, WorkerError};
use super::execute;
use super::metrics::{Member, Samples};
use super::spill::Directory;
use super::state::{Action, Ended, Fetch, Made, Report, Start, State};
use super::store::{Store, Value};
use super::traffic::Traffic;
use crate::dask::net::Pool;
use crate::dask::registry::Registry;
use crate::dask::wire::WireKey;
use crate::dask::wire::pack::Batch;
use crate::dask::wire::value::Map;
use crate::dask::wire::worker::order::Order;
use crate::dask::wire::worker::report::{self, Run, Span};
use crate::engine::base::lock::Lock;
use crate::{Client, Handle};

/// What isn't said otherwise is told to the scheduler with this stimulus.
const STIMULUS: &str = "worker";
/// Where heartbeats have had no answer for so long, this worker was stopped, or cut off.
const SILENCE: Duration = Duration::from_secs(5);

/// A worker, to all its parts.
pub(super) struct Core {
    pub(super) me: Me,
    pub(super) registry: Registry,
    pub(super) pool: Pool,
    pub(super) directory: Directory,
    pub(super) traffic: Traffic,
    pub(super) samples: Samples,
    pub(super) member: Member,
    pub(super) limits: Limits,
    inner: Lock<Inner>,
    /// When the scheduler was last sent a heartbeat that it answered, and how long it wants to have none.
    heard: Lock<(Instant, Duration)>,
    /// There's something for the scheduler.
    pub(super) outgoing: Event,
    /// There's another time to wake up at.
    pub(super) due: Event,
    /// More is in memory than should be.
    pub(super) crowded: Event,
    pub(super) errands: Sender<Errand>,
    disposal: Disposal,
    end: Sender<Result<(), WorkerError>>,
}

/// Who a worker is.
#[derive(Clone, Debug)]
pub(super) struct Me {
    pub(super) address: String,
    pub(super) name: String,
    pub(super) id: String,
    pub(super) scheduler: String,
    /// What the scheduler said of itself.
    pub(super) versions: Map,
}

/// How much may be in memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) memory: u64,
    /// Past the first, results go to files until no more than the second is left.
    pub(super) spill: u64,
    pub(super) spill_to: u64,
    /// Past this nothing begins.
    pub(super) pause: u64,
}

impl Limits {
    pub(super) fn of(memory: u64) -> Self {
        let percent = |percent| memory / 100 * percent;
        Self { memory, spill: percent(70), spill_to: percent(60), pause: percent(80) }
    }
}

/// What is under the lock.
pub(super) struct Inner {
    pub(super) state: State,
    pub(super) store: Store,
    /// What is to be sent to the scheduler.
    pub(super) outbox: Batch,
    /// Whether the process takes too much memory to begin anything.
    pub(super) is_pressed: bool,
    engine: Option<Client>,
    handles: hashbrown::HashMap<u64, Handle<()>, foldhash::fast::RandomState>,
    due: Option<Instant>,
    /// What is to be dropped without the lock.
    dropped_values: Vec<Value>,
    dropped_handles: Vec<Handle<()>>,
}

/// What whoever fetches is to do.
pub(super) enum Errand {
    Fetch(Fetch),
    Stop(u64),
}

/// What a core is made of.
pub(super) struct Parts {
    pub(super) me: Me,
    pub(super) registry: Registry,
    pub(super) pool: Pool,
    pub(super) directory: Directory,
    pub(super) memory_limit: u64,
    pub(super) threads: usize,
    pub(super) resources: Vec<(String, f64)>,
}

/// Where a core sends what it can't do itself.
pub(super) struct Outlets {
    pub(super) errands: Receiver<Errand>,
    pub(super) dropped: [Receiver<Value>; 2],
    pub(super) end: Receiver<Result<(), WorkerError>>,
}

impl Core {
    pub(super) fn new(parts: Parts) -> (Arc<Self>, Outlets) {
        let Parts { me, registry, pool, directory, memory_limit, threads, resources } = parts;
        let (errands, errands_to) = async_channel::unbounded();
        let (disposal, dropped) = Disposal::new();
        let (end, end_to) = async_channel::bounded(1);
        let limits = Limits::of(memory_limit);
        let engine = Client::builder().name("ensue-worker").workers(threads).build();
        let most_bytes = (memory_limit / 10).max(100 << 20);
        let inner = Lock::new(Inner {
            state: State::new(&me.address, threads, resources, most_bytes),
            store: Store::default(),
            outbox: Batch::new(),
            is_pressed: false,
            engine: Some(engine),
            handles: Default::default(),
            due: None,
            dropped_values: Vec::new(),
            dropped_handles: Vec::new(),
        });
        let core = Self {
            me,
            registry,
            pool,
            directory,
            traffic: Traffic::default(),
            samples: Samples::default(),
            member: Member::new(),
            limits,
            inner,
            heard: Lock::new((Instant::now(), Duration::ZERO)),
            outgoing: Event::new(),
            due: Event::new(),
            crowded: Event::new(),
            errands,
            disposal,
            end,
        };
        (Arc::new(core), Outlets { errands: errands_to, dropped, end: end_to })
    }

    /// For a look that changes nothing.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Tells news, and does what has become necessary.
    pub(super) fn with<T>(self: &Arc<Self>, news: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let result = news(&mut inner);
        let memory = inner.store.sizes().memory;
        let is_full = inner.is_pressed || memory > self.limits.pause;
        inner.state.set_full(is_full);
        for action in inner.state.actions(Instant::now()) {
            self.act(&mut inner, action);
        }
        let due = inner.state.due();
        let is_due_sooner = due.is_some() && (inner.due.is_none() || due < inner.due);
        inner.due = due;
        let has_outgoing = !inner.outbox.is_empty();
        let values = std::mem::take(&mut inner.dropped_values);
        let handles = std::mem::take(&mut inner.dropped_handles);
        drop(inner);
        if has_outgoing {
            self.outgoing.notify(1);
        }
        if is_due_sooner {
            self.due.notify(1);
        }
        if memory > self.limits.spill {
            self.crowded.notify(1);
        }
        values.into_iter().for_each(|value| self.disposal.take(value));
        // Dropping a task may bring news.
        drop(handles);
        result
    }

    fn act(self: &Arc<Self>, inner: &mut Inner, action: Action) {
        match action {
            Action::Start(start) => self.start(inner, start),
            Action::Abort(attempt) => inner.forget_handle(attempt),
            Action::Forget(key) => {
                let value = inner.store.remove(&key);
                inner.discard(value);
            }
            // The other side is gone only when all ends.
            Action::Fetch(fetch) => drop(self.errands.try_send(Errand::Fetch(fetch))),
            Action::StopFetch(flight) => drop(self.errands.try_send(Errand::Stop(flight))),
            Action::Report(report) => tell(&mut inner.outbox, report),
            Action::Leave(reason) => {
                log::info!("{}: the scheduler says to leave: {reason}", self.me.address);
                // It says so in the same words to a worker that it has taken for dead.
                let is_forgotten = self.silence() > SILENCE && inner.state.status() == "running";
                self.finish(if is_forgotten { Err(self.forgotten()) } else { Ok(()) });
            }
        }
    }

    fn start(self: &Arc<Self>, inner: &mut Inner, start: Start) {
        let Some(engine) = &inner.engine else { return };
        let values = start.work.inputs.iter().map(|key| match inner.store.get(key) {
            Some(value) => value,
            None => unreachable!("all inputs of what starts are here"),
        });
        let values = values.collect();
        let attempt = start.attempt;
        let handle = engine.spawn(execute::run(self.clone(), start, values));
        inner.handles.insert(attempt, handle);
    }

    /// Does what the scheduler says.
    pub(super) fn obey(self: &Arc<Self>, orders: Vec<Order>) {
        self.with(|inner| orders.into_iter().for_each(|order| inner.state.order(order)));
    }

    /// The worker is to end like this, unless it's about to already.
    pub(super) fn finish(&self, result: Result<(), WorkerError>) {
        let _ = self.end.try_send(result);
    }

    /// The scheduler has answered what it was told then, and wants to hear nothing for so long.
    pub(super) fn hear(&self, at: Instant, interval: Duration) {
        *self.heard.lock() = (at, interval);
    }

    /// How long it has answered nothing, beyond what it wants.
    pub(super) fn silence(&self) -> Duration {
        let (heard, interval) = *self.heard.lock();
        heard.elapsed().saturating_sub(interval)
    }

    pub(super) fn forgotten(&self) -> WorkerError {
        let (scheduler, address) = (self.me.scheduler.clone(), self.me.address.clone());
        Kind::Forgotten { scheduler, address }.into()
    }

    /// Drops all tasks at their next await, and the threads they run on.
    pub(super) fn stop(&self) {
        let mut inner = self.lock();
        let engine = inner.engine.take();
        let handles = std::mem::take(&mut inner.handles);
        let store = std::mem::take(&mut inner.store);
        drop(inner);
        drop(handles);
        drop(engine);
        self.pool.close();
        // What still runs keeps all of this, and may do so for long.
        drop(store);
        self.directory.remove();
    }
}

impl Inner {
    /// Puts a result where it's held.
    pub(super) fn keep(&mut self, key: WireKey, value: crate::dask::wire::serialized::Serialized) {
        let before = self.store.insert(key, value);
        self.discard(before);
    }

    pub(super) fn discard(&mut self, value: Option<Value>) {
        self.dropped_values.extend(value);
    }

    /// Drops a task soon.
    pub(super) fn forget_handle(&mut self, attempt: u64) {
        let handle = self.handles.remove(&attempt);
        self.dropped_handles.extend(handle);
    }
}

fn tell(outbox: &mut Batch, report: Report) {
    let run = |task: &Ended, tell: &mut dyn FnMut(&Run<'_>)| {
        tell(&Run { key: &task.key, run: task.run, stimulus: &task.stimulus });
    };
    match report {
        Report::Finished { task, made, took } => {
            let Made { nbytes, is_partial } = made;
            run(&task, &mut |run| report::finished(outbox, run, nbytes, is_partial, took));
        }
        Report::Erred { task, failure, took } => {
            run(&task, &mut |run| report::erred(outbox, run, failure.class, &failure.text, took));
        }
        Report::Has(keys) => report::has(outbox, &keys, STIMULUS),
        Report::Released(key) => report::released(outbox, &key, STIMULUS),
        Report::Stolen { key, state, stimulus } => report::stolen(outbox, &key, state, &stimulus),
        Report::WhoHas(keys) => report::refresh_who_has(outbox, &keys, STIMULUS),
        Report::Status { status, stimulus } => report::status(outbox, &status, &stimulus),
    }
}

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// What began then and ends now.
pub(super) fn span(start: f64) -> Span {
    Span { start, stop: now().max(start) }
}
