//! How a task stands.

use std::fmt;

/// How a task stands; see [`Handle::status`](crate::Handle::status).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// An input has not finished.
    Waiting,
    /// It could run, and waits for a worker or for a [limit](crate::Builder::limit).
    Ready,
    /// It has started: a worker is at it, or it awaits something.
    Running,
    /// An attempt has failed and the next one is due after a while.
    Delayed,
    /// It has a value.
    Finished,
    /// It has an error.
    Failed,
    /// It was cancelled, or its client was closed.
    Cancelled,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Delayed => "delayed",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        })
    }
}
