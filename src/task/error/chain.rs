//! The chain of errors that begins with one that a task's function returned: what they say, and which of them is the error
//! of another task.

use std::cell::{Cell, RefCell};
use std::error::Error as StdError;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Error, MOST_CAUSES, forget_if_it_panics, panic_text};

/// What a chain says.
pub(super) struct Read {
    /// The message of the first error.
    pub(super) text: String,
    /// The messages of those that caused it, up to `inner`.
    pub(super) causes: String,
    /// The first error of a task in the chain.
    pub(super) inner: Option<Error>,
    /// The error of the task that failed first, according to the first error of the chain that tells of one.
    pub(super) first: Option<Error>,
}

/// Reads a chain. The messages are read now, when a panic can be caught, since errors are printed in many places.
pub(super) fn read(error: &(dyn StdError + 'static)) -> Read {
    let mut read = Read { text: message(error), causes: String::new(), inner: None, first: None };
    let mut error = error;
    for _ in 0..MOST_CAUSES {
        let (source, forwarded) = source(error);
        let inner = source.and_then(|source| source.downcast_ref::<Error>());
        if read.first.is_none() {
            read.first = inner.or(forwarded.as_ref()).map(first);
        }
        if let Some(inner) = inner {
            read.inner = Some(inner.clone());
            break;
        }
        let Some(source) = source else { break };
        let more = message(source);
        // Many errors include the text of their source.
        if !read.text.ends_with(&more) && !read.causes.ends_with(&more) {
            if !read.causes.is_empty() {
                read.causes.push_str(": ");
            }
            read.causes.push_str(&more);
        }
        error = source;
    }
    read
}

/// The error of the task that failed first, so that no chain of errors is followed for it later.
fn first(error: &Error) -> Error {
    let first = error.0.returned.as_ref().and_then(|returned| returned.first.as_ref());
    first.unwrap_or(error).clone()
}

/// Returns the message of an error. Its `Display` is user code. The error itself is worth more than its text, and is
/// retried as any other.
fn message(error: &(dyn StdError + 'static)) -> String {
    catch_unwind(AssertUnwindSafe(|| error.to_string())).unwrap_or_else(|payload| {
        let text = format!("an error whose `Display` panicked: {}", panic_text(&*payload));
        forget_if_it_panics(payload);
        text
    })
}

thread_local! {
    /// Whether this thread is in `source`, below.
    static ASKS: Cell<bool> = const { Cell::new(false) };
    /// The task's error whose source was asked for meanwhile.
    static ASKED: RefCell<Option<Error>> = const { RefCell::new(None) };
}

/// Returns the source of an error, and the task's error whose source it is if the error only forwards it: such an error
/// stands for the other one, which isn't in the chain.
fn source<'e>(
    error: &'e (dyn StdError + 'static),
) -> (Option<&'e (dyn StdError + 'static)>, Option<Error>) {
    ASKS.set(true);
    let source = catch_unwind(AssertUnwindSafe(|| error.source()));
    ASKS.set(false);
    let source = source.unwrap_or_else(|payload| {
        forget_if_it_panics(payload);
        None
    });
    // In a destructor of a thread local, it may not exist any more.
    (source, ASKED.try_with(RefCell::take).ok().flatten())
}

/// Takes note that the source of this error is asked for.
pub(super) fn note(error: &Error) {
    if ASKS.get() {
        let keep_first = |asked: &RefCell<Option<Error>>| {
            _ = asked.borrow_mut().get_or_insert_with(|| error.clone());
        };
        let _ = ASKED.try_with(keep_first);
    }
}
