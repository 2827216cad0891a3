//! A handle that is awaited, and its entry in the task's list of waiters.
//!
//! The entry, a [`WaitNode`], belongs to the handle, which may be dropped at any time, and, once the list was taken, also
//! to the thread that notifies it. See [`wait_node`](crate::engine::task::wait_node) for which of the two frees it. A handle
//! has one word for all that it may own:
//!
//! | `Node` | meaning | next |
//! |---|---|---|
//! | null | not awaited yet, or no longer | an entry, a fetch, `DELIVERED` |
//! | an entry | registered with the task; still linked, or taken and notified | null |
//! | [`GAVE_WAY`] | the result was there, but not the budget to take it | null |
//! | a boxed handle, tagged [`FETCH`] | the handle of the task that fetches a remote value | null |
//! | [`DELIVERED`] | the result was returned | null |
//!
//! # Order of an await
//!
//! 1. `AWAITS` is set in the awaiting task, and the entry is linked.
//! 2. The awaiting task lends its priority to the awaited one.
//! 3. If the awaited task may itself wait for a task, a search for cycles is due: see [`cycle`].
//!    The entry is linked before that, so that of two awaits that close a cycle together at least one sees the other.
//!
//! Only the first poll does 1 and 3. A later one that finds the entry linked, with the same waker, leaves it as it is.

use std::mem::{self, ManuallyDrop};
use std::ptr::{self, NonNull};
use std::task::{Context, Poll, Waker};

use crate::Error;
use crate::engine::base::sync::{AtomicU8, Ordering, UnsafeCell};
use crate::engine::base::user_code::{drop_user_value, wake_by_ref};
use crate::engine::core::{Core, budget, context};
use crate::engine::graph::cycle;
use crate::engine::life::waker;
use crate::engine::task::header::TaskRef;
use crate::engine::task::state::STARTED;
use crate::engine::task::typed::Typed;
use crate::engine::task::wait_node::{
    ABANDONED, NOT_BLOCKING, NOTIFIED, WAITING, WaitNode, Waiting,
};
use crate::engine::task::waiters::{Link, Resolution, WaiterKind};
use crate::engine::worker::{self, Drive};

/// An interest in a task that can be awaited: the inside of a handle.
pub(crate) struct Waitable<T> {
    typed: ManuallyDrop<Typed<T>>,
    node: Node,
}

/// Null, an entry, [`DELIVERED`], [`GAVE_WAY`], or, tagged with [`FETCH`], the address of a boxed `Waitable`: see the
/// module's table.
struct Node(*mut WaitNode);

/// The handle has returned its result.
const DELIVERED: *mut WaitNode = ptr::without_provenance_mut(1);

/// The handle has given way, and has its result the next time; see [`budget`].
const GAVE_WAY: *mut WaitNode = ptr::without_provenance_mut(4);

/// The tag of a boxed `Waitable`.
const FETCH: usize = 2;

// Both bits are free in the addresses of entries and of boxes.
const _: () = assert!(align_of::<WaitNode>() > FETCH && align_of::<Waitable<()>>() > FETCH);

// SAFETY: an entry is shared with the thread that notifies it by its atomic state and by the lock of the list, and a boxed
// `Waitable` is owned.
unsafe impl Send for Node {}
// SAFETY: a shared reference only gives a shared reference to the boxed `Waitable`, which is `Sync` as this handle is.
unsafe impl Sync for Node {}

impl Node {
    /// Whether the word is the address of an entry, if it isn't that of a boxed `Waitable`.
    fn is_entry(&self) -> bool {
        // The other words are smaller than any address.
        self.0.addr() > GAVE_WAY.addr()
    }

    /// Returns the boxed `Waitable`, which has the same type as the handle, if the word is the address of one.
    fn fetch<T>(&self) -> Option<NonNull<Waitable<T>>> {
        if self.0.addr() & FETCH == 0 {
            return None;
        }
        NonNull::new(self.0.map_addr(|address| address & !FETCH).cast())
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
        this.abandon();
        // SAFETY: `this` isn't dropped, so the value is taken once.
        unsafe { ManuallyDrop::take(&mut this.typed) }
    }

    /// Returns the task that has the value in this process: this one, or the one that fetches a remote value.
    pub(crate) fn value_task(&self) -> &Typed<T> {
        match self.node.fetch() {
            // SAFETY: the box is this handle's own until the word changes, which needs `&mut self`.
            Some(fetch) => unsafe { &(*fetch.as_ptr()).typed },
            None => &self.typed,
        }
    }

