//! Operations for the scheduler, until they're in a message: Dask's `BatchedSend`, which also keeps dependent
//! operations in order.
//!
//! A graph costs the scheduler much more than one of its tasks, so waiting tasks are sent in as few graphs as possible.
//! Within a message, graphs come first, then releases, then the rest. An operation that must not overtake an earlier
//! one waits for the next message.
//!
//! | an operation is | when | leaves that state |
//! |---|---|---|
//! | ready | nothing blocks its keys | with the next message that has room |
//! | held | its key, or an input, is *blocked* | when the last blocker of those keys is removed |
//! | a scatter | it gives a value to a worker, by a call instead of a message | when the driver takes it |
//! | a delayed scatter | a release of its key isn't acknowledged | when the scheduler answers the probe |
//!
//! A key is blocked while a scatter or a retry of it is under way on another connection, and while its task waits for a
//! Python worker. A held submission blocks its key and its inputs for the operations that come after it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::released::ReleasedKeys;
use super::task_spec::{TaskSpec, WorkerAddresses};
use crate::dask::wire::capabilities::Forms;
use crate::dask::wire::client;
use crate::dask::wire::frame::Outgoing;
use crate::dask::wire::graph::{Graph, UpdateGraph};
use crate::dask::wire::pack::Batch;
use crate::dask::wire::serialized::Serialized;

/// The limits of one message. The scheduler does nothing else while it reads one.
const TASKS: usize = 2_000;
const BYTES: usize = 4 << 20;
const KEYS: usize = 50_000;

/// An operation for the scheduler.
#[derive(Debug)]
pub(crate) enum Op {
    /// Submits a task.
    Submit(TaskSpec),
    /// Releases a key.
    Release(Arc<str>),
    /// Gives a value to the cluster under this key. That's a call on another connection, but it must not overtake
    /// earlier operations of the key.
    Scatter(Arc<str>, Serialized),
    /// Asks for the state of a key.
    ReportKey(Arc<str>),
    Heartbeat,
    /// Leaves the scheduler.
    Close,
}

impl Op {
    fn key(&self) -> Option<&Arc<str>> {
        match self {
            Self::Submit(spec) => Some(&spec.key),
            Self::Release(key) | Self::Scatter(key, _) | Self::ReportKey(key) => Some(key),
            Self::Heartbeat | Self::Close => None,
        }
    }

    fn concerns(&self, keys: &HashSet<Arc<str>>) -> bool {
        let inputs = match self {
            Self::Submit(spec) => spec.inputs(),
            _ => Vec::new(),
        };
        self.key().into_iter().chain(inputs).any(|key| keys.contains(key))
    }
}

/// The operations that aren't sent, in order.
#[derive(Debug, Default)]
pub(crate) struct BatchedSend {
    ready: VecDeque<Op>,
    held: Vec<Op>,
    /// The blocked keys, and the keys and inputs of the submissions in [`held`](Self::held).
    blocked: HashSet<Arc<str>>,
    /// The keys that something blocks, with the number of blockers.
    blockers: HashMap<Arc<str>, usize>,
    /// The workers that Python tasks are pinned to.
    python_workers: WorkerAddresses,
    released: ReleasedKeys,
    scatters: VecDeque<(Arc<str>, Serialized)>,
    delayed_scatters: Vec<(Arc<str>, Serialized)>,
    /// The number of times that an operation was examined to see whether it's ready.
    #[cfg(test)]
    pub(crate) examined: usize,
    /// Whether a test keeps operations from being sent.
    #[cfg(test)]
    pub(crate) is_paused: bool,
}

impl BatchedSend {
    /// Adds an operation.
    pub(crate) fn push(&mut self, op: Op) {
        if let Op::Release(key) = &op {
            self.released.add(key);
        }
        self.route(op);
    }

    /// Puts an operation where it belongs by now.
    fn route(&mut self, op: Op) {
        #[cfg(test)]
        {
            self.examined += 1;
        }
        // The first test is the usual case, and spares collecting the inputs.
        if !self.blocked.is_empty() && op.concerns(&self.blocked) {
            if let Op::Submit(spec) = &op {
                // Its inputs mustn't be released before it's sent.
                self.blocked.extend(spec.inputs().into_iter().cloned());
                self.blocked.insert(spec.key.clone());
            }
            self.held.push(op);
        } else if let Op::Scatter(key, value) = op {
            // Its dependents come after it.
            self.block(&key);
            if self.released.is_queued(&key) {
                self.delayed_scatters.push((key, value));
            } else {
                self.scatters.push_back((key, value));
            }
        } else {
            if let Op::Release(key) = &op {
                self.released.queue(key);
            }
            self.ready.push_back(op);
        }
    }

    /// Handles the scheduler's answer that it doesn't know a key. Returns whether that answers a probe.
    pub(crate) fn unknown_key(&mut self, key: &str) -> bool {
        let is_answer = self.released.acknowledge(key);
        if is_answer {
            let (delayed, now): (Vec<_>, Vec<_>) = std::mem::take(&mut self.delayed_scatters)
                .into_iter()
                .partition(|(key, _)| self.released.is_queued(key));
            self.delayed_scatters = delayed;
            self.scatters.extend(now);
        }
        is_answer
    }

