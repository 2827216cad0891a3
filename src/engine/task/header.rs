//! The header of a task's cell, which doesn't depend on what the task computes, and the three ways to refer to it.
//!
//! * [`TaskRef`] borrows: something else keeps the task in memory.
//! * [`Task`] is a counted memory reference. The engine has one for each unfinished task, which moves from its queue to
//!   its worker; wakers and stale queue entries have more.
//! * [`Interest`] is a counted interest in the outcome: handles, `Ref`s and inputs have one each. When the last one is
//!   dropped, the outcome is freed, or the work aborted.

use std::alloc::Layout;
use std::any::{Any, TypeId};
use std::cell;
use std::marker::PhantomData;
use std::mem;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Context;
use std::time::Duration;

use crate::engine::base::deferred::{Job, defer};
use crate::engine::base::sync::{AtomicPtr as LinkPtr, UnsafeCell};
use crate::engine::base::user_code::drop_user_value;
use crate::engine::task::attempt::{Held, Policy};
use crate::engine::task::count::Count;
use crate::engine::task::edges::Edge;
use crate::engine::task::inherited::Inherited;
use crate::engine::task::state::{
    DONE, KEYED, QUEUED, REOPENING, RUNNING, State, WATCHED, interests,
};
use crate::engine::task::waiters::{Resolution, Waiters};
use crate::task::key;
use crate::task::subject::{Subject, SubmittedAt};
use crate::{Error, Key};

/// The part of a cell that doesn't depend on types.
#[repr(C)]
pub(crate) struct Header {
    pub(crate) state: State,
    pub(crate) waiters: Waiters,
    pub(crate) vtable: &'static VTable,
    /// The engine. A reference to it is acquired with the cell and released when the cell is freed.
    engine: NonNull<EngineHead>,
    /// The link of the queue that is made of its tasks, the injector.
    pub(crate) queue_node: QueueNode,
    pub(crate) count: Count,
    pub(crate) priority: AtomicI32,
    /// Null, the address of a box, or, marked with [`NUMBER`], the number of a watched task that has nothing else.
    extras: AtomicPtr<Extras>,
    /// Guarded by the lock of the waiters word. Once that says `ABORTING`, the error stays until a retry.
    pub(crate) failure: UnsafeCell<Option<Error>>,
    /// The slot in the table of owned tasks; for the thread that owns the task only.
    pub(crate) slot: AtomicU32,
    /// The number of its wakers. A suspended task with a single one is woken by nothing else.
    pub(crate) wakers: AtomicU32,
    pub(crate) submitted_at: SubmittedAt,
}

/// The part of an engine that its tasks know: an engine has one as a field.
///
/// The room `core`, which builds on this one, gets the whole engine from it: `Header::core`.
pub(crate) struct EngineHead {
    next_number: AtomicU64,
}

impl EngineHead {
    pub(crate) fn new() -> Self {
        Self { next_number: AtomicU64::new(1) }
    }

    /// A number that no other task of the engine has.
    pub(crate) fn next_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }
}

/// A task's link in the injector.
#[derive(Default)]
pub(crate) struct QueueNode {
    pub(crate) next: LinkPtr<QueueNode>,
}

/// Marks a task number that is stored in place of the address of extras. The number is shifted by one.
const NUMBER: usize = 1;

const _: () = assert!(align_of::<Extras>() > NUMBER);

