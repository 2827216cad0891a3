//! The queue of ended tasks: each member comes out once, whoever waits is woken, and a sink may go at any time:
//! what it shares with its members is freed once, by the last to look at it.
//!
//! Bounds: two members, two tasks that end on threads of their own, one sink.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Waker};

use loom::thread::JoinHandle;

use super::{Model, WEAK, block_on, new_core, new_task, spawn_task};
use crate::engine::core::CoreRef;
use crate::engine::futures::completion::Completions;
use crate::engine::life::cell::Setup;
use crate::engine::task::typed::Typed;

pub(super) const MODELS: &[Model] = &[
    Model { name: "sink: delivered", orders: WEAK, interruptions: Some(2), run: delivered },
    Model { name: "sink: added", orders: WEAK, interruptions: Some(2), run: added },
    Model { name: "sink: dropped", orders: WEAK, interruptions: Some(4), run: dropped },
    Model {
        name: "sink: dropped with two",
        orders: WEAK,
        interruptions: Some(1),
        run: dropped_two,
    },
    Model {
        name: "sink: dropped while waiting",
        orders: WEAK,
        interruptions: Some(2),
        run: dropped_waiting,
    },
];

fn ending(core: &CoreRef) -> (Typed<()>, JoinHandle<()>) {
    let (user, task) = new_task(core, Setup::default(), async {});
    (user, spawn_task(core, task))
}

fn drain(sink: &mut Completions<()>) -> Vec<usize> {
    let mut tags = Vec::new();
    while let Some((_, tag)) = block_on(poll_fn(|cx| sink.poll_pop(cx))) {
        tags.push(tag);
    }
    tags.sort();
    tags
}

/// Two tasks end while the sink is waited for.
fn delivered() {
    let core = new_core();
    let mut sink = Completions::new();
    let ((one, first), (two, second)) = (ending(&core), ending(&core));
    sink.add(one, 1);
    sink.add(two, 2);
    assert_eq!(drain(&mut sink), [1, 2]);
    first.join().unwrap();
    second.join().unwrap();
}

/// A task is added, ended or not, while another one has set a waker and ends.
fn added() {
    let core = new_core();
    let mut sink = Completions::new();
    let (one, first) = ending(&core);
    sink.add(one, 1);
    let (two, second) = ending(&core);
    let mut tags = Vec::new();
    let mut two = Some(two);
    while tags.len() < 2 {
        let popped = block_on(poll_fn(|cx| {
            let poll = sink.poll_pop(cx);
            match two.take() {
                Some(two) if poll.is_pending() => {
                    sink.add(two, 2);
                    poll
                }
                other => {
                    two = other;
                    poll
                }
            }
        }));
        match popped {
            Some((_, tag)) => tags.push(tag),
            None => sink.add(two.take().unwrap(), 2),
        }
    }
    tags.sort();
    assert_eq!(tags, [1, 2]);
    first.join().unwrap();
    second.join().unwrap();
}

/// The sink goes while its member ends.
fn dropped() {
    let core = new_core();
    let mut sink = Completions::new();
    let (one, first) = ending(&core);
    sink.add(one, 1);
    drop(sink);
    first.join().unwrap();
}

/// The sink goes while both of its members end.
fn dropped_two() {
    let core = new_core();
    let mut sink = Completions::new();
    let ((one, first), (two, second)) = (ending(&core), ending(&core));
    sink.add(one, 1);
    sink.add(two, 2);
    drop(sink);
    first.join().unwrap();
    second.join().unwrap();
}

/// The sink goes with a waker in it while its member ends.
fn dropped_waiting() {
    let core = new_core();
    let mut sink = Completions::new();
    let (one, first) = ending(&core);
    sink.add(one, 1);
    let poll = pin!(poll_fn(|cx| sink.poll_pop(cx)));
    let popped = poll.poll(&mut Context::from_waker(Waker::noop()));
    drop(sink);
    drop(popped);
    first.join().unwrap();
}
