//! Detection of stalls: no progress for a while although tasks are left, or a worker that is in one poll for as long.
//!
//! A timer compares the client's activity with that of the last check. The polls of its workers are
//! [compared](crate::engine::core::activity) in the same way, each by itself: one that has lasted for `after` calls the
//! hook, once, though other tasks make progress.
//!
//! | activity | tasks left | unchanged for `after` | the check |
//! |---|---|---|---|
//! | changed | any | | begins a new interval |
//! | unchanged | none | any | begins a new interval: an idle client doesn't stall |
//! | unchanged | some | no | does nothing |
//! | unchanged | some | yes | calls the hook, once in this interval |
//!
//! If no task is left for [`LINGER`], the timer isn't set again: the next new task sets it. Whether one is to do so is in the
//! word that every new task of an observed client reads first, so that costs the others nothing. A thread may read that word
//! just before it says so, and count its task after the last check has read the counts. But it would have to do nothing in
//! between for all of `LINGER`, while the thread of the timers runs.

use std::fmt;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use super::explain::{self, Explanation, Survey};
use super::reason::Reason;
use super::serial::{Seconds, serialize};
use crate::engine::base::lock::Lock;
use crate::engine::core::{CoreRef, CurrentPoll};
use crate::engine::data::clock::alarm;
use crate::engine::graph::inspect;
use crate::engine::life::status::status;
use crate::engine::task::header::Task;
use crate::engine::task::state::{PAUSED, QUEUED, RUNNING};
use crate::observe::record::functions::Counts;
use crate::observe::record::recorder::{NextCheck, Recorder};
use crate::{Key, Status};

/// The maximum number of tasks in a report.
const SHOWN: usize = 8;

/// The shortest time between two checks.
const SHORTEST: Duration = Duration::from_millis(5);

/// How long checks are made after the last task has ended.
const LINGER: Duration = Duration::from_secs(1);

/// A report that a client's tasks make no progress, or that a worker is blocked; passed to the hook of
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
    /// The time for which no task was submitted, started, woken or ended. If only some workers are blocked it may be short.
    pub idle_for: Duration,
    /// The number of tasks that have not ended.
    pub left: u64,
    /// Up to eight workers that are in one poll for long, as [`Reason::Blocked`].
    pub blocked: Vec<Reason>,
    /// Explanations of up to eight tasks that hold up the others: one of each [cycle](Reason::Cycle) of tasks that wait for
    /// each other, then tasks that wait for no other task. If there are neither, explanations of some that wait. Empty if
    /// tasks make progress, and only some workers are blocked.
    pub reasons: Vec<Explanation>,
}

serialize!(Stall, this:
    idle_for = Seconds(this.idle_for),
    left = this.left,
    blocked = this.blocked,
    reasons = this.reasons,
);

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = |n| if n == 1 { "" } else { "s" };
        let (left, blocked) = (self.left, self.blocked.len());
        if self.reasons.is_empty() && blocked > 0 {
            write!(f, "{blocked} worker{} blocked", s(blocked as u64))?;
        } else {
            write!(f, "no task has made progress for {:.1?}", self.idle_for)?;
        }
        write!(f, ", {left} task{} left", s(left))?;
        self.blocked.iter().try_for_each(|reason| write!(f, "\n  {reason}"))?;
        let is_of = |reason: &Reason, key: &Key| match reason {
            Reason::Blocked { task, .. } => task.as_ref() == Some(key),
            _ => false,
        };
        let is_named = |key: &Key| self.blocked.iter().any(|reason| is_of(reason, key));
        let mut others = self.reasons.iter().filter(|reason| !is_named(&reason.key));
        others.try_for_each(|reason| write!(f, "\n  {reason}"))
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
    /// The polls that the hook was called for and that went on at the last check.
    blocked: Vec<PollId>,
    /// Since when no task has been left, nor made, and a new one is to continue the checks.
    idle_since: Option<Instant>,
}

impl LastCheck {
    fn new() -> Self {
        let since = Instant::now();
        Self { activity: (0, 0), since, reported: false, blocked: Vec::new(), idle_since: None }
    }