/// The operations on a task that depend on its types.
///
/// The caller owns the contents, except for `value`, whose caller has an interest in a task that has succeeded, for
/// `dealloc`, and for the two that drop interests.
pub(crate) struct VTable {
    /// Polls the task once. It may panic; [`end`](Self::end) comes after that, and after an error.
    pub(crate) run: unsafe fn(NonNull<Header>, &mut Context<'_>) -> PollOutcome,
    /// Calls the function unless an attempt has begun, and polls its future once. It may panic.
    pub(crate) poll: unsafe fn(NonNull<Header>, &mut Context<'_>) -> PollOutcome,
    /// Begins an attempt: calls the function. The future may take over what the attempt holds. It may panic.
    pub(crate) begin: unsafe fn(NonNull<Header>, &mut Option<Held>) -> Result<(), Error>,
    /// Drops the future of an attempt, if there is one. Returns whether another attempt can begin.
    pub(crate) end: unsafe fn(NonNull<Header>) -> bool,
    /// Drops the contents, whatever they are.
    pub(crate) clear: unsafe fn(NonNull<Header>),
    /// Drops the contents unless they can be run again; says whether they can.
    pub(crate) keep_for_retry: unsafe fn(NonNull<Header>) -> bool,
    /// Visits the inputs of a task that waits.
    pub(crate) edges: unsafe fn(NonNull<Header>, VisitEdge<'_>),
    /// Returns the address of the value.
    pub(crate) value: unsafe fn(NonNull<Header>) -> NonNull<()>,
    /// Moves the value to memory that fits it.
    pub(crate) take: unsafe fn(NonNull<Header>, NonNull<()>),
    /// Frees the cell, whose contents were dropped or need no dropping.
    pub(crate) dealloc: unsafe fn(NonNull<Header>),
    /// Drops an interest, which may be the last one, in a task that has a key or a value with a destructor.
    pub(crate) drop_interest: unsafe fn(NonNull<Header>),
    /// Frees the outcome, or aborts the work, after the last interest was dropped; gets the state before that. The
    /// caller gives away the reference that all interests together had.
    pub(crate) last_interest_dropped: unsafe fn(NonNull<Header>, u64),
    /// The type of the value.
    pub(crate) type_id: fn() -> TypeId,
    pub(crate) type_name: fn() -> &'static str,
    /// The type of the function.
    pub(crate) function: fn() -> &'static str,
    /// The size and the alignment of the cell.
    pub(crate) layout: Layout,
    /// Whether the task's policy makes its attempts, or it has a deadline. Else it has neither.
    pub(crate) has_policy: bool,
    /// The cell stores a reference to a value in another process. The types are those of that value.
    pub(crate) is_remote: bool,
    /// Whether dropping the value does anything.
    pub(crate) value_needs_drop: bool,
    /// Whether an input may be taken however its task has ended.
    pub(crate) settles: bool,
}

pub(crate) type VisitEdge<'a> = &'a mut dyn FnMut(&Edge);

/// How a poll ended.
pub(crate) enum PollOutcome {
    Pending,
    Value,
    Failed(Error),
}

/// The data that few tasks need: allocated with the task if options ask for it, else when first needed.
#[derive(Default)]
pub(crate) struct Extras {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) key: OnceLock<Key>,
    /// The digest that the key of a pure call is made from, together with the name, when the key is first read.
    pub(crate) derived: Option<Digest>,
    /// The number in its key, by which the observer knows it too; 0 if it has none yet.
    pub(crate) number: AtomicU64,
    /// The reason of a pause: see [`PausedFor`].
    pub(crate) paused_for: AtomicU8,
    /// The attempt that runs or is waited for; 0 for the first.
    pub(crate) attempt: AtomicU32,
    /// When that attempt is due, in nanoseconds of the engine's clock.
    pub(crate) due: AtomicU64,
    pub(crate) deadline: Option<Box<Deadline>>,
    /// The number of waits for its client to be idle or closed that it has begun.
    pub(crate) exempt: AtomicU32,
    /// The blocking work that it waits for, or last waited for: an even number until that work has a thread, the next
    /// odd one from then on.
    pub(crate) blocking: AtomicU32,
    /// The number of its futures that wait for blocking work.
    pub(crate) blocked: AtomicU32,
    /// Set for a task that another process runs.
    pub(crate) remote: Option<Box<dyn Remote>>,
    /// What the tasks that it submits get, too.
    pub(crate) inherited: Option<Inherited>,
    /// Makes the attempts of a task with options. It belongs to the owner of the contents.
    pub(crate) policy: cell::UnsafeCell<Option<Box<dyn Policy>>>,
}

/// The digest of a pure call. It isn't aligned as a number, and so takes less of the extras.
#[derive(Clone, Copy)]
pub(crate) struct Digest([u8; 16]);

impl Digest {
    pub(crate) fn new(digest: u128) -> Self {
        Self(digest.to_ne_bytes())
    }

    pub(crate) fn get(self) -> u128 {
        u128::from_ne_bytes(self.0)
    }
}

/// The time within which a task has to end, from its submission or its last retry.
#[derive(Default)]
pub(crate) struct Deadline {
    pub(crate) after: Duration,
    /// When that is over, in nanoseconds of the engine's clock.
    pub(crate) due: AtomicU64,
    /// The timer that ends the task then. It belongs to the owner of the contents.
    pub(crate) alarm: cell::UnsafeCell<Option<Held>>,
}

impl Deadline {
    pub(crate) fn new(after: Duration) -> Box<Self> {
        Box::new(Self { after, ..Self::default() })
    }
}

/// The reason of a pause.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PausedFor {
    /// It waits for limits or rates.
    Limit = 0,
    /// It waits for its next attempt.
    Delay = 1,
}

impl Extras {
    /// Whether a task that is about to be made with these needs a vtable with a policy.
    pub(crate) fn need_policy(&mut self) -> bool {
        self.policy.get_mut().is_some() || self.deadline.is_some()
    }

