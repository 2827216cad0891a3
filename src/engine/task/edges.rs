//! The inputs of a waiting task, as they are stored in its cell.
//!
//! An edge is an interest in the task that it comes from and, while that task has not finished, an entry in its list of
//! waiters. So registering an input allocates nothing.
//!
//! All of this is private to the crate: whoever could make an edge, or move one from one input to another, could have a
//! task read a value as another type than it has.

use std::marker::PhantomData;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use crate::Error;
use crate::engine::base::prefetch::prefetch;
use crate::engine::task::count;
use crate::engine::task::header::{Header, Interest, TaskRef};
use crate::engine::task::state::KEYED;
use crate::engine::task::typed::{Ref, Typed};
use crate::engine::task::waiters::{Link, WaiterKind};
use crate::task::error::forget_if_it_panics;

/// An input that comes from another task.
#[repr(C)]
pub(crate) struct Edge {
    link: Link,
    from: Interest,
}

impl Edge {
    pub(crate) fn new(from: Interest) -> Self {
        Self { link: Link::new(WaiterKind::Wait), from }
    }

    /// Returns an edge that only waits for the end; see [`settled`](crate::engine::task::settled).
    pub(super) fn settling(from: Interest) -> Self {
        Self { link: Link::settling(), from }
    }

    /// Whether the dependent takes an error as its input, instead of ending with it.
    pub(crate) fn settles(&self) -> bool {
        self.link.settles()
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn task(&self) -> TaskRef<'_> {
        self.from.task()
    }

    pub(crate) fn into_interest(self) -> Interest {
        self.from
    }

    /// If it comes from a remote task, makes it come from the task that fetches the value.
    pub(super) fn prepare(&mut self) {
        if let Some(fetch_task) = self.from.remote().map(|remote| remote.fetch_task(&self.from)) {
            self.from = fetch_task;
        }
    }

    pub(crate) fn announce(&self) {
        prefetch(self.from.task().as_ptr().as_ptr());
    }

    /// Links the edge into the waiters of the task it comes from; false if that has ended.
    ///
    /// # Safety
    ///
    /// The edge stays in place until it has been notified or unlinked; `dependent` is the task that it belongs to.
    pub(crate) unsafe fn register(&self, dependent: NonNull<Header>) -> bool {
        let Some(mut locked) = self.from.waiters.lock() else { return false };
        self.link.set_kind(WaiterKind::Edge(dependent));
        // SAFETY: it's in no list; the rest is the caller's promise.
        unsafe { locked.push(&raw const self.link) };
        true
    }

    /// Whether the task that it comes from has neither ended since the edge was registered, nor notified it.
    pub(crate) fn is_registered(&self) -> bool {
        self.from.waiters.lock().is_some_and(|_locked| self.link.is_linked())
    }

    /// Unlinks the edge; false if it isn't in the list any more.
    pub(crate) fn unlink(&self) -> bool {
        match self.from.waiters.lock() {
            // SAFETY: if the link is in a list, it's that of the task it comes from.
            Some(mut locked) => unsafe { locked.unlink(&raw const self.link) },
            None => false,
        }
    }
}

/// An edge from a task with values of type `T`.
pub(super) struct EdgeOf<T> {
    pub(super) edge: Edge,
    value: PhantomData<fn() -> T>,
}

impl<T> EdgeOf<T> {
    fn new(from: Typed<T>) -> Self {
        Self { edge: Edge::new(from.into_interest()), value: PhantomData }
    }

    /// Returns an edge that only waits for the end.
    pub(super) fn settling(from: Typed<T>) -> Self {
        Self { edge: Edge::settling(from.into_interest()), value: PhantomData }
    }

    pub(super) fn from(&self) -> &Typed<T> {
        // SAFETY: it was made from a task of this type, and `prepare` replaces it only by one that has the same value.
        unsafe { Typed::of(&self.edge.from) }
    }

    pub(super) fn into_from(self) -> Typed<T> {
        // SAFETY: as in `from`.
        unsafe { Typed::new(self.edge.into_interest()) }
    }
}

