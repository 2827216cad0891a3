//! What is known of the watched tasks: tables that readers bring up to date from the buffers, on their own
//! threads.
//!
//! Everything that changes gets a revision, a number that only grows; who knows all up to some revision
//! asks for what came after. A task that changes again moves to the end of the log of changes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::buffers::{Moment, What};
use super::task_record::{Edge, Entry, Kind, Label, is_end};
use super::task_table::Tasks;
use crate::Status;

/// So many tasks are remembered. The first to be forgotten are those whose memory was freed first, then those
/// that ended first; of more unfinished ones the newest are left out.
pub(crate) const TASKS: usize = 100_000;
/// So many edges.
const EDGES: usize = 500_000;
/// So many pairs of functions with edges between them.
const LINKS: usize = 10_000;
/// So many polls.
const BARS: usize = 100_000;
/// So many changes of status.
pub(crate) const EVENTS: usize = 10_000;

#[derive(Default)]
pub(crate) struct Record {
    pub(crate) tasks: Tasks,
    tables: Tables,
}

/// All but the tasks themselves: apart, so that it can change while a task does.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) revision: u64,
    /// The names of functions, by their places, each with its revision.
    pub(crate) names: Vec<(u64, Arc<str>)>,
    /// What the tasks of each function are doing.
    pub(crate) functions: Vec<Doing>,
    /// Which task changed, by revision; 0 where it has changed again, or was forgotten.
    pub(crate) changes: VecDeque<(u64, u64)>,
    /// How many have gone from the front of these.
    changes_gone: u64,
    /// Tasks that were forgotten.
    pub(crate) gone: VecDeque<(u64, u64)>,
    /// Those before this revision were forgotten too.
    pub(crate) gone_before: u64,
    pub(crate) links: HashMap<(u32, u32), Link, RandomState>,
    pub(crate) bars: VecDeque<Bar>,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) events: VecDeque<Happened>,
    /// How many events there were, those that were dropped included.
    pub(crate) events_so_far: u64,
    /// Moments that were dropped before anybody looked.
    pub(crate) dropped: u64,
    /// How many tasks were entered, and how often one was run again by a retry.
    pub(crate) entered: u64,
    pub(crate) again: u64,
    edges: usize,
    awaited: HashSet<(u64, u64), RandomState>,
    ended: VecDeque<u64>,
    released: VecDeque<u64>,
    /// Taken from the buffers, and later than what others may still be about to write.
    pub(crate) pending: Vec<Moment>,
}

/// What the tasks of one function are doing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Doing {
    pub(crate) waiting: u64,
    pub(crate) ready: u64,
    pub(crate) running: u64,
    pub(crate) delayed: u64,
    /// In nanoseconds.
    pub(crate) run_time: u64,
    pub(crate) polls: u64,
}

impl Doing {
    fn of(&mut self, status: Status) -> Option<&mut u64> {
        match status {
            Status::Waiting => Some(&mut self.waiting),
            Status::Ready => Some(&mut self.ready),
            Status::Running => Some(&mut self.running),
            Status::Delayed => Some(&mut self.delayed),
            _ => None,
        }
    }
}

/// How many edges lead from tasks of one function to those of another.
#[derive(Clone, Copy, Default)]
pub(crate) struct Link {
    pub(crate) count: u64,
    pub(crate) revision: u64,
}

/// A poll that is over.
#[derive(Clone, Copy)]
pub(crate) struct Bar {
    pub(crate) revision: u64,
    pub(crate) worker: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) name: u32,
    pub(crate) task: u64,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    Pending = 0,
    Value = 1,
    Failed = 2,
}

/// What a worker is at.
#[derive(Clone, Copy, Default)]
pub(crate) struct Lane {
    pub(crate) task: Option<u64>,
    pub(crate) since: u64,
}

/// A task came to a new status.
#[derive(Clone, Copy)]
pub(crate) struct Happened {
    pub(crate) revision: u64,
    pub(crate) task: u64,
    pub(crate) status: Status,
    pub(crate) at: u64,
    pub(crate) worker: Option<u32>,
    pub(crate) attempt: u32,
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
    pub(crate) fn apply(&mut self, moment: Moment) {
        let Moment { at, task: id, what } = moment;
        if let What::Created { name, priority, status, by, is_old } = what {
            self.created(id, at, name, priority, status, by, is_old);
            return;
        }
        let other = match what {
            What::Input(from) | What::Awaits(from) => {
                self.tasks.get(&from).map(|other| (from, other.name, other.depth))
            }
            _ => None,
        };
        let Self { tasks, tables } = self;
        let Some(entry) = tasks.get_mut(&id) else { return };
        match (what, other) {
            (What::Input(_), Some(from)) => tables.add_edge(id, entry, from, Kind::Input),
            (What::Awaits(_), Some(from)) => tables.add_edge(id, entry, from, Kind::Awaited),
            (what, _) => tables.change(id, entry, at, what),
        }
        tables.note(id, entry);
        self.tidy();
    }

