//! The list of waiters: each entry is either notified or unlinked, never both, and an entry that comes too late is rejected.
//! An entry that is abandoned while it's notified is freed once, by the last of the two threads to use it.
//!
//! Bounds: two entries, three threads.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

use loom::sync::Arc;
use loom::thread;

use super::{Model, WEAK, block_on, fail, new_core, new_task, run_task, spawn_task, work};
use crate::Error;
use crate::engine::futures::wait::Waitable;
use crate::engine::life::create::Setup;
use crate::engine::life::{finish, retry};
use crate::engine::task::state::OBSERVED;
use crate::engine::task::waiters::{Link, Taken, WaiterKind, Waiters};
use crate::engine::task::walk;
use crate::sync::Cell;

pub(super) const MODELS: &[Model] = &[
    Model { name: "waiters: closed", orders: WEAK, interruptions: Some(2), run: closed },
    Model {
        name: "waiters: failed and retried",
        orders: WEAK,
        interruptions: None,
        run: failed_and_retried,
    },
    Model {
        name: "waiters: awaited",
        orders: WEAK,
        interruptions: Some(5),
        run: || awaited(false),
    },
    Model {
        name: "waiters: awaited, cancelled",
        orders: WEAK,
        interruptions: Some(5),
        run: || awaited(true),
    },
    Model {
        name: "waiters: awaited, retried",
        orders: WEAK,
        interruptions: Some(2),
        run: awaited_and_retried,
    },
    Model { name: "waiters: abandoned", orders: WEAK, interruptions: Some(3), run: abandoned },
    Model { name: "waiters: walked", orders: WEAK, interruptions: Some(4), run: || walked(false) },
    Model {
        name: "waiters: walked, cancelled",
        orders: WEAK,
        interruptions: Some(3),
        run: || walked(true),
    },
];

struct List {
    waiters: Waiters,
    entries: [Entry; 2],
}

#[repr(C)]
struct Entry {
    link: Link,
    /// How often it was notified or unlinked, counted by the thread that does it.
    ended: Cell<usize>,
}

// SAFETY: loom checks each access.
unsafe impl Send for List {}
// SAFETY: as above.
unsafe impl Sync for List {}

impl List {
    fn new() -> Arc<Self> {
        let entry = |_| Entry { link: Link::new(WaiterKind::Wait), ended: Cell::new(0) };
        Arc::new(Self { waiters: Waiters::new(), entries: [0, 1].map(entry) })
    }

    /// Links an entry. False if the list is closed.
    fn link(&self, at: usize) -> bool {
        let Some(mut locked) = self.waiters.lock() else { return false };
        // SAFETY: the entry is in no list, and stays in place as long as this one.
        unsafe { locked.push((&raw const self.entries[at]).cast()) };
        true
    }

    /// Unlinks an entry. False if it's notified instead.
    fn unlink(&self, at: usize) -> bool {
        let link = (&raw const self.entries[at]).cast::<Link>();
        // SAFETY: the entry is in no other list.
        let unlinked = self.waiters.lock().is_some_and(|mut locked| unsafe { locked.unlink(link) });
        if unlinked {
            let ended = &self.entries[at].ended;
            ended.set(ended.get() + 1);
        }
        unlinked
    }

    fn notify(&self, taken: Taken) {
        for link in taken {
            let entry: NonNull<Entry> = link.cast();
            // SAFETY: entries stay in place as long as the list.
            let ended = unsafe { &entry.as_ref().ended };
            ended.set(ended.get() + 1);
        }
    }

    fn ended(&self) -> [usize; 2] {
        [self.entries[0].ended.get(), self.entries[1].ended.get()]
    }
}

/// One entry is unlinked, and another one is linked and unlinked, while the task ends.
fn closed() {
    let list = List::new();
    assert!(list.link(0));
    let (one, two) = (list.clone(), list.clone());
    let unlinker = thread::spawn(move || one.unlink(0));
    let linker = thread::spawn(move || {
        let linked = two.link(1);
        if linked {
            two.unlink(1);
        }
        linked
    });
    list.notify(list.waiters.close().unwrap());
    unlinker.join().unwrap();
    let linked = linker.join().unwrap();
    assert_eq!(list.ended(), [1, usize::from(linked)]);
    assert!(list.waiters.lock().is_none());
}

/// One of two entries is unlinked while the task fails and is retried before the entries are notified.
fn failed_and_retried() {
    let list = List::new();
    assert!(list.link(0) && list.link(1));
    let unlinker = list.clone();
    let unlinker = thread::spawn(move || unlinker.unlink(0));
    list.waiters.lock().unwrap().abort();
    assert!(list.waiters.close().is_none());
    let taken = list.waiters.lock().unwrap().close_failed();
    list.waiters.lock_failed().unwrap().reopen();
    list.notify(taken);
    unlinker.join().unwrap();
    assert_eq!(list.ended(), [1, 1]);
    assert!(list.waiters.lock().is_some());
}

/// A handle is awaited while its task ends with a value, or is cancelled.
fn awaited(is_cancelled: bool) {
    let core = new_core();
    let (interest, task) = new_task(&core, Setup::default(), async { 7 });
    let other = interest.clone();
    let ender = thread::spawn({
        let core = core.clone();
        move || {
            if is_cancelled {
                fail(other.task());
            }
            drop(other);
            run_task(&core, task);
        }
    });
    let mut handle = Waitable::new(interest);
    block_on(poll_fn(|cx| handle.poll_ended(cx))).unwrap();
    let value = handle.typed().try_clone().expect("the task has ended");
    assert!(if is_cancelled { value.is_err() } else { value.unwrap() == 7 });
    drop(handle);
    ender.join().unwrap();
}

/// A handle is awaited while its task fails, and awaited again with another waker once the task was retried, which may be
/// before its entry has been notified.
fn awaited_and_retried() {
    let core = new_core();
    let (interest, task) = new_task(&core, Setup::default(), async { 7 });
    let other = interest.clone();
    let ender = thread::spawn(move || {
        let error = Error::panicked("model", Box::new("an error that a retry is possible after"));
        assert!(finish::abort(other.task(), error));
        // The handle retries it, or drops it unobserved.
        other.task().state.set(OBSERVED);
        drop(other);
        drop(task);
    });
    let mut handle = Waitable::new(interest.clone());
    let mut poll = || handle.poll_ended(&mut Context::from_waker(Waker::noop())).is_ready();
    poll();
    let is_retried = retry::retry(interest.task());
    poll();
    work(&core);
    assert!(!is_retried || poll());
    drop((handle, interest));
    ender.join().unwrap();
}

/// A handle is awaited with one waker and then another, and dropped, while its task ends.
fn abandoned() {
    let core = new_core();
    let (interest, task) = new_task(&core, Setup::default(), async { 7 });
    let ender = spawn_task(&core, task);
    let mut handle = Waitable::new(interest);
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

/// The entries of two handles are walked over in more than one step, while one handle is dropped and the task ends.
fn walked(is_cancelled: bool) {
    let core = new_core();
    let (interest, task) = new_task(&core, Setup::default(), async { 7 });
    let mut handles = [0, 1].map(|_| Waitable::new(interest.clone()));
    for handle in &mut handles {
        assert!(handle.poll_ended(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let walker = thread::spawn(move || walk::collect(&interest.task().waiters, 1, Some).len());
    let [first, second] = handles;
    drop(first);
    if is_cancelled {
        fail(second.typed().task());
    }
    run_task(&core, task);
    let seen = walker.join().unwrap();
    assert!(seen <= 2);
    drop(second);
}
