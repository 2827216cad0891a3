//! Scheduling in the model: cycles of awaits, inherited priorities, and virtual time.

use super::model::{Id, Model, Phase, Suspension};

impl Model {
    /// Checks that no ready task has a higher priority. *Free*: the order among equal priorities.
    pub(crate) fn check_order(&mut self, id: Id) {
        self.lend_all();
        let own = self.tasks[id].ceiling;
        let priorities = self.effective_priorities();
        let before = (0..self.tasks.len())
            .find(|other| *other != id && priorities[*other] > own && self.is_runnable(*other));
        if let Some(other) = before {
            let by = priorities[other];
            self.expect(false, || {
                format!("t{id} of priority {own} at most ran before t{other} of {by} at least")
            });
        }
    }

    /// Records that the task begins to await `others`.
    pub(crate) fn awaits(&mut self, id: Id, others: &[Id]) {
        let priority = self.tasks[id].ceiling;
        for other in others {
            if self.tasks[*other].outcome().is_none() {
                self.tasks[id].awaited.push(*other);
                self.lend(*other, priority);
            }
        }
    }

    /// Lends the task's priority to `others`, for which it waits in a way that can't close a cycle.
    pub(crate) fn lend_to(&mut self, id: Id, others: &[Id]) {
        let priority = self.tasks[id].ceiling;
        others.iter().for_each(|other| self.lend(*other, priority));
    }

    /// Forgets awaits that the task abandoned.
    pub(crate) fn forget_awaits(&mut self, id: Id, others: &[Id]) {
        for other in others {
            let awaited = &mut self.tasks[id].awaited;
            if let Some(at) = awaited.iter().rposition(|awaited| awaited == other) {
                awaited.remove(at);
            }
        }
    }

    /// Whether the task is suspended in a cycle of tasks that nothing else can wake.
    pub(crate) fn is_in_cycle(&self, id: Id) -> bool {
        if !matches!(self.tasks[id].phase, Phase::Suspended(_)) {
            return false;
        }
        // The tasks that wait for each other only, or for tasks that do.
        let mut stuck: Vec<_> = (0..self.tasks.len()).collect();
        while let Some(at) = stuck.iter().position(|other| !self.is_stuck(*other, &stuck)) {
            stuck.remove(at);
        }
        let behind = |id: Id| {
            let mut ids = self.stuck_behind(id);
            ids.retain(|id| stuck.contains(id));
            ids
        };
        stuck.contains(&id) && reaches(behind(id), id, behind)
    }

    /// Whether the task waits forever if these do. A failed input, or a failed member of a `gather`, ends the wait.
    fn is_stuck(&self, id: Id, stuck: &[Id]) -> bool {
        let waits = self.stuck_behind(id);
        let mut are_stuck = waits.iter().map(|other| stuck.contains(other));
        match &self.tasks[id].phase {
            Phase::Suspended(Suspension::Settled(_)) => are_stuck.any(|is_stuck| is_stuck),
            _ => !waits.is_empty() && are_stuck.all(|is_stuck| is_stuck),
        }
    }

    /// Returns the tasks that the task waits for and without which nothing can wake it: the timer of its timeout may.
    fn stuck_behind(&self, id: Id) -> Vec<Id> {
        match self.tasks[id].deadline {
            None => self.waits_for(id),
            Some(_) => Vec::new(),
        }
    }

    /// Returns the tasks that matter for priorities and cycles: not those of `as_completed` and `wait_*`.
    pub(crate) fn waits_for(&self, id: Id) -> Vec<Id> {
        let task = &self.tasks[id];
        let mut ids = match &task.phase {
            Phase::Waiting => task.inputs.clone(),
            Phase::Suspended(Suspension::One(one)) => vec![*one],
            Phase::Suspended(Suspension::Gather(ids) | Suspension::Settled(ids)) => ids.clone(),
            _ => Vec::new(),
        };
        ids.retain(|id| self.tasks[*id].outcome().is_none());
        ids
    }

    /// Raises the ceiling of a task and of the tasks that it waits for.
    pub(crate) fn lend(&mut self, id: Id, priority: i32) {
        if self.tasks[id].outcome().is_some() || self.tasks[id].ceiling >= priority {
            return;
        }
        self.tasks[id].ceiling = priority;
        self.borrowers(id).into_iter().for_each(|other| self.lend(other, priority));
    }

