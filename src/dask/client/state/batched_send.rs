//! What is to be said to the scheduler, until it's sent.
//!
//! A graph costs the scheduler much more than a task of it, so what waits goes in as few as possible. Within a
//! message come graphs, then releases, then the rest; what may not pass what was said before, waits for the
//! next message.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::dask::client::state::pins::Workers;
use crate::dask::client::state::released::Leaving;
use crate::dask::client::state::task_spec::Spec;
use crate::dask::wire::capabilities::Forms;
use crate::dask::wire::client;
use crate::dask::wire::frame::Outgoing;
use crate::dask::wire::graph::{Graph, UpdateGraph};
use crate::dask::wire::pack::Batch;
use crate::dask::wire::serialized::Serialized;

/// How much goes in one message. The scheduler does nothing else while it reads one.
const TASKS: usize = 2_000;
const BYTES: usize = 4 << 20;
const KEYS: usize = 50_000;

/// Something to say.
#[derive(Debug)]
pub(crate) enum Op {
    Submit(Spec),
    /// The key isn't needed any more.
    Release(Arc<str>),
    /// A value is to be the key's. That is said elsewhere, but not before what is said of the key here.
    Give(Arc<str>, Serialized),
    /// In what state is the key?
    Report(Arc<str>),
    /// This client is there.
    Heartbeat,
    /// This client leaves.
    Close,
}

impl Op {
    fn key(&self) -> Option<&Arc<str>> {
        match self {
            Self::Submit(spec) => Some(&spec.key),
            Self::Release(key) | Self::Give(key, _) | Self::Report(key) => Some(key),
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

/// What waits to be said, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    ready: VecDeque<Op>,
    /// What concerns keys that the scheduler doesn't know yet, or knows as failed: they are on their way on
    /// another connection, or wait for a worker that can run them.
    held: Vec<Op>,
    /// These keys, and those submitted or taken in [`held`](Self::held).
    unsettled: HashSet<Arc<str>>,
    /// What has to be done before something in [`held`](Self::held) can go, and how many things for a key.
    under_way: HashMap<Arc<str>, usize>,
    /// Where tasks in Python are to run.
    python: Workers,
    leaving: Leaving,
    /// What is to be given: now, and when the scheduler knows that the key was released.
    values: VecDeque<(Arc<str>, Serialized)>,
    later_values: Vec<(Arc<str>, Serialized)>,
    /// How often something was looked at, to see whether it can go.
    #[cfg(test)]
    pub(crate) looks: usize,
}

impl Outbox {
    pub(crate) fn push(&mut self, op: Op) {
        if let Op::Release(key) = &op {
            self.leaving.add(key);
        }
        self.sort(op);
    }

    /// Decides when it can go.
    fn sort(&mut self, op: Op) {
        #[cfg(test)]
        {
            self.looks += 1;
        }
        if !self.unsettled.is_empty() && op.concerns(&self.unsettled) {
            if let Op::Submit(spec) = &op {
                // Its inputs mustn't be released before.
                self.unsettled.extend(spec.inputs().into_iter().cloned());
                self.unsettled.insert(spec.key.clone());
            }
            self.held.push(op);
        } else if let Op::Give(key, value) = op {
            // What takes it comes after it.
            self.hold(&key);
            if self.leaving.is_going(&key) {
                self.later_values.push((key, value));
            } else {
                self.values.push_back((key, value));
            }
        } else {
            if let Op::Release(key) = &op {
                self.leaving.go(key);
            }
            self.ready.push_back(op);
        }
    }

    /// The scheduler doesn't know this key. Says whether that's because it was asked for it here.
    pub(crate) fn hear_unknown(&mut self, key: &str) -> bool {
        let is_answer = self.leaving.hear(key);
        if is_answer {
            let (later, now): (Vec<_>, Vec<_>) = std::mem::take(&mut self.later_values)
                .into_iter()
                .partition(|(key, _)| self.leaving.is_going(key));
            self.later_values = later;
            self.values.extend(now);
        }
        is_answer
    }

    /// Whether what the scheduler says of the key is of a task that had it before.
    pub(crate) fn is_leaving(&self, key: &str) -> bool {
        self.leaving.contains(key)
    }

    /// Whether there's a value to be given.
    pub(crate) fn has_values(&self) -> bool {
        !self.values.is_empty()
    }

    /// As many of these as go together: so many, with so many bytes unless one alone has more.
    pub(crate) fn take_values(&mut self, most: usize, bytes: u64) -> Vec<(Arc<str>, Serialized)> {
        let (mut count, mut room) = (0, bytes);
        for (_, value) in self.values.iter().take(most) {
            let bytes = value.nbytes();
            if bytes > room && count > 0 {
                break;
            }
            room = room.saturating_sub(bytes);
            count += 1;
        }
        self.values.drain(..count).collect()
    }

    /// What concerns this key waits from now on.
    pub(crate) fn hold(&mut self, key: &Arc<str>) {
        *self.under_way.entry(key.clone()).or_default() += 1;
        self.unsettled.insert(key.clone());
    }

    /// The keys are as they should be.
    pub(crate) fn settle(&mut self, keys: &[Arc<str>]) {
        keys.iter().for_each(|key| self.end(key));
        self.let_go();
    }

    fn end(&mut self, key: &str) {
        if let Some(count) = self.under_way.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(key);
            }
        }
    }

