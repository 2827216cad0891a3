//! A naive model of a client: no queues and no reference counts, every question is answered by a scan.
//!
//! The program reports each operation to the model before the engine executes it, and the instrumented
//! tasks report each poll and drop. The model checks these reports and keeps the first contradiction in
//! [`Model::failure`]. Where the contract leaves a choice, the model follows the engine after checking that
//! the choice is legal. Such places are marked *free*.
//!
//! | phase of a task | next phase |
//! |---|---|
//! | `Waiting` for inputs | `Ready` when all have values, `Ended` when one has failed |
//! | `Ready` | `Running` |
//! | `Running`, in a poll | `Suspended` at an await, `Ended`, or `Deciding` when the attempt has failed |
//! | `Suspended` | `Running`, or `Ended` when cancelled |
//! | `Deciding` on a retry | `Delayed` or `Ended` |
//! | `Delayed` | `Running` |
//! | `Ended` | `Ready` or `Waiting` by `retry`, after an error only |

use std::collections::HashMap;

use ensue::ErrorKind;

use super::script::RetryPlan;

pub(crate) type Id = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Value,
    /// *Free*: where the origin is `None`.
    Error(ErrorKind, Option<Id>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waits for its inputs.
    Waiting,
    /// Waits for a worker, or for a limit.
    Ready,
    /// Is being polled.
    Running,
    /// Is between two polls of an attempt.
    Suspended(Suspension),
    /// Waits until this time for the next attempt; `None` if that is due.
    Delayed(Option<u64>),
    /// An attempt has failed, and the retry predicate is about to be called.
    Deciding(Outcome),
    Ended(Outcome),
}

