//! The errors of tasks.

mod chain;
mod text;

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::error::Error as StdError;
use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::{Arc, LazyLock};

use crate::Key;
use crate::task::panic_place::{self, PanicPlace};
use crate::task::seal::{SEAL, Seal};
use crate::task::subject::Subject;

/// The error of a task that has no value. It is cheap to clone: all handles and dependents of a failed task share it.
///
/// [`kind`](Error::kind) returns what happened, [`origin`](Error::origin) the key of the task that failed first, and
/// [`downcast_ref`](Error::downcast_ref) the error that its function returned. The destructor of that error runs on
/// the thread that drops the last clone.
///
/// ```
/// use ensue::{Client, ErrorKind};
///
/// let client = Client::new();
/// let age = client.try_submit(async |text: &str| text.parse::<u8>(), "old");
/// let next = client.submit(async |age: u8| age + 1, &age);
///
/// let error = next.result().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Failed);
/// assert_eq!(error.origin(), age.key());
/// assert!(error.downcast_ref::<std::num::ParseIntError>().is_some());
/// ```
///
/// # Printing
///
/// * `{}` writes what happened to which task, with the message of the error that its function returned.
/// * `{:#}` also writes the messages of the errors that caused that one, and the lines that submitted the tasks, all in
///   one line. Use it in logs.
/// * `{:?}`, which `unwrap` uses, writes the same, the kind, and the backtrace of a panic if there is one. `{:#?}` writes
///   the parts as a structure.
///
/// As the message of the returned error is a part of the first line,
/// [`source`](std::error::Error::source) returns what caused that error, as `std::io::Error` does. So `anyhow` and
/// `eyre` write each message once. [`find_cause`](Error::find_cause) finds the returned error, too.
///
/// # The error of another task
///
/// A fallible task may return the error of another one, for example by `handle.await?`. Then it fails as a dependent
/// does: with the same error, so all methods tell of the task that failed first. This holds for an `Error` that is
/// returned as such, in a `Box<dyn Error + Send + Sync>` or in an `anyhow::Error`.
///
/// If the function returns an error of its own, which the other task's error has caused, the message and
/// `downcast_ref` tell of that, and the other methods of the task that failed first. It's a cause if it's in the chain
/// of `source`s, as with `#[from]` and `#[source]` of `thiserror` and `context` of `anyhow`, or if an error of the chain
/// returns its `source` as its own, as `#[error(transparent)]` and `std::io::Error::other` do. An error that keeps only
/// the text of another one is the first error.
///
/// ```
/// use std::time::Duration;
/// use ensue::{Client, Error, Retry};
///
/// # let client = Client::builder().seed(1).build();
/// # let page = async || std::future::pending::<u64>().await;
/// let client = &client;
/// let shop = client.task().retries(Retry::new(2).when(Error::is_timeout));
/// # let client = client.clone();
/// let shop = shop.try_submit(
///     async move || client.task().timeout(Duration::from_secs(5)).submit(page, ()).await,
///     (),
/// );
/// let error = shop.result().unwrap_err(); // after three attempts
/// assert!(error.is_timeout());
/// assert_ne!(error.origin(), shop.key());
/// ```
///
/// A task whose function returned such an error has failed, and can be [retried](crate::Handle::retry), also if the other
/// task was cancelled. On a Dask cluster, workers send the texts of errors only, so there it's an error as any other.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    /// The task that this happened to.
    task: Subject,
    /// What there is to say besides the kind: the message of a returned error, or the reason of a cancellation, for example.
    text: String,
    /// What the task's function returned.
    returned: Option<Returned>,
    /// The error of a cancelled task, or of one of a closed client, that the function of another task returned.
    is_passed_on: bool,
    /// Where the task panicked, if that's known.
    panic_place: Option<Box<PanicPlace>>,
}

/// The error that a task's function returned.
struct Returned {
    cause: Box<dyn Cause>,
    /// The messages of the errors that caused it, up to `inner`.
    causes: String,
    /// The first error of a task among these errors.
    inner: Option<Error>,
    /// The error of the task that failed first, if `cause` tells of another task.
    first: Option<Error>,
}

impl Inner {
    fn new(kind: ErrorKind, task: Subject, text: String) -> Self {
        Self { kind, task, text, returned: None, is_passed_on: false, panic_place: None }
    }

