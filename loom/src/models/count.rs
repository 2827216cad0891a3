//! The count of unfinished inputs: of all threads that release an input or a hold, exactly one brings the count to zero and
//! gets the task, be it the thread that ends an input, the submitter, or the thread that aborts the task.
//!
//! The tasks are real: with a count that is brought to zero twice or never, a task would be run or freed twice or never.
//! Bounds: two inputs, three threads.

use loom::thread;

use super::{Model, WEAK, cancel, fail, new_core, new_task, run_task, spawn_task, work};
use crate::engine::core::CoreRef;
use crate::engine::life::cell::{self, Registration, Setup};
use crate::engine::life::finish;
use crate::engine::task::edges::ByValue;
use crate::engine::task::header::Task;
use crate::engine::task::typed::Typed;

pub(super) const MODELS: &[Model] = &[
    Model { name: "count: built", orders: WEAK, interruptions: Some(2), run: built },
    Model {
        name: "count: aborted while built",
        orders: WEAK,
        interruptions: Some(3),
        run: aborted_while_built,
    },
    Model { name: "count: aborted", orders: WEAK, interruptions: Some(2), run: aborted },
    Model { name: "count: failed input", orders: WEAK, interruptions: Some(2), run: failed_input },
    Model { name: "count: held", orders: WEAK, interruptions: Some(4), run: held },
];

type Inputs = (ByValue<Text>, ByValue<Text>);

/// The value has a destructor, so it isn't copied at submission.
type Text = String;

fn input(core: &CoreRef) -> (Typed<Text>, Task) {
    new_task(core, Setup::default(), async { "1".to_owned() })
}

fn inputs(one: &Typed<Text>, two: &Typed<Text>) -> Inputs {
    (ByValue::new(one.clone()), ByValue::new(two.clone()))
}

/// Two inputs and no observer.
const NEW: Registration = Registration { inputs: 2, observed: 0, depth: 0 };

async fn add(_: (), (one, two): (Text, Text)) -> cell::Outcome<usize, (), (Text, Text)> {
    Ok(one.len() + two.len())
}

fn allocate(core: &CoreRef, inputs: Inputs) -> Typed<usize> {
    cell::allocate(core, Setup::default(), add, (), inputs, NEW)
}

fn begin(core: &CoreRef, task: &Typed<usize>) {
    if let Some(task) = cell::begin(core, task.task().as_ptr(), NEW) {
        core.injector.push(task);
    }
}

/// A task is built while its two inputs end, each on a thread of its own.
fn built() {
    let core = new_core();
    let ((one, a), (two, b)) = (input(&core), input(&core));
    let workers = [spawn_task(&core, a), spawn_task(&core, b)];
    let sum = allocate(&core, inputs(&one, &two));
    begin(&core, &sum);
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    work(&core);
    assert_eq!(sum.into_value().unwrap(), 2);
}

/// A task is cancelled while it's built and one of its inputs ends.
fn aborted_while_built() {
    let core = new_core();
    let ((one, a), (two, b)) = (input(&core), input(&core));
    let sum = allocate(&core, inputs(&one, &two));
    let other = sum.clone();
    let worker = spawn_task(&core, a);
    let canceller = thread::spawn(move || assert!(finish::abort(other.task(), cancel())));
    begin(&core, &sum);
    worker.join().unwrap();
    canceller.join().unwrap();
    run_task(&core, b);
    work(&core);
    assert!(sum.into_value().unwrap_err().is_cancelled());
}

/// A waiting task is cancelled while its inputs end.
fn aborted() {
    let core = new_core();
    let ((one, a), (two, b)) = (input(&core), input(&core));
    let sum = allocate(&core, inputs(&one, &two));
    begin(&core, &sum);
    let workers = [spawn_task(&core, a), spawn_task(&core, b)];
    let cancelled = finish::abort(sum.task(), cancel());
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    work(&core);
    match sum.into_value() {
        Ok(sum) => assert!(sum == 2 && !cancelled),
        Err(error) => assert!(cancelled && error.is_cancelled(), "{error}"),
    }
}

/// One input of a task that is being built fails while the other one ends.
fn failed_input() {
    let core = new_core();
    let ((one, a), (two, b)) = (input(&core), input(&core));
    let worker = spawn_task(&core, a);
    let other = two.clone();
    let failing = thread::spawn(move || fail(other.task()));
    let sum = allocate(&core, inputs(&one, &two));
    begin(&core, &sum);
    worker.join().unwrap();
    failing.join().unwrap();
    run_task(&core, b);
    work(&core);
    assert!(sum.into_value().unwrap_err().is_cancelled());
}

/// A thread takes a hold on a waiting task, as if to read its inputs, while they end.
fn held() {
    let core = new_core();
    let ((one, a), (two, b)) = (input(&core), input(&core));
    let sum = allocate(&core, inputs(&one, &two));
    begin(&core, &sum);
    let workers = [spawn_task(&core, a), spawn_task(&core, b)];
    if sum.task().count.hold_if_waiting() {
        assert!(!sum.task().waiters.is_closed());
        if sum.task().count.release(1) {
            // SAFETY: this thread released the last hold.
            let ready = unsafe { finish::last_hold_released(sum.task().as_ptr()) };
            ready.into_iter().for_each(|task| core.injector.push(task));
        }
    }
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    work(&core);
    assert_eq!(sum.into_value().unwrap(), 2);
}