    /// What is held still waits for something, or is ready now.
    fn let_go(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.unsettled = self.under_way.keys().cloned().collect();
        for op in held {
            self.sort(op);
        }
    }

    /// Tasks in Python are to run on these workers.
    pub(crate) fn pin_to(&mut self, python: Workers) {
        self.python = python;
    }

    /// Forgets tasks that are held, and that nobody needs any more. Of the keys that are given, those of no task
    /// that is held are taken out, and settled.
    pub(crate) fn forget_unneeded(&mut self, waiting: &mut Vec<Arc<str>>) {
        let (mut releases, mut needed) = (HashMap::new(), HashSet::new());
        let mut left = Vec::with_capacity(self.held.len());
        // From the end, so that it's known what comes after a submission.
        for op in std::mem::take(&mut self.held).into_iter().rev() {
            match &op {
                Op::Release(key) => drop(releases.insert(key.clone(), left.len())),
                Op::Submit(spec) => {
                    let release = releases.remove(&spec.key);
                    if let Some(at) = release.filter(|_| !needed.contains(&spec.key)) {
                        left[at] = None;
                        self.leaving.take_back(&spec.key);
                        continue;
                    }
                    needed.extend(spec.inputs().into_iter().cloned());
                }
                _ => {}
            }
            left.push(Some(op));
        }
        self.held = left.into_iter().rev().flatten().collect();
        let submitted = self.held.iter().filter_map(|op| match op {
            Op::Submit(spec) => Some(&spec.key),
            _ => None,
        });
        let submitted: HashSet<_> = submitted.cloned().collect();
        let (stay, go): (Vec<_>, Vec<_>) =
            std::mem::take(waiting).into_iter().partition(|key| submitted.contains(key));
        *waiting = stay;
        if !go.is_empty() {
            self.settle(&go);
        }
    }

    /// What takes one of these keys isn't said, and its keys are added to them.
    pub(crate) fn drop_dependents(&mut self, keys: &mut HashSet<Arc<str>>) {
        let mut stays = |op: &Op| match op {
            Op::Submit(spec) if spec.inputs().into_iter().any(|input| keys.contains(input)) => {
                keys.insert(spec.key.clone());
                false
            }
            _ => true,
        };
        #[cfg(test)]
        {
            self.looks += self.ready.len() + self.held.len();
        }
        self.ready.retain(&mut stays);
        self.held.retain(&mut stays);
    }

    /// Nothing but the farewell.
    pub(crate) fn close(&mut self) {
        *self = Self::default();
        self.ready.push_back(Op::Close);
    }

