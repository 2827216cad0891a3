//! The record of the target `threads`: facts that tasks write, and the results that follow from them in any order of
//! events.

use std::any::Any;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use ensue::{Client, Error, ErrorKind, Handle};

pub(crate) use super::tally::Id;
use super::tally::{self, Tally};
use super::threads_plan::{Plan, SLOTS};

#[derive(Clone)]
pub(crate) struct Shared(Arc<Inner>);

/// The handle of a task.
type Kept = (Id, Handle<Value>);

struct Inner {
    plan: Arc<Plan>,
    record: Mutex<Record>,
    slots: Mutex<Vec<Option<Kept>>>,
    /// Handles that are kept until the end.
    kept: Mutex<Vec<Kept>>,
    /// Forgotten futures, dropped after the client's end.
    forgotten: Mutex<Vec<Box<dyn Any + Send>>>,
    /// The client of `on_stall`, until the end is near.
    client: RwLock<Option<Client>>,
}

#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) tasks: Vec<Task>,
    /// Closing has begun, or is about to.
    pub(crate) closed: bool,
    /// The last client was dropped, or is about to be.
    pub(crate) dropped: bool,
    pub(crate) values: isize,
    pub(crate) retries: usize,
    /// Callbacks that were added and not called.
    pub(crate) callbacks: isize,
    pub(crate) failure: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Task {
    pub(crate) name: String,
    /// Whichever of the submissions of a key came first has made the task that all handles are of.
    pub(crate) key: Option<u8>,
    pub(crate) inputs: Vec<Id>,
    pub(crate) runs: u32,
    /// The runs that its retries allow.
    pub(crate) most_runs: u32,
    /// It holds a limit while it runs.
    pub(crate) limited: bool,
    /// Live functions and futures.
    pub(crate) alive: isize,
    /// It's in a poll.
    pub(crate) polled: bool,
    pub(crate) has_value: bool,
    pub(crate) has_failed: bool,
    pub(crate) has_panicked: bool,
    /// `cancel` was called, or is about to be.
    pub(crate) may_be_cancelled: bool,
    /// `cancel` gave true.
    pub(crate) cancelled: bool,
}

impl Shared {
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        Self(Arc::new(Inner {
            plan,
            record: Mutex::default(),
            slots: Mutex::new(vec![None; SLOTS]),
            kept: Mutex::default(),
            forgotten: Mutex::default(),
            client: RwLock::default(),
        }))
    }

    /// Runs code in `on_stall`, unless the end is near.
    pub(crate) fn with_client(&self, code: impl FnOnce(&Client)) {
        let client = self.0.client.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*client {
            code(client);
        }
    }

    /// Sets the client, or takes it away when no code uses it.
    pub(crate) fn set_client(&self, client: Option<Client>) {
        let mut place = self.0.client.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *place, client);
        drop(place);
        drop(before);
    }

    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.0.plan.clone()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Record> {
        lock(&self.0.record)
    }

    pub(crate) fn expect(&self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.lock().failure.get_or_insert_with(what);
        }
    }

    pub(crate) fn get(&self, slot: usize) -> Option<(Id, Handle<Value>)> {
        lock(&self.0.slots)[slot].clone()
    }

    /// Returns copies of the handles in the slots of tasks older than `id`. Tasks await only those, so they're in no
    /// cycle.
    pub(crate) fn older(&self, slots: &[usize], id: Id) -> Vec<(Id, Handle<Value>)> {
        let handles = slots.iter().filter_map(|slot| self.get(*slot));
        let record = self.lock();
        let mut handles: Vec<_> = handles.collect();
        handles.retain(|(other, _)| record.same(*other).iter().all(|other| *other < id));
        drop(record);
        handles
    }

    pub(crate) fn put(&self, slot: usize, handle: Option<(Id, Handle<Value>)>) {
        let before = std::mem::replace(&mut lock(&self.0.slots)[slot], handle);
        // Without the lock: destructors use the slots.
        drop(before);
    }

    pub(crate) fn take(&self, slot: usize) -> Option<(Id, Handle<Value>)> {
        lock(&self.0.slots)[slot].take()
    }

    pub(crate) fn keep(&self, id: Id, handle: Handle<Value>) {
        lock(&self.0.kept).push((id, handle));
    }

    pub(crate) fn kept(&self) -> Vec<(Id, Handle<Value>)> {
        lock(&self.0.kept).clone()
    }

    pub(crate) fn forget(&self, future: impl Any + Send) {
        lock(&self.0.forgotten).push(Box::new(future));
    }

    /// Drops all handles and forgotten futures.
    pub(crate) fn clear(&self) {
        (0..SLOTS).for_each(|slot| self.put(slot, None));
        let kept = std::mem::take(&mut *lock(&self.0.kept));
        drop(kept);
        let forgotten = std::mem::take(&mut *lock(&self.0.forgotten));
        drop(forgotten);
    }

    /// Checks the result of a task that someone holds a handle of.
    pub(crate) fn check(&self, id: Id, result: Result<&Value, &Error>) {
        let record = self.lock();
        let right = match result {
            Ok(value) => record.same(id).contains(&value.of) && record.tasks[value.of].has_value,
            Err(error) => record.same(id).iter().any(|id| record.allows(*id, error)),
        };
        let task = format!("t{id} gave {result:?}: {:?}", record.tasks[id]);
        drop(record);
        self.expect(right, || task);
    }
}

impl Record {
    /// Whether the task may have ended with this error.
    fn allows(&self, id: Id, error: &Error) -> bool {
        let all = self.ancestors(id);
        let by = |right: &dyn Fn(&Task) -> bool| {
            all.iter().any(|id| {
                let task = &self.tasks[*id];
                // The name is known once the submission has returned.
                (task.name.is_empty() || task.name == **error.origin()) && right(task)
            })
        };
        // A task may be ended in its last poll, whose value isn't used then.
        let in_poll = match error.kind() {
            ErrorKind::Cancelled => true,
            ErrorKind::Closed => self.dropped,
            _ => false,
        };
        (!self.tasks[id].has_value || in_poll)
            && match error.kind() {
                ErrorKind::Failed => by(&|task| task.has_failed),
                ErrorKind::Panicked => by(&|task| task.has_panicked),
                ErrorKind::Cancelled => by(&|task| task.may_be_cancelled),
                ErrorKind::Closed => self.closed,
                _ => false,
            }
    }

    /// Returns the tasks of which a handle may be that this submission returned: those of the same key.
    pub(crate) fn same(&self, id: Id) -> Vec<Id> {
        match self.tasks[id].key {
            None => vec![id],
            key => (0..self.tasks.len()).filter(|other| self.tasks[*other].key == key).collect(),
        }
    }

    fn ancestors(&self, id: Id) -> HashSet<Id> {
        let (mut all, mut next) = (HashSet::new(), vec![id]);
        while let Some(id) = next.pop() {
            if all.insert(id) {
                next.extend(self.tasks[id].inputs.iter().flat_map(|input| self.same(*input)));
            }
        }
        all
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally for Shared {
    fn add_values(&self, change: isize) {
        self.lock().values += change;
    }

    fn add_alive(&self, id: Id, change: isize) {
        self.lock().tasks[id].alive += change;
    }
}

pub(crate) type Value = tally::Value<Shared>;
pub(crate) type Alive = tally::Alive<Shared>;