    /// Whether no task has been left for [`LINGER`]. `is_new` has the next new task continue the checks, and says whether
    /// there was one since the last call.
    fn is_idle(&mut self, activity: (u64, u64), left: u64, is_new: impl FnOnce() -> bool) -> bool {
        if left > 0 || self.activity != activity {
            self.idle_since = None;
        } else if is_new() || self.idle_since.is_none() {
            self.idle_since = Some(Instant::now());
        }
        self.idle_since.is_some_and(|since| since.elapsed() >= LINGER)
    }

    /// Whether there has been no progress for `after`, and that wasn't reported. `left` is the number of tasks that have not
    /// ended.
    fn is_new_stall(&mut self, activity: (u64, u64), left: u64, after: Duration) -> bool {
        if self.activity != activity || left == 0 {
            (self.activity, self.since, self.reported) = (activity, Instant::now(), false);
            return false;
        }
        let is_new = !self.reported && self.since.elapsed() >= after;
        self.reported |= is_new;
        is_new
    }

    /// Returns those of the polls that have lasted for `after` and were not reported, and notes them as reported.
    fn new_blocked(&mut self, polls: &[CurrentPoll], after: Duration) -> Vec<PollId> {
        self.blocked.retain(|known| polls.iter().any(|poll| id(poll) == *known));
        let is_long = |poll: &&CurrentPoll| poll.lasted.is_some_and(|lasted| lasted >= after);
        let mut new: Vec<_> = polls.iter().filter(is_long).map(id).collect();
        new.retain(|id| !self.blocked.contains(id));
        self.blocked.extend(&new);
        new
    }
}

/// The number of a worker, and that of its poll.
type PollId = (usize, usize);

fn id(poll: &CurrentPoll) -> PollId {
    (poll.worker, poll.poll.number())
}

/// Calls `hook` whenever there was no progress for `after`, or a worker was in one poll for that long.
pub(crate) fn watch(core: &CoreRef, after: Duration, hook: Hook) {
    let recorder = Recorder::start(core);
    let (core, last) = (core.clone(), Lock::new(LastCheck::new()));
    Arc::new(StallWatch { core, recorder, after, hook, last }).schedule();
}

impl StallWatch {
    /// Sets the timer of the next check.
    fn schedule(self: Arc<Self>) {
        let (recorder, core) = (self.recorder.clone(), self.core.clone());
        // A stall is reported late by at most that.
        let timer = alarm((self.after / 4).max(SHORTEST), Waker::from(self));
        recorder.set_next_stall_check(Some(NextCheck::ByTimer { _timer: timer }));
        drop_if_closed(&core, &recorder);
    }

    /// Makes no further check until there is a task again.
    fn pause(self: Arc<Self>) {
        let (recorder, core) = (self.recorder.clone(), self.core.clone());
        recorder.pause_stall_checks(Box::new(move || self.schedule()));
        drop_if_closed(&core, &recorder);
    }

    /// Returns whether no task has been left for a while.
    fn check(&self) -> bool {
        let counts = self.recorder.functions.counts();
        let ended = |count: &Counts| count.submitted - count.left();
        let changes = counts.iter().map(|count| count.submitted + ended(count)).sum();
        let left = counts.iter().map(|count| count.left()).sum();
        let activity = (self.recorder.record().revision, changes);
        let polls = self.core.current_polls();
        let (is_idle, is_stall, idle_for, blocked) = {
            let last = &mut *self.last.lock();
            let is_idle = last.is_idle(activity, left, || self.recorder.want_any());
            let is_stall = last.is_new_stall(activity, left, self.after);
            // A stall is reported with all polls that were seen before: what they do may be the cause.
            let after = if is_stall { Duration::ZERO } else { self.after };
            (is_idle, is_stall, last.since.elapsed(), last.new_blocked(&polls, after))
        };
        if !is_stall && blocked.is_empty() {
            return is_idle;
        }
        // The hook is user code and may block, so it must not run on the thread that serves all timers.
        let (core, recorder) = (self.core.clone(), self.recorder.clone());
        let hook = self.hook.clone();
        let report = move || {
            let is_wanted = |poll: &CurrentPoll| match is_stall {
                true => poll.lasted.is_some(),
                false => blocked.contains(&id(poll)),
            };
            let blocked = explain::blocked(Some(&recorder), &core, None, is_wanted);
            let reasons = if is_stall { roots(&core, &recorder) } else { Vec::new() };
            // The polls may have ended just now.
            if is_stall || !blocked.is_empty() {
                let stall = Stall { idle_for, left, blocked, reasons };
                core.run_user_code(|| hook(&stall));
            }
        };
        // Nor on one for blocking work: those may be what the tasks wait for.
        let options = &self.core.threads.options;
        let thread = options.thread(&format!("{}-stall", self.core.name));
        if let Err(error) = thread.spawn(report) {
            log::error!("ensue: the system refused the thread that reports a stall: {error}");
        }
        false
    }
}