    /// Whether a paused task is paused for this reason.
    pub(crate) fn is_paused_for(&self, why: PausedFor) -> bool {
        self.paused_for.load(Ordering::Relaxed) == why as u8
    }
}

/// A task that another process runs, as seen by those that use its value or run it again.
///
/// Such a task ends when its value exists, wherever that is. Its value is fetched by a second, local task, the
/// *fetch task*.
pub(crate) trait Remote: Send + Sync {
    /// The task whose value is that of `of`, fetched into this process; made when first needed.
    fn fetch_task(&self, of: &Interest) -> Interest;

    /// The fetch task, if there is one now.
    fn current_fetch_task(&self, of: &Interest) -> Option<Interest>;

    /// The task has failed and is about to run again.
    fn retried(&self);

    /// So that the room that made it finds its own type again.
    fn as_any(&self) -> &dyn Any;
}

impl Header {
    pub(crate) fn new(
        state: State,
        waiters: Waiters,
        vtable: &'static VTable,
        engine: NonNull<EngineHead>,
        priority: i32,
        extras: Option<Box<Extras>>,
        submitted_at: SubmittedAt,
    ) -> Self {
        Self {
            state,
            waiters,
            vtable,
            engine,
            queue_node: QueueNode::default(),
            count: Count::new(),
            priority: AtomicI32::new(priority),
            extras: AtomicPtr::new(extras.map_or(ptr::null_mut(), Box::into_raw)),
            failure: UnsafeCell::new(None),
            slot: AtomicU32::new(0),
            wakers: AtomicU32::new(0),
            submitted_at,
        }
    }

    /// Whether the task may wait for another one: it has unfinished inputs, or has begun to await a task.
    pub(crate) fn may_wait(&self) -> bool {
        self.count.is_waiting() || self.state.has_awaited()
    }

    /// The engine of this task. For the engine's own accessor only.
    pub(crate) fn engine(&self) -> NonNull<EngineHead> {
        self.engine
    }

    /// The remote half of a remote task; `None` for any other.
    pub(crate) fn remote(&self) -> Option<&dyn Remote> {
        if !self.vtable.is_remote {
            return None;
        }
        self.extras()?.remote.as_deref()
    }

    /// Whether an entry in a queue leads to this task, and it waits for its turn there.
    pub(crate) fn is_queued(&self) -> bool {
        self.state.load() & (QUEUED | RUNNING | DONE | REOPENING) == QUEUED
    }

    pub(crate) fn priority(&self) -> i32 {
        self.priority.load(Ordering::Relaxed)
    }

    pub(crate) fn extras(&self) -> Option<&Extras> {
        let extras = self.extras.load(Ordering::Acquire);
        // SAFETY: it's the current word.
        unsafe { self.at(extras) }
    }

    /// # Safety
    ///
    /// The word is the present or an earlier one of `extras`.
    unsafe fn at(&self, extras: *mut Extras) -> Option<&Extras> {
        if extras.addr() & NUMBER != 0 {
            return None;
        }
        // SAFETY: once the word is an address it stays until the header is dropped.
        unsafe { extras.as_ref() }
    }

    pub(crate) fn make_extras(&self) -> &Extras {
        if let Some(extras) = self.extras() {
            return extras;
        }
        let mut new = Box::<Extras>::default();
        let mut before = self.extras.load(Ordering::Acquire);
        loop {
            // SAFETY: as in `extras`.
            if let Some(theirs) = unsafe { self.at(before) } {
                return theirs;
            }
            *new.number.get_mut() = number_in(before);
            let address = Box::into_raw(new);
            match self.extras.compare_exchange(before, address, Ordering::AcqRel, Ordering::Acquire)
            {
                // SAFETY: as in `extras`.
                Ok(_) => return unsafe { &*address },
                Err(now) => {
                    before = now;
                    // SAFETY: it was never shared.
                    new = unsafe { Box::from_raw(address) };
                }
            }
        }
    }

