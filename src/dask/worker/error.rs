//! The error of a worker that couldn't join or had to end.

use std::time::Duration;
use std::{error, fmt, io};

use crate::dask::net::NetError;
use crate::dask::wire::call::CallError;
use crate::dask::wire::capabilities::Refusal;

/// The reason why a worker couldn't join a scheduler, or ended without being asked to.
#[derive(Debug)]
pub struct WorkerError(WorkerErrorKind);

#[derive(Debug)]
pub(super) enum WorkerErrorKind {
    /// The scheduler, or the address to listen at, can't be used.
    Net(NetError),
    /// The scheduler's answer to a call was an error or malformed.
    Call(String, CallError),
    /// The scheduler's release isn't supported.
    UnknownRelease(Refusal),
    /// The scheduler has rejected the registration.
    Refused {
        scheduler: String,
        name: String,
        text: String,
    },
    /// The scheduler didn't answer the registration.
    NoReply {
        scheduler: String,
        address: String,
        after: Duration,
    },
    /// The stream to the scheduler has ended.
    SchedulerGone {
        scheduler: String,
        cause: Option<NetError>,
    },
    /// The scheduler doesn't answer heartbeats any more.
    SchedulerSilent {
        scheduler: String,
        after: Duration,
    },
    /// The scheduler has removed this worker.
    Forgotten {
        scheduler: String,
        address: String,
    },
    /// The directory to spill to, and what is wrong with it.
    Directory(String, io::Error),
    /// A part of the worker has panicked with this text.
    Panicked(String),
    Thread(io::Error),
    Signals(io::Error),
}

impl WorkerError {
    /// Returns whether the scheduler was reached but didn't accept the worker: its name or address is in use, or the
    /// scheduler's release isn't supported.
    pub fn is_refused(&self) -> bool {
        use WorkerErrorKind::{NoReply, Refused, UnknownRelease};
        matches!(self.0, Refused { .. } | NoReply { .. } | UnknownRelease(_))
    }

    /// Returns whether the scheduler has closed the connection, or doesn't answer any more.
    pub fn is_scheduler_gone(&self) -> bool {
        use WorkerErrorKind::{SchedulerGone, SchedulerSilent};
        matches!(self.0, SchedulerGone { .. } | SchedulerSilent { .. })
    }

    /// Returns whether the scheduler has removed the worker, for example for lack of heartbeats.
    pub fn is_forgotten(&self) -> bool {
        matches!(self.0, WorkerErrorKind::Forgotten { .. })
    }
}

impl From<WorkerErrorKind> for WorkerError {
    fn from(kind: WorkerErrorKind) -> Self {
        Self(kind)
    }
}

impl From<NetError> for WorkerError {
    fn from(error: NetError) -> Self {
        Self(WorkerErrorKind::Net(error))
    }
}

impl From<Refusal> for WorkerError {
    fn from(refusal: Refusal) -> Self {
        Self(WorkerErrorKind::UnknownRelease(refusal))
    }
}

impl fmt::Display for WorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            WorkerErrorKind::Net(error) => error.fmt(f),
            WorkerErrorKind::Call(scheduler, error) => {
                write!(f, "the scheduler at {scheduler}: {error}")
            }
            WorkerErrorKind::UnknownRelease(refusal) => refusal.fmt(f),
            WorkerErrorKind::Refused { scheduler, name, text } => {
                write!(f, "the scheduler at {scheduler} rejected the worker `{name}`: {text}")
            }
            WorkerErrorKind::NoReply { scheduler, address, after } => write!(
                f,
                "the scheduler at {scheduler} didn't answer the registration of {address} for {after:?}: \
                 another worker may be registered with this address, or the scheduler failed; see its log"
            ),
            WorkerErrorKind::SchedulerGone { scheduler, cause: Some(cause) } => {
                write!(f, "the connection to the scheduler at {scheduler} was lost: {cause}")
            }
            WorkerErrorKind::SchedulerGone { scheduler, cause: None } => {
                write!(f, "the scheduler at {scheduler} closed the connection")
            }
            WorkerErrorKind::SchedulerSilent { scheduler, after } => {
                write!(f, "the scheduler at {scheduler} hasn't answered for {after:?}")
            }
            WorkerErrorKind::Forgotten { scheduler, address } => write!(
                f,
                "the scheduler at {scheduler} has removed the worker {address}, probably for lack of \
                 heartbeats (`distributed.scheduler.worker-ttl`)"
            ),
            WorkerErrorKind::Directory(path, error) => {
                write!(
                    f,
                    "can't spill to {path}: {error}; name another directory with `local_directory`"
                )
            }
            WorkerErrorKind::Panicked(text) => {
                write!(f, "the worker ended because of a bug in ensue: {text}")
            }
            WorkerErrorKind::Thread(error) => write!(f, "can't start a thread: {error}"),
            WorkerErrorKind::Signals(error) => write!(f, "can't wait for signals: {error}"),
        }
    }
}

impl error::Error for WorkerError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.0 {
            WorkerErrorKind::SchedulerGone { cause: Some(cause), .. } => Some(cause),
            WorkerErrorKind::Directory(_, error)
            | WorkerErrorKind::Thread(error)
            | WorkerErrorKind::Signals(error) => Some(error),
            _ => None,
        }
    }
}
