//! What is asked of the model between steps.

use ensue::{Error, ErrorKind, Status};

use super::model::{Id, Model, Outcome, Phase, Why};

impl Model {
    /// *Free*: what a task between attempts says, and how far one that awaits a limit is.
    pub(crate) fn check_status(&mut self, id: Id, status: Status) {
        let phase = self.tasks[id].phase.clone();
        let right = match phase {
            Phase::Waiting => status == Status::Waiting,
            Phase::Ready => status == Status::Ready,
            Phase::Running | Phase::Suspended(_) | Phase::Deciding(_) => status == Status::Running,
            Phase::Delayed(_) => {
                matches!(status, Status::Delayed | Status::Ready | Status::Running)
            }
            Phase::Ended(outcome) => Self::says(outcome, status),
        };
        self.expect(right, || format!("t{id} is {phase:?}, and says `{status}`"));
    }

    pub(crate) fn says(outcome: Outcome, status: Status) -> bool {
        status
            == match outcome {
                Outcome::Value => Status::Finished,
                Outcome::Error(ErrorKind::Cancelled | ErrorKind::Closed, _) => Status::Cancelled,
                Outcome::Error(..) => Status::Failed,
            }
    }

    /// Whether that outcome is this error.
    pub(crate) fn fits(&self, outcome: Outcome, error: &Error) -> bool {
        match outcome {
            Outcome::Value => false,
            Outcome::Error(kind, origin) => {
                kind == error.kind() && origin.is_none_or(|id| self.is_called(id, error.origin()))
            }
        }
    }

    pub(crate) fn ended_at(&self, id: Id) -> u64 {
        self.tasks[id].ended_at
    }

    /// Whether a task has failed since the last that was done from outside or polled.
    pub(crate) fn fails_just_now(&self) -> bool {
        self.tasks.iter().any(|task| task.has_failed() && task.ended_at == self.instant)
    }

    /// Whether anything is left to run or running, apart from tasks that wait for just that.
    pub(crate) fn is_busy(&self) -> bool {
        self.tasks.iter().any(|task| match task.phase {
            Phase::Ready | Phase::Running | Phase::Delayed(_) | Phase::Deciding(_) => true,
            Phase::Suspended(ref why) => *why != Why::Close,
            _ => false,
        })
    }

    /// With nothing ready and no timer left, what has not ended must have a reason.
    pub(crate) fn check_stuck(&mut self) {
        for id in 0..self.tasks.len() {
            let task = &self.tasks[id];
            let stuck = match &task.phase {
                Phase::Ended(_) | Phase::Waiting => true,
                Phase::Suspended(Why::Close) => self.is_busy(),
                Phase::Suspended(_) => !self.is_runnable(id),
                // Somebody has what it needs, or is before it.
                Phase::Ready | Phase::Delayed(None) => task.is_limited() && self.used != [0, 0],
                Phase::Delayed(Some(at)) => {
                    task.is_limited() && *at <= self.now && self.used != [0, 0]
                }
                Phase::Running | Phase::Deciding(_) => false,
            };
            let phase = task.phase.clone();
            self.expect(stuck, || format!("nothing runs any more, and t{id} is {phase:?}"));
        }
        if let Some((at, id)) = self.timers().first().copied() {
            self.expect(false, || format!("nothing runs any more, and t{id} has a timer at {at}"));
        }
    }
}
