//! Who observes a client: takes down what the engine tells, and puts it in order when somebody looks.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use super::buffers::{Buffers, FULL, Moment, What};
use super::functions::Functions;
use super::record::Record;
#[cfg(feature = "tracing")]
use super::spans::Spans;
use crate::Status;
use crate::engine::base::deferred;
use crate::engine::base::lock::Lock;
use crate::engine::base::user_code::run_user_code;
use crate::engine::core::Core;
use crate::engine::core::context;
use crate::engine::data::clock::{RealTimer, alarm};
use crate::engine::graph::inspect;
use crate::engine::life::drop_task;
use crate::engine::life::status::status;
use crate::engine::task::header::PausedFor;
use crate::engine::task::header::{Task, TaskRef};
use crate::engine::task::state::KEYED;
use crate::engine::watch::counters::{CountedEvent, CounterTable};
use crate::engine::watch::observer::{self, Demand, Observer};

/// So many new tasks in each [`TICK`] are watched, and of the others only the number is known.
const BUDGET: i64 = 2_000;
const TICK: Duration = Duration::from_millis(100);

/// Where there are more than so many new tasks in a tick, hardly any can be watched, and so only [`FEW`] are: that
/// their share of the time stays small.
const MANY: u64 = 20_000;
const FEW: i64 = 500;

/// So many that were left over are used together.
const BURST: i64 = 10_000;

pub(crate) struct Recorder {
    /// When the engine's clock began.
    pub(crate) began: Instant,
    /// When recording did, by that clock.
    pub(crate) since: Duration,
    seeded: bool,
    wanted: Demand,
    /// How many more tasks may be watched for now.
    tokens: AtomicI64,
    /// How many there were when more were given out last, and when that was, in nanoseconds of the engine's clock.
    given: AtomicI64,
    refilled: AtomicU64,
    refill: Lock<Option<RealTimer>>,
    /// What looks at the client now and then, and keeps it in memory.
    watch: Lock<Option<RealTimer>>,
    itself: Weak<Self>,
    #[cfg(feature = "tracing")]
    spans: Option<Spans>,
    buffers: Buffers,
    pub(crate) functions: Functions,
    record: Mutex<Record>,
    /// Somebody sleeps until something happens.
    awaited: AtomicBool,
    sleepers: Lock<Vec<Waker>>,
    /// The engine is no more.
    over: AtomicBool,
}

/// What the engine has of it: when this goes, the engine does.
struct Attached(Arc<Recorder>);

impl Recorder {
    /// That of an engine, which begins to record if it hasn't.
    pub(crate) fn start(core: &Core) -> Arc<Self> {
        if let Some(recorder) = Self::find(core) {
            return recorder;
        }
        core.observer.attach(|| Arc::new(Attached(Self::new(core))));
        let recorder = Self::find(core).unwrap_or_else(|| unreachable!("it was just attached"));
        let tasks = inspect::live(core);
        for task in &tasks {
            core.observer.adopt(task.as_ref(), || status(task.as_ref()));
        }
        tasks.iter().for_each(|task| recorder.edges_of_old(task.as_ref()));
        recorder
    }

    /// What a task that was there before waits for.
    fn edges_of_old(&self, task: TaskRef<'_>) {
        let Some(number) = task.number() else { return };
        let (mut inputs, mut awaited) = (Vec::new(), Vec::new());
        inspect::inputs(task, &mut inputs);
        inspect::awaited(task, &mut awaited);
        let input = |task: &Task| Some(What::Input(task.number()?));
        let awaits = |task: &Task| Some(What::Awaits(task.number()?));
        let edges = inputs.iter().filter_map(input).chain(awaited.iter().filter_map(awaits));
        let at = nanos(self.since);
        self.write(edges.map(|what| Moment { at, task: number, what }));
    }

    /// That of an engine that records.
    pub(crate) fn find(core: &Core) -> Option<Arc<Self>> {
        core.observer.get()?.as_any().downcast_ref::<Attached>().map(|attached| attached.0.clone())
    }

