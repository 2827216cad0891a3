//! The models, and the functions that they share.

mod block_on;
mod closing;
mod completion_queue;
mod count;
mod engine_refs;
mod injector;
mod join;
mod state;
mod store;
mod waiters;
mod wake;

use std::future::Future;
use std::marker::PhantomData;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use loom::thread::{self, JoinHandle};

use crate::Error;
use crate::engine::core::CoreRef;
use crate::engine::core::context::ThreadContext;
use crate::engine::core::threads::ThreadOptions;
use crate::engine::data::limits::Limits;
use crate::engine::engine_refs::set_counted;
use crate::engine::life::cell::Body;
use crate::engine::life::create::{self, Setup};
use crate::engine::life::finish;
use crate::engine::queue::local::Local;
use crate::engine::task::attempt::Held;
use crate::engine::task::header::{Task, TaskRef};
use crate::engine::task::typed::Typed;
use crate::engine::worker::run;
use crate::sync::{Gate, Order, begin_execution, block_on, set_order};

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
        closing::MODELS,
        block_on::MODELS,
        join::MODELS,
        engine_refs::MODELS,
    ]
    .concat();
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
    fn counts_engine_refs(&self) -> bool {
        engine_refs::MODELS.iter().any(|model| model.name == self.name)
    }

    fn check(&self, order: Order) -> usize {
        set_order(order);
        set_counted(self.counts_engine_refs());
        let executions = Arc::new(AtomicUsize::new(0));
        let (count, run) = (executions.clone(), self.run);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(self.interruptions);
        builder.max_branches = 20_000;
        builder.check(move || {
            count.fetch_add(1, Ordering::Relaxed);
            begin_execution();
            fastrand::seed(1);
            run();
        });
        executions.load(Ordering::Relaxed)
    }
}

const THREADS: ThreadOptions = ThreadOptions { blocking: 0, stack_size: None, around: None };

fn new_core() -> CoreRef {
    let unobserved = Box::new(|error: &Error| panic!("unobserved: {error}"));
    CoreRef::new("model".into(), None, Limits, unobserved, THREADS)
}

/// Creates a task that is ready, and an interest in it.
fn new_task<T: Send + 'static>(
    core: &CoreRef,
    setup: Setup,
    code: impl Future<Output = T> + Send + 'static,
) -> (Typed<T>, Task) {
    let (typed, task) = create::task::<Run<_>>(core, setup, code, ());
    (typed, task.expect("a task without inputs is ready"))
}

/// The body of a task that runs a future.
struct Run<Fut>(PhantomData<Fut>);

impl<Fut> Body for Run<Fut>
where
    Fut: Future<Output: Send + 'static> + Send + 'static,
{
    type Function = Fut;
    type Inputs = ();
    type Future = Fut;
    type Value = Fut::Output;
    type Kept = ();

    fn keep(_: &Fut, (): &()) {}

    fn start(future: Fut, (): (), _: &mut Option<Held>) -> Fut {
        future
    }

    fn outcome(output: Fut::Output) -> Result<Fut::Output, Error> {
        Ok(output)
    }

    fn again((): ()) -> Option<(Fut, ())> {
        None
    }
}

/// Runs the tasks in the injector, and those that it can't take, as a worker does.
fn work(core: &CoreRef) {
    let mut tasks = Vec::new();
    while core.injector.take(4, |task| tasks.push(task)) {}
    tasks.extend(std::iter::from_fn(|| core.priority_queue.pop()));
    tasks.into_iter().for_each(|task| run_task(core, task));
}

/// Runs a task, and the tasks that it makes ready, as a worker does.
fn run_task(core: &CoreRef, task: Task) {
    run_with(core, &Local::new(), task);
}

/// The same with these queues.
fn run_with(core: &CoreRef, local: &Local, task: Task) {
    let context = ThreadContext::of_worker(core, local, 0);
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
    Error::cancelled("model".into(), "")
}

/// Cancels a task that is queued or has ended.
fn fail(task: TaskRef<'_>) {
    finish::abort(task, cancel());
}
