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

    pub(crate) fn task(&self) -> TaskRef<'_> {
        self.from.task()
    }

    pub(crate) fn into_interest(self) -> Interest {
        self.from
    }

    /// If it comes from a remote task, makes it come from the task that fetches the value.
    fn settle(&mut self) {
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
pub(crate) struct EdgeOf<T> {
    edge: Edge,
    value: PhantomData<fn() -> T>,
}

impl<T> EdgeOf<T> {
    pub(crate) fn new(from: Typed<T>) -> Self {
        Self { edge: Edge::new(from.into_interest()), value: PhantomData }
    }

    fn from(&self) -> &Typed<T> {
        // SAFETY: it was made from a task of this type, and `settle` replaces it only by one that has the same value.
        unsafe { Typed::of(&self.edge.from) }
    }

    fn into_from(self) -> Typed<T> {
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

    fn count(&self) -> usize;
    fn each(&self, visit: &mut dyn FnMut(&Edge));
    /// Turns the inputs into arguments, once all tasks they come from have finished.
    fn take(self) -> Result<Self::Args, Error>;
    /// Prepares the inputs before anything else is done; the edges that are left must be waited for. Replaces remote
    /// tasks by the tasks that fetch their values and, if `copy` is set, copies small values that exist already. Returns the
    /// depth that is due to those; 0 without any.
    fn settle(&mut self, _copy: bool) -> u8 {
        0
    }
    /// Prefetches the headers of the tasks they come from.
    fn announce(&self) {}
}

/// A plain value.
pub(crate) struct Plain<T>(pub(crate) T);

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
pub(crate) enum ByValue<T> {
    Awaited(EdgeOf<T>),
    /// It was copied at submission.
    Value(T),
}

impl<T> ByValue<T> {
    pub(crate) fn new(from: Typed<T>) -> Self {
        Self::Awaited(EdgeOf::new(from))
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
        usize::from(matches!(self, Self::Awaited(_)))
    }
    fn each(&self, visit: &mut dyn FnMut(&Edge)) {
        if let Self::Awaited(from) = self {
            visit(&from.edge);
        }
    }
    fn take(self) -> Result<T, Error> {
        match self {
            Self::Awaited(edge) => edge.into_from().take_or_clone(),
            Self::Value(value) => Ok(value),
        }
    }
    fn settle(&mut self, copy: bool) -> u8 {
        let Self::Awaited(edge) = self else { return 0 };
        edge.edge.settle();
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
                    *self = Self::Value(value);
                    return depth;
                }
                Ok(_) => {}
                Err(payload) => forget_if_it_panics(payload),
            }
        }
        0
    }
    fn announce(&self) {
        if let Self::Awaited(from) = self {
            from.edge.announce();
        }
    }
}

/// The value of another task, shared.
pub(crate) struct ByRef<T>(EdgeOf<T>);

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
    fn settle(&mut self, _copy: bool) -> u8 {
        self.0.edge.settle();
        0
    }
    fn announce(&self) {
        self.0.edge.announce();
    }
}

/// Prefetching runs this many inputs ahead: enough to hide the latency of memory.
const AHEAD: usize = 8;

/// A list of inputs; the vector is never changed, so its elements stay in place.
pub(crate) struct Many<W>(Vec<W>);

impl<W> Many<W> {
    pub(crate) fn new(inputs: Vec<W>) -> Self {
        Self(inputs)
    }
}

// SAFETY: all edges are in the vector's own memory.
unsafe impl<W: Waits> Waits for Many<W> {
    type Args = Vec<W::Args>;

    fn count(&self) -> usize {
        self.0.iter().map(W::count).sum()
    }
    fn each(&self, visit: &mut dyn FnMut(&Edge)) {
        let mut ahead = self.0.iter().skip(AHEAD);
        for waits in &self.0 {
            ahead.next().into_iter().for_each(W::announce);
            waits.each(visit);
        }
    }
    fn take(self) -> Result<Self::Args, Error> {
        let mut args = Vec::with_capacity(self.0.len());
        let mut all = self.0.into_iter();
        while let Some(waits) = all.next() {
            all.as_slice().get(AHEAD).into_iter().for_each(W::announce);
            args.push(waits.take()?);
        }
        Ok(args)
    }
    fn settle(&mut self, copy: bool) -> u8 {
        let mut depth = 0;
        for at in 0..self.0.len() {
            self.0.get(at + AHEAD).into_iter().for_each(W::announce);
            depth = depth.max(self.0[at].settle(copy));
        }
        depth
    }
}

/// An array of inputs.
pub(crate) struct Array<W, const N: usize>([W; N]);

impl<W, const N: usize> Array<W, N> {
    pub(crate) fn new(inputs: [W; N]) -> Self {
        Self(inputs)
    }
}

// SAFETY: all edges are stored inline.
unsafe impl<W: Waits, const N: usize> Waits for Array<W, N> {
    type Args = [W::Args; N];

