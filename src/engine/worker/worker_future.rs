//! A worker: a future that runs tasks while it's polled.
//!
//! | `Mode` | meaning | next |
//! |---|---|---|
//! | `New` | not polled yet; the engine doesn't know it | `Running` by the first poll |
//! | `Running` | runs tasks, or waits for its host to poll it again after its budget | `Idle`, `Exited` |
//! | `Idle` | entered in the list of idle workers; suspended | `Running` by the next poll |
//! | `Exited` | removed from the engine, its tasks handed over | final |
//!
//! # Order of the queues
//!
//! 1. tasks with a priority above 0
//! 2. the worker's own queues: mostly tasks that finished ones made ready, with turns for the others
//! 3. tasks from the shared queues
//! 4. the queues of other workers, by stealing
//! 5. branches of [joins](crate::engine::parallel::join) that other threads have shared
//! 6. the rest of the priority queue
//!
//! Every [`SHARED_INTERVAL`] tasks, a batch of each shared queue is moved to the end of the worker's own, and a branch is run,
//! in any case. So a task never waits for more than one branch a worker for each [`SHARED_INTERVAL`] tasks before it; a join
//! waits for no worker, since its own thread runs what none has taken.
//!
//! No task of priority 0 starves: with one worker, those that run before one that is ready are bounded. A batch of 64 is
//! moved every 61 tasks, and of 32 tasks at least one is the oldest of each of the own queues, so a task that has `s` others
//! before it in a shared queue, and then `n` in the own one, is run after at most `61 * (s / 64 + 1) + 32 * (n + 1)` tasks.
//! Those of higher priorities don't count: they go first, always.
//!
//! # Wakes
//!
//! A worker that was woken has a *pending wake* until it calls
//! [`finish_wake`](crate::engine::queue::idle::IdleWorkers::finish_wake): when it has found a task, when it goes idle
//! again, or when it exits. After that it checks the queues once more and wakes the next worker if they aren't empty,
//! because producers woke no other worker while the wake was pending. If it was about to go idle, and finds tasks by that, it
//! wakes the next worker when it has taken the first of them: the others may be in the queues of a worker that is busy. See
//! [`queue::idle`](crate::engine::queue::idle) for why no wake is lost.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::engine::base::sync::{Instant, fence};
use crate::engine::base::user_code::wake_by_ref;
use crate::engine::core::activity::Activity;
use crate::engine::core::context::{self, ThreadContext};
use crate::engine::core::host_poll::{DeferredWakes, host_poll};
use crate::engine::core::{CoreRef, engine_refs};
use crate::engine::parallel::join;
use crate::engine::queue::local::{Local, Stealers};
use crate::engine::task::header::{Task, TaskRef};
use crate::engine::worker::run::run;

/// The most tasks in one poll of a worker, after which the worker's host may run something else. At some tens of
/// nanoseconds for the smallest tasks, that is a few microseconds.
const BUDGET: u32 = 64;

/// The longest time in one poll of a worker that runs on a thread of the caller's, unless a single task takes longer.
/// A busy tokio checks its timers and sockets every 61 polls. With tasks that take longer than the smallest, the budget
/// alone would keep it from them for tenths of a second; with this it's about a hundredth.
const TIME_SLICE: Duration = Duration::from_micros(100);

/// The most tasks to take from a shared queue at a time.
const BATCH: usize = 64;

/// The number of tasks after which a worker takes from the shared queues though its own have tasks, so that no task there
/// waits forever. The same number as tokio's.
const SHARED_INTERVAL: u32 = 61;

pub(crate) struct WorkerFuture {
    core: CoreRef,
    local: Local,
    /// The queues of the other workers, as of `others_version`.
    others: RefCell<Vec<Stealers>>,
    others_version: Cell<usize>,
    /// Unique in the process.
    id: usize,
    /// Unique among the present workers of its engine; set by the first poll.
    number: usize,
    /// Runs on a thread of the client's.
    own: bool,
    activity: Arc<Activity>,
    /// Those of its polls by a host outside the client.
    deferred_wakes: Arc<DeferredWakes>,
    mode: Mode,
    /// The number of tasks to take until the shared queues have their turn.
    ticks: Cell<u32>,
    /// It's the turn of a job, though there may be tasks.
    is_for_job: Cell<bool>,
    wake: Cell<PendingWake>,
    /// The number of steps of a seeded client that it has seen.
    seen_steps: u16,
}

/// A wake of a worker of the client's own.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum PendingWake {
    #[default]
    None,
    /// `IdleWorkers::finish_wake` is due.
    Pending,
    /// It was finished when the worker had found nothing and was about to go idle, but then there were tasks again. They may
    /// have been queued while it was pending, when nobody else was woken.
    InVain,
}

