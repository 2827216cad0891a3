//! The tables of a record. They are updated from the buffers, by readers on their own threads.
//!
//! # States of a task
//!
//! | change | status before | status after | besides |
//! |---|---|---|---|
//! | `Created` | no record | `Waiting`, `Ready`, or an end | the oldest record may be forgotten to make room |
//! | `Created` | an end | `Waiting` or `Ready` | a retry: attempt 1, no error |
//! | `Keyed`, `Derived` | any | the same | the parts of its key |
//! | `Input`, `Awaits` | any | the same | an edge; an input raises the depth |
//! | `Ready` | `Waiting` | `Ready` | |
//! | `Polled` | `Ready` or `Running` | `Running`; the same if parked | a worker has it |
//! | `Suspended` | any | the same | a poll is recorded, no worker has it |
//! | `Limited` | `Running` | `Ready` | parked |
//! | `Delayed` | `Running` | `Delayed` | parked, the next attempt |
//! | `Unparked` | `Ready` or `Delayed` | `Running` | not parked |
//! | `Ended` | any | an end | a poll is recorded; held if it has finished; may be forgotten |
//! | `Error` | `Failed` | `Failed` | the text of the error |
//! | `Freed` | an end | the same | not held; among the first to be forgotten |
//!
//! An *end* is `Finished`, `Failed` or `Cancelled`. Events of tasks without a record are ignored: those were left out,
//! or forgotten.
//!
//! # Revisions
//!
//! Everything that changes gets a revision, a number that only grows. A reader that knows the record up to one
//! revision asks for what is later than that. The change log has one entry for each task, by its last change; a task
//! that changes again moves to the end, and its old entry stays behind as a hole.

use std::collections::{HashMap, HashSet, VecDeque, vec_deque};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::buffers::{Change, TaskEvent};
use super::task_record::{Edge, EdgeKind, KeySource, TaskRecord, Transition, is_end};
use super::task_table::TaskTable;
use crate::task::subject::SubmittedAt;
use crate::{Key, Status};

/// The maximum number of tasks. The first to be forgotten are those that were freed first, then those that ended
/// first; when there are more unfinished ones, new tasks are left out.
pub(crate) const TASKS: usize = 100_000;
/// The maximum number of edges; further ones are left out.
const EDGES: usize = 500_000;
/// The maximum number of pairs of functions with edges between them; further ones are left out.
const LINKS: usize = 10_000;
/// The maximum number of polls; the oldest are dropped.
const POLLS: usize = 100_000;
/// The maximum number of status events; the oldest are dropped.
pub(crate) const EVENTS: usize = 10_000;

#[derive(Default)]
pub(crate) struct Record {
    pub(crate) tasks: TaskTable,
    tables: Tables,
}

/// All tables but that of the tasks. A struct of its own, so that it can be changed while a task is borrowed.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) revision: u64,
    /// The names of functions, by index, each with its revision.
    pub(crate) names: Vec<(u64, Arc<str>)>,
    /// What the tasks of each function are doing, by the index of its name.
    pub(crate) functions: Vec<FunctionActivity>,
    /// The change log: revision and task. The task is 0 in a hole.
    pub(crate) changes: VecDeque<(u64, u64)>,
    /// How many entries were removed from the front of that.
    changes_removed: u64,
    /// The tasks that were forgotten, with the revision of that.
    pub(crate) forgotten: VecDeque<(u64, u64)>,
    /// The revision of the last entry that was removed from `forgotten`. A reader that is older has to start anew.
    pub(crate) forgotten_before: u64,
    /// By the names of both functions.
    pub(crate) links: HashMap<(u32, u32), FunctionLink, RandomState>,
    pub(crate) polls: VecDeque<PollRecord>,
    /// By the number of the worker.
    pub(crate) workers: Vec<WorkerActivity>,
    pub(crate) events: VecDeque<StatusEvent>,
    /// How many status events there were, dropped ones included.
    pub(crate) events_total: u64,
    /// How many task events were dropped from full buffers.
    pub(crate) dropped: u64,
    /// How many tasks were given a record.
    pub(crate) recorded: u64,
    /// How many retries were recorded.
    pub(crate) retried: u64,
    edge_count: usize,
    /// The awaits that are edges, since a task may await the same one in each of its polls.
    awaited: HashSet<(u64, u64), RandomState>,
    /// Tasks that have ended, in this order. An entry may be stale.
    ended: VecDeque<u64>,
    /// Tasks that were freed, in this order. An entry may be stale.
    freed: VecDeque<u64>,
    /// Events that were taken from the buffers too early: a thread may still be about to write an earlier one.
    pub(crate) pending: Vec<TaskEvent>,
}

