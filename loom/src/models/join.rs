//! Joins: a branch that another thread takes is run once, and isn't touched once its join has ended.
//!
//! The branch is a local variable of the join, so loom finds an access that could come after it, as an access after a drop.
//! Nothing is shared but at the first join of a thread, as the clock stands still. Bounds: two or three threads, a join in
//! each.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use loom::thread::{self, JoinHandle};

use super::{Model, WEAK, cancel, new_core, new_task, run_task};
use crate::engine::core::CoreRef;
use crate::engine::core::context::ThreadContext;
use crate::engine::fork::job::Job;
use crate::engine::life::cell::Setup;
use crate::engine::life::finish;
use crate::engine::parallel::join;
use crate::engine::queue::local::Local;
use crate::sync::{AtomicUsize, Ordering, UnsafeCell};

pub(super) const MODELS: &[Model] = &[
    Model { name: "join: taken", orders: WEAK, interruptions: None, run: taken },
    Model { name: "join: helped", orders: WEAK, interruptions: Some(3), run: helped },
    Model { name: "join: unwound", orders: WEAK, interruptions: None, run: unwound },
    Model { name: "join: cancelled", orders: WEAK, interruptions: Some(3), run: cancelled },
];

/// An engine with two workers, as far as it knows.
fn core_of_two() -> CoreRef {
    let core = new_core();
    for id in 0..2 {
        core.add_worker(id, true, Arc::default(), Local::new().stealers());
    }
    core
}

/// A worker that looks for a branch `times` times. It returns what it has run, to be dropped once it was joined: loom doesn't
/// know that the counts of an `Arc` order its drop after all else.
fn other_worker(core: &CoreRef, times: usize) -> JoinHandle<Vec<Arc<Job>>> {
    let core = core.clone();
    thread::spawn(move || {
        let local = Local::new();
        let context = ThreadContext::of_worker(&core, &local, 1);
        let run = |_| {
            let job = core.jobs.take()?;
            join::run_job(&context, 0, job.clone());
            Some(job)
        };
        context.enter(|| (0..times).filter_map(run).collect())
    })
}

/// Adds to a variable of the caller's stack.
fn add(to: &mut UnsafeCell<usize>, n: usize) {
    *to.get_mut() += n;
}

/// A branch is run by its own thread or by another one, whichever takes it.
fn taken() {
    let core = core_of_two();
    let (task, ready) = new_task(&core, Setup::default(), async {
        let (mut one, mut two) = (UnsafeCell::new(0), UnsafeCell::new(0));
        let results = join::join(
            || add(&mut one, 1),
            || {
                add(&mut two, 2);
                3
            },
        );
        assert_eq!((*one.get_mut(), *two.get_mut(), results), (1, 2, ((), 3)));
    });
    let other = other_worker(&core, 1);
    run_task(&core, ready);
    other.join().unwrap();
    task.into_value().unwrap();
}

/// The thread that waits for a branch runs one that this branch has forked.
fn helped() {
    let core = core_of_two();
    let (task, ready) = new_task(&core, Setup::default(), async {
        let (mut one, mut two) = (UnsafeCell::new(0), UnsafeCell::new(0));
        join::join(
            || (),
            || {
                join::join(|| add(&mut one, 1), || add(&mut two, 2));
            },
        );
        assert_eq!((*one.get_mut(), *two.get_mut()), (1, 2));
    });
    let other = other_worker(&core, 1);
    run_task(&core, ready);
    other.join().unwrap();
    task.into_value().unwrap();
}

/// The first function panics: a branch that was taken is waited for, another one is dropped.
fn unwound() {
    let core = core_of_two();
    let (task, ready) = new_task(&core, Setup::default(), async {
        let mut one = UnsafeCell::new(0);
        let runs = AtomicUsize::new(0);
        let joined = catch_unwind(AssertUnwindSafe(|| {
            join::join(
                || resume_unwind(Box::new(1)),
                || {
                    add(&mut one, 1);
                    runs.fetch_add(1, Ordering::Relaxed);
                },
            )
        }));
        assert!(joined.is_err());
        assert_eq!(*one.get_mut(), runs.load(Ordering::Relaxed));
    });
    let other = other_worker(&core, 1);
    run_task(&core, ready);
    other.join().unwrap();
    task.into_value().unwrap();
}

/// The task is cancelled: its joins return, or unwind after their branches, and it ends as cancelled.
fn cancelled() {
    let core = core_of_two();
    let (task, ready) = new_task(&core, Setup::default(), async {
        let (mut one, mut two) = (UnsafeCell::new(0), UnsafeCell::new(0));
        join::join(
            || {
                // This one sees it, after the branch of the other one was shared.
                join::join(|| add(&mut one, 1), || ());
            },
            || add(&mut two, 2),
        );
        assert_eq!((*one.get_mut(), *two.get_mut()), (1, 2));
    });
    let other = other_worker(&core, 1);
    let to_cancel = task.clone();
    let canceller = thread::spawn(move || finish::abort(to_cancel.task(), cancel()));
    run_task(&core, ready);
    other.join().unwrap();
    let was_cancelled = canceller.join().unwrap();
    match task.into_value() {
        Ok(()) => assert!(!was_cancelled),
        Err(error) => assert!(was_cancelled && error.is_cancelled(), "{error}"),
    }
}
