//! Why a worker couldn't join, or had to leave.

use std::time::Duration;
use std::{error, fmt, io};

use crate::dask::net::NetError;
use crate::dask::wire::call::CallError;
use crate::dask::wire::capabilities::Refusal;

/// Why a worker couldn't join a scheduler, or had to leave it. One that was asked to leave has no error.
#[derive(Debug)]
pub struct WorkerError(Kind);

#[derive(Debug)]
pub(super) enum Kind {
    /// The scheduler, or the address to listen at, can't be reached or had.
    Net(NetError),
    /// The scheduler answered something that makes no sense.
    Call(String, CallError),
    /// The scheduler is of a release that we don't know how to talk to.
    Unknown(Refusal),
    /// The scheduler doesn't want this worker.
    Refused {
        scheduler: String,
        name: String,
        text: String,
    },
    /// The scheduler didn't answer when this worker wanted to register.
    Silent {
        scheduler: String,
        address: String,
        after: Duration,
    },
    /// The connection to the scheduler has ended.
    Gone {
        scheduler: String,
        cause: Option<NetError>,
    },
    /// The scheduler doesn't answer any more.
    Deaf {
        scheduler: String,
        after: Duration,
    },
    /// The scheduler has dropped this worker.
    Forgotten {
        scheduler: String,
        address: String,
    },
    /// Where results would be written to, and what's wrong there.
    Directory(String, io::Error),
    /// A part of the worker has panicked, with this text.
    Broken(String),
    Thread(io::Error),
    Signals(io::Error),
}

impl WorkerError {
    /// Whether the scheduler was reached and didn't take the worker: its name or address is in use, or the
    /// scheduler's release isn't known.
    pub fn is_refused(&self) -> bool {
        matches!(self.0, Kind::Refused { .. } | Kind::Silent { .. } | Kind::Unknown(_))
    }

    /// Whether the scheduler went away, or doesn't answer any more.
    pub fn is_scheduler_gone(&self) -> bool {
        matches!(self.0, Kind::Gone { .. } | Kind::Deaf { .. })
    }

    /// Whether the scheduler has dropped the worker, for example since nothing was heard of it for too long.
    pub fn is_forgotten(&self) -> bool {
        matches!(self.0, Kind::Forgotten { .. })
    }
}

impl From<Kind> for WorkerError {
    fn from(kind: Kind) -> Self {
        Self(kind)
    }
}

impl From<NetError> for WorkerError {
    fn from(error: NetError) -> Self {
        Self(Kind::Net(error))
    }
}

impl From<Refusal> for WorkerError {
    fn from(refusal: Refusal) -> Self {
        Self(Kind::Unknown(refusal))
    }
}

impl fmt::Display for WorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Net(error) => error.fmt(f),
            Kind::Call(scheduler, error) => write!(f, "the scheduler at {scheduler}: {error}"),
            Kind::Unknown(refusal) => refusal.fmt(f),
            Kind::Refused { scheduler, name, text } => {
                write!(f, "the scheduler at {scheduler} doesn't take the worker `{name}`: {text}")
            }
            Kind::Silent { scheduler, address, after } => write!(
                f,
                "the scheduler at {scheduler} didn't answer for {after:?} when a worker wanted to register \
                 as {address}: another one may be known by that address, or the scheduler failed, of which \
                 its log tells"
            ),
            Kind::Gone { scheduler, cause: Some(cause) } => {
                write!(f, "the scheduler at {scheduler} is gone: {cause}")
            }
            Kind::Gone { scheduler, cause: None } => {
                write!(f, "the scheduler at {scheduler} is gone: it closed the connection")
            }
            Kind::Deaf { scheduler, after } => {
                write!(f, "the scheduler at {scheduler} hasn't answered for {after:?}")
            }
            Kind::Forgotten { scheduler, address } => write!(
                f,
                "the scheduler at {scheduler} doesn't know the worker {address} any more: it may not have \
                 heard of it for too long (`distributed.scheduler.worker-ttl`)"
            ),
            Kind::Directory(path, error) => {
                write!(f, "no folder for results can be made in {path}: {error}")
            }
            Kind::Broken(text) => write!(f, "the worker has a defect, and ends: {text}"),
            Kind::Thread(error) => write!(f, "no thread can be started: {error}"),
            Kind::Signals(error) => write!(f, "signals can't be waited for: {error}"),
        }
    }
}

impl error::Error for WorkerError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.0 {
            Kind::Gone { cause: Some(cause), .. } => Some(cause),
            Kind::Directory(_, error) | Kind::Thread(error) | Kind::Signals(error) => Some(error),
            _ => None,
        }
    }
}
