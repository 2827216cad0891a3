//! The interpreter of a script: operations from outside, and the checks after each step.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use ensue::{Client, Worker};

use super::coverage::reached;
use super::events;
use super::model::{Model, Outcome, Phase, Task};
use super::ops::{self, put_stream, take_stream, with_client};
use super::pending_await::PendingAwait;
use super::run_state::{
    self, PlannedPanic, RunState, expect, model, note, panic_point, reentry_point, with,
};
use super::script::{Op, SLOTS, STREAMS, Script};
use super::stream::Stream;
use super::tracked;

/// The limit of steps in which the tasks of a script must become idle.
const MAX_STEPS: usize = 5000;

/// A counter of wakes.
#[derive(Clone, Default)]
struct Wakes(Arc<AtomicUsize>);

/// A waker that counts, and like any user code may panic or call the engine.
struct Counting {
    wakes: Wakes,
    panics: bool,
}

impl Wakes {
    fn new() -> Self {
        Self::default()
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns a new waker each time, so that the engine may drop the last reference to it.
    fn waker(&self, panics: bool) -> Waker {
        Arc::new(Counting { wakes: self.clone(), panics }).into()
    }
}

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.wakes.0.fetch_add(1, Ordering::Relaxed);
        reentry_point("waker");
        if self.panics {
            panic_point("waker");
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        reentry_point("drop of a waker");
    }
}

struct Awaiter {
    waiting: PendingAwait,
    wakes: Wakes,
    /// The count of wakes at the last poll.
    wakes_at_poll: Option<usize>,
}

struct Program {
    awaiters: Vec<Awaiter>,
    worker: Option<Pin<Box<Worker>>>,
    wakes: Wakes,
    /// The count of wakes at which the worker became idle.
    asleep: Option<usize>,
}

/// Runs the script. Returns the failure, if any, and the trace if requested.
pub(crate) fn run(script: &Rc<Script>, trace: bool) -> (Option<String>, Vec<String>) {
    run_state::enter(RunState::new(script.clone(), trace));
    // An explicit number of workers saves the query for the machine's parallelism, which is slow.
    let mut builder = Client::builder();
    if let Some(seed) = script.seed {
        builder = builder.seed(seed);
    }
    let client = builder
        .workers(0)
        .limit("a", script.limits[0])
        .limit("b", script.limits[1])
        .on_unobserved(|error| {
            let (kind, origin) = (error.kind(), error.origin().to_string());
            with(|state| state.unobserved.push((kind, origin)));
            panic_point("unobserved-error callback");
            reentry_point("unobserved-error callback");
        })
        .build();
    let events = script.listens.then(|| events::subscribe(&client));
    let close = Box::pin(client.close());
    with(|state| {
        state.client = Some(client);
        state.close = Some(close);
        state.events = events;
        state.slots.resize_with(SLOTS, || None);
        state.streams.resize_with(STREAMS, || None);
    });
    let mut program =
        Program { awaiters: Vec::new(), worker: None, wakes: Wakes::new(), asleep: None };
    for op in &script.ops {
        note(|| format!("{op:?}"));
        program.run(op);
        program.check();
        if model(|model| model.failure.is_some()) {
            break;
        }
    }
    program.tear_down(script.teardown);
    // Destructors of tasks may have filled slots again.
    (0..SLOTS).for_each(|slot| tracked::put(slot, None));
    (0..STREAMS).for_each(|at| drop(take_stream(at)));
    drop_forgotten();
    let state = run_state::leave();
    state.map_or((None, Vec::new()), |mut state| (state.model.failure.take(), state.take_trace()))
}

