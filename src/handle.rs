//! A task's handle.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::FusedFuture;
use futures_lite::future::block_on;

use crate::engine::base::deferred;
use crate::engine::core::context;
use crate::engine::futures::wait::Waitable;
use crate::engine::life::status::status;
use crate::engine::life::{callback, finish, retry};
use crate::engine::task::state;
use crate::engine::task::typed::Typed;
use crate::{Error, Key, Ref, Status};

/// A handle of a task: await it for the result, feed it into further tasks, clone it, drop it.
///
/// * **Awaiting** works on any runtime, and from many places at once. `handle.await` owns the handle: it
///   moves the value out if nobody else needs it, and where the await itself is dropped (it lost a
///   `select!`, or a timeout struck) the handle goes with it. Await `&handle` or `&mut handle` to keep it;
///   `&handle` clones the value.
/// * **Values** are `Clone + Send + Sync` for awaiting, since somebody else may need them, too. Of others take a
///   [`Ref`] with [`get_ref`](Handle::get_ref), and [what is in it](Ref::try_into_inner) if you're the last. A
///   `Result` whose error is not `Clone`, such as that of `std::io`, is for
///   [`try_submit`](crate::Client::try_submit).
/// * **Dropping** the last handle of a task that no other task depends on gives up the work: if it's queued
///   it never starts, if it runs it's dropped at its next await, and a result is freed at once.
///   [`detach`](Handle::detach) opts out.
/// * A handle that has given its result is terminated in the sense of [`FusedFuture`]; awaiting it again
///   gives the result again, or [`Lost`](crate::ErrorKind::Lost) if the value was moved out.
///
/// Handles are equal if they're of the same task.
///
/// ```
/// # futures_lite::future::block_on(async {
/// use ensue::Client;
///
/// let client = Client::new();
/// let x = client.submit(async || 20u64, ());
/// let y = client.submit(async |x: u64| x + 1, &x);
/// let z = client.submit(async |x: u64, y: u64| x + y + 1, (x, &y));
/// assert_eq!((&y).await?, 21);
/// assert_eq!(z.await?, 42);
/// # Ok::<_, ensue::Error>(()) }).unwrap();
/// ```
#[must_use = "dropping the only handle of a task gives up the task; call `detach` to let it run"]
pub struct Handle<T>(Waitable<T>);

impl<T> Handle<T> {
    pub(crate) fn new(typed: Typed<T>) -> Self {
        Self(Waitable::new(typed))
    }

    pub(crate) fn typed(&self) -> &Typed<T> {
        self.0.typed()
    }

    pub(crate) fn into_typed(self) -> Typed<T> {
        self.0.into_typed()
    }

    /// The key of the task: `inc-17`, made when first asked for, or what
    /// [`key`](crate::Options::key) said.
    pub fn key(&self) -> Key {
        self.typed().interest().key().clone()
    }

    /// How the task stands right now.
    pub fn status(&self) -> Status {
        status(self.typed().task())
    }

    /// Whether the task has ended, in any way.
    pub fn is_finished(&self) -> bool {
        self.typed().interest().waiters.is_closed()
    }

    /// The error of a task that has ended without a value; `None` if it hasn't ended or has one.
    pub fn error(&self) -> Option<Error> {
        self.typed().error()
    }

    /// Cancels the task, for every handle of it, and all that depends on it; what it depends on is
    /// untouched. Says whether it had an effect: false where the task has ended or is ending already.
    ///
    /// A task that hasn't started never does. A running one is dropped at its next await, and its limits
    /// are free when it's really gone; blocking work can only be asked to stop, with
    /// [`is_cancelled`](crate::is_cancelled). The key is free at once.
    pub fn cancel(&self) -> bool {
        finish::cancel(self.typed().task())
    }

    /// Runs a failed task again, and the failed tasks that it stands on. Says whether it did.
    ///
    /// It can where the task never started, because an input failed, and where it was submitted with a
    /// fallible verb such as [`try_submit`](crate::Client::try_submit) or with
    /// [`retries`](crate::Options::retries). A cancelled task can't run again, nor can a future. Dependents
    /// that have failed already stay failed until they're retried themselves.
    pub fn retry(&self) -> bool {
        retry::retry(self.typed().task())
    }

    /// Lets the task run to its end though nobody holds a handle. An error that nobody can see goes to
    /// the client's [hook](crate::Builder::on_unobserved).
    pub fn detach(self) {
        self.typed().interest().state.set(state::DETACHED);
    }

