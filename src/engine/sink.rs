//! A queue of tasks in the order in which they end, for `as_completed` and its relatives.
//!
//! Each added task gets a *member*, an entry in its list of waiters. A task that ends pushes its
//! member onto the sink's list, so nothing is polled that isn't ready. One word is all they share:
//! empty, the newest of a list of members, a waker, or gone. Who pushes onto a waker takes it along,
//! so the sink is never touched after the push and may go at any time.
//!
//! A sink that goes takes its members out of the lists they're in. Some may just have been taken by
//! their tasks; those find the word gone, and the last of them frees what is left.

use std::collections::HashSet;
use std::marker::PhantomData;
use std::mem;
use std::ptr::{self, NonNull};
use std::task::{Context as Poller, Poll, Waker};

use super::context;
use super::core::{Core, CoreRef};
use super::cycle;
use super::header::{Header, TaskRef, User};
use super::hook::Moment;
use super::lock::Lock;
use super::state::WATCHED;
use super::sync::{AtomicIsize, AtomicUsize, Cell, Ordering};
use super::typed::Typed;
use super::wait::Awaiter;
use super::waiters::{Kind, Link};
use super::worker;
use crate::Error;

const EMPTY: usize = 0;
/// The rest of the word is the address of a boxed waker.
const WAKER: usize = 1;
const GONE: usize = 2;

/// Members are allocated so many at a time, at first.
const FIRST_CHUNK: usize = 8;
/// And at most so many.
const LARGEST_CHUNK: usize = 1024;

#[repr(C)]
pub(crate) struct Member {
    link: Link,
    shared: Cell<*const Shared>,
    /// In the shared list the one that came before, and in the sink's own the one that comes after.
    next: Cell<*const Member>,
    /// For the sink only.
    user: Cell<Option<User>>,
    tag: Cell<usize>,
}

struct Shared {
    word: AtomicUsize,
    /// After the sink is gone: members that have yet to find that out.
    orphans: AtomicIsize,
    /// The members of a sink that is gone.
    left: Lock<Vec<Chunk>>,
    /// The task that waits for all members.
    awaiter: Lock<Option<Awaiter>>,
    /// The address of the task that has waited for any of them last, and in which of its polls. For who looks
    /// only, since any one of them may be enough.
    owner: AtomicUsize,
    poll: AtomicUsize,
}

type Chunk = Box<[Member]>;

/// The owner's side, for tasks with values of type `T`.
pub(crate) struct Sink<T> {
    shared: NonNull<Shared>,
    chunks: Vec<Chunk>,
    free: Vec<NonNull<Member>>,
    /// Members that have not come out of the shared list.
    pending: usize,
    ready: Ready,
    /// The priority that was last lent to all of them.
    lent: Option<i32>,
    /// The tasks that were added before they were first awaited together, and are still here.
    all: Option<HashSet<NonNull<Header>>>,
    /// The engine that runs only when somebody waits.
    seeded: Option<CoreRef>,
    /// The observer has been told that this task, by its address, awaits the members.
    told: usize,
    /// The numbers of those that came after that.
    untold: Vec<u64>,
    values: PhantomData<fn() -> T>,
}

/// Members that have ended and are to be handed out, in order.
struct Ready {
    first: *const Member,
    last: *const Member,
    len: usize,
}

impl Ready {
    const EMPTY: Self = Self { first: ptr::null(), last: ptr::null(), len: 0 };

    /// # Safety
    ///
    /// The members from `first` to `last` are the sink's alone, linked, and so many.
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
        // SAFETY: it's the sink's alone.
        self.first = unsafe { member.as_ref().next.get() };
        self.len -= 1;
        Some(member)
    }
}

// SAFETY: members and the shared part are used from other threads in the ways said above; the rest
// has one owner.
unsafe impl<T> Send for Sink<T> {}
// SAFETY: a shared reference only tells numbers.
unsafe impl<T> Sync for Sink<T> {}