/// What the tasks of one function are doing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FunctionActivity {
    pub(crate) waiting: u64,
    pub(crate) ready: u64,
    pub(crate) running: u64,
    pub(crate) delayed: u64,
    /// In nanoseconds.
    pub(crate) run_time: u64,
    pub(crate) polls: u64,
}

impl FunctionActivity {
    /// Returns the count of the tasks of this status; `None` for an end.
    fn count_mut(&mut self, status: Status) -> Option<&mut u64> {
        match status {
            Status::Waiting => Some(&mut self.waiting),
            Status::Ready => Some(&mut self.ready),
            Status::Running => Some(&mut self.running),
            Status::Delayed => Some(&mut self.delayed),
            _ => None,
        }
    }
}

/// The edges from tasks of one function to tasks of another.
#[derive(Clone, Copy, Default)]
pub(crate) struct FunctionLink {
    pub(crate) count: u64,
    pub(crate) revision: u64,
}

/// A poll that has returned.
#[derive(Clone, Copy)]
pub(crate) struct PollRecord {
    pub(crate) revision: u64,
    pub(crate) worker: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) name: u32,
    pub(crate) task: u64,
    pub(crate) outcome: PollOutcome,
}

/// How a poll has returned. The numbers are read by the dashboard's page.
#[derive(Clone, Copy)]
pub(crate) enum PollOutcome {
    Pending = 0,
    Value = 1,
    Failed = 2,
}

/// The task that a worker polls.
#[derive(Clone, Copy, Default)]
pub(crate) struct WorkerActivity {
    /// `None` between polls.
    pub(crate) task: Option<u64>,
    pub(crate) since: u64,
}

/// A status change of any task.
#[derive(Clone, Copy)]
pub(crate) struct StatusEvent {
    pub(crate) revision: u64,
    pub(crate) task: u64,
    pub(crate) change: Transition,
}

impl Deref for Record {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.tables
    }
}

impl DerefMut for Record {
    fn deref_mut(&mut self) -> &mut Tables {
        &mut self.tables
    }
}

impl Record {
    /// Applies an event. Those of one task have to come in order.
    pub(crate) fn apply(&mut self, event: TaskEvent) {
        let TaskEvent { at, task: id, change } = event;
        if let Change::Created { name, priority, status, by, is_old, submitted_at } = change {
            self.created(id, at, name, priority, status, by, is_old, submitted_at);
            return;
        }
        // Looked up first: the task itself is borrowed below. An edge from an unknown task is left out.
        let other = match change {
            Change::Input(from) | Change::Awaits(from) => {
                self.tasks.get(&from).map(|other| (from, other.name, other.depth))
            }
            _ => None,
        };
        let Self { tasks, tables } = self;
        let Some(task) = tasks.get_mut(&id) else { return };
        match (change, other) {
            (Change::Input(_), Some(from)) => tables.add_edge(id, task, from, EdgeKind::Taken),
            (Change::Awaits(_), Some(from)) => tables.add_edge(id, task, from, EdgeKind::Awaited),
            (change, _) => tables.change(id, task, at, change),
        }
        tables.log_change(id, task);
        self.tidy();
    }

    /// Returns the key of a task, if it's recorded.
    pub(crate) fn key(&self, number: u64) -> Option<Key> {
        let task = self.tasks.get(&number)?;
        Some(task.key(self.name(task.name), number))
    }

    #[allow(clippy::too_many_arguments)] // they're the fields of the event
    fn created(
        &mut self,
        id: u64,
        at: u64,
        name: u32,
        priority: i32,
        status: Status,
        by: u64,
        is_old: bool,
        submitted_at: SubmittedAt,
    ) {
        let Self { tasks, tables } = self;
        if let Some(task) = tasks.get_mut(&id) {
            // A task that has a record is created again by a retry.
            tables.retried += 1;
            task.error = None;
            task.parked = false;
            task.attempt = 1;
            tables.set_status(id, task, status, at);
            tables.log_change(id, task);
            return;
        }
        if self.tasks.len() >= TASKS && !self.forget_one() {
            return;
        }
        let depth = self.tasks.get(&by).map_or(0, |by| by.depth + 1);
        let Self { tasks, tables } = self;
        tables.recorded += 1;
        let task = tasks.insert(id, name, priority, status);
        task.depth = depth;
        task.submitted_at = submitted_at;
        if let Some(count) = tables.activity(name).count_mut(status) {
            *count += 1;
        }
        if is_end(status) {
            // A new one gets its `Ended` event next, which sets this.
            task.held = is_old && status == Status::Finished;
            tables.ended.push_back(id);
        } else {
            task.push_transition(at);
            if !is_old {
                tables.add_event(id, task, at);
            }
        }
        tables.log_change(id, task);
    }

