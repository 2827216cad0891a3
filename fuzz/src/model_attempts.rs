//! The attempts of a task in the model: reports of its instrumented code, and the ends of attempts.

use ensue::ErrorKind;

use super::model::{Id, Life, Model, Outcome, Phase, Suspension};
use super::script::When;

impl Model {
    /// Begins an attempt: the function is called, which takes the inputs.
    pub(crate) fn start(&mut self, id: Id) {
        let task = &self.tasks[id];
        let (phase, due) =
            (task.phase.clone(), matches!(task.phase, Phase::Ready | Phase::Delayed(_)));
        self.expect(due, || format!("t{id} was started while {phase:?}"));
        if let Phase::Delayed(Some(due)) = phase {
            self.clock_to(due, id);
        }
        self.last = None;
        self.check_order(id);
        let needs = self.tasks[id].plan.limits;
        for (at, need) in needs.into_iter().enumerate() {
            self.used[at] += need;
            let fits = self.used[at] <= self.capacity[at];
            self.expect(fits, || format!("t{id} exceeds limit {at}"));
        }
        let now = self.now;
        let task = &mut self.tasks[id];
        task.holds_limits = true;
        task.deadline = task.plan.timeout.map(|timeout| now + timeout);
        task.phase = Phase::Running;
        task.awaited.clear();
        task.runs += 1;
        if !task.started {
            task.started = true;
            // A later attempt uses the arguments that the first one took.
            if task.args.is_empty() {
                task.args = std::mem::take(&mut task.inputs);
            }
            if !task.plan.rerunnable {
                task.args.clear();
            }
        }
        self.instant += 1;
        self.settle();
    }

    /// Begins a later poll of an attempt.
    pub(crate) fn resume(&mut self, id: Id) {
        let phase = self.tasks[id].phase.clone();
        let suspended = matches!(phase, Phase::Suspended(_));
        self.expect(suspended, || format!("t{id} was polled while {phase:?}"));
        self.check_order(id);
        self.last = None;
        let task = &mut self.tasks[id];
        task.phase = Phase::Running;
        task.awaited.clear();
        self.instant += 1;
    }

    /// Ends a poll without an outcome.
    pub(crate) fn suspend(&mut self, id: Id, suspension: Suspension, progress: bool) {
        self.last = Some((id, progress));
        // The poll has lent its priority, also if it was the last one.
        let running = std::mem::replace(&mut self.tasks[id].phase, Phase::Suspended(suspension));
        self.lend_all();
        if self.tasks[id].deadline.is_some_and(|deadline| deadline <= self.now) {
            // The engine drops the body at once, which reports the timeout.
            self.tasks[id].phase = running;
            return;
        }
        let aborted = self.life == Life::Aborted;
        if let Some(outcome) = self.tasks[id].aborting {
            self.end(id, outcome);
        } else if aborted {
            self.end(id, Outcome::Error(ErrorKind::Closed, None));
        }
        self.settle();
        self.tasks[id].in_cycle = self.is_in_cycle(id);
    }

    /// Returns the timeout error if that's why the body of an attempt is about to be dropped. The engine
    /// polls the body once more before it checks the deadline.
    pub(crate) fn is_over(&mut self, id: Id) -> Option<Outcome> {
        let task = &self.tasks[id];
        let (deadline, (last, progress)) = (task.deadline?, self.last?);
        let fits = match task.phase {
            // The last worker of a closed client doesn't wait for it, so it isn't its timeout.
            Phase::Suspended(_) if self.is_closed() && task.exempt > 0 && !self.is_busy() => false,
            // That last poll may make progress when its await now fails with a cycle.
            Phase::Suspended(_) => !progress || !self.is_closed() || self.worker,
            Phase::Running => deadline <= self.now,
            _ => false,
        };
        if last != id || !fits {
            return None;
        }
        self.clock_to(deadline, id);
        self.tasks[id].phase = Phase::Running;
        Some(Outcome::Error(ErrorKind::TimedOut, Some(id)))
    }

    /// Ends an attempt whose body was dropped, with its outcome if it had one.
    pub(crate) fn stop(&mut self, id: Id, outcome: Option<Outcome>) {
        match (&self.tasks[id].phase, outcome) {
            (Phase::Running, Some(outcome)) => self.conclude(id, outcome),
            (Phase::Ended(_), _) => {}
            (_, None) if self.lenient && !matches!(self.tasks[id].phase, Phase::Suspended(_)) => {
                self.abandon(id);
            }
            (Phase::Suspended(_), _) if self.is_closed() && !self.worker => self.refuse(true),
            // The last worker of a closed client doesn't wait for a task that awaits `idle` or `close`.
            (Phase::Suspended(_), _) if self.is_closed() && self.tasks[id].exempt > 0 => {
                self.end(id, Outcome::Error(ErrorKind::Closed, None));
                self.settle();
            }
            (Phase::Suspended(_), _) => {
                let lenient = self.lenient;
                self.expect(lenient, || format!("t{id} was dropped though it's needed"));
                self.abandon(id);
            }
            (phase, _) => {
                let phase = phase.clone();
                self.expect(false, || format!("t{id} was dropped while {phase:?}"));
            }
        }
    }

