//! The engine's observer: writes events of watched tasks to the buffers, and updates the record from them.
//!
//! # Which tasks are watched
//!
//! A seeded client, and one whose events are streamed or traced, watches every task. Any other has a token bucket: a
//! new task that gets a token is watched, and the others are only counted. Tokens are granted each [`TICK`]: as tasks
//! are submitted while there are some left, and by a timer after the last one was taken.
//!
//! | state | `tokens` | new tasks ask | left when |
//! |---|---|---|---|
//! | granting | positive | yes | the last token is taken: `Wanted` is cleared, a timer is set |
//! | exhausted | 0 or less | no | the timer grants [`TOKENS`], or [`TOKENS_OVERLOADED`] after a rate above [`OVERLOAD`] |
//!
//! # The order of events
//!
//! A writer reads the clock, and then takes the lock of a buffer. So an event that is written after the buffers were
//! emptied may be earlier than one that was taken out, but not earlier than the time at which emptying began. Events up
//! to that time are applied, in the order of their times; later ones stay pending. A seeded client has one buffer and a
//! virtual clock, and applies events in the order in which they were written.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use super::buffers::{Buffers, Change, FULL, TaskEvent};
use super::functions::Functions;
#[cfg(feature = "tracing")]
use super::spans::Spans;
use super::tables::Record;
use crate::engine::base::lock::Lock;
use crate::engine::base::nanos::nanos;
#[cfg(feature = "tracing")]
use crate::engine::base::user_code::run_user_code;
use crate::engine::core::Core;
use crate::engine::data::clock::{RealTimer, alarm};
use crate::engine::data::waker_list::WakerList;
use crate::engine::graph::inspect;
use crate::engine::graph::waits::Waits;
use crate::engine::life::status::status;
use crate::engine::task::header::PausedFor;
use crate::engine::task::header::{Task, TaskRef};
use crate::engine::task::state::{DONE, KEYED, RUNNING, STARTED};
use crate::engine::watch::counters::{CountedEvent, CounterTable};
use crate::engine::watch::observer::{self, Demand, Observer};
use crate::{Error, Status};

/// How many new tasks are watched in each [`TICK`].
const TOKENS: i64 = 2_000;
const TICK: Duration = Duration::from_millis(100);

/// The number of new tasks in a tick above which only [`TOKENS_OVERLOADED`] are watched: such short tasks must not spend
/// a large share of their time on being recorded.
const OVERLOAD: u64 = 20_000;
const TOKENS_OVERLOADED: i64 = 500;

/// The maximum number of tokens that quiet times save up for a burst.
const MAX_TOKENS: i64 = 10_000;

pub(crate) struct Recorder {
    /// The zero of the engine's clock.
    pub(crate) began: Instant,
    /// When recording began, by that clock.
    pub(crate) since: Duration,
    seeded: bool,
    wanted: Demand,
    /// How many more tasks may be watched before the next grant. May be negative.
    tokens: AtomicI64,
    /// How many there were after the last grant.
    granted: AtomicI64,
    /// When that was, in nanoseconds of the engine's clock.
    granted_at: AtomicU64,
    /// The timer of the next grant.
    grant_timer: Lock<Option<RealTimer>>,
    /// What makes the next stall check. It keeps the engine in memory, so it's dropped when the engine is closed.
    next_stall_check: Lock<Option<NextCheck>>,
    /// For the waker of `grant_timer`.
    this: Weak<Self>,
    #[cfg(feature = "tracing")]
    spans: Option<Spans>,
    buffers: Buffers,
    pub(crate) functions: Functions,
    record: Mutex<Record>,
    /// The event streams.
    pub(crate) readers: Arc<WakerList>,
    /// The engine was closed: no further task will run.
    closed: AtomicBool,
    /// The engine was dropped: there will be no more events.
    ended: AtomicBool,
}

/// The engine's reference to its recorder. Dropped with the engine, which may be before the recorder is.
struct EngineObserver(Arc<Recorder>);

impl Recorder {
    /// Returns the recorder of an engine, which begins to record if it hasn't.
    pub(crate) fn start(core: &Core) -> Arc<Self> {
        if let Some(recorder) = Self::find(core) {
            return recorder;
        }
        core.observer.attach(|| Arc::new(EngineObserver(Self::new(core))));
        let recorder = Self::find(core).unwrap_or_else(|| unreachable!("it was just attached"));
        // Older tasks are watched as far as they can be reached. All are adopted before the first edge is written: an
        // edge needs the records of both of its tasks.
        let tasks = inspect::live(core);
        for task in &tasks {
            core.observer.adopt(task.as_ref(), || status(task.as_ref()));
        }
        let waits = Waits::of(core);
        tasks.iter().for_each(|task| recorder.write_edges(task.as_ref(), &waits));
        recorder
    }