    /// Forgets one task to make room for another. Returns false if none has ended.
    fn forget_one(&mut self) -> bool {
        // Stale entries are skipped: the task was forgotten, or runs again.
        while let Some(id) = self.freed.pop_front() {
            if self.tasks.get(&id).is_some_and(|task| task.freed) {
                self.forget(id);
                return true;
            }
        }
        while let Some(id) = self.ended.pop_front() {
            if self.tasks.get(&id).is_some_and(TaskRecord::has_ended) {
                self.forget(id);
                return true;
            }
        }
        false
    }

    fn forget(&mut self, id: u64) {
        let Self { tasks, tables } = self;
        let was_known = tasks.remove(id, |task| {
            tables.edge_count -= task.edges.len();
            for edge in task.edges.iter().filter(|edge| edge.kind == EdgeKind::Awaited) {
                tables.awaited.remove(&(edge.from, id));
            }
            tables.unlog_change(task);
        });
        if !was_known {
            return;
        }
        let revision = self.next_revision();
        self.forgotten.push_back((revision, id));
        if self.forgotten.len() > TASKS {
            if let Some((revision, _)) = self.forgotten.pop_front() {
                self.forgotten_before = revision;
            }
        }
        let Self { tasks, tables } = self;
        // A task that is forgotten after it was freed leaves its entry in `ended`.
        if tables.ended.len() > 2 * TASKS {
            tables.ended.retain(|id| tasks.contains_key(id));
        }
    }

    /// Removes the holes of the change log at its front, and all of them once they are most of it. The sweep is paid for
    /// by the changes that have made the holes.
    fn tidy(&mut self) {
        let Self { tasks, tables } = self;
        while tables.changes.front().is_some_and(|(_, id)| *id == 0) {
            tables.changes.pop_front();
            tables.changes_removed += 1;
        }
        if tables.changes.len() > 4 * tasks.len() + 1_000 {
            tables.changes.retain(|(_, id)| *id != 0);
            for (index, (_, id)) in (tables.changes_removed..).zip(&tables.changes) {
                if let Some(task) = tasks.get_mut(id) {
                    task.log_index = index;
                }
            }
        }
    }
}

impl Tables {
    /// Applies a change to the task's record, as the table of the module says.
    fn change(&mut self, id: u64, task: &mut TaskRecord, at: u64, change: Change) {
        match change {
            // `apply` has handled these, but for edges from unknown tasks.
            Change::Created { .. } | Change::Input(_) | Change::Awaits(_) => {}
            Change::Keyed(key) => task.key_source = KeySource::Given(key),
            Change::Derived(digest) => task.key_source = KeySource::Derived(digest),
            Change::Ready => self.set_status(id, task, Status::Ready, at),
            Change::Polled(worker) => {
                task.worker = Some(worker);
                task.polled_at = at;
                *self.worker(worker) = WorkerActivity { task: Some(id), since: at };
                if !task.parked {
                    self.set_status(id, task, Status::Running, at);
                }
            }
            Change::Suspended => self.end_poll(id, task, at, PollOutcome::Pending),
            Change::Limited => {
                task.parked = true;
                self.set_status(id, task, Status::Ready, at);
            }
            Change::Delayed(attempt) => {
                task.parked = true;
                task.attempt = attempt + 1;
                self.set_status(id, task, Status::Delayed, at);
            }
            Change::Unparked => {
                task.parked = false;
                self.set_status(id, task, Status::Running, at);
            }
            Change::Ended(status) => {
                let outcome = match status {
                    Status::Finished => PollOutcome::Value,
                    _ => PollOutcome::Failed,
                };
                self.add_transition(id, task, status, at);
                self.end_poll(id, task, at, outcome);
                task.held = status == Status::Finished;
                self.ended.push_back(id);
            }
            Change::Error(text) => task.error = Some(text),
            Change::Freed => {
                task.held = false;
                task.freed = true;
                self.freed.push_back(id);
            }
        }
    }

    /// Changes the status, unless the task has it already: two events may report the same.
    fn set_status(&mut self, id: u64, task: &mut TaskRecord, status: Status, at: u64) {
        if task.status != status {
            self.add_transition(id, task, status, at);
        }
    }

    /// Adds a transition to a status, also to the one that the task has: the record of a task that ended at once is
    /// created with its end.
    fn add_transition(&mut self, id: u64, task: &mut TaskRecord, status: Status, at: u64) {
        let activity = self.activity(task.name);
        if let Some(before) = activity.count_mut(task.status) {
            *before = before.saturating_sub(1);
        }
        if let Some(now) = activity.count_mut(status) {
            *now += 1;
        }
        task.status = status;
        task.push_transition(at);
        self.add_event(id, task, at);
    }

