//! Inputs that a task takes however they have ended.
//!
//! Such an edge *settles*: it's an interest like any other, and counts as an unfinished input until its task has ended. If
//! that failed, the dependent isn't aborted. Whoever notifies the edge leaves the error with it instead, since a retry may
//! take the error away from the task, and open that again, before the dependent runs.

use crate::Error;
use crate::engine::task::edges::{Edge, EdgeOf, Waits};
use crate::engine::task::header::VisitEdge;
use crate::engine::task::typed::{Ref, Typed};
use crate::engine::task::waiters::Link;

/// Leaves the error of the task that it comes from with an edge that settles.
///
/// The caller has taken the entry out of its list, and hasn't released the dependent yet.
pub(crate) fn leave_error(link: &Link, error: Error) {
    link.leave(Box::into_raw(Box::new(error)).cast());
}

/// Takes the error that was left with an edge; there's none with one that doesn't settle.
///
/// The caller owns the edge, which is in no list.
pub(crate) fn take_error(edge: &Edge) -> Option<Error> {
    if !edge.settles() {
        return None;
    }
    let left = edge.link().take_left()?;
    // SAFETY: only `leave_error` leaves something, and what is taken is there no more.
    Some(*unsafe { Box::from_raw(left.cast::<Error>().cast_mut()) })
}

/// How an input has ended: with its value, moved out if this is the last interest in it, else cloned, or with an error.
pub struct SettledValue<T>(Settling<T>);

/// The same with the value shared.
pub struct SettledRef<T>(Settling<T>);

/// An edge that settles, until it's taken.
struct Settling<T>(Option<EdgeOf<T>>);

impl<T> SettledValue<T> {
    pub(crate) fn new(from: Typed<T>) -> Self {
        Self(Settling(Some(EdgeOf::settling(from))))
    }
}

impl<T> SettledRef<T> {
    pub(crate) fn new(from: Typed<T>) -> Self {
        Self(Settling(Some(EdgeOf::settling(from))))
    }
}

impl<T> Settling<T> {
    fn each(&self, visit: VisitEdge<'_>) {
        if let Some(from) = &self.0 {
            visit(&from.edge);
        }
    }

    fn prepare(&mut self) {
        if let Some(from) = &mut self.0 {
            from.edge.prepare();
        }
    }

    fn announce(&self) {
        if let Some(from) = &self.0 {
            from.edge.announce();
        }
    }

    /// Returns the task that it comes from, or the error that it was left with, which counts as observed.
    fn take(mut self) -> Result<Typed<T>, Error> {
        let Some(from) = self.0.take() else { unreachable!("inputs are taken once") };
        match take_error(&from.edge) {
            Some(error) => {
                from.from().set_seen();
                Err(error)
            }
            None => Ok(from.into_from()),
        }
    }
}

impl<T> Drop for Settling<T> {
    fn drop(&mut self) {
        if let Some(from) = &self.0 {
            drop(take_error(&from.edge));
        }
    }
}

macro_rules! waits {
    ($($settled:ident, [$($bound:tt)*] => $value:ty, $from:ident => $take:expr;)*) => {$(
        // SAFETY: there is one edge until the inputs are taken, stored inline.
        unsafe impl<T: $($bound)*> Waits for $settled<T> {
            type Args = Result<$value, Error>;

            const SETTLES: bool = true;

            fn count(&self) -> usize {
                usize::from(self.0.0.is_some())
            }
            fn each(&self, visit: &mut dyn FnMut(&Edge)) {
                self.0.each(visit);
            }
            fn take(self) -> Result<Self::Args, Error> {
                let $from = self.0.take();
                Ok($take)
            }
            fn prepare(&mut self, _copy: bool) -> u8 {
                self.0.prepare();
                0
            }
            fn announce(&self) {
                self.0.announce();
            }
        }
    )*};
}

waits! {
    SettledValue, [Clone + Send + Sync + 'static] => T, from => from.and_then(Typed::take_or_clone);
    SettledRef, [Send + Sync + 'static] => Ref<T>, from => from.and_then(Typed::into_ref);
}