    pub(crate) fn is_delivered(&self) -> bool {
        self.node.0 == DELIVERED
    }

    pub(crate) fn set_delivered(&mut self) {
        self.abandon();
        self.node.0 = DELIVERED;
    }

    /// Resolves when the task has ended and its value, if any, is in this process. Resolves to an error if this await would
    /// close a cycle.
    pub(crate) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.typed.is_remote() {
            return self.poll_fetched(cx);
        }
        if self.typed.task().waiters.is_closed() {
            return self.poll_ready(cx.waker());
        }
        match self.register(cx.waker()) {
            Registered::Ended => return self.poll_ready(cx.waker()),
            Registered::Refused(error) => {
                self.abandon();
                return Poll::Ready(Err(error));
            }
            // After the entry was linked: if the awaited task begins to wait after this, it finds the entry.
            Registered::New => {
                if context::note_await(self.typed.task()) {
                    cycle::search_blocked(self.typed.task());
                    return self.poll_ended(cx);
                }
            }
            Registered::Known => {}
        }
        let task = self.typed.task();
        if let Some(priority) = context::note_pending() {
            Core::raise(task, priority);
        }
        // A seeded engine has no threads, so the waiting thread runs the tasks.
        if task.core().seeded.is_some() {
            let done = || task.waiters.is_closed();
            // SAFETY: the entry is in memory until this handle abandons it, and no other code uses this field.
            let seen = unsafe { &mut *(*self.node.0).seen_steps.get() };
            if worker::drive_seeded(&task.core().to_ref(), cx.waker(), seen, done) == Drive::Done {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    /// Resolves unless the budget is used up: then it gives way once.
    fn poll_ready(&mut self, waker: &Waker) -> Poll<Result<(), Error>> {
        if self.node.0 == GAVE_WAY {
            self.node.0 = ptr::null_mut();
            return Poll::Ready(Ok(()));
        }
        if context::take_from_budget() {
            return Poll::Ready(Ok(()));
        }
        self.give_way_or_exceed(waker)
    }

    #[cold]
    fn give_way_or_exceed(&mut self, waker: &Waker) -> Poll<Result<(), Error>> {
        if budget::may_exceed(waker, self.typed.task().core().seeded.is_some()) {
            return Poll::Ready(Ok(()));
        }
        self.abandon();
        self.node.0 = GAVE_WAY;
        wake_by_ref(waker);
        Poll::Pending
    }

    /// Resolves when the task that fetches the remote value has ended. Creates it if there is none.
    #[cold]
    fn poll_fetched(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let has_failed = |task: TaskRef<'_>| task.waiters.resolution() == Resolution::Failed;
        // A fetch task that never ran has failed because its remote task did. If that one was retried, the error is stale.
        let fetch_task = self.value_task().task();
        let is_stale = fetch_task.state.load() & STARTED == 0
            && has_failed(fetch_task)
            && !has_failed(self.typed.task());
        if self.node.fetch::<T>().is_none() || is_stale {
            self.abandon();
            let fetch = Box::into_raw(Box::new(Self::new(self.typed().clone().value_task())));
            self.node.0 = fetch.map_addr(|address| address | FETCH).cast();
        }
        match self.node.fetch::<T>() {
            // SAFETY: the box is this handle's own.
            Some(mut fetch) => unsafe { fetch.as_mut() }.poll_ended(cx),
            None => unreachable!("the word was just set to a fetch"),
        }
    }

    /// Registers the waker, to be woken when the task ends.
    fn register(&mut self, waker: &Waker) -> Registered {
        match self.find_entry(waker) {
            Found::Known => return Registered::Known,
            Found::Refused(error) => {
                // Until then the entry shows that this await ends: no other one is refused for it.
                self.abandon();
                return Registered::Refused(error);
            }
            Found::Ended => return Registered::Ended,
            Found::Other => {}
        }
        // Cloning and dropping a waker runs user code, so it's done without the lock.
        let (mut awaiter, mut blocking) = (None, None);
        match waker::task_of(waker) {
            Some(task) => task.state.set_awaits(),
            None => {
                awaiter = context::current_task();
                blocking = context::blocked_work();
                if let (Some(task), Some(_)) = (&awaiter, blocking) {
                    task.state.set_awaits();
                }
            }
        }
        let mut new = Waiting { waker: waker.clone(), awaiter, refused: None };
        match self.refresh(&mut new) {
            // `new` is now the former content of the entry.
            Refreshed::Replaced => {
                drop_user_value(new);
                return Registered::New;
            }
            Refreshed::Ended => {
                drop_user_value(new);
                return Registered::Ended;
            }
            // The handle has no entry, or one that was notified before the task was retried.
            Refreshed::Missing => self.abandon(),
        }
        let node = Box::into_raw(Box::new(WaitNode {
            link: Link::new(WaiterKind::Wait),
            state: AtomicU8::new(WAITING),
            seen_steps: UnsafeCell::new(0),
            blocking: blocking.unwrap_or(NOT_BLOCKING),
            waiting: UnsafeCell::new(new),
        }));
        match self.typed.task().waiters.lock() {
            Some(mut locked) => {
                // SAFETY: the entry is in no list, and stays in place until both sides are done with it.
                unsafe { locked.push(node.cast::<Link>()) };
                self.node.0 = node;
                Registered::New
            }
            None => {
                // SAFETY: the entry was never shared.
                drop_user_value(unsafe { Box::from_raw(node) });
                Registered::Ended
            }
        }
    }

    /// Looks for an entry that is linked and has this waker.
    fn find_entry(&self, waker: &Waker) -> Found {
        if !self.node.is_entry() {
            return Found::Other;
        }
        let task = self.typed.task();
        let Some(_locked) = task.waiters.lock() else { return Found::Ended };
        // SAFETY: this handle hasn't abandoned the entry, so it's still in memory. While the entry is linked, the lock
        // guards its contents.
        let waiting = unsafe {
            if !(*self.node.0).link.is_linked() {
                return Found::Other;
            }
            &mut *(*self.node.0).waiting.get()
        };
        if !waiting.waker.will_wake(waker) {
            return Found::Other;
        }
        waiting.refused.clone().map_or(Found::Known, Found::Refused)
    }

    /// Swaps the contents of the entry for new ones, for the caller to drop the former ones without the lock.
    fn refresh(&mut self, new: &mut Waiting) -> Refreshed {
        if !self.node.is_entry() {
            return Refreshed::Missing;
        }
        let task = self.typed.task();
        let Some(_locked) = task.waiters.lock() else { return Refreshed::Ended };
        // SAFETY: as in `find_entry`; once taken, the contents belong to the thread that notifies it.
        unsafe {
            if !(*self.node.0).link.is_linked() {
                return Refreshed::Missing;
            }
            ptr::swap((*self.node.0).waiting.get(), new);
        }
        Refreshed::Replaced
    }

    /// Abandons the entry or the fetch that the word is the address of, and sets the word to null.
    fn abandon(&mut self) {
        let (fetch, is_entry) = (self.node.fetch(), self.node.is_entry());
        let node = mem::replace(&mut self.node.0, ptr::null_mut());
        if let Some(fetch) = fetch {
            // SAFETY: `poll_fetched` leaked it from a box, and the word, its only owner, was just cleared.
            return drop(unsafe { Box::<Self>::from_raw(fetch.as_ptr()) });
        }
        if !is_entry {
            return;
        }
        let task = self.typed.task();
        // SAFETY: the entry stays in memory until this thread's swap. After that it's this thread's alone if it was
        // unlinked, so that no other thread will see it, or if the other side was first. The swap acquires the other
        // side's changes, and releases this side's if the other one frees it.
        unsafe {
            let unlinked = match task.waiters.lock() {
                Some(mut locked) => locked.unlink(node.cast::<Link>()),
                None => false,
            };
            if unlinked || (*node).state.swap(ABANDONED, Ordering::AcqRel) == NOTIFIED {
                let node = Box::from_raw(node);
                // Dropping the waker runs user code.
                task.core().run_user_code(|| drop(node));
            }
        }
    }
}

impl<T> Drop for Waitable<T> {
    fn drop(&mut self) {
        self.abandon();
        // SAFETY: `drop` runs once, and `into_typed` prevents it if it took the value.
        unsafe { ManuallyDrop::drop(&mut self.typed) };
    }
}

/// The result of registering a waker.
enum Registered {
    /// The entry is new, or was another waker's.
    New,
    /// An earlier poll has registered it.
    Known,
    /// The task has ended.
    Ended,
    /// The await closes a cycle.
    Refused(Error),
}

/// The entry of a handle, as one of its polls finds it.
enum Found {
    /// It's linked, with the waker of this poll.
    Known,
    /// The same, and the await closes a cycle.
    Refused(Error),
    /// The task has ended.
    Ended,
    /// There is none, or it has another waker.
    Other,
}

/// The result of refreshing an entry.
enum Refreshed {
    Replaced,
    /// The task has ended.
    Ended,
    /// There is no entry that is linked.
    Missing,
}
