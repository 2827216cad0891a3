//! Completion queues: each member comes out once, a waiting owner is woken, and the queue may be dropped at any time: the
//! part that it shares with its members is freed once, by the last thread to access it.
//!
//! Bounds: two members, whose tasks end on threads of their own, one queue.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Waker};

use loom::thread::JoinHandle;

use super::{Model, WEAK, block_on, new_core, new_task, spawn_task};
use crate::engine::core::CoreRef;
use crate::engine::futures::completion::Completions;
use crate::engine::life::create::Setup;
use crate::engine::task::typed::Typed;

pub(super) const MODELS: &[Model] = &[
    Model { name: "completion: delivered", orders: WEAK, interruptions: Some(2), run: delivered },
    Model { name: "completion: added", orders: WEAK, interruptions: Some(2), run: added },
    Model { name: "completion: dropped", orders: WEAK, interruptions: Some(4), run: dropped },
    Model {
        name: "completion: dropped with two",
        orders: WEAK,
        interruptions: Some(1),
        run: dropped_two,
    },
    Model {
        name: "completion: dropped while waiting",
        orders: WEAK,
        interruptions: Some(2),
        run: dropped_waiting,
    },
];

fn ending(core: &CoreRef) -> (Typed<()>, JoinHandle<()>) {
    let (interest, task) = new_task(core, Setup::default(), async {});
    (interest, spawn_task(core, task))
}

fn drain(queue: &mut Completions<()>) -> Vec<usize> {
    let mut tags = Vec::new();
    while let Some((_, tag)) = block_on(poll_fn(|cx| queue.poll_pop(cx))) {
        tags.push(tag);
    }
    tags.sort();
    tags
}

/// Two tasks end while the owner waits for them.
fn delivered() {
    let core = new_core();
    let mut queue = Completions::new();
    let ((one, first), (two, second)) = (ending(&core), ending(&core));
    queue.add(one, 1);
    queue.add(two, 2);
    assert_eq!(drain(&mut queue), [1, 2]);
    first.join().unwrap();
    second.join().unwrap();
}

/// A task, ended or not, is added after the owner has set its waker, while another member ends.
fn added() {
    let core = new_core();
    let mut queue = Completions::new();
    let (one, first) = ending(&core);
    queue.add(one, 1);
    let (two, second) = ending(&core);
    let mut tags = Vec::new();
    let mut two = Some(two);
    while tags.len() < 2 {
        let popped = block_on(poll_fn(|cx| {
            let poll = queue.poll_pop(cx);
            match two.take() {
                Some(two) if poll.is_pending() => {
                    queue.add(two, 2);
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
            None => queue.add(two.take().unwrap(), 2),
        }
    }
    tags.sort();
    assert_eq!(tags, [1, 2]);
    first.join().unwrap();
    second.join().unwrap();
}

/// The queue is dropped while its member ends.
fn dropped() {
    let core = new_core();
    let mut queue = Completions::new();
    let (one, first) = ending(&core);
    queue.add(one, 1);
    drop(queue);
    first.join().unwrap();
}

/// The queue is dropped while both of its members end.
fn dropped_two() {
    let core = new_core();
    let mut queue = Completions::new();
    let ((one, first), (two, second)) = (ending(&core), ending(&core));
    queue.add(one, 1);
    queue.add(two, 2);
    drop(queue);
    first.join().unwrap();
    second.join().unwrap();
}

/// The queue is dropped with a waker in it while its member ends.
fn dropped_waiting() {
    let core = new_core();
    let mut queue = Completions::new();
    let (one, first) = ending(&core);
    queue.add(one, 1);
    let poll = pin!(poll_fn(|cx| queue.poll_pop(cx)));
    let popped = poll.poll(&mut Context::from_waker(Waker::noop()));
    drop(queue);
    drop(popped);
    first.join().unwrap();
}