    /// Drops the error that the task returned. Its destructor is user code and may panic.
    fn drop_returned(&mut self) -> Result<(), Box<dyn Any + Send>> {
        self.returned.take().map_or(Ok(()), flat_drop)
    }
}

thread_local! {
    /// The errors to drop once the present one is dropped on this thread; `None` while none is.
    static TO_DROP: RefCell<Option<Vec<Returned>>> = const { RefCell::new(None) };
}

/// Drops an error that may contain the error of another task, and so on through thousands of tasks: one after the other, since
/// each level of a recursion takes a part of the stack. Returns the panic of the first one's destructor.
fn flat_drop(returned: Returned) -> Result<(), Box<dyn Any + Send>> {
    let mut returned = Some(returned);
    let put_off = TO_DROP.try_with(|to_drop| {
        let mut to_drop = to_drop.borrow_mut();
        match &mut *to_drop {
            Some(errors) => errors.extend(returned.take()),
            None => *to_drop = Some(Vec::new()),
        }
    });
    let Some(returned) = returned else { return Ok(()) };
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(returned)));
    // Else the thread is exiting, and the errors inside were dropped with this one.
    if put_off.is_ok() {
        while let Some(next) = TO_DROP.with_borrow_mut(|errors| errors.as_mut()?.pop()) {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(next))) {
                forget_if_it_panics(payload);
            }
        }
        TO_DROP.set(None);
    }
    dropped
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The last clone may be dropped by a worker, which must survive a panic of this destructor.
        if let Err(payload) = self.drop_returned() {
            forget_if_it_panics(payload);
        }
    }
}

/// The kind of an [`Error`]; see [`Error::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The function returned an `Err`.
    Failed,
    /// The function panicked.
    Panicked,
    /// The task or one of its inputs was cancelled, or its last handle was dropped.
    Cancelled,
    /// An attempt took longer than its [`timeout`](crate::Options::timeout), or the task longer than its
    /// [`deadline`](crate::Options::deadline).
    TimedOut,
    /// The key belongs to a task whose value has another type.
    KeyConflict,
    /// The task needs a limit or rate that is not declared, or more than that has ever been.
    Limit,
    /// The await closes a cycle of tasks that wait for each other.
    Cycle,
    /// A blocking call was made on a thread that runs tasks.
    Blocking,
    /// The client was closed or dropped.
    Closed,
    /// The value was moved out by an earlier await, or was lost with the cluster that stored it.
    Lost,
    /// The submission can't run on this engine, for example because a cluster doesn't know the function.
    Refused,
}

impl Error {
    /// Returns what happened to the task that failed first.
    pub fn kind(&self) -> ErrorKind {
        self.first().kind
    }

    /// Returns the key of the task that failed first. For a dependent that was not run because of this error, that is
    /// another task.
    ///
    /// Text in parentheses is not a key: `(dropped)` stands for an abandoned task, whose error only its callbacks can
    /// see, and `(callback or destructor)` for a panic in a callback or a destructor.
    pub fn origin(&self) -> &Key {
        &self.first().task.key
    }

