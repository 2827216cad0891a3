//! A handle that is being awaited: its entry in the task's list of waiters.
//!
//! The entry belongs to the handle, which may go at any time, and, once taken from the list, also to
//! the one who tells it. The last of the two to be done with it frees it.

use std::mem::{self, ManuallyDrop};
use std::ptr::{self, NonNull};
use std::task::{Context, Poll, Waker};

use crate::Error;
use crate::engine::base::sync::{AtomicU8, Ordering, UnsafeCell};
use crate::engine::core::{Core, context};
use crate::engine::graph::cycle;
use crate::engine::task::header::TaskRef;
use crate::engine::task::state::AWAITS;
use crate::engine::task::typed::Typed;
use crate::engine::task::wait_node::{ABANDONED, Awaiter, NOTIFIED, WAITING, WaitNode, Waiting};
use crate::engine::task::waiters::{Link, Resolution, WaiterKind};
use crate::engine::worker;

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

    /// Whether it's the poll that is under way on this thread.
    fn is_current(&self) -> bool {
        let current = context::current_task();
        self.still_awaits() && current.is_some_and(|task| task.as_ref().is(self.task.as_ref()))
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
        if self.0.addr() & HERE == 0 {
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
    pub(crate) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.typed.is_remote() {
            return self.poll_fetched(cx);
        }
        if self.typed.task().waiters.is_closed() {
            return Poll::Ready(Ok(()));
        }
        let awaiter = Awaiter::begin();
        let copy = awaiter.as_ref().map(Awaiter::duplicate);
        let Some(is_new) = self.register(cx.waker(), copy) else {
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
            if worker::drive_seeded(&task.core().to_ref(), cx.waker(), done) {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    #[cold]
    fn poll_fetched(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let has_failed = |task: TaskRef<'_>| task.waiters.resolution() == Resolution::Failed;
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
            Some(mut here) => unsafe { here.as_mut() }.poll_ended(cx),
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
            link: Link::new(WaiterKind::Wait),
            state: AtomicU8::new(WAITING),
            waiting: UnsafeCell::new(new),
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
            ptr::swap((*self.node.0).waiting.get(), new);
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
            if unlinked || (*node).state.swap(ABANDONED, Ordering::AcqRel) == NOTIFIED {
                let node = Box::from_raw(node);
                if let (true, Some(awaiter)) = (unlinked, &(*node.waiting.get()).awaiter) {
                    // If it's in that task's poll, the task doesn't await this any more when that is over.
                    if awaiter.still_awaits() {
                        context::remove_await(awaiter.task.as_ref(), task);
                    }
                }
                task.core().run_user_code(|| drop(node));
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
