//! The record of the target `clients`: facts that its tasks write, and the results that follow from them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use ensue::{Error, ErrorKind, Ref};

use super::clients::End;
use super::tally::{self, Id, Tally};

/// Facts about all tasks, written by the tasks and by the program.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) tasks: Vec<Task>,
    pub(crate) closed: [bool; 2],
    pub(crate) values: isize,
}

#[derive(Debug, Default)]
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) client: usize,
    pub(crate) inputs: Vec<Id>,
    pub(crate) runs: usize,
    /// The number of its live futures and functions.
    pub(crate) alive: isize,
    pub(crate) awaits: Option<Id>,
    pub(crate) ended: Option<End>,
    pub(crate) cancelled: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<Record>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
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

impl Record {
    /// Whether a task waits for another one, directly or transitively.
    pub(crate) fn waits(&self, from: Id, to: Id) -> bool {
        let (mut next, mut seen) = (vec![from], HashSet::new());
        while let Some(id) = next.pop() {
            let task = &self.tasks[id];
            if task.ended.is_some() || self.fails(id) || task.alive == 0 || !seen.insert(id) {
                continue;
            }
            if id == to {
                return true;
            }
            next.extend(task.awaits);
            if task.runs == 0 {
                next.extend(&task.inputs);
            }
        }
        false
    }

    fn fails(&self, id: Id) -> bool {
        let task = &self.tasks[id];
        task.cancelled
            || task.ended.is_some_and(|end| end != End::Value)
            || task.runs == 0 && task.inputs.iter().any(|input| self.fails(*input))
    }

    fn ancestors(&self, id: Id) -> Vec<Id> {
        let mut all = vec![id];
        let mut at = 0;
        while at < all.len() {
            all.extend(self.tasks[all[at]].inputs.iter().copied());
            at += 1;
        }
        all
    }

    pub(crate) fn check(&self, id: Id, result: &std::result::Result<Ref<Value>, Error>) {
        let task = &self.tasks[id];
        let error = match result {
            Ok(value) => {
                assert_eq!((value.of, task.ended), (id, Some(End::Value)), "the value of t{id}");
                return;
            }
            Err(error) => error,
        };
        let named = |id: &Id| self.tasks[*id].name == **error.origin();
        let by = |right: &dyn Fn(&Task) -> bool| {
            let all = self.ancestors(id);
            all.iter().any(|id| named(id) && right(&self.tasks[*id]))
        };
        let right = match error.kind() {
            ErrorKind::Failed => by(&|task| task.ended == Some(End::Error)),
            ErrorKind::Panicked => by(&|task| task.ended == Some(End::Panic)),
            ErrorKind::Cancelled => by(&|task| task.cancelled),
            ErrorKind::Closed => {
                self.ancestors(id).iter().any(|id| self.closed[self.tasks[*id].client])
            }
            _ => false,
        };
        assert!(right, "t{id} gave {error:?}");
        assert!(task.cancelled || task.ended != Some(End::Value), "t{id} gave {error:?}");
    }
}
