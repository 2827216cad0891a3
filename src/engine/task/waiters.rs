//! The list of a task's waiters, behind one word.
//!
//! The word holds the address of the first entry and three bits:
//!
//! | `CLOSED` | `ABORTING` | meaning | list |
//! |---|---|---|---|
//! | 0 | 0 | pending | open |
//! | 0 | 1 | will end with the error in the failure slot | open |
//! | 1 | 0 | succeeded | taken by the thread that closed it |
//! | 1 | 1 | failed | taken; a retry opens the word again |
//!
//! `LOCK` guards the list, and the failure slot of a failed task, for a few instructions or a bounded number of entries at a
//! time, and never around user code. Only a failure that closes the list goes through all of it, once; diagnostics
//! [walk](crate::engine::task::walk) over it in steps.
//!
//! Entries are linked through a [`Link`], which is the first field of every kind of waiter and stays in place until it
//! has been unlinked or taken. The list is in order of arrival; the `prev` of the first entry is the last one. An entry
//! is linked if and only if its `prev` isn't null, except that a list taken by success is left as it is: such a task
//! never opens again, so nothing reads those links.

use std::ptr::{self, NonNull};

use crate::engine::base::prefetch::prefetch;
use crate::engine::base::sync::{AtomicUsize, Cell, Ordering, spin_loop, yield_now};
use crate::engine::task::header::Header;

const LOCK: usize = 1;
const ABORTING: usize = 2;
const CLOSED: usize = 4;
const BITS: usize = LOCK | ABORTING | CLOSED;

// The bits are free in the address of an entry.
const _: () = assert!(align_of::<Link>() > BITS);

const SUCCEEDED: usize = CLOSED;
const FAILED: usize = CLOSED | ABORTING;

/// The kind of waiter that a link is the first field of.
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
/// Marks the entry of an edge that only waits for the end: a failure doesn't abort the dependent, but is its input.
const SETTLES: usize = 4;

// No address of a header is one of these, and the mark is free in it.
const _: () = assert!(align_of::<Header>() > SETTLES);

/// Marks what a notified entry was left with. It's free in the address of an entry, so none looks like this.
const LEFT: usize = 1;

/// Aligned for the bits in the word: three pointers are aligned to 4 bytes only where they have 32 bits.
#[repr(C, align(8))]
pub(crate) struct Link {
    /// The next entry. Once the entry was notified, nothing reads that, and there's place for what it was left with.
    next: Cell<*const Link>,
    prev: Cell<*const Link>,
    /// The address of a dependent's header, which may be marked with [`SETTLES`], or a small number for another kind.
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

    /// Returns the link of an edge that only waits for the end.
    pub(crate) fn settling() -> Self {
        let link = Self::new(WaiterKind::Wait);
        link.owner.set(ptr::without_provenance_mut(SETTLES));
        link
    }

    /// Whether it's that of an edge that only waits for the end.
    pub(crate) fn settles(&self) -> bool {
        self.owner.get().addr() & SETTLES != 0
    }

    /// Sets the kind of a link that is in no list. An edge that only waits for the end stays one.
    pub(crate) fn set_kind(&self, kind: WaiterKind) {
        self.owner.set(match kind {
            WaiterKind::Edge(dependent) => {
                let mark = self.owner.get().addr() & SETTLES;
                dependent.as_ptr().map_addr(|address| address | mark)
            }
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
            _ => NonNull::new(self.owner.get().map_addr(|address| address & !SETTLES))
                .map_or(WaiterKind::Wait, WaiterKind::Edge),
        }
    }

    /// Leaves an address with an entry that its owner has not been notified of yet. It's aligned as a link is.
    ///
    /// The caller has taken the entry out of its list, so that nothing else uses its `next`.
    pub(crate) fn leave(&self, what: *const ()) {
        debug_assert!(what.addr() & LEFT == 0);
        self.next.set(what.cast::<Link>().map_addr(|address| address | LEFT));
    }

    /// Takes what the entry was left with. The caller owns the entry, which is in no list.
    pub(crate) fn take_left(&self) -> Option<*const ()> {
        let next = self.next.get();
        (next.addr() & LEFT != 0).then(|| {
            self.next.set(ptr::null());
            next.map_addr(|address| address & !LEFT).cast()
        })
    }

    /// Marks a link that was notified as unlinked, so that it can be used again.
    pub(crate) fn reset(&self) {
        self.prev.set(ptr::null());
    }

    /// Whether it's in a list. The caller has the lock of the list that it may be in.
    pub(crate) fn is_linked(&self) -> bool {
        !self.prev.get().is_null()
    }
}

pub(crate) struct Waiters(AtomicUsize);

/// The outcome of a task, as far as a waiter can know it.
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

