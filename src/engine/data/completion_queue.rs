//! A queue of tasks in the order in which they end.
//!
//! Each added task gets a [`Member`], an entry in its list of waiters. A task that ends pushes its member onto
//! the shared list of the queue, so nothing is polled that isn't ready. One word is all that tasks and queue
//! share:
//!
//! | word | set by | meaning |
//! |---|---|---|
//! | empty | the owner, who took the list or its waker back | no member is ready |
//! | newest member | a task that ended; members are linked to older ones | the owner takes the list as a whole |
//! | a boxed waker | the owner, before it waits | the next member to be pushed takes the waker along |
//! | dropped | the owner | members that are still pushed count themselves off; the last frees the shared part |
//!
//! Whoever pushes onto a waker owns it from then on, so nothing of the queue is touched after the push, and it
//! may be dropped at any time. A queue that is dropped takes its members out of the lists they are in; those
//! that their tasks have just taken find the word *dropped*.

use std::marker::PhantomData;
use std::mem;
use std::ops::DerefMut;
use std::ptr::{self, NonNull};
use std::task::Waker;

use crate::Error;
use crate::engine::base::lock::Lock;
use crate::engine::base::sync::{AtomicIsize, AtomicUsize, Cell, Ordering};
use crate::engine::base::user_code::{drop_user_value, wake};
use crate::engine::task::header::{Interest, Task, TaskRef};
use crate::engine::task::typed::Typed;
use crate::engine::task::waiters::{Link, WaiterKind};

const EMPTY: usize = 0;
/// The rest of the word is the address of a boxed waker.
const WAKER: usize = 1;
const DROPPED: usize = 2;

// No address of a member is one of these, and the bit of `WAKER` is free in that of a boxed waker.
const _: () = assert!(align_of::<Member>() > DROPPED && align_of::<Waker>() > WAKER);

/// The number of members in the first chunk; each further chunk has twice as many.
const FIRST_CHUNK: usize = 8;
/// The most members in a chunk.
const LARGEST_CHUNK: usize = 1024;

#[repr(C)]
pub(crate) struct Member {
    link: Link,
    shared: Cell<*const Shared>,
    /// The older member in the shared list; the newer one in the owner's own list.
    next: Cell<*const Member>,
    /// For the owner only.
    interest: Cell<Option<Interest>>,
    tag: Cell<usize>,
}

struct Shared {
    word: AtomicUsize,
    /// After the queue was dropped: the members that tasks have taken and not yet pushed.
    orphans: AtomicIsize,
    /// The members of a queue that was dropped.
    left: Lock<Vec<Chunk>>,
    /// The task that waits for all members, if the waker in the word is its own.
    awaiter: Lock<Option<Awaiter>>,
    /// The address of the task that last waited for a member. For diagnostics only: any one member may be enough for it.
    owner: AtomicUsize,
}

/// A task that waits for all members of a queue.
pub(crate) struct Awaiter {
    pub(crate) task: Task,
    /// How many of the members that had not come out must not end for the task to wait forever.
    pub(crate) needs: usize,
    /// Whether its next poll is to search for a cycle.
    pub(crate) searches: bool,
    /// That closes a cycle: the result of its next poll.
    pub(crate) refused: Option<Error>,
}

type Chunk = Box<[Member]>;

/// The owner's half, for tasks with values of type `T`.
pub(crate) struct CompletionQueue<T> {
    shared: NonNull<Shared>,
    chunks: Vec<Chunk>,
    free: Vec<NonNull<Member>>,
    /// Members that have not come out of the shared list.
    pending: usize,
    ready: Ready,
    values: PhantomData<fn() -> T>,
}

/// Members whose tasks have ended, in the order in which they come out.
struct Ready {
    first: *const Member,
    last: *const Member,
    len: usize,
}

impl Ready {
    const EMPTY: Self = Self { first: ptr::null(), last: ptr::null(), len: 0 };

