//! A handle that is being awaited: its entry in the task's list of waiters.
//!
//! The entry belongs to the handle, which may go at any time, and, once taken from the list, also to
//! the one who tells it. The last of the two to be done with it frees it.

use std::mem::{self, ManuallyDrop};
use std::ptr::{self, NonNull};
use std::task::{Context as Poller, Poll, Waker};

use super::context;
use super::core::Core;
use super::cycle;
use super::header::{Task, TaskRef};
use super::release::quietly;
use super::state::AWAITS;
use super::sync::{AtomicU8, Ordering, UnsafeCell};
use super::typed::Typed;
use super::waiters::{Kind, Link, Outlook};
use super::worker;
use crate::Error;

const WAITING: u8 = 0;
/// Told, by who took it from the list.
const TOLD: u8 = 1;
/// Given up by its handle.
const GIVEN_UP: u8 = 2;

#[repr(C)]
pub(crate) struct WaitNode {
    link: Link,
    state: AtomicU8,
    /// Guarded by the lock of the list, then by having taken the list.
    what: UnsafeCell<Waiting>,
}

struct Waiting {
    waker: Waker,
    awaiter: Option<Awaiter>,
}

/// The task that awaits.
pub(crate) struct Awaiter {
    pub(crate) task: Task,
    /// The poll in which it did; `None` where its blocking work waits, on its own thread.
    poll: Option<u32>,
}

impl Awaiter {
    /// The task whose code is running on this thread, which is about to await something.
    pub(crate) fn begin() -> Option<Self> {
        context::current_task().map(|task| {
            if task.state.load() & AWAITS == 0 {
                task.state.set(AWAITS);
            }
            let poll = context::on_worker().then(|| task.polls.load(Ordering::Relaxed));
            Self { task, poll }
        })
    }

    pub(crate) fn again(&self) -> Self {
        Self { task: self.task.as_ref().to_task(), poll: self.poll }
    }

    /// Whether it's the poll that is under way on this thread.
    fn is_current(&self) -> bool {
        let current = context::current_task();
        self.still_awaits() && current.is_some_and(|task| task.as_ref().is(self.task.as_ref()))
    }

    /// An await lasts until the task's next poll, and a blocking one until it's over.
    pub(crate) fn still_awaits(&self) -> bool {
        self.poll.is_none_or(|poll| self.task.polls.load(Ordering::Acquire) == poll)
    }
}

/// A user of a task that can be awaited: a handle's inside.
pub(crate) struct Waitable<T> {
    typed: ManuallyDrop<Typed<T>>,
    node: Node,
}

/// Null, an entry of ours, [`DELIVERED`], or, marked with [`HERE`], the address of a boxed `Waitable`: that of the
/// task that brings the value, where it's elsewhere.
struct Node(*mut WaitNode);

/// The handle has given out its result.
const DELIVERED: *mut WaitNode = ptr::without_provenance_mut(1);

const HERE: usize = 2;

// SAFETY: an entry is shared with who tells it, on any thread, in the ways said above.
unsafe impl Send for Node {}
// SAFETY: nothing is done with it through a shared reference.
unsafe impl Sync for Node {}

impl Node {
    /// The boxed `Waitable` of the same type, if that's what it is.
    fn here<T>(&self) -> Option<NonNull<Waitable<T>>> {
        if !cfg!(feature = "dask") || self.0.addr() & HERE == 0 {
            return None;
        }
        NonNull::new(self.0.map_addr(|address| address & !HERE).cast())
    }
}

impl<T> Waitable<T> {
    pub(crate) fn new(typed: Typed<T>) -> Self {
        Self { typed: ManuallyDrop::new(typed), node: Node(ptr::null_mut()) }
    }

    pub(crate) fn typed(&self) -> &Typed<T> {
        &self.typed
    }

    pub(crate) fn into_typed(self) -> Typed<T> {
        let mut this = ManuallyDrop::new(self);
        this.forget();
        // SAFETY: it's taken once, since `this` isn't dropped.
        unsafe { ManuallyDrop::take(&mut this.typed) }
    }

    /// The task that has the value.
    pub(crate) fn here(&self) -> &Typed<T> {
        match self.node.here() {
            // SAFETY: it's ours until the word changes.
            Some(here) => unsafe { &(*here.as_ptr()).typed },
            None => &self.typed,
        }
    }

    pub(crate) fn is_delivered(&self) -> bool {
        self.node.0 == DELIVERED
    }

    pub(crate) fn set_delivered(&mut self) {
        self.forget();
        self.node.0 = DELIVERED;
    }

