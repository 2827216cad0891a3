//! What should happen: a naive model, without queues or reference counts, that looks at everything each
//! time. It's told of each operation, and of what the instrumented tasks see, and says what is wrong.
//!
//! Where the contract leaves a choice it follows the engine's, and checks that it was one. Those are marked
//! as *free*.

use std::collections::HashMap;

use ensue::{ErrorKind, Status};

use super::script::{Again, When};

pub(crate) type Id = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Value,
    /// *Free*: where the origin is `None`.
    Error(ErrorKind, Option<Id>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// For its inputs.
    Waiting,
    /// For a worker, or for a limit.
    Ready,
    /// In a poll.
    Running,
    /// Between two polls of an attempt.
    Suspended(Why),
    /// For the next attempt; `None` if that's due.
    Delayed(Option<u64>),
    /// An attempt has failed, and the predicate is about to be asked.
    Deciding(Outcome),
    Ended(Outcome),
}

/// Why a task was suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Yielded,
    Sleeps(u64),
    Hangs,
    One(Id),
    /// All of them, or the first to fail.
    Gather(Vec<Id>),
    Settled(Vec<Id>),
    /// One at least, or until a time.
    Any(Vec<Id>, Option<u64>),
    All(Vec<Id>),
    Stream(usize),
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Life {
    Open,
    Closing,
    Aborted,
}

/// What a task was submitted with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) inputs: Vec<Id>,
    pub(crate) by_ref: bool,
    pub(crate) key: Option<u8>,
    pub(crate) priority: i32,
    /// It can be run again once it has started.
    pub(crate) again: bool,
    pub(crate) retry: Option<Again>,
    pub(crate) timeout: Option<u64>,
    pub(crate) limits: [usize; 2],
    pub(crate) fallible: bool,
    /// It runs under the engine's own future, not alone.
    pub(crate) planned: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) plan: Plan,
    pub(crate) phase: Phase,
    /// Decided while it's in a poll.
    pub(crate) doomed: Option<Outcome>,
    pub(crate) handles: usize,
    pub(crate) detached: bool,
    /// Whose values it has yet to take.
    inputs: Vec<Id>,
    /// Whose values it has taken and keeps for another attempt.
    args: Vec<Id>,
    /// The value was moved out.
    pub(crate) taken: bool,
    /// Its function was called, in this life of the task.
    started: bool,
    /// It could be run again.
    kept: bool,
    /// It was cancelled as it failed. *Free*: whether it then keeps what it would take to run it again.
    loose: bool,
    pub(crate) failures: u32,
    pub(crate) runs: u32,
    holds_limits: bool,
    deadline: Option<u64>,
    /// The highest priority that it ever had or was lent. *Free*: when what was lent goes again.
    ceiling: i32,
    /// What it has begun to await in its last poll.
    noted: Vec<Id>,
    pub(crate) callbacks: usize,
    pub(crate) callbacks_due: usize,
    ended_at: u64,
    pub(crate) retried: bool,
    pub(crate) observed: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct StreamModel {
    /// The task, and when it was there to be taken.
    pub(crate) members: Vec<(Id, Option<u64>)>,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) tasks: Vec<Task>,
    pub(crate) names: Vec<String>,
    pub(crate) streams: Vec<StreamModel>,
    keys: HashMap<u8, Id>,
    pub(crate) life: Life,
    /// A worker has been polled and has not left.
    pub(crate) worker: bool,
    now: u64,
    /// Moves on with everything that is done from outside and with every poll of a task.
    pub(crate) instant: u64,
    /// What was suspended just now, and whether it did anything before.
    last: Option<(Id, bool)>,
    capacity: [usize; 2],
    used: [usize; 2],
    /// Something is polled from outside that may let go of what has failed meanwhile.
    pub(crate) lenient: bool,
    pub(crate) failure: Option<String>,
}

impl Task {
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self.phase {
            Phase::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    fn has_failed(&self) -> bool {
        matches!(self.phase, Phase::Ended(Outcome::Error(..)))
    }

    fn is_limited(&self) -> bool {
        self.plan.limits != [0, 0]
    }
}

impl Model {
    pub(crate) fn new(capacity: [usize; 2]) -> Self {
        Self {
            tasks: Vec::new(),
            names: Vec::new(),
            streams: Vec::new(),
            keys: HashMap::new(),
            life: Life::Open,
            worker: false,
            now: 0,
            instant: 0,
            last: None,
            capacity,
            used: [0, 0],
            lenient: false,
            failure: None,
        }
    }

