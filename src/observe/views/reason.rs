//! The reasons of an explanation, with their texts and their data.

use std::fmt;
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::serial::Seconds;
use crate::{Key, Rate, Status};

/// A poll that has lasted for this long blocks its worker. Far longer than a poll should take, and than a busy machine
/// may keep a thread waiting.
pub(crate) const BLOCKED: Duration = Duration::from_millis(100);

/// What to do about a poll that takes long.
const ADVICE: &str = "use `submit_blocking` for what computes or blocks for long, and `.await` instead of `block_on`";

/// One reason why a task has not finished, or how it has ended; see [`Explanation`](crate::Explanation).
///
/// `Display` writes it as a clause; `serde::Serialize` writes a map with the `kind`, the `text` and the fields, times in
/// seconds.
///
/// ```
/// use ensue::{Client, Reason};
///
/// let client = Client::builder().workers(0).build();
/// let x = client.task().name("x").submit(async || 1, ());
/// let y = client.submit(async |x: u64| x + 1, &x);
/// for reason in client.explain(&y).reasons {
///     if let Reason::WaitsFor { task, .. } = &reason {
///         assert_eq!(*task, x.key());
///         assert!(reason.to_string().starts_with("it waits for `x-"));
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// An input has not finished.
    WaitsFor {
        /// The task whose value is the input.
        task: Key,
        /// The status of that task.
        status: Status,
        /// Why that task has not finished; empty below the first level.
        why: Vec<Reason>,
    },
    /// It has started, and awaits another task.
    Awaits {
        /// The task that is awaited.
        task: Key,
        /// The status of that task.
        status: Status,
        /// Why that task has not finished; empty below the first level.
        why: Vec<Reason>,
    },
    /// It awaits the end of a [group](crate::Group), or of a [nursery](crate::Client::nursery).
    AwaitsGroup {
        /// The group's name.
        group: String,
        /// The number of its tasks that have not ended.
        tasks: usize,
    },
    /// This number of further tasks is waited for, like the ones listed before.
    More(usize),
    /// It's in a queue: it's new, or was woken.
    Queued {
        /// The number of tasks before it; `None` if it's in a worker's own queue, which can't be inspected.
        ahead: Option<usize>,
        /// The total number of queued tasks.
        of: usize,
    },
    /// The client has no worker.
    NoWorker,
    /// The client is [seeded](crate::Builder::seed), and its worker isn't being polled: no handle is waited for.
    NotDriven,
    /// [Workers](crate::Client::worker) were woken or have further tasks to run, and their hosts aren't polling them.
    WorkersNotPolled {
        /// The number of such workers.
        workers: usize,
    },
    /// No worker is idle.
    WorkersBusy {
        /// The number of workers that run tasks.
        workers: usize,
        /// The tasks that they poll, up to eight, as far as recorded.
        with: Vec<Key>,
    },
    /// A limit has too little left, or tasks that need it are served first.
    LimitFull {
        /// The name of the limit.
        name: String,
        /// The declared amount.
        of: usize,
        /// The amount in use.
        used: usize,
        /// The amount that the task needs.
        needed: usize,
        /// The number of tasks that are served first.
        ahead: usize,
        /// The tasks that use it, up to eight.
        holders: Vec<Key>,
    },
    /// A rate allows no start yet, or other tasks that need it start first.
    WaitsForRate {
        /// The name of the rate.
        name: String,
        /// The declared rate.
        rate: Rate,
        /// The number of starts that the task counts as.
        needed: usize,
        /// The number of tasks that are served first.
        ahead: usize,
        /// The time until the rate allows as many starts; `None` if it doesn't, until it's changed.
        next: Option<Duration>,
    },
    /// An attempt has failed, and the next one is due later.
    RetryIn {
        /// The number of the next attempt; 2 for the second.
        attempt: u32,
        /// The time until it starts.
        left: Duration,
    },
    /// It has a [deadline](crate::Options::deadline).
    Deadline {
        /// The time until it's ended by that.
        left: Duration,
    },
    /// It waits for itself, over these tasks: each waits for the next one, and the last one for the first. A task waits for
    /// its inputs and for what it awaits; for those that hold a limit which it lacks; if its blocking work has no thread and no
    /// further one can be started, for those whose blocking work has one; and if it awaits [`idle`](crate::Client::idle) or
    /// [`close`](crate::Client::close) of its client, for those of the client's tasks that are queued or have started.
    ///
    /// It ends only if something else ends one of these waits: all awaits of handles count, also those that lost a `select` and
    /// were kept, the members of [`as_completed`](crate::as_completed), of which another may do, and each holder of a limit and
    /// each thread, though another one may be given back.
    Cycle {
        /// The tasks, this one first.
        tasks: Vec<Key>,
    },
    /// It is being polled.
    Running {
        /// The number of the worker; `None` if the poll ended meanwhile.
        worker: Option<usize>,
        /// The time since this poll began, if recorded; else since an earlier explanation or
        /// [check](crate::Builder::on_stall) found the worker in it, if any has.
        lasted: Option<Duration>,
    },
    /// A worker runs no other task, because it has been in one poll of a task for at least 0.1 s: that computes for long,
    /// or blocks the thread, such as by the `block_on` of another crate.
    ///
    /// What computes or blocks for long should be submitted by
    /// [`submit_blocking`](crate::Client::submit_blocking), and what waits should `.await`. A task that blocks on one that
    /// only its worker would run waits forever.
    Blocked {
        /// The number of the worker.
        worker: usize,
        /// The task, if it's recorded, has awaited anything, has a key, or is connected to the explained task or to one of
        /// these.
        task: Option<Key>,
        /// The name of the task's function, or of its future's type.
        function: String,
        /// The time since an explanation or a [check](crate::Builder::on_stall) found the worker in this poll. It may have
        /// begun before.
        lasted: Duration,
    },
    /// Its blocking work has not begun, because no thread of the pool is free; see
    /// [`submit_blocking`](crate::Client::submit_blocking).
    WaitsForThread,
    /// Its blocking work runs, on a thread outside the workers.
    Blocking,
    /// It has started and awaits something that isn't a task: a timer, a socket, a channel.
    Suspended,
    /// It will end with an error, at its next await or when its blocking work returns.
    Ending {
        /// The text of the error.
        error: String,
    },
    /// The client is closed: running tasks may end, others never start.
    Closed,
    /// It has ended with a value.
    Finished {
        /// The total time that workers have polled it, if recorded.
        ran: Option<Duration>,
    },
    /// It has ended with an error.
    Failed {
        /// The text of the error.
        error: String,
        /// The task that has failed first, if that is another one.
        origin: Option<Key>,
    },
    /// It was cancelled, its last handle was dropped, or its client was closed.
    Cancelled {
        /// The task that was cancelled first, if that is another one.
        origin: Option<Key>,
        /// The reason that was given to [`cancel_with`](crate::Handle::cancel_with).
        reason: Option<String>,
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
            Self::AwaitsGroup { group, tasks } => {
                let s = if *tasks == 1 { "" } else { "s" };
                write!(f, "it awaits `{group}`, which has {tasks} task{s} left")
            }
            Self::Cycle { tasks } => cycle(f, tasks),
            Self::More(n) => write!(f, "and {n} more"),
            Self::Queued { ahead: Some(0), .. } => f.write_str("it is the next to be run"),
            Self::Queued { ahead: Some(n), .. } => write!(f, "{n} queued before it"),
            Self::Queued { ahead: None, of } => {
                write!(f, "in a worker's queue, {of} queued in total")
            }
            Self::NoWorker => f.write_str("the client has no worker"),
            Self::NotDriven => f.write_str("the worker of the seeded client is not being polled"),
            Self::WorkersNotPolled { workers: 1 } => {
                f.write_str("a worker future is not being polled")
            }
            Self::WorkersNotPolled { workers } => {
                write!(f, "{workers} worker futures are not being polled")
            }
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
                    "it needs {needed} of the limit `{name}`, of which {used} of {of} are in use"
                )?;
                keys(f, " by ", holders)?;
                if needed > of {
                    f.write_str(", until `set_limit` allows as much")?;
                }
                if *ahead > 0 {
                    write!(f, ", {ahead} served before it")?;
                }
                Ok(())
            }
            Self::WaitsForRate { name, rate, needed, ahead, next } => {
                write!(f, "it waits for the rate `{name}`, {rate}: ")?;
                match next {
                    Some(next) => write!(f, "next start in {next:.1?}")?,
                    None if rate.n() > 0 => {
                        write!(f, "it needs {needed} at once, until `set_rate` allows as many")?
                    }
                    None => f.write_str("no start until `set_rate` allows one")?,
                }
                if *ahead > 0 { write!(f, ", {ahead} served before it") } else { Ok(()) }
            }
            Self::RetryIn { attempt, left } => write!(f, "attempt {attempt} starts in {left:.1?}"),
            Self::Deadline { left } => write!(f, "its deadline is in {left:.1?}"),
            Self::Running { worker, lasted } => {
                match worker {
                    Some(worker) => write!(f, "it runs on worker {worker}")?,
                    None => f.write_str("it runs on a worker")?,
                }
                match lasted {
                    Some(lasted) if *lasted >= BLOCKED => {
                        write!(f, ", blocked in a poll for {lasted:.1?}: {ADVICE}")
                    }
                    Some(lasted) => write!(f, " for {lasted:.1?}"),
                    None => Ok(()),
                }
            }
            Self::Blocked { worker, task, function, lasted } => {
                write!(f, "worker {worker} is blocked in a poll of ")?;
                match task {
                    Some(task) => write!(f, "`{task}`")?,
                    None => write!(f, "a task of `{function}`")?,
                }
                write!(f, " for {lasted:.1?}: {ADVICE}")
            }
            Self::WaitsForThread => f.write_str("its blocking work waits for a thread of the pool"),
            Self::Blocking => f.write_str("its blocking work runs on a thread"),
            Self::Suspended => f.write_str("it awaits something that is not a task"),
            Self::Ending { error } => write!(f, "it will end at its next await: {error}"),
            Self::Closed => f.write_str("the client is closed"),
            Self::Finished { ran: Some(ran) } => write!(f, "it ran for {ran:.1?}"),
            Self::Finished { ran: None } => f.write_str("it has a value"),
            Self::Failed { error, .. } => f.write_str(error),
            Self::Cancelled { origin: Some(origin), reason: None } => {
                write!(f, "because of `{origin}`")
            }
            Self::Cancelled { origin: Some(origin), reason: Some(reason) } => {
                write!(f, "because of `{origin}`: {reason}")
            }
            Self::Cancelled { origin: None, reason: Some(reason) } => {
                write!(f, "by its handle: {reason}")
            }
            Self::Cancelled { origin: None, reason: None } => {
                f.write_str("by its handle, by dropping its last handle, or by closing the client")
            }
        }
    }
}

