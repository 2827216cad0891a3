//! The reasons why a task is not finished.

use std::fmt;
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::serial::Seconds;
use crate::{Key, Status};

/// One reason why a task is not finished, or how it ended; see [`Explanation`](crate::Explanation).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// An input has not finished.
    WaitsFor {
        /// The task it comes from.
        task: Key,
        /// How that stands.
        status: Status,
        /// Why that has not finished.
        why: Vec<Reason>,
    },
    /// It has started, and awaits another task.
    Awaits {
        /// The task.
        task: Key,
        /// How that stands.
        status: Status,
        /// Why that has not finished.
        why: Vec<Reason>,
    },
    /// There are so many more reasons of the kind before.
    More(usize),
    /// It lies in a queue: it's new, or was woken.
    Queued {
        /// How many tasks are before it; `None` where that can't be seen, in a worker's own queue.
        ahead: Option<usize>,
        /// How many tasks are queued in all.
        of: usize,
    },
    /// The client has no worker.
    NoWorker,
    /// The client is [seeded](crate::Builder::seed), and nobody drives it at the moment.
    NotDriven,
    /// No worker is asleep.
    WorkersBusy {
        /// How many there are.
        workers: usize,
        /// What they're at, as far as that is recorded.
        with: Vec<Key>,
    },
    /// There isn't enough of a limit, or others that need it are before.
    LimitFull {
        /// The limit.
        name: String,
        /// How much there is of it.
        of: usize,
        /// How much is taken.
        used: usize,
        /// How much the task needs.
        needed: usize,
        /// How many tasks that need some of it are served before.
        ahead: usize,
        /// Who has taken some.
        holders: Vec<Key>,
    },
    /// An attempt has failed.
    RetryIn {
        /// The number of the next one; 2 for the second.
        attempt: u32,
        /// How long until then.
        left: Duration,
    },
    /// It is being polled.
    Running {
        /// By which worker, if that is recorded.
        worker: Option<usize>,
        /// For how long, in this poll.
        lasted: Option<Duration>,
    },
    /// Its blocking work has not begun: no thread is free for it in the pool; see
    /// [`submit_blocking`](crate::Client::submit_blocking).
    WaitsForThread,
    /// Its blocking work is under way, on a thread outside the workers.
    Blocking,
    /// It has started and awaits something that isn't a task: a timer, a socket, a channel.
    Suspended,
    /// It is to end, and does so at its next await, or when its blocking work returns.
    Ending {
        /// With what error.
        error: String,
    },
    /// The client is closed: what has not started never will.
    Closed,
    /// It has a value.
    Finished {
        /// How long it was polled, if that is recorded.
        ran: Option<Duration>,
    },
    /// It has an error.
    Failed {
        /// The error.
        error: String,
        /// The task where it began, if that is another.
        origin: Option<Key>,
    },
    /// It was cancelled, or its client was closed.
    Cancelled {
        /// The task where that began, if it's another.
        origin: Option<Key>,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitsFor { task, status, why } => {
                write!(f, "it waits for `{task}`, which is {status}")?;
                nested(f, why)
            }
            Self::Awaits { task, status, why } => {
                write!(f, "it awaits `{task}`, which is {status}")?;
                nested(f, why)
            }
            Self::More(n) => write!(f, "and for {n} more"),
            Self::Queued { ahead: Some(0), .. } => f.write_str("it is the next to be run"),
            Self::Queued { ahead: Some(n), .. } => write!(f, "{n} queued before it"),
            Self::Queued { ahead: None, of } => {
                write!(f, "in a worker's queue, {of} queued in all")
            }
            Self::NoWorker => f.write_str("the client has no worker"),
            Self::NotDriven => f.write_str("nobody drives the seeded client"),
            Self::WorkersBusy { workers, with } => {
                match workers {
                    1 => f.write_str("the worker is busy")?,
                    n => write!(f, "all {n} workers are busy")?,
                }
                keys(f, " with ", with)
            }
            Self::LimitFull { name, of, used, needed, ahead, holders } => {
                write!(
                    f,
                    "it needs {needed} of the limit `{name}`, of which {used} of {of} are taken"
                )?;
                keys(f, " by ", holders)?;
                if *ahead > 0 {
                    write!(f, ", {ahead} served before it")?;
                }
                Ok(())
            }
            Self::RetryIn { attempt, left } => write!(f, "attempt {attempt} begins in {left:.1?}"),
            Self::Running { worker, lasted } => {
                match worker {
                    Some(worker) => write!(f, "it runs on worker {worker}")?,
                    None => f.write_str("a worker runs it")?,
                }
                lasted.map_or(Ok(()), |lasted| write!(f, " for {lasted:.1?}"))
            }
            Self::WaitsForThread => f.write_str("its blocking work waits for a thread of the pool"),
            Self::Blocking => f.write_str("its blocking work runs on a thread"),
            Self::Suspended => f.write_str("it awaits something that is not a task"),
            Self::Ending { error } => write!(f, "it ends at its next await: {error}"),
            Self::Closed => f.write_str("the client is closed"),
            Self::Finished { ran: Some(ran) } => write!(f, "it ran for {ran:.1?}"),
            Self::Finished { ran: None } => f.write_str("it has a value"),
            Self::Failed { error, .. } => f.write_str(error),
            Self::Cancelled { origin: Some(origin) } => write!(f, "because of `{origin}`"),
            Self::Cancelled { origin: None } => {
                f.write_str("by its handle, or because nobody needed it")
            }
        }
    }
}

