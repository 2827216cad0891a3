//! The model of what tasks wait for: rings, priorities, and time.

use super::model::{Id, Model, Phase, Why};

impl Model {
    /// *Free*: which of the ready tasks of the highest priority.
    pub(crate) fn check_order(&mut self, id: Id) {
        let own = self.tasks[id].ceiling;
        let lent = self.lent();
        let before = (0..self.tasks.len())
            .find(|other| *other != id && lent[*other] > own && self.is_runnable(*other));
        if let Some(other) = before {
            let by = lent[other];
            self.expect(false, || {
                format!("t{id} of priority {own} at most ran before t{other} of {by} at least")
            });
        }
    }

    /// It begins to await these: whether that closes a ring.
    pub(crate) fn awaits(&mut self, id: Id, others: &[Id]) -> bool {
        let priority = self.tasks[id].ceiling;
        for other in others {
            if self.tasks[*other].outcome().is_none() {
                self.tasks[id].noted.push(*other);
                self.lend(*other, priority);
            }
        }
        self.reaches(others, id)
    }

    /// It has given up what it had begun to await.
    pub(crate) fn forget_awaits(&mut self, id: Id, others: &[Id]) {
        for other in others {
            let noted = &mut self.tasks[id].noted;
            if let Some(at) = noted.iter().rposition(|noted| noted == other) {
                noted.remove(at);
            }
        }
    }

    pub(crate) fn reaches(&self, from: &[Id], to: Id) -> bool {
        let mut seen: Vec<Id> = from.to_vec();
        seen.retain(|id| self.tasks[*id].outcome().is_none());
        let mut at = 0;
        while at < seen.len() {
            let id = seen[at];
            at += 1;
            if id == to {
                return true;
            }
            for next in self.waits_for(id) {
                if !seen.contains(&next) {
                    seen.push(next);
                }
            }
        }
        false
    }

    /// What the task waits for as far as priorities and rings go: `as_completed` and `wait_*` don't count.
    pub(crate) fn waits_for(&self, id: Id) -> Vec<Id> {
        let task = &self.tasks[id];
        let mut ids = match &task.phase {
            Phase::Waiting => task.inputs.clone(),
            Phase::Suspended(Why::One(one)) => vec![*one],
            Phase::Suspended(Why::Gather(ids) | Why::Settled(ids)) => ids.clone(),
            _ => Vec::new(),
        };
        ids.retain(|id| self.tasks[*id].outcome().is_none());
        ids
    }

    /// Raises the ceiling of a task and of what it waits for.
    pub(crate) fn lend(&mut self, id: Id, priority: i32) {
        if self.tasks[id].outcome().is_some() || self.tasks[id].ceiling >= priority {
            return;
        }
        self.tasks[id].ceiling = priority;
        let mut others = self.waits_for(id);
        others.extend(&self.tasks[id].noted);
        others.into_iter().for_each(|other| self.lend(other, priority));
    }

    /// The priority of each task, with what is lent to it now.
    pub(crate) fn lent(&self) -> Vec<i32> {
        let mut lent: Vec<_> = self.tasks.iter().map(|task| task.plan.priority).collect();
        let mut changed = true;
        while changed {
            changed = false;
            for id in 0..lent.len() {
                for other in self.waits_for(id) {
                    if lent[other] < lent[id] {
                        lent[other] = lent[id];
                        changed = true;
                    }
                }
            }
        }
        lent
    }

    /// Whether the task is surely in a queue. One that needs a limit may have to wait for its turn.
    pub(crate) fn is_runnable(&self, id: Id) -> bool {
        let task = &self.tasks[id];
        let ended = |id: &Id| self.tasks[*id].outcome().is_some();
        match &task.phase {
            Phase::Ready | Phase::Delayed(None) => !task.is_limited(),
            Phase::Suspended(why) => match why {
                Why::Yielded => true,
                Why::One(one) => ended(one),
                Why::Gather(ids) => {
                    ids.iter().any(|id| self.tasks[*id].has_failed()) || ids.iter().all(ended)
                }
                Why::Settled(ids) | Why::All(ids) => ids.iter().all(ended),
                Why::Any(ids, _) => ids.iter().any(ended),
                Why::Stream(stream) => {
                    self.streams[*stream].members.iter().any(|(_, at)| at.is_some())
                }
                Why::Sleeps(_) | Why::Hangs | Why::Close => false,
            },
            _ => false,
        }
    }

    /// The clock is seen to have moved: only if nothing was ready, and to the first timer.
    pub(crate) fn clock_to(&mut self, to: u64, by: Id) {
        if to <= self.now {
            return;
        }
        let runnable = (0..self.tasks.len()).find(|id| *id != by && self.is_runnable(*id));
        if let Some(other) = runnable {
            self.expect(false, || format!("the clock moved for t{by} while t{other} was ready"));
        }
        let first = self.timers().into_iter().min_by_key(|(at, _)| *at);
        if let Some((first, other)) = first {
            self.expect(to <= first, || {
                format!("the clock moved to {to} for t{by} past {first}, when t{other} was due")
            });
        }
        self.now = to;
    }

    pub(crate) fn timers(&self) -> Vec<(u64, Id)> {
        let mut timers = Vec::new();
        for (id, task) in self.tasks.iter().enumerate() {
            match task.phase {
                Phase::Suspended(Why::Sleeps(at) | Why::Any(_, Some(at))) => timers.push((at, id)),
                // It may be over, and the task wait for its limit.
                Phase::Delayed(Some(at)) if !task.is_limited() => timers.push((at, id)),
                _ => {}
            }
            timers.extend(task.deadline.map(|at| (at, id)));
        }
        timers
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }
}