/// The await at which a task is suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Suspension {
    Yielded,
    Sleeps(u64),
    Hangs,
    One(Id),
    /// Until all have ended, or one has failed.
    Gather(Vec<Id>),
    Settled(Vec<Id>),
    /// Until one has ended, or until a time.
    Any(Vec<Id>, Option<u64>),
    All(Vec<Id>),
    Stream(usize),
    Close,
    Idle,
    /// Several awaits at once, of which these are pending.
    Several(Vec<Suspension>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Life {
    Open,
    Closing,
    Aborted,
}

/// The options and inputs of a submission.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) inputs: Vec<Id>,
    pub(crate) by_ref: bool,
    pub(crate) key: Option<String>,
    pub(crate) priority: i32,
    /// The function and its inputs are kept for another run after the task has started.
    pub(crate) rerunnable: bool,
    pub(crate) retry: Option<RetryPlan>,
    pub(crate) timeout: Option<u64>,
    pub(crate) limits: [usize; 2],
    pub(crate) fallible: bool,
    pub(crate) blocking: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) plan: Plan,
    pub(crate) phase: Phase,
    /// The outcome that replaces its own when the current poll ends: the task is being aborted.
    pub(crate) aborting: Option<Outcome>,
    pub(crate) handles: usize,
    pub(crate) detached: bool,
    /// Tasks whose values it hasn't taken yet.
    pub(crate) inputs: Vec<Id>,
    /// Tasks whose values it has taken and keeps for another attempt.
    pub(crate) args: Vec<Id>,
    /// The value was moved out, so later reads report `Lost`.
    pub(crate) moved_out: bool,
    /// Its function was called since the submission or the last `retry`.
    pub(crate) started: bool,
    /// It can be run again by `retry`.
    pub(crate) retryable: bool,
    pub(crate) failures: u32,
    pub(crate) runs: u32,
    pub(crate) holds_limits: bool,
    pub(crate) deadline: Option<u64>,
    /// The highest priority that it ever had or was lent. *Free*: when a lent priority ends.
    pub(crate) ceiling: i32,
    /// Tasks that it began to await in its last poll.
    pub(crate) awaited: Vec<Id>,
    /// It was last suspended in a cycle of tasks that wait for each other.
    pub(crate) in_cycle: bool,
    /// Awaits that it forgot while they were pending.
    pub(crate) forgotten: Vec<Suspension>,
    /// The futures of `idle` and `close` that it has begun to await.
    pub(crate) exempt: usize,
    /// The parts of its awaits of several things that have resolved.
    pub(crate) parts: usize,
    pub(crate) callbacks: usize,
    pub(crate) callbacks_due: usize,
    pub(crate) ended_at: u64,
    pub(crate) retried: usize,
    pub(crate) observed: bool,
    /// It lost its last user before it ended. *Free*: its outcome.
    pub(crate) abandoned: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct StreamModel {
    /// The task, and the instant since which it's ready to be taken.
    pub(crate) members: Vec<(Id, Option<u64>)>,
    /// The highest priority of those that have waited for it. It lends that to its members, also to later ones.
    pub(crate) ceiling: Option<i32>,
    /// The inputs of a `map_stream` have ended.
    pub(crate) exhausted: bool,
    /// The stream's own error, until it's returned.
    pub(crate) failed: Option<ErrorKind>,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) tasks: Vec<Task>,
    pub(crate) names: Vec<String>,
    /// Keys that were also requested with another type, which causes events of their own.
    pub(crate) conflicts: Vec<String>,
    pub(crate) streams: Vec<StreamModel>,
    pub(crate) keys: HashMap<String, Id>,
    pub(crate) life: Life,
    /// References that keep the client open: the program's own, and one for each `map_stream`.
    pub(crate) clients: usize,
    /// A worker has been polled and hasn't exited.
    pub(crate) worker: bool,
    pub(crate) now: u64,
    /// Logical time: advances with each operation from outside and each poll of a task.
    pub(crate) instant: u64,
    /// When the client was last known to be idle.
    pub(crate) idle_at: u64,
    /// The task suspended most recently, and whether that poll executed an action.
    pub(crate) last: Option<(Id, bool)>,
    pub(crate) capacity: [usize; 2],
    pub(crate) used: [usize; 2],
    /// An await is being polled, which may drop tasks before it's reported to the model.
    pub(crate) lenient: bool,
    /// A submission in a hook, of which only the engine knows whether it joins another task.
    pub(crate) undecided: Option<Id>,
    /// Tasks abandoned meanwhile, to be checked after that poll.
    pub(crate) abandoned_in_await: Vec<Id>,
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
            idle_at: 0,
            last: None,
            capacity,
            used: [0, 0],
            lenient: false,
            undecided: None,
            abandoned_in_await: Vec::new(),
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

    /// Whether an error may name this task so. *Free*: where the task's name was never seen.
    pub(crate) fn has_name(&self, id: Id, name: &str) -> bool {
        self.names.get(id).is_none_or(|known| known.is_empty() || known == name)
    }

    // Users of a task

    /// Counts the handles and the dependents that need the task's value.
    pub(crate) fn users(&self, id: Id) -> usize {
        let count = |ids: &[Id]| ids.iter().filter(|other| **other == id).count();
        let edges = self
            .tasks
            .iter()
            .map(|task| count(&task.inputs) + if task.plan.by_ref { count(&task.args) } else { 0 });
        self.tasks[id].handles + edges.sum::<usize>()
    }

    /// Returns `users` of all tasks, in one pass.
    pub(crate) fn all_users(&self) -> Vec<usize> {
        let mut users: Vec<_> = self.tasks.iter().map(|task| task.handles).collect();
        for task in &self.tasks {
            let args = if task.plan.by_ref { &task.args[..] } else { &[] };
            task.inputs.iter().chain(args).for_each(|id| users[*id] += 1);
        }
        users
    }

    /// Counts the users that certainly exist. *Free*: whether a task that waits for a limit has taken its
    /// inputs.
    pub(crate) fn certain_users(&self, id: Id) -> usize {
        let waiting =
            self.tasks.iter().filter(|task| task.phase == Phase::Ready && task.is_limited());
        let inputs = waiting.flat_map(|task| &task.inputs);
        self.users(id) - inputs.filter(|input| **input == id).count()
    }

    /// Whether the task with this key may or may not exist any more.
    pub(crate) fn is_uncertain(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|id| self.certain_users(*id) == 0)
    }

    pub(crate) fn is_needed(&self, id: Id) -> bool {
        self.tasks[id].detached || self.users(id) > 0
    }

    /// Whether the value, or a copy of it, may be in memory.
    pub(crate) fn may_live(&self, id: Id) -> bool {
        self.users(id) > 0 || self.tasks.iter().any(|task| task.args.contains(&id))
    }

    /// Whether the task's function, or a copy, must be in memory. `None` is *free*: during an attempt.
    pub(crate) fn keeps_function(&self, id: Id) -> Option<bool> {
        let task = &self.tasks[id];
        match task.phase {
            Phase::Waiting | Phase::Ready | Phase::Delayed(_) => Some(true),
            Phase::Ended(Outcome::Error(..)) if task.retryable && self.users(id) > 0 => Some(true),
            Phase::Ended(_) => Some(false),
            _ => None,
        }
    }

    // Submitting and releasing

    pub(crate) fn submit(&mut self, plan: Plan) -> (Id, bool) {
        if let (Some(key), false) = (&plan.key, self.is_unmet(&plan)) {
            if let Some(id) = self.joinable(key) {
                self.join(id, plan.priority);
                return (id, true);
            }
        }
        (self.make(plan), false)
    }

    /// Whether the task asks for more than there is.
    pub(crate) fn is_unmet(&self, plan: &Plan) -> bool {
        (0..2).any(|at| plan.limits[at] > self.capacity[at])
    }

    /// Adds a handle by another submission of the same key.
    pub(crate) fn join(&mut self, id: Id, priority: i32) {
        self.tasks[id].handles += 1;
        self.tasks[id].plan.priority = self.tasks[id].plan.priority.max(priority);
        self.lend(id, priority);
    }

    /// Makes a task, whatever other tasks have its key.
    pub(crate) fn make(&mut self, plan: Plan) -> Id {
        let unmet = self.is_unmet(&plan);
        let id = self.tasks.len();
        self.tasks.push(Task {
            phase: Phase::Waiting,
            aborting: None,
            handles: 1,
            detached: false,
            inputs: plan.inputs.clone(),
            args: Vec::new(),
            moved_out: false,
            started: false,
            retryable: true,
            failures: 0,
            runs: 0,
            holds_limits: false,
            deadline: None,
            ceiling: plan.priority,
            awaited: Vec::new(),
            in_cycle: false,
            forgotten: Vec::new(),
            exempt: 0,
            parts: 0,
            callbacks: 0,
            callbacks_due: 0,
            ended_at: 0,
            retried: 0,
            observed: false,
            abandoned: false,
            plan,
        });
        if unmet {
            self.tasks[id].retryable = false;
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
        id
    }

    /// Takes back what was made for a submission that joined a task instead. `before` is the task that the key led to.
    pub(crate) fn unmake(&mut self, id: Id, before: Option<Id>) {
        let task = &mut self.tasks[id];
        let key = task.plan.key.take();
        (task.handles, task.retryable, task.abandoned) = (0, false, true);
        task.inputs.clear();
        task.phase = Phase::Ended(Outcome::Error(ErrorKind::Cancelled, None));
        self.forget_key(id);
        if let (Some(key), Some(before)) = (key, before) {
            self.keys.insert(key, before);
        }
        self.settle();
    }

    /// Returns the task that a submission with this key joins.
    pub(crate) fn joinable(&self, key: &str) -> Option<Id> {
        let id = *self.keys.get(key)?;
        (!self.tasks[id].has_failed() && self.tasks[id].aborting.is_none()).then_some(id)
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

    /// Cancels the task, and returns the expected result of `Handle::cancel`.
    pub(crate) fn cancel(&mut self, id: Id) -> bool {
        let outcome = Outcome::Error(ErrorKind::Cancelled, Some(id));
        let task = &mut self.tasks[id];
        if task.outcome().is_some() || task.aborting.is_some() {
            return false;
        }
        match task.phase {
            Phase::Running | Phase::Deciding(_) => task.aborting = Some(outcome),
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