    #[allow(clippy::too_many_arguments)] // they're the fields of a moment
    fn created(
        &mut self,
        id: u64,
        at: u64,
        name: u32,
        priority: i32,
        status: Status,
        by: u64,
        is_old: bool,
    ) {
        let Self { tasks, tables } = self;
        if let Some(entry) = tasks.get_mut(&id) {
            // It was retried.
            tables.again += 1;
            entry.error = None;
            entry.parked = false;
            entry.attempt = 1;
            tables.come_to(id, entry, status, at);
            tables.note(id, entry);
            return;
        }
        if self.tasks.len() >= TASKS && !self.forget_one() {
            return;
        }
        let depth = self.tasks.get(&by).map_or(0, |by| by.depth + 1);
        let Self { tasks, tables } = self;
        tables.entered += 1;
        let entry = tasks.insert(id, name, priority, status);
        entry.depth = depth;
        if let Some(doing) = tables.doing(name).of(status) {
            *doing += 1;
        }
        if is_end(status) {
            // If it's not old, it's about to be told that it has ended.
            entry.held = is_old && status == Status::Finished;
            tables.ended.push_back(id);
        } else {
            entry.begin_chapter(at);
            if !is_old {
                tables.happened(id, entry, at);
            }
        }
        tables.note(id, entry);
    }

    /// Makes room for a task; false where all are still needed.
    fn forget_one(&mut self) -> bool {
        while let Some(id) = self.released.pop_front() {
            if self.tasks.get(&id).is_some_and(|entry| entry.released) {
                self.forget(id);
                return true;
            }
        }
        while let Some(id) = self.ended.pop_front() {
            if self.tasks.get(&id).is_some_and(Entry::has_ended) {
                self.forget(id);
                return true;
            }
        }
        false
    }

    fn forget(&mut self, id: u64) {
        let Self { tasks, tables } = self;
        let was_there = tasks.remove(id, |entry| {
            tables.edges -= entry.edges.len();
            for edge in entry.edges.iter().filter(|edge| edge.kind == Kind::Awaited) {
                tables.awaited.remove(&(edge.from, id));
            }
            tables.unnote(entry);
        });
        if !was_there {
            return;
        }
        let revision = self.next_revision();
        self.gone.push_back((revision, id));
        if self.gone.len() > TASKS {
            if let Some((revision, _)) = self.gone.pop_front() {
                self.gone_before = revision;
            }
        }
        let Self { tasks, tables } = self;
        if tables.ended.len() > 2 * TASKS {
            tables.ended.retain(|id| tasks.contains_key(id));
        }
    }

    /// Drops what has come to mean nothing, once it's most of it.
    fn tidy(&mut self) {
        let Self { tasks, tables } = self;
        while tables.changes.front().is_some_and(|(_, id)| *id == 0) {
            tables.changes.pop_front();
            tables.changes_gone += 1;
        }
        if tables.changes.len() > 4 * tasks.len() + 1_000 {
            tables.changes.retain(|(_, id)| *id != 0);
            for (noted, (_, id)) in (tables.changes_gone..).zip(&tables.changes) {
                if let Some(entry) = tasks.get_mut(id) {
                    entry.noted = noted;
                }
            }
        }
    }
}

impl Tables {
    fn change(&mut self, id: u64, entry: &mut Entry, at: u64, what: What) {
        match what {
            // These are dealt with before.
            What::Created { .. } | What::Input(_) | What::Awaits(_) => {}
            What::Keyed(key) => entry.label = Label::Key(key),
            What::Derived(digest) => entry.label = Label::Derived(digest),
            What::Ready => self.come_to(id, entry, Status::Ready, at),
            What::Polled(worker) => {
                entry.worker = Some(worker);
                entry.polled = at;
                *self.lane(worker) = Lane { task: Some(id), since: at };
                if !entry.parked {
                    self.come_to(id, entry, Status::Running, at);
                }
            }
            What::Suspended => self.end_poll(id, entry, at, Outcome::Pending),
            What::Limited => {
                entry.parked = true;
                self.come_to(id, entry, Status::Ready, at);
            }
            What::Delayed(attempt) => {
                entry.parked = true;
                entry.attempt = attempt + 1;
                self.come_to(id, entry, Status::Delayed, at);
            }
            What::Unparked => {
                entry.parked = false;
                self.come_to(id, entry, Status::Running, at);
            }
            What::Ended(status) => {
                let outcome = match status {
                    Status::Finished => Outcome::Value,
                    _ => Outcome::Failed,
                };
                self.come_to_end(id, entry, status, at);
                self.end_poll(id, entry, at, outcome);
                entry.held = status == Status::Finished;
                self.ended.push_back(id);
            }
            What::Error(text) => entry.error = Some(text),
            What::Released => {
                entry.held = false;
                entry.released = true;
                self.released.push_back(id);
            }
        }
    }