/// Closing drops the next check, but may have done so before this one was set.
fn drop_if_closed(core: &CoreRef, recorder: &Recorder) {
    if core.is_closed() {
        recorder.set_next_stall_check(None);
    }
}

impl Wake for StallWatch {
    fn wake(self: Arc<Self>) {
        if self.check() { self.pause() } else { self.schedule() }
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
    let survey = Survey::of(core);
    let explain = |task: &Task| Explanation::among(&survey, task.as_ref());
    let mut roots: Vec<_> = survey.waits().in_cycles(SHOWN).iter().map(explain).collect();
    roots.extend(polled);
    roots.truncate(SHOWN);
    let mut others = Vec::new();
    for task in inspect::live(core) {
        if roots.len() >= SHOWN {
            break;
        }
        let status = status(task.as_ref());
        if !matches!(status, Status::Ready | Status::Running | Status::Delayed) {
            continue;
        }
        let is_suspended = task.state.load() & (RUNNING | QUEUED | PAUSED) == 0;
        if is_suspended && survey.waits().is_waiting(task.as_ref()) {
            others.push(task);
        } else if roots.iter().all(|root| root.key != *task.key()) {
            roots.push(explain(&task));
        }
    }
    if roots.is_empty() {
        return others.iter().take(SHOWN).map(explain).collect();
    }
    roots
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{self, Receiver};
    use std::thread;

    use super::*;
    use crate::Client;

    const LIMIT: Duration = Duration::from_secs(60);

    fn client() -> (Client, Receiver<u64>) {
        let (send, stalls) = mpsc::channel();
        let hook = move |stall: &Stall| send.send(stall.left).unwrap_or_default();
        (Client::builder().workers(1).on_stall(Duration::ZERO, hook).build(), stalls)
    }

    /// Waits until no check will be made without a further task.
    fn until_paused(client: &Client, stalls: &Receiver<u64>) {
        let begin = Instant::now();
        while !Recorder::find(client.core()).unwrap().are_stall_checks_paused() {
            assert!(begin.elapsed() < LIMIT, "checks are made for a minute");
            thread::sleep(Duration::from_millis(1));
        }
        while stalls.try_recv().is_ok() {}
    }

    #[test]
    fn a_new_task_continues_the_checks_which_end_if_none_is_left() {
        let (client, stalls) = client();
        for _ in 0..2 {
            until_paused(&client, &stalls);
            client.submit(async || (), ()).result().unwrap();
            until_paused(&client, &stalls);
            let stuck = client.spawn(pending::<()>());
            assert_eq!(stalls.recv_timeout(LIMIT), Ok(1));
            drop(stuck);
        }
    }

    #[test]
    fn a_retry_and_a_wait_for_another_client_continue_the_checks() {
        let (client, stalls) = client();
        let is_fine = Arc::new(AtomicBool::new(false));
        let probe = is_fine.clone();
        let failed = client.try_submit(
            move || {
                let is_fine = probe.load(Ordering::SeqCst);
                async move { if is_fine { Ok(pending::<u64>().await) } else { Err("not yet") } }
            },
            (),
        );
        failed.result().unwrap_err();
        until_paused(&client, &stalls);
        is_fine.store(true, Ordering::SeqCst);
        assert!(failed.retry());
        assert_eq!(stalls.recv_timeout(LIMIT), Ok(1));
        drop(failed);
        until_paused(&client, &stalls);
        let other = Client::builder().workers(1).build();
        let never = other.spawn(pending::<u64>());
        let _waits = client.submit(async |x: u64| x, &never);
        assert_eq!(stalls.recv_timeout(LIMIT), Ok(1));
    }

    #[test]
    fn a_client_whose_checks_are_paused_is_freed() {
        let (client, stalls) = client();
        until_paused(&client, &stalls);
        drop(client);
        // The hook is dropped with the client, and with it the sender.
        assert_eq!(stalls.recv_timeout(LIMIT), Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