/// The inputs of a task while it waits.
///
/// # Safety
///
/// `each` visits all edges, the same ones each time, at addresses that change only when the whole is moved; `count` says
/// how many there are.
pub(crate) unsafe trait Waits: 'static {
    /// The arguments that the function is called with.
    type Args: Send + 'static;

    /// Whether an input may be taken however its task has ended.
    const SETTLES: bool = false;

    fn count(&self) -> usize;
    fn each(&self, visit: &mut dyn FnMut(&Edge));
    /// Turns the inputs into arguments, once all tasks they come from have finished.
    fn take(self) -> Result<Self::Args, Error>;
    /// Prepares the inputs before anything else is done; the edges that are left must be waited for. Replaces remote
    /// tasks by the tasks that fetch their values and, if `copy` is set, copies small values that exist already. Returns the
    /// depth that is due to those; 0 without any.
    fn prepare(&mut self, _copy: bool) -> u8 {
        0
    }
    /// Prefetches the headers of the tasks they come from.
    fn announce(&self) {}
}

/// A plain value.
pub struct Plain<T>(pub(crate) T);

// SAFETY: there are no edges.
unsafe impl<T: Send + 'static> Waits for Plain<T> {
    type Args = T;

    fn count(&self) -> usize {
        0
    }
    fn each(&self, _: &mut dyn FnMut(&Edge)) {}
    fn take(self) -> Result<T, Error> {
        Ok(self.0)
    }
}

/// The value of another task, moved out if this is the last interest in it, else cloned.
pub struct ByValue<T>(Source<T>);

enum Source<T> {
    Awaited(EdgeOf<T>),
    /// It was copied at submission.
    Value(T),
}

impl<T> ByValue<T> {
    pub(crate) fn new(from: Typed<T>) -> Self {
        Self(Source::Awaited(EdgeOf::new(from)))
    }

    /// Whether values that exist already are copied when the task is submitted, instead of when it runs.
    ///
    /// It saves the worker the access to the other task, for which all its dependents may contend. But an expensive
    /// clone would make submitting slow, and clones that own memory would pile up in the queue.
    const SMALL: bool = !mem::needs_drop::<T>() && size_of::<T>() <= 16;
}

// SAFETY: there is one edge or none, stored inline.
unsafe impl<T: Clone + Send + Sync + 'static> Waits for ByValue<T> {
    type Args = T;

    fn count(&self) -> usize {
        usize::from(matches!(self.0, Source::Awaited(_)))
    }
    fn each(&self, visit: &mut dyn FnMut(&Edge)) {
        if let Source::Awaited(from) = &self.0 {
            visit(&from.edge);
        }
    }
    fn take(self) -> Result<T, Error> {
        match self.0 {
            Source::Awaited(edge) => edge.into_from().take_or_clone(),
            Source::Value(value) => Ok(value),
        }
    }
    fn prepare(&mut self, copy: bool) -> u8 {
        let Source::Awaited(edge) = &mut self.0 else { return 0 };
        edge.edge.prepare();
        if !copy || !Self::SMALL {
            return 0;
        }
        let from = edge.from();
        // A task with a key must be found while a dependent needs its value, so this one keeps its interest.
        if from.has_succeeded() && from.task().state.load() & KEYED == 0 {
            // A clone that panics does so again where the task runs, and is that task's error.
            match catch_unwind(AssertUnwindSafe(|| from.try_take_or_clone())) {
                Ok(Some(Ok(value))) => {
                    let depth = count::above(from.task().count.depth());
                    self.0 = Source::Value(value);
                    return depth;
                }
                Ok(_) => {}
                Err(payload) => forget_if_it_panics(payload),
            }
        }
        0
    }
    fn announce(&self) {
        if let Source::Awaited(from) = &self.0 {
            from.edge.announce();
        }
    }
}

/// The value of another task, shared.
pub struct ByRef<T>(EdgeOf<T>);

impl<T> ByRef<T> {
    pub(crate) fn new(from: Typed<T>) -> Self {
        Self(EdgeOf::new(from))
    }
}

// SAFETY: there is one edge, stored inline.
unsafe impl<T: Send + Sync + 'static> Waits for ByRef<T> {
    type Args = Ref<T>;

    fn count(&self) -> usize {
        1
    }
    fn each(&self, visit: &mut dyn FnMut(&Edge)) {
        visit(&self.0.edge);
    }
    fn take(self) -> Result<Ref<T>, Error> {
        self.0.into_from().into_ref()
    }
    fn prepare(&mut self, _copy: bool) -> u8 {
        self.0.edge.prepare();
        0
    }
    fn announce(&self) {
        self.0.edge.announce();
    }
}
