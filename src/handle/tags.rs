//! Tags, which a stream gives back with the tasks that they were given with.

use std::fmt;

use slab::Slab;

use super::{AsHandle, Handle};
use crate::task::seal::Seal;

/// How a stream keeps tags: [`Untagged`] has none, and [`Tagged<K>`](Tagged) keeps a `K` for each task.
///
/// It's sealed: it can't be implemented outside of this crate.
pub trait Tags: Default {
    /// The type of a tag.
    type Tag;

    /// What [`AsCompleted`](crate::AsCompleted) yields of a tag and a handle.
    type Entry<T>;

    /// What [`MapStream`](crate::MapStream) yields of a tag and a result.
    type Outcome<R>;

    /// The tag of what belongs to no input, if there can be one.
    #[doc(hidden)]
    const NO_TAG: Option<Self::Tag>;

    /// Keeps a tag, and returns its place.
    #[doc(hidden)]
    fn insert(&mut self, tag: Self::Tag, _: Seal) -> usize;

    /// Takes the tag out of a place.
    #[doc(hidden)]
    fn remove(&mut self, at: usize, _: Seal) -> Self::Tag;

    #[doc(hidden)]
    fn entry<T>(tag: Self::Tag, handle: Handle<T>, _: Seal) -> Self::Entry<T>;

    #[doc(hidden)]
    fn outcome<R>(tag: Self::Tag, result: R, _: Seal) -> Self::Outcome<R>;
}

/// No tags: a stream yields handles or results by themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Untagged;

impl Tags for Untagged {
    type Tag = ();
    type Entry<T> = Handle<T>;
    type Outcome<R> = R;

    const NO_TAG: Option<()> = Some(());

    fn insert(&mut self, (): (), _: Seal) -> usize {
        0
    }

    fn remove(&mut self, _: usize, _: Seal) {}

    fn entry<T>((): (), handle: Handle<T>, _: Seal) -> Handle<T> {
        handle
    }

    fn outcome<R>((): (), result: R, _: Seal) -> R {
        result
    }
}

/// Tags of type `K`: a stream yields pairs of a tag and a handle or result.
pub struct Tagged<K>(Slab<K>);

impl<K> Tags for Tagged<K> {
    type Tag = K;
    type Entry<T> = (K, Handle<T>);
    type Outcome<R> = (K, R);

    const NO_TAG: Option<K> = None;

    fn insert(&mut self, tag: K, _: Seal) -> usize {
        self.0.insert(tag)
    }

    fn remove(&mut self, at: usize, _: Seal) -> K {
        self.0.remove(at)
    }

    fn entry<T>(tag: K, handle: Handle<T>, _: Seal) -> (K, Handle<T>) {
        (tag, handle)
    }

    fn outcome<R>(tag: K, result: R, _: Seal) -> (K, R) {
        (tag, result)
    }
}

impl<K> Default for Tagged<K> {
    fn default() -> Self {
        Self(Slab::new())
    }
}

impl<K> fmt::Debug for Tagged<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tagged").field("len", &self.0.len()).finish()
    }
}

/// A handle or a reference to one, or a pair of a tag and one of these, for [`as_completed`](crate::as_completed).
///
/// It's sealed: implemented for these, and not to be implemented outside of this crate.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a handle nor a pair of a tag and a handle",
    note = "pass an iterator over `Handle`s, `&Handle`s, or pairs such as `(url, handle)`"
)]
pub trait AsEntry {
    /// The type of the task's value.
    type Value: 'static;

    /// [`Untagged`], or [`Tagged`] with the type of the tag.
    type Tags: Tags;

    #[doc(hidden)]
    fn into_entry(self, _: Seal) -> (Handle<Self::Value>, <Self::Tags as Tags>::Tag);
}

impl<T: 'static> AsEntry for Handle<T> {
    type Value = T;
    type Tags = Untagged;

    fn into_entry(self, _: Seal) -> (Self, ()) {
        (self, ())
    }
}

impl<T: 'static> AsEntry for &Handle<T> {
    type Value = T;
    type Tags = Untagged;

    fn into_entry(self, _: Seal) -> (Handle<T>, ()) {
        (self.clone(), ())
    }
}

impl<K, H: AsHandle> AsEntry for (K, H) {
    type Value = H::Value;
    type Tags = Tagged<K>;

    fn into_entry(self, seal: Seal) -> (Handle<H::Value>, K) {
        (self.1.into_handle(seal), self.0)
    }
}