/// The reason why a worker stops running tasks for now.
enum Stop {
    OutOfWork,
    OutOfBudget,
    Exit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    New,
    Running,
    Idle,
    Exited,
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
            activity: Arc::default(),
            deferred_wakes: Arc::default(),
            mode: Mode::New,
            ticks: Cell::new(SHARED_INTERVAL),
            is_for_job: Cell::new(false),
            wake: Cell::new(PendingWake::None),
            seen_steps: 0,
        }
    }

    /// Enters `Running`: registers a new worker, or takes an idle one out of the list.
    fn begin_running(&mut self) {
        match self.mode {
            Mode::New => {
                let (activity, queues) = (self.activity.clone(), self.local.stealers());
                self.number = self.core.add_worker(self.id, self.own, activity, queues);
            }
            Mode::Idle => {
                // Wakes of hosted workers aren't counted as pending.
                if self.core.idle_workers.leave(self.id) && self.own {
                    self.wake.set(PendingWake::Pending);
                }
            }
            Mode::Running | Mode::Exited => {}
        }
        self.mode = Mode::Running;
    }

    /// Finishes a pending wake, and wakes the next worker if there is more to do.
    fn finish_wake(&self) {
        let wake = self.wake.take();
        if wake == PendingWake::Pending {
            self.core.idle_workers.finish_wake();
        }
        if wake != PendingWake::None && self.core.has_queued() {
            self.core.wake_worker();
        }
    }

    #[inline(always)]
    fn next(&self) -> Option<Task> {
        let task = self.pick();
        // A task in `next`, which only this worker can reach, must not wait while the worker runs another one.
        if task.is_some() && self.local.publish_next() {
            self.wake_for_local();
        }
        task
    }

    /// Takes a task from the queues, in the order that the module describes.
    #[inline(always)]
    fn pick(&self) -> Option<Task> {
        let core = &*self.core;
        if let Some(seeded) = &core.seeded {
            return seeded.pop();
        }
        if let Some(task) = core.priority_queue.pop_above_zero() {
            return Some(task);
        }
        match self.ticks.get() {
            1 => {
                self.refill();
                if core.jobs.len() > 0 {
                    self.is_for_job.set(true);
                    return None;
                }
            }
            ticks => self.ticks.set(ticks - 1),
        }
        self.pick_own().or_else(|| self.pick_elsewhere())
    }

    /// Takes a task from this worker's own queues.
    #[inline(always)]
    fn pick_own(&self) -> Option<Task> {
        self.local.pop_fresh().or_else(|| self.local.pop()).and_then(|task| self.unless_low(task))
    }

    /// Returns the task or, if its priority was lowered below zero while it was in a worker's own queue, another one.
    #[inline(always)]
    fn unless_low(&self, task: Task) -> Option<Task> {
        if task.priority() < 0 { self.put_off(task) } else { Some(task) }
    }

    /// Queues a task whose priority was lowered below zero by that priority, and takes another one from the own queues.
    #[cold]
    fn put_off(&self, mut task: Task) -> Option<Task> {
        while task.priority() < 0 {
            self.core.priority_queue.push(task.priority(), task);
            // Another worker may have nothing else to do.
            self.core.pushed(false);
            task = self.local.pop_fresh().or_else(|| self.local.pop())?;
        }
        Some(task)
    }

    /// Takes a task from the queues, after none was found in this worker's own.
    #[inline(never)]
    fn pick_elsewhere(&self) -> Option<Task> {
        self.refill();
        // In another cycle: `queue` was empty.
        self.pick_own().or_else(|| self.steal()).or_else(|| {
            let core = &*self.core;
            if core.jobs.len() == 0 { core.priority_queue.pop() } else { None }
        })
    }

    /// Runs tasks until the budget is used up, or the time slice that began at `since`.
    fn run_some(&self, budget: &mut u32, since: Option<Instant>) -> Stop {
        let context = ThreadContext::of_worker(&self.core, &self.local, self.number);
        context.enter(|| {
            loop {
                if self.must_exit(false) {
                    return Stop::Exit;
                }
                if *budget == 0 {
                    return Stop::OutOfBudget;
                }
                let Some(task) = self.next() else {
                    let is_turn = self.is_for_job.take();
                    if self.run_job(&context) {
                        *budget -= 1;
                        if since.is_some_and(|since| since.elapsed() >= TIME_SLICE) {
                            *budget = 0;
                        }
                    } else if !is_turn {
                        return Stop::OutOfWork;
                    }
                    continue;
                };
                // Before the task runs: it may take long, and others may be queued.
                self.finish_wake();
                let awaits_others = run(&self.core, &context, &self.activity, task);
                *budget -= 1;
                // Tokio has a budget for each poll of its own tasks, such as this worker. Without any left, further tasks of
                // this worker would be polled in vain.
                if awaits_others && since.is_some() && !self.local.is_empty() {
                    *budget = 0;
                }
                // Reading the clock takes as long as a small task, so it's read after 1, 2, 4, 8 and so on.
                if (BUDGET - *budget).is_power_of_two()
                    && since.is_some_and(|since| since.elapsed() >= TIME_SLICE)
                {
                    *budget = 0;
                }
            }
        })
    }

    /// Runs the branch of a join that has been waiting longest for a worker. False if there is none.
    #[cold]
    fn run_job(&self, context: &ThreadContext<'_>) -> bool {
        let Some(job) = self.core.jobs.take() else { return false };
        // As before a task runs.
        if self.local.publish_next() {
            self.wake_for_local();
        }
        self.finish_wake();
        if let Some(task) = job.group.origin.task {
            // SAFETY: the task stays in its poll until the job is done.
            self.activity.begin_poll(unsafe { TaskRef::new(task) });
        }
        join::run_job(context, 0, job);
        self.activity.end_poll();
        true
    }

    /// Moves a batch of each shared queue to the end of this worker's own.
    #[inline(never)]
    fn refill(&self) {
        self.ticks.set(SHARED_INTERVAL);
        let core = &*self.core;
        core.priority_queue.take_zero(BATCH, |task| self.local.push(task));
        let woken_left = core.injector.woken.take(BATCH, |task| self.local.push_fresh(task));
        let left = core.injector.submitted.take(BATCH, |task| self.local.push(task)) || woken_left;
        if left || !self.local.is_empty() {
            self.wake_for_local();
        }
    }

    /// Wakes a worker for the tasks in this one's own queues.
    fn wake_for_local(&self) {
        // The pushes were plain stores: they must be visible before idle workers are counted; see `queue::idle`.
        fence(Ordering::SeqCst);
        self.core.wake_worker();
    }

    /// Moves tasks from another worker's queues to this one's, and returns the first of them.
    fn steal(&self) -> Option<Task> {
        // The list is cached, because the engine's own is behind a lock.
        let version = self.core.workers_version();
        let others = &mut *self.others.borrow_mut();
        if version != self.others_version.get() {
            *others = self.core.other_workers(self.id);
            self.others_version.set(version);
        }
        if others.is_empty() {
            return None;
        }
        // From a random start, so that thieves don't all contend for the same victim.
        let start = fastrand::usize(..others.len());
        let (first, second) = others.split_at(start);
        let task = second.iter().chain(first).find_map(|other| self.local.steal_from(other))?;
        if !self.local.is_empty() {
            // A worker that goes idle may have checked this queue before the move and the victim's after it.
            self.wake_for_local();
        }
        self.unless_low(task)
    }

    /// Moves the tasks in this worker's own queues to the shared ones.
    fn hand_over_tasks(&mut self) {
        let mut tasks: Vec<_> = self.local.drain().collect();
        self.core.schedule_all(&mut tasks, None);
    }

    /// Whether this worker must exit: it's a surplus one, or the engine is closed and done. Call it once per decision:
    /// with true, a worker of the client's own no longer counts as alive.
    #[inline]
    fn must_exit(&self, out_of_work: bool) -> bool {
        if self.own {
            self.core.threads.may_exit(&self.core, out_of_work)
        } else {
            out_of_work && self.core.may_exit()
        }
    }

    fn exit(&mut self) -> Poll<()> {
        self.mode = Mode::Exited;
        self.hand_over_tasks();
        self.core.worker_exited(self.id, self.own);
        if self.wake.take() == PendingWake::Pending {
            self.core.idle_workers.finish_wake();
        }
        // The wake may have been for tasks that this worker leaves to others.
        if self.core.has_queued() {
            self.core.wake_worker();
        }
        Poll::Ready(())
    }
}