    /// The number of a watched task, by which the observer knows it.
    pub(crate) fn number(&self) -> Option<u64> {
        if self.state.load() & WATCHED == 0 { None } else { self.any_number() }
    }

    /// Its number, if it has one already.
    pub(crate) fn any_number(&self) -> Option<u64> {
        let extras = self.extras.load(Ordering::Acquire);
        // SAFETY: it's the current word.
        let number = match unsafe { self.at(extras) } {
            Some(extras) => extras.number.load(Ordering::Relaxed),
            None => number_in(extras),
        };
        (number != 0).then_some(number)
    }

    /// Its number; it gets one if it has none.
    pub(crate) fn make_number(&self) -> u64 {
        if let Some(number) = self.any_number() {
            return number;
        }
        // SAFETY: the cell's reference keeps the engine in memory.
        let new = unsafe { self.engine.as_ref() }.next_number();
        let marked = ptr::without_provenance_mut((new as usize) << 1 | NUMBER);
        // A large number doesn't fit beside the mark.
        if new <= (usize::MAX >> 1) as u64
            && self
                .extras
                .compare_exchange(ptr::null_mut(), marked, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
        {
            return new;
        }
        let number = &self.make_extras().number;
        number
            .compare_exchange(0, new, Ordering::AcqRel, Ordering::Acquire)
            .map_or_else(|theirs| theirs, |_| new)
    }

    /// The name that was given with options.
    pub(crate) fn given_name(&self) -> Option<&Arc<str>> {
        self.extras()?.name.as_ref()
    }

    pub(crate) fn name(&self) -> Arc<str> {
        match self.given_name() {
            Some(name) => name.clone(),
            None => key::short_name((self.vtable.function)()).into(),
        }
    }

    pub(crate) fn key(&self) -> &Key {
        let extras = self.make_extras();
        extras.key.get_or_init(|| match extras.derived {
            Some(digest) => key::derived(&self.name(), digest.get()),
            None => format!("{}-{}", self.name(), self.make_number()).into(),
        })
    }

    /// What its errors say of it.
    pub(crate) fn subject(&self) -> Subject {
        Subject { key: self.key().clone(), submitted_at: self.submitted_at }
    }

    /// The error of a task that has failed or is aborting.
    pub(crate) fn failure(&self) -> Option<Error> {
        // SAFETY: the slot is read and written under the lock.
        let read = || unsafe { (*self.failure.get()).clone() };
        match self.waiters.resolution() {
            Resolution::Pending | Resolution::Succeeded => None,
            Resolution::Failed => self.waiters.lock_failed().and_then(|_lock| read()),
            Resolution::Aborting => match self.waiters.lock() {
                Some(_lock) => read(),
                None => self.waiters.lock_failed().and_then(|_lock| read()),
            },
        }
    }
}

/// The number in a word that isn't an address; 0 for an address.
fn number_in(extras: *mut Extras) -> u64 {
    if extras.addr() & NUMBER == 0 { 0 } else { (extras.addr() >> 1) as u64 }
}

impl Drop for Header {
    fn drop(&mut self) {
        let extras = *self.extras.get_mut();
        if let (Some(extras), 0) = (NonNull::new(extras), extras.addr() & NUMBER) {
            // SAFETY: it came from a box, and nothing else has the header any more.
            defer(unsafe { Job::new(extras.cast(), drop_extras) });
        }
    }
}

/// Drops extras. There may be values of users in them, whose destructors may panic and use the engine: the predicate of a
/// retry, and what was inherited.
///
/// # Safety
///
/// The extras are those of a header that was dropped.
unsafe fn drop_extras(extras: NonNull<()>) {
    // SAFETY: the caller's promise; they came from a box.
    let extras = unsafe { Box::from_raw(extras.cast::<Extras>().as_ptr()) };
    drop_user_value(extras);
}

/// A borrowed task, which something else keeps in memory.
#[derive(Clone, Copy)]
pub(crate) struct TaskRef<'a> {
    // Not a reference to the header: the pointer must also be good for the rest of the cell.
    header: NonNull<Header>,
    lives: PhantomData<&'a Header>,
}

impl<'a> TaskRef<'a> {
    /// # Safety
    ///
    /// The header is that of a cell, and stays for `'a`.
    pub(crate) unsafe fn new(header: NonNull<Header>) -> Self {
        Self { header, lives: PhantomData }
    }

