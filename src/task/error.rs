//! Why a task has no value.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use crate::Key;

/// Why a task has no value. Cheap to clone: every handle and dependent of a failed task gets the
/// same one.
///
/// [`kind`](Error::kind) says what happened, [`origin`](Error::origin) in which task it began, and
/// [`downcast_ref`](Error::downcast_ref) gives back the error that the task returned.
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
    /// Drops what the task returned, which is foreign code.
    fn drop_cause(&mut self) -> Result<(), Box<dyn Any + Send>> {
        let cause = self.cause.take();
        catch_unwind(AssertUnwindSafe(|| drop(cause)))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // This happens wherever the last one to know of the error is, a worker for example.
        if let Err(payload) = self.drop_cause() {
            forget_if_it_panics(payload);
        }
    }
}

/// What kind of thing went wrong; see [`Error::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The function returned an `Err`.
    Failed,
    /// The function panicked.
    Panicked,
    /// The task, or one that it depended on, was cancelled, or nobody needed it any more.
    Cancelled,
    /// An attempt took longer than [`Options::timeout`](crate::Options::timeout) allows.
    TimedOut,
    /// The key is in use by a task with another type of result.
    KeyConflict,
    /// A limit that was never declared, or that can never be met.
    Limit,
    /// The await would have closed a ring of tasks that wait for each other.
    Cycle,
    /// A blocking call from a thread that is running tasks.
    Blocking,
    /// The client was closed or dropped.
    Closed,
    /// The value was moved out by an earlier await, or went with the cluster that had it.
    Lost,
    /// What was submitted can't run where it was submitted to, such as a function that a cluster doesn't know.
    Refused,
}

impl Error {
    /// What happened.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The key of the task where it began: for a dependent that was not run because of it, the
    /// first task that failed.
    ///
    /// It's in parentheses where it is no key: `(dropped)` for a task that was given up, which only its callbacks
    /// see, and `(callback or destructor)` for a panic in one of those.
    pub fn origin(&self) -> &Key {
        &self.0.origin
    }

    /// The error that the task returned, if it is an `E`.
    ///
    /// `E` is the type that the function returns. Where that is a box, or `anyhow::Error`, what is inside is found
    /// by its [`source`](std::error::Error::source):
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