impl Program {
    fn run(&mut self, op: &Op) {
        // *Free*: without a seed these wait until the worker was polled again, and is asleep.
        let may_wait = with(|state| state.script.seed.is_none());
        model(|model| model.instant += 1);
        match op {
            Op::Step(times) => (0..*times).for_each(|_| self.step()),
            Op::Drive => self.drive(),
            Op::DropWorker => self.drop_worker(),
            Op::StreamPoll(at) => {
                poll_stream(*at, |stream, cx| stream.poll(cx, false));
            }
            Op::StreamNext(at) => {
                poll_stream(*at, |stream, cx| stream.poll_batch(cx, false));
            }
            Op::Await(slots, kind) => {
                if let Some(waiting) = PendingAwait::new(slots, *kind) {
                    let wakes = Wakes::new();
                    self.awaiters.push(Awaiter { waiting, wakes, wakes_at_poll: None });
                }
            }
            Op::Poll(which) => self.poll((*which).into()),
            Op::Abandon(which) => {
                if !self.awaiters.is_empty() {
                    let at = usize::from(*which) % self.awaiters.len();
                    drop(self.awaiters.remove(at));
                }
            }
            Op::ForgetAwait(which) => {
                if !self.awaiters.is_empty() {
                    let at = usize::from(*which) % self.awaiters.len();
                    let forgotten = self.awaiters.remove(at);
                    let name = forgotten.waiting.name();
                    reached(|| format!("forgot {name} outside"));
                    with(|state| state.forgotten.push(Box::new(forgotten)));
                }
            }
            Op::Idle => {
                let mut idle = None;
                with_client(false, |client| idle = Some(Box::pin(client.idle())));
                let Some(mut idle) = idle else { return };
                let begun = model(|model| model.instant);
                let polled = idle.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                model(|model| {
                    model.refuse_without_worker();
                    let busy = model.is_busy();
                    // It may have been idle for a moment.
                    let was_idle = model.idle_at >= begun;
                    let right = match polled.is_pending() {
                        true => busy || may_wait,
                        false => !busy || was_idle,
                    };
                    model.expect(right, || {
                        format!("`idle` is {polled:?} while `is_busy` is {busy}")
                    });
                });
            }
            Op::Close => {
                let mut close = None;
                with_client(false, |client| close = Some(Box::pin(client.close())));
                let Some(mut close) = close else { return };
                model(|model| model.close(false, false));
                let polled = close.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                model(|model| {
                    model.refuse_without_worker();
                    let busy = model.is_busy();
                    model.expect(polled.is_pending() == busy || may_wait && !busy, || {
                        format!("`close` is {polled:?} while `is_busy` is {busy}")
                    });
                });
            }
            op => catch_own_panic(|| ops::run(op, false)).unwrap_or(()),
        }
    }

    /// Polls the worker once.
    fn step(&mut self) {
        if self.worker.is_none() {
            with_client(false, |client| self.worker = Some(Box::pin(client.worker())));
        }
        let Some(worker) = &mut self.worker else { return };
        model(|model| {
            model.worker = true;
            model.instant += 1;
            // A task that is about to wait for a limit lends its priority, and may have been dropped before the next poll.
            model.lend_all();
        });
        note(|| " step".into());
        let before = self.wakes.get();
        let waker = self.wakes.waker(false);
        let polled = worker.as_mut().poll(&mut Context::from_waker(&waker));
        self.asleep = (polled.is_pending() && self.wakes.get() == before).then_some(before);
        if polled.is_ready() {
            let open = model(|model| !model.is_closed());
            expect(!open, || "a worker of an open client exited".into());
            self.drop_worker();
        }
    }

    fn drop_worker(&mut self) {
        self.asleep = None;
        let Some(worker) = self.worker.take() else { return };
        model(|model| {
            model.worker = false;
            model.refuse_without_worker();
        });
        drop(worker);
    }

    /// Polls the worker until nothing is ready and no timer is left.
    fn drive(&mut self) {
        for _ in 0..MAX_STEPS {
            self.step();
            if self.worker.is_none() || self.asleep.is_some() {
                break;
            }
        }
        if self.worker.is_some() {
            let rests = self.asleep.is_some();
            expect(rests, || "the tasks don't become idle".into());
            model(Model::check_stuck);
        }
    }

    fn poll(&mut self, which: usize) {
        if self.awaiters.is_empty() {
            return;
        }
        let at = which % self.awaiters.len();
        let awaiter = &mut self.awaiters[at];
        let waker = awaiter.wakes.waker(true);
        let before = awaiter.wakes.get();
        let waiting = &mut awaiter.waiting;
        let polled = catch_own_panic(|| waiting.poll(&mut Context::from_waker(&waker), None));
        awaiter.wakes_at_poll = Some(before);
        if polled != Some(false) {
            drop(self.awaiters.remove(at));
        }
    }