    pub(crate) fn as_ptr(self) -> NonNull<Header> {
        self.header
    }

    pub(crate) fn get(self) -> &'a Header {
        // SAFETY: it stays for `'a`.
        unsafe { self.header.as_ref() }
    }

    pub(crate) fn to_task(self) -> Task {
        self.state.add_ref();
        Task(self.header)
    }

    /// Adds an interest to a task that has one, or that is known to keep its outcome for now.
    pub(crate) fn to_interest(self) -> Interest {
        self.state.add_interest();
        Interest(self.header)
    }

    /// Adds an interest unless the last one was dropped or the value moved out.
    pub(crate) fn try_to_interest(self) -> Option<Interest> {
        // SAFETY: the interest that was just added.
        self.state.try_add_interest().then(|| unsafe { Interest::from_raw(self.header) })
    }

    pub(crate) fn is(self, other: TaskRef<'_>) -> bool {
        self.header == other.header
    }
}

impl Deref for TaskRef<'_> {
    type Target = Header;

    fn deref(&self) -> &Header {
        self.get()
    }
}

/// A counted memory reference.
pub(crate) struct Task(NonNull<Header>);

// SAFETY: the header may be used from any thread, and the contents of the cell are `Send`.
unsafe impl Send for Task {}
// SAFETY: as above; the contents are for their owner only, and sharing the value requires `Sync`.
unsafe impl Sync for Task {}

impl Task {
    /// # Safety
    ///
    /// The caller gives away a memory reference.
    pub(crate) unsafe fn from_raw(header: NonNull<Header>) -> Self {
        Self(header)
    }

    pub(crate) fn into_raw(self) -> NonNull<Header> {
        let header = self.0;
        mem::forget(self);
        header
    }

    pub(crate) fn as_ref(&self) -> TaskRef<'_> {
        // SAFETY: it stays while this reference is held.
        unsafe { TaskRef::new(self.0) }
    }
}

impl Deref for Task {
    type Target = Header;

    fn deref(&self) -> &Header {
        // SAFETY: as in `as_ref`.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.state.drop_ref() {
            // SAFETY: it was the last reference, and the contents went with the last interest, or with the end
            // if that came later.
            unsafe { (self.vtable.dealloc)(self.0) };
        }
    }
}

/// A counted interest in the outcome of a task.
pub(crate) struct Interest(NonNull<Header>);

// SAFETY: as for `Task`.
unsafe impl Send for Interest {}
// SAFETY: as for `Task`.
unsafe impl Sync for Interest {}

impl Interest {
    /// # Safety
    ///
    /// The caller gives away an interest.
    pub(crate) unsafe fn from_raw(header: NonNull<Header>) -> Self {
        Self(header)
    }

    pub(crate) fn task(&self) -> TaskRef<'_> {
        // SAFETY: all interests together have a memory reference.
        unsafe { TaskRef::new(self.0) }
    }
}

impl Deref for Interest {
    type Target = Header;

    fn deref(&self) -> &Header {
        // SAFETY: as in `task`.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for Interest {
    fn clone(&self) -> Self {
        self.task().to_interest()
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let header = self.0;
        let state = self.state.load();
        // SAFETY: this gives away one interest, in one of three ways.
        unsafe {
            if State::is_alone(state) {
                if !self.vtable.value_needs_drop
                    && self.waiters.resolution() == Resolution::Succeeded
                {
                    // Nothing else has the task, and there's nothing to drop.
                    (self.vtable.dealloc)(header);
                } else {
                    (self.vtable.drop_interest)(header);
                }
            } else if state & KEYED != 0 {
                (self.vtable.drop_interest)(header);
            } else {
                let before = self.state.drop_interest();
                if interests(before) == 1 {
                    (self.vtable.last_interest_dropped)(header, before);
                }
            }
        }
    }
}