    /// Returns whether messages about the key are about a task that had it before.
    pub(crate) fn is_released(&self, key: &str) -> bool {
        self.released.contains(key)
    }

    /// Returns whether there is a value to scatter.
    pub(crate) fn has_scatters(&self) -> bool {
        !self.scatters.is_empty()
    }

    /// Takes values for one call: up to `most`, with up to `bytes` bytes unless the first alone has more.
    pub(crate) fn take_scatters(&mut self, most: usize, bytes: u64) -> Vec<(Arc<str>, Serialized)> {
        let (mut count, mut room) = (0, bytes);
        for (_, value) in self.scatters.iter().take(most) {
            let bytes = value.nbytes();
            if bytes > room && count > 0 {
                break;
            }
            room = room.saturating_sub(bytes);
            count += 1;
        }
        self.scatters.drain(..count).collect()
    }

    /// Adds a blocker of this key: operations that concern it are held from now on.
    pub(crate) fn block(&mut self, key: &Arc<str>) {
        *self.blockers.entry(key.clone()).or_default() += 1;
        self.blocked.insert(key.clone());
    }

    /// Removes a blocker of each of these keys.
    pub(crate) fn unblock(&mut self, keys: &[Arc<str>]) {
        for key in keys {
            if let Some(count) = self.blockers.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    self.blockers.remove(key);
                }
            }
        }
        // Once for all keys: each held operation is examined again.
        let held = std::mem::take(&mut self.held);
        self.blocked = self.blockers.keys().cloned().collect();
        for op in held {
            self.route(op);
        }
    }

    /// Sets the workers that Python tasks are pinned to.
    pub(crate) fn set_python_workers(&mut self, workers: WorkerAddresses) {
        self.python_workers = workers;
    }

    /// Drops held submissions whose task is released and has no dependent, together with the release. Then removes
    /// from `waiting` the keys that no held submission has, and unblocks these.
    pub(crate) fn drop_unneeded(&mut self, waiting: &mut Vec<Arc<str>>) {
        let (mut releases, mut needed) = (HashMap::new(), HashSet::new());
        let mut kept = Vec::with_capacity(self.held.len());
        // From the end, since the operations after a submission say whether it's needed.
        for op in std::mem::take(&mut self.held).into_iter().rev() {
            match &op {
                Op::Release(key) => drop(releases.insert(key.clone(), kept.len())),
                Op::Submit(spec) => {
                    let release = releases.remove(&spec.key);
                    if let Some(at) = release.filter(|_| !needed.contains(&spec.key)) {
                        kept[at] = None;
                        self.released.retract(&spec.key);
                        continue;
                    }
                    needed.extend(spec.inputs().into_iter().cloned());
                }
                _ => {}
            }
            kept.push(Some(op));
        }
        self.held = kept.into_iter().rev().flatten().collect();
        let submitted = self.held.iter().filter_map(|op| match op {
            Op::Submit(spec) => Some(&spec.key),
            _ => None,
        });
        let submitted: HashSet<_> = submitted.cloned().collect();
        let (still_waiting, dropped): (Vec<_>, Vec<_>) =
            std::mem::take(waiting).into_iter().partition(|key| submitted.contains(key));
        *waiting = still_waiting;
        if !dropped.is_empty() {
            self.unblock(&dropped);
        }
    }

    /// Drops the unsent submissions that depend on one of these keys, and adds their keys.
    pub(crate) fn drop_dependents(&mut self, keys: &mut HashSet<Arc<str>>) {
        // One pass in order: inputs come before dependents, so a dependent of a dependent finds its key added.
        let mut is_kept = |op: &Op| match op {
            Op::Submit(spec) if spec.inputs().into_iter().any(|input| keys.contains(input)) => {
                keys.insert(spec.key.clone());
                false
            }
            _ => true,
        };
        #[cfg(test)]
        {
            self.examined += self.ready.len() + self.held.len();
        }
        // Ready ones first: a held operation may depend on a ready one, but no ready one on a held one.
        self.ready.retain(&mut is_kept);
        self.held.retain(&mut is_kept);
    }

    /// Drops everything, and leaves the scheduler with the next message.
    pub(crate) fn close(&mut self) {
        *self = Self::default();
        self.ready.push_back(Op::Close);
    }

    /// Takes as many ready operations as the next message has room for; none if there's nothing to send.
    pub(crate) fn next_message(&mut self) -> Option<BatchedMessage> {
        #[cfg(test)]
        if self.is_paused {
            return None;
        }
        let mut message = BatchedMessage {
            python_workers: self.python_workers.clone(),
            ..BatchedMessage::default()
        };
        while let Some(op) = self.ready.front() {
            if !message.has_room_for(op) {
                break;
            }
            let Some(op) = self.ready.pop_front() else { break };
            // Without a probe, an answer about the previous task of the key couldn't be told from one about this one.
            if matches!(&op, Op::Submit(spec) if self.released.is_unprobed(&spec.key)) {
                message.first_probe = message.first_probe.or_else(|| self.released.probe());
            }
            message.add(op);
        }
        if self.ready.is_empty() && self.ready.capacity() > KEYS {
            // Gives the memory of a burst back.
            self.ready = VecDeque::new();
        }
        // A heartbeat is a good moment to probe, as it's rare; and delayed scatters wait for an answer.
        let are_many = self.released.mark_sent(&message.releases);
        if are_many || message.has_heartbeat || !self.delayed_scatters.is_empty() {
            message.reports.extend(self.released.probe().map(Arc::from));
        }
        (!message.is_empty()).then_some(message)
    }
}

