//! The forks of a thread whose joins have not ended.
//!
//! They are in a list, the oldest first, whose links are in the branches themselves. Joins nest, so the youngest fork is
//! always that of the join that ends next. The oldest are shared first. So the list consists of shared forks, and then of
//! private ones:
//!
//! ```text
//!   root ─► shared ─► shared ─► private ─► private ─► private
//!                      ▲ youngest_shared               ▲ youngest
//! ```

use std::cell::{Cell, OnceCell};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::engine::base::sync::thread_local;
use crate::engine::fork::job::{Fork, Group};

thread_local! {
    static CURRENT: Cell<*const Scope> = const { Cell::new(ptr::null()) };
}

/// The list, from the first join of a poll, or of a job, until that ends.
pub(crate) struct Scope {
    youngest: Cell<NonNull<Fork>>,
    youngest_shared: Cell<NonNull<Fork>>,
    /// The number of forks until the next look at the clock.
    left: Cell<u32>,
    /// Of the jobs that this thread runs while it waits for others, how many this one is below.
    pub(crate) depth: u32,
    /// The group of the forks that are shared.
    pub(crate) group: OnceCell<Arc<Group>>,
    root: Fork,
}

impl Scope {
    /// Runs `code` in a new scope, for jobs of the given group, or of a new one.
    pub(crate) fn enter<R>(
        group: Option<Arc<Group>>,
        depth: u32,
        code: impl FnOnce(&Self) -> R,
    ) -> R {
        let group = group.map_or_else(OnceCell::new, OnceCell::from);
        let (youngest, youngest_shared) =
            (Cell::new(NonNull::dangling()), Cell::new(NonNull::dangling()));
        let left = Cell::new(1);
        let scope = Self { youngest, youngest_shared, left, depth, group, root: Fork::root() };
        scope.youngest.set(NonNull::from(&scope.root));
        scope.youngest_shared.set(NonNull::from(&scope.root));
        let _leave = replace(&scope);
        code(&scope)
    }

    /// Adds the youngest fork. Returns the one before, for [`pop`](Self::pop).
    ///
    /// # Safety
    ///
    /// The fork stays in place until it's popped. Forks are popped in reverse order, and all of them before the scope ends.
    #[inline]
    pub(crate) unsafe fn push(&self, fork: NonNull<Fork>) -> NonNull<Fork> {
        let older = self.youngest.get();
        // SAFETY: it's in the list, so it's in place.
        unsafe { (*older.as_ptr()).younger.set(std::mem::MaybeUninit::new(fork)) };
        self.youngest.set(fork);
        older
    }

    /// Removes the youngest fork, which is private.
    #[inline]
    pub(crate) fn pop(&self, older: NonNull<Fork>) {
        self.youngest.set(older);
    }

    /// Whether the youngest fork, which this is, was shared.
    #[inline]
    pub(crate) fn is_shared(&self, fork: NonNull<Fork>) -> bool {
        debug_assert_eq!(self.youngest.get(), fork);
        self.youngest_shared.get() == fork
    }

    /// Counts the youngest fork, which was shared and is private again, as private.
    pub(crate) fn end_sharing(&self, older: NonNull<Fork>) {
        self.youngest_shared.set(older);
    }

    /// Counts a fork. Whether the thread is to look at the clock now.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        let left = self.left.get().wrapping_sub(1);
        self.left.set(left);
        left == 0
    }

    /// Sets the number of forks until the thread looks at the clock again; at least 1.
    pub(crate) fn look_after(&self, forks: u32) {
        self.left.set(forks);
    }

    /// Returns the oldest private fork, for the caller to share. It counts as shared from then on.
    pub(crate) fn next_to_share(&self) -> Option<NonNull<Fork>> {
        let shared = self.youngest_shared.get();
        if shared == self.youngest.get() {
            return None;
        }
        // SAFETY: it isn't the youngest, so there is a younger one, which has set this. It's in the list, so it's in place.
        let next = unsafe { (*shared.as_ptr()).younger.get().assume_init() };
        self.youngest_shared.set(next);
        Some(next)
    }
}

/// Returns the scope of this thread, if it has one.
///
/// # Safety
///
/// The reference is used only until the code ends that is running in the scope.
#[inline(always)]
pub(crate) unsafe fn current<'a>() -> Option<&'a Scope> {
    // SAFETY: `enter` borrows the scope for as long as the pointer to it is set.
    unsafe { CURRENT.get().as_ref() }
}

/// Restores the scope of this thread when it's dropped.
pub(crate) struct Restore(*const Scope);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

fn replace(scope: *const Scope) -> Restore {
    Restore(CURRENT.replace(scope))
}

/// Leaves the scope of this thread: for code that belongs to another task.
pub(crate) fn leave() -> Restore {
    replace(ptr::null())
}
