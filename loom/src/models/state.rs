//! The state word: a task is run by one thread at a time and ends once, whichever threads wake it, abort it or drop their
//! interests in it. Its contents and its memory are freed once, after the last interest and the last reference.
//!
//! The tasks are real, and so is the code that ends and frees them. Loom finds contents that two threads access at once,
//! memory that is freed twice or not at all, and accesses that could come after. Bounds: two or three threads, one task.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use loom::thread;

use super::{Model, WEAK, cancel, new_core, new_task, run_task, spawn_task, work};
use crate::Error;
use crate::engine::core::Core;
use crate::engine::data::clock::Clock;
use crate::engine::life::create::Setup;
use crate::engine::life::{deadline, finish, retry, schedule};
use crate::engine::task::header::{Deadline, Extras};
use crate::engine::task::state::DETACHED;
use crate::engine::task::waiters::Resolution;
use crate::sync::{Cell, yield_now};

pub(super) const MODELS: &[Model] = &[
    Model { name: "state: run or aborted", orders: WEAK, interruptions: None, run: run_or_aborted },
    Model {
        name: "state: woken or aborted",
        orders: WEAK,
        interruptions: Some(4),
        run: woken_or_aborted,
    },
    Model {
        name: "state: aborted and retried",
        orders: WEAK,
        interruptions: Some(4),
        run: aborted_and_retried,
    },
    Model { name: "state: deadline", orders: WEAK, interruptions: Some(2), run: deadline },
    Model { name: "state: two entries", orders: WEAK, interruptions: Some(5), run: two_entries },
    Model { name: "state: raised", orders: WEAK, interruptions: Some(2), run: raised },
    Model {
        name: "state: last interests",
        orders: WEAK,
        interruptions: Some(5),
        run: last_interests,
    },
    Model { name: "state: detached", orders: WEAK, interruptions: Some(5), run: detached },
    Model { name: "state: value taken", orders: WEAK, interruptions: Some(4), run: value_taken },
];

/// Contents that only one thread may access at a time. Dropping them is an access.
struct Contents(Cell<usize>);

// SAFETY: loom checks each access.
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

/// A queued task is run by one thread and cancelled by another.
fn run_or_aborted() {
    let core = new_core();
    let contents = Contents::new();
    let (interest, task) = new_task(&core, Setup::default(), async move { contents.touch() });
    core.injector.push(task);
    let other = interest.clone();
    let canceller = thread::spawn(move || finish::abort(other.task(), cancel()));
    work(&core);
    let cancelled = canceller.join().unwrap();
    match interest.into_value() {
        Ok(runs) => assert!(!cancelled && runs == 0),
        Err(error) => assert!(cancelled && error.is_cancelled(), "{error}"),
    }
    work(&core);
}

/// A task that may be queued fails and is retried, so that it may have two entries: the injector must not get both.
fn aborted_and_retried() {
    let core = new_core();
    let contents = Contents::new();
    let (interest, task) = new_task(&core, Setup::default(), async move { contents.touch() });
    schedule::schedule_new(task);
    let other = interest.clone();
    let retrier = thread::spawn(move || {
        finish::abort(other.task(), past_deadline()) && retry::retry(other.task())
    });
    work(&core);
    let is_retried = retrier.join().unwrap();
    work(&core);
    match interest.into_value() {
        Ok(runs) => assert_eq!(runs, 0),
        // It was in a poll, or had ended it.
        Err(error) => assert!(!is_retried && error.is_timeout(), "{error}"),
    }
}

/// A task's deadline passes while it's built, run and retried. It ends in time or with the error.
fn deadline() {
    let core = new_core();
    let clock = Clock::start();
    let timers = thread::spawn({
        let clock = clock.clone();
        move || clock.serve()
    });
    let contents = Contents::new();
    let extras = Extras { deadline: Some(Deadline::new(Duration::ZERO)), ..Extras::default() };
    let setup = Setup { extras: Some(Box::new(extras)), ..Setup::default() };
    let (interest, task) = new_task(&core, setup, async move { contents.touch() });
    deadline::check(interest.task());
    schedule::schedule_new(task);
    work(&core);
    if retry::retry(interest.task()) {
        work(&core);
    }
    clock.end();
    timers.join().unwrap();
    match interest.into_value() {
        Ok(runs) => assert_eq!(runs, 0),
        Err(error) => assert!(error.is_timeout(), "{error}"),
    }
}