impl<T> Sink<T> {
    pub(crate) fn new() -> Self {
        let shared = Box::new(Shared {
            word: AtomicUsize::new(EMPTY),
            orphans: AtomicIsize::new(0),
            left: Lock::default(),
            awaiter: Lock::default(),
            owner: AtomicUsize::new(0),
            poll: AtomicUsize::new(0),
        });
        Self {
            shared: NonNull::from(Box::leak(shared)),
            chunks: Vec::new(),
            free: Vec::new(),
            pending: 0,
            ready: Ready::EMPTY,
            lent: None,
            all: None,
            seeded: None,
            told: 0,
            untold: Vec::new(),
            values: PhantomData,
        }
    }

    fn shared(&self) -> &Shared {
        // SAFETY: it stays at least as long as the sink.
        unsafe { self.shared.as_ref() }
    }

    /// Members that have not been handed out.
    pub(crate) fn len(&self) -> usize {
        self.pending + self.ready.len
    }

    /// Adds a task, whose turn comes when it has ended; at once if it has.
    pub(crate) fn add(&mut self, typed: Typed<T>, tag: usize) {
        let user = typed.into_user();
        self.lent = None;
        self.note_untold(&user);
        let member = self.new_member();
        // SAFETY: a free member is ours alone.
        let member_ref = unsafe { member.as_ref() };
        member_ref.tag.set(tag);
        let waits = match user.waiters.lock() {
            Some(mut locked) => {
                // SAFETY: a member stays in its place until the sink and all who have taken it are
                // done.
                unsafe { locked.push(member.cast::<Link>().as_ptr()) };
                true
            }
            None => false,
        };
        if waits {
            if user.core().seeded.is_some() {
                self.seeded = Some(user.core().to_ref());
            }
            // For this side only, so it may come after.
            member_ref.user.set(Some(user));
            self.pending += 1;
            return;
        }
        member_ref.user.set(Some(user));
        // Those that ended before this one come first.
        self.collect();
        // SAFETY: it's in no list.
        unsafe { self.ready.append(member.as_ptr(), member.as_ptr(), 1) };
        if let Some(waker) = self.take_back_waker() {
            // Whoever waits has something to take now.
            context::foreign(|| waker.wake());
        }
    }

    /// Takes the waker out of the word, if there's one.
    fn take_back_waker(&self) -> Option<Box<Waker>> {
        let word = self.shared().word.load(Ordering::Relaxed);
        if word & WAKER == 0 {
            return None;
        }
        let taken =
            self.shared().word.compare_exchange(word, EMPTY, Ordering::Acquire, Ordering::Relaxed);
        // SAFETY: it was taken out; if not, a member has taken it along.
        taken.ok().map(|word| unsafe { take_waker(word) })
    }

    fn new_member(&mut self) -> NonNull<Member> {
        if let Some(member) = self.free.pop() {
            return member;
        }
        let size = (FIRST_CHUNK << self.chunks.len().min(16)).min(LARGEST_CHUNK);
        let chunk: Chunk = (0..size)
            .map(|_| Member {
                link: Link::new(Kind::Member),
                shared: Cell::new(self.shared.as_ptr()),
                next: Cell::new(ptr::null()),
                user: Cell::new(None),
                tag: Cell::new(0),
            })
            .collect();
        // Where it stays from now on.
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
        // A list of members stays one until we take it.
        let word = self.shared().word.swap(EMPTY, Ordering::Acquire);
        let newest: *const Member = ptr::with_exposed_provenance(word);
        let (mut member, mut oldest, mut len) = (newest, ptr::null(), 0);
        while !member.is_null() {
            // SAFETY: who pushed it is done with it, so it's ours alone again.
            let before = unsafe { (*member).next.replace(oldest) };
            oldest = mem::replace(&mut member, before);
            len += 1;
        }
        self.pending -= len;
        // SAFETY: they're ours, and were just linked the other way round.
        unsafe { self.ready.append(oldest, newest, len) };
    }