    pub(crate) fn expect(&mut self, right: bool, what: impl FnOnce() -> String) {
        if !right && self.failure.is_none() {
            self.failure = Some(what());
            if std::env::var_os("SOAK_TRACE").is_some() { eprintln!("!!! {:?}", self.failure); }
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.life != Life::Open
    }

    // Who needs a task

    /// Handles and whatever else has a claim on the task's value.
    pub(crate) fn users(&self, id: Id) -> usize {
        let count = |ids: &[Id]| ids.iter().filter(|other| **other == id).count();
        let edges = self.tasks.iter().map(|task| {
            count(&task.inputs) + if task.plan.by_ref { count(&task.args) } else { 0 }
        });
        self.tasks[id].handles + edges.sum::<usize>()
    }

    /// The same without those of which it isn't known. *Free*: whether a task that waits for a limit has
    /// taken its inputs.
    pub(crate) fn sure_users(&self, id: Id) -> usize {
        let waiting = self.tasks.iter().filter(|task| task.phase == Phase::Ready && task.is_limited());
        let inputs = waiting.flat_map(|task| &task.inputs);
        self.users(id) - inputs.filter(|input| **input == id).count()
    }

    /// Whether it isn't known if the task with this key is still there.
    pub(crate) fn is_vague(&self, key: u8) -> bool {
        self.keys.get(&key).is_some_and(|id| self.sure_users(*id) == 0)
    }

    fn is_needed(&self, id: Id) -> bool {
        self.tasks[id].detached || self.users(id) > 0
    }

    /// Whether the value, or copies of it, may be in memory.
    pub(crate) fn may_live(&self, id: Id) -> bool {
        self.users(id) > 0 || self.tasks.iter().any(|task| task.args.contains(&id))
    }

    /// Whether the task's function, or a copy, is to be in memory: `None` is *free*, during an attempt.
    pub(crate) fn keeps_code(&self, id: Id) -> Option<bool> {
        let task = &self.tasks[id];
        match task.phase {
            Phase::Waiting | Phase::Ready | Phase::Delayed(_) => Some(true),
            Phase::Ended(Outcome::Error(..)) if task.kept && self.users(id) > 0 => Some(true),
            Phase::Ended(_) if task.loose => None,
            Phase::Ended(_) => Some(false),
            _ => None,
        }
    }

    // Submitting and letting go

    pub(crate) fn submit(&mut self, plan: Plan) -> (Id, bool) {
        let unmet = (0..2).any(|at| plan.limits[at] > self.capacity[at]);
        if let (Some(key), false) = (plan.key, unmet) {
            if let Some(id) = self.joinable(key) {
                self.tasks[id].handles += 1;
                self.tasks[id].plan.priority = self.tasks[id].plan.priority.max(plan.priority);
                self.lend(id, plan.priority);
                return (id, true);
            }
        }
        let id = self.tasks.len();
        self.tasks.push(Task {
            phase: Phase::Waiting,
            doomed: None,
            handles: 1,
            detached: false,
            inputs: plan.inputs.clone(),
            args: Vec::new(),
            taken: false,
            started: false,
            kept: true,
            loose: false,
            failures: 0,
            runs: 0,
            holds_limits: false,
            deadline: None,
            ceiling: plan.priority,
            noted: Vec::new(),
            callbacks: 0,
            callbacks_due: 0,
            ended_at: 0,
            retried: false,
            observed: false,
            plan,
        });
        if unmet {
            self.tasks[id].kept = false;
            self.end(id, Outcome::Error(ErrorKind::Limit, Some(id)));
        } else {
            if let Some(key) = self.tasks[id].plan.key {
                self.keys.insert(key, id);
            }
            let priority = self.tasks[id].plan.priority;
            self.waits_for(id).into_iter().for_each(|input| self.lend(input, priority));
            if self.is_closed() {
                self.end(id, Outcome::Error(ErrorKind::Closed, None));
            }
        }
        self.settle();
        (id, false)
    }

    /// The task that a submission with this key joins.
    pub(crate) fn joinable(&self, key: u8) -> Option<Id> {
        let id = *self.keys.get(&key)?;
        (!self.tasks[id].has_failed() && self.tasks[id].doomed.is_none()).then_some(id)
    }

    pub(crate) fn get(&self, key: u8) -> Option<Id> {
        self.keys.get(&key).copied()
    }

    pub(crate) fn add_handle(&mut self, id: Id) {
        self.tasks[id].handles += 1;
    }

    pub(crate) fn release(&mut self, id: Id) {
        self.tasks[id].handles -= 1;
        self.settle();
    }

    pub(crate) fn detach(&mut self, id: Id) {
        self.tasks[id].detached = true;
    }

    /// Returns what `cancel` is to return.
    pub(crate) fn cancel(&mut self, id: Id) -> bool {
        let outcome = Outcome::Error(ErrorKind::Cancelled, Some(id));
        let task = &mut self.tasks[id];
        if task.outcome().is_some() || task.doomed.is_some() {
            return false;
        }
        match task.phase {
            Phase::Running | Phase::Deciding(_) => task.doomed = Some(outcome),
            _ => self.end(id, outcome),
        }
        self.forget_key(id);
        self.settle();
        true
    }

    fn forget_key(&mut self, id: Id) {
        self.keys.retain(|_, other| *other != id);
    }

    /// Returns what `retry` is to return.
    pub(crate) fn retry(&mut self, id: Id) -> bool {
        let mut all = vec![id];
        let mut at = 0;
        while at < all.len() {
            let task = &self.tasks[all[at]];
            at += 1;
            let Some(Outcome::Error(kind, _)) = task.outcome() else { return false };
            let for_good = matches!(kind, ErrorKind::Cancelled | ErrorKind::Closed);
            if for_good || self.is_closed() || !task.kept {
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
            task.retried = true;
        }
        // From the retried task on, each lends to those before it.
        for at in 0..all.len() {
            let priority = self.tasks[all[at]].ceiling;
            self.waits_for(all[at]).into_iter().for_each(|input| self.lend(input, priority));
        }
        self.settle();
        true
    }

    // Ending

    fn end(&mut self, id: Id, outcome: Outcome) {
        self.free_limits(id);
        self.instant_of_end(id);
        let task = &mut self.tasks[id];
        let kind = match outcome {
            Outcome::Value => None,
            Outcome::Error(kind, _) => Some(kind),
        };
        // What was cancelled or closed can't be retried.
        let lost = matches!(kind, None | Some(ErrorKind::Cancelled | ErrorKind::Closed));
        let again = task.plan.again || !task.started;
        task.kept &= !lost && again;
        if !task.kept {
            task.inputs.clear();
            task.args.clear();
        }
        task.phase = Phase::Ended(outcome);
        task.doomed = None;
        task.deadline = None;
        task.noted.clear();
        task.callbacks_due += std::mem::take(&mut task.callbacks);
        let told = self.tasks.iter().any(|other| {
            other.outcome().is_none() && other.inputs.contains(&id)
        });
        self.tasks[id].observed |= told;
    }

    fn instant_of_end(&mut self, id: Id) {
        self.tasks[id].ended_at = self.instant;
        for (_, at) in self.streams.iter_mut().flat_map(|stream| &mut stream.members).filter(|member| member.0 == id)
        {
            at.get_or_insert(self.instant);
        }
    }

    /// Lets follow what follows, until nothing does.
    pub(crate) fn settle(&mut self) {
        let mut changed = true;
        while changed {
            changed = false;
            for id in 0..self.tasks.len() {
                if self.users(id) == 0 {
                    self.forget_key(id);
                }
                changed |= self.settle_one(id);
            }
        }
    }

    fn settle_one(&mut self, id: Id) -> bool {
        let abandoned = Outcome::Error(ErrorKind::Cancelled, None);
        let needed = self.is_needed(id);
        let used = self.users(id) > 0;
        let inputs: Vec<_> =
            self.tasks[id].inputs.iter().map(|input| self.tasks[*input].outcome()).collect();
        let closed = self.is_closed();
        let task = &mut self.tasks[id];
        match task.phase {
            Phase::Ended(_) => {
                if used || task.inputs.is_empty() && task.args.is_empty() {
                    return false;
                }
                task.inputs.clear();
                task.args.clear();
            }
            Phase::Running | Phase::Deciding(_) => {
                if needed || task.doomed.is_some() {
                    return false;
                }
                task.doomed = Some(abandoned);
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

    /// `close` begins, or the client is dropped. *Free*: which of the closed tasks is named as origin.
    pub(crate) fn close(&mut self, abort: bool, inside: bool) {
        if abort {
            self.life = Life::Aborted;
        } else if self.life == Life::Open {
            self.life = Life::Closing;
        }
        let nobody = abort || !(self.worker || inside);
        self.refuse(nobody);
    }

    /// Where no worker is left, started tasks don't go on after `close`.
    pub(crate) fn nobody_runs(&mut self) {
        if self.is_closed() && !self.worker {
            self.refuse(true);
        }
    }

    fn refuse(&mut self, started: bool) {
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

    // What tasks see

    /// The function is called: the inputs are taken.
    pub(crate) fn start(&mut self, id: Id) {
        let task = &self.tasks[id];
        let (phase, due) = (task.phase.clone(), matches!(task.phase, Phase::Ready | Phase::Delayed(_)));
        self.expect(due, || format!("t{id} was started while {phase:?}"));
        if let Phase::Delayed(Some(due)) = phase {
            self.clock_to(due, id);
        }
        self.last = None;
        self.check_order(id);
        let needs = self.tasks[id].plan.limits;
        for at in 0..2 {
            self.used[at] += needs[at];
            let fits = self.used[at] <= self.capacity[at];
            self.expect(fits, || format!("t{id} exceeds limit {at}"));
        }
        let now = self.now;
        let task = &mut self.tasks[id];
        task.holds_limits = true;
        task.deadline = task.plan.timeout.map(|timeout| now + timeout);
        task.phase = Phase::Running;
        task.noted.clear();
        task.runs += 1;
        if !task.started {
            task.started = true;
            // On a retry they were taken before.
            if task.args.is_empty() {
                task.args = std::mem::take(&mut task.inputs);
            }
            if !task.plan.again {
                task.args.clear();
            }
        }
        self.instant += 1;
        self.settle();
    }

    /// It's polled again.
    pub(crate) fn resume(&mut self, id: Id) {
        let phase = self.tasks[id].phase.clone();
        let suspended = matches!(phase, Phase::Suspended(_));
        self.expect(suspended, || format!("t{id} was polled while {phase:?}"));
        self.check_order(id);
        let task = &mut self.tasks[id];
        task.phase = Phase::Running;
        task.noted.clear();
        self.instant += 1;
    }

    /// *Free*: which of the ready tasks of the highest priority.
    fn check_order(&mut self, id: Id) {
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

    /// The poll ends without an outcome.
    pub(crate) fn suspend(&mut self, id: Id, why: Why, progress: bool) {
        self.last = Some((id, progress));
        if self.tasks[id].deadline.is_some_and(|deadline| deadline <= self.now) {
            // The attempt is over at once.
            return;
        }
        let priority = self.tasks[id].ceiling;
        self.tasks[id].phase = Phase::Suspended(why);
        self.waits_for(id).into_iter().for_each(|other| self.lend(other, priority));
        let aborted = self.life == Life::Aborted;
        if let Some(outcome) = self.tasks[id].doomed {
            self.end(id, outcome);
        } else if aborted {
            self.end(id, Outcome::Error(ErrorKind::Closed, None));
        }
        self.settle();
    }

    /// It begins to await these: whether that closes a ring. *Free*, so `None`: where an await of an
    /// earlier await's poll would close it.
    pub(crate) fn awaits(&mut self, id: Id, others: &[Id]) -> Option<bool> {
        let priority = self.tasks[id].ceiling;
        for other in others {
            if self.tasks[*other].outcome().is_none() {
                self.tasks[id].noted.push(*other);
                self.lend(*other, priority);
            }
        }
        let surely = self.reaches(others, id, false);
        let maybe = self.reaches(others, id, true);
        if surely == maybe { Some(surely) } else { None }
    }

    fn reaches(&self, from: &[Id], to: Id, noted: bool) -> bool {
        let mut seen: Vec<Id> = from.to_vec();
        seen.retain(|id| self.tasks[*id].outcome().is_none());
        let mut at = 0;
        while at < seen.len() {
            let id = seen[at];
            at += 1;
            if id == to {
                return true;
            }
            let more = if noted { &self.tasks[id].noted[..] } else { &[] };
            for next in self.waits_for(id).iter().chain(more) {
                if !seen.contains(next) && self.tasks[*next].outcome().is_none() {
                    seen.push(*next);
                }
            }
        }
        false
    }

    /// What the task waits for as far as priorities and rings go: `as_completed` and `wait_*` don't count.
    fn waits_for(&self, id: Id) -> Vec<Id> {
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
    fn lend(&mut self, id: Id, priority: i32) {
        if self.tasks[id].outcome().is_some() || self.tasks[id].ceiling >= priority {
            return;
        }
        self.tasks[id].ceiling = priority;
        let mut others = self.waits_for(id);
        others.extend(&self.tasks[id].noted);
        others.into_iter().for_each(|other| self.lend(other, priority));
    }

    /// The priority of each task, with what is lent to it now.
    fn lent(&self) -> Vec<i32> {
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

    // Time

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

    // The ends of attempts

    /// The body of an attempt is about to be dropped: whether that's because its time is over. Then it was
    /// polled once more just before, for nothing.
    pub(crate) fn is_over(&mut self, id: Id) -> Option<Outcome> {
        let task = &self.tasks[id];
        let (deadline, (last, progress)) = (task.deadline?, self.last?);
        let fits = match task.phase {
            Phase::Suspended(_) => !progress,
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

    /// The body of an attempt was dropped, after this outcome or without any.
    pub(crate) fn stop(&mut self, id: Id, outcome: Option<Outcome>) {
        match (&self.tasks[id].phase, outcome) {
            (Phase::Running, Some(outcome)) => self.conclude(id, outcome),
            (Phase::Ended(_), _) => {}
            (_, None) if self.lenient && !matches!(self.tasks[id].phase, Phase::Suspended(_)) => {
                self.abandon(id);
            }
            (Phase::Suspended(_), _) if self.is_closed() && !self.worker => self.refuse(true),
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

    fn abandon(&mut self, id: Id) {
        self.end(id, Outcome::Error(ErrorKind::Cancelled, None));
        self.settle();
    }

    /// The last copy of the function is dropped: the task is about to start, or has ended.
    pub(crate) fn lose_code(&mut self, id: Id, clone_panicked: bool) {
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
            Phase::Waiting | Phase::Ready | Phase::Delayed(_) if self.is_closed() && !self.worker => {
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

    fn conclude(&mut self, id: Id, outcome: Outcome) {
        self.free_limits(id);
        let task = &mut self.tasks[id];
        task.deadline = None;
        task.noted.clear();
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

    /// The last attempt is over.
    fn end_attempts(&mut self, id: Id, outcome: Outcome) {
        let task = &mut self.tasks[id];
        let failed = outcome != Outcome::Value;
        let Some(doomed) = task.doomed else {
            self.end(id, outcome);
            return self.settle();
        };
        let args = task.args.clone();
        let loose = failed && task.plan.again;
        self.end(id, doomed);
        if loose {
            self.tasks[id].args = args;
            self.tasks[id].loose = true;
        }
        self.settle();
    }

    /// Whether the task is to be tried again.
    pub(crate) fn decide(&mut self, id: Id, again: bool) {
        let closed = self.is_closed();
        let now = self.now;
        let task = &mut self.tasks[id];
        let Phase::Deciding(outcome) = task.phase else {
            let phase = task.phase.clone();
            return self.expect(false, || format!("the predicate of t{id} was asked while {phase:?}"));
        };
        let delay = task.plan.retry.map_or(0, |retry| u64::from(retry.delay));
        match task.doomed {
            // It's ended as it begins to wait.
            Some(doomed) if again && !closed => self.end(id, doomed),
            None if again && !closed => {
                task.phase = Phase::Delayed((delay > 0).then_some(now + delay));
            }
            _ => return self.end_attempts(id, outcome),
        }
        self.settle();
    }

    /// The predicate has panicked.
    pub(crate) fn decide_badly(&mut self, id: Id) {
        self.tasks[id].phase = Phase::Deciding(Outcome::Error(ErrorKind::Panicked, Some(id)));
        self.decide(id, false);
    }

    /// It ended before the function could be called: an input's value was lost, or cloning panicked.
    fn end_unstarted(&mut self, id: Id, outcome: Outcome) {
        self.check_order(id);
        self.tasks[id].kept = false;
        self.tasks[id].started = true;
        self.end(id, outcome);
        self.settle();
    }

    fn lost_input(&self, id: Id) -> Option<Id> {
        self.tasks[id].inputs.iter().copied().find(|input| self.tasks[*input].taken)
    }

    fn free_limits(&mut self, id: Id) {
        let task = &mut self.tasks[id];
        if std::mem::take(&mut task.holds_limits) {
            for at in 0..2 {
                self.used[at] -= task.plan.limits[at];
            }
        }
    }

    // Looking

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
            Phase::Ended(Outcome::Value) => status == Status::Finished,
            Phase::Ended(Outcome::Error(ErrorKind::Cancelled | ErrorKind::Closed, _)) => {
                status == Status::Cancelled
            }
            Phase::Ended(Outcome::Error(..)) => status == Status::Failed,
        };
        self.expect(right, || format!("t{id} is {phase:?}, and says `{status}`"));
    }

    pub(crate) fn ended_at(&self, id: Id) -> u64 {
        self.tasks[id].ended_at
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
                Phase::Delayed(Some(at)) => task.is_limited() && *at <= self.now && self.used != [0, 0],
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
