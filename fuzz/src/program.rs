//! What is done from outside, and what is checked after each step.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use ensue::{Client, Worker};

use super::events;
use super::model::{Model, Outcome, Phase};
use super::ops::{self, put_stream, take_stream, with_client};
use super::pending_await::Waiting;
use super::run_state::{self, Bomb, World, expect, fuse, hook, model, note, with};
use super::script::{Op, SLOTS, STREAMS, Script};
use super::stream::Stream;
use super::tracked;

/// A script whose tasks need more steps than this to come to rest goes round in circles.
const MOST_STEPS: usize = 5000;

/// How often a waker was woken.
#[derive(Clone, Default)]
struct Wakes(Arc<AtomicUsize>);

/// A waker that counts, and is foreign code.
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

    /// Another one each time, so that the engine may drop the last of it.
    fn waker(&self, panics: bool) -> Waker {
        Arc::new(Counting { wakes: self.clone(), panics }).into()
    }
}

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.wakes.0.fetch_add(1, Ordering::Relaxed);
        hook("waker");
        if self.panics {
            fuse("waker");
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        hook("drop of a waker");
    }
}

struct Awaiter {
    waiting: Waiting,
    wakes: Wakes,
    /// How often it had been woken when it was polled last.
    seen: Option<usize>,
}

struct Program {
    awaiters: Vec<Awaiter>,
    worker: Option<Pin<Box<Worker>>>,
    wakes: Wakes,
    /// The worker sleeps since it had been woken so often.
    asleep: Option<usize>,
}