/// The operations of one message.
#[derive(Debug, Default)]
pub(crate) struct BatchedMessage {
    graphs: Vec<Vec<TaskSpec>>,
    python_workers: WorkerAddresses,
    tasks: usize,
    bytes: usize,
    releases: Vec<Arc<str>>,
    reports: Vec<Arc<str>>,
    /// The probe that comes before the graphs, so that its answer precedes all messages about their tasks.
    first_probe: Option<String>,
    /// The keys of releases and reports, which come after the graphs.
    later_keys: HashSet<Arc<str>>,
    has_heartbeat: bool,
    is_last: bool,
}

impl BatchedMessage {
    fn is_empty(&self) -> bool {
        let has_keys = !self.releases.is_empty() || !self.reports.is_empty();
        self.tasks == 0 && !has_keys && !self.has_heartbeat && !self.is_last
    }

    fn has_room_for(&self, op: &Op) -> bool {
        if self.is_last || self.later_keys.len() >= KEYS {
            return false;
        }
        match op {
            Op::Submit(spec) => {
                self.tasks < TASKS
                    && (self.tasks == 0 || self.bytes + self.bytes_of(spec) <= BYTES)
                    // Graphs come first, so it would overtake the release or report of its key.
                    && !self.later_keys.contains(&spec.key)
            }
            // Releases come before reports.
            Op::Release(key) => !(self.later_keys.contains(key) && self.reports.contains(key)),
            _ => true,
        }
    }

    fn bytes_of(&self, spec: &TaskSpec) -> usize {
        let is_pinned = spec.is_for_any_python_worker();
        let workers = if is_pinned { &*self.python_workers } else { &[] };
        spec.estimated_bytes() + workers.iter().map(|worker| worker.len() + 5).sum::<usize>()
    }

    fn add(&mut self, op: Op) {
        match op {
            Op::Submit(spec) => {
                self.tasks += 1;
                self.bytes += self.bytes_of(&spec);
                // Only the last graph: a task must not overtake its inputs in an earlier one.
                match self.graphs.last_mut() {
                    Some(graph) if graph[0].fits_in_graph_with(&spec) => graph.push(spec),
                    _ => self.graphs.push(vec![spec]),
                }
            }
            Op::Release(key) => {
                self.later_keys.insert(key.clone());
                self.releases.push(key);
            }
            Op::ReportKey(key) => {
                self.later_keys.insert(key.clone());
                self.reports.push(key);
            }
            Op::Scatter(..) => unreachable!("a scatter is a call, and never ready for a message"),
            Op::Heartbeat => self.has_heartbeat = true,
            Op::Close => self.is_last = true,
        }
    }

    /// Returns the submitted tasks, by graph.
    pub(crate) fn graphs(&self) -> &[Vec<TaskSpec>] {
        &self.graphs
    }

    /// Returns whether it has about as many tasks as fit in a message, so that more are probably ready.
    pub(crate) fn is_full(&self) -> bool {
        self.tasks == TASKS || self.bytes > BYTES / 2
    }

    /// Returns whether the client leaves with it.
    pub(crate) fn is_last(&self) -> bool {
        self.is_last
    }

    /// Encodes the message, in the forms that the scheduler takes.
    pub(crate) fn encode(&self, forms: &Forms) -> Outgoing {
        let mut batch = Batch::new();
        if let Some(probe) = &self.first_probe {
            client::report_key(&mut batch, probe);
        }
        for specs in &self.graphs {
            let mut graph = Graph::new();
            specs.iter().for_each(|spec| spec.add_to(&mut graph, &self.python_workers));
            let keys: Vec<&str> = specs.iter().map(|spec| &*spec.key).collect();
            // Without an order, the scheduler would compute one, on its only thread.
            let order = Some(&*keys);
            UpdateGraph { graph: &graph, form: forms.graph, keys: &keys, order }.push(&mut batch);
        }
        if !self.releases.is_empty() {
            let keys: Vec<&str> = self.releases.iter().map(|key| &**key).collect();
            client::releases_keys(&mut batch, &keys);
        }
        self.reports.iter().for_each(|key| client::report_key(&mut batch, &&**key));
        if self.has_heartbeat {
            client::heartbeat(&mut batch);
        }
        if self.is_last {
            client::close(&mut batch);
        }
        batch.finish()
    }
}

#[cfg(test)]
mod tests;