    /// # Safety
    ///
    /// The members from `first` to `last` are the owner's alone, linked, and `len` in number.
    unsafe fn append(&mut self, first: *const Member, last: *const Member, len: usize) {
        // SAFETY: as the caller promises.
        unsafe {
            (*last).next.set(ptr::null());
            match self.len {
                0 => self.first = first,
                _ => (*self.last).next.set(first),
            }
        }
        self.last = last;
        self.len += len;
    }

    fn pop(&mut self) -> Option<NonNull<Member>> {
        if self.len == 0 {
            return None;
        }
        let member = NonNull::new(self.first.cast_mut())?;
        // SAFETY: it's the owner's alone.
        self.first = unsafe { member.as_ref().next.get() };
        self.len -= 1;
        Some(member)
    }
}

// SAFETY: members and the shared part are used from other threads as the module says; the rest has one owner.
unsafe impl<T> Send for CompletionQueue<T> {}
// SAFETY: a shared reference gives numbers, and the interests of pending members, which are `Sync`.
unsafe impl<T> Sync for CompletionQueue<T> {}

impl<T> CompletionQueue<T> {
    pub(crate) fn new() -> Self {
        let shared = Box::new(Shared {
            word: AtomicUsize::new(EMPTY),
            orphans: AtomicIsize::new(0),
            left: Lock::default(),
            awaiter: Lock::default(),
            owner: AtomicUsize::new(0),
        });
        Self {
            shared: NonNull::from(Box::leak(shared)),
            chunks: Vec::new(),
            free: Vec::new(),
            pending: 0,
            ready: Ready::EMPTY,
            values: PhantomData,
        }
    }

    fn shared(&self) -> &Shared {
        // SAFETY: it stays at least as long as the queue.
        unsafe { self.shared.as_ref() }
    }

    /// The number of members that have not come out.
    pub(crate) fn len(&self) -> usize {
        self.pending + self.ready.len
    }

    /// Adds a task, which comes out once it has ended: at the next `pop` if it has ended already.
    pub(crate) fn add(&mut self, typed: Typed<T>, tag: usize) {
        let interest = typed.into_interest();
        let member = self.new_member();
        // SAFETY: a free member is the owner's alone.
        let member_ref = unsafe { member.as_ref() };
        member_ref.tag.set(tag);
        let waits = match interest.waiters.lock() {
            Some(mut locked) => {
                // SAFETY: a member stays in place until the queue and every thread that has taken it are done.
                unsafe { locked.push(member.cast::<Link>().as_ptr()) };
                true
            }
            None => false,
        };
        if waits {
            // Only the owner reads it, so it may be set after the member was linked.
            member_ref.interest.set(Some(interest));
            self.pending += 1;
            return;
        }
        member_ref.interest.set(Some(interest));
        // Tasks that ended before this one come out first.
        self.collect();
        // SAFETY: it's in no list.
        unsafe { self.ready.append(member.as_ptr(), member.as_ptr(), 1) };
        if let Some(waker) = self.take_back_waker() {
            // A member is ready for the task that waits.
            wake(*waker);
        }
    }

    /// Takes the owner's waker out of the word.
    fn take_back_waker(&self) -> Option<Box<Waker>> {
        let word = self.shared().word.load(Ordering::Relaxed);
        if word & WAKER == 0 {
            return None;
        }
        let taken =
            self.shared().word.compare_exchange(word, EMPTY, Ordering::Acquire, Ordering::Relaxed);
        // SAFETY: this took it out; a member that was quicker has taken it along.
        taken.ok().map(|word| unsafe { take_waker(word) })
    }

    fn new_member(&mut self) -> NonNull<Member> {
        if let Some(member) = self.free.pop() {
            return member;
        }
        let size = (FIRST_CHUNK << self.chunks.len().min(16)).min(LARGEST_CHUNK);
        let chunk: Chunk = (0..size)
            .map(|_| Member {
                link: Link::new(WaiterKind::Member),
                shared: Cell::new(self.shared.as_ptr()),
                next: Cell::new(ptr::null()),
                interest: Cell::new(None),
                tag: Cell::new(0),
            })
            .collect();
        // It stays in this memory from now on.
        self.chunks.push(chunk);
        let Some(first) = self.chunks.last_mut().map(|chunk| chunk.as_mut_ptr()) else {
            unreachable!("it was just pushed");
        };
        // SAFETY: within the chunk.
        let member = |at| unsafe { NonNull::new_unchecked(first.add(at)) };
        self.free.extend((1..size).rev().map(member));
        member(0)
    }

