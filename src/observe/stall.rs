//! Noticing that nothing moves though work is left.

use std::fmt;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use super::explain::Explanation;
use super::functions::Counts;
use super::reason::Reason;
use super::recorder::Recorder;
use super::serial::{Seconds, serialize};
use crate::Status;
use crate::engine::base::lock::Lock;
use crate::engine::core::CoreRef;
use crate::engine::data::clock::alarm;
use crate::engine::graph::inspect;
use crate::engine::life::drop_task;
use crate::engine::life::pause;
use crate::engine::life::status::status;

/// So many tasks are told of.
const SHOWN: usize = 8;

/// A client whose tasks haven't moved for a while; told to the hook of
/// [`Builder::on_stall`](crate::Builder::on_stall).
///
/// Shown with `{}` it has a line for each reason.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stall {
    /// For how long no task has been submitted, started, woken or ended.
    pub idle_for: Duration,
    /// How many tasks have not ended.
    pub left: u64,
    /// Some of the tasks that the others wait for, and why they don't end.
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
        write!(f, "nothing has moved for {:.1?}, and {} task{s} left", self.idle_for, self.left)?;
        self.reasons.iter().try_for_each(|reason| write!(f, "\n  {reason}"))
    }
}

pub(crate) type Hook = Arc<dyn Fn(&Stall) + Send + Sync>;

/// Looks at a client now and then, until that is closed.
struct Watch {
    core: CoreRef,
    recorder: Arc<Recorder>,
    after: Duration,
    hook: Hook,
    seen: Lock<Seen>,
}

/// What the last look saw.
struct Seen {
    /// Changes with whatever moves.
    mark: (u64, u64),
    since: Instant,
    told: bool,
}

/// Has the hook told when nothing has moved for so long.
pub(crate) fn watch(core: &CoreRef, after: Duration, hook: Hook) {
    let recorder = Recorder::start(core);
    let seen = Seen { mark: (0, 0), since: Instant::now(), told: false };
    let (core, seen) = (core.clone(), Lock::new(seen));
    Arc::new(Watch { core, recorder, after, hook, seen }).again();
}

impl Watch {
    fn again(self: Arc<Self>) {
        let recorder = self.recorder.clone();
        let core = self.core.clone();
        // Four times in a stall, so that it's told of soon after it counts as one.
        let sleep = alarm((self.after / 4).max(Duration::from_millis(1)), Waker::from(self));
        recorder.keep_watch(sleep);
        if core.is_closed() {
            // It may have been closed before it could see this.
            recorder.keep_watch(None);
        }
    }

    fn look(&self) {
        let counts = self.recorder.functions.counts();
        let ended = |count: &Counts| count.submitted - count.left();
        let moved = counts.iter().map(|count| count.submitted + ended(count)).sum();
        let left = counts.iter().map(|count| count.left()).sum();
        let mark = (self.recorder.record().revision, moved);
        let idle_for = {
            let seen = &mut *self.seen.lock();
            if seen.mark != mark || left == 0 {
                *seen = Seen { mark, since: Instant::now(), told: false };
                return;
            }
            if seen.told || seen.since.elapsed() < self.after {
                return;
            }
            seen.told = true;
            seen.since.elapsed()
        };
        // Foreign code, which may take its time: not on the thread of all timers.
        let (core, recorder) = (self.core.clone(), self.recorder.clone());
        let hook = self.hook.clone();
        let tell = move || {
            let stall = Stall { idle_for, left, reasons: roots(&core, &recorder) };
            core.run_user_code(|| hook(&stall));
        };
        blocking::unblock(tell).detach();
    }
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        self.look();
        self.again();
    }
}

/// Tasks that wait for no other, or if there are none, some that do.
fn roots(core: &CoreRef, recorder: &Recorder) -> Vec<Explanation> {
    let polled: Vec<_> = {
        let record = recorder.record();
        record.lanes.iter().filter_map(|lane| lane.task).take(SHOWN).collect()
    };
    let polled =
        polled.into_iter().filter_map(|number| Explanation::of_number(core, recorder, number));
    let mut roots: Vec<_> = polled.collect();
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