    fn check(&mut self) {
        for slot in 0..SLOTS {
            let status = with(|state| {
                let tracked = state.slots[slot].as_ref()?;
                Some((tracked.id, tracked.handle().status()))
            });
            if let Some((id, status)) = status {
                model(|model| model.check_status(id, status));
            }
        }
        for awaiter in &self.awaiters {
            let woken = awaiter
                .wakes_at_poll
                .is_none_or(|wakes_at_poll| awaiter.wakes.get() > wakes_at_poll);
            if !woken {
                let (ready, suspension) =
                    (awaiter.waiting.is_ready(), awaiter.waiting.suspension());
                expect(!ready, || format!("an await of {suspension:?} was not woken"));
            }
        }
        if self.asleep.is_some_and(|before| self.wakes.get() == before) {
            model(|model| {
                let ready = (0..model.tasks.len()).find(|id| model.is_runnable(*id));
                model.expect(ready.is_none(), || {
                    format!("the worker is idle while t{ready:?} is ready")
                });
                let hangs = (0..model.tasks.len()).find(|id| model.is_in_cycle(*id));
                model.expect(hangs.is_none(), || format!("t{hangs:?} hangs in a cycle"));
            });
        }
        with(check_alive);
    }

    fn tear_down(&mut self, order: u8) {
        model(|model| model.tasks.iter().for_each(cover_outcome));
        note(|| format!("the end, {order:b}"));
        let passed = model(|model| model.failure.is_none());
        if order & 1 != 0 && passed {
            self.drive();
        }
        if order & 2 != 0 {
            ops::run(&Op::DropClient, false);
        }
        if order & 4 != 0 {
            self.drop_worker();
        }
        (0..STREAMS).for_each(|at| drop(take_stream(at)));
        if order & 8 != 0 {
            self.awaiters.clear();
        }
        (0..SLOTS).for_each(|slot| tracked::put(slot, None));
        self.awaiters.clear();
        if !passed {
            (0..STREAMS).for_each(|at| drop(take_stream(at)));
            let client = with(|state| state.client.take());
            drop((client, self.worker.take()));
            return;
        }
        if order & 16 != 0 {
            drop_forgotten();
        }
        self.check();
        self.drive();
        (0..SLOTS).for_each(|slot| tracked::put(slot, None));
        (0..STREAMS).for_each(|at| drop(take_stream(at)));
        self.drive();
        // A detached task may hang, or leave handles of other tasks in slots.
        let empty =
            with(|state| state.slots.iter().all(Option::is_none) && state.forgotten.is_empty());
        let ended = empty && model(|model| model.tasks.iter().all(|task| task.outcome().is_some()));
        with_client(false, |client| {
            let held = client.tasks_in_memory();
            // A leaked timer would keep its task in memory.
            expect(!ended || held == 0, || format!("{held} tasks are held at the end"));
            if ended && model(|model| !model.is_closed()) {
                check_limits(client);
            }
        });
        ops::run(&Op::DropClient, false);
        self.drop_worker();
        let close = with(|state| state.close.take());
        if let (Some(mut close), true) = (close, model(|model| model.clients > 0)) {
            // A task owns a `map_stream`, which keeps the client open.
            model(|model| model.close(false, false));
            let closed = close.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            expect(closed.is_ready(), || "`close` is pending at the end".into());
        }
        (0..SLOTS).for_each(|slot| tracked::put(slot, None));
        (0..STREAMS).for_each(|at| drop(take_stream(at)));
        with(|state| state.reentering = true);
        drop_forgotten();
        with(|state| state.reentering = false);
        self.check();
        with(|state| {
            let alive = state.alive.clone();
            for (id, alive) in alive.into_iter().enumerate() {
                let values = if alive.leaked { 0 } else { alive.values };
                let freed = alive.functions + alive.futures + values == 0;
                state.model.expect(freed, || format!("t{id} leaked {alive:?}"));
            }
            check_unobserved(state);
        });
        events::check();
    }
}

/// Counts how a task that has forgotten awaits stands when the script is over.
fn cover_outcome(task: &Task) {
    if !task.forgotten.is_empty() {
        reached(|| match task.phase {
            Phase::Ended(Outcome::Value) => "has forgotten: Value".into(),
            Phase::Ended(Outcome::Error(kind, _)) => format!("has forgotten: {kind:?}"),
            _ => "has forgotten: runs".into(),
        });
    }
}

