//! The list of who waits: whoever enters is told of the end, or takes itself out, and never both; whoever comes
//! too late is told so. And an entry that is given up while it's told is freed once, by the last to use it.
//!
//! Bounds: two entries, three threads.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::ptr::NonNull;
use std::task::{Context as Poller, Poll, Waker};

use loom::sync::Arc;
use loom::thread;

use super::{Model, WEAK, block_on, fail, new_core, new_task, work};
use crate::engine::cell::Setup;
use crate::engine::wait::Waitable;
use crate::engine::waiters::{Kind, Link, Waiters};
use crate::sync::Cell;

pub(super) const MODELS: &[Model] = &[
    Model { name: "waiters: closed", orders: WEAK, interruptions: None, run: || list(false) },
    Model { name: "waiters: closed after doom", orders: WEAK, interruptions: None, run: || list(true) },
    Model { name: "waiters: awaited", orders: WEAK, interruptions: Some(5), run: || awaited(false) },
    Model { name: "waiters: awaited, failing", orders: WEAK, interruptions: Some(5), run: || awaited(true) },
    Model { name: "waiters: given up", orders: WEAK, interruptions: Some(5), run: given_up },
];

struct List {
    waiters: Waiters,
    entries: [Entry; 2],
}

#[repr(C)]
struct Entry {
    link: Link,
    /// How often it was told, or taken out; for who does it.
    told: Cell<usize>,
}

// SAFETY: loom sees to it.
unsafe impl Send for List {}
// SAFETY: as above.
unsafe impl Sync for List {}

impl List {
    /// Enters, and, unless it's to stay, takes itself out again. True where it was entered and left there.
    fn enter(&self, at: usize, stays: bool) -> bool {
        let entry = &self.entries[at];
        let link = (&raw const *entry).cast::<Link>();
        let Some(mut locked) = self.waiters.lock() else { return false };
        // SAFETY: it's in no list, and stays as long as this one.
        unsafe { locked.push(link) };
        drop(locked);
        if stays {
            return true;
        }
        // SAFETY: it's in this list, if in any.
        if self.waiters.lock().is_some_and(|mut locked| unsafe { locked.unlink(link) }) {
            entry.told.set(entry.told.get() + 1);
            return false;
        }
        true
    }

    fn close(&self, doomed: bool) {
        let taken = if doomed {
            self.waiters.lock().unwrap().doom();
            assert!(self.waiters.close().is_none());
            self.waiters.lock().unwrap().close_failed()
        } else {
            self.waiters.close().unwrap()
        };
        for link in taken {
            let entry: NonNull<Entry> = link.cast();
            // SAFETY: entries stay as long as the list.
            let told = unsafe { &entry.as_ref().told };
            told.set(told.get() + 1);
        }
    }
}

/// One enters and stays, another enters and leaves, while the task ends.
fn list(doomed: bool) {
    let entries = [0, 1].map(|_| Entry { link: Link::new(Kind::Wait), told: Cell::new(0) });
    let list = Arc::new(List { waiters: Waiters::new(), entries });
    let (one, two) = (list.clone(), list.clone());
    let one = thread::spawn(move || one.enter(0, true));
    let two = thread::spawn(move || two.enter(1, false));
    list.close(doomed);
    let (one, two) = (one.join().unwrap(), two.join().unwrap());
    assert_eq!(list.entries[0].told.get(), usize::from(one));
    assert!(!two || list.entries[1].told.get() == 1);
    assert!(list.entries[1].told.get() <= 1);
    assert!(list.waiters.lock().is_none());
}

/// A handle is awaited while its task ends: with a value, or with an error.
fn awaited(fails: bool) {
    let core = new_core();
    let (user, task) = new_task(&core, Setup::default(), async { 7 });
    core.injector.push(task);
    let other = user.clone();
    let ender = thread::spawn({
        let core = core.clone();
        move || {
            if fails {
                fail(other.task());
            }
            drop(other);
            work(&core);
        }
    });
    let mut handle = Waitable::new(user);
    block_on(poll_fn(|poller| handle.poll_ended(poller))).unwrap();
    let value = handle.typed().try_clone().expect("it has ended");
    assert!(if fails { value.is_err() } else { value.unwrap() == 7 });
    drop(handle);
    ender.join().unwrap();
}

/// A handle is awaited, with one waker and then another, and dropped, while its task ends.
fn given_up() {
    let core = new_core();
    let (user, task) = new_task(&core, Setup::default(), async { 7 });
    core.injector.push(task);
    let ender = thread::spawn({
        let core = core.clone();
        move || work(&core)
    });
    let mut handle = Waitable::new(user);
    for _ in 0..2 {
        let mut poller = Poller::from_waker(Waker::noop());
        let poll = pin!(poll_fn(|poller| handle.poll_ended(poller))).poll(&mut poller);
        if let Poll::Ready(ended) = poll {
            ended.unwrap();
        }
    }
    drop(handle);
    ender.join().unwrap();
    work(&core);
}