    /// Whether the list has no entry.
    pub(crate) fn is_empty(&self) -> bool {
        address(self.0.load(Ordering::Acquire)).is_null()
    }

    /// Locks the list; `None` if the task has its outcome.
    pub(crate) fn lock(&self) -> Option<Locked<'_>> {
        let word = self.lock_where(|word| word & CLOSED == 0)?;
        #[cfg(test)]
        STEPS.set([STEPS.get()[0], 0, STEPS.get()[2]]);
        Some(Locked { waiters: self, word })
    }

    /// Locks the failure slot of a failed task; `None` if it hasn't failed.
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

    /// Closes a task that has a value, and takes the list. `None` if it's aborting.
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
        // The thread that holds the lock may have been preempted.
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

    /// Makes the task end with the error in its failure slot, whatever it's doing.
    pub(crate) fn abort(&mut self) {
        self.word |= ABORTING;
    }

    /// # Safety
    ///
    /// The link is in no list, and stays in place until it has been unlinked or taken.
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

    /// Makes a link the first entry of a list that has one.
    ///
    /// # Safety
    ///
    /// As for `push`.
    pub(crate) unsafe fn push_first(&mut self, link: *const Link) {
        // SAFETY: as in `push`.
        unsafe {
            debug_assert!(!(*link).is_linked());
            let head = self.head();
            (*link).next.set(head);
            (*link).prev.set((*head).prev.get());
            (*head).prev.set(link);
        }
        self.set_head(link);
    }

    /// Moves an entry over up to `most` of those behind it, which are visited, and not over `end`. False once it has reached
    /// that, which it does in the end.
    ///
    /// # Safety
    ///
    /// Both are in this list, `end` behind `place`.
    pub(crate) unsafe fn advance(
        &mut self,
        place: *const Link,
        end: *const Link,
        most: usize,
        mut visit: impl FnMut(NonNull<Link>),
    ) -> bool {
        let mut last = place;
        // SAFETY: as in `push`. No link up to `end` is the last one.
        unsafe {
            for _ in 0..most {
                let next = (*last).next.get();
                if next == end {
                    return false;
                }
                count_step();
                visit(NonNull::new_unchecked(next.cast_mut()));
                last = next;
            }
            self.unlink(place);
            let next = (*last).next.get();
            (*place).next.set(next);
            (*place).prev.set(last);
            (*next).prev.set(place);
            (*last).next.set(place);
        }
        true
    }

    /// Unlinks an entry; false if it isn't in the list any more.
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

    /// Visits the entries in order of arrival. They stay in place while the lock is held.
    pub(crate) fn each(&self, mut visit: impl FnMut(NonNull<Link>)) {
        self.any(|link| {
            visit(link);
            false
        });
    }

    /// Whether `wanted` is true of any entry.
    pub(crate) fn any(&self, mut wanted: impl FnMut(NonNull<Link>) -> bool) -> bool {
        let mut next = NonNull::new(self.head().cast_mut());
        while let Some(link) = next {
            count_step();
            if wanted(link) {
                return true;
            }
            // SAFETY: linked entries stay in place.
            next = NonNull::new(unsafe { link.as_ref().next.get() }.cast_mut());
        }
        false
    }

    /// Closes a task that has failed, and takes the list. Every entry is marked as unlinked, because a retry may open
    /// the list again before the last one has been notified.
    pub(crate) fn close_failed(mut self) -> Taken {
        let head = self.head();
        // SAFETY: linked entries stay in place.
        self.each(|link| unsafe { link.as_ref().prev.set(ptr::null()) });
        self.word = FAILED;
        Taken { next: head }
    }
}

#[cfg(test)]
thread_local! {
    /// The entries that this thread has visited, in all and under its present lock, and the most under one.
    pub(crate) static STEPS: Cell<[usize; 3]> = const { Cell::new([0; 3]) };
}

/// Counts a visited entry, in the crate's own tests.
fn count_step() {
    #[cfg(test)]
    STEPS.set({
        let [all, now, most] = STEPS.get();
        [all + 1, now + 1, most.max(now + 1)]
    });
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
    /// Opens the word again, with an empty list.
    pub(crate) fn reopen(&mut self) {
        self.word = 0;
    }
}

impl Drop for LockedFailure<'_> {
    fn drop(&mut self) {
        self.waiters.0.store(self.word, Ordering::Release);
    }
}

/// A list that was taken from a closed word: the caller notifies each entry, once.
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
            // SAFETY: taken entries stay in place until they're notified.
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

    /// The next entry, which may be freed as soon as it has been notified.
    fn next(&mut self) -> Option<NonNull<Link>> {
        let link = NonNull::new(self.next.cast_mut())?;
        // SAFETY: this entry hasn't been notified yet, so it's still in place.
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
