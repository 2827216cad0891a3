//! What was sent and may be refused.
//!
//! If one of the tasks of a graph takes something that the scheduler doesn't have any more, it takes none of them. It
//! may only just have lost that, so it can't be known before. What doesn't take it, as far as is known, is sent once
//! more; and if that is refused, too, each task by itself. Those that are refused then do take what's gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::dask::client::state::task_spec::Spec;

/// So often a task is sent with others, and then by itself. What it takes is on its way by then, if that was refused
/// before: refusals come in order.
const WITH_OTHERS: u32 = 2;

/// Tasks of which the scheduler hasn't said anything yet.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    tasks: HashMap<Arc<str>, Task>,
    next_number: u64,
}

#[derive(Debug)]
struct Task {
    spec: Spec,
    /// They're sent again in the order in which they were sent.
    number: u64,
    times: u32,
}

impl Sent {
    /// These are sent in one graph. If nothing in it takes what isn't, it won't be refused.
    pub(crate) fn remember(&mut self, graph: &[Spec]) {
        let keys: HashSet<_> = graph.iter().map(|spec| &spec.key).collect();
        if graph.iter().all(|spec| spec.inputs().into_iter().all(|input| keys.contains(input))) {
            return;
        }
        for spec in graph {
            let number = self.next_number;
            self.next_number += 1;
            let times = self.tasks.get(&spec.key).map_or(0, |task| task.times) + 1;
            self.tasks.insert(spec.key.clone(), Task { spec: spec.clone(), number, times });
        }
    }

    /// Whether it may have been refused.
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.tasks.contains_key(key)
    }

    /// The scheduler has it, or nobody needs it.
    pub(crate) fn forget(&mut self, key: &str) {
        self.tasks.remove(key);
    }

    /// These were refused. Gives what of them can be sent again, in order, as it takes nothing that's gone; and leaves the
    /// keys of the rest.
    pub(crate) fn refused(
        &mut self,
        keys: &mut HashSet<Arc<str>>,
        gone: &HashSet<Arc<str>>,
    ) -> Vec<Spec> {
        let mut tasks: Vec<_> = keys.iter().filter_map(|key| self.tasks.get(key)).collect();
        tasks.sort_unstable_by_key(|task| task.number);
        let mut lost = HashSet::new();
        let mut again = Vec::new();
        for Task { spec, times, .. } in tasks {
            let is_gone = |input: &&Arc<str>| gone.contains(*input) || lost.contains(*input);
            if *times > WITH_OTHERS || spec.inputs().iter().any(is_gone) {
                lost.insert(spec.key.clone());
            } else {
                again.push(Spec { is_alone: *times == WITH_OTHERS, ..spec.clone() });
            }
        }
        for spec in &again {
            keys.remove(&spec.key);
        }
        keys.iter().for_each(|key| self.forget(key));
        again
    }

    pub(crate) fn clear(&mut self) {
        self.tasks.clear();
    }
}