    pub(crate) fn abandon(&mut self, id: Id) {
        self.abandoned_in_await.push(id);
        self.end(id, Outcome::Error(ErrorKind::Cancelled, None));
        self.settle();
    }

    /// Checks that the tasks abandoned since `from` had no user left.
    pub(crate) fn check_abandoned(&mut self, from: usize) {
        for id in self.abandoned_in_await.split_off(from) {
            let needed = self.is_needed(id);
            self.expect(!needed, || format!("t{id} was dropped in an await though it's needed"));
        }
    }

    /// Handles the drop of the last copy of the function: the task is about to start, or has ended.
    pub(crate) fn drop_function(&mut self, id: Id, clone_panicked: bool) {
        if self.undecided == Some(id) {
            return;
        }
        let phase = self.tasks[id].phase.clone();
        let lost = self.lost_input(id);
        match phase {
            Phase::Ready | Phase::Delayed(_) if clone_panicked => {
                if let Phase::Delayed(Some(due)) = phase {
                    self.clock_to(due, id);
                }
                self.end_unstarted(id, Outcome::Error(ErrorKind::Panicked, Some(id)));
            }
            Phase::Ready if lost.is_some() => {
                self.end_unstarted(id, Outcome::Error(ErrorKind::Lost, lost));
            }
            Phase::Waiting | Phase::Ready | Phase::Delayed(_)
                if self.is_closed() && !self.worker =>
            {
                self.refuse(true);
            }
            Phase::Waiting | Phase::Ready | Phase::Delayed(_) => {
                let lenient = self.lenient;
                self.expect(lenient, || format!("t{id} was dropped while {phase:?}"));
                self.abandon(id);
            }
            _ => {}
        }
    }

    pub(crate) fn conclude(&mut self, id: Id, outcome: Outcome) {
        self.free_limits(id);
        let task = &mut self.tasks[id];
        task.deadline = None;
        task.awaited.clear();
        if let (Outcome::Error(..), Some(retry)) = (outcome, task.plan.retry) {
            if task.failures < retry.budget {
                task.failures += 1;
                task.phase = Phase::Deciding(outcome);
                if retry.when == When::Always {
                    self.decide(id, true);
                }
                return;
            }
        }
        self.end_attempts(id, outcome);
    }

    /// Ends the task after its last attempt.
    pub(crate) fn end_attempts(&mut self, id: Id, outcome: Outcome) {
        let task = &mut self.tasks[id];
        let Some(aborting) = task.aborting else {
            self.end(id, outcome);
            return self.settle();
        };
        self.end(id, aborting);
        self.settle();
    }

    /// Applies the retry predicate's decision.
    pub(crate) fn decide(&mut self, id: Id, again: bool) {
        let closed = self.is_closed();
        let now = self.now;
        let task = &mut self.tasks[id];
        let Phase::Deciding(outcome) = task.phase else {
            let phase = task.phase.clone();
            return self
                .expect(false, || format!("the predicate of t{id} was called while {phase:?}"));
        };
        let delay = task.plan.retry.map_or(0, |retry| u64::from(retry.delay));
        match task.aborting {
            // An aborted task ends instead of waiting for its next attempt.
            Some(aborting) if again && !closed => self.end(id, aborting),
            None if again && !closed => {
                task.phase = Phase::Delayed((delay > 0).then_some(now + delay));
            }
            _ => return self.end_attempts(id, outcome),
        }
        self.settle();
    }

    /// Replaces the attempt's error by the panic of the predicate.
    pub(crate) fn predicate_panicked(&mut self, id: Id) {
        self.tasks[id].phase = Phase::Deciding(Outcome::Error(ErrorKind::Panicked, Some(id)));
        self.decide(id, false);
    }

    /// Ends a task before its function was called, since an input's value was lost or its clone panicked.
    /// *Free*: the order, since a value dropped with it may have submitted other tasks.
    pub(crate) fn end_unstarted(&mut self, id: Id, outcome: Outcome) {
        self.tasks[id].retryable = false;
        self.tasks[id].started = true;
        self.end(id, outcome);
        self.settle();
    }

    pub(crate) fn lost_input(&self, id: Id) -> Option<Id> {
        self.tasks[id].inputs.iter().copied().find(|input| self.tasks[*input].moved_out)
    }

    pub(crate) fn free_limits(&mut self, id: Id) {
        let task = &mut self.tasks[id];
        if std::mem::take(&mut task.holds_limits) {
            for at in 0..2 {
                self.used[at] -= task.plan.limits[at];
            }
        }
    }
}
