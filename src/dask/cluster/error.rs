//! Why a cluster didn't start.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;
use std::{fmt, io};

use crate::dask::WorkerError;
use crate::dask::net::NetError;

/// Why a [`LocalCluster`](super::LocalCluster) didn't start. Its text says what to do.
pub struct ClusterError(Box<Problem>);

pub(super) enum Problem {
    /// There's no `dask` on the PATH.
    NotInstalled,
    /// There's no such program, though the environment was named.
    NotThere(PathBuf),
    /// The program is there, but didn't start.
    Start(PathBuf, io::Error),
    /// The folder for logs and addresses.
    Folder(io::Error),
    /// The process of Dask ended before it was ready.
    Ended { what: &'static str, status: ExitStatus, log: String },
    /// A worker in this process didn't join.
    Worker(WorkerError),
    /// The scheduler was there, and doesn't answer.
    Scheduler(NetError),
    /// It's still there, but not ready.
    Slow { what: &'static str, after: Duration, log: String },
}

impl ClusterError {
    /// Whether Dask isn't installed, at least not where it was looked for.
    pub fn is_not_installed(&self) -> bool {
        matches!(*self.0, Problem::NotInstalled | Problem::NotThere(_))
    }
}

impl From<Problem> for ClusterError {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

const INSTALL: &str = "install it with `pip install \"dask[distributed]\"`";

impl fmt::Display for ClusterError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Problem::NotInstalled => write!(
                to,
                "there is no program `dask` on the PATH: {INSTALL}, or name the environment that has it with \
                 `LocalCluster::start(n, registry).environment(folder)`"
            ),
            Problem::NotThere(program) => write!(
                to,
                "there is no `{}`: {INSTALL} in that environment, or name another one",
                program.display()
            ),
            Problem::Start(program, error) => {
                write!(to, "`{}` can't be started: {error}", program.display())
            }
            Problem::Folder(error) => {
                write!(to, "the temporary folder for the cluster's logs can't be used: {error}")
            }
            Problem::Worker(error) => write!(to, "a worker didn't join: {error}"),
            Problem::Scheduler(error) => write!(to, "the scheduler doesn't answer: {error}"),
            Problem::Ended { what, status, log } => {
                write!(to, "{what} ended ({status}) before it was ready. {}", Wrote(log))
            }
            Problem::Slow { what, after, log } => {
                write!(to, "{what} wasn't ready after {after:?}. {}", Wrote(log))
            }
        }
    }
}

/// The end of a log.
struct Wrote<'a>(&'a str);

impl fmt::Display for Wrote<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => to.write_str("It wrote nothing."),
            log => write!(to, "The last that it wrote:\n{log}"),
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
            Problem::Start(_, error) | Problem::Folder(error) => Some(error),
            Problem::Worker(error) => Some(error),
            Problem::Scheduler(error) => Some(error),
            _ => None,
        }
    }
}
