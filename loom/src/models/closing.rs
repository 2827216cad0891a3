//! The shutdown, and waiting for idleness: each task ends, with its outcome or an error, whatever is submitted, woken or
//! suspended while the engine is closed. Its workers exit, and whoever waits for that, or for idleness, is woken.
//!
//! A task that is missed, a worker that stays, or a waiter that isn't woken leaves all threads waiting, which loom reports as a
//! deadlock. Bounds: two workers, two tasks; preemptions as `MODELS` says.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use loom::thread;

use super::{Model, SEQ_CST, WEAK, block_on, new_core, new_task, run_task, work};
use crate::ErrorKind;
use crate::engine::data::waker_list::WakerList;
use crate::engine::futures::wait::Waitable;
use crate::engine::life::create::Setup;
use crate::engine::life::schedule;
use crate::engine::task::typed::Typed;
use crate::engine::worker::threads;
use crate::sync::{AtomicBool, Ordering};

pub(super) const MODELS: &[Model] = &[
    Model { name: "closing: submitted", orders: SEQ_CST, interruptions: Some(3), run: submitted },
    Model { name: "closing: run", orders: SEQ_CST, interruptions: Some(2), run: run },
    Model { name: "closing: suspended", orders: SEQ_CST, interruptions: Some(3), run: suspended },
    Model { name: "closing: woken", orders: SEQ_CST, interruptions: Some(1), run: woken },
    Model {
        name: "closing: scaled down",
        orders: SEQ_CST,
        interruptions: Some(2),
        run: scaled_down,
    },
    Model { name: "closing: idle", orders: SEQ_CST, interruptions: Some(2), run: idle },
    Model { name: "closing: notified", orders: WEAK, interruptions: None, run: notified },
];

fn is_closed<T>(task: &Typed<T>) -> bool {
    task.task().failure().is_some_and(|error| error.kind() == ErrorKind::Closed)
}

/// A task is submitted while the engine, which has no worker, is closed.
fn submitted() {
    let core = new_core();
    let closing = core.clone();
    let closer = thread::spawn(move || closing.begin_close(false));
    let (interest, task) = new_task(&core, Setup::default(), async {});
    schedule::schedule_new(task);
    closer.join().unwrap();
    assert!(is_closed(&interest));
    assert!(!core.has_queued());
}

/// A task is submitted while the engine, which has a worker, is closed. It runs, or is aborted, and the worker exits.
fn run() {
    let core = new_core();
    threads::scale(&core, 1).unwrap();
    let (interest, task) = new_task(&core, Setup::default(), async { 7 });
    schedule::schedule_new(task);
    block_on(core.clone().close());
    assert!(is_closed(&interest) || *interest.try_ref().expect("it has ended").unwrap() == 7);
    assert!(!core.has_queued());
    assert_eq!((core.workers(), core.threads.alive()), (0, 0));
}

/// A task is suspended for good while its engine is aborted.
fn suspended() {
    let core = new_core();
    let (interest, task) = new_task(&core, Setup::default(), poll_fn(|_| Poll::<()>::Pending));
    let aborting = core.clone();
    let aborter = thread::spawn(move || aborting.begin_close(true));
    run_task(&core, task);
    aborter.join().unwrap();
    // A task that was in its poll is woken, and ended by its worker.
    work(&core);
    assert!(is_closed(&interest));
    assert!(core.is_done());
}

/// A task that has started is woken from outside while its engine is closed: it runs on.
fn woken() {
    let core = new_core();
    let (wakers, waker) = loom::sync::mpsc::channel();
    let mut polls = 0;
    let (interest, task) = new_task(&core, Setup::default(), {
        poll_fn(move |cx| {
            polls += 1;
            if polls > 1 {
                return Poll::Ready(7);
            }
            wakers.send(cx.waker().clone()).unwrap();
            Poll::Pending
        })
    });
    run_task(&core, task);
    threads::scale(&core, 1).unwrap();
    let waker = thread::spawn(move || waker.recv().unwrap().wake());
    block_on(core.clone().close());
    waker.join().unwrap();
    assert_eq!(*interest.try_ref().expect("it has ended").unwrap(), 7);
    assert!(!core.has_queued());
}

/// Of two workers one exits, and the other one runs the task.
fn scaled_down() {
    let core = new_core();
    threads::scale(&core, 2).unwrap();
    threads::scale(&core, 1).unwrap();
    assert!(core.threads.alive() >= 1);
    let (interest, task) = new_task(&core, Setup::default(), async { 7 });
    schedule::schedule_new(task);
    let mut handle = Waitable::new(interest);
    block_on(poll_fn(|cx| handle.poll_ended(cx))).unwrap();
    block_on(core.clone().close());
    assert_eq!((core.workers(), core.threads.alive()), (0, 0));
}

/// A thread waits for idleness while a worker runs a task.
fn idle() {
    let core = new_core();
    threads::scale(&core, 1).unwrap();
    let (interest, task) = new_task(&core, Setup::default(), async { 7 });
    schedule::schedule_new(task);
    block_on(core.clone().idle());
    assert_eq!(*interest.try_ref().expect("it has ended").unwrap(), 7);
    block_on(core.clone().close());
}

/// A thread waits for a change in the list of wakers while another one makes it.
fn notified() {
    let list = Arc::new(WakerList::default());
    let changed = Arc::new(AtomicBool::new(false));
    let changer = thread::spawn({
        let (list, changed) = (list.clone(), changed.clone());
        move || {
            changed.store(true, Ordering::Release);
            list.wake_all();
        }
    });
    let waiter = list.enter();
    block_on(poll_fn(|cx| {
        waiter.register(cx.waker());
        if changed.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }));
    changer.join().unwrap();
}