    fn new(core: &Core) -> Arc<Self> {
        let seeded = core.seeded.is_some();
        #[cfg(feature = "tracing")]
        let spans = Spans::are_wanted().then(Spans::default);
        let wanted = Demand::new();
        if seeded {
            wanted.add_all();
        }
        // Those who have a span for each task see all of them.
        #[cfg(feature = "tracing")]
        spans.iter().for_each(|_| wanted.add_all());
        Arc::new_cyclic(|itself| Self {
            #[cfg(feature = "tracing")]
            spans,
            began: core.began,
            since: core.now(),
            seeded,
            wanted,
            tokens: AtomicI64::new(BURST),
            given: AtomicI64::new(BURST),
            refilled: AtomicU64::new(nanos(core.now())),
            refill: Lock::default(),
            watch: Lock::default(),
            itself: itself.clone(),
            buffers: Buffers::new(seeded),
            functions: Functions::default(),
            record: Mutex::default(),
            awaited: AtomicBool::new(false),
            sleepers: Lock::default(),
            over: AtomicBool::new(false),
        })
    }

    /// All tasks are watched while this is kept.
    pub(crate) fn watch_everything(self: &Arc<Self>) -> Everything {
        self.wanted.add_all();
        Everything(self.clone())
    }

    /// What is known by now.
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        self.bring_up_to_date(&mut record);
        record
    }

    fn bring_up_to_date(&self, record: &mut Record) {
        // Whoever tells reads the clock before it writes. So of what happened until now all is written that
        // comes before anything that is; of what is later, something may be missing in between.
        let until = match self.seeded {
            true => u64::MAX,
            false => self.now(),
        };
        let mut moments = std::mem::take(&mut record.pending);
        record.dropped += self.buffers.take(&mut moments);
        let names = self.functions.names_from(record.names.len());
        record.add_names(names);
        if !self.seeded {
            moments.sort_by_key(|moment| moment.at);
        }
        let later = moments.partition_point(|moment| moment.at <= until);
        moments.drain(..later).for_each(|moment| record.apply(moment));
        // The next ones find room there; what one burst needed is not kept for ever.
        moments.shrink_to(2 * FULL);
        record.pending = moments;
    }

    /// Has the waker woken when something has happened since the last look, or the engine is no more.
    pub(crate) fn wake_then(&self, waker: &Waker) {
        // Foreign code, so not under the lock.
        let mut new = Some(waker.clone());
        let mut sleepers = self.sleepers.lock();
        if !sleepers.iter().any(|other| other.will_wake(waker)) {
            sleepers.extend(new.take());
        }
        drop(sleepers);
        drop(new);
        self.awaited.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    fn wake_all(&self) {
        if self.awaited.swap(false, Ordering::SeqCst) {
            let sleepers = std::mem::take(&mut *self.sleepers.lock());
            // A waker may bring about more than this is the place for.
            deferred::scope(|| {
                sleepers.into_iter().for_each(|waker| run_user_code(|| waker.wake()));
            });
        }
    }

    /// Keeps an alarm until the engine is closed.
    pub(crate) fn keep_watch(&self, alarm: Option<RealTimer>) {
        let before = std::mem::replace(&mut *self.watch.lock(), alarm);
        drop(before);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn write(&self, moments: impl IntoIterator<Item = Moment>) {
        if self.buffers.write(moments) {
            // If somebody else is at it, that one does this too.
            match self.record.try_lock() {
                Ok(mut record) => self.bring_up_to_date(&mut record),
                Err(TryLockError::Poisoned(poisoned)) => {
                    self.bring_up_to_date(&mut poisoned.into_inner());
                }
                Err(TryLockError::WouldBlock) => {}
            }
        }
    }

    fn wake_if_awaited(&self) {
        if self.wanted.all() {
            // Who goes to sleep says so and looks again: one of us sees the other.
            fence(Ordering::SeqCst);
            if self.awaited.load(Ordering::SeqCst) {
                self.wake_all();
            }
        }
    }

    fn created(&self, task: TaskRef<'_>, number: u64, at: u64, what: What, inputs: &[u64]) {
        #[cfg(feature = "tracing")]
        if let Some(spans) = &self.spans {
            run_user_code(|| spans.created(task, number, inputs));
        }
        let moment = |what| Moment { at, task: number, what };
        let created = [moment(what)];
        let inputs = inputs.iter().map(|input| moment(What::Input(*input)));
        match label(task, number) {
            None => self.write(created.into_iter().chain(inputs)),
            Some(label) => self.write(created.into_iter().chain([moment(label)]).chain(inputs)),
        }
        self.refill(at);
    }

    #[cfg(feature = "tracing")]
    fn trace(&self, number: u64, moment: observer::TaskEvent<'_>) {
        let Some(spans) = &self.spans else { return };
        run_user_code(|| match moment {
            observer::TaskEvent::Polled { worker } => spans.entered(number, worker),
            observer::TaskEvent::Suspended { .. } => spans.left(number),
            observer::TaskEvent::Paused { why: PausedFor::Delay, attempt } => {
                spans.attempt(number, attempt + 1);
            }
            observer::TaskEvent::Ended(status) => spans.ended(number, status),
            _ => {}
        });
    }

    /// Gives out the tokens of the ticks that have passed.
    fn refill(&self, now: u64) {
        let before = self.refilled.load(Ordering::Relaxed);
        let ticks = now.saturating_sub(before) / nanos(TICK);
        if ticks > 0
            && self
                .refilled
                .compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            let more = BUDGET.saturating_mul(i64::try_from(ticks).unwrap_or(i64::MAX));
            let tokens = self.tokens.load(Ordering::Relaxed).max(0);
            let given = tokens.saturating_add(more).min(BURST);
            self.given.store(given, Ordering::Relaxed);
            self.tokens.store(given, Ordering::Relaxed);
        }
    }

    /// Has them given out in a while, though no task is watched until then.
    #[cold]
    fn refill_later(&self) {
        let given = self.given.load(Ordering::Relaxed).unsigned_abs();
        let lasted = self.now().saturating_sub(self.refilled.load(Ordering::Relaxed));
        let are_many = given.saturating_mul(nanos(TICK)) > MANY.saturating_mul(lasted);
        let more = if are_many { FEW } else { BUDGET };
        let waker = Waker::from(Arc::new(Refill { recorder: self.itself.clone(), more }));
        let before = {
            // Two at a time would leave the alarm of one, and what the other has said last.
            let mut refill = self.refill.lock();
            self.wanted.set_some(false);
            let sleep = alarm(TICK, waker);
            if sleep.is_none() {
                // There's no thread for timers, and so no end to what is watched.
                self.refill_now(more);
            }
            std::mem::replace(&mut *refill, sleep)
        };
        drop(before);
    }

    fn refill_now(&self, more: i64) {
        self.refilled.store(self.now(), Ordering::Relaxed);
        self.given.store(more, Ordering::Relaxed);
        self.tokens.store(more, Ordering::Relaxed);
        self.wanted.set_some(true);
    }

    /// The engine's clock, of one that isn't seeded.
    fn now(&self) -> u64 {
        nanos(self.began.elapsed())
    }
}

