//! Task handles, and combinators over many of them.

pub(crate) mod as_completed;
pub(crate) mod gather;
pub(crate) mod hedge;
pub(crate) mod input;
pub(crate) mod nested;
pub(crate) mod settled;
pub(crate) mod tags;
pub(crate) mod wait;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::FusedFuture;

use crate::engine::base::block_on::block_on;
use crate::engine::base::deferred;
use crate::engine::core::{Core, context};
use crate::engine::futures::wait::Waitable;
use crate::engine::life::status::status;
use crate::engine::life::{callback, finish, retry};
use crate::engine::task::state;
use crate::engine::task::typed::Typed;
use crate::task::seal::Seal;
use crate::{Error, Key, Ref, Status};

/// A handle of a task. Await it for the result, pass it to further tasks as an input, clone it, or drop it.
///
/// * **Awaiting** works on any runtime, and from many places at once. `handle.await` owns the handle: it moves the
///   value out if no other handle or task needs it. If the await itself is dropped, for example because it lost a
///   `select!` or timed out, the handle is dropped with it. Await `&handle` or `&mut handle` to keep it; `&handle`
///   clones the value. The waker is called on the thread that ends the task.
/// * **Values** must be `Clone + Send + Sync` to be [awaited](Awaitable), because another handle may need them too. For other
///   values, get a [`Ref`] with [`get_ref`](Handle::get_ref), and [move the value out](Ref::try_into_inner) of the
///   last one. For a `Result` whose error is not `Clone`, such as that of `std::io`, use
///   [`try_submit`](crate::Client::try_submit).
/// * **Dropping** the last handle of a task that has no dependents abandons the task: if it is queued it never
///   starts, if it runs it is dropped at its next await, and a result is freed at once. Destructors of a result, and
///   of a task that is not being polled, run on the dropping thread. [`detach`](Handle::detach) lets the task finish.
/// * A handle that has returned its result is terminated in the sense of [`FusedFuture`]. Awaiting it again returns
///   the result again, or the error [`Lost`](crate::ErrorKind::Lost) if the value was moved out.
///
/// Handles are equal if they refer to the same task.
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
#[must_use = "dropping the only handle of a task abandons the task: keep it, or `detach` it; `let _ =` drops it, too"]
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

    /// Returns the key of the task: the one that [`key`](crate::Options::key) has set, or one like `inc-17`, which is
    /// made by the first call.
    pub fn key(&self) -> Key {
        self.typed().interest().key().clone()
    }

    /// Returns the status of the task at this moment.
    pub fn status(&self) -> Status {
        status(self.typed().task())
    }

    /// Returns whether the task has ended: with a value, with an error, or by cancellation.
    pub fn is_finished(&self) -> bool {
        self.typed().interest().waiters.is_closed()
    }

    /// Returns the error of a task that has ended without a value, or `None` if it has not ended or has a value.
    ///
    /// The error counts as observed: the [hook](crate::Builder::on_unobserved) isn't called for it.
    pub fn error(&self) -> Option<Error> {
        self.typed().error()
    }

    /// Cancels the task for all of its handles, and all of its dependents, except those that take it
    /// [settled](Handle::settled): they get the error. Its inputs are not affected. Returns false if the task has ended or is
    /// ending already. [`cancel_with`](Handle::cancel_with) says why.
    ///
    /// A task that has not started never does. A running task is dropped at its next await that yields the worker, and
    /// releases its limits then. An await of a ready result yields it, too, after 128 of them in a row. Blocking work keeps
    /// running until it checks [`is_cancelled`](crate::is_cancelled).
    /// The key can be used again at once. If no worker polls the task, its destructors run on the calling thread.
    pub fn cancel(&self) -> bool {
        finish::cancel(self.typed().task(), String::new())
    }

    /// Cancels the task as [`cancel`](Handle::cancel) does, and says why. The errors of the task and of its dependents
    /// return this as their [`reason`](Error::reason) and contain it in their text. An empty reason is none.
    ///
    /// If the task has ended or is ending already, its error stays as it is, and this returns false. On a Dask cluster, only
    /// this process knows the reason.
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let page = client.task().key("page").spawn(std::future::pending::<String>());
    /// let words = client.submit(async |page: String| page.split(' ').count(), &page);
    /// assert!(page.cancel_with("the user has closed it"));
    ///
    /// let error = words.result().unwrap_err();
    /// assert_eq!(error.reason(), Some("the user has closed it"));
    /// assert_eq!(error.to_string(), "task `page` was cancelled: the user has closed it");
    /// ```
    pub fn cancel_with(&self, reason: impl Into<String>) -> bool {
        finish::cancel(self.typed().task(), reason.into())
    }

    /// Sets the task's [priority](crate::Options::priority), also while it waits, is queued or runs. Returns false if it has
    /// ended.
    ///
    /// It gets no lower than the tasks that await it or have it as an input. What a stream, a `gather` or a task that
    /// waits for its limit has lent it is taken back if that was more. What it has itself lent stays. A task of a cluster keeps the
    /// priority that it was submitted with there.
    ///
    /// ```
    /// use ensue::Client;
    ///
    /// let client = Client::builder().workers(1).build();
    /// let trials = client.map(async |n: u32| n, 0..100);
    /// trials[7].set_priority(1);
    /// assert_eq!(trials[7].result().unwrap(), 7);
    /// ```
    pub fn set_priority(&self, priority: i32) -> bool {
        Core::set_priority(self.typed().task(), priority)
    }

    /// Runs a failed task again, and the failed inputs that it depends on. Returns false if the task has not failed
    /// or can't run again.
    ///
    /// A task can run again if it never started because an input failed, or if it was submitted with a fallible
    /// method such as [`try_submit`](crate::Client::try_submit) or with [`retries`](crate::Options::retries). A
    /// cancelled task and a spawned future can't run again. Dependents that have failed stay failed until they are
    /// retried themselves.
    ///
    /// A task that can run again keeps what it needs for that until its last handle is dropped. If it never started, those
    /// are its inputs: their values stay in memory, and those that haven't ended run on. If an input that
    /// failed by then can't run again, the inputs are released at once.
    ///
    /// A waker of [`events`](crate::Client::events) and a subscriber of `tracing` are called while the
    /// task is still ending, so there it returns false.
    pub fn retry(&self) -> bool {
        retry::retry(self.typed().task())
    }

    /// Drops the handle and lets the task finish without one. If it fails and no other handle or dependent observes
    /// the error, the client's [hook](crate::Builder::on_unobserved) is called with it.
    pub fn detach(self) {
        self.typed().interest().state.set(state::DETACHED);
    }

    /// Calls `callback` once when the task has ended, in any way. If it has ended already, calls it before returning.
    ///
    /// The callback runs on the thread that ends the task, usually a worker, so it should be short. It doesn't keep
    /// the task alive: when the last handle is dropped the task is abandoned and the callback is called. A panic of
    /// the callback is passed to the client's [hook](crate::Builder::on_unobserved).
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// let x = client.submit(async || 1u64, ());
    /// x.on_done(move |x| sender.send(x.status()).unwrap());
    /// assert_eq!(receiver.recv().unwrap(), ensue::Status::Finished);
    /// ```
    pub fn on_done(&self, callback: impl FnOnce(&Self) + Send + 'static)
    where
        T: 'static,
    {
        let call = move |typed: &Typed<T>| callback(&Self::new(typed.clone()));
        callback::add_typed(self.typed(), call);
    }
}