    fn count(&self) -> usize {
        self.0.iter().map(W::count).sum()
    }
    fn each(&self, visit: &mut dyn FnMut(&Edge)) {
        self.0.iter().for_each(|waits| waits.each(visit));
    }
    fn take(self) -> Result<Self::Args, Error> {
        let args: Vec<_> = self.0.into_iter().map(W::take).collect::<Result<_, _>>()?;
        match args.try_into() {
            Ok(array) => Ok(array),
            Err(_) => unreachable!("an array has as many elements as it has"),
        }
    }
    fn settle(&mut self, copy: bool) -> u8 {
        self.0.iter_mut().fold(0, |depth, waits| depth.max(waits.settle(copy)))
    }
}

/// One input or none.
pub(crate) struct Maybe<W>(Option<W>);

impl<W> Maybe<W> {
    pub(crate) fn new(inputs: Option<W>) -> Self {
        Self(inputs)
    }
}

// SAFETY: the edges are stored inline.
unsafe impl<W: Waits> Waits for Maybe<W> {
    type Args = Option<W::Args>;

    fn count(&self) -> usize {
        self.0.as_ref().map_or(0, W::count)
    }
    fn each(&self, visit: &mut dyn FnMut(&Edge)) {
        if let Some(waits) = &self.0 {
            waits.each(visit);
        }
    }
    fn take(self) -> Result<Self::Args, Error> {
        self.0.map(W::take).transpose()
    }
    fn settle(&mut self, copy: bool) -> u8 {
        self.0.iter_mut().fold(0, |depth, waits| depth.max(waits.settle(copy)))
    }
}

/// The values of a map, to be collected into a `C`.
pub(crate) struct Pairs<K, W, C>(Vec<(K, W)>, PhantomData<fn() -> C>);

impl<K, W, C> Pairs<K, W, C> {
    pub(crate) fn new(inputs: Vec<(K, W)>) -> Self {
        Self(inputs, PhantomData)
    }
}

// SAFETY: all edges are in the vector's own memory.
unsafe impl<K, W, C> Waits for Pairs<K, W, C>
where
    K: 'static,
    W: Waits,
    C: FromIterator<(K, W::Args)> + Send + 'static,
{
    type Args = C;

    fn count(&self) -> usize {
        self.0.iter().map(|(_, waits)| waits.count()).sum()
    }
    fn each(&self, visit: &mut dyn FnMut(&Edge)) {
        self.0.iter().for_each(|(_, waits)| waits.each(visit));
    }
    fn take(self) -> Result<C, Error> {
        self.0.into_iter().map(|(key, waits)| Ok((key, waits.take()?))).collect()
    }
    fn settle(&mut self, copy: bool) -> u8 {
        self.0.iter_mut().fold(0, |depth, (_, waits)| depth.max(waits.settle(copy)))
    }
}

macro_rules! tuple {
    ($($W:ident $at:tt),*) => {
        // SAFETY: all edges are stored inline.
        unsafe impl<$($W: Waits),*> Waits for ($($W,)*) {
            type Args = ($($W::Args,)*);

            fn count(&self) -> usize {
                0 $(+ self.$at.count())*
            }
            fn each(&self, _visit: &mut dyn FnMut(&Edge)) {
                $(self.$at.each(_visit);)*
            }
            #[allow(clippy::unused_unit)] // for the empty tuple
            fn take(self) -> Result<Self::Args, Error> {
                Ok(($(self.$at.take()?,)*))
            }
            fn settle(&mut self, _copy: bool) -> u8 {
                0u8 $(.max(self.$at.settle(_copy)))*
            }
        }
    };
}

tuple!();
tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, Handle};

    fn input<T>(handle: Handle<T>) -> ByValue<T> {
        ByValue::new(handle.into_typed())
    }

    /// The number of edges that are left after small values were copied.
    fn settled(mut waits: impl Waits) -> usize {
        waits.settle(true);
        waits.count()
    }

    #[test]
    fn small_values_that_are_there_are_copied() {
        let client = Client::builder().workers(0).build();
        let x = client.ready(1u64);
        let one = || input(x.clone());
        assert_eq!(settled(one()), 0);
        assert_eq!(settled(input(client.ready([1u64; 2]))), 0);
        assert_eq!(settled(Many(vec![one(), one()])), 0);
        assert_eq!(settled(Array([one(), one()])), 0);
        assert_eq!(settled(Maybe(Some(one()))), 0);
        let pairs = vec![("one", one())];
        assert_eq!(settled(Pairs(pairs, PhantomData::<fn() -> Vec<(&'static str, u64)>>)), 0);
    }

    #[test]
    fn others_are_waited_for() {
        let client = Client::builder().workers(0).build();
        assert_eq!(settled(input(client.ready([1u64; 3]))), 1);
        assert_eq!(settled(input(client.ready(String::new()))), 1);
        assert_eq!(settled(input(client.submit(async || 1, ()))), 1);
    }
}
