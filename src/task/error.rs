//! The errors of tasks.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use crate::Key;
use crate::task::seal::{SEAL, Seal};

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
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    origin: Key,
    text: String,
    cause: Option<Box<dyn Cause>>,
}

impl Inner {
    /// Drops the error that the task returned. Its destructor is user code and may panic.
    fn drop_cause(&mut self) -> Result<(), Box<dyn Any + Send>> {
        let cause = self.cause.take();
        catch_unwind(AssertUnwindSafe(|| drop(cause)))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The last clone may be dropped by a worker, which must survive a panic of this destructor.
        if let Err(payload) = self.drop_cause() {
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
    /// An attempt took longer than its [`timeout`](crate::Options::timeout).
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
    /// Returns what happened.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the key of the task that failed first. For a dependent that was not run because of this error, that is
    /// another task.
    ///
    /// Text in parentheses is not a key: `(dropped)` stands for an abandoned task, whose error only its callbacks can
    /// see, and `(callback or destructor)` for a panic in a callback or a destructor.
    pub fn origin(&self) -> &Key {
        &self.0.origin
    }

    /// Returns the error that the task's function returned, if its type is `E`.
    ///
    /// `E` is the exact error type of the function. If that is a box or `anyhow::Error`, reach the error inside of it
    /// by [`source`](std::error::Error::source):
    ///
    /// ```
    /// use std::error::Error as _;
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
    /// assert!(error.source().unwrap().downcast_ref::<ParseIntError>().is_some());
    /// ```
    pub fn downcast_ref<E: 'static>(&self) -> Option<&E> {
        self.0.cause.as_deref()?.as_any().downcast_ref()
    }

    /// Returns whether the task was cancelled or abandoned.
    pub fn is_cancelled(&self) -> bool {
        self.kind() == ErrorKind::Cancelled
    }

    /// Returns whether the task panicked.
    pub fn is_panic(&self) -> bool {
        self.kind() == ErrorKind::Panicked
    }

    /// Returns whether the last attempt of the task took longer than its timeout.
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::TimedOut
    }

    /// Drops the error. Returns the panic payload if this was the last clone and its destructor panicked.
    pub(crate) fn discard(self) -> Result<(), Box<dyn Any + Send>> {
        Arc::into_inner(self.0).map_or(Ok(()), |mut inner| inner.drop_cause())
    }

    fn new(kind: ErrorKind, origin: Key, text: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, origin, text: text.into(), cause: None }))
    }

    pub(crate) fn failed<M, E: IntoFailure<M>>(origin: Key, error: E) -> Self {
        let cause = error.into_cause(SEAL);
        // `Display` is user code. The error itself is worth more than its text, and is retried as any other.
        let text = catch_unwind(AssertUnwindSafe(|| cause.as_error().to_string()));
        let text = text.unwrap_or_else(|payload| {
            let text = format!("an error whose `Display` panicked: {}", panic_text(&*payload));
            forget_if_it_panics(payload);
            text
        });
        Self(Arc::new(Inner { kind: ErrorKind::Failed, origin, text, cause: Some(cause) }))
    }

    pub(crate) fn panicked(origin: Key, payload: Box<dyn Any + Send>) -> Self {
        let text = panic_text(&*payload);
        forget_if_it_panics(payload);
        Self::new(ErrorKind::Panicked, origin, text)
    }

    pub(crate) fn cancelled(origin: Key) -> Self {
        Self::new(ErrorKind::Cancelled, origin, "")
    }

    /// Returns the error of a task whose last handle was dropped. Only the task's callbacks can read it.
    pub(crate) fn abandoned() -> Self {
        ABANDONED.clone()
    }

    /// Returns whether this is the error of an abandoned task.
    pub(crate) fn is_abandoned(&self) -> bool {
        Arc::ptr_eq(&self.0, &ABANDONED.0)
    }

    /// Makes an error of a panic that happened outside of all task functions.
    pub(crate) fn stray(text: &str) -> Self {
        Self::new(ErrorKind::Panicked, "(callback or destructor)".into(), text)
    }

    pub(crate) fn timed_out(origin: Key, after: std::time::Duration) -> Self {
        Self::new(ErrorKind::TimedOut, origin, format!("{after:?}"))
    }

    pub(crate) fn key_conflict(origin: Key, held: &str, asked: &str) -> Self {
        let text = format!("its value is a `{held}`, not a `{asked}`: use another key");
        Self::new(ErrorKind::KeyConflict, origin, text)
    }

    pub(crate) fn limit(origin: Key, text: String) -> Self {
        Self::new(ErrorKind::Limit, origin, text)
    }

    pub(crate) fn cycle(origin: Key, cycle: &[Key]) -> Self {
        let mut text = String::new();
        for key in cycle {
            text.push_str(key);
            text.push_str(" awaits ");
        }
        text.push_str(cycle.first().unwrap_or(&origin));
        Self::new(ErrorKind::Cycle, origin, text)
    }

    pub(crate) fn blocking(origin: Key) -> Self {
        Self::new(ErrorKind::Blocking, origin, "")
    }

    pub(crate) fn closed(origin: Key) -> Self {
        Self::new(ErrorKind::Closed, origin, "")
    }

    pub(crate) fn lost(origin: Key) -> Self {
        Self::new(ErrorKind::Lost, origin, "")
    }

    /// Makes the error of a remote task, with the text that its scheduler sent.
    #[cfg(feature = "dask")]
    pub(crate) fn far(kind: ErrorKind, origin: Key, text: String) -> Self {
        Self::new(kind, origin, text)
    }
}

/// One error for all abandoned tasks: millions of tasks may be abandoned, and each would allocate otherwise.
static ABANDONED: LazyLock<Error> =
    LazyLock::new(|| Error::new(ErrorKind::Cancelled, "(dropped)".into(), ""));

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, origin, text, .. } = &*self.0;
        match kind {
            ErrorKind::Failed => write!(f, "task `{origin}` failed: {text}"),
            ErrorKind::Panicked => write!(f, "task `{origin}` panicked: {text}"),
            ErrorKind::Cancelled if self.is_abandoned() => {
                f.write_str("the task was abandoned: its last handle was dropped")
            }
            ErrorKind::Cancelled => write!(f, "task `{origin}` was cancelled"),
            ErrorKind::TimedOut => {
                write!(f, "task `{origin}` took longer than its timeout of {text}")
            }
            ErrorKind::KeyConflict => write!(f, "the key `{origin}` is in use: {text}"),
            ErrorKind::Limit => write!(f, "task `{origin}` can never run: {text}"),
            ErrorKind::Cycle => write!(f, "tasks wait for each other in a cycle: {text}"),
            ErrorKind::Blocking => write!(
                f,
                "blocking on `{origin}` from a thread that runs tasks could hang: await it instead"
            ),
            ErrorKind::Closed => {
                write!(f, "task `{origin}` did not finish: the client is closed")
            }
            ErrorKind::Lost if !text.is_empty() => write!(f, "task `{origin}` is lost: {text}"),
            ErrorKind::Refused => write!(f, "task `{origin}` can't be submitted: {text}"),
            ErrorKind::Lost => write!(
                f,
                "the value of `{origin}` was moved out by an earlier await: await `&handle` to keep it"
            ),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, origin, text, .. } = &*self.0;
        f.debug_struct("Error")
            .field("kind", kind)
            .field("origin", origin)
            .field("text", text)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(Cause::as_error)
    }
}

/// Returns the message of a panic.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
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