/// Says that the host of a worker is polling it, until it's dropped.
struct Hosted(Arc<Activity>);

impl Hosted {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.is_hosted.store(true, Ordering::Relaxed);
        Self(activity.clone())
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        self.0.is_hosted.store(false, Ordering::Relaxed);
    }
}

impl WorkerFuture {
    /// Polls it for a host outside the client, and notes that it's being polled.
    pub(crate) fn poll_hosted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // The stack would grow with each task that does so.
        assert!(
            !context::works_for(&self.core),
            "a worker of the client `{}` was polled by a task that another of its workers polls on this thread: spawn \
             workers outside of the client's own tasks, and await handles there",
            self.core.name
        );
        let _hosted = Hosted::begin(&self.activity);
        let wakes = self.deferred_wakes.clone();
        host_poll(&wakes, || Pin::new(self).poll(cx))
    }
}

impl Future for WorkerFuture {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.mode == Mode::Exited {
            return Poll::Ready(());
        }
        this.begin_running();
        // One task per poll for a seeded client, so that the thread that drives it stops at the same point in each run.
        let mut budget = if this.core.seeded.is_some() { 1 } else { BUDGET };
        // A thread of the client's own runs nothing else, so its workers need no time slice.
        let since = (!this.own && this.core.seeded.is_none()).then(Instant::now);
        loop {
            match this.run_some(&mut budget, since) {
                Stop::OutOfWork => {}
                Stop::OutOfBudget => {
                    if this.local.publish_next() {
                        this.wake_for_local();
                    }
                    if let Some(seeded) = &this.core.seeded {
                        this.seen_steps = seeded.steps();
                    }
                    // The host polls this worker again after other futures.
                    wake_by_ref(cx.waker());
                    return Poll::Pending;
                }
                Stop::Exit => return this.exit(),
            }
            if this.must_exit(true) {
                return this.exit();
            }
            // Virtual time passes only when no task can run, and code outside of them had its turn.
            if let Some(seeded) =
                this.core.seeded.as_ref().filter(|seeded| seeded.clock.has_timer())
            {
                if !seeded.may_advance(&mut this.seen_steps) {
                    wake_by_ref(cx.waker());
                    return Poll::Pending;
                }
                if seeded.advance() {
                    continue;
                }
            }
            let wake = this.wake.take();
            if wake == PendingWake::Pending {
                this.core.idle_workers.finish_wake();
            }
            this.core.idle_workers.enter(this.id, this.own, cx.waker().clone());
            this.mode = Mode::Idle;
            // A producer that queued a task before the entry saw no idle worker, so the queues are checked again.
            if this.core.has_queued() {
                this.begin_running();
                if wake != PendingWake::None && this.wake.get() == PendingWake::None {
                    this.wake.set(PendingWake::InVain);
                }
                continue;
            }
            if this.must_exit(true) {
                // Exiting needs the worker out of the list of idle ones.
                this.begin_running();
                return this.exit();
            }
            this.core.notify_if_idle();
            return Poll::Pending;
        }
    }
}