    /// Writes the edges of a task that is older than the recorder.
    fn write_edges(&self, task: TaskRef<'_>, waits: &Waits) {
        let Some(number) = task.number() else { return };
        let mut inputs = Vec::new();
        inspect::inputs(task, &mut inputs);
        let state = task.state.load();
        // The end of a poll writes what the task awaits then.
        let is_suspended = state & STARTED != 0 && state & (DONE | RUNNING) == 0;
        let awaited = if is_suspended { waits.waited_for(task) } else { Vec::new() };
        let input = |task: &Task| Some(Change::Input(task.number()?));
        let awaits = |task: &Task| Some(Change::Awaits(task.number()?));
        let edges = inputs.iter().filter_map(input).chain(awaited.iter().filter_map(awaits));
        let at = nanos(self.since);
        self.write(edges.map(|change| TaskEvent { at, task: number, change }));
    }

    /// Returns the recorder of an engine, or `None` if that doesn't record.
    pub(crate) fn find(core: &Core) -> Option<Arc<Self>> {
        let observer = core.observer.get()?.as_any().downcast_ref::<EngineObserver>();
        observer.map(|observer| observer.0.clone())
    }

    fn new(core: &Core) -> Arc<Self> {
        let seeded = core.seeded.is_some();
        #[cfg(feature = "tracing")]
        let spans = Spans::are_wanted().then(Spans::default);
        let wanted = Demand::new();
        if seeded {
            wanted.add_all();
        }
        // A trace has a span for each task, so none may be left out.
        #[cfg(feature = "tracing")]
        spans.iter().for_each(|_| wanted.add_all());
        Arc::new_cyclic(|this| Self {
            #[cfg(feature = "tracing")]
            spans,
            began: core.began,
            since: core.now(),
            seeded,
            wanted,
            tokens: AtomicI64::new(MAX_TOKENS),
            granted: AtomicI64::new(MAX_TOKENS),
            granted_at: AtomicU64::new(nanos(core.now())),
            grant_timer: Lock::default(),
            next_stall_check: Lock::default(),
            this: this.clone(),
            buffers: Buffers::new(seeded),
            functions: Functions::default(),
            record: Mutex::default(),
            readers: Arc::default(),
            closed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        })
    }

    /// Watches every new task until the guard is dropped.
    pub(crate) fn watch_all(self: &Arc<Self>) -> WatchAll {
        self.wanted.add_all();
        WatchAll(self.clone())
    }

    pub(crate) fn is_seeded(&self) -> bool {
        self.seeded
    }