    /// Whether the task was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.kind() == ErrorKind::Cancelled
    }

    /// Whether the task panicked.
    pub fn is_panic(&self) -> bool {
        self.kind() == ErrorKind::Panicked
    }

    /// Whether an attempt of the task took longer than its timeout.
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::TimedOut
    }

    /// Drops the error. Gives what that panics with, if this is the last to know of it.
    pub(crate) fn discard(self) -> Result<(), Box<dyn Any + Send>> {
        Arc::into_inner(self.0).map_or(Ok(()), |mut inner| inner.drop_cause())
    }

    fn new(kind: ErrorKind, origin: Key, text: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, origin, text: text.into(), cause: None }))
    }

    pub(crate) fn failed<M, E: IntoFailure<M>>(origin: Key, error: E) -> Self {
        let cause = error.into_cause();
        let text = cause.as_error().to_string();
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

    /// For a task that ends because its last handle was dropped: only its callbacks are left to read it.
    pub(crate) fn abandoned() -> Self {
        ABANDONED.clone()
    }

    /// Whether it's of a task that ended so.
    pub(crate) fn is_abandoned(&self) -> bool {
        Arc::ptr_eq(&self.0, &ABANDONED.0)
    }

    /// For a panic that isn't of any task's function.
    pub(crate) fn stray(text: &str) -> Self {
        Self::new(ErrorKind::Panicked, "(callback or destructor)".into(), text)
    }

    pub(crate) fn timed_out(origin: Key, after: std::time::Duration) -> Self {
        Self::new(ErrorKind::TimedOut, origin, format!("{after:?}"))
    }

    pub(crate) fn key_conflict(origin: Key, held: &str, asked: &str) -> Self {
        let text = format!("it holds a `{held}`, not a `{asked}`: use another key");
        Self::new(ErrorKind::KeyConflict, origin, text)
    }

    pub(crate) fn limit(origin: Key, text: String) -> Self {
        Self::new(ErrorKind::Limit, origin, text)
    }

    pub(crate) fn cycle(origin: Key, ring: &[Key]) -> Self {
        let mut text = String::new();
        for key in ring {
            text.push_str(key);
            text.push_str(" awaits ");
        }
        text.push_str(ring.first().unwrap_or(&origin));
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

    /// For a task that is run somewhere else, with what is known of it.
    #[cfg(feature = "dask")]
    pub(crate) fn far(kind: ErrorKind, origin: Key, text: String) -> Self {
        Self::new(kind, origin, text)
    }
}

/// One for all, since millions of tasks may be given up.
static ABANDONED: LazyLock<Error> =
    LazyLock::new(|| Error::new(ErrorKind::Cancelled, "(dropped)".into(), ""));

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, origin, text, .. } = &*self.0;
        match kind {
            ErrorKind::Failed => write!(f, "task `{origin}` failed: {text}"),
            ErrorKind::Panicked => write!(f, "task `{origin}` panicked: {text}"),
            ErrorKind::Cancelled if self.is_abandoned() => {
                f.write_str("the task was given up: its last handle was dropped")
            }
            ErrorKind::Cancelled => write!(f, "task `{origin}` was cancelled"),
            ErrorKind::TimedOut => write!(f, "task `{origin}` took longer than its {text}"),
            ErrorKind::KeyConflict => write!(f, "the key `{origin}` is taken: {text}"),
            ErrorKind::Limit => write!(f, "task `{origin}` can never run: {text}"),
            ErrorKind::Cycle => write!(f, "tasks wait for each other in a ring: {text}"),
            ErrorKind::Blocking => write!(
                f,
                "blocking on `{origin}` from a thread that runs tasks could hang: await it instead"
            ),
            ErrorKind::Closed => {
                write!(f, "task `{origin}` was not run to its end: the client is closed")
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

/// The message of a panic.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

/// Drops a panic's payload, which may itself panic when dropped, and so on without end.
pub(crate) fn forget_if_it_panics(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
}

/// What a failed task returned: readable as the type it was, and as an error.
pub trait Cause: Send + Sync {
    #[doc(hidden)]
    fn as_any(&self) -> &dyn Any;
    #[doc(hidden)]
    fn as_error(&self) -> &(dyn StdError + 'static);
}

/// What a fallible task may return as its `Err`.
///
/// Implemented for every `std::error::Error`, for what dereferences to one (`Box<dyn Error + Send +
/// Sync>`, `anyhow::Error`), and for text (`String`, `&'static str`). The parameter keeps these
/// three apart and is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the error of a fallible task",
    label = "this function's error type is not `std::error::Error + Send + Sync + 'static`",
    note = "return a type that implements `std::error::Error`, a `String`, or a `&'static str`"
)]
pub trait IntoFailure<Marker>: Send + Sync + 'static {
    #[doc(hidden)]
    fn into_cause(self) -> Box<dyn Cause>;
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
    fn into_cause(self) -> Box<dyn Cause> {
        Box::new(ByError(self))
    }
}

impl<E> IntoFailure<ByDeref<()>> for E
where
    E: Deref<Target = dyn StdError + Send + Sync + 'static> + Send + Sync + 'static,
{
    fn into_cause(self) -> Box<dyn Cause> {
        Box::new(ByDeref(self))
    }
}

impl<E: Deref<Target = str> + Send + Sync + 'static> IntoFailure<ByText<()>> for E {
    fn into_cause(self) -> Box<dyn Cause> {
        let text = Text((*self).to_owned());
        Box::new(ByText { value: self, text })
    }
}
