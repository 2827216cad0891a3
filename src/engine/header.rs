//! What every task has, whatever it computes: the header of its cell, and the three ways to hold it.
//!
//! * [`TaskRef`] borrows: somebody else keeps the task in memory.
//! * [`Task`] keeps it in memory. The engine has one for each unfinished task, which travels from its
//!   queue to its worker; wakers and stale queue entries have more.
//! * [`User`] keeps the outcome wanted: handles, `Ref`s and inputs are users. When the last one goes,
//!   so do the outcome and the work.

use std::any::TypeId;
use std::marker::PhantomData;
use std::mem;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Context;

use super::core::Core;
use super::count::Count;
use super::edges::Edge;
use super::injector::Place;
use super::purse;
use super::release;
use super::state::{State, WATCHED};
use super::sync::UnsafeCell;
use super::waiters::{Outlook, Waiters};
use crate::{Error, Key, key};

/// The part of a cell that doesn't depend on types.
#[repr(C)]
pub(crate) struct Header {
    pub(crate) state: State,
    pub(crate) waiters: Waiters,
    pub(crate) vtable: &'static VTable,
    /// The client's engine, which this task keeps in memory (see [`purse`]).
    core: NonNull<Core>,
    /// In the queue that links its tasks.
    pub(crate) place: Place,
    pub(crate) count: Count,
    pub(crate) priority: AtomicI32,
    /// Null, the address of a box, or, marked with [`NUMBER`], the number of a watched task that has nothing else.
    extras: AtomicPtr<Extras>,
    /// Guarded by the lock of the waiters word; what is in it once that says doomed stays until a
    /// retry.
    pub(crate) failure: UnsafeCell<Option<Error>>,
    /// Where the list of started tasks has it; for its owner only.
    pub(crate) slot: AtomicU32,
    /// How often it was polled. An await belongs to the poll that made it.
    pub(crate) polls: AtomicU32,
}

/// Marks a number in place of the address of extras, which is even. The number is shifted by one.
const NUMBER: usize = 1;

/// What can be done to a task without knowing its types.
///
/// But for `value`, whose caller is a user of a task that has succeeded, and `dealloc`, the caller
/// owns the contents.
pub(crate) struct VTable {
    /// Calls the function if that is still to be done, and polls its future once.
    pub(crate) run: unsafe fn(NonNull<Header>, &mut Context<'_>) -> Run,
    /// Drops whatever is there.
    pub(crate) clear: unsafe fn(NonNull<Header>),
    /// Drops what can't be run again.
    pub(crate) keep_for_retry: unsafe fn(NonNull<Header>) -> bool,
    /// Shows the inputs of a task that waits.
    pub(crate) edges: unsafe fn(NonNull<Header>, SeeEdge<'_>),
    /// Where the value is.
    pub(crate) value: unsafe fn(NonNull<Header>) -> NonNull<()>,
    /// Moves the value to a place that is fit for it.
    pub(crate) take: unsafe fn(NonNull<Header>, NonNull<()>),
    /// Frees the cell, whose contents are gone or need no dropping.
    pub(crate) dealloc: unsafe fn(NonNull<Header>),
    /// The type of the value.
    pub(crate) type_id: fn() -> TypeId,
    pub(crate) type_name: fn() -> &'static str,
    /// The type of the function.
    pub(crate) function: fn() -> &'static str,
    /// What is in place of the value only says where that is. The types are those of the value.
    pub(crate) is_elsewhere: bool,
    /// Whether dropping the value does anything.
    pub(crate) value_needs_drop: bool,
}

pub(crate) type SeeEdge<'a> = &'a mut dyn FnMut(&Edge);

/// How a poll ended.
pub(crate) enum Run {
    Pending,
    Value,
    Failed(Error),
}

/// What few tasks have: made with the task where options ask for it, else when first needed.
#[derive(Default)]
pub(crate) struct Extras {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) key: OnceLock<Key>,
    /// The digest that the key is made from, with the name, when somebody asks for it.
    pub(crate) derived: Option<u128>,
    /// The number in its key, and what the observer knows it by; 0 where it has none yet.
    pub(crate) number: AtomicU64,
    /// What it's parked for: see [`Parked`].
    pub(crate) parked: AtomicU8,
    /// Which attempt is under way, or waited for; 0 for the first.
    pub(crate) attempt: AtomicU32,
    /// When that is due, in nanoseconds of the engine's clock.
    pub(crate) due: AtomicU64,
    /// How many waits for its client to be idle or closed it has under way.
    pub(crate) exempt: AtomicU32,
    /// The blocking work that it has waited for last: an even number until that has a thread, the next one from
    /// then on.
    pub(crate) blocking: AtomicU32,
    /// Of a task that is run somewhere else.
    #[cfg(feature = "dask")]
    pub(crate) ties: Option<Box<super::elsewhere::Ties>>,
}

impl Header {
    pub(crate) fn new(
        state: State,
        waiters: Waiters,
        vtable: &'static VTable,
        core: &Core,
        priority: i32,
        extras: Option<Box<Extras>>,
    ) -> Self {
        Self {
            state,
            waiters,
            vtable,
            core: purse::take(core),
            place: Place::default(),
            count: Count::new(),
            priority: AtomicI32::new(priority),
            extras: AtomicPtr::new(extras.map_or(ptr::null_mut(), Box::into_raw)),
            failure: UnsafeCell::new(None),
            slot: AtomicU32::new(0),
            polls: AtomicU32::new(0),
        }
    }

