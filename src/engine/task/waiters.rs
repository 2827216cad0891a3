//! Who waits for a task: a list behind one word.
//!
//! The word holds the first entry and three bits. `LOCK` guards the list, for a few instructions at
//! a time and never around foreign code. `DOOMED` says that the task is to end with the error in its
//! failure slot. `CLOSED` says that the outcome is there; with `DOOMED` it's an error. A closed word
//! has no list: who closed it took the list along.
//!
//! Entries are linked through a [`Link`] that each kind of waiter has as its first field and keeps in
//! place until it has been unlinked or taken. The list is in order of arrival; the first entry's
//! `prev` is the last one. An entry is linked just when its `prev` isn't null, except that a list
//! taken by success is left as it is: such a task never opens again, so nobody looks.

use std::ptr::{self, NonNull};

use crate::engine::base::prefetch::prefetch;
use crate::engine::base::sync::{AtomicUsize, Cell, Ordering, spin_loop, yield_now};
use crate::engine::task::header::Header;

const LOCK: usize = 1;
const ABORTING: usize = 2;
const CLOSED: usize = 4;
const BITS: usize = LOCK | ABORTING | CLOSED;

const SUCCEEDED: usize = CLOSED;
const FAILED: usize = CLOSED | ABORTING;

/// What a link is the first field of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaiterKind {
    /// An [`Edge`](crate::engine::task::edges::Edge): an input of this waiting task.
    Edge(NonNull<Header>),
    /// A [`WaitNode`](super::wait_node::WaitNode): a handle being awaited.
    Wait,
    /// A `Member` of a completion queue: of a stream or a `gather`.
    Member,
    /// A `Callback` of a handle.
    Callback,
}

const WAIT: usize = 0;
const MEMBER: usize = 1;
const CALLBACK: usize = 2;

#[repr(C)]
pub(crate) struct Link {
    next: Cell<*const Link>,
    prev: Cell<*const Link>,
    /// A kind without data, or the address of a dependent's header.
    owner: Cell<*mut Header>,
}

impl Link {
    pub(crate) fn new(kind: WaiterKind) -> Self {
        let link = Self {
            next: Cell::new(ptr::null()),
            prev: Cell::new(ptr::null()),
            owner: Cell::new(ptr::null_mut()),
        };
        link.set_kind(kind);
        link
    }

    /// Only while the link is in no list.
    pub(crate) fn set_kind(&self, kind: WaiterKind) {
        self.owner.set(match kind {
            WaiterKind::Edge(dependent) => dependent.as_ptr(),
            WaiterKind::Wait => ptr::without_provenance_mut(WAIT),
            WaiterKind::Member => ptr::without_provenance_mut(MEMBER),
            WaiterKind::Callback => ptr::without_provenance_mut(CALLBACK),
        });
    }

    pub(crate) fn kind(&self) -> WaiterKind {
        match self.owner.get().addr() {
            MEMBER => WaiterKind::Member,
            CALLBACK => WaiterKind::Callback,
            // `WAIT` is null.
            _ => NonNull::new(self.owner.get()).map_or(WaiterKind::Wait, WaiterKind::Edge),
        }
    }

    /// After it was told, before it's used again.
    pub(crate) fn reset(&self) {
        self.prev.set(ptr::null());
    }

    /// Under the lock of the list that it may be in.
    pub(crate) fn is_linked(&self) -> bool {
        !self.prev.get().is_null()
    }
}

pub(crate) struct Waiters(AtomicUsize);

/// How the task stands for one who waits for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolution {
    Pending,
    Aborting,
    Succeeded,
    Failed,
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    pub(crate) fn succeeded() -> Self {
        Self(AtomicUsize::new(SUCCEEDED))
    }

    pub(crate) fn failed() -> Self {
        Self(AtomicUsize::new(FAILED))
    }

    pub(crate) fn resolution(&self) -> Resolution {
        match self.0.load(Ordering::Acquire) & (CLOSED | ABORTING) {
            0 => Resolution::Pending,
            ABORTING => Resolution::Aborting,
            SUCCEEDED => Resolution::Succeeded,
            _ => Resolution::Failed,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire) & CLOSED != 0
    }

    pub(crate) fn is_aborting(&self) -> bool {
        self.0.load(Ordering::Acquire) & ABORTING != 0
    }

    /// Locks the list; `None` where the task has its outcome.
    pub(crate) fn lock(&self) -> Option<Locked<'_>> {
        let word = self.lock_where(|word| word & CLOSED == 0)?;
        Some(Locked { waiters: self, word })
    }

    /// Locks the failure slot of a failed task; `None` where it hasn't failed.
    pub(crate) fn lock_failed(&self) -> Option<LockedFailure<'_>> {
        self.lock_where(|word| word & FAILED == FAILED)?;
        Some(LockedFailure { waiters: self, word: FAILED })
    }

    fn lock_where(&self, wanted: impl Fn(usize) -> bool) -> Option<usize> {
        let mut spins = 0u32;
        loop {
            let word = self.0.load(Ordering::Acquire);
            if !wanted(word) {
                return None;
            }
            if word & LOCK == 0
                && self
                    .0
                    .compare_exchange_weak(word, word | LOCK, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                return Some(word);
            }
            backoff(&mut spins);
        }
    }

    /// Closes a task that has a value, and takes the list. `None` where it is doomed.
    pub(crate) fn close(&self) -> Option<Taken> {
        let mut spins = 0u32;
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            if word & ABORTING != 0 {
                return None;
            }
            if word & LOCK != 0 {
                backoff(&mut spins);
                word = self.0.load(Ordering::Acquire);
                continue;
            }
            match self.0.compare_exchange_weak(word, SUCCEEDED, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some(Taken { next: address(word) }),
                Err(now) => word = now,
            }
        }
    }
}