    /// Returns the record, after applying the events that were written by now.
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        self.update(&mut record);
        record
    }

    fn update(&self, record: &mut Record) {
        // Read before the buffers are emptied: see the order of events in the module's documentation.
        let until = match self.seeded {
            true => u64::MAX,
            false => self.now(),
        };
        let mut events = std::mem::take(&mut record.pending);
        record.dropped += self.buffers.take(&mut events);
        let names = self.functions.names_from(record.names.len());
        record.add_names(names);
        if !self.seeded {
            // A stable sort, since events of one task may have equal times.
            events.sort_by_key(|event| event.at);
        }
        let later = events.partition_point(|event| event.at <= until);
        events.drain(..later).for_each(|event| record.apply(event));
        // The vector is kept for the next events, but not the peak of memory of a burst.
        events.shrink_to(2 * FULL);
        record.pending = events;
    }

    /// Sets what makes the next stall check, and drops what was to make it before.
    pub(crate) fn set_next_stall_check(&self, next: Option<NextCheck>) {
        let before = std::mem::replace(&mut *self.next_stall_check.lock(), next);
        // Not under the lock: it has a reference to the engine, which may be the last.
        drop(before);
    }

    /// Has the next new task continue the stall checks if they have ended by then: false if it's to do so already.
    pub(crate) fn want_any(&self) -> bool {
        self.wanted.want_any()
    }

    /// Lets the next new task make the next stall check, by `resume`.
    pub(crate) fn pause_stall_checks(&self, resume: Box<dyn FnOnce() + Send>) {
        self.set_next_stall_check(Some(NextCheck::ByTask(resume)));
        // A task that asked before that found nothing to continue.
        if self.want_any() {
            self.resume_stall_checks();
        }
    }

    #[cfg(test)]
    pub(crate) fn are_stall_checks_paused(&self) -> bool {
        matches!(*self.next_stall_check.lock(), Some(NextCheck::ByTask(_)))
    }

    #[cold]
    fn resume_stall_checks(&self) {
        let resume = {
            let mut next = self.next_stall_check.lock();
            match next.take() {
                Some(NextCheck::ByTask(resume)) => Some(resume),
                other => {
                    *next = other;
                    None
                }
            }
        };
        resume.into_iter().for_each(|resume| resume());
    }

    /// Returns whether the engine was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Returns whether the engine was dropped.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    fn write(&self, events: impl IntoIterator<Item = TaskEvent>) {
        if self.buffers.write(events) {
            // A writer never blocks on the record: the thread that has it locked empties the buffers, or has just done.
            match self.record.try_lock() {
                Ok(mut record) => self.update(&mut record),
                Err(TryLockError::Poisoned(poisoned)) => {
                    self.update(&mut poisoned.into_inner());
                }
                Err(TryLockError::WouldBlock) => {}
            }
        }
    }

    fn wake_if_awaited(&self) {
        if self.wanted.all() {
            self.readers.wake_all();
        }
    }

    fn created(&self, task: TaskRef<'_>, number: u64, at: u64, created: Change, inputs: &[u64]) {
        #[cfg(feature = "tracing")]
        if let Some(spans) = &self.spans {
            run_user_code(|| spans.created(task, number, inputs));
        }
        let event = |change| TaskEvent { at, task: number, change };
        let created = [event(created)];
        let inputs = inputs.iter().map(|input| event(Change::Input(*input)));
        match key_change(task, number) {
            None => self.write(created.into_iter().chain(inputs)),
            Some(key) => self.write(created.into_iter().chain([event(key)]).chain(inputs)),
        }
        self.grant(at);
    }

    #[cfg(feature = "tracing")]
    fn trace(&self, number: u64, moment: observer::TaskEvent<'_>) {
        let Some(spans) = &self.spans else { return };
        run_user_code(|| match moment {
            observer::TaskEvent::Polled { worker } => spans.entered(number, worker),
            observer::TaskEvent::Suspended { .. } => spans.exited(number),
            observer::TaskEvent::Paused { why: PausedFor::Delay, attempt } => {
                spans.attempt(number, attempt + 1);
            }
            observer::TaskEvent::Ended(status) => spans.ended(number, status),
            _ => {}
        });
    }

    /// Grants the tokens of the ticks that have passed since the last grant.
    fn grant(&self, now: u64) {
        let before = self.granted_at.load(Ordering::Relaxed);
        let ticks = now.saturating_sub(before) / nanos(TICK);
        // Many threads may see the end of a tick: the one that sets the new time grants the tokens.
        if ticks > 0
            && self
                .granted_at
                .compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            let more = TOKENS.saturating_mul(i64::try_from(ticks).unwrap_or(i64::MAX));
            let tokens = self.tokens.load(Ordering::Relaxed).max(0);
            let granted = tokens.saturating_add(more).min(MAX_TOKENS);
            self.granted.store(granted, Ordering::Relaxed);
            self.tokens.store(granted, Ordering::Relaxed);
        }
    }

    /// Sets the timer of the next grant. Until then new tasks don't ask.
    #[cold]
    fn grant_later(&self) {
        // The rate of new tasks follows from how long the tokens of the last grant have lasted.
        let granted = self.granted.load(Ordering::Relaxed).unsigned_abs();
        let lasted = self.now().saturating_sub(self.granted_at.load(Ordering::Relaxed));
        let is_overloaded = granted.saturating_mul(nanos(TICK)) > OVERLOAD.saturating_mul(lasted);
        let more = if is_overloaded { TOKENS_OVERLOADED } else { TOKENS };
        let waker = Waker::from(Arc::new(Grant { recorder: self.this.clone(), more }));
        let before = {
            // Under one lock: of two threads, the one that clears `Wanted` last must also have its timer kept.
            let mut timer = self.grant_timer.lock();
            self.wanted.set_some(false);
            let new = alarm(TICK, waker);
            if new.is_none() {
                // The system refuses the timer thread. Too many recorded tasks are better than none from now on.
                self.grant_now(more);
            }
            std::mem::replace(&mut *timer, new)
        };
        drop(before);
    }

    fn grant_now(&self, more: i64) {
        self.granted_at.store(self.now(), Ordering::Relaxed);
        self.granted.store(more, Ordering::Relaxed);
        self.tokens.store(more, Ordering::Relaxed);
        self.wanted.set_some(true);
    }

    /// Returns the time by the clock of an engine that isn't seeded.
    fn now(&self) -> u64 {
        nanos(self.began.elapsed())
    }
}

