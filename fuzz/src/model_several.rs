//! Awaits of several things at once, and forgotten ones, in the model.
//!
//! Which of them the engine still knows of when it looks for cycles is not modelled. Instead, a task of a script that
//! has such awaits begins no await that might close a cycle, by any reading.

use super::model::{Id, Model, Outcome, Phase, Suspension};
use super::model_scheduling::reaches;

impl Suspension {
    /// Returns what is awaited at once: itself, or its parts.
    pub(crate) fn parts(&self) -> Vec<&Self> {
        match self {
            Self::Several(parts) => parts.iter().flat_map(Self::parts).collect(),
            one => vec![one],
        }
    }

    /// Returns the tasks whose ends it awaits, except by streams.
    fn tasks(&self) -> Vec<Id> {
        let tasks = |part: &Self| match part {
            Self::One(id) => vec![*id],
            Self::Gather(ids) | Self::Settled(ids) | Self::Any(ids, _) | Self::All(ids) => {
                ids.clone()
            }
            _ => Vec::new(),
        };
        self.parts().into_iter().flat_map(tasks).collect()
    }

    fn streams(&self) -> Vec<usize> {
        let stream = |part: &Self| match part {
            Self::Stream(stream) => Some(*stream),
            _ => None,
        };
        self.parts().into_iter().filter_map(stream).collect()
    }
}

impl Model {
    /// Returns all that the task awaits, or has forgotten while it was pending.
    fn suspensions(&self, id: Id) -> impl Iterator<Item = &Suspension> {
        let task = &self.tasks[id];
        let current = match &task.phase {
            Phase::Suspended(suspension) => Some(suspension),
            _ => None,
        };
        current.into_iter().chain(&task.forgotten)
    }

    /// Returns the streams that the task waits for.
    pub(crate) fn awaited_streams(&self, id: Id) -> Vec<usize> {
        self.suspensions(id).flat_map(Suspension::streams).collect()
    }

    /// Returns the tasks that may have been lent the priority of this one by an await of several things at once.
    pub(crate) fn awaited_at_once(&self, id: Id) -> Vec<Id> {
        let mut ids: Vec<_> = self
            .suspensions(id)
            .filter(|suspension| matches!(suspension, Suspension::Several(_)))
            .chain(&self.tasks[id].forgotten)
            .flat_map(Suspension::tasks)
            .collect();
        for stream in self.awaited_streams(id) {
            ids.extend(self.streams[stream].members.iter().map(|member| member.0));
        }
        ids
    }

    /// Lends the task's priority to what a part of its await waits for, also if the await ends in this poll.
    pub(crate) fn lend_by_part(&mut self, id: Id, part: &Suspension) {
        let priority = self.tasks[id].ceiling;
        self.lend_to(id, &part.tasks());
        for stream in part.streams() {
            let ceiling = &mut self.streams[stream].ceiling;
            *ceiling = (*ceiling).max(Some(priority));
        }
        self.lend_all();
    }

    /// Records that a task forgets an await.
    pub(crate) fn forget(&mut self, by: Id, suspension: Suspension) {
        self.tasks[by].forgotten.push(suspension);
    }

    /// Whether a task that awaits `others` may become part of a cycle, also by a retry of tasks that have ended.
    pub(crate) fn may_close_cycle(&self, id: Id, others: &[Id]) -> bool {
        reaches(others.to_vec(), id, |next| {
            let task = &self.tasks[next];
            let inputs = match task.phase {
                Phase::Waiting | Phase::Ended(Outcome::Error(..)) => &task.inputs[..],
                _ => &[],
            };
            let awaited = self.suspensions(next).flat_map(Suspension::tasks);
            awaited.chain(inputs.iter().copied()).chain(task.awaited.clone()).collect()
        })
    }
}
