//! The list of who waits: whoever enters is told of the end, or takes itself out, and never both; whoever comes
//! too late is told so. And an entry that is given up while it's told is freed once, by the last to use it.
//!
//! Bounds: two entries, three threads.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

use loom::sync::Arc;
use loom::thread;

use super::{Model, WEAK, block_on, fail, new_core, new_task, run_task, spawn_task};
use crate::engine::futures::wait::Waitable;
use crate::engine::life::cell::Setup;
use crate::engine::task::waiters::{Link, Taken, WaiterKind, Waiters};
use crate::sync::Cell;

pub(super) const MODELS: &[Model] = &[
    Model { name: "waiters: closed", orders: WEAK, interruptions: Some(2), run: closed },
    Model {
        name: "waiters: closed after doom",
        orders: WEAK,
        interruptions: None,
        run: closed_after_doom,
    },
    Model {
        name: "waiters: awaited",
        orders: WEAK,
        interruptions: Some(5),
        run: || awaited(false),
    },
    Model {
        name: "waiters: awaited, failing",
        orders: WEAK,
        interruptions: Some(5),
        run: || awaited(true),
    },
    Model { name: "waiters: given up", orders: WEAK, interruptions: Some(3), run: given_up },
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
    fn new() -> Arc<Self> {
        let entry = |_| Entry { link: Link::new(WaiterKind::Wait), told: Cell::new(0) };
        Arc::new(Self { waiters: Waiters::new(), entries: [0, 1].map(entry) })
    }

    /// False where it's too late.
    fn enter(&self, at: usize) -> bool {
        let Some(mut locked) = self.waiters.lock() else { return false };
        // SAFETY: it's in no list, and stays as long as this one.
        unsafe { locked.push((&raw const self.entries[at]).cast()) };
        true
    }

    /// False where it's told instead.
    fn leave(&self, at: usize) -> bool {
        let link = (&raw const self.entries[at]).cast::<Link>();
        // SAFETY: it's in this list, if in any.
        let left = self.waiters.lock().is_some_and(|mut locked| unsafe { locked.unlink(link) });
        if left {
            let told = &self.entries[at].told;
            told.set(told.get() + 1);
        }
        left
    }

    fn tell(&self, taken: Taken) {
        for link in taken {
            let entry: NonNull<Entry> = link.cast();
            // SAFETY: entries stay as long as the list.
            let told = unsafe { &entry.as_ref().told };
            told.set(told.get() + 1);
        }
    }

    fn told(&self) -> [usize; 2] {
        [self.entries[0].told.get(), self.entries[1].told.get()]
    }
}

/// One entry is there and leaves, and another enters and leaves, while the task ends.
fn closed() {
    let list = List::new();
    assert!(list.enter(0));
    let (one, two) = (list.clone(), list.clone());
    let leaving = thread::spawn(move || one.leave(0));
    let entering = thread::spawn(move || {
        let entered = two.enter(1);
        if entered {
            two.leave(1);
        }
        entered
    });
    list.tell(list.waiters.close().unwrap());
    leaving.join().unwrap();
    let entered = entering.join().unwrap();
    assert_eq!(list.told(), [1, usize::from(entered)]);
    assert!(list.waiters.lock().is_none());
}

/// Two entries are there and one leaves, while the task fails and is made to wait again before they're told.
fn closed_after_doom() {
    let list = List::new();
    assert!(list.enter(0) && list.enter(1));
    let leaving = list.clone();
    let leaving = thread::spawn(move || leaving.leave(0));
    list.waiters.lock().unwrap().abort();
    assert!(list.waiters.close().is_none());
    let taken = list.waiters.lock().unwrap().close_failed();
    list.waiters.lock_failed().unwrap().reopen();
    list.tell(taken);
    leaving.join().unwrap();
    assert_eq!(list.told(), [1, 1]);
    assert!(list.waiters.lock().is_some());
}

/// A handle is awaited while its task ends: with a value, or with an error.
fn awaited(fails: bool) {
    let core = new_core();
    let (user, task) = new_task(&core, Setup::default(), async { 7 });
    let other = user.clone();
    let ender = thread::spawn({
        let core = core.clone();
        move || {
            if fails {
                fail(other.task());
            }
            drop(other);
            run_task(&core, task);
        }
    });
    let mut handle = Waitable::new(user);
    block_on(poll_fn(|cx| handle.poll_ended(cx))).unwrap();
    let value = handle.typed().try_clone().expect("it has ended");
    assert!(if fails { value.is_err() } else { value.unwrap() == 7 });
    drop(handle);
    ender.join().unwrap();
}

/// A handle is awaited, with one waker and then another, and dropped, while its task ends.
fn given_up() {
    let core = new_core();
    let (user, task) = new_task(&core, Setup::default(), async { 7 });
    let ender = spawn_task(&core, task);
    let mut handle = Waitable::new(user);
    for _ in 0..2 {
        let mut cx = Context::from_waker(Waker::noop());
        let poll = pin!(poll_fn(|cx| handle.poll_ended(cx))).poll(&mut cx);
        if let Poll::Ready(ended) = poll {
            ended.unwrap();
        }
    }
    drop(handle);
    ender.join().unwrap();
}