impl Drop for WorkerFuture {
    fn drop(&mut self) {
        match self.mode {
            Mode::New | Mode::Exited => {}
            Mode::Running | Mode::Idle => {
                if self.own {
                    // Its thread unwinds. No code of the user's can cause that, but the count must be right in any case.
                    self.core.threads.lost_one();
                }
                self.begin_running();
                let _ = self.exit();
            }
        }
        engine_refs::drain(&self.core);
    }
}

/// What came of [`drive_seeded`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drive {
    Done,
    /// It has made a step, and has woken the waker for the next one.
    GaveWay,
    /// No task can run. The waker is woken when one can.
    Idle,
}

/// Makes a step of a seeded client for a thread outside its workers that awaits one of its tasks, unless `done` returns true.
/// `seen` is kept for the future that awaits; see [`queue::seeded`](crate::engine::queue::seeded).
pub(crate) fn drive_seeded(
    core: &CoreRef,
    waker: &Waker,
    seen: &mut u16,
    done: impl Fn() -> bool,
) -> Drive {
    // The worker on this thread runs the tasks once the current one is suspended.
    if context::on_worker() {
        return Drive::Idle;
    }
    // A waker without data wakes nothing: its owner polls once, to see whether there is a result. It gets what can be had.
    let polls_once = waker.data().is_null();
    loop {
        let mut worker = pin!(WorkerFuture::new(core.clone(), false));
        worker.seen_steps = *seen;
        let mut cx = Context::from_waker(Waker::noop());
        while !done() {
            if worker.as_mut().poll(&mut cx).is_ready() || worker.mode == Mode::Idle {
                break;
            }
            *seen = worker.seen_steps;
            if !polls_once && !done() {
                wake_by_ref(waker);
                // The waker may have ended what is awaited.
                return if done() { Drive::Done } else { Drive::GaveWay };
            }
        }
        if done() {
            return Drive::Done;
        }
        // As in `WorkerFuture::poll`: enter, then check the queues again.
        core.idle_workers.enter_outside(waker.clone());
        if !core.has_queued() {
            return Drive::Idle;
        }
    }
}
