//! What should happen: a naive model, without queues or reference counts, that looks at everything each
//! time. It's told of each operation, and of what the instrumented tasks see, and says what is wrong.
//!
//! Where the contract leaves a choice it follows the engine's, and checks that it was one. Those are marked
//! as *free*.

use std::collections::HashMap;

use ensue::ErrorKind;

use super::script::Again;

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
    pub(crate) key: Option<String>,
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
    pub(crate) inputs: Vec<Id>,
    /// Whose values it has taken and keeps for another attempt.
    pub(crate) args: Vec<Id>,
    /// The value was moved out.
    pub(crate) taken: bool,
    /// Its function was called, in this life of the task.
    pub(crate) started: bool,
    /// It could be run again.
    pub(crate) kept: bool,
    pub(crate) failures: u32,
    pub(crate) runs: u32,
    pub(crate) holds_limits: bool,
    pub(crate) deadline: Option<u64>,
    /// The highest priority that it ever had or was lent. *Free*: when what was lent goes again.
    pub(crate) ceiling: i32,
    /// What it has begun to await in its last poll.
    pub(crate) noted: Vec<Id>,
    pub(crate) callbacks: usize,
    pub(crate) callbacks_due: usize,
    pub(crate) ended_at: u64,
    pub(crate) retried: usize,
    pub(crate) observed: bool,
    /// Nobody needed it any more before the engine was through with it. *Free*: how it ends.
    pub(crate) given_up: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct StreamModel {
    /// The task, and when it was there to be taken.
    pub(crate) members: Vec<(Id, Option<u64>)>,
    /// Of a `map_stream`: it has no further inputs.
    pub(crate) exhausted: bool,
    /// And the error of its own that is still to come out.
    pub(crate) failed: Option<ErrorKind>,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) tasks: Vec<Task>,
    pub(crate) names: Vec<String>,
    /// Of which more was told than of the one task: those of another type.
    pub(crate) conflicts: Vec<String>,
    pub(crate) streams: Vec<StreamModel>,
    pub(crate) keys: HashMap<String, Id>,
    pub(crate) life: Life,
    /// How many keep the client open: who runs the script, and each `map_stream`.
    pub(crate) clients: usize,
    /// A worker has been polled and has not left.
    pub(crate) worker: bool,
    pub(crate) now: u64,
    /// Moves on with everything that is done from outside and with every poll of a task.
    pub(crate) instant: u64,
    /// What was suspended just now, and whether it did anything before.
    pub(crate) last: Option<(Id, bool)>,
    pub(crate) capacity: [usize; 2],
    pub(crate) used: [usize; 2],
    /// An await is polled that may let go of tasks before the model is told.
    pub(crate) lenient: bool,
    /// What was given up meanwhile.
    pub(crate) abandoned: Vec<Id>,
    pub(crate) retries: usize,
    pub(crate) failure: Option<String>,
}

impl Task {
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self.phase {
            Phase::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.phase, Phase::Ended(Outcome::Error(..)))
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.plan.limits != [0, 0]
    }
}

impl Model {
    pub(crate) fn new(capacity: [usize; 2]) -> Self {
        Self {
            tasks: Vec::new(),
            names: Vec::new(),
            conflicts: Vec::new(),
            streams: Vec::new(),
            keys: HashMap::new(),
            life: Life::Open,
            clients: 1,
            worker: false,
            now: 0,
            instant: 0,
            last: None,
            capacity,
            used: [0, 0],
            lenient: false,
            abandoned: Vec::new(),
            retries: 0,
            failure: None,
        }
    }

    pub(crate) fn expect(&mut self, right: bool, what: impl FnOnce() -> String) {
        if !right && self.failure.is_none() {
            self.failure = Some(what());
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.life != Life::Open
    }

    /// Whether an error from this task may say so. *Free*: where its name was never seen.
    pub(crate) fn is_called(&self, id: Id, name: &str) -> bool {
        self.names.get(id).is_none_or(|known| known.is_empty() || known == name)
    }

    // Who needs a task

    /// Handles and whatever else has a claim on the task's value.
    pub(crate) fn users(&self, id: Id) -> usize {
        let count = |ids: &[Id]| ids.iter().filter(|other| **other == id).count();
        let edges = self
            .tasks
            .iter()
            .map(|task| count(&task.inputs) + if task.plan.by_ref { count(&task.args) } else { 0 });
        self.tasks[id].handles + edges.sum::<usize>()
    }

    /// The same of all tasks.
    pub(crate) fn all_users(&self) -> Vec<usize> {
        let mut users: Vec<_> = self.tasks.iter().map(|task| task.handles).collect();
        for task in &self.tasks {
            let args = if task.plan.by_ref { &task.args[..] } else { &[] };
            task.inputs.iter().chain(args).for_each(|id| users[*id] += 1);
        }
        users
    }

    /// The same without those of which it isn't known. *Free*: whether a task that waits for a limit has
    /// taken its inputs.
    pub(crate) fn sure_users(&self, id: Id) -> usize {
        let waiting =
            self.tasks.iter().filter(|task| task.phase == Phase::Ready && task.is_limited());
        let inputs = waiting.flat_map(|task| &task.inputs);
        self.users(id) - inputs.filter(|input| **input == id).count()
    }

    /// Whether it isn't known if the task with this key is still there.
    pub(crate) fn is_vague(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|id| self.sure_users(*id) == 0)
    }

    pub(crate) fn is_needed(&self, id: Id) -> bool {
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
            Phase::Ended(_) => Some(false),
            _ => None,
        }
    }

    // Submitting and letting go

    pub(crate) fn submit(&mut self, plan: Plan) -> (Id, bool) {
        let unmet = (0..2).any(|at| plan.limits[at] > self.capacity[at]);
        if let (Some(key), false) = (&plan.key, unmet) {
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
            failures: 0,
            runs: 0,
            holds_limits: false,
            deadline: None,
            ceiling: plan.priority,
            noted: Vec::new(),
            callbacks: 0,
            callbacks_due: 0,
            ended_at: 0,
            retried: 0,
            observed: false,
            given_up: false,
            plan,
        });
        if unmet {
            self.tasks[id].kept = false;
            self.end(id, Outcome::Error(ErrorKind::Limit, Some(id)));
        } else {
            if let Some(key) = self.tasks[id].plan.key.clone() {
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
    pub(crate) fn joinable(&self, key: &str) -> Option<Id> {
        let id = *self.keys.get(key)?;
        (!self.tasks[id].has_failed() && self.tasks[id].doomed.is_none()).then_some(id)
    }

    pub(crate) fn get(&self, key: &str) -> Option<Id> {
        self.keys.get(key).copied()
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

    pub(crate) fn forget_key(&mut self, id: Id) {
        self.keys.retain(|_, other| *other != id);
    }
}