impl<T> Handle<T> {
    /// Blocks until the task has ended, and returns a clone of its value. It can be called again.
    ///
    /// On a handle of a [seeded](crate::Builder::seed) client this thread runs the client's tasks meanwhile. If all
    /// [workers](crate::Client::worker) of the client are futures that a single-threaded runtime polls on the calling
    /// thread, no worker can run and this call never returns: await the handle there.
    ///
    /// # Errors
    ///
    /// Returns the task's error. Returns [`Cycle`](crate::ErrorKind::Cycle) in blocking work, if this closes a cycle of tasks that
    /// wait for each other: the work's own task waits for the awaited one then. Returns [`Blocking`](crate::ErrorKind::Blocking) at once on a thread that is running
    /// tasks, the destructor of a task's value, or a waker of [`idle`](crate::Client::idle), [`close`](crate::Client::close)
    /// or [`events`](crate::Client::events), because it could wait for itself: await the handle there.
    pub fn result(&self) -> Result<T, Error>
    where
        T: Awaitable,
    {
        if context::on_worker() || deferred::is_active() {
            return Err(Error::blocking(self.typed().interest().subject()));
        }
        self.try_get().unwrap_or_else(|| context::while_blocked(|| block_on(self.clone())))
    }

    /// Returns the result of the task if it has ended, with its value cloned. Doesn't block. A value on
    /// a cluster is returned only when it has been fetched.
    pub fn try_get(&self) -> Option<Result<T, Error>>
    where
        T: Awaitable,
    {
        self.typed().try_clone()
    }
}