fn nested(f: &mut fmt::Formatter<'_>, why: &[Reason]) -> fmt::Result {
    for (at, reason) in why.iter().enumerate() {
        write!(f, "{}{reason}", if at > 0 { ", " } else { " (" })?;
    }
    f.write_str(if why.is_empty() { "" } else { ")" })
}

fn keys(f: &mut fmt::Formatter<'_>, before: &str, keys: &[Key]) -> fmt::Result {
    for (at, key) in keys.iter().enumerate() {
        write!(f, "{}`{key}`", if at > 0 { ", " } else { before })?;
    }
    Ok(())
}

/// A map with the `kind`, the `text` that `{}` shows, and the fields.
impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", self.kind())?;
        map.serialize_entry("text", &self.to_string())?;
        match self {
            Self::WaitsFor { task, status, why } | Self::Awaits { task, status, why } => {
                map.serialize_entry("task", task)?;
                map.serialize_entry("status", status)?;
                map.serialize_entry("why", why)?;
            }
            Self::More(more) => map.serialize_entry("more", more)?,
            Self::Queued { ahead, of } => {
                map.serialize_entry("ahead", ahead)?;
                map.serialize_entry("of", of)?;
            }
            Self::WorkersBusy { workers, with } => {
                map.serialize_entry("workers", workers)?;
                map.serialize_entry("with", with)?;
            }
            Self::LimitFull { name, of, used, needed, ahead, holders } => {
                map.serialize_entry("name", name)?;
                map.serialize_entry("of", of)?;
                map.serialize_entry("used", used)?;
                map.serialize_entry("needed", needed)?;
                map.serialize_entry("ahead", ahead)?;
                map.serialize_entry("holders", holders)?;
            }
            Self::RetryIn { attempt, left } => {
                map.serialize_entry("attempt", attempt)?;
                map.serialize_entry("left", &Seconds(*left))?;
            }
            Self::Running { worker, lasted } => {
                map.serialize_entry("worker", worker)?;
                map.serialize_entry("lasted", &lasted.map(Seconds))?;
            }
            Self::Finished { ran } => map.serialize_entry("ran", &ran.map(Seconds))?,
            Self::Ending { error } => map.serialize_entry("error", error)?,
            Self::Failed { error, origin } => {
                map.serialize_entry("error", error)?;
                map.serialize_entry("origin", origin)?;
            }
            Self::Cancelled { origin } => map.serialize_entry("origin", origin)?,
            Self::NoWorker
            | Self::NotDriven
            | Self::WaitsForThread
            | Self::Blocking
            | Self::Suspended
            | Self::Closed => {}
        }
        map.end()
    }
}

impl Reason {
    fn kind(&self) -> &'static str {
        match self {
            Self::WaitsFor { .. } => "waits_for",
            Self::Awaits { .. } => "awaits",
            Self::More(_) => "more",
            Self::Queued { .. } => "queued",
            Self::NoWorker => "no_worker",
            Self::NotDriven => "not_driven",
            Self::WorkersBusy { .. } => "workers_busy",
            Self::LimitFull { .. } => "limit_full",
            Self::RetryIn { .. } => "retry_in",
            Self::Running { .. } => "running",
            Self::WaitsForThread => "waits_for_thread",
            Self::Blocking => "blocking",
            Self::Suspended => "suspended",
            Self::Ending { .. } => "ending",
            Self::Closed => "closed",
            Self::Finished { .. } => "finished",
            Self::Failed { .. } => "failed",
            Self::Cancelled { .. } => "cancelled",
        }
    }
}