/// Writes the reasons of an inner task in parentheses.
fn nested(f: &mut fmt::Formatter<'_>, why: &[Reason]) -> fmt::Result {
    for (at, reason) in why.iter().enumerate() {
        write!(f, "{}{reason}", if at > 0 { ", " } else { " (" })?;
    }
    f.write_str(if why.is_empty() { "" } else { ")" })
}

/// The most tasks of a cycle in the text.
const SHOWN: usize = 8;

/// Writes the keys of a cycle, without the middle of a long one.
fn cycle(f: &mut fmt::Formatter<'_>, tasks: &[Key]) -> fmt::Result {
    f.write_str("it is in a cycle of tasks that wait for each other: ")?;
    let left_out = tasks.len().saturating_sub(SHOWN);
    for (at, key) in tasks.iter().enumerate() {
        match at.checked_sub(SHOWN / 2) {
            Some(0) if left_out > 0 => write!(f, "{left_out} more, which wait for ")?,
            Some(after) if after < left_out => {}
            _ => write!(f, "`{key}` waits for ")?,
        }
    }
    tasks.first().map_or(Ok(()), |first| write!(f, "`{first}`"))
}

/// Writes keys, after `before` if there are any.
fn keys(f: &mut fmt::Formatter<'_>, before: &str, keys: &[Key]) -> fmt::Result {
    for (at, key) in keys.iter().enumerate() {
        write!(f, "{}`{key}`", if at > 0 { ", " } else { before })?;
    }
    Ok(())
}