    /// Moves what has ended from the shared list, oldest first.
    fn collect(&mut self) {
        let word = self.shared().word.load(Ordering::Relaxed);
        if word == EMPTY || word & WAKER != 0 {
            return;
        }
        // A list of members stays a list until the owner takes it.
        let word = self.shared().word.swap(EMPTY, Ordering::Acquire);
        let newest: *const Member = ptr::with_exposed_provenance(word);
        let (mut member, mut oldest, mut len) = (newest, ptr::null(), 0);
        while !member.is_null() {
            // SAFETY: the thread that pushed it is done with it, so it's the owner's alone again.
            let before = unsafe { (*member).next.replace(oldest) };
            oldest = mem::replace(&mut member, before);
            len += 1;
        }
        self.pending -= len;
        // SAFETY: they're the owner's, and were just linked in reverse order.
        unsafe { self.ready.append(oldest, newest, len) };
    }

    /// The next one that has ended.
    pub(crate) fn pop(&mut self) -> Option<(Typed<T>, usize)> {
        if self.ready.len == 0 {
            self.collect();
        }
        let member = self.ready.pop()?;
        // SAFETY: it's the owner's alone.
        let member_ref = unsafe { member.as_ref() };
        member_ref.link.reset();
        self.free.push(member);
        let interest = member_ref.interest.take()?;
        // SAFETY: only interests in tasks of this type are added.
        Some((unsafe { Typed::new(interest) }, member_ref.tag.get()))
    }

    pub(crate) fn has_ready(&self) -> bool {
        let word = self.shared().word.load(Ordering::Acquire);
        self.ready.len > 0 || (word != EMPTY && word & WAKER == 0)
    }

    /// Registers the waker for the next member. False where a member is ready and the waker was dropped.
    pub(crate) fn set_waker(&mut self, waker: Waker) -> bool {
        let waker = Box::into_raw(Box::new(waker));
        let before = self.take_back_waker();
        drop_user_value(before);
        let word = waker.expose_provenance() | WAKER;
        let set =
            self.shared().word.compare_exchange(EMPTY, word, Ordering::Release, Ordering::Relaxed);
        if set.is_err() {
            // SAFETY: it was never shared.
            drop_user_value(unsafe { Box::from_raw(waker) });
        }
        set.is_ok()
    }

    /// Members that have not come out of the shared list.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// Notes for diagnostics which task polls the queue, by its address.
    pub(crate) fn set_owner(&self, owner: Option<TaskRef<'_>>) {
        let address = owner.map_or(0, |task| task.as_ptr().addr().get());
        self.shared().owner.store(address, Ordering::Relaxed);
    }

    /// Locks the task that waits for all members.
    pub(crate) fn awaiter(&self) -> impl DerefMut<Target = Option<Awaiter>> {
        self.shared().awaiter.lock()
    }

    /// Visits the tasks that have not come out.
    pub(crate) fn each_pending(&self, mut visit: impl FnMut(&Interest)) {
        for member in self.chunks.iter().flatten() {
            if let Some(interest) = member.interest.take() {
                visit(&interest);
                member.interest.set(Some(interest));
            }
        }
    }

    /// Removes all members.
    pub(crate) fn clear(&mut self) {
        let waker = self.take_back_waker();
        *self = Self::new();
        if let Some(waker) = waker {
            // The task that waits must see the empty queue.
            wake(*waker);
        }
    }
}

