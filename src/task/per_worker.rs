//! State that workers make once and use again: a model, a connection.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Values that tasks use one after the other, each made when it's first needed: a loaded model, a connection, a buffer.
///
/// A value is used by one task at a time, also across awaits, and put back when its [`InUse`] is dropped. The next task gets the
/// one that was put back last, whichever thread it's on. So there are never more than were in use at once: if they're used
/// within one poll, or in blocking work, one for each thread. To bound their number otherwise, let the tasks
/// [acquire](crate::Options::acquire) a limit.
///
/// Share it in a `static`, in an `Arc`, or as a [context](crate::Client::with_context). Dropping it drops the values.
///
/// ```
/// use ensue::{Client, PerWorker};
///
/// struct Model(u64);
///
/// static MODELS: PerWorker<Model> = PerWorker::new();
///
/// async fn predict(x: u64) -> u64 {
///     let model = MODELS.get(|| Model(40)); // loaded by the first tasks
///     model.0 + x
/// }
///
/// let client = Client::builder().workers(2).build();
/// let all = client.map(predict, 0..100);
/// assert_eq!(all[2].result().unwrap(), 42);
/// assert!(all.iter().all(|x| x.result().is_ok()));
/// assert!(MODELS.len() <= 2);
/// ```
///
/// What can fail, or has to be awaited, is made beforehand and [added](PerWorker::add):
///
/// ```
/// # struct Connection;
/// # async fn connect() -> Result<Connection, ensue::Error> { Ok(Connection) }
/// use ensue::{InUse, PerWorker};
///
/// async fn connection(all: &PerWorker<Connection>) -> Result<InUse<'_, Connection>, ensue::Error> {
///     match all.take() {
///         Some(connection) => Ok(connection),
///         None => Ok(all.add(connect().await?)),
///     }
/// }
/// # let all = PerWorker::new();
/// # assert!(futures_lite::future::block_on(connection(&all)).is_ok());
/// ```
pub struct PerWorker<T> {
    values: Mutex<Vec<T>>,
}

/// A value of a [`PerWorker`] that is in use. It's put back on drop, unless its thread panics: then it's dropped.
#[must_use = "the value is put back when this is dropped"]
pub struct InUse<'a, T> {
    of: &'a PerWorker<T>,
    /// `None` only while it's dropped or discarded.
    value: Option<T>,
}

impl<T> PerWorker<T> {
    /// Makes one without values.
    pub const fn new() -> Self {
        Self { values: Mutex::new(Vec::new()) }
    }

    /// Takes a value that isn't in use, or makes one. `make` runs on the calling thread.
    pub fn get(&self, make: impl FnOnce() -> T) -> InUse<'_, T> {
        self.take().unwrap_or_else(|| self.add(make()))
    }

    /// Takes a value that isn't in use, or returns the error with which making one has failed.
    pub fn try_get<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<InUse<'_, T>, E> {
        match self.take() {
            Some(value) => Ok(value),
            None => make().map(|value| self.add(value)),
        }
    }

    /// Takes a value, if there is one that isn't in use.
    pub fn take(&self) -> Option<InUse<'_, T>> {
        let value = self.lock().pop()?;
        Some(self.add(value))
    }

    /// Adds a value, which is in use at first.
    pub fn add(&self, value: T) -> InUse<'_, T> {
        InUse { of: self, value: Some(value) }
    }

    /// Returns the number of values that aren't in use.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Returns whether all values are in use, or there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops the values that aren't in use: the next tasks make new ones.
    pub fn clear(&self) {
        // Destructors run without the lock.
        let values = std::mem::take(&mut *self.lock());
        drop(values);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<T>> {
        // Nothing that can panic runs under the lock.
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> InUse<'_, T> {
    /// Takes the value out, to be used elsewhere or dropped, if a connection is broken for example: it isn't put back.
    pub fn into_inner(mut self) -> T {
        match self.value.take() {
            Some(value) => value,
            None => unreachable!("the value is there until this is dropped"),
        }
    }
}

impl<T> Deref for InUse<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.value {
            Some(value) => value,
            None => unreachable!("the value is there until this is dropped"),
        }
    }
}

impl<T> DerefMut for InUse<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.value {
            Some(value) => value,
            None => unreachable!("the value is there until this is dropped"),
        }
    }
}

impl<T> Drop for InUse<'_, T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take().filter(|_| !thread::panicking()) {
            self.of.lock().push(value);
        }
    }
}

impl<T> Default for PerWorker<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for PerWorker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerWorker").field("unused", &self.len()).finish()
    }
}

impl<T: fmt::Debug> fmt::Debug for InUse<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
