//! The queue of tasks from outside: whatever is pushed comes out, once, in the order of its pusher, however
//! many push and take; one that lies there isn't overlooked, and a link that is missing comes.
//!
//! Nothing here relies on the order of `SeqCst` accesses; that part is in `wake`. Bounds: two pushers with two
//! tasks each at most, two takers; no bound on interruptions but where it's said below.

use loom::thread;

use super::{Model, WEAK, new_core, new_task};
use crate::engine::core::CoreRef;
use crate::engine::life::cell::Setup;
use crate::engine::queue::injector::Injector;
use crate::engine::task::header::Task;
use crate::engine::task::typed::Typed;
use crate::sync::{Ordering, yield_now};

pub(super) const MODELS: &[Model] = &[
    Model { name: "injector: order", orders: WEAK, interruptions: Some(4), run: order },
    Model { name: "injector: two takers", orders: WEAK, interruptions: Some(3), run: takers },
    Model { name: "injector: not empty", orders: WEAK, interruptions: None, run: not_empty },
    Model { name: "injector: last one", orders: WEAK, interruptions: None, run: last_one },
    Model { name: "injector: trim", orders: WEAK, interruptions: Some(4), run: trim },
];

/// Tasks with numbers, and the injector of their engine.
struct Tasks {
    core: CoreRef,
    users: Vec<Typed<()>>,
    tasks: Vec<Option<Task>>,
}

impl Tasks {
    fn new(count: usize) -> Self {
        let core = new_core();
        let (users, tasks) = (0..count)
            .map(|number| {
                let (user, task) = new_task(&core, Setup::default(), async {});
                task.slot.store(number as u32, Ordering::Relaxed);
                (user, Some(task))
            })
            .unzip();
        Self { core, users, tasks }
    }

    fn give<const N: usize>(&mut self, numbers: [usize; N]) -> [Task; N] {
        numbers.map(|number| self.tasks[number].take().unwrap())
    }
}

fn number(task: &Task) -> usize {
    task.slot.load(Ordering::Relaxed) as usize
}

/// Takes so many at a time until there were so many in all.
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

/// One pusher makes two tasks, another has a chain of two, and one takes.
fn order() {
    let mut tasks = Tasks::new(4);
    let [c, d] = tasks.give([2, 3]);
    let (one, two) = (tasks.core.clone(), tasks.core.clone());
    let one = thread::spawn(move || {
        [0, 1].map(|number| {
            let (user, task) = new_task(&one, Setup::default(), async {});
            task.slot.store(number, Ordering::Relaxed);
            one.injector.push(task);
            user
        })
    });
    let two = thread::spawn(move || two.injector.push_all([c, d]));
    let mut taken = take(&tasks.core.injector, 3, 4);
    let _users = one.join().unwrap();
    two.join().unwrap();
    assert!(is_in_order(&taken, 0, 1) && is_in_order(&taken, 2, 3), "{taken:?}");
    taken.sort();
    assert_eq!(taken, [0, 1, 2, 3]);
    assert!(tasks.core.injector.is_empty());
}

/// Two take what is there and what comes; each task comes out once.
fn takers() {
    let mut tasks = Tasks::new(3);
    let [a, b, c] = tasks.give([0, 1, 2]);
    tasks.core.injector.push(a);
    let (pusher, taker) = (tasks.core.clone(), tasks.core.clone());
    let pusher = thread::spawn(move || pusher.injector.push_all([b, c]));
    let take_some = |core: &CoreRef| {
        let mut taken = Vec::new();
        core.injector.take(2, |task| taken.push(number(&task)));
        taken
    };
    let other = thread::spawn(move || take_some(&taker));
    let mut taken = take_some(&tasks.core);
    pusher.join().unwrap();
    taken.extend(other.join().unwrap());
    taken.extend(take(&tasks.core.injector, 3, 3 - taken.len()));
    taken.sort();
    assert_eq!(taken, [0, 1, 2]);
    assert!(tasks.core.injector.is_empty());
}

/// Two tasks are taken while a third one comes: at no time does it look as if there were none while there are.
fn not_empty() {
    let mut tasks = Tasks::new(3);
    let [a, b, c] = tasks.give([0, 1, 2]);
    tasks.core.injector.push_all([a, b]);
    let (looker, pusher) = (tasks.core.clone(), tasks.core.clone());
    let looker = thread::spawn(move || assert!(!looker.injector.is_empty()));
    let pusher = thread::spawn(move || {
        pusher.injector.push(c);
        assert!(!pusher.injector.is_empty());
    });
    assert_eq!(take(&tasks.core.injector, 1, 1), [0]);
    looker.join().unwrap();
    // It's the last one, and the stub comes behind it, unless the third task is there.
    assert_eq!(take(&tasks.core.injector, 1, 1), [1]);
    pusher.join().unwrap();
    assert!(!tasks.core.injector.is_empty());
    assert_eq!(take(&tasks.core.injector, 1, 1), [2]);
    assert!(tasks.core.injector.is_empty());
}

/// The only task is taken while another comes, which doesn't go unseen.
fn last_one() {
    let mut tasks = Tasks::new(2);
    let [a, b] = tasks.give([0, 1]);
    tasks.core.injector.push(a);
    let pusher = tasks.core.clone();
    let pusher = thread::spawn(move || {
        pusher.injector.push(b);
        assert!(!pusher.injector.is_empty());
    });
    assert_eq!(take(&tasks.core.injector, 1, 1), [0]);
    pusher.join().unwrap();
    assert_eq!(take(&tasks.core.injector, 1, 1), [1]);
}

/// The first of two is dropped while a third comes; the others stay, and don't go unseen meanwhile.
fn trim() {
    let mut tasks = Tasks::new(3);
    let [a, b, c] = tasks.give([0, 1, 2]);
    tasks.core.injector.push_all([a, b]);
    let (looker, pusher) = (tasks.core.clone(), tasks.core.clone());
    let threads = [
        thread::spawn(move || assert!(!looker.injector.is_empty())),
        thread::spawn(move || pusher.injector.push(c)),
    ];
    tasks.core.injector.trim(|task| number(task) != 0);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    // What was kept is in front again, and stays there.
    tasks.core.injector.trim(|_| true);
    assert!(!tasks.core.injector.is_empty());
    assert_eq!(take(&tasks.core.injector, 4, 2), [1, 2]);
    assert!(tasks.core.injector.is_empty());
    drop(tasks.users);
}