    /// The next one that has ended.
    pub(crate) fn pop(&mut self) -> Option<(Typed<T>, usize)> {
        if self.ready.len == 0 {
            self.collect();
        }
        let member = self.ready.pop()?;
        // SAFETY: it's ours alone.
        let member_ref = unsafe { member.as_ref() };
        member_ref.link.reset();
        self.free.push(member);
        let user = member_ref.user.take()?;
        if let Some(all) = &mut self.all {
            // Its address may soon be that of another task.
            all.remove(&user.task().as_ptr());
        }
        // SAFETY: only such users are added.
        Some((unsafe { Typed::new(user) }, member_ref.tag.get()))
    }

    pub(crate) fn has_ready(&self) -> bool {
        let word = self.shared().word.load(Ordering::Acquire);
        self.ready.len > 0 || (word != EMPTY && word & WAKER == 0)
    }

    /// The next one that has ended; `None` where none is left.
    pub(crate) fn poll_pop(&mut self, poller: &mut Poller<'_>) -> Poll<Option<(Typed<T>, usize)>> {
        if let Some(popped) = self.pop() {
            return Poll::Ready(Some(popped));
        }
        if self.pending == 0 {
            return Poll::Ready(None);
        }
        if let Some(core) = &self.seeded {
            if worker::drive_seeded(core, poller.waker(), || self.has_ready()) {
                return Poll::Ready(self.pop());
            }
        }
        let waker = Box::into_raw(Box::new(poller.waker().clone()));
        let before = self.take_back_waker();
        context::foreign(|| drop(before));
        let word = waker.expose_provenance() | WAKER;
        let set =
            self.shared().word.compare_exchange(EMPTY, word, Ordering::Release, Ordering::Relaxed);
        if set.is_ok() {
            self.note_owner();
            return Poll::Pending;
        }
        // SAFETY: it was never shared.
        drop(unsafe { Box::from_raw(waker) });
        Poll::Ready(self.pop())
    }

    /// Notes that the observer doesn't know yet that this one is awaited, too.
    fn note_untold(&mut self, user: &User) {
        if self.told == 0 {
            return;
        }
        self.untold.extend(user.number());
        if self.untold.len() > 2 * self.len() + FIRST_CHUNK {
            // Most are gone by now, without having been waited for.
            self.told = 0;
            self.untold.clear();
        }
    }

    /// Notes who waits, for who looks.
    fn note_owner(&mut self) {
        let noted = context::look_at_current(|task| {
            let polls = task.polls.load(Ordering::Relaxed);
            self.shared().owner.store(task.as_ptr().addr().get(), Ordering::Relaxed);
            self.shared().poll.store(polls as usize, Ordering::Relaxed);
            let state = task.state.load();
            let is_told = self.told == task.as_ptr().addr().get();
            if state & WATCHED != 0 && !(is_told && self.untold.is_empty()) {
                let mut awaits = mem::take(&mut self.untold);
                if !is_told {
                    self.told = task.as_ptr().addr().get();
                    awaits.clear();
                    self.each_pending(|user| awaits.extend(user.number()));
                }
                task.core().hook.tell(task, state, Moment::Awaits(&awaits));
            }
        });
        if noted.is_none() {
            self.shared().owner.store(0, Ordering::Relaxed);
        }
    }

