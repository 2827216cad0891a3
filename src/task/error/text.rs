//! What an error prints.

use std::error::Error as StdError;
use std::fmt::{self, Debug, Display, Formatter};

use super::{Error, ErrorKind, Inner, chain};
use crate::task::subject::Subject;

/// A task, as a message names it.
struct Named<'a> {
    task: &'a Subject,
    is_long: bool,
}

impl Display for Named<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Subject { key, submitted_at } = self.task;
        match submitted_at {
            Some(at) if self.is_long => write!(f, "`{key}` ({}:{})", at.file(), at.line()),
            _ => write!(f, "`{key}`"),
        }
    }
}

impl Error {
    /// Writes what happened to the task. `is_long` adds the line that submitted it.
    fn write_own(&self, f: &mut Formatter<'_>, is_long: bool) -> fmt::Result {
        let Inner { kind, task, text, panic_place, .. } = &*self.0;
        let task = Named { task, is_long };
        match kind {
            ErrorKind::Failed => write!(f, "task {task} failed: {text}"),
            ErrorKind::Panicked => match panic_place {
                Some(place) => write!(f, "task {task} panicked at {}: {text}", place.at),
                None => write!(f, "task {task} panicked: {text}"),
            },
            ErrorKind::Cancelled if self.is_abandoned() => {
                f.write_str("the task was abandoned: its last handle was dropped")
            }
            ErrorKind::Cancelled if !text.is_empty() => {
                write!(f, "task {task} was cancelled: {text}")
            }
            ErrorKind::Cancelled => write!(f, "task {task} was cancelled"),
            ErrorKind::TimedOut => write!(f, "task {task} {text}"),
            ErrorKind::KeyConflict => write!(f, "the key {task} is in use: {text}"),
            ErrorKind::Limit => write!(f, "task {task} can never run: {text}"),
            ErrorKind::Cycle => write!(f, "tasks wait for each other in a cycle: {text}"),
            ErrorKind::Blocking => write!(
                f,
                "blocking on {task} from a thread that runs tasks could hang: await it instead"
            ),
            ErrorKind::Closed => {
                write!(f, "task {task} did not finish: the client is closed")
            }
            ErrorKind::Lost if !text.is_empty() => write!(f, "task {task} is lost: {text}"),
            ErrorKind::Refused => write!(f, "task {task} can't be submitted: {text}"),
            ErrorKind::Lost => write!(
                f,
                "the value of {task} was moved out by an earlier await: await `&handle` to keep it"
            ),
        }
    }

    /// Writes what happened to the task, and why.
    fn write_all(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write_own(f, true)?;
        let mut error = self;
        while let Some(returned) = &error.0.returned {
            if !returned.causes.is_empty() {
                write!(f, ": {}", returned.causes)?;
            }
            let Some(inner) = &returned.inner else { break };
            f.write_str(": ")?;
            inner.write_own(f, true)?;
            error = inner;
        }
        Ok(())
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if f.alternate() { self.write_all(f) } else { self.write_own(f, false) }
    }
}

impl Debug for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let origin = self.origin();
        if f.alternate() {
            return f
                .debug_struct("Error")
                .field("kind", &self.kind())
                .field("origin", origin)
                .field("submitted_at", &self.submitted_at())
                .field("text", &format_args!("{self:#}"))
                .field("backtrace", &self.backtrace())
                .finish();
        }
        write!(f, "{self:#} [{:?}", self.kind())?;
        if *origin != self.0.task.key {
            write!(f, " of `{origin}`")?;
        }
        f.write_str("]")?;
        match self.backtrace() {
            Some(backtrace) => write!(f, "\n{backtrace}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        chain::note(self);
        self.0.returned.as_ref().and_then(|returned| returned.cause.as_error().source())
    }
}
