//! A worker: a future that runs tasks while it's polled.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::engine::base::sync::{Instant, fence};
use crate::engine::core::context::{self, ThreadContext};
use crate::engine::core::{CoreRef, engine_refs};
use crate::engine::queue::local::{Local, Stealers};
use crate::engine::task::header::Task;
use crate::engine::worker::run::run;

/// Tasks a worker runs before it lets its host run something else. At some tens of nanoseconds for
/// the smallest tasks, that is a few microseconds.
const BUDGET: u32 = 64;

/// How long a worker runs tasks before it lets a host that isn't ours run something else. tokio looks at its
/// timers and sockets after 61 polls if it has no rest, so with tasks that take longer than the smallest the budget
/// alone would keep it from them for tenths of a second; with this it's about a hundredth.
const TURN: Duration = Duration::from_micros(100);

/// Tasks taken from the shared queue at a time.
const BATCH: usize = 64;

/// After so many tasks of its own a worker looks at the shared queue, so that nothing there waits for
/// ever. tokio's number.
const LOOK_OUTSIDE: u32 = 61;

pub(crate) struct WorkerFuture {
    core: CoreRef,
    local: Local,
    others: RefCell<Vec<Stealers>>,
    others_version: Cell<usize>,
    id: usize,
    /// Among the workers of its engine, from when it's first polled.
    number: usize,
    /// On a thread of the client's.
    own: bool,
    mode: Mode,
    ticks: Cell<u32>,
    /// It was woken and hasn't said that it arrived.
    on_its_way: Cell<bool>,
}

/// Why a worker stops running tasks for now.
enum Stop {
    OutOfWork,
    OutOfBudget,
    Leave,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    New,
    Awake,
    Asleep,
    Gone,
}

impl WorkerFuture {
    pub(crate) fn new(core: CoreRef, own: bool) -> Self {
        static IDS: AtomicUsize = AtomicUsize::new(0);
        Self {
            core,
            local: Local::new(),
            others: RefCell::default(),
            others_version: Cell::new(0),
            id: IDS.fetch_add(1, Ordering::Relaxed),
            number: 0,
            own,
            mode: Mode::New,
            ticks: Cell::new(0),
            on_its_way: Cell::new(false),
        }
    }

    fn wake_up(&mut self) {
        match self.mode {
            Mode::New => {
                self.number = self.core.add_worker(self.id, self.own, self.local.stealers());
            }
            Mode::Asleep => {
                if self.core.idle_workers.leave(self.id) && self.own {
                    self.on_its_way.set(true);
                }
            }
            Mode::Awake | Mode::Gone => {}
        }
        self.mode = Mode::Awake;
    }

    /// Says, once, that the wake has been used, and passes it on if there's more to do.
    fn arrived(&self) {
        if self.on_its_way.take() {
            self.core.idle_workers.finish_wake();
            if self.core.has_queued() {
                self.core.idle_workers.wake_one();
            }
        }
    }

    fn next(&self) -> Option<Task> {
        let task = self.pick();
        // What only this worker can reach is not to wait while it runs another.
        if task.is_some() && self.local.publish_next() {
            self.wake_another();
        }
        task
    }

    fn pick(&self) -> Option<Task> {
        let core = &*self.core;
        if let Some(seeded) = &core.seeded {
            return seeded.pop();
        }
        if let Some(task) = core.priority_queue.pop_above_zero() {
            return Some(task);
        }
        if let Some(task) = self.local.pop_fresh() {
            return Some(task);
        }
        let ticks = self.ticks.get().wrapping_add(1);
        self.ticks.set(ticks);
        if ticks % LOOK_OUTSIDE == 0 {
            self.refill();
            if let Some(task) = core.priority_queue.pop_from_zero() {
                return Some(task);
            }
        }
        if let Some(task) = self.local.pop() {
            return Some(task);
        }
        self.refill();
        if let Some(task) = self.local.pop() {
            return Some(task);
        }
        self.steal().or_else(|| self.local.pop_fresh()).or_else(|| self.core.priority_queue.pop())
    }

    /// Runs tasks until the budget is used up, which it also is when a turn that began at `since` is over.
    fn run_some(&self, budget: &mut u32, since: Option<Instant>) -> Stop {
        let context = ThreadContext::of_worker(&self.core, &self.local, self.number);
        context.enter(|| {
            loop {
                if self.is_to_leave(false) {
                    return Stop::Leave;
                }
                if *budget == 0 {
                    return Stop::OutOfBudget;
                }
                let Some(task) = self.next() else { return Stop::OutOfWork };
                self.arrived();
                run(&self.core, &context, task);
                *budget -= 1;
                // The clock takes as long as a small task: it's looked at after 1, 2, 4, 8 of them.
                if (BUDGET - *budget).is_power_of_two()
                    && since.is_some_and(|since| since.elapsed() >= TURN)
                {
                    *budget = 0;
                }
            }
        })
    }