    /// As much as goes in the next message.
    pub(crate) fn take(&mut self) -> Option<Load> {
        let mut load = Load { python: self.python.clone(), ..Load::default() };
        while let Some(op) = self.ready.front() {
            if !load.has_room_for(op) {
                break;
            }
            let Some(op) = self.ready.pop_front() else { break };
            if matches!(&op, Op::Submit(spec) if self.leaving.is_told(&spec.key)) {
                load.question = load.question.or_else(|| self.leaving.ask());
            }
            load.add(op);
        }
        if self.ready.is_empty() && self.ready.capacity() > KEYS {
            self.ready = VecDeque::new();
        }
        let are_many = self.leaving.tell(&load.releases);
        if are_many || load.heartbeat || !self.later_values.is_empty() {
            load.reports.extend(self.leaving.ask().map(Arc::from));
        }
        (!load.is_empty()).then_some(load)
    }
}

/// What goes in one message.
#[derive(Debug, Default)]
pub(crate) struct Load {
    graphs: Vec<Vec<Spec>>,
    python: Workers,
    tasks: usize,
    bytes: usize,
    releases: Vec<Arc<str>>,
    reports: Vec<Arc<str>>,
    /// What to ask for to know that earlier releases were heard, before it hears of the tasks.
    question: Option<String>,
    /// The keys of releases and reports.
    later: HashSet<Arc<str>>,
    heartbeat: bool,
    close: bool,
}

impl Load {
    fn is_empty(&self) -> bool {
        let says_nothing = self.releases.is_empty() && self.reports.is_empty();
        self.tasks == 0 && says_nothing && !self.heartbeat && !self.close
    }

    fn has_room_for(&self, op: &Op) -> bool {
        if self.close || self.later.len() >= KEYS {
            return false;
        }
        match op {
            Op::Submit(spec) => {
                self.tasks < TASKS
                    && (self.tasks == 0 || self.bytes + self.bytes_of(spec) <= BYTES)
                    // It would pass them.
                    && !self.later.contains(&spec.key)
            }
            Op::Release(key) => !(self.later.contains(key) && self.reports.contains(key)),
            _ => true,
        }
    }

    fn bytes_of(&self, spec: &Spec) -> usize {
        let python = if spec.is_for_python() { &*self.python } else { &[] };
        spec.bytes() + python.iter().map(|worker| worker.len() + 5).sum::<usize>()
    }

    fn add(&mut self, op: Op) {
        match op {
            Op::Submit(spec) => {
                self.tasks += 1;
                self.bytes += self.bytes_of(&spec);
                match self.graphs.last_mut() {
                    Some(graph) if graph[0].goes_with(&spec) => graph.push(spec),
                    _ => self.graphs.push(vec![spec]),
                }
            }
            Op::Release(key) => {
                self.later.insert(key.clone());
                self.releases.push(key);
            }
            Op::Report(key) => {
                self.later.insert(key.clone());
                self.reports.push(key);
            }
            Op::Give(..) => unreachable!("values are given by calls"),
            Op::Heartbeat => self.heartbeat = true,
            Op::Close => self.close = true,
        }
    }

    /// The tasks in it, by graph.
    pub(crate) fn graphs(&self) -> &[Vec<Spec>] {
        &self.graphs
    }

    /// As many tasks as go in one message: more wait, probably.
    pub(crate) fn is_full(&self) -> bool {
        self.tasks == TASKS || self.bytes > BYTES / 2
    }

    /// Whether nothing comes after it.
    pub(crate) fn is_last(&self) -> bool {
        self.close
    }

    pub(crate) fn message(&self, forms: &Forms) -> Outgoing {
        let mut batch = Batch::new();
        if let Some(question) = &self.question {
            client::report_key(&mut batch, question);
        }
        for specs in &self.graphs {
            let mut graph = Graph::new();
            specs.iter().for_each(|spec| spec.add_to(&mut graph, &self.python));
            let keys: Vec<&str> = specs.iter().map(|spec| &*spec.key).collect();
            let order = Some(&*keys);
            UpdateGraph { graph: &graph, form: forms.graph, keys: &keys, order }.push(&mut batch);
        }
        if !self.releases.is_empty() {
            let keys: Vec<&str> = self.releases.iter().map(|key| &**key).collect();
            client::releases_keys(&mut batch, &keys);
        }
        self.reports.iter().for_each(|key| client::report_key(&mut batch, &&**key));
        if self.heartbeat {
            client::heartbeat(&mut batch);
        }
        if self.close {
            client::close(&mut batch);
        }
        batch.finish()
    }
}

#[cfg(test)]
mod tests;
