//! The outcomes of tasks in the model: their propagation to dependents, `retry`, and closing.

use ensue::ErrorKind;

use super::model::{Id, Life, Model, Outcome, Phase};

impl Model {
    /// Retries the task and its failed inputs, and returns the expected result of `Handle::retry`.
    pub(crate) fn retry(&mut self, id: Id) -> bool {
        self.retries += 1;
        let mut all = vec![id];
        let mut at = 0;
        while at < all.len() {
            let task = &self.tasks[all[at]];
            at += 1;
            let Some(Outcome::Error(kind, _)) = task.outcome() else { return false };
            let for_good = matches!(kind, ErrorKind::Cancelled | ErrorKind::Closed);
            if for_good || self.is_closed() || !task.retryable {
                return false;
            }
            let failed = task.inputs.iter().copied().filter(|id| self.tasks[*id].has_failed());
            let failed: Vec<_> = failed.filter(|id| !all.contains(id)).collect();
            for id in failed {
                if !all.contains(&id) {
                    all.push(id);
                }
            }
        }
        for id in all.iter().copied() {
            let task = &mut self.tasks[id];
            task.phase = if task.started { Phase::Ready } else { Phase::Waiting };
            task.started = false;
            task.failures = 0;
            task.retried += 1;
        }
        // Inputs follow their dependents in `all`, so a priority reaches all inputs in one pass.
        for id in all {
            let priority = self.tasks[id].ceiling;
            self.waits_for(id).into_iter().for_each(|input| self.lend(input, priority));
        }
        self.settle();
        true
    }

    // Ending

    pub(crate) fn end(&mut self, id: Id, outcome: Outcome) {
        self.free_limits(id);
        self.instant_of_end(id);
        let task = &mut self.tasks[id];
        let kind = match outcome {
            Outcome::Value => None,
            Outcome::Error(kind, _) => Some(kind),
        };
        // A cancelled or closed task can't be retried.
        let lost = matches!(kind, None | Some(ErrorKind::Cancelled | ErrorKind::Closed));
        let again = task.plan.rerunnable || !task.started;
        // One that never started needs its failed inputs to run again, too.
        let has_lost_input = !self.tasks[id].started
            && self.tasks[id]
                .inputs
                .iter()
                .any(|input| self.tasks[*input].has_failed() && !self.tasks[*input].retryable);
        let task = &mut self.tasks[id];
        task.retryable &= !lost && again && !has_lost_input;
        if !task.retryable {
            task.inputs.clear();
            task.args.clear();
        }
        task.phase = Phase::Ended(outcome);
        task.aborting = None;
        task.deadline = None;
        task.awaited.clear();
        task.callbacks_due += std::mem::take(&mut task.callbacks);
        let inherited =
            self.tasks.iter().any(|other| other.outcome().is_none() && other.inputs.contains(&id));
        self.tasks[id].observed |= inherited;
    }

    pub(crate) fn instant_of_end(&mut self, id: Id) {
        self.tasks[id].ended_at = self.instant;
        for (_, at) in self
            .streams
            .iter_mut()
            .flat_map(|stream| &mut stream.members)
            .filter(|member| member.0 == id)
        {
            at.get_or_insert(self.instant);
        }
    }

    /// Whether the stream has a member that has ended, and wasn't retried since.
    pub(crate) fn has_ended_member(&self, stream: usize) -> bool {
        let mut members = self.streams[stream].members.iter();
        members.any(|(id, at)| at.is_some() && self.tasks[*id].outcome().is_some())
    }

    /// Makes the stream wait again for members that were retried after they had ended.
    pub(crate) fn put_back(&mut self, stream: usize) {
        for (id, at) in &mut self.streams[stream].members {
            if self.tasks[*id].outcome().is_none() {
                *at = None;
            }
        }
    }

    /// Applies `settle_one` to all tasks until nothing changes.
    pub(crate) fn settle(&mut self) {
        let mut changed = true;
        while changed {
            changed = false;
            // Users are counted once per round, since counting dominates a run's time. They only become
            // fewer, and each change starts another round.
            let users = self.all_users();
            for (id, users) in users.into_iter().enumerate() {
                if users == 0 {
                    self.forget_key(id);
                    self.tasks[id].abandoned = true;
                }
                changed |= self.settle_one(id, users);
            }
        }
        self.note_idle();
    }

    pub(crate) fn settle_one(&mut self, id: Id, users: usize) -> bool {
        let abandoned = Outcome::Error(ErrorKind::Cancelled, None);
        let used = users > 0;
        let closed = self.is_closed();
        let inputs: Vec<_> = match &self.tasks[id] {
            task if task.phase == Phase::Waiting => {
                task.inputs.iter().map(|input| self.tasks[*input].outcome()).collect()
            }
            _ => Vec::new(),
        };
        let task = &mut self.tasks[id];
        let needed = used || task.detached;
        match task.phase {
            Phase::Ended(_) => {
                if used || task.inputs.is_empty() && task.args.is_empty() {
                    return false;
                }
                task.inputs.clear();
                task.args.clear();
            }
            Phase::Running | Phase::Deciding(_) => {
                if needed || task.aborting.is_some() {
                    return false;
                }
                task.aborting = Some(abandoned);
            }
            _ if !needed => self.end(id, abandoned),
            Phase::Waiting => {
                let failed = inputs.iter().flatten().find(|outcome| **outcome != Outcome::Value);
                if let Some(failed) = failed {
                    self.end(id, *failed);
                } else if inputs.iter().all(Option::is_some) {
                    task.phase = Phase::Ready;
                } else {
                    return false;
                }
            }
            Phase::Ready if closed => self.end(id, Outcome::Error(ErrorKind::Closed, None)),
            _ => return false,
        }
        true
    }

    // Closing

    /// Releases one reference that keeps the client open, and aborts the client with the last one.
    pub(crate) fn drop_client(&mut self) {
        self.clients -= 1;
        if self.clients == 0 {
            self.close(true, false);
        }
    }

    /// Begins `close`, or aborts a dropped client. *Free*: which of the closed tasks is named as origin.
    pub(crate) fn close(&mut self, abort: bool, inside: bool) {
        if abort {
            self.life = Life::Aborted;
        } else if self.life == Life::Open {
            self.life = Life::Closing;
        }
        let started = abort || !(self.worker || inside);
        self.refuse(started);
    }

    /// Ends started tasks of a closed client without a worker: they can't be resumed.
    pub(crate) fn refuse_without_worker(&mut self) {
        if self.is_closed() && !self.worker {
            self.refuse(true);
        }
    }

    /// Ends the queued tasks with `Closed`, and the suspended ones too if `started`.
    pub(crate) fn refuse(&mut self, started: bool) {
        for id in 0..self.tasks.len() {
            match self.tasks[id].phase {
                Phase::Suspended(_) if !started => {}
                Phase::Ready | Phase::Delayed(_) | Phase::Suspended(_) => {
                    self.end(id, Outcome::Error(ErrorKind::Closed, None));
                }
                _ => {}
            }
        }
        self.settle();
    }
}
