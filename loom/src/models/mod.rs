//! The models, and the functions that they share.

mod completion_queue;
mod count;
mod injector;
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
use crate::engine::core::threads::ThreadOptions;
use crate::engine::data::limits::Limits;
use crate::engine::life::cell::{self, Setup};
use crate::engine::life::finish;
use crate::engine::queue::local::Local;
use crate::engine::task::header::{Task, TaskRef};
use crate::engine::task::typed::Typed;
use crate::engine::worker::run;
use crate::sync::{Order, set_order};

/// A claim, run through all interleavings within its bounds.
#[derive(Clone, Copy)]
struct Model {
    name: &'static str,
    /// The interpretations of `SeqCst`, one pass each.
    orders: &'static [Order],
    /// The most preemptions, not counting those where a thread waits; `None` for no bound.
    interruptions: Option<usize>,
    run: fn(),
}

/// For claims that rely on the total order of all `SeqCst` accesses.
const SEQ_CST: &[Order] = &[Order::Before, Order::After];
/// For claims that don't.
const WEAK: &[Order] = &[Order::Weak];

/// Runs the models whose names begin with one of `wanted`, or all if that is empty. The first failure ends the process.
pub(crate) fn run(wanted: &[String]) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The engine would catch the panic like one of interest code.
        hook(panic);
        process::exit(101);
    }));
    let all = [
        wake::MODELS,
        injector::MODELS,
        state::MODELS,
        waiters::MODELS,
        count::MODELS,
        completion_queue::MODELS,
        store::MODELS,
    ]
    .concat();
    if wanted == ["--list"] {
        return all.iter().for_each(|model| println!("{}", model.name));
    }
    // The whole name of a model may be the beginning of others.
    let is_one = |name: &str| all.iter().any(|model| model.name == name);
    let is_wanted = |model: &Model| {
        let fits = |name: &String| match is_one(name) {
            true => model.name == name,
            false => model.name.starts_with(&**name),
        };
        wanted.is_empty() || wanted.iter().any(fits)
    };
    for model in all.iter().filter(|model| is_wanted(model)) {
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
    let unobserved = Box::new(|error: &Error| panic!("unobserved: {error}"));
    CoreRef::new("model".into(), None, Limits, unobserved, ThreadOptions)
}

/// Creates a task that is ready, and an interest in it.
fn new_task<T: Send + 'static>(
    core: &CoreRef,
    setup: Setup,
    code: impl Future<Output = T> + Send + 'static,
) -> (Typed<T>, Task) {
    let (typed, task) = cell::create(core, setup, async |code, ()| Ok(code.await), code, ());
    (typed, task.expect("a task without inputs is ready"))
}

/// Runs the tasks in the injector, as a worker does.
fn work(core: &CoreRef) {
    let mut tasks = Vec::new();
    while core.injector.take(4, |task| tasks.push(task)) {}
    tasks.into_iter().for_each(|task| run_task(core, task));
}

/// Runs a task, and the tasks that it makes ready, as a worker does.
fn run_task(core: &CoreRef, task: Task) {
    let local = Local::new();
    let context = ThreadContext::of_worker(core, &local, 0);
    context.enter(|| {
        let mut next = Some(task);
        while let Some(task) = next {
            let _ = run::run(core, &context, &Default::default(), task);
            next = local.pop_fresh().or_else(|| local.pop());
        }
    });
}

/// Runs a task as `run_task` does, on a thread of its own.
fn spawn_task(core: &CoreRef, task: Task) -> JoinHandle<()> {
    let core = core.clone();
    thread::spawn(move || run_task(&core, task))
}

fn cancel() -> Error {
    Error::cancelled("model".into())
}

/// Cancels a task that is queued or has ended.
fn fail(task: TaskRef<'_>) {
    finish::abort(task, cancel());
}

/// A gate that lets one thread pass each time it's opened. It is also a waker.
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

    /// Waits until the gate is open, and closes it again.
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
