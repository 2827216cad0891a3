//! The injector: each task that is pushed comes out once, in the order of its producer, with any number of producers and
//! consumers. The queue never looks empty while it holds a task, and an inconsistent queue becomes consistent.
//!
//! None of these claims relies on the order of `SeqCst` accesses; the models in `wake` check that part. Bounds: two
//! producers with at most two tasks each, two consumers; preemptions are bounded where `MODELS` says so.

use loom::thread;

use super::{Model, WEAK, new_core, new_task};
use crate::engine::core::CoreRef;
use crate::engine::life::create::Setup;
use crate::engine::queue::injector::Injector;
use crate::engine::task::header::Task;
use crate::engine::task::typed::Typed;
use crate::sync::{Ordering, yield_now};

pub(super) const MODELS: &[Model] = &[
    Model { name: "injector: order", orders: WEAK, interruptions: Some(4), run: order },
    Model {
        name: "injector: two consumers",
        orders: WEAK,
        interruptions: Some(3),
        run: two_consumers,
    },
    Model { name: "injector: not empty", orders: WEAK, interruptions: None, run: not_empty },
    Model { name: "injector: last task", orders: WEAK, interruptions: None, run: last_task },
    Model { name: "injector: trim", orders: WEAK, interruptions: Some(4), run: trim },
];

/// Numbered tasks and their engine.
struct Tasks {
    core: CoreRef,
    interests: Vec<Typed<()>>,
    tasks: Vec<Option<Task>>,
}

impl Tasks {
    fn new(count: usize) -> Self {
        let core = new_core();
        let (interests, tasks) = (0..count)
            .map(|number| {
                let (interest, task) = new_task(&core, Setup::default(), async {});
                task.slot.store(number as u32, Ordering::Relaxed);
                (interest, Some(task))
            })
            .unzip();
        Self { core, interests, tasks }
    }

    fn take<const N: usize>(&mut self, numbers: [usize; N]) -> [Task; N] {
        numbers.map(|number| self.tasks[number].take().unwrap())
    }
}

fn number(task: &Task) -> usize {
    task.slot.load(Ordering::Relaxed) as usize
}

/// Takes up to `limit` tasks at a time, until `count` tasks came out. Returns their numbers.
fn take(injector: &Injector, limit: usize, count: usize) -> Vec<usize> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let before = taken.len();
        injector.take(limit.min(count - before), |task| taken.push(number(&task)));
        if taken.len() == before {
            yield_now();
        }
    }
    taken
}

fn is_in_order(taken: &[usize], first: usize, second: usize) -> bool {
    let at = |number| taken.iter().position(|taken| *taken == number).unwrap();
    at(first) < at(second)
}

/// One producer pushes two tasks one by one, another one a chain of two, and one consumer takes them.
fn order() {
    let mut tasks = Tasks::new(4);
    let [c, d] = tasks.take([2, 3]);
    let (one, two) = (tasks.core.clone(), tasks.core.clone());
    let one = thread::spawn(move || {
        [0, 1].map(|number| {
            let (interest, task) = new_task(&one, Setup::default(), async {});
            task.slot.store(number, Ordering::Relaxed);
            one.injector.submitted.push(task);
            interest
        })
    });
    let two = thread::spawn(move || two.injector.submitted.push_all([c, d]));
    let mut taken = take(&tasks.core.injector.submitted, 3, 4);
    let _interests = one.join().unwrap();
    two.join().unwrap();
    assert!(is_in_order(&taken, 0, 1) && is_in_order(&taken, 2, 3), "{taken:?}");
    taken.sort();
    assert_eq!(taken, [0, 1, 2, 3]);
    assert!(tasks.core.injector.submitted.is_empty());
}

/// Two consumers take tasks while more are pushed; each task comes out once.
fn two_consumers() {
    let mut tasks = Tasks::new(3);
    let [a, b, c] = tasks.take([0, 1, 2]);
    tasks.core.injector.submitted.push(a);
    let (producer, consumer) = (tasks.core.clone(), tasks.core.clone());
    let producer = thread::spawn(move || producer.injector.submitted.push_all([b, c]));
    let take_some = |core: &CoreRef| {
        let mut taken = Vec::new();
        core.injector.submitted.take(2, |task| taken.push(number(&task)));
        taken
    };
    let other = thread::spawn(move || take_some(&consumer));
    let mut taken = take_some(&tasks.core);
    producer.join().unwrap();
    taken.extend(other.join().unwrap());
    taken.extend(take(&tasks.core.injector.submitted, 3, 3 - taken.len()));
    taken.sort();
    assert_eq!(taken, [0, 1, 2]);
    assert!(tasks.core.injector.submitted.is_empty());
}

/// Two tasks are taken while a third one is pushed: the queue never looks empty while it holds a task.
fn not_empty() {
    let mut tasks = Tasks::new(3);
    let [a, b, c] = tasks.take([0, 1, 2]);
    tasks.core.injector.submitted.push_all([a, b]);
    let (reader, producer) = (tasks.core.clone(), tasks.core.clone());
    let reader = thread::spawn(move || assert!(!reader.injector.submitted.is_empty()));
    let producer = thread::spawn(move || {
        producer.injector.submitted.push(c);
        assert!(!producer.injector.submitted.is_empty());
    });
    assert_eq!(take(&tasks.core.injector.submitted, 1, 1), [0]);
    reader.join().unwrap();
    // Unless the third task has been pushed, this is the last one, and the stub is pushed behind it.
    assert_eq!(take(&tasks.core.injector.submitted, 1, 1), [1]);
    producer.join().unwrap();
    assert!(!tasks.core.injector.submitted.is_empty());
    assert_eq!(take(&tasks.core.injector.submitted, 1, 1), [2]);
    assert!(tasks.core.injector.submitted.is_empty());
}

/// The only task is taken while another one is pushed: the queue doesn't look empty to that producer.
fn last_task() {
    let mut tasks = Tasks::new(2);
    let [a, b] = tasks.take([0, 1]);
    tasks.core.injector.submitted.push(a);
    let producer = tasks.core.clone();
    let producer = thread::spawn(move || {
        producer.injector.submitted.push(b);
        assert!(!producer.injector.submitted.is_empty());
    });
    assert_eq!(take(&tasks.core.injector.submitted, 1, 1), [0]);
    producer.join().unwrap();
    assert_eq!(take(&tasks.core.injector.submitted, 1, 1), [1]);
}

/// The first of two tasks is trimmed while a third one is pushed. The others stay in order, and the queue never looks
/// empty.
fn trim() {
    let mut tasks = Tasks::new(3);
    let [a, b, c] = tasks.take([0, 1, 2]);
    tasks.core.injector.submitted.push_all([a, b]);
    let (reader, producer) = (tasks.core.clone(), tasks.core.clone());
    let threads = [
        thread::spawn(move || assert!(!reader.injector.submitted.is_empty())),
        thread::spawn(move || producer.injector.submitted.push(c)),
    ];
    tasks.core.injector.submitted.trim(|task| number(task) != 0);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    // The task that was put back is in front again, and stays there.
    tasks.core.injector.submitted.trim(|_| true);
    assert!(!tasks.core.injector.submitted.is_empty());
    assert_eq!(take(&tasks.core.injector.submitted, 4, 2), [1, 2]);
    assert!(tasks.core.injector.submitted.is_empty());
    drop(tasks.interests);
}
