//! The status of a task.

use std::fmt;

/// The status of a task; see [`Handle::status`](crate::Handle::status). `Display` writes it in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// It waits for an input.
    Waiting,
    /// All of its inputs have finished. It waits for a worker, or for a [limit](crate::Builder::limit) or
    /// a [rate](crate::Builder::rate).
    Ready,
    /// It has started: a worker polls it, or it awaits.
    Running,
    /// An attempt has failed, and it waits for the next one.
    Delayed,
    /// It has a value.
    Finished,
    /// It has an error.
    Failed,
    /// It was cancelled or abandoned, or its client was closed.
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
