//! Blocking on a future: a thread that falls asleep or wakes up misses no wake, and sees what happened before it.
//!
//! A wake that is lost leaves the thread waiting, which loom reports as a deadlock. The threads don't look for their wakes,
//! since others go first while one does, so that none would be left to fall asleep for.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use loom::thread::{self, JoinHandle};

use super::{Model, WEAK};
use crate::engine::base::look::Lookers;
use crate::sync::{AtomicUsize, Ordering};

#[allow(dead_code)]
#[path = "../../../src/engine/base/block_on.rs"]
mod real;

pub(super) const MODELS: &[Model] = &[
    Model { name: "block_on: woken", orders: WEAK, interruptions: None, run: woken },
    Model { name: "block_on: woken twice", orders: WEAK, interruptions: Some(3), run: woken_twice },
];

/// Waits for threads that make `steps` steps each and then wake this one. Only the wakes order the steps.
fn wait(threads: usize, steps: usize) {
    let made: Vec<Arc<AtomicUsize>> = (0..threads).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let mut makers: Vec<JoinHandle<()>> = Vec::new();
    let all = poll_fn(|cx| {
        if makers.is_empty() {
            makers.extend(made.iter().map(|made| {
                let (made, waker) = (made.clone(), cx.waker().clone());
                thread::spawn(move || {
                    for _ in 0..steps {
                        made.fetch_add(1, Ordering::Relaxed);
                        waker.wake_by_ref();
                    }
                })
            }));
        }
        // Each is looked at: a wake is for all of them.
        let left = made.iter().filter(|made| made.load(Ordering::Relaxed) < steps).count();
        if left > 0 { Poll::Pending } else { Poll::Ready(()) }
    });
    real::block_on_among(&Lookers::new(2), all);
    // The counters are dropped after that, by this thread.
    makers.into_iter().for_each(|maker| maker.join().unwrap());
}

/// A thread waits for two steps of another one, which wakes it after each.
fn woken() {
    wait(1, 2);
}

/// A thread waits for a step of each of two others.
fn woken_twice() {
    wait(2, 1);
}