    /// Returns the error that the task's function returned, if its type is `E`.
    ///
    /// `E` is the exact error type of the function. [`find_cause`](Error::find_cause) also finds the error in a box or in
    /// an `anyhow::Error`, and what caused it.
    pub fn downcast_ref<E: 'static>(&self) -> Option<&E> {
        self.0.returned.as_ref()?.cause.as_any().downcast_ref()
    }

    /// Returns the first error of type `E` among the error that the task's function returned and those that caused it. If
    /// one of these is the error of another task, the search goes on with what the function of that task returned.
    ///
    /// ```
    /// use std::num::ParseIntError;
    ///
    /// type Boxed = Box<dyn std::error::Error + Send + Sync>;
    ///
    /// async fn parse(text: &str) -> Result<u8, Boxed> {
    ///     Ok(text.parse()?)
    /// }
    ///
    /// let client = ensue::Client::new();
    /// let error = client.try_submit(parse, "old").result().unwrap_err();
    /// assert!(error.downcast_ref::<Boxed>().is_some());
    /// assert!(error.downcast_ref::<ParseIntError>().is_none());
    /// assert!(error.find_cause::<ParseIntError>().is_some());
    /// ```
    pub fn find_cause<E: StdError + 'static>(&self) -> Option<&E> {
        let returned = self.0.returned.as_ref()?;
        let mut next = Some(returned.cause.as_error());
        for _ in 0..MOST_CAUSES {
            let Some(error) = next else { break };
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = match error.downcast_ref::<Self>() {
                Some(of_task) => of_task.0.returned.as_ref().map(|it| it.cause.as_error()),
                None => error.source(),
            };
        }
        // An error that only forwards the source of this one leaves it out.
        returned.first.as_ref()?.find_cause()
    }

    /// Returns the reason that was given to [`cancel_with`](crate::Handle::cancel_with), if the task that failed first was
    /// cancelled with one.
    pub fn reason(&self) -> Option<&str> {
        let first = self.first();
        (first.kind == ErrorKind::Cancelled && !first.text.is_empty()).then_some(&*first.text)
    }

    /// Returns the line of the call that submitted the task that failed first, such as [`submit`](crate::Client::submit) or
    /// [`map`](crate::Client::map). `None` if no call did, as for a panic of a callback.
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let x = client.submit(async || -> u8 { panic!("no disk") }, ());
    /// let error = x.result().unwrap_err();
    /// assert_eq!(error.submitted_at().unwrap().line(), line!() - 2);
    /// ```
    pub fn submitted_at(&self) -> Option<&'static Location<'static>> {
        self.first().task.submitted_at
    }

    /// Returns the place of the panic, as `src/main.rs:12:5`, if the task that failed first panicked.
    ///
    /// Only the [panic hook](std::panic::set_hook) is told the place. So the first client of a process puts a hook before
    /// the one that is set then. It remembers the places of panics on threads that work for a client, and calls
    /// the other hook in any case. An application that sets a hook of its own later, without calling the one before,
    /// loses the places, but nothing else: this returns `None` then. It also does if a payload was resumed that
    /// was caught on another thread outside of a [`join`](crate::join).
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let x = client.submit(async || -> u8 { panic!("no disk") }, ());
    /// let error = x.result().unwrap_err();
    /// assert!(error.panicked_at().unwrap().starts_with(file!()));
    /// ```
    pub fn panicked_at(&self) -> Option<&str> {
        self.first().panic_place.as_ref().map(|place| &*place.at)
    }

    /// Returns the backtrace of the panic, if the task that failed first panicked, its [place](Self::panicked_at) is known, and
    /// the environment variables `RUST_BACKTRACE` or `RUST_LIB_BACKTRACE` ask for backtraces; see
    /// [`Backtrace::capture`]. `{:?}` of the error prints it.
    pub fn backtrace(&self) -> Option<&Backtrace> {
        self.first().panic_place.as_ref()?.backtrace.as_ref()
    }

    /// Returns whether the task that failed first was cancelled or abandoned.
    pub fn is_cancelled(&self) -> bool {
        self.kind() == ErrorKind::Cancelled
    }

    /// Returns whether the task that failed first panicked.
    pub fn is_panic(&self) -> bool {
        self.kind() == ErrorKind::Panicked
    }

    /// Returns whether the last attempt of the task that failed first took longer than its timeout, or that task longer than its
    /// deadline.
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::TimedOut
    }

    /// Drops the error. Returns the panic payload if this was the last clone and its destructor panicked.
    pub(crate) fn discard(self) -> Result<(), Box<dyn Any + Send>> {
        Arc::into_inner(self.0).map_or(Ok(()), |mut inner| inner.drop_returned())
    }

    /// Returns whether a task with this error can't run again: it was cancelled or abandoned, or its client was closed.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Cancelled | ErrorKind::Closed) && !self.0.is_passed_on
    }

    /// What happened to the task that failed first.
    fn first(&self) -> &Inner {
        let first = self.0.returned.as_ref().and_then(|returned| returned.first.as_ref());
        &first.unwrap_or(self).0
    }

    fn new(kind: ErrorKind, task: impl Into<Subject>, text: impl Into<String>) -> Self {
        Self(Arc::new(Inner::new(kind, task.into(), text.into())))
    }

    /// Makes the error of a task whose function returned this one, of another task.
    fn pass_on(&self) -> Self {
        if !self.is_final() {
            return self.clone();
        }
        let Inner { kind, task, text, .. } = &*self.0;
        let mut inner = Inner::new(*kind, task.clone(), text.clone());
        inner.is_passed_on = true;
        Self(Arc::new(inner))
    }

    /// Makes the error of a task whose function returned `error`. That error's methods are user code.
    pub(crate) fn failed<M, E: IntoFailure<M>>(task: impl Into<Subject>, error: E) -> Self {
        let cause = error.into_cause(SEAL);
        if let Some(of_another) = cause.as_error().downcast_ref::<Self>() {
            return of_another.pass_on();
        }
        let read = chain::read(cause.as_error());
        let returned =
            Returned { cause, causes: read.causes, inner: read.inner, first: read.first };
        let mut inner = Inner::new(ErrorKind::Failed, task.into(), read.text);
        inner.returned = Some(returned);
        Self(Arc::new(inner))
    }

    /// Makes the error of a panic that this thread has caught.
    pub(crate) fn panicked(task: impl Into<Subject>, payload: Box<dyn Any + Send>) -> Self {
        let mut inner = Inner::new(ErrorKind::Panicked, task.into(), panic_text(&*payload));
        inner.panic_place = panic_place::take(&*payload);
        forget_if_it_panics(payload);
        Self(Arc::new(inner))
    }

    /// The reason may be empty.
    pub(crate) fn cancelled(task: Subject, reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Cancelled, task, reason)
    }

    /// Returns the error of a task whose last handle was dropped. Only the task's callbacks can read it.
    pub(crate) fn abandoned() -> Self {
        ABANDONED.clone()
    }

    /// Returns whether this is the error of an abandoned task.
    pub(crate) fn is_abandoned(&self) -> bool {
        // One that was passed on shares the key.
        std::ptr::eq(self.0.task.key.as_str(), ABANDONED.0.task.key.as_str())
    }

    /// Makes an error of a panic that happened outside of all task functions.
    pub(crate) fn stray(payload: Box<dyn Any + Send>) -> Self {
        Self::panicked("(callback or destructor)", payload)
    }

    pub(crate) fn timed_out(task: Subject, limit: impl fmt::Display) -> Self {
        Self::new(ErrorKind::TimedOut, task, format!("took longer than its timeout of {limit}"))
    }

    pub(crate) fn past_deadline(task: Subject, after: std::time::Duration) -> Self {
        let text = format!("did not end within {after:?}, which was its deadline");
        Self::new(ErrorKind::TimedOut, task, text)
    }

    pub(crate) fn key_conflict(task: Subject, held: &str, asked: &str) -> Self {
        let text = format!("its value is a `{held}`, not a `{asked}`: use another key");
        Self::new(ErrorKind::KeyConflict, task, text)
    }

    pub(crate) fn limit(task: Subject, text: String) -> Self {
        Self::new(ErrorKind::Limit, task, text)
    }

    pub(crate) fn cycle(task: Subject, cycle: &[Key]) -> Self {
        let mut text = String::new();
        for key in cycle {
            text.push_str(key);
            text.push_str(" awaits ");
        }
        text.push_str(cycle.first().unwrap_or(&task.key));
        Self::new(ErrorKind::Cycle, task, text)
    }

    pub(crate) fn blocking(task: Subject) -> Self {
        Self::new(ErrorKind::Blocking, task, "")
    }

    pub(crate) fn closed(task: Subject) -> Self {
        Self::new(ErrorKind::Closed, task, "")
    }

    pub(crate) fn lost(task: Subject) -> Self {
        Self::new(ErrorKind::Lost, task, "")
    }

    /// Makes the error of a remote task, with the text that its scheduler sent.
    #[cfg(feature = "dask")]
    pub(crate) fn far(kind: ErrorKind, task: Subject, text: &str) -> Self {
        Self::new(kind, task, text)
    }

    /// Makes the error of a remote task that panicked at this place.
    #[cfg(feature = "dask")]
    pub(crate) fn far_panic(task: Subject, place: &str, text: &str) -> Self {
        let mut inner = Inner::new(ErrorKind::Panicked, task, text.to_owned());
        let place = PanicPlace { at: place.to_owned(), backtrace: None };
        inner.panic_place = Some(Box::new(place));
        Self(Arc::new(inner))
    }
}