struct Refill {
    recorder: Weak<Recorder>,
    more: i64,
}

impl Wake for Refill {
    fn wake(self: Arc<Self>) {
        if let Some(recorder) = self.recorder.upgrade() {
            recorder.refill_now(self.more);
        }
    }
}

/// What the key of a task is, where it isn't made of its name and number.
fn label(task: TaskRef<'_>, number: u64) -> Option<What> {
    let extras = task.extras()?;
    if let Some(key) = extras.key.get() {
        let is_numbered = task.state.load() & KEYED == 0
            && key.rsplit_once('-').is_some_and(|(_, end)| end.parse() == Ok(number));
        return (!is_numbered).then(|| What::Keyed(key.clone()));
    }
    extras.derived.map(|digest| What::Derived(Box::new(digest)))
}

impl Observer for Attached {
    fn demand(&self) -> &Demand {
        &self.0.wanted
    }

    fn wants(&self) -> bool {
        let recorder = &*self.0;
        if recorder.wanted.all() {
            return true;
        }
        if recorder.tokens.load(Ordering::Relaxed) <= 0 {
            return false;
        }
        match recorder.tokens.fetch_sub(1, Ordering::Relaxed) {
            1 => {
                recorder.refill_later();
                true
            }
            tokens => tokens > 0,
        }
    }

