//! Inputs that a task takes however they end.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::engine::task::typed::Typed;
use crate::task::seal::SEAL;
use crate::{AsHandle, Handle};

/// An input that a task takes however it ends, as a `Result`; made by [`Handle::settled`] and [`settled`].
///
/// As an [input](crate::Input), it's for an argument of type `Result<T, Error>` or `Result<Ref<T>, Error>`. It keeps its
/// task, as a handle does.
#[must_use = "it's an input of a task: give it to a submit method"]
pub struct Settled<T>(Handle<T>);

impl<T> Settled<T> {
    pub(crate) fn typed(&self) -> &Typed<T> {
        self.0.typed()
    }

    pub(crate) fn into_typed(self) -> Typed<T> {
        self.0.into_typed()
    }
}

impl<T> Handle<T> {
    /// Returns an input with which a task runs although this one has failed.
    ///
    /// The dependent waits until this task has ended in any way, and gets a `Result`: the value, or the error, of whatever
    /// [kind](crate::ErrorKind). In everything else it's like an input that is a handle: it keeps the task, lends it its
    /// priority, and moves the value out if nothing else needs it. [`settled`] does this for many handles.
    ///
    /// ```
    /// use ensue::{Client, Error};
    ///
    /// let client = Client::new();
    /// let size = client.try_submit(async |text: &str| text.parse::<u64>(), "large");
    /// let or_zero = async |size: Result<u64, Error>| size.unwrap_or(0);
    /// assert_eq!(client.submit(or_zero, size.settled()).result().unwrap(), 0);
    /// ```
    ///
    /// The dependent gets the error with which the task ended, also if that is [retried](Handle::retry) before the dependent
    /// runs; and a retry of the dependent leaves the task as it is. If the client is closed, the dependent doesn't run
    /// either. On a Dask cluster there's no such input yet: its scheduler fails what depends on a task that has failed.
    pub fn settled(&self) -> Settled<T> {
        Settled(self.clone())
    }
}

/// Returns inputs with which a task runs although some of these have failed; see [`Handle::settled`].
///
/// Accepts every iterator over handles or references to them. The task's argument is a vector of results, in that order.
///
/// ```
/// use ensue::{Client, Error, settled};
///
/// let client = Client::new();
/// let numbers = client.try_map(async |text: &str| text.parse::<u64>(), ["1", "x", "3"]);
/// let sum = async |all: Vec<Result<u64, Error>>| all.into_iter().flatten().sum::<u64>();
/// assert_eq!(client.submit(sum, settled(&numbers)).result().unwrap(), 4);
/// ```
pub fn settled<I>(handles: I) -> Vec<Settled<<I::Item as AsHandle>::Value>>
where
    I: IntoIterator,
    I::Item: AsHandle,
{
    handles.into_iter().map(|handle| Settled(handle.into_handle(SEAL))).collect()
}

impl<T> Clone for Settled<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> PartialEq for Settled<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Settled<T> {}

/// Hashes as the handle does.
impl<T> Hash for Settled<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.hash(hasher);
    }
}

impl<T> fmt::Debug for Settled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Settled").field(&self.0).finish()
    }
}