/// The most errors of a chain that are looked at. A chain can be endless, since each of its links is made by user code.
const MOST_CAUSES: usize = 100;

/// One error for all abandoned tasks: millions of tasks may be abandoned, and each would allocate otherwise.
static ABANDONED: LazyLock<Error> =
    LazyLock::new(|| Error::new(ErrorKind::Cancelled, "(dropped)", ""));

/// What tokio's panics begin with on a thread that hasn't entered a runtime.
const NO_RUNTIME: &str = "there is no reactor running";

/// The advice for such a panic, which says nothing of this crate's threads.
const USE_RUNTIME: &str = "; tasks run on the client's own threads, which are not tokio's: inside the runtime, build the client \
     with `Client::builder().tokio()` (feature `tokio` of ensue), or with `workers(0)`, and spawn `client.worker()` on the \
     runtime; a worker of a Dask cluster has a method `tokio()`, too";

/// Returns the message of a panic, with advice where it needs some.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = panic_place::text_of(payload).unwrap_or("a panic without a message");
    let advice = if text.starts_with(NO_RUNTIME) { USE_RUNTIME } else { "" };
    format!("{text}{advice}")
}

/// Drops a panic's payload. The destructor of a payload may panic with another such payload; the second one is
/// leaked, to end this.
pub(crate) fn forget_if_it_panics(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
}