    pub(crate) fn core(&self) -> &Core {
        // SAFETY: every task has a reference to its engine, taken in `new` and given back in `drop`.
        unsafe { self.core.as_ref() }
    }

    pub(crate) fn priority(&self) -> i32 {
        self.priority.load(Ordering::Relaxed)
    }

    pub(crate) fn extras(&self) -> Option<&Extras> {
        let extras = self.extras.load(Ordering::Acquire);
        // SAFETY: it's what is there.
        unsafe { self.at(extras) }
    }

    /// # Safety
    ///
    /// The word is, or was, that of the extras.
    unsafe fn at(&self, extras: *mut Extras) -> Option<&Extras> {
        if extras.addr() & NUMBER != 0 {
            return None;
        }
        // SAFETY: once it's an address it stays until the header is dropped.
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

    /// The number that the observer knows a watched task by.
    pub(crate) fn number(&self) -> Option<u64> {
        if self.state.load() & WATCHED == 0 { None } else { self.any_number() }
    }

    /// Its number, if it has one already.
    pub(crate) fn any_number(&self) -> Option<u64> {
        let extras = self.extras.load(Ordering::Acquire);
        // SAFETY: it's what is there.
        let number = match unsafe { self.at(extras) } {
            Some(extras) => extras.number.load(Ordering::Relaxed),
            None => number_in(extras),
        };
        (number != 0).then_some(number)
    }

    /// Its number, from now on if it has none.
    pub(crate) fn make_number(&self) -> u64 {
        if let Some(number) = self.any_number() {
            return number;
        }
        let new = self.core().next_number();
        let marked = ptr::without_provenance_mut((new as usize) << 1 | NUMBER);
        // An address has no room for one that is too large.
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

    /// The name that options gave it.
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
            Some(digest) => key::derived(&self.name(), digest),
            None => format!("{}-{}", self.name(), self.make_number()).into(),
        })
    }

    /// The error of a task that has failed, or is doomed to.
    pub(crate) fn failure(&self) -> Option<Error> {
        // SAFETY: the slot is read and written under the lock.
        let read = || unsafe { (*self.failure.get()).clone() };
        match self.waiters.outlook() {
            Outlook::Open | Outlook::Succeeded => None,
            Outlook::Failed => self.waiters.lock_failed().and_then(|_lock| read()),
            Outlook::Doomed => match self.waiters.lock() {
                Some(_lock) => read(),
                None => self.waiters.lock_failed().and_then(|_lock| read()),
            },
        }
    }
}

/// The number in a word that isn't an address; 0 for any other.
fn number_in(extras: *mut Extras) -> u64 {
    if extras.addr() & NUMBER == 0 { 0 } else { (extras.addr() >> 1) as u64 }
}

impl Drop for Header {
    fn drop(&mut self) {
        if self.state.load() & WATCHED != 0 {
            if let Some(number) = self.number() {
                self.core().hook.released(number);
            }
        }
        let extras = *self.extras.get_mut();
        if !extras.is_null() && extras.addr() & NUMBER == 0 {
            // SAFETY: it came from a box, and nobody else has the header any more.
            drop(unsafe { Box::from_raw(extras) });
        }
        // SAFETY: the reference taken in `new`; the engine isn't used after this.
        unsafe { purse::give(self.core) };
    }
}

/// A task that somebody else keeps in memory.
#[derive(Clone, Copy)]
pub(crate) struct TaskRef<'a> {
    // A reference to the header would not do: what is behind it is reached from here too.
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

    /// One more user of a task that has one, or that is known to stay for now.
    pub(crate) fn to_user(self) -> User {
        self.state.add_user();
        User(self.header)
    }

    /// One more user of a task that may have none any more, unless it has.
    pub(crate) fn try_to_user(self) -> Option<User> {
        // SAFETY: the user that was just added.
        self.state.try_add_user().then(|| unsafe { User::from_raw(self.header) })
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

// SAFETY: the header may be used from any thread, and what is behind it is `Send`.
unsafe impl Send for Task {}
// SAFETY: as above; the contents are only for the owner, and a shared value asks for `Sync`.
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
            // SAFETY: it was the last reference.
            unsafe { release::free(self.0) };
        }
    }
}

/// A counted interest in a task's outcome.
pub(crate) struct User(NonNull<Header>);

// SAFETY: as for `Task`.
unsafe impl Send for User {}
// SAFETY: as for `Task`.
unsafe impl Sync for User {}

impl User {
    /// # Safety
    ///
    /// The caller gives away a user.
    pub(crate) unsafe fn from_raw(header: NonNull<Header>) -> Self {
        Self(header)
    }

    pub(crate) fn task(&self) -> TaskRef<'_> {
        // SAFETY: all users together have a memory reference.
        unsafe { TaskRef::new(self.0) }
    }
}

impl Deref for User {
    type Target = Header;

    fn deref(&self) -> &Header {
        // SAFETY: as in `task`.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for User {
    fn clone(&self) -> Self {
        self.task().to_user()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // SAFETY: this is the user that goes.
        unsafe { release::user(self.0) };
    }
}