    /// Records a poll that has returned, if a worker polls the task.
    fn end_poll(&mut self, id: u64, task: &mut TaskRecord, at: u64, outcome: PollOutcome) {
        let Some(worker) = task.worker.take() else { return };
        let took = at.saturating_sub(task.polled_at);
        task.run_time += took;
        let activity = self.activity(task.name);
        activity.run_time += took;
        activity.polls += 1;
        let worker_now = self.worker(worker);
        if worker_now.task == Some(id) {
            *worker_now = WorkerActivity { task: None, since: at };
        }
        if self.polls.len() == POLLS {
            self.polls.pop_front();
        }
        let revision = self.next_revision();
        let (start, name) = (task.polled_at, task.name);
        self.polls.push_back(PollRecord {
            revision,
            worker,
            start,
            end: at,
            name,
            task: id,
            outcome,
        });
    }

    /// Adds an edge from another task, given by its number, name and depth.
    fn add_edge(&mut self, id: u64, task: &mut TaskRecord, from: (u64, u32, u32), kind: EdgeKind) {
        let (from, name, depth) = from;
        if self.edge_count >= EDGES
            || (kind == EdgeKind::Awaited && !self.awaited.insert((from, id)))
        {
            return;
        }
        if kind == EdgeKind::Taken {
            task.depth = task.depth.max(depth + 1);
        }
        let names = (name, task.name);
        let revision = self.next_revision();
        self.edge_count += 1;
        task.edges.push(Edge { from, kind, revision });
        if self.links.len() < LINKS || self.links.contains_key(&names) {
            let link = self.links.entry(names).or_default();
            link.count += 1;
            link.revision = revision;
        }
    }

    /// Adds the transition to the current status to the list of all tasks' events.
    fn add_event(&mut self, id: u64, task: &TaskRecord, at: u64) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events_total += 1;
        let revision = self.next_revision();
        self.events.push_back(StatusEvent { revision, task: id, change: task.transition(at) });
    }

    /// Moves a task that has changed to the end of the change log.
    fn log_change(&mut self, id: u64, task: &mut TaskRecord) {
        let revision = self.next_revision();
        match self.changes.back_mut() {
            // The events of a task come in twos and threes.
            Some(last) if last.1 == id => last.0 = revision,
            _ => {
                self.unlog_change(task);
                task.log_index = self.changes_removed + self.changes.len() as u64;
                self.changes.push_back((revision, id));
            }
        }
        task.revision = revision;
    }

    /// Makes a hole of the task's entry in the change log.
    fn unlog_change(&mut self, task: &TaskRecord) {
        let at = task.log_index.wrapping_sub(self.changes_removed);
        if let Some(logged) = self.changes.get_mut(at as usize) {
            logged.1 = 0;
        }
    }

    pub(crate) fn next_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    fn activity(&mut self, name: u32) -> &mut FunctionActivity {
        let name = name as usize;
        if self.functions.len() <= name {
            self.functions.resize(name + 1, FunctionActivity::default());
        }
        &mut self.functions[name]
    }

    fn worker(&mut self, worker: u32) -> &mut WorkerActivity {
        let worker = worker as usize;
        if self.workers.len() <= worker {
            self.workers.resize(worker + 1, WorkerActivity::default());
        }
        &mut self.workers[worker]
    }

    /// Returns how many of the submitted tasks, retries included, were not recorded.
    pub(crate) fn left_out(&self, submitted: u64) -> u64 {
        submitted.saturating_sub(self.recorded + self.retried)
    }

    /// Returns whether all recorded tasks have ended.
    pub(crate) fn all_have_ended(&self) -> bool {
        let is_done = |activity: &FunctionActivity| {
            activity.waiting + activity.ready + activity.running + activity.delayed == 0
        };
        self.functions.iter().all(is_done)
    }

    /// Returns the polls after a revision.
    pub(crate) fn polls_since(&self, revision: u64) -> vec_deque::Iter<'_, PollRecord> {
        self.polls.range(self.polls.partition_point(|poll| poll.revision <= revision)..)
    }

    /// Returns the status events after a revision.
    pub(crate) fn events_since(&self, revision: u64) -> vec_deque::Iter<'_, StatusEvent> {
        self.events.range(self.events.partition_point(|event| event.revision <= revision)..)
    }

    /// Returns the tasks that are being polled, by the number of the worker.
    pub(crate) fn polled_tasks(&self) -> impl Iterator<Item = u64> {
        self.workers.iter().filter_map(|worker| worker.task)
    }

    /// Adds new names, by the next indexes.
    pub(crate) fn add_names(&mut self, names: impl IntoIterator<Item = Arc<str>>) {
        for name in names {
            let revision = self.next_revision();
            self.names.push((revision, name));
        }
    }

    pub(crate) fn name(&self, index: u32) -> &Arc<str> {
        &self.names[index as usize].1
    }
}