    /// Resolves when the task has ended, and its value is here; to an error where this await would close a ring.
    pub(crate) fn poll_ended(&mut self, poller: &mut Poller<'_>) -> Poll<Result<(), Error>> {
        if self.typed.is_elsewhere() {
            return self.poll_brought(poller);
        }
        if self.typed.task().waiters.is_closed() {
            return Poll::Ready(Ok(()));
        }
        let awaiter = Awaiter::begin();
        let again = awaiter.as_ref().map(Awaiter::again);
        let Some(is_new) = self.register(poller.waker(), again) else {
            return Poll::Ready(Ok(()));
        };
        let task = self.typed.task();
        if let Some(awaiter) = awaiter {
            Core::raise(task, awaiter.task.priority());
            if is_new {
                context::note_await(task);
            }
            if let Some(error) = cycle::find(&awaiter, 1, |other| other.is(task), |see| see(task)) {
                self.forget();
                return Poll::Ready(Err(error));
            }
        }
        if task.core().seeded.is_some() {
            let done = || task.waiters.is_closed();
            if worker::drive_seeded(&task.core().to_ref(), poller.waker(), done) {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    #[cold]
    fn poll_brought(&mut self, poller: &mut Poller<'_>) -> Poll<Result<(), Error>> {
        let has_failed = |task: TaskRef<'_>| task.waiters.outlook() == Outlook::Failed;
        // A bringer that never ran has failed with its task. Where that runs again, or has done so, it's of no more use.
        let here = self.here().task();
        let outlived = here.polls.load(Ordering::Relaxed) == 0
            && has_failed(here)
            && !has_failed(self.typed.task());
        if self.node.here::<T>().is_none() || outlived {
            self.forget();
            let here = Box::into_raw(Box::new(Self::new(self.typed().clone().here())));
            self.node.0 = here.map_addr(|address| address | HERE).cast();
        }
        match self.node.here::<T>() {
            // SAFETY: it's ours.
            Some(mut here) => unsafe { here.as_mut() }.poll_ended(poller),
            None => unreachable!("it was just put there"),
        }
    }

    /// Has the waker woken when the task ends; `None` where it has. Says whether it's the first time in this
    /// poll of the task that awaits.
    fn register(&mut self, waker: &Waker, awaiter: Option<Awaiter>) -> Option<bool> {
        let mut new = Waiting { waker: waker.clone(), awaiter };
        match self.refresh(&mut new) {
            // It's the one from before now.
            Refreshed::Yes => {
                return Some(!new.awaiter.is_some_and(|awaiter| awaiter.is_current()));
            }
            Refreshed::Ended => return None,
            // There's none, or it was told in an earlier life of a task that was retried since.
            Refreshed::Gone => self.forget(),
        }
        // A waker's code is foreign: it was cloned before locking.
        let node = Box::into_raw(Box::new(WaitNode {
            link: Link::new(Kind::Wait),
            state: AtomicU8::new(WAITING),
            what: UnsafeCell::new(new),
        }));
        match self.typed.task().waiters.lock() {
            Some(mut locked) => {
                // SAFETY: the entry is new and stays in place until both sides are done with it.
                unsafe { locked.push(node.cast::<Link>()) };
                self.node.0 = node;
                Some(true)
            }
            None => {
                // SAFETY: it was never shared.
                drop(unsafe { Box::from_raw(node) });
                None
            }
        }
    }

    /// Exchanges what is in the entry.
    fn refresh(&mut self, new: &mut Waiting) -> Refreshed {
        if self.node.0.is_null() || self.is_delivered() {
            return Refreshed::Gone;
        }
        let task = self.typed.task();
        let Some(_locked) = task.waiters.lock() else { return Refreshed::Ended };
        // SAFETY: the entry is ours too until we give it up; the rest is guarded by the lock while
        // it's linked.
        unsafe {
            if !(*self.node.0).link.is_linked() {
                return Refreshed::Gone;
            }
            ptr::swap((*self.node.0).what.get(), new);
        }
        Refreshed::Yes
    }

    /// Gives up the entry.
    fn forget(&mut self) {
        let here = self.node.here();
        let node = mem::replace(&mut self.node.0, ptr::null_mut());
        if let Some(here) = here {
            // SAFETY: it came from a box, and the word has let go of it.
            return drop(unsafe { Box::<Self>::from_raw(here.as_ptr()) });
        }
        if node.is_null() || node == DELIVERED {
            return;
        }
        let task = self.typed.task();
        // SAFETY: the entry is ours until the swap, and from then on if the other side was first.
        unsafe {
            let unlinked = match task.waiters.lock() {
                Some(mut locked) => locked.unlink(node.cast::<Link>()),
                None => false,
            };
            if unlinked || (*node).state.swap(GIVEN_UP, Ordering::AcqRel) == TOLD {
                let node = Box::from_raw(node);
                if let (true, Some(awaiter)) = (unlinked, &(*node.what.get()).awaiter) {
                    // If it's in that task's poll, the task doesn't await this any more when that is over.
                    if awaiter.still_awaits() {
                        context::take_back_await(awaiter.task.as_ref(), task);
                    }
                }
                quietly(task.core(), || drop(node));
            }
        }
    }
}

impl<T> Drop for Waitable<T> {
    fn drop(&mut self) {
        self.forget();
        // SAFETY: it's dropped once.
        unsafe { ManuallyDrop::drop(&mut self.typed) };
    }
}

enum Refreshed {
    Yes,
    Ended,
    Gone,
}

/// The task that awaits through this entry.
///
/// # Safety
///
/// The link is that of a `WaitNode` in a list that is locked.
pub(crate) unsafe fn awaiter(link: NonNull<Link>) -> Option<Awaiter> {
    // SAFETY: see above; a link is the first field of its node, and the lock guards the rest.
    let awaiter = unsafe { (*link.cast::<WaitNode>().as_ref().what.get()).awaiter.as_ref() }?;
    Some(awaiter.again())
}

/// Wakes the one who awaits.
///
/// # Safety
///
/// The link is that of a `WaitNode` in a taken list that hasn't been told.
pub(crate) unsafe fn fire(link: NonNull<Link>) {
    let node = link.cast::<WaitNode>();
    // SAFETY: who tells the entry has all of it but for the state, until the swap.
    unsafe {
        let waiting = node.as_ref().what.get();
        let waker = mem::replace(&mut (*waiting).waker, Waker::noop().clone());
        let awaiter = (*waiting).awaiter.take();
        if node.as_ref().state.swap(TOLD, Ordering::AcqRel) == GIVEN_UP {
            drop(Box::from_raw(node.as_ptr()));
        }
        // Before who awaits can go on: then nothing of it is left here.
        drop(awaiter);
        context::foreign(|| waker.wake());
    }
}