/// Drops forgotten futures and handles, which may forget others.
fn drop_forgotten() {
    while let Some(forgotten) = with(|state| state.forgotten.pop()) {
        drop(forgotten);
    }
}

/// Runs code from outside that may clone a value for itself. Returns `None` if that clone panicked.
fn catch_own_panic<R>(code: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(result) => Some(result),
        Err(payload) => {
            let own = with(|state| std::mem::take(&mut state.clone_panicked));
            if !own || !payload.is::<PlannedPanic>() {
                resume_unwind(payload);
            }
            model(|model| {
                model.lenient = false;
                model.abandoned_in_await.clear();
                model.refuse_without_worker();
            });
            None
        }
    }
}

/// Polls a stream, which is taken out of its slot meanwhile, since user code may access the slot. The stream
/// is dropped if the clone of a value panics.
fn poll_stream(at: usize, poll: impl FnOnce(&mut Stream, &mut Context<'_>) -> bool) {
    let Some(mut stream) = take_stream(at) else { return };
    let wakes = Wakes::new();
    let waker = wakes.waker(true);
    let stream = catch_own_panic(|| {
        poll(&mut stream, &mut Context::from_waker(&waker));
        stream
    });
    if stream.is_some() {
        put_stream(at, stream);
    }
}

/// Checks that all of the limits was returned.
fn check_limits(client: &Client) {
    let [a, b] = model(|model| model.capacity);
    // No reentrant call may acquire a part of the limits.
    with(|state| state.reentering = true);
    let all = client.task().acquire_many("a", a).acquire_many("b", b).spawn(async {});
    let mut worker = Box::pin(client.worker());
    let cx = &mut Context::from_waker(Waker::noop());
    // Entries of ended tasks may still be in the queue.
    let done = (0..100).any(|_| {
        let _ = worker.as_mut().poll(cx);
        all.is_finished()
    });
    expect(done, || format!("a task that takes the limits whole is {all:?} at the end"));
    drop((all, worker));
    with(|state| state.reentering = false);
}

/// Checks which parts of each task are in memory.
fn check_alive(state: &mut RunState) {
    for id in 0..state.model.tasks.len() {
        let alive = *state.alive(id);
        let model = &mut state.model;
        let (phase, due) = (model.tasks[id].phase.clone(), model.tasks[id].callbacks_due);
        let future = match phase {
            Phase::Suspended(_) => alive.futures == 1,
            Phase::Ended(_) => alive.futures == 0,
            _ => alive.futures <= 1,
        };
        model.expect(future, || format!("t{id} is {phase:?} and has {} futures", alive.futures));
        let code = model.keeps_function(id).is_none_or(|keeps| keeps == (alive.functions > 0));
        model.expect(code, || format!("t{id} is {phase:?} and has {} functions", alive.functions));
        let ended = matches!(phase, Phase::Ended(_));
        let value = model.may_live(id) && ended || alive.values == 0 || alive.leaked;
        model.expect(value, || format!("t{id} is {phase:?} and has {} values", alive.values));
        model.expect(alive.callbacks == due, || {
            format!("{} callbacks of t{id} were called, not {due}", alive.callbacks)
        });
        let running = matches!(phase, Phase::Running | Phase::Deciding(_));
        model.expect(!running, || format!("t{id} is {phase:?} between steps"));
    }
}

/// Checks the reported unobserved errors. *Free*: whether an error with an observer is reported, too.
fn check_unobserved(state: &mut RunState) {
    let RunState { model, unobserved, .. } = state;
    for (kind, origin) in unobserved.iter() {
        let stray = origin == "(callback or destructor)";
        let detached = (0..model.tasks.len()).any(|id| model.tasks[id].detached);
        model.expect(stray || detached, || {
            format!("{kind:?} of `{origin}` was reported as unobserved")
        });
    }
    for id in 0..model.tasks.len() {
        let task = &model.tasks[id];
        if let (true, false, Some(Outcome::Error(kind, Some(origin)))) =
            (task.detached, task.observed, task.outcome())
        {
            use ensue::ErrorKind::{Cancelled, Closed};
            let reported =
                unobserved.iter().any(|(of, name)| *of == kind && model.has_name(origin, name))
                    || matches!(kind, Cancelled | Closed);
            model.expect(reported, || {
                format!("unobserved {kind:?} of t{id}, from t{origin}, wasn't reported")
            });
        }
    }
}