/// An error that a task returned, accessible as its own type and as a `dyn Error`.
pub trait Cause: Send + Sync {
    #[doc(hidden)]
    fn as_any(&self) -> &dyn Any;
    #[doc(hidden)]
    fn as_error(&self) -> &(dyn StdError + 'static);
}

/// A type that a fallible task may return as its `Err`.
///
/// Implemented for every `std::error::Error`, for types that dereference to one (`Box<dyn Error + Send + Sync>`,
/// `anyhow::Error`), and for text (`String`, `&'static str`). The parameter `Marker` distinguishes these three
/// implementations and is always inferred. The trait is sealed: it can't be implemented outside of this crate.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the error of a fallible task",
    label = "this function's error type is not `std::error::Error + Send + Sync + 'static`",
    note = "return a type that implements `std::error::Error`, a `String`, or a `&'static str`"
)]
pub trait IntoFailure<Marker>: Send + Sync + 'static {
    #[doc(hidden)]
    fn into_cause(self, _: Seal) -> Box<dyn Cause>;
}

#[doc(hidden)]
#[derive(Debug)]
pub struct ByError<E>(E);
#[doc(hidden)]
#[derive(Debug)]
pub struct ByDeref<E>(E);
#[doc(hidden)]
#[derive(Debug)]
pub struct ByText<E> {
    value: E,
    text: Text,
}

#[derive(Debug)]
struct Text(String);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Text {}

impl<E: StdError + Send + Sync + 'static> Cause for ByError<E> {
    fn as_any(&self) -> &dyn Any {
        &self.0
    }
    fn as_error(&self) -> &(dyn StdError + 'static) {
        &self.0
    }
}

impl<E> Cause for ByDeref<E>
where
    E: Deref<Target = dyn StdError + Send + Sync + 'static> + Send + Sync + 'static,
{
    fn as_any(&self) -> &dyn Any {
        &self.0
    }
    fn as_error(&self) -> &(dyn StdError + 'static) {
        &*self.0
    }
}

impl<E: Send + Sync + 'static> Cause for ByText<E> {
    fn as_any(&self) -> &dyn Any {
        &self.value
    }
    fn as_error(&self) -> &(dyn StdError + 'static) {
        &self.text
    }
}

impl<E: StdError + Send + Sync + 'static> IntoFailure<ByError<()>> for E {
    fn into_cause(self, _: Seal) -> Box<dyn Cause> {
        Box::new(ByError(self))
    }
}

impl<E> IntoFailure<ByDeref<()>> for E
where
    E: Deref<Target = dyn StdError + Send + Sync + 'static> + Send + Sync + 'static,
{
    fn into_cause(self, _: Seal) -> Box<dyn Cause> {
        Box::new(ByDeref(self))
    }
}

impl<E: Deref<Target = str> + Send + Sync + 'static> IntoFailure<ByText<()>> for E {
    fn into_cause(self, _: Seal) -> Box<dyn Cause> {
        let text = Text((*self).to_owned());
        Box::new(ByText { value: self, text })
    }
}
