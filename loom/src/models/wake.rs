//! No task is left lying while all workers sleep, and no worker that is thought to be on its way keeps others
//! from being woken for ever.
//!
//! Real workers run real tasks. The last task closes the engine, by which the workers leave; so if a task is
//! left lying, or the news that all is done is lost, all threads wait and loom says so. In the end a sleeper
//! that enters has to be woken at once.
//!
//! The order of `SeqCst` accesses is that of fences beside them. Bounds: at most two workers and three tasks,
//! two interruptions.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use loom::thread::{self, JoinHandle};

use super::{Gate, Model, SEQ_CST, WEAK, block_on, new_core, new_task};
use crate::engine::core::CoreRef;
use crate::engine::core::context::{self, ThreadContext};
use crate::engine::life::cell::Setup;
use crate::engine::life::schedule;
use crate::engine::queue::local::Local;
use crate::engine::task::header::Task;
use crate::engine::task::typed::Typed;
use crate::engine::worker::WorkerFuture;

pub(super) const MODELS: &[Model] = &[
    Model { name: "wake: from outside", orders: SEQ_CST, interruptions: Some(5), run: outside },
    Model { name: "wake: urgent", orders: SEQ_CST, interruptions: Some(5), run: urgent },
    Model { name: "wake: from a worker", orders: WEAK, interruptions: Some(3), run: local },
    Model { name: "wake: made ready", orders: WEAK, interruptions: Some(3), run: made_ready },
    Model { name: "wake: arrived", orders: WEAK, interruptions: None, run: arrived },
    Model { name: "wake: passed on", orders: SEQ_CST, interruptions: Some(2), run: passed_on },
    Model {
        name: "wake: a worker to wait for",
        orders: SEQ_CST,
        interruptions: Some(2),
        run: foreign,
    },
    Model { name: "wake: a worker that goes", orders: SEQ_CST, interruptions: Some(2), run: goes },
];

/// Counts tasks down; the last one closes the engine.
struct Left(AtomicUsize);

impl Left {
    fn new(tasks: usize) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(tasks)))
    }

    fn ran(&self) {
        if self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            context::current_core().expect("it runs on a worker").begin_close();
        }
    }
}

fn worker(core: &CoreRef, own: bool) -> JoinHandle<()> {
    let worker = WorkerFuture::new(core.clone(), own);
    thread::spawn(|| block_on(worker))
}

/// A task that does something and counts itself.
fn task(
    core: &CoreRef,
    left: &Arc<Left>,
    code: impl FnOnce() + Send + 'static,
) -> (Typed<()>, Task) {
    let left = left.clone();
    new_task(core, Setup::default(), async move {
        code();
        left.ran();
    })
}

fn end(core: CoreRef, workers: impl IntoIterator<Item = JoinHandle<()>>) {
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert!(!core.has_queued());
    assert_eq!(core.idle_workers.asleep(), 0);
    let gate = Gate::new();
    core.idle_workers.enter(usize::MAX - 1, true, Waker::from(gate.clone()));
    core.idle_workers.wake_one();
    gate.pass();
}

/// Two tasks from outside, one after the other, and one worker.
fn outside() {
    let core = new_core();
    let left = Left::new(2);
    let workers = [worker(&core, true)];
    let _users = [(), ()].map(|()| {
        let (user, task) = task(&core, &left, || ());
        schedule::schedule_new(task);
        user
    });
    end(core, workers);
}

/// The same, and the last one by way of the queue for priorities.
fn urgent() {
    let core = new_core();
    let left = Left::new(2);
    let workers = [worker(&core, true)];
    let _users = [0, 1].map(|priority| {
        let (user, task) = task(&core, &left, || ());
        task.priority.store(priority, Ordering::Relaxed);
        schedule::schedule_new(task);
        user
    });
    end(core, workers);
}

/// A task puts another into the queue of its worker, and keeps the worker busy until that has run.
fn local() {
    let core = new_core();
    let left = Left::new(2);
    let ran = Gate::new();
    let (second_user, second) = task(&core, &left, {
        let ran = ran.clone();
        move || ran.open()
    });
    let (first_user, first) = task(&core, &left, move || {
        schedule::schedule(second);
        ran.pass();
    });
    core.injector.push(first);
    let workers = [worker(&core, true), worker(&core, true)];
    end(core, workers);
    drop((first_user, second_user));
}

/// A task makes two others ready by ending; the first one keeps their worker busy until the second has run.
fn made_ready() {
    let core = new_core();
    let left = Left::new(2);
    let ran = Gate::new();
    let (third_user, third) = task(&core, &left, {
        let ran = ran.clone();
        move || ran.open()
    });
    let (second_user, second) = task(&core, &left, move || ran.pass());
    let (first_user, first) = new_task(&core, Setup::default(), async move {
        schedule::make_ready(|ready| {
            ready.push(second);
            ready.push(third);
        });
    });
    core.injector.push(first);
    let workers = [worker(&core, true), worker(&core, true)];
    end(core, workers);
    drop((first_user, second_user, third_user));
}

/// A worker that is on its way arrives while another pushes into its own queue: a third one is woken, be it by
/// the one that pushes or by the one that arrives.
fn arrived() {
    let core = new_core();
    let gates = [Gate::new(), Gate::new()];
    for (worker, gate) in gates.iter().enumerate() {
        core.idle_workers.enter(worker, true, Waker::from(gate.clone()));
    }
    core.idle_workers.wake_one();
    gates[1].pass();
    assert!(core.idle_workers.leave(1));
    let pusher = thread::spawn({
        let core = core.clone();
        move || {
            let local = Local::new();
            core.add_worker(2, true, local.stealers());
            let (user, task) = new_task(&core, Setup::default(), async {});
            ThreadContext::of_worker(&core, &local, 0).enter(|| schedule::schedule(task));
            gates[0].pass();
            drop((local.pop(), user));
        }
    });
    // As `WorkerFuture::arrived` does.
    core.idle_workers.finish_wake();
    if core.has_queued() {
        core.idle_workers.wake_one();
    }
    pusher.join().unwrap();
}

/// Two tasks from outside, the first of which waits for the second, which is thus for the other worker. Only
/// one wake is made at a time, so the first worker has to make the next.
fn passed_on() {
    wait_for_each_other(true);
}

/// The same with one worker that the client doesn't run itself.
fn foreign() {
    wait_for_each_other(false);
}

fn wait_for_each_other(own: bool) {
    let core = new_core();
    let left = Left::new(2);
    let ran = Gate::new();
    let workers = [worker(&core, own), worker(&core, true)];
    let (first_user, first) = task(&core, &left, {
        let ran = ran.clone();
        move || ran.pass()
    });
    let (second_user, second) = task(&core, &left, move || ran.open());
    schedule::schedule_new(first);
    schedule::schedule_new(second);
    end(core, workers);
    drop((first_user, second_user));
}

/// A worker is dropped by its host, at any time, with whatever it was woken for and whatever it had taken.
fn goes() {
    let core = new_core();
    let left = Left::new(2);
    let workers = [worker(&core, true)];
    let going = thread::spawn({
        let core = core.clone();
        move || {
            let mut going = Box::pin(WorkerFuture::new(core, true));
            let _ = going.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
    });
    let _users = [(), ()].map(|()| {
        let (user, task) = task(&core, &left, || ());
        schedule::schedule_new(task);
        user
    });
    end(core, workers.into_iter().chain([going]));
}