fn past_deadline() -> Error {
    Error::past_deadline("model".into(), Duration::ZERO)
}

/// A suspended task is woken and run by one thread and cancelled by another, while a worker looks for tasks.
fn woken_or_aborted() {
    let core = new_core();
    let contents = Contents::new();
    let (wakers, woken) = loom::sync::mpsc::channel();
    let (interest, task) = new_task(&core, Setup::default(), {
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
    let other = interest.clone();
    work(&core);
    let canceller = thread::spawn(move || finish::abort(other.task(), cancel()));
    work(&core);
    waker.join().unwrap();
    let cancelled = canceller.join().unwrap();
    work(&core);
    match interest.into_value() {
        Ok(()) => assert!(!cancelled),
        Err(error) => assert!(cancelled && error.is_cancelled(), "{error}"),
    }
}

/// A task has two queue entries, and wakes itself in its first poll.
fn two_entries() {
    let core = new_core();
    let contents = Contents::new();
    let (interest, task) = new_task(&core, Setup::default(), {
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
    assert_eq!(interest.into_value().unwrap(), 3);
}

/// A queued task is raised to the priority of the shared queue, so it may have two queue entries, and is woken from outside
/// the workers after each of its polls.
fn raised() {
    let core = new_core();
    let contents = Contents::new();
    let waker = Arc::new(Mutex::new(None));
    let setup = Setup { priority: -1, ..Setup::default() };
    let (interest, task) = new_task(&core, setup, {
        let waker = waker.clone();
        poll_fn(move |cx| {
            if contents.touch() < 2 {
                *waker.lock().unwrap() = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
    });
    core.priority_queue.push(-1, task);
    let other = interest.clone();
    let raiser = thread::spawn(move || Core::raise(other.task(), 0));
    let work_once = || {
        let mut task = core.priority_queue.pop();
        if task.is_none() {
            core.injector.take(1, |injected| task = Some(injected));
        }
        task.map(|task| run_task(&core, task))
    };
    while interest.try_ref().is_none() {
        if work_once().is_none() {
            // The other thread woke it, too, and is about to queue it.
            yield_now();
        }
        let waker = waker.lock().unwrap().take();
        waker.into_iter().for_each(Waker::wake);
    }
    raiser.join().unwrap();
    // What is left is stale.
    while work_once().is_some() {}
    assert!(!core.has_queued());
}

/// Two interests are dropped while the task is run.
fn last_interests() {
    let core = new_core();
    let contents = Contents::new();
    let (interest, task) = new_task(&core, Setup::default(), async move { contents });
    core.injector.push(task);
    let other = interest.clone();
    let dropper = thread::spawn(move || drop(other));
    let worker = thread::spawn({
        let core = core.clone();
        move || work(&core)
    });
    drop(interest);
    dropper.join().unwrap();
    worker.join().unwrap();
    work(&core);
}

/// The last interest in a detached task is dropped while the task ends, and so is a reference.
fn detached() {
    let core = new_core();
    let contents = Contents::new();
    let setup = Setup { flags: DETACHED, ..Setup::default() };
    let (interest, task) = new_task(&core, setup, async move { contents.touch() });
    let other = task.as_ref().to_task();
    core.injector.push(task);
    let dropper = thread::spawn(move || drop(interest));
    let reader = thread::spawn(move || other.waiters.resolution() == Resolution::Succeeded);
    work(&core);
    dropper.join().unwrap();
    reader.join().unwrap();
}

/// One interest reads the value of a task and is dropped; the other one moves the value out as soon as it's the only one,
/// while a waker is dropped.
fn value_taken() {
    let core = new_core();
    let contents = Contents::new();
    let (interest, task) = new_task(&core, Setup::default(), async move { contents });
    let waker = task.as_ref().to_task();
    let other = interest.clone();
    let reader = thread::spawn(move || {
        let seen = other.try_ref().map(|value| value.unwrap().0.get());
        drop(other);
        drop(waker);
        seen
    });
    run_task(&core, task);
    let value = interest.try_ref().expect("the task has ended").unwrap();
    drop(interest);
    if let Ok(contents) = value.try_into_inner() {
        contents.touch();
    }
    reader.join().unwrap();
}
