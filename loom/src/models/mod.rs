//! The models, and what they have in common.

mod count;
mod injector;
mod sink;
mod state;
mod store;
mod waiters;
mod wake;

use std::future::Future;
use std::pin::pin;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use loom::sync::{Condvar, Mutex};
use loom::thread::{self, JoinHandle};

use crate::Error;
use crate::engine::core::CoreRef;
use crate::engine::core::context::ThreadContext;
use crate::engine::data::limits::Limits;
use crate::engine::life::cell::{self, Setup};
use crate::engine::life::finish;
use crate::engine::queue::local::Local;
use crate::engine::task::header::{Task, TaskRef};
use crate::engine::task::typed::Typed;
use crate::engine::worker::run;
use crate::sync::{Order, set_order};

/// A claim, run through all orders of events within its bounds.
struct Model {
    name: &'static str,
    /// How `SeqCst` is taken, a pass each.
    orders: &'static [Order],
    /// How often threads are interrupted at most, other than where they wait.
    interruptions: Option<usize>,
    run: fn(),
}

/// For what relies on the one order of all `SeqCst` accesses.
const SEQ_CST: &[Order] = &[Order::Before, Order::After];
/// For what doesn't.
const WEAK: &[Order] = &[Order::Weak];

/// Runs the models whose names begin with one of those, or all; the first failure ends the process.
pub(crate) fn run(wanted: &[String]) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // Else it could be caught, as panics of foreign code are.
        hook(panic);
        process::exit(101);
    }));
    let is_wanted = |model: &Model| {
        wanted.is_empty() || wanted.iter().any(|name| model.name.starts_with(&**name))
    };
    let all = [
        wake::MODELS,
        injector::MODELS,
        state::MODELS,
        waiters::MODELS,
        count::MODELS,
        sink::MODELS,
        store::MODELS,
    ];
    for model in all.into_iter().flatten().filter(|model| is_wanted(model)) {
        for &order in model.orders {
            let start = Instant::now();
            let executions = model.check(order);
            let seconds = start.elapsed().as_secs_f64();
            println!("{:32} {order:6?} {executions:9} executions {seconds:6.1} s", model.name);
        }
    }
}

impl Model {
    fn check(&self, order: Order) -> usize {
        set_order(order);
        let executions = Arc::new(AtomicUsize::new(0));
        let (count, run) = (executions.clone(), self.run);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(self.interruptions);
        builder.max_branches = 20_000;
        builder.check(move || {
            count.fetch_add(1, Ordering::Relaxed);
            fastrand::seed(1);
            run();
        });
        executions.load(Ordering::Relaxed)
    }
}

fn new_core() -> CoreRef {
    CoreRef::new("model".into(), None, Limits, Box::new(|error| panic!("unobserved: {error}")))
}

/// A task that is ready, with its user.
fn new_task<T: Send + 'static>(
    core: &CoreRef,
    setup: Setup,
    code: impl Future<Output = T> + Send + 'static,
) -> (Typed<T>, Task) {
    let (user, task) = cell::create(core, setup, async |code, ()| Ok(code.await), code, ());
    (user, task.expect("it waits for nothing"))
}

/// Runs what is in the queue, as a worker does.
fn work(core: &CoreRef) {
    let mut tasks = Vec::new();
    while core.injector.take(4, |task| tasks.push(task)) {}
    tasks.into_iter().for_each(|task| run_task(core, task));
}

/// Runs a task as a worker does, and what that makes ready.
fn run_task(core: &CoreRef, task: Task) {
    let local = Local::new();
    let context = ThreadContext::of_worker(core, &local, 0);
    context.enter(|| {
        let mut next = Some(task);
        while let Some(task) = next {
            run::run(core, &context, task);
            next = local.pop_fresh().or_else(|| local.pop());
        }
    });
}

/// Does so on a thread.
fn spawn_task(core: &CoreRef, task: Task) -> JoinHandle<()> {
    let core = core.clone();
    thread::spawn(move || run_task(&core, task))
}

fn cancel() -> Error {
    Error::cancelled("model".into())
}

/// Cancels a task, which is queued or has ended.
fn fail(task: TaskRef<'_>) {
    finish::abort(task, cancel());
}

/// A place to wait in, until somebody says so.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_one();
    }

    /// Waits, and closes the gate behind itself.
    fn pass(&self) {
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.changed.wait(open).unwrap();
        }
        *open = false;
    }
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.open();
    }
}

fn block_on<R>(future: impl Future<Output = R>) -> R {
    let gate = Gate::new();
    let waker = Waker::from(gate.clone());
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut cx) {
            return result;
        }
        gate.pass();
    }
}
