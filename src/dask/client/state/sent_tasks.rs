//! Tasks that were sent and that the scheduler may still refuse.
//!
//! If one task of a graph takes a result that the scheduler no longer has, the scheduler refuses the whole graph. It
//! may have lost the result a moment ago, so the client can't prevent that. It sends the tasks again that don't take
//! anything known to be lost. If those are refused too, it sends each in a graph of its own; a task that is refused
//! then does take a lost result.
//!
//! | times sent | if refused and it takes a lost result | if refused otherwise |
//! |--:|---|---|
//! | 1 | fails | sent again with the others |
//! | 2 | fails | sent again alone |
//! | 3 | fails | fails |

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::task_spec::TaskSpec;

/// The number of times that a task is sent with others before it's sent alone. By the second time its inputs have been
/// sent again, if they were refused before: refusals arrive in order.
const SENDS_WITH_OTHERS: u32 = 2;

/// Sent tasks that no message of the scheduler has confirmed.
#[derive(Debug, Default)]
pub(crate) struct SentTasks {
    tasks: HashMap<Arc<str>, SentTask>,
    next_number: u64,
}

#[derive(Debug)]
struct SentTask {
    spec: TaskSpec,
    /// The position in the order of sending, in which they are sent again: inputs before dependents.
    number: u64,
    times_sent: u32,
}

impl SentTasks {
    /// Remembers the tasks of a graph. A graph whose inputs are all in itself can't be refused, so it isn't remembered.
    pub(crate) fn remember(&mut self, graph: &[TaskSpec]) {
        let keys: HashSet<_> = graph.iter().map(|spec| &spec.key).collect();
        if graph.iter().all(|spec| spec.inputs().into_iter().all(|input| keys.contains(input))) {
            return;
        }
        // All of them: a refusal concerns the whole graph.
        for spec in graph {
            let number = self.next_number;
            self.next_number += 1;
            let times_sent = self.tasks.get(&spec.key).map_or(0, |task| task.times_sent) + 1;
            let task = SentTask { spec: spec.clone(), number, times_sent };
            // Replaces the entry of the last time, with the next number: it's sent after tasks that weren't refused.
            self.tasks.insert(spec.key.clone(), task);
        }
    }

    /// Returns whether the task may be refused.
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.tasks.contains_key(key)
    }

    /// Removes a task that the scheduler has accepted, or that was released.
    pub(crate) fn forget(&mut self, key: &str) {
        self.tasks.remove(key);
    }

    /// Handles a refusal of these keys: returns the tasks to send again, in order, and leaves in `keys` those that
    /// fail.
    pub(crate) fn refused(
        &mut self,
        keys: &mut HashSet<Arc<str>>,
        lost_keys: &HashSet<Arc<str>>,
    ) -> Vec<TaskSpec> {
        let mut tasks: Vec<_> = keys.iter().filter_map(|key| self.tasks.get(key)).collect();
        tasks.sort_unstable_by_key(|task| task.number);
        let mut failed = HashSet::new();
        let mut again = Vec::new();
        // In the order of sending, so that a dependent of a failed task is found to fail, too.
        for SentTask { spec, times_sent, .. } in tasks {
            let is_lost = |input: &&Arc<str>| lost_keys.contains(*input) || failed.contains(*input);
            if *times_sent > SENDS_WITH_OTHERS || spec.inputs().iter().any(is_lost) {
                failed.insert(spec.key.clone());
            } else {
                let is_alone = *times_sent == SENDS_WITH_OTHERS;
                again.push(TaskSpec { is_alone, ..spec.clone() });
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
