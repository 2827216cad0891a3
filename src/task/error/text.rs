//! What an error prints.

use std::error::Error as StdError;
use std::fmt::{self, Debug, Display, Formatter};

use super::{Error, ErrorKind, Inner, chain};

impl Error {
    /// Writes what happened to the task.
    fn write_own(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Inner { kind, task, text, .. } = &*self.0;
        match kind {
            ErrorKind::Failed => write!(f, "task `{task}` failed: {text}"),
            ErrorKind::Panicked => write!(f, "task `{task}` panicked: {text}"),
            ErrorKind::Cancelled if self.is_abandoned() => {
                f.write_str("the task was abandoned: its last handle was dropped")
            }
            ErrorKind::Cancelled if !text.is_empty() => {
                write!(f, "task `{task}` was cancelled: {text}")
            }
            ErrorKind::Cancelled => write!(f, "task `{task}` was cancelled"),
            ErrorKind::TimedOut => {
                write!(f, "task `{task}` took longer than its timeout of {text}")
            }
            ErrorKind::KeyConflict => write!(f, "the key `{task}` is in use: {text}"),
            ErrorKind::Limit => write!(f, "task `{task}` can never run: {text}"),
            ErrorKind::Cycle => write!(f, "tasks wait for each other in a cycle: {text}"),
            ErrorKind::Blocking => write!(
                f,
                "blocking on `{task}` from a thread that runs tasks could hang: await it instead"
            ),
            ErrorKind::Closed => {
                write!(f, "task `{task}` did not finish: the client is closed")
            }
            ErrorKind::Lost if !text.is_empty() => write!(f, "task `{task}` is lost: {text}"),
            ErrorKind::Refused => write!(f, "task `{task}` can't be submitted: {text}"),
            ErrorKind::Lost => write!(
                f,
                "the value of `{task}` was moved out by an earlier await: await `&handle` to keep it"
            ),
        }
    }

    /// Writes what happened to the task, and why.
    fn write_all(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write_own(f)?;
        let mut error = self;
        while let Some(returned) = &error.0.returned {
            if !returned.causes.is_empty() {
                write!(f, ": {}", returned.causes)?;
            }
            let Some(inner) = &returned.inner else { break };
            f.write_str(": ")?;
            inner.write_own(f)?;
            error = inner;
        }
        Ok(())
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if f.alternate() { self.write_all(f) } else { self.write_own(f) }
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
                .field("text", &format_args!("{self:#}"))
                .finish();
        }
        write!(f, "{self:#} [{:?}", self.kind())?;
        if *origin != self.0.task {
            write!(f, " of `{origin}`")?;
        }
        f.write_str("]")
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        chain::note(self);
        self.0.returned.as_ref().and_then(|returned| returned.cause.as_error().source())
    }
}