    fn name(&self, task: TaskRef<'_>) -> u32 {
        self.0.functions.name(task)
    }

    fn count(&self, task: TaskRef<'_>, event: CountedEvent) -> u32 {
        self.0.functions.count(task, event)
    }

    fn read(&self, table: Arc<CounterTable>) {
        self.0.functions.read(table);
    }

    fn on_event(&self, task: TaskRef<'_>, moment: observer::TaskEvent<'_>) {
        let recorder = &*self.0;
        let Some(number) = task.any_number() else { return };
        #[cfg(feature = "tracing")]
        recorder.trace(number, moment);
        let at = nanos(task.core().now());
        let one = |what| recorder.write([Moment { at, task: number, what }]);
        let awaits = |from: &u64| Moment { at, task: number, what: What::Awaits(*from) };
        match moment {
            observer::TaskEvent::Created { name, status, is_old, by, inputs } => {
                let (by, priority) = (by.unwrap_or_default(), task.priority());
                let at = if is_old { nanos(recorder.since) } else { at };
                let created = What::Created { name, priority, status, by, is_old };
                recorder.created(task, number, at, created, inputs);
            }
            observer::TaskEvent::Ready => one(What::Ready),
            observer::TaskEvent::Polled { worker } => {
                one(What::Polled(u32::try_from(worker).unwrap_or(u32::MAX)));
            }
            observer::TaskEvent::Suspended { awaits: [] } => one(What::Suspended),
            observer::TaskEvent::Suspended { awaits: all } => {
                let suspended = Moment { at, task: number, what: What::Suspended };
                recorder.write([suspended].into_iter().chain(all.iter().map(awaits)));
            }
            observer::TaskEvent::Awaits(all) => recorder.write(all.iter().map(awaits)),
            observer::TaskEvent::Paused { why: PausedFor::Limit, .. } => one(What::Limited),
            observer::TaskEvent::Paused { why: PausedFor::Delay, attempt } => {
                one(What::Delayed(attempt))
            }
            observer::TaskEvent::Resumed => one(What::Unparked),
            observer::TaskEvent::Ended(Status::Failed) => {
                let error = task.failure().map(|error| error.to_string().into());
                let error = error.map(|text| Moment { at, task: number, what: What::Error(text) });
                let ended = Moment { at, task: number, what: What::Ended(Status::Failed) };
                recorder.write([ended].into_iter().chain(error));
            }
            observer::TaskEvent::Ended(status) => one(What::Ended(status)),
        }
        recorder.wake_if_awaited();
    }

    fn released(&self, number: u64) {
        #[cfg(feature = "tracing")]
        if let Some(spans) = &self.0.spans {
            spans.released(number);
        }
        // Those of a virtual clock are taken as they come.
        let at = match self.0.seeded {
            true => 0,
            false => self.0.now(),
        };
        self.0.write([Moment { at, task: number, what: What::Released }]);
    }

    fn closed(&self) {
        self.0.keep_watch(None);
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
        self.0.wake_all();
    }
}

/// All tasks are watched while this is kept.
pub(crate) struct Everything(Arc<Recorder>);

impl Drop for Everything {
    fn drop(&mut self) {
        self.0.wanted.remove_all();
    }
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