impl<T: Send + Sync + 'static> Handle<T> {
    /// Waits for the task, and returns a shared reference to its value instead of a clone.
    ///
    /// ```
    /// struct NotClone(u64);
    ///
    /// # futures_lite::future::block_on(async {
    /// let client = ensue::Client::new();
    /// let x = client.submit(async || NotClone(1), ());
    /// assert_eq!(x.get_ref().await?.0, 1);
    /// # Ok::<_, ensue::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The future returns the task's error.
    pub fn get_ref(&self) -> GetRef<T> {
        GetRef(self.clone())
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Self::new(self.typed().clone())
    }
}

impl<T: Awaitable> Future for Handle<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.0.poll_ended(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
            // The task was retried after it had ended.
            if let Some(result) = self.0.value_task().try_take_or_clone() {
                self.0.set_delivered();
                return Poll::Ready(result);
            }
        }
    }
}

impl<T: Awaitable> FusedFuture for Handle<T> {
    fn is_terminated(&self) -> bool {
        self.0.is_delivered()
    }
}

/// Awaiting `&handle` keeps the handle and clones the value.
impl<T: Awaitable> IntoFuture for &Handle<T> {
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

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let handle = &mut self.0;
        loop {
            match handle.0.poll_ended(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
            if let Some(result) = handle.0.value_task().try_ref() {
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

/// Hashes the call of a [pure](crate::Client::submit_pure) task, and of any other task what distinguishes it from all
/// other tasks of this process. A key doesn't: another client may use it, and the same client for another task later.
impl<T> Hash for Handle<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let task = self.typed().task();
        match task.extras().and_then(|extras| Some(extras.derived?.get())) {
            Some(digest) => (0u8, digest).hash(hasher),
            None => (1u8, task.core().id, task.make_number()).hash(hasher),
        }
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

/// A value that can be taken from a handle: one that is `Clone + Send + Sync`, because another handle may need it, too.
///
/// There is nothing to implement.
#[diagnostic::on_unimplemented(
    // Of some calls, the compiler shows nothing but this line.
    message = "`{Self}` can't be taken from its handle, since it's not `Clone`, `Send` and `Sync`: use `try_submit` for a \
               function that returns a `Result`, `submit` for an async function, and `get_ref` for any other value",
    label = "another handle may need this value, too",
    note = "a function that returns a `Result`, such as `std::io::Result`, is submitted with `try_submit` or another `try_` verb, \
            whose value is that of the `Ok`, and whose error need not be `Clone`",
    note = "any other value is shared: by `handle.get_ref().await`, or as an argument of type `ensue::Ref<T>`",
    note = "if the value is a future, then an async function was given to a verb for blocking work, where nothing runs it"
)]
pub trait Awaitable: Clone + Send + Sync + 'static {}

// Without this the compiler reports the part of the value that is not `Clone`, and hides the notes above.
#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + 'static> Awaitable for T {}

/// Panics if a future that has handed its output over is polled again, as an `async` block does.
#[track_caller]
fn assert_unresolved(has_resolved: bool) {
    assert!(!has_resolved, "a future was polled after it had resolved");
}

/// A handle, or a reference to one.
///
/// It's sealed: implemented for `Handle<T>` and `&Handle<T>`, and not to be implemented outside of this crate.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handle",
    note = "pass an iterator over `Handle`s or `&Handle`s"
)]
pub trait AsHandle {
    /// The type of the task's value.
    type Value: 'static;

    #[doc(hidden)]
    fn into_handle(self, _: Seal) -> Handle<Self::Value>;
}

impl<T: 'static> AsHandle for Handle<T> {
    type Value = T;

    fn into_handle(self, _: Seal) -> Self {
        self
    }
}

impl<T: 'static> AsHandle for &Handle<T> {
    type Value = T;

    fn into_handle(self, _: Seal) -> Handle<T> {
        self.clone()
    }
}