/// Written by hand: the variants have different fields, and readers of the data want the text, too.
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
            Self::AwaitsGroup { group, tasks } => {
                map.serialize_entry("group", group)?;
                map.serialize_entry("tasks", tasks)?;
            }
            Self::Cycle { tasks } => map.serialize_entry("tasks", tasks)?,
            Self::More(more) => map.serialize_entry("more", more)?,
            Self::Queued { ahead, of } => {
                map.serialize_entry("ahead", ahead)?;
                map.serialize_entry("of", of)?;
            }
            Self::WorkersNotPolled { workers } => map.serialize_entry("workers", workers)?,
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
            Self::WaitsForRate { name, rate, needed, ahead, next } => {
                map.serialize_entry("name", name)?;
                map.serialize_entry("n", &rate.n())?;
                map.serialize_entry("per", &Seconds(rate.per()))?;
                map.serialize_entry("burst", &rate.most_at_once())?;
                map.serialize_entry("needed", needed)?;
                map.serialize_entry("ahead", ahead)?;
                map.serialize_entry("next", &next.map(Seconds))?;
            }
            Self::RetryIn { attempt, left } => {
                map.serialize_entry("attempt", attempt)?;
                map.serialize_entry("left", &Seconds(*left))?;
            }
            Self::Deadline { left } => map.serialize_entry("left", &Seconds(*left))?,
            Self::Running { worker, lasted } => {
                map.serialize_entry("worker", worker)?;
                map.serialize_entry("lasted", &lasted.map(Seconds))?;
            }
            Self::Finished { ran } => map.serialize_entry("ran", &ran.map(Seconds))?,
            Self::Blocked { worker, task, function, lasted } => {
                map.serialize_entry("worker", worker)?;
                map.serialize_entry("task", task)?;
                map.serialize_entry("function", function)?;
                map.serialize_entry("lasted", &Seconds(*lasted))?;
            }
            Self::Ending { error } => map.serialize_entry("error", error)?,
            Self::Failed { error, origin } => {
                map.serialize_entry("error", error)?;
                map.serialize_entry("origin", origin)?;
            }
            Self::Cancelled { origin, reason } => {
                map.serialize_entry("origin", origin)?;
                map.serialize_entry("reason", reason)?;
            }
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
    /// Returns the name of the variant in the data. A part of the public format, so not to be changed.
    fn kind(&self) -> &'static str {
        match self {
            Self::WaitsFor { .. } => "waits_for",
            Self::Awaits { .. } => "awaits",
            Self::AwaitsGroup { .. } => "awaits_group",
            Self::Cycle { .. } => "cycle",
            Self::More(_) => "more",
            Self::Queued { .. } => "queued",
            Self::NoWorker => "no_worker",
            Self::NotDriven => "not_driven",
            Self::WorkersNotPolled { .. } => "workers_not_polled",
            Self::WorkersBusy { .. } => "workers_busy",
            Self::LimitFull { .. } => "limit_full",
            Self::WaitsForRate { .. } => "rate",
            Self::RetryIn { .. } => "retry_in",
            Self::Deadline { .. } => "deadline",
            Self::Running { .. } => "running",
            Self::Blocked { .. } => "blocked",
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