/// Runs the script; what went wrong, and what happened if that is asked for.
pub(crate) fn run(script: &Rc<Script>, trace: bool) -> (Option<String>, Vec<String>) {
    run_state::enter(World::new(script.clone(), trace));
    // Without threads there's no need to ask how many the machine has room for, which takes its time.
    let client = Client::builder()
        .seed(script.seed)
        .workers(0)
        .limit("a", script.limits[0])
        .limit("b", script.limits[1])
        .on_unobserved(|error| {
            let (kind, origin) = (error.kind(), error.origin().to_string());
            with(|world| world.unobserved.push((kind, origin)));
            fuse("hook");
            hook("hook");
        })
        .build();
    let events = script.listens.then(|| events::begin(&client));
    let close = Box::pin(client.close());
    with(|world| {
        world.client = Some(client);
        world.close = Some(close);
        world.events = events;
        world.slots.resize_with(SLOTS, || None);
        world.streams.resize_with(STREAMS, || None);
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
    // Tasks may have put some there.
    (0..SLOTS).for_each(|slot| tracked::put(slot, None));
    (0..STREAMS).for_each(|at| drop(take_stream(at)));
    let world = run_state::leave();
    world.map_or((None, Vec::new()), |mut world| (world.model.failure.take(), world.take_trace()))
}

impl Program {
    fn run(&mut self, op: &Op) {
        model(|model| model.instant += 1);
        match op {
            Op::Step(times) => (0..*times).for_each(|_| self.step()),
            Op::Drive => self.drive(),
            Op::DropWorker => self.drop_worker(),
            Op::StreamPoll(at) => {
                poll_stream(*at, |stream, poller| stream.poll(poller, false));
            }
            Op::StreamNext(at) => {
                poll_stream(*at, |stream, poller| stream.poll_batch(poller, false));
            }
            Op::Await(slots, how) => {
                if let Some(waiting) = Waiting::new(slots, *how) {
                    let wakes = Wakes::new();
                    self.awaiters.push(Awaiter { waiting, wakes, seen: None });
                }
            }
            Op::Poll(which) => self.poll((*which).into()),
            Op::GiveUp(which) => {
                if !self.awaiters.is_empty() {
                    let at = usize::from(*which) % self.awaiters.len();
                    drop(self.awaiters.remove(at));
                }
            }
            Op::Idle => {
                let mut idle = None;
                with_client(false, |client| idle = Some(Box::pin(client.idle())));
                let Some(mut idle) = idle else { return };
                let polled = idle.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                model(|model| {
                    model.nobody_runs();
                    let busy = model.is_busy();
                    model.expect(polled.is_pending() == busy, || {
                        format!("`idle` is {polled:?} where it's {busy} that something runs")
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
                    model.nobody_runs();
                    let busy = model.is_busy();
                    model.expect(polled.is_pending() == busy, || {
                        format!("`close` is {polled:?} where it's {busy} that something runs")
                    });
                });
            }
            op => own_panics(|| ops::run(op, false)).unwrap_or(()),
        }
    }

    /// One step of the worker.
    fn step(&mut self) {
        if self.worker.is_none() {
            with_client(false, |client| self.worker = Some(Box::pin(client.worker())));
        }
        let Some(worker) = &mut self.worker else { return };
        model(|model| {
            model.worker = true;
            model.instant += 1;
        });
        note(|| " step".into());
        let before = self.wakes.get();
        let waker = self.wakes.waker(false);
        let polled = worker.as_mut().poll(&mut Context::from_waker(&waker));
        self.asleep = (polled.is_pending() && self.wakes.get() == before).then_some(before);
        if polled.is_ready() {
            let open = model(|model| !model.is_closed());
            expect(!open, || "a worker left an open client".into());
            self.drop_worker();
        }
    }

    fn drop_worker(&mut self) {
        self.asleep = None;
        let Some(worker) = self.worker.take() else { return };
        model(|model| {
            model.worker = false;
            model.nobody_runs();
        });
        drop(worker);
    }

    /// Until nothing is ready and no timer is left.
    fn drive(&mut self) {
        for _ in 0..MOST_STEPS {
            self.step();
            if self.worker.is_none() || self.asleep.is_some() {
                break;
            }
        }
        if self.worker.is_some() {
            let rests = self.asleep.is_some();
            expect(rests, || "the tasks don't come to rest".into());
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
        let polled = own_panics(|| waiting.poll(&mut Context::from_waker(&waker), None));
        awaiter.seen = Some(before);
        if polled != Some(false) {
            drop(self.awaiters.remove(at));
        }
    }

    fn check(&mut self) {
        for slot in 0..SLOTS {
            let status = with(|world| {
                let tracked = world.slots[slot].as_ref()?;
                Some((tracked.id, tracked.handle().status()))
            });
            if let Some((id, status)) = status {
                model(|model| model.check_status(id, status));
            }
        }
        for awaiter in &self.awaiters {
            let woken = awaiter.seen.is_none_or(|seen| awaiter.wakes.get() > seen);
            if !woken {
                let (ready, why) = (awaiter.waiting.is_ready(), awaiter.waiting.why());
                expect(!ready, || format!("an await of {why:?} was not woken"));
            }
        }
        if self.asleep.is_some_and(|before| self.wakes.get() == before) {
            model(|model| {
                let ready = (0..model.tasks.len()).find(|id| model.is_runnable(*id));
                model.expect(ready.is_none(), || format!("the worker sleeps beside t{ready:?}"));
            });
        }
        with(check_alive);
    }

    fn tear_down(&mut self, how: u8) {
        note(|| format!("the end, {how:b}"));
        let going_well = model(|model| model.failure.is_none());
        if how & 1 != 0 && going_well {
            self.drive();
        }
        if how & 2 != 0 {
            ops::run(&Op::DropClient, false);
        }
        if how & 4 != 0 {
            self.drop_worker();
        }
        (0..STREAMS).for_each(|at| drop(take_stream(at)));
        if how & 8 != 0 {
            self.awaiters.clear();
        }
        (0..SLOTS).for_each(|slot| tracked::put(slot, None));
        self.awaiters.clear();
        if !going_well {
            (0..STREAMS).for_each(|at| drop(take_stream(at)));
            let client = with(|world| world.client.take());
            drop((client, self.worker.take()));
            return;
        }
        self.check();
        self.drive();
        (0..SLOTS).for_each(|slot| tracked::put(slot, None));
        (0..STREAMS).for_each(|at| drop(take_stream(at)));
        self.drive();
        // What was detached may hang, or leave handles to others.
        let empty = with(|world| world.slots.iter().all(Option::is_none));
        let ended = empty && model(|model| model.tasks.iter().all(|task| task.outcome().is_some()));
        with_client(false, |client| {
            let held = client.tasks_in_memory();
            // A timer that was left would hold its task.
            expect(!ended || held == 0, || format!("{held} tasks are held at the end"));
            if ended && model(|model| !model.is_closed()) {
                check_limits(client);
            }
        });
        ops::run(&Op::DropClient, false);
        self.drop_worker();
        let close = with(|world| world.close.take());
        if let (Some(mut close), true) = (close, model(|model| model.clients > 0)) {
            // A task has a `map_stream`.
            model(|model| model.close(false, false));
            let closed = close.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            expect(closed.is_ready(), || "it doesn't close at the end".into());
        }
        (0..SLOTS).for_each(|slot| tracked::put(slot, None));
        (0..STREAMS).for_each(|at| drop(take_stream(at)));
        self.check();
        with(|world| {
            let alive = world.alive.clone();
            for (id, alive) in alive.into_iter().enumerate() {
                let values = if alive.leaked { 0 } else { alive.values };
                let gone = alive.codes + alive.bodies + values == 0;
                world.model.expect(gone, || format!("t{id} has left {alive:?}"));
            }
            check_unobserved(world);
        });
        events::check();
    }
}

/// Runs code from outside that may clone a value for itself: `None` where that panicked.
fn own_panics<R>(code: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(result) => Some(result),
        Err(payload) => {
            let own = with(|world| std::mem::take(&mut world.clone_panicked));
            if !own || !payload.is::<Bomb>() {
                resume_unwind(payload);
            }
            model(|model| {
                model.lenient = false;
                model.abandoned.clear();
                model.nobody_runs();
            });
            None
        }
    }
}

/// Polls a stream that is taken out meanwhile: its place may be taken by another. It goes where a clone of a
/// value panics.
fn poll_stream(at: usize, poll: impl FnOnce(&mut Stream, &mut Context<'_>) -> bool) {
    let Some(mut stream) = take_stream(at) else { return };
    let wakes = Wakes::new();
    let waker = wakes.waker(true);
    let stream = own_panics(|| {
        poll(&mut stream, &mut Context::from_waker(&waker));
        stream
    });
    if stream.is_some() {
        put_stream(at, stream);
    }
}

/// All of the limits is there again.
fn check_limits(client: &Client) {
    let [a, b] = model(|model| model.capacity);
    // Nobody else is to take any.
    with(|world| world.in_hook = true);
    let all = client.task().limit("a", a).limit("b", b).spawn(async {});
    let mut worker = Box::pin(client.worker());
    let poller = &mut Context::from_waker(Waker::noop());
    // There may be what is left of others in the queue.
    let done = (0..100).any(|_| {
        let _ = worker.as_mut().poll(poller);
        all.is_finished()
    });
    expect(done, || format!("a task that takes the limits whole is {all:?} at the end"));
    drop((all, worker));
    with(|world| world.in_hook = false);
}

/// What is in memory of each task.
fn check_alive(world: &mut World) {
    for id in 0..world.model.tasks.len() {
        let alive = *world.alive(id);
        let model = &mut world.model;
        let (phase, due) = (model.tasks[id].phase.clone(), model.tasks[id].callbacks_due);
        let future = match phase {
            Phase::Suspended(_) => alive.bodies == 1,
            Phase::Ended(_) => alive.bodies == 0,
            _ => alive.bodies <= 1,
        };
        model.expect(future, || format!("t{id} is {phase:?} and has {} futures", alive.bodies));
        let code = model.keeps_code(id).is_none_or(|keeps| keeps == (alive.codes > 0));
        model.expect(code, || format!("t{id} is {phase:?} and has {} functions", alive.codes));
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

/// *Free*: whether an error is reported that somebody could see.
fn check_unobserved(world: &mut World) {
    let World { model, unobserved, .. } = world;
    for (kind, origin) in unobserved.iter() {
        let stray = origin == "(callback or destructor)";
        let detached = (0..model.tasks.len()).any(|id| model.tasks[id].detached);
        model.expect(stray || detached, || format!("the hook was told of {kind:?} in `{origin}`"));
    }
    for id in 0..model.tasks.len() {
        let task = &model.tasks[id];
        if let (true, false, Some(Outcome::Error(kind, Some(origin)))) =
            (task.detached, task.observed, task.outcome())
        {
            use ensue::ErrorKind::{Cancelled, Closed};
            let told =
                unobserved.iter().any(|(of, name)| *of == kind && model.is_called(origin, name))
                    || matches!(kind, Cancelled | Closed);
            model.expect(told, || format!("nobody was told of {kind:?} of t{id}, from t{origin}"));
        }
    }
}