impl<T> Drop for CompletionQueue<T> {
    fn drop(&mut self) {
        let mut in_flight = self.pending;
        let mut interests = Vec::new();
        for member in self.chunks.iter().flatten() {
            let Some(interest) = member.interest.take() else { continue };
            if let Some(mut locked) = interest.waiters.lock() {
                // SAFETY: if it's in a list, it's the list of its task.
                in_flight -= usize::from(unsafe { locked.unlink(&raw const member.link) });
            }
            interests.push(interest);
        }
        *self.shared().left.lock() = std::mem::take(&mut self.chunks);
        let word = self.shared().word.swap(DROPPED, Ordering::AcqRel);
        if word & WAKER != 0 {
            // SAFETY: it was the owner's, and was just taken back.
            drop_user_value(unsafe { take_waker(word) });
        } else {
            let mut member: *const Member = ptr::with_exposed_provenance(word);
            while !member.is_null() {
                in_flight -= 1;
                // SAFETY: the chunks are still in memory.
                member = unsafe { (*member).next.get() };
            }
        }
        let in_flight = in_flight as isize;
        if self.shared().orphans.fetch_add(in_flight, Ordering::AcqRel) == -in_flight {
            // SAFETY: no member is left to read it.
            unsafe { free(self.shared) };
        }
    }
}

/// # Safety
///
/// Nothing uses it any more.
unsafe fn free(shared: NonNull<Shared>) {
    // SAFETY: it came from a box.
    drop(unsafe { Box::from_raw(shared.as_ptr()) });
}

/// # Safety
///
/// The word is that of a waker and was just taken out.
unsafe fn take_waker(word: usize) -> Box<Waker> {
    // SAFETY: `poll_pop` made it from a box.
    unsafe { Box::from_raw(ptr::with_exposed_provenance_mut(word & !WAKER)) }
}

/// Pushes a member onto its queue, and returns the waker of an owner that waits, for the caller to wake.
///
/// # Safety
///
/// The link is that of a member in a taken list, and hasn't been notified.
pub(crate) unsafe fn deliver(link: NonNull<Link>) -> Option<Waker> {
    let member = link.cast::<Member>();
    // SAFETY: until the push, or until it counts itself off a dropped queue, the member is this thread's, and the shared
    // part stays in memory.
    unsafe {
        let shared = NonNull::new_unchecked(member.as_ref().shared.get().cast_mut());
        let word = &shared.as_ref().word;
        let new = member.as_ptr().expose_provenance();
        let mut now = word.load(Ordering::Acquire);
        loop {
            if now == DROPPED {
                if shared.as_ref().orphans.fetch_sub(1, Ordering::AcqRel) == 1 {
                    free(shared);
                }
                return None;
            }
            let before = if now & WAKER == 0 { now } else { EMPTY };
            member.as_ref().next.set(ptr::with_exposed_provenance(before));
            match word.compare_exchange_weak(now, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(other) => now = other,
            }
        }
        (now & WAKER != 0).then(|| *take_waker(now))
    }
}

/// Returns the address of the task that last waited for a member of this queue; 0 for none.
///
/// # Safety
///
/// The link is that of a member in a list that is locked.
pub(crate) unsafe fn owner(link: NonNull<Link>) -> usize {
    // SAFETY: a queue takes its members out of their lists before it is freed.
    unsafe { (*link.cast::<Member>().as_ref().shared.get()).owner.load(Ordering::Relaxed) }
}

/// Whether the queue of this member has a waker, to be woken when the next member ends.
///
/// # Safety
///
/// The link is that of a member in a list that is locked.
pub(crate) unsafe fn has_waker(link: NonNull<Link>) -> bool {
    // SAFETY: a queue takes its members out of their lists before it is freed.
    let word =
        unsafe { (*link.cast::<Member>().as_ref().shared.get()).word.load(Ordering::Acquire) };
    word & WAKER != 0
}

/// Locks the task that waits for all members of this queue.
///
/// # Safety
///
/// The link is that of a member in a list that stays locked during `'a`.
pub(crate) unsafe fn awaiter<'a>(
    link: NonNull<Link>,
) -> impl DerefMut<Target = Option<Awaiter>> + 'a {
    // SAFETY: a queue takes its members out of their lists before it is freed.
    unsafe { (*link.cast::<Member>().as_ref().shared.get()).awaiter.lock() }
}