fn address(word: usize) -> *const Link {
    ptr::with_exposed_provenance(word & !BITS)
}

fn backoff(spins: &mut u32) {
    *spins += 1;
    if *spins % 64 == 0 {
        // Whoever holds the lock may have lost its processor.
        yield_now();
    } else {
        spin_loop();
    }
}

/// The open list, locked until this is dropped.
pub(crate) struct Locked<'a> {
    waiters: &'a Waiters,
    word: usize,
}

impl Locked<'_> {
    fn head(&self) -> *const Link {
        address(self.word)
    }

    fn set_head(&mut self, head: *const Link) {
        self.word = head.expose_provenance() | self.word & BITS;
    }

    pub(crate) fn is_aborting(&self) -> bool {
        self.word & ABORTING != 0
    }

    /// From now on the task can only end with what is in its failure slot.
    pub(crate) fn abort(&mut self) {
        self.word |= ABORTING;
    }

    /// # Safety
    ///
    /// The link is in no list, and stays in place until it was unlinked or taken.
    pub(crate) unsafe fn push(&mut self, link: *const Link) {
        // SAFETY: linked entries stay in place, and their links are touched under this lock only.
        unsafe {
            debug_assert!(!(*link).is_linked());
            (*link).next.set(ptr::null());
            let head = self.head();
            if head.is_null() {
                (*link).prev.set(link);
                self.set_head(link);
            } else {
                let tail = (*head).prev.get();
                (*tail).next.set(link);
                (*link).prev.set(tail);
                (*head).prev.set(link);
            }
        }
    }

    /// Takes an entry out; false where it's not in the list any more.
    ///
    /// # Safety
    ///
    /// If the link is in a list, it's this one.
    pub(crate) unsafe fn unlink(&mut self, link: *const Link) -> bool {
        // SAFETY: as in `push`.
        unsafe {
            if !(*link).is_linked() {
                return false;
            }
            let head = self.head();
            let (next, prev) = ((*link).next.get(), (*link).prev.get());
            if head == link {
                if !next.is_null() {
                    (*next).prev.set(prev);
                }
                self.set_head(next);
            } else {
                (*prev).next.set(next);
                let after = if next.is_null() { head } else { next };
                (*after).prev.set(prev);
            }
            (*link).prev.set(ptr::null());
            true
        }
    }

    /// The entries, in order of arrival. They stay while the lock is held.
    pub(crate) fn each(&self, mut visit: impl FnMut(NonNull<Link>)) {
        self.any(|link| {
            visit(link);
            false
        });
    }

    /// Whether any entry is such.
    pub(crate) fn any(&self, mut wanted: impl FnMut(NonNull<Link>) -> bool) -> bool {
        let mut next = NonNull::new(self.head().cast_mut());
        while let Some(link) = next {
            if wanted(link) {
                return true;
            }
            // SAFETY: linked entries stay in place.
            next = NonNull::new(unsafe { link.as_ref().next.get() }.cast_mut());
        }
        false
    }

    /// Closes a task that has failed, and takes the list. Every entry is marked, because a retry
    /// may open the list again before the last one was told.
    pub(crate) fn close_failed(mut self) -> Taken {
        let head = self.head();
        // SAFETY: linked entries stay in place.
        self.each(|link| unsafe { link.as_ref().prev.set(ptr::null()) });
        self.word = FAILED;
        Taken { next: head }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.waiters.0.store(self.word, Ordering::Release);
    }
}

/// The failure slot of a failed task, locked until this is dropped.
pub(crate) struct LockedFailure<'a> {
    waiters: &'a Waiters,
    word: usize,
}

impl LockedFailure<'_> {
    /// The task waits again.
    pub(crate) fn reopen(&mut self) {
        self.word = 0;
    }
}

impl Drop for LockedFailure<'_> {
    fn drop(&mut self) {
        self.waiters.0.store(self.word, Ordering::Release);
    }
}

/// A list that was taken from a closed word: the caller tells each entry, once.
#[must_use]
pub(crate) struct Taken {
    next: *const Link,
}

impl Taken {
    pub(crate) fn is_empty(&self) -> bool {
        self.next.is_null()
    }

    pub(crate) fn has_dependents(&self) -> bool {
        let mut link = self.next;
        while !link.is_null() {
            // SAFETY: taken entries stay in place until they're told.
            unsafe {
                if matches!((*link).kind(), WaiterKind::Edge(_)) {
                    return true;
                }
                link = (*link).next.get();
            }
        }
        false
    }
}

impl Iterator for Taken {
    type Item = NonNull<Link>;

    /// The next entry, which may be gone as soon as it was told.
    fn next(&mut self) -> Option<NonNull<Link>> {
        let link = NonNull::new(self.next.cast_mut())?;
        // SAFETY: this entry hasn't been told yet, so it's still in place.
        self.next = unsafe { link.as_ref().next.get() };
        prefetch(self.next);
        Some(link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spins_are_counted() {
        let mut spins = 0;
        (0..200).for_each(|_| backoff(&mut spins));
        assert_eq!(spins, 200);
    }
}