    /// Raises the ceilings of all tasks that others wait for, in any way.
    pub(crate) fn lend_all(&mut self) {
        for id in 0..self.tasks.len() {
            let priority = self.tasks[id].ceiling;
            for stream in self.awaited_streams(id) {
                let ceiling = &mut self.streams[stream].ceiling;
                *ceiling = (*ceiling).max(Some(priority));
            }
            self.borrowers(id).into_iter().for_each(|other| self.lend(other, priority));
        }
        for stream in 0..self.streams.len() {
            let Some(priority) = self.streams[stream].ceiling else { continue };
            let members: Vec<_> =
                self.streams[stream].members.iter().map(|member| member.0).collect();
            members.into_iter().for_each(|member| self.lend(member, priority));
        }
    }

    /// Returns the tasks that a task may lend its priority to: all that it waits for.
    fn borrowers(&self, id: Id) -> Vec<Id> {
        let task = &self.tasks[id];
        if task.outcome().is_some() {
            return Vec::new();
        }
        let mut ids = self.waits_for(id);
        ids.extend(&task.awaited);
        ids.extend(self.awaited_at_once(id));
        match &task.phase {
            Phase::Suspended(Suspension::Any(others, _) | Suspension::All(others)) => {
                ids.extend(others);
            }
            Phase::Suspended(Suspension::Stream(stream)) => {
                ids.extend(self.streams[*stream].members.iter().map(|member| member.0));
            }
            _ => {}
        }
        // The model says neither which limit it waits for, nor when another task gets its own: before it starts.
        if task.is_limited() && !task.holds_limits {
            ids.extend((0..self.tasks.len()).filter(|other| self.tasks[*other].is_limited()));
        }
        ids
    }

    /// Returns the priority of each task, including priorities lent to it now.
    pub(crate) fn effective_priorities(&self) -> Vec<i32> {
        let mut priorities: Vec<_> = self.tasks.iter().map(|task| task.plan.priority).collect();
        let mut changed = true;
        while changed {
            changed = false;
            for id in 0..priorities.len() {
                for other in self.waits_for(id) {
                    if priorities[other] < priorities[id] {
                        priorities[other] = priorities[id];
                        changed = true;
                    }
                }
            }
        }
        priorities
    }

    /// Whether the task is certainly in a queue. One that needs a limit may wait for the limit instead.
    pub(crate) fn is_runnable(&self, id: Id) -> bool {
        let task = &self.tasks[id];
        match &task.phase {
            Phase::Ready | Phase::Delayed(None) => !task.is_limited(),
            Phase::Suspended(suspension) => self.is_woken(suspension),
            _ => false,
        }
    }

    /// Whether a task that is suspended so was certainly woken.
    fn is_woken(&self, suspension: &Suspension) -> bool {
        let ended = |id: &Id| self.tasks[*id].outcome().is_some();
        match suspension {
            Suspension::Yielded => true,
            Suspension::One(one) => ended(one),
            Suspension::Gather(ids) => {
                ids.iter().any(|id| self.tasks[*id].has_failed()) || ids.iter().all(ended)
            }
            Suspension::Settled(ids) | Suspension::All(ids) => ids.iter().all(ended),
            Suspension::Any(ids, _) => ids.iter().any(ended),
            Suspension::Stream(stream) => {
                self.streams[*stream].members.iter().any(|(_, at)| at.is_some())
            }
            Suspension::Several(parts) => parts.iter().any(|part| self.is_woken(part)),
            Suspension::Sleeps(_) | Suspension::Hangs | Suspension::Close | Suspension::Idle => {
                false
            }
        }
    }

    /// Advances virtual time, and checks that no task was ready and no earlier timer was skipped.
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
            match &task.phase {
                Phase::Suspended(suspension) => {
                    timers.extend(suspension.parts().into_iter().filter_map(|part| match part {
                        Suspension::Sleeps(at) | Suspension::Any(_, Some(at)) => Some((*at, id)),
                        _ => None,
                    }));
                }
                // The delay of a limited task may have passed while it waits for its limit.
                Phase::Delayed(Some(at)) if !task.is_limited() => timers.push((*at, id)),
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

/// Whether a way leads from one of the tasks to `goal`, on which each task is followed by one of `after`.
pub(crate) fn reaches(from: Vec<Id>, goal: Id, after: impl Fn(Id) -> Vec<Id>) -> bool {
    let (mut seen, mut at) = (from, 0);
    while at < seen.len() {
        let next = seen[at];
        at += 1;
        if next == goal {
            return true;
        }
        for next in after(next) {
            if !seen.contains(&next) {
                seen.push(next);
            }
        }
    }
    false
}