    /// Moves a batch from the shared queue to the end of this worker's.
    fn refill(&self) {
        if self.core.injector.take(BATCH, |task| self.local.push(task)) || !self.local.is_empty() {
            self.wake_another();
        }
    }

    /// Wakes a worker for what lies in this one's queue.
    fn wake_another(&self) {
        // It was pushed by plain stores: see `Sleepers`.
        fence(Ordering::SeqCst);
        self.core.idle_workers.wake_one();
    }

    fn steal(&self) -> Option<Task> {
        let version = self.core.workers_version();
        let others = &mut *self.others.borrow_mut();
        if version != self.others_version.get() {
            *others = self.core.other_workers(self.id);
            self.others_version.set(version);
        }
        if others.is_empty() {
            return None;
        }
        let start = fastrand::usize(..others.len());
        let (first, second) = others.split_at(start);
        let task = second.iter().chain(first).find_map(|other| self.local.steal_from(other))?;
        if !self.local.is_empty() {
            // One who goes to sleep may have looked here before, and there after these were moved.
            self.wake_another();
        }
        Some(task)
    }

    /// Puts what is left in its queue where others find it.
    fn hand_over(&mut self) {
        let mut tasks: Vec<_> = self.local.drain().collect();
        self.core.schedule_all(&mut tasks, None);
    }

    /// Whether this worker is one too many, or the engine is closed and has nothing left to do.
    fn is_to_leave(&self, out_of_work: bool) -> bool {
        if self.own {
            self.core.threads.may_exit(&self.core, out_of_work)
        } else {
            out_of_work && self.core.may_exit()
        }
    }

    fn leave(&mut self) -> Poll<()> {
        self.mode = Mode::Gone;
        self.hand_over();
        self.core.worker_exited(self.id, self.own);
        if self.on_its_way.take() {
            self.core.idle_workers.finish_wake();
        }
        // It may have been woken for something that it leaves to others.
        if self.core.has_queued() {
            self.core.idle_workers.wake_one();
        }
        Poll::Ready(())
    }
}

impl Future for WorkerFuture {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.mode == Mode::Gone {
            return Poll::Ready(());
        }
        this.wake_up();
        // One step at a time, so that who drives a seeded client stops at the same point each time.
        let mut budget = if this.core.seeded.is_some() { 1 } else { BUDGET };
        // A thread of ours has nothing else to run.
        let since = (!this.own && this.core.seeded.is_none()).then(Instant::now);
        loop {
            match this.run_some(&mut budget, since) {
                Stop::OutOfWork => {}
                Stop::OutOfBudget => {
                    if this.local.publish_next() {
                        this.wake_another();
                    }
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Stop::Leave => return this.leave(),
            }
            if this.is_to_leave(true) {
                return this.leave();
            }
            if this.core.seeded.as_ref().is_some_and(|seeded| seeded.clock.advance()) {
                continue;
            }
            if this.on_its_way.take() {
                this.core.idle_workers.finish_wake();
            }
            this.core.idle_workers.enter(this.id, this.own, cx.waker().clone());
            this.mode = Mode::Asleep;
            if this.core.has_queued() {
                this.wake_up();
                continue;
            }
            if this.is_to_leave(true) {
                this.wake_up();
                return this.leave();
            }
            this.core.notify_if_idle();
            return Poll::Pending;
        }
    }
}

impl Drop for WorkerFuture {
    fn drop(&mut self) {
        match self.mode {
            Mode::New | Mode::Gone => {}
            Mode::Awake | Mode::Asleep => {
                self.wake_up();
                let _ = self.leave();
            }
        }
        engine_refs::drain(&self.core);
    }
}

/// Runs tasks of a seeded client on behalf of one who awaits from outside, until that is `done` or
/// nothing can be run; then the waker is woken when something can. Returns whether it's done.
pub(crate) fn drive_seeded(core: &CoreRef, waker: &Waker, done: impl Fn() -> bool) -> bool {
    if context::on_worker() {
        return false;
    }
    loop {
        let mut worker = pin!(WorkerFuture::new(core.clone(), false));
        let mut cx = Context::from_waker(Waker::noop());
        while !done() {
            if worker.as_mut().poll(&mut cx).is_ready() || worker.mode == Mode::Asleep {
                break;
            }
        }
        if done() {
            return true;
        }
        core.idle_workers.enter_outside(waker.clone());
        if !core.has_queued() {
            return false;
        }
    }
}