    /// Says that the current task, if there's one, waits for all members until its next poll. An error
    /// where that closes a ring.
    pub(crate) fn await_all(&mut self) -> Option<Error> {
        let awaiter = Awaiter::begin()?;
        let before = self.shared().awaiter.lock().replace(awaiter.again());
        drop(before);
        context::note_more_awaits();
        let priority = awaiter.task.priority();
        if self.lent != Some(priority) {
            self.lent = Some(priority);
            self.each_pending(|user| Core::raise(user.task(), priority));
        }
        let all = self.all.take().unwrap_or_else(|| {
            let mut all = HashSet::new();
            self.each_pending(|user| {
                all.insert(user.task().as_ptr());
            });
            all
        });
        let is_awaited = |task: TaskRef<'_>| all.contains(&task.as_ptr());
        let see_all = |see: &mut dyn FnMut(TaskRef<'_>)| self.each_pending(|user| see(user.task()));
        let error = cycle::find(&awaiter, self.len(), is_awaited, see_all);
        self.all = Some(all);
        if error.is_some() {
            let refused = self.shared().awaiter.lock().take();
            drop(refused);
        }
        error
    }

    /// The tasks that have not been handed out.
    fn each_pending(&self, mut visit: impl FnMut(&User)) {
        for member in self.chunks.iter().flatten() {
            if let Some(user) = member.user.take() {
                visit(&user);
                member.user.set(Some(user));
            }
        }
    }

    /// Forgets all members.
    pub(crate) fn clear(&mut self) {
        let waker = self.take_back_waker();
        *self = Self::new();
        if let Some(waker) = waker {
            // Whoever waits is to see that nothing is left.
            context::foreign(|| waker.wake());
        }
    }
}

impl<T> Drop for Sink<T> {
    fn drop(&mut self) {
        let mut in_flight = self.pending;
        let mut users = Vec::new();
        for member in self.chunks.iter().flatten() {
            let Some(user) = member.user.take() else { continue };
            if let Some(mut locked) = user.waiters.lock() {
                // SAFETY: if it's in a list, it's that of its task.
                in_flight -= usize::from(unsafe { locked.unlink(&raw const member.link) });
            }
            users.push(user);
        }
        *self.shared().left.lock() = std::mem::take(&mut self.chunks);
        let word = self.shared().word.swap(GONE, Ordering::AcqRel);
        if word & WAKER != 0 {
            // SAFETY: it was ours, and has been taken back.
            context::foreign(|| drop(unsafe { take_waker(word) }));
        } else {
            let mut member: *const Member = ptr::with_exposed_provenance(word);
            while !member.is_null() {
                in_flight -= 1;
                // SAFETY: the chunks are still there.
                member = unsafe { (*member).next.get() };
            }
        }
        let in_flight = in_flight as isize;
        if self.shared().orphans.fetch_add(in_flight, Ordering::AcqRel) == -in_flight {
            // SAFETY: no member is left to look.
            unsafe { free(self.shared) };
        }
    }
}

/// # Safety
///
/// Nobody uses it any more.
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

/// Pushes a member onto its sink.
///
/// # Safety
///
/// The link is that of a member in a taken list that hasn't been told.
pub(crate) unsafe fn deliver(link: NonNull<Link>) {
    let member = link.cast::<Member>();
    // SAFETY: until the push, or until it finds the sink gone and says so, the member is ours, and the
    // shared part stays.
    unsafe {
        let shared = NonNull::new_unchecked(member.as_ref().shared.get().cast_mut());
        let word = &shared.as_ref().word;
        let new = member.as_ptr().expose_provenance();
        let mut now = word.load(Ordering::Acquire);
        loop {
            if now == GONE {
                if shared.as_ref().orphans.fetch_sub(1, Ordering::AcqRel) == 1 {
                    free(shared);
                }
                return;
            }
            let before = if now & WAKER == 0 { now } else { EMPTY };
            member.as_ref().next.set(ptr::with_exposed_provenance(before));
            match word.compare_exchange_weak(now, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(other) => now = other,
            }
        }
        if now & WAKER != 0 {
            let waker = take_waker(now);
            context::foreign(|| waker.wake());
        }
    }
}

/// Whether this task waits for this member, or any of its siblings, since its last poll.
///
/// # Safety
///
/// The link is that of a member in a list that is locked.
pub(crate) unsafe fn is_owned(link: NonNull<Link>, task: TaskRef<'_>) -> bool {
    // SAFETY: a sink takes its members out of their lists before it goes.
    let shared = unsafe { &*link.cast::<Member>().as_ref().shared.get() };
    shared.owner.load(Ordering::Relaxed) == task.as_ptr().addr().get()
        && shared.poll.load(Ordering::Relaxed) == task.polls.load(Ordering::Relaxed) as usize
}

/// The task that waits for this member and its siblings.
///
/// # Safety
///
/// The link is that of a member in a list that is locked.
pub(crate) unsafe fn awaiter(link: NonNull<Link>) -> Option<Awaiter> {
    // SAFETY: a sink takes its members out of their lists before it goes.
    let awaiter = unsafe { (*link.cast::<Member>().as_ref().shared.get()).awaiter.lock() };
    awaiter.as_ref().map(Awaiter::again)
}
