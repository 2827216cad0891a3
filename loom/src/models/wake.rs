//! No task is left lying while all workers sleep, and no worker that is thought to be on its way keeps others
//! from being woken for ever.
//!
//! Real workers run real tasks. The last task closes the engine, by which the workers leave; so if a task is
//! left lying, or the news that all is done is lost, all threads wait and loom says so. In the end a sleeper
//! that enters has to be woken at once.
//!
//! The order of `SeqCst` accesses is that of fences beside them. Bounds: at most two workers and three tasks,
//! two interruptions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use loom::thread::{self, JoinHandle};

use super::{Gate, Model, SEQ_CST, block_on, new_core, new_task};
use crate::engine::cell::Setup;
use crate::engine::context;
use crate::engine::core::CoreRef;
use crate::engine::header::Task;
use crate::engine::typed::Typed;
use crate::engine::worker::WorkerFuture;

pub(super) const MODELS: &[Model] = &[
    Model { name: "wake: from outside", orders: SEQ_CST, interruptions: None, run: outside },
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
fn task(core: &CoreRef, left: &Arc<Left>, code: impl FnOnce() + Send + 'static) -> (Typed<()>, Task) {
    let left = left.clone();
    new_task(core, Setup::default(), async move {
        code();
        left.ran();
    })
}

fn end(core: CoreRef, workers: impl IntoIterator<Item = JoinHandle<()>>) {
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert!(!core.has_queued());
    assert_eq!(core.sleepers.asleep(), 0);
    let gate = Gate::new();
    core.sleepers.enter(usize::MAX - 1, true, Waker::from(gate.clone()));
    core.sleepers.wake_one();
    gate.pass();
}

/// Two tasks from outside, one after the other, and one worker.
fn outside() {
    let core = new_core();
    let left = Left::new(2);
    let workers = [worker(&core, true)];
    let _users = [(), ()].map(|()| {
        let (user, task) = task(&core, &left, || ());
        context::schedule_new(task);
        user
    });
    end(core, workers);
}