    /// Calls `callback` once the task has ended, in whatever way; at once if it has.
    ///
    /// It's called where the task ends, usually on a worker, so it should be short. It's no interest of its
    /// own in the task: when the last handle is dropped the task is given up and the callback called. If
    /// it panics, that goes to the client's [hook](crate::Builder::on_unobserved).
    pub fn on_done(&self, callback: impl FnOnce(&Self) + Send + 'static)
    where
        T: 'static,
    {
        let call = move |typed: &Typed<T>| callback(&Self::new(typed.clone()));
        callback::add_typed(self.typed(), call);
    }
}

impl<T: Clone + Send + Sync + 'static> Handle<T> {
    /// Blocks until the task has ended, and clones its value. The task can be asked again.
    ///
    /// On a handle of a [seeded](crate::Builder::seed) client this runs the client's tasks. Where the only
    /// [workers](crate::Client::worker) are futures that a runtime polls on this very thread, as on a single-threaded
    /// one, nobody is left to run them and it waits for ever: await the handle there, too.
    ///
    /// # Errors
    ///
    /// The task's error; or [`Blocking`](crate::ErrorKind::Blocking), at once, on a thread that is running
    /// tasks, or is dropping a task's value, where it could wait for itself: await the handle there.
    pub fn result(&self) -> Result<T, Error> {
        if context::on_worker() || deferred::is_active() {
            return Err(Error::blocking(self.key()));
        }
        block_on(self.clone())
    }

    /// What became of the task if it has ended, with its value cloned.
    pub fn try_get(&self) -> Option<Result<T, Error>> {
        self.typed().try_clone()
    }
}

impl<T: Send + Sync + 'static> Handle<T> {
    /// Waits for the task and shares its value instead of cloning it.
    pub fn get_ref(&self) -> GetRef<T> {
        GetRef(self.clone())
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Self::new(self.typed().clone())
    }
}

impl<T: Clone + Send + Sync + 'static> Future for Handle<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.0.poll_ended(poller) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
            // A retry may have come between.
            if let Some(result) = self.0.here().try_take_or_clone() {
                self.0.set_delivered();
                return Poll::Ready(result);
            }
        }
    }
}

impl<T: Clone + Send + Sync + 'static> FusedFuture for Handle<T> {
    fn is_terminated(&self) -> bool {
        self.0.is_delivered()
    }
}

/// Awaiting `&handle` keeps the handle and clones the value.
impl<T: Clone + Send + Sync + 'static> IntoFuture for &Handle<T> {
    type Output = Result<T, Error>;
    type IntoFuture = Handle<T>;

    fn into_future(self) -> Handle<T> {
        self.clone()
    }
}

/// The future of [`Handle::get_ref`].
#[must_use = "futures do nothing unless awaited"]
pub struct GetRef<T>(Handle<T>);

impl<T: Send + Sync + 'static> Future for GetRef<T> {
    type Output = Result<Ref<T>, Error>;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Self::Output> {
        let handle = &mut self.0;
        loop {
            match handle.0.poll_ended(poller) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
            if let Some(result) = handle.0.here().try_ref() {
                return Poll::Ready(result);
            }
        }
    }
}

impl<T> PartialEq for Handle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.typed().task().is(other.typed().task())
    }
}

impl<T> Eq for Handle<T> {}

/// By key, and where that was made by the client, which numbers its tasks, by client.
impl<T> Hash for Handle<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let task = self.typed().task();
        task.key().hash(hasher);
        let is_numbered = task.state.load() & state::KEYED == 0;
        is_numbered.then(|| task.core().id).hash(hasher);
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("key", &self.key()).field("status", &self.status()).finish()
    }
}

impl<T> fmt::Debug for GetRef<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GetRef").field(&self.0).finish()
    }
}

/// A handle, or a reference to one.
///
/// You never implement it yourself.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handle",
    note = "give something that iterates over `Handle`s or `&Handle`s"
)]
pub trait AsHandle {
    /// The type of the task's value.
    type Value: 'static;

    #[doc(hidden)]
    fn into_handle(self) -> Handle<Self::Value>;
}

impl<T: 'static> AsHandle for Handle<T> {
    type Value = T;

    fn into_handle(self) -> Self {
        self
    }
}

impl<T: 'static> AsHandle for &Handle<T> {
    type Value = T;

    fn into_handle(self) -> Handle<T> {
        self.clone()
    }
}
