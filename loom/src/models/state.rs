//! The state word: a task is run by one at a time and ended once, whoever wakes it, dooms it or loses interest
//! in it; and its memory and contents go once, when nobody has it any more.
//!
//! The tasks are real, and so is all that ends and frees them. Contents that two would touch at a time, memory
//! that is freed twice or not at all, and an access that could come after are found by loom. Bounds: two or
//! three threads, one task.

use std::future::poll_fn;
use std::task::Poll;

use loom::thread;

use super::{Model, WEAK, cancel, new_core, new_task, run_task, spawn_task, work};
use crate::engine::life::cell::Setup;
use crate::engine::life::finish;
use crate::engine::task::state::DETACHED;
use crate::engine::task::waiters::Resolution;
use crate::sync::Cell;

pub(super) const MODELS: &[Model] = &[
    Model { name: "state: run or ended", orders: WEAK, interruptions: None, run: run_or_ended },
    Model {
        name: "state: woken or ended",
        orders: WEAK,
        interruptions: Some(4),
        run: woken_or_ended,
    },
    Model { name: "state: two entries", orders: WEAK, interruptions: Some(5), run: two_entries },
    Model { name: "state: last users", orders: WEAK, interruptions: Some(5), run: last_users },
    Model { name: "state: detached", orders: WEAK, interruptions: Some(5), run: detached },
    Model { name: "state: value taken", orders: WEAK, interruptions: Some(4), run: taken },
];

/// What only one may touch at a time. To drop it is to touch it.
struct Contents(Cell<usize>);

// SAFETY: loom sees to it.
unsafe impl Send for Contents {}
// SAFETY: as above.
unsafe impl Sync for Contents {}

impl Contents {
    fn new() -> Self {
        Self(Cell::new(0))
    }

    fn touch(&self) -> usize {
        self.0.replace(self.0.get() + 1)
    }
}

/// A queued task is run and cancelled.
fn run_or_ended() {
    let core = new_core();
    let contents = Contents::new();
    let (user, task) = new_task(&core, Setup::default(), async move { contents.touch() });
    core.injector.push(task);
    let other = user.clone();
    let canceller = thread::spawn(move || finish::abort(other.task(), cancel()));
    work(&core);
    let cancelled = canceller.join().unwrap();
    match user.into_value() {
        Ok(runs) => assert!(!cancelled && runs == 0),
        Err(error) => assert!(cancelled && error.is_cancelled(), "{error}"),
    }
    work(&core);
}

/// A suspended task is woken, and run, by one and cancelled by another while a worker looks for it.
fn woken_or_ended() {
    let core = new_core();
    let contents = Contents::new();
    let (wakers, woken) = loom::sync::mpsc::channel();
    let (user, task) = new_task(&core, Setup::default(), {
        poll_fn(move |cx| {
            if contents.touch() == 0 {
                wakers.send(cx.waker().clone()).unwrap();
                contents.touch();
                return Poll::Pending;
            }
            Poll::Ready(())
        })
    });
    core.injector.push(task);
    let waker = thread::spawn({
        let core = core.clone();
        move || {
            woken.recv().unwrap().wake();
            work(&core);
        }
    });
    let other = user.clone();
    work(&core);
    let canceller = thread::spawn(move || finish::abort(other.task(), cancel()));
    work(&core);
    waker.join().unwrap();
    let cancelled = canceller.join().unwrap();
    work(&core);
    match user.into_value() {
        Ok(()) => assert!(!cancelled),
        Err(error) => assert!(cancelled && error.is_cancelled(), "{error}"),
    }
}

/// A task is in the queues twice, and wakes itself when it's first polled.
fn two_entries() {
    let core = new_core();
    let contents = Contents::new();
    let (user, task) = new_task(&core, Setup::default(), {
        poll_fn(move |cx| {
            if contents.touch() == 0 {
                cx.waker().wake_by_ref();
                contents.touch();
                return Poll::Pending;
            }
            Poll::Ready(contents.touch())
        })
    });
    let other = spawn_task(&core, task.as_ref().to_task());
    run_task(&core, task);
    other.join().unwrap();
    work(&core);
    assert_eq!(user.into_value().unwrap(), 3);
}

/// Two users go while the task is run.
fn last_users() {
    let core = new_core();
    let contents = Contents::new();
    let (user, task) = new_task(&core, Setup::default(), async move { contents });
    core.injector.push(task);
    let other = user.clone();
    let dropper = thread::spawn(move || drop(other));
    let worker = thread::spawn({
        let core = core.clone();
        move || work(&core)
    });
    drop(user);
    dropper.join().unwrap();
    worker.join().unwrap();
    work(&core);
}

/// The last user of a task that goes on all the same goes while it ends, and again one that comes by.
fn detached() {
    let core = new_core();
    let contents = Contents::new();
    let setup = Setup { flags: DETACHED, ..Setup::default() };
    let (user, task) = new_task(&core, setup, async move { contents.touch() });
    let other = task.as_ref().to_task();
    core.injector.push(task);
    let dropper = thread::spawn(move || drop(user));
    let looker = thread::spawn(move || other.waiters.resolution() == Resolution::Succeeded);
    work(&core);
    dropper.join().unwrap();
    looker.join().unwrap();
}

/// The value of a task is read by one user and then moved out by the other, as soon as it's alone, while a
/// waker goes.
fn taken() {
    let core = new_core();
    let contents = Contents::new();
    let (user, task) = new_task(&core, Setup::default(), async move { contents });
    let waker = task.as_ref().to_task();
    let other = user.clone();
    let reader = thread::spawn(move || {
        let seen = other.try_ref().map(|value| value.unwrap().0.get());
        drop(other);
        drop(waker);
        seen
    });
    run_task(&core, task);
    let value = user.try_ref().expect("it has ended").unwrap();
    drop(user);
    if let Ok(contents) = value.try_into_inner() {
        contents.touch();
    }
    reader.join().unwrap();
}