/// What makes the next stall check.
pub(crate) enum NextCheck {
    ByTimer {
        _timer: Option<RealTimer>,
    },
    /// No task is left: the next one calls this.
    ByTask(Box<dyn FnOnce() + Send>),
}

/// The waker of the timer of the next grant.
struct Grant {
    recorder: Weak<Recorder>,
    more: i64,
}

impl Wake for Grant {
    fn wake(self: Arc<Self>) {
        if let Some(recorder) = self.recorder.upgrade() {
            recorder.grant_now(self.more);
        }
    }
}

/// Returns the event for the key of a task, unless the key is made of its name and number.
fn key_change(task: TaskRef<'_>, number: u64) -> Option<Change> {
    let extras = task.extras()?;
    if let Some(key) = extras.key.get() {
        let is_numbered = task.state.load() & KEYED == 0
            && key.rsplit_once('-').is_some_and(|(_, end)| end.parse() == Ok(number));
        return (!is_numbered).then(|| Change::Keyed(key.clone()));
    }
    extras.derived.map(|digest| Change::Derived(Box::new(digest.get())))
}

impl Observer for EngineObserver {
    fn demand(&self) -> &Demand {
        &self.0.wanted
    }

    fn wants(&self) -> bool {
        let recorder = &*self.0;
        if recorder.wanted.take_any() {
            recorder.resume_stall_checks();
        }
        if recorder.wanted.all() {
            return true;
        }
        // Loaded first, so that a burst doesn't write to a cache line that all threads share.
        if recorder.tokens.load(Ordering::Relaxed) <= 0 {
            return false;
        }
        match recorder.tokens.fetch_sub(1, Ordering::Relaxed) {
            // Exactly one thread takes the last token, and sets the timer.
            1 => {
                recorder.grant_later();
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
        let event = |change| TaskEvent { at, task: number, change };
        let one = |change| recorder.write([event(change)]);
        let awaits = |from: &u64| event(Change::Awaits(*from));
        match moment {
            observer::TaskEvent::Created { name, status, is_old, by, inputs } => {
                let (by, priority) = (by.unwrap_or_default(), task.priority());
                let at = if is_old { nanos(recorder.since) } else { at };
                let submitted_at = task.submitted_at;
                let created = Change::Created { name, priority, status, by, is_old, submitted_at };
                recorder.created(task, number, at, created, inputs);
            }
            observer::TaskEvent::Ready => one(Change::Ready),
            observer::TaskEvent::Polled { worker } => {
                one(Change::Polled(u32::try_from(worker).unwrap_or(u32::MAX)));
            }
            observer::TaskEvent::Suspended { awaits: [] } => one(Change::Suspended),
            observer::TaskEvent::Suspended { awaits: all } => {
                let suspended = [event(Change::Suspended)];
                recorder.write(suspended.into_iter().chain(all.iter().map(awaits)));
            }
            observer::TaskEvent::Awaits(all) => recorder.write(all.iter().map(awaits)),
            observer::TaskEvent::Paused { why: PausedFor::Limit, .. } => one(Change::Limited),
            observer::TaskEvent::Paused { why: PausedFor::Delay, attempt } => {
                one(Change::Delayed(attempt))
            }
            observer::TaskEvent::Resumed => one(Change::Unparked),
            observer::TaskEvent::Ended(status @ (Status::Failed | Status::Cancelled)) => {
                let text = |error: Error| match status {
                    Status::Failed => Some(format!("{error:#}").into()),
                    _ => error.reason().map(Arc::from),
                };
                let error = task.failure().and_then(text);
                let error = error.map(|text| event(Change::Error(text)));
                recorder.write([event(Change::Ended(status))].into_iter().chain(error));
            }
            observer::TaskEvent::Ended(status) => one(Change::Ended(status)),
        }
        recorder.wake_if_awaited();
    }

    fn released(&self, number: u64) {
        #[cfg(feature = "tracing")]
        if let Some(spans) = &self.0.spans {
            spans.freed(number);
        }
        // A seeded client applies events as they were written, so the time is not needed; its clock is the engine's.
        let at = match self.0.seeded {
            true => 0,
            false => self.0.now(),
        };
        self.0.write([TaskEvent { at, task: number, change: Change::Freed }]);
    }

    fn closed(&self) {
        self.0.set_next_stall_check(None);
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.readers.wake_all();
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

impl Drop for EngineObserver {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
        self.0.readers.wake_all();
    }
}

/// A guard: every new task is watched until it's dropped.
pub(crate) struct WatchAll(Arc<Recorder>);

impl Drop for WatchAll {
    fn drop(&mut self) {
        self.0.wanted.remove_all();
    }
}
