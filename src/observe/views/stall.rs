//! Detection of stalls: no progress for a while, although tasks are left.
//!
//! A timer compares the client's activity with that of the last check.
//!
//! | activity | tasks left | unchanged for `after` | the check |
//! |---|---|---|---|
//! | changed | any | | begins a new interval |
//! | unchanged | none | any | begins a new interval: an idle client doesn't stall |
//! | unchanged | some | no | does nothing |
//! | unchanged | some | yes | calls the hook, once in this interval |

use std::fmt;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use super::explain::Explanation;
use super::reason::Reason;
use super::serial::{Seconds, serialize};
use crate::Status;
use crate::engine::base::lock::Lock;
use crate::engine::core::CoreRef;
use crate::engine::data::clock::alarm;
use crate::engine::graph::inspect;
use crate::engine::graph::waits::Waits;
use crate::engine::life::status::status;
use crate::observe::record::functions::Counts;
use crate::observe::record::recorder::Recorder;

/// The maximum number of tasks in a report.
const SHOWN: usize = 8;

/// A report that a client's tasks make no progress; passed to the hook of
/// [`Builder::on_stall`](crate::Builder::on_stall).
///
/// `Display` writes a summary and a line for each explanation; it also implements `serde::Serialize`, with times in
/// seconds.
///
/// ```
/// use std::time::Duration;
///
/// let (send, stalls) = std::sync::mpsc::channel();
/// let client = ensue::Client::builder()
///     .on_stall(Duration::from_millis(20), move |stall| send.send(stall.clone()).unwrap())
///     .build();
/// let stuck = client.spawn(std::future::pending::<()>());
/// let stall = stalls.recv().unwrap();
/// assert_eq!((stall.left, &stall.reasons[0].key), (1, &stuck.key()));
/// assert!(stall.idle_for >= Duration::from_millis(20));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stall {
    /// The time for which no task was submitted, started, woken or ended.
    pub idle_for: Duration,
    /// The number of tasks that have not ended.
    pub left: u64,
    /// Explanations of up to eight tasks that hold up the others: one of each [cycle](Reason::Cycle) of tasks that wait for
    /// each other, then tasks that wait for no other task. If there are neither, explanations of some that wait.
    pub reasons: Vec<Explanation>,
}

serialize!(Stall, this:
    idle_for = Seconds(this.idle_for),
    left = this.left,
    reasons = this.reasons,
);

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.left == 1 { "" } else { "s" };
        write!(
            f,
            "no task has made progress for {:.1?}, {} task{s} left",
            self.idle_for, self.left
        )?;
        self.reasons.iter().try_for_each(|reason| write!(f, "\n  {reason}"))
    }
}

/// The user's function.
pub(crate) type Hook = Arc<dyn Fn(&Stall) + Send + Sync>;

/// Checks a client for stalls, until that is closed.
struct StallWatch {
    core: CoreRef,
    recorder: Arc<Recorder>,
    after: Duration,
    hook: Hook,
    last: Lock<LastCheck>,
}

struct LastCheck {
    /// The record's revision and the sum of the counts: watched tasks change the first, all others the second.
    activity: (u64, u64),
    /// When that was seen first.
    since: Instant,
    /// The hook was called for this stall.
    reported: bool,
}

/// Calls `hook` whenever there was no progress for `after`.
pub(crate) fn watch(core: &CoreRef, after: Duration, hook: Hook) {
    let recorder = Recorder::start(core);
    let last = LastCheck { activity: (0, 0), since: Instant::now(), reported: false };
    let (core, last) = (core.clone(), Lock::new(last));
    Arc::new(StallWatch { core, recorder, after, hook, last }).schedule();
}

impl StallWatch {
    /// Sets the timer of the next check.
    fn schedule(self: Arc<Self>) {
        let recorder = self.recorder.clone();
        let core = self.core.clone();
        // A stall is reported late by at most a quarter of `after`.
        let sleep = alarm((self.after / 4).max(Duration::from_millis(1)), Waker::from(self));
        recorder.set_stall_timer(sleep);
        if core.is_closed() {
            // Closing drops the timer, but may have done so before this one was set.
            recorder.set_stall_timer(None);
        }
    }

    fn check(&self) {
        let counts = self.recorder.functions.counts();
        let ended = |count: &Counts| count.submitted - count.left();
        let changes = counts.iter().map(|count| count.submitted + ended(count)).sum();
        let left = counts.iter().map(|count| count.left()).sum();
        let activity = (self.recorder.record().revision, changes);
        let idle_for = {
            let last = &mut *self.last.lock();
            if last.activity != activity || left == 0 {
                *last = LastCheck { activity, since: Instant::now(), reported: false };
                return;
            }
            if last.reported || last.since.elapsed() < self.after {
                return;
            }
            last.reported = true;
            last.since.elapsed()
        };
        // The hook is user code and may block, so it must not run on the thread that serves all timers.
        let (core, recorder) = (self.core.clone(), self.recorder.clone());
        let hook = self.hook.clone();
        let report = move || {
            let stall = Stall { idle_for, left, reasons: roots(&core, &recorder) };
            core.run_user_code(|| hook(&stall));
        };
        // Nor on one for blocking work: those may be what the tasks wait for.
        let options = self.core.threads.options;
        let thread = options.thread(&format!("{}-stall", self.core.name));
        if let Err(error) = thread.spawn(report) {
            log::error!("ensue: the system refused the thread that reports a stall: {error}");
        }
    }
}

impl Wake for StallWatch {
    fn wake(self: Arc<Self>) {
        self.check();
        self.schedule();
    }
}

/// Returns explanations of tasks that wait for no other task, or if there are none, of some that do: each of those waits
/// for something that can't be reached.
fn roots(core: &CoreRef, recorder: &Recorder) -> Vec<Explanation> {
    // A task in its first poll can't be reached by a traversal, but the record knows it.
    let polled: Vec<_> = {
        let record = recorder.record();
        record.polled_tasks().take(SHOWN).collect()
    };
    let polled =
        polled.into_iter().filter_map(|number| Explanation::of_number(core, recorder, number));
    // Cycles first: nothing else ends them.
    let in_cycles = Waits::of(core).in_cycles(SHOWN);
    let mut roots: Vec<_> = in_cycles.iter().map(|task| Explanation::of(task.as_ref())).collect();
    roots.extend(polled);
    roots.truncate(SHOWN);
    let mut others = Vec::new();
    for task in inspect::live(core) {
        if roots.len() >= SHOWN {
            break;
        }
        let status = status(task.as_ref());
        if matches!(status, Status::Ready | Status::Running | Status::Delayed) {
            let explanation = Explanation::of(task.as_ref());
            let waits = |reason: &Reason| matches!(reason, Reason::Awaits { .. });
            if explanation.reasons.iter().any(waits) {
                others.push(explanation);
            } else if roots.iter().all(|root| root.key != explanation.key) {
                roots.push(explanation);
            }
        }
    }
    if roots.is_empty() {
        others.truncate(SHOWN);
        return others;
    }
    roots
}