    fn come_to(&mut self, id: u64, entry: &mut Entry, status: Status, at: u64) {
        if entry.status != status {
            self.come_to_end(id, entry, status, at);
        }
    }

    /// The same for one that may be born with its end.
    fn come_to_end(&mut self, id: u64, entry: &mut Entry, status: Status, at: u64) {
        let doing = self.doing(entry.name);
        if let Some(before) = doing.of(entry.status) {
            *before = before.saturating_sub(1);
        }
        if let Some(now) = doing.of(status) {
            *now += 1;
        }
        entry.status = status;
        entry.begin_chapter(at);
        self.happened(id, entry, at);
    }

    fn end_poll(&mut self, id: u64, entry: &mut Entry, at: u64, outcome: Outcome) {
        let Some(worker) = entry.worker.take() else { return };
        let took = at.saturating_sub(entry.polled);
        entry.run_time += took;
        let doing = self.doing(entry.name);
        doing.run_time += took;
        doing.polls += 1;
        let lane = self.lane(worker);
        if lane.task == Some(id) {
            *lane = Lane { task: None, since: at };
        }
        if self.bars.len() == BARS {
            self.bars.pop_front();
        }
        let revision = self.next_revision();
        let (start, name) = (entry.polled, entry.name);
        self.bars.push_back(Bar { revision, worker, start, end: at, name, task: id, outcome });
    }

    /// Adds an edge from a task, of which these are the number, the name and the depth.
    fn add_edge(&mut self, id: u64, entry: &mut Entry, from: (u64, u32, u32), kind: Kind) {
        let (from, name, depth) = from;
        if self.edges >= EDGES || (kind == Kind::Awaited && !self.awaited.insert((from, id))) {
            return;
        }
        if kind == Kind::Input {
            entry.depth = entry.depth.max(depth + 1);
        }
        let names = (name, entry.name);
        let revision = self.next_revision();
        self.edges += 1;
        entry.edges.push(Edge { from, kind, revision });
        if self.links.len() < LINKS || self.links.contains_key(&names) {
            let link = self.links.entry(names).or_default();
            link.count += 1;
            link.revision = revision;
        }
    }

    fn happened(&mut self, id: u64, entry: &Entry, at: u64) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events_so_far += 1;
        let revision = self.next_revision();
        let Entry { status, worker, attempt, .. } = *entry;
        self.events.push_back(Happened { revision, task: id, status, at, worker, attempt });
    }

    /// Notes that a task has changed.
    fn note(&mut self, id: u64, entry: &mut Entry) {
        let revision = self.next_revision();
        match self.changes.back_mut() {
            // What happens to a task comes in twos and threes.
            Some(last) if last.1 == id => last.0 = revision,
            _ => {
                self.unnote(entry);
                entry.noted = self.changes_gone + self.changes.len() as u64;
                self.changes.push_back((revision, id));
            }
        }
        entry.revision = revision;
    }

    /// Takes back what was noted last of a task.
    fn unnote(&mut self, entry: &Entry) {
        let at = entry.noted.wrapping_sub(self.changes_gone);
        if let Some(noted) = self.changes.get_mut(at as usize) {
            noted.1 = 0;
        }
    }

    pub(crate) fn next_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    fn doing(&mut self, name: u32) -> &mut Doing {
        let name = name as usize;
        if self.functions.len() <= name {
            self.functions.resize(name + 1, Doing::default());
        }
        &mut self.functions[name]
    }

    fn lane(&mut self, worker: u32) -> &mut Lane {
        let worker = worker as usize;
        if self.lanes.len() <= worker {
            self.lanes.resize(worker + 1, Lane::default());
        }
        &mut self.lanes[worker]
    }

    /// How many tasks were never entered, of so many that were submitted and retried.
    pub(crate) fn left_out(&self, submitted: u64) -> u64 {
        submitted.saturating_sub(self.entered + self.again)
    }

    /// Adds names that are new.
    pub(crate) fn add_names(&mut self, names: impl IntoIterator<Item = Arc<str>>) {
        for name in names {
            let revision = self.next_revision();
            self.names.push((revision, name));
        }
    }

    pub(crate) fn name(&self, place: u32) -> &Arc<str> {
        &self.names[place as usize].1
    }
}
