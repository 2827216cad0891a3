//! The error of a cluster that couldn't start.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;
use std::{fmt, io};

use crate::dask::net::NetError;
use crate::dask::worker::WorkerError;

/// The reason why a [`LocalCluster`](super::LocalCluster) couldn't start. Its text says what to do.
pub struct ClusterError(Box<ClusterErrorKind>);

pub(super) enum ClusterErrorKind {
    /// There's no `dask` on the PATH.
    NotOnPath,
    /// The named environment doesn't contain this program.
    NotInEnvironment(PathBuf),
    /// The program exists, but can't be started.
    Start(PathBuf, io::Error),
    /// The folder for logs and addresses can't be used.
    Folder(io::Error),
    /// The Dask process exited before it was ready.
    Exited { program: &'static str, status: ExitStatus, log: String },
    /// A worker of this process couldn't join.
    Worker(WorkerError),
    /// The scheduler was ready, but doesn't answer any more.
    Scheduler(NetError),
    /// The Dask process runs, but isn't ready in time.
    NotReady { program: &'static str, after: Duration, log: String },
}

impl ClusterError {
    /// Returns whether the program `dask` wasn't found on the PATH or in the named environment.
    pub fn is_not_installed(&self) -> bool {
        matches!(*self.0, ClusterErrorKind::NotOnPath | ClusterErrorKind::NotInEnvironment(_))
    }
}

impl From<ClusterErrorKind> for ClusterError {
    fn from(kind: ClusterErrorKind) -> Self {
        Self(Box::new(kind))
    }
}

const INSTALL: &str = "install it with `pip install \"dask[distributed]\"`";

impl fmt::Display for ClusterError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            ClusterErrorKind::NotOnPath => write!(
                to,
                "there is no program `dask` on the PATH: {INSTALL}, or name the environment that has it with \
                 `LocalCluster::start(n, registry).environment(folder)`"
            ),
            ClusterErrorKind::NotInEnvironment(program) => write!(
                to,
                "there is no `{}`: {INSTALL} in this environment, or name another one",
                program.display()
            ),
            ClusterErrorKind::Start(program, error) => {
                write!(to, "can't start `{}`: {error}", program.display())
            }
            ClusterErrorKind::Folder(error) => {
                write!(to, "can't use a temporary folder for the cluster's logs: {error}")
            }
            ClusterErrorKind::Worker(error) => {
                write!(to, "a worker couldn't join the scheduler: {error}")
            }
            ClusterErrorKind::Scheduler(error) => {
                write!(to, "the scheduler doesn't answer: {error}")
            }
            ClusterErrorKind::Exited { program, status, log } => {
                write!(to, "{program} exited ({status}) before it was ready. {}", LogTail(log))
            }
            ClusterErrorKind::NotReady { program, after, log } => {
                write!(to, "{program} wasn't ready after {after:?}. {}", LogTail(log))
            }
        }
    }
}

/// The end of the log of a process.
struct LogTail<'a>(&'a str);

impl fmt::Display for LogTail<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => to.write_str("Its log is empty."),
            log => write!(to, "The end of its log:\n{log}"),
        }
    }
}

impl fmt::Debug for ClusterError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "ClusterError({self})")
    }
}

impl StdError for ClusterError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &*self.0 {
            ClusterErrorKind::Start(_, error) | ClusterErrorKind::Folder(error) => Some(error),
            ClusterErrorKind::Worker(error) => Some(error),
            ClusterErrorKind::Scheduler(error) => Some(error),
            _ => None,
        }
    }
}
