//! Queries and checks of the model between steps.

use ensue::{Error, ErrorKind, Status};

use super::model::{Id, Model, Outcome, Phase, Suspension};

impl Model {
    /// Checks a reported status. *Free*: the status between attempts, and while waiting for a limit.
    pub(crate) fn check_status(&mut self, id: Id, status: Status) {
        let phase = self.tasks[id].phase.clone();
        let right = match phase {
            Phase::Waiting => status == Status::Waiting,
            Phase::Ready => status == Status::Ready,
            Phase::Running | Phase::Suspended(_) | Phase::Deciding(_) => status == Status::Running,
            Phase::Delayed(_) => {
                matches!(status, Status::Delayed | Status::Ready | Status::Running)
            }
            Phase::Ended(outcome) => Self::status_matches(outcome, status),
        };
        self.expect(right, || format!("t{id} is {phase:?} but reports `{status}`"));
    }

    pub(crate) fn status_matches(outcome: Outcome, status: Status) -> bool {
        status
            == match outcome {
                Outcome::Value => Status::Finished,
                Outcome::Error(ErrorKind::Cancelled | ErrorKind::Closed, _) => Status::Cancelled,
                Outcome::Error(..) => Status::Failed,
            }
    }

    /// Whether the outcome is this error.
    pub(crate) fn matches_error(&self, outcome: Outcome, error: &Error) -> bool {
        match outcome {
            Outcome::Value => false,
            Outcome::Error(kind, origin) => {
                kind == error.kind() && origin.is_none_or(|id| self.has_name(id, error.origin()))
            }
        }
    }

    pub(crate) fn ended_at(&self, id: Id) -> u64 {
        self.tasks[id].ended_at
    }

    /// Whether a task has failed since the last operation from outside or the last poll.
    pub(crate) fn failed_this_instant(&self) -> bool {
        self.tasks.iter().any(|task| task.has_failed() && task.ended_at == self.instant)
    }

    /// Whether a task is running or can still run, except for those that await `idle` or `close`.
    pub(crate) fn is_busy(&self) -> bool {
        (0..self.tasks.len()).any(|id| self.is_busy_with(id))
    }

    pub(crate) fn is_busy_with(&self, id: Id) -> bool {
        let task = &self.tasks[id];
        match task.phase {
            Phase::Ready => true,
            Phase::Running | Phase::Delayed(_) | Phase::Deciding(_) | Phase::Suspended(_) => {
                task.exempt == 0
            }
            _ => false,
        }
    }

    /// Records that the client is idle, if it is.
    pub(crate) fn note_idle(&mut self) {
        if !self.is_busy() {
            self.idle_at = self.instant;
        }
    }

    /// Checks, with nothing ready and no timer left, that each unfinished task has a reason to wait.
    pub(crate) fn check_stuck(&mut self) {
        for id in 0..self.tasks.len() {
            let task = &self.tasks[id];
            let stuck = match &task.phase {
                Phase::Ended(_) | Phase::Waiting => true,
                Phase::Suspended(suspension) => {
                    let mut parts = suspension.parts().into_iter();
                    let ends =
                        parts.any(|part| matches!(part, Suspension::Close | Suspension::Idle));
                    !self.is_runnable(id) && (!ends || self.is_busy())
                }
                // Another task holds the limit, or is before it in the queue.
                Phase::Ready | Phase::Delayed(None) => task.is_limited() && self.used != [0, 0],
                Phase::Delayed(Some(at)) => {
                    task.is_limited() && *at <= self.now && self.used != [0, 0]
                }
                Phase::Running | Phase::Deciding(_) => false,
            };
            let phase = task.phase.clone();
            self.expect(stuck, || format!("all tasks are idle, yet t{id} is {phase:?}"));
        }
        if let Some((at, id)) = self.timers().first().copied() {
            self.expect(false, || format!("all tasks are idle, yet t{id} has a timer at {at}"));
        }
    }
}
