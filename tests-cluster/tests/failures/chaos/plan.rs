//! Random programs, made from a seed, and their outcomes by direct evaluation.

use std::collections::BTreeSet;

use fastrand::Rng;
use futures::executor::block_on;

use crate::functions::{bytes_of, digest, fold, mix};

/// A task. Indexes of earlier tasks are its inputs.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Number(u64),
    Ready(u64),
    Mix(usize, usize),
    Fold(Vec<usize>),
    Slow(usize, u64),
    Blocking(usize, u64),
    Urgent(usize, i32),
    /// A call of a `map`.
    Item(u64),
    /// A call of a `map` whose function may fail.
    OddItem(u64),
    Odd(usize),
    OddOrPanic(usize),
    /// Fails this number of times, and is retried by the scheduler, or with a delay by the client.
    Flaky(usize, u32, bool),
    /// Fails until its file exists.
    Gated(usize),
    /// Has a key, which is submitted again later.
    Keyed(u64),
    /// Runs on a Python worker.
    Python(usize, u64),
    PythonFails(usize),
    /// The results of these two are bytes, all others are numbers.
    Bytes(usize, u64),
    ReadyBytes(u64, u64),
    Digest(usize),
    PythonLen(usize),
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Submit(usize),
    /// Submits these together. Each takes this time.
    Map(Vec<usize>, u64),
    /// Submits a task once more, by its key.
    Again(usize),
    Cancel(usize),
    Drop(usize),
    /// Gathers these.
    Gather(Vec<usize>),
    /// Sums up this number of calls, two at a time as they complete, while the program continues.
    Collect(u64, u64),
    Pause(u64),
}

/// The value, or the tasks whose error it may have.
pub(crate) type Outcome = Result<u64, BTreeSet<usize>>;

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: Vec<Node>,
    pub(crate) steps: Vec<Step>,
    /// The outcomes of the nodes if none is gated.
    pub(crate) open: Vec<Outcome>,
}

impl Node {
    pub(crate) fn inputs(&self) -> Vec<usize> {
        match self {
            Self::Number(_) | Self::Ready(_) | Self::Item(_) | Self::OddItem(_) => Vec::new(),
            Self::Keyed(_) | Self::ReadyBytes(..) => Vec::new(),
            Self::Mix(a, b) => vec![*a, *b],
            Self::Fold(all) => all.clone(),
            Self::Slow(a, _) | Self::Blocking(a, _) | Self::Urgent(a, _) => vec![*a],
            Self::Odd(a) | Self::OddOrPanic(a) | Self::Flaky(a, ..) | Self::Gated(a) => vec![*a],
            Self::Python(a, _) | Self::PythonFails(a) | Self::PythonLen(a) => vec![*a],
            Self::Bytes(a, _) | Self::Digest(a) => vec![*a],
        }
    }

    pub(crate) fn is_data(&self) -> bool {
        matches!(self, Self::Ready(_) | Self::ReadyBytes(..))
    }

    pub(crate) fn is_bytes(&self) -> bool {
        matches!(self, Self::Bytes(..) | Self::ReadyBytes(..))
    }
}

/// Returns the outcome of each node; for bytes, their digest.
pub(crate) fn evaluate(nodes: &[Node], gates_are_open: bool) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for node in nodes {
        outcomes.push(outcome(nodes, &outcomes, node, gates_are_open));
    }
    outcomes
}

/// Returns the outcome of a node, given those of the nodes before it.
fn outcome(nodes: &[Node], outcomes: &[Outcome], node: &Node, gates_are_open: bool) -> Outcome {
    let mut values = Vec::new();
    let mut origins = BTreeSet::new();
    for input in node.inputs() {
        match &outcomes[input] {
            Ok(value) => values.push(*value),
            Err(of) => origins.extend(of),
        }
    }
    if !origins.is_empty() {
        return Err(origins);
    }
    let at = outcomes.len();
    value(nodes, node, &values, gates_are_open).ok_or(BTreeSet::from([at]))
}

/// Returns `None` if it fails.
fn value(nodes: &[Node], node: &Node, inputs: &[u64], gates_are_open: bool) -> Option<u64> {
    let odd = |x: u64| (x % 2 == 1).then_some(x);
    match node {
        Node::Number(x) | Node::Item(x) | Node::Keyed(x) => Some(block_on(mix(*x, 1))),
        Node::Ready(x) => Some(*x),
        Node::Mix(..) => Some(block_on(mix(inputs[0], inputs[1]))),
        Node::Fold(_) => Some(block_on(fold(inputs.to_vec()))),
        Node::Slow(..) | Node::Blocking(..) | Node::Flaky(..) | Node::Digest(_) => Some(inputs[0]),
        Node::Urgent(..) => Some(block_on(mix(inputs[0], 2))),
        Node::OddItem(x) => odd(*x),
        Node::Odd(_) | Node::OddOrPanic(_) => odd(inputs[0]),
        Node::Gated(_) => gates_are_open.then(|| inputs[0]),
        Node::Python(_, x) => Some(inputs[0] ^ x),
        Node::PythonFails(_) => None,
        Node::Bytes(_, length) => Some(digest_of(inputs[0], *length)),
        Node::ReadyBytes(x, length) => Some(digest_of(*x, *length)),
        Node::PythonLen(of) => match nodes[*of] {
            Node::Bytes(_, length) | Node::ReadyBytes(_, length) => Some(length),
            _ => unreachable!("it takes bytes"),
        },
    }
}

fn digest_of(x: u64, length: u64) -> u64 {
    block_on(async { digest(bytes_of(x, length).await).await })
}

struct Maker {
    random: Rng,
    has_python: bool,
    is_checked: bool,
    /// Scattered data is lost with its worker.
    has_data: bool,
    nodes: Vec<Node>,
    steps: Vec<Step>,
    /// The nodes that have handles.
    numbers: Vec<usize>,
    bytes: Vec<usize>,
    keyed: Vec<usize>,
    outcomes: Vec<Outcome>,
    /// Whether it fails, maybe only at first.
    fails: Vec<Option<At>>,
    /// Whether it or an input fails at first, and is retried by the client.
    is_retried: Vec<bool>,
}

/// Whether a task fails by itself, or because of an input.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Origin,
    Follows,
}

impl Plan {
    /// Makes a program for a cluster with or without a Python worker, and with or without a validating scheduler.
    pub(crate) fn new(mut random: Rng, has_python: bool, is_checked: bool) -> Self {
        let has_data = random.u32(0..4) == 0;
        let mut maker = Maker {
            random,
            has_python,
            is_checked,
            has_data,
            nodes: Vec::new(),
            steps: Vec::new(),
            numbers: Vec::new(),
            bytes: Vec::new(),
            keyed: Vec::new(),
            outcomes: Vec::new(),
            fails: Vec::new(),
            is_retried: Vec::new(),
        };
        maker.submit(Node::Number(1));
        for _ in 0..maker.random.usize(60..300) {
            maker.step();
        }
        Self { nodes: maker.nodes, steps: maker.steps, open: maker.outcomes }
    }
}

impl Maker {
    fn step(&mut self) {
        match self.random.u32(0..100) {
            0..=51 => {
                let node = self.node();
                if !self.is_checked || self.can_be_checked(&node) {
                    self.submit(node);
                }
            }
            52..=57 => self.map(),
            58..=62 => self.again(),
            63..=67 => {
                let at = self.random.choice(&self.numbers).copied();
                self.steps.extend(at.map(Step::Cancel));
            }
            68..=81 => self.drop(),
            82..=86 => {
                let count = self.random.usize(1..8);
                let some = (0..count).map(|_| self.number()).collect();
                self.steps.push(Step::Gather(some));
            }
            87..=89 => {
                let (count, ms) = (self.random.u64(2..60), self.random.u64(0..20));
                self.steps.push(Step::Collect(count, ms));
            }
            _ => self.steps.push(Step::Pause(self.random.u64(1..150))),
        }
    }

    /// A validating scheduler fails assertions in two cases that Dask allows otherwise: a task runs again while another
    /// failed one is an input of the same dependent; and a task whose input has failed is submitted together with a
    /// dependent, after which it fails everything in that graph.
    fn can_be_checked(&self, node: &Node) -> bool {
        let inputs: BTreeSet<_> = node.inputs().into_iter().collect();
        let failing: Vec<_> = inputs.into_iter().filter(|at| self.fails[*at].is_some()).collect();
        let is_retried = failing.iter().any(|at| self.is_retried[*at]);
        failing.iter().all(|at| self.fails[*at] == Some(At::Origin))
            && (failing.len() <= 1 || !is_retried)
    }

    fn add(&mut self, node: Node) -> usize {
        let at = self.nodes.len();
        let outcome = outcome(&self.nodes, &self.outcomes, &node, true);
        let is_retried_itself = matches!(node, Node::Gated(_) | Node::Flaky(_, _, false));
        let inputs = node.inputs();
        let follows = inputs.iter().any(|input| self.fails[*input].is_some());
        let is_retried = is_retried_itself || inputs.iter().any(|input| self.is_retried[*input]);
        self.fails.push(match &outcome {
            _ if follows => Some(At::Follows),
            Err(_) => Some(At::Origin),
            Ok(_) => is_retried_itself.then_some(At::Origin),
        });
        self.outcomes.push(outcome);
        self.is_retried.push(is_retried);
        let list = if node.is_bytes() { &mut self.bytes } else { &mut self.numbers };
        list.push(at);
        self.nodes.push(node);
        at
    }

    fn submit(&mut self, node: Node) {
        let at = self.add(node);
        self.steps.push(Step::Submit(at));
    }

    /// Prefers late nodes, for long chains.
    fn number(&mut self) -> usize {
        let late = self.numbers.len().saturating_sub(10);
        let first = if self.random.bool() { late } else { 0 };
        self.numbers[self.random.usize(first..self.numbers.len())]
    }

    fn length(&mut self) -> u64 {
        match self.random.u32(0..10) {
            0..=4 => self.random.u64(0..2_000),
            5..=7 => self.random.u64(100_000..500_000),
            _ => self.random.u64(500_000..5_000_000),
        }
    }

    fn node(&mut self) -> Node {
        let kind = self.random.u32(0..100);
        let x = self.random.u64(..);
        match kind {
            0..=7 => Node::Number(x),
            8..=12 if self.has_data => Node::Ready(x),
            8..=12 => Node::Urgent(self.number(), (x % 7) as i32 - 3),
            13..=29 => Node::Mix(self.number(), self.number()),
            30..=39 => {
                let count = self.random.usize(0..12);
                Node::Fold((0..count).map(|_| self.number()).collect())
            }
            40..=48 => Node::Slow(self.number(), x % 200),
            49..=53 => Node::Blocking(self.number(), x % 100),
            54..=56 => Node::Slow(self.number(), 0),
            57..=58 => Node::Odd(self.number()),
            59..=60 => Node::OddOrPanic(self.number()),
            61..=64 => Node::Flaky(self.number(), (x % 3) as u32 + 1, x % 2 == 0),
            65..=66 => Node::Gated(self.number()),
            67..=71 => {
                self.keyed.push(self.nodes.len());
                Node::Keyed(x)
            }
            72..=77 if self.has_python => Node::Python(self.number(), x),
            78 if self.has_python => Node::PythonFails(self.number()),
            72..=80 => Node::Mix(self.number(), self.number()),
            88..=91 if self.has_data => Node::ReadyBytes(x, self.length()),
            81..=90 => Node::Bytes(self.number(), self.length()),
            _ => match self.random.choice(&self.bytes) {
                Some(of) if self.has_python && x % 4 == 0 => Node::PythonLen(*of),
                Some(of) => Node::Digest(*of),
                None => Node::Number(x),
            },
        }
    }

    fn map(&mut self) {
        let count = self.random.usize(2..150);
        let base = self.random.u64(..);
        // Some of one kind, most of the other one.
        let fails = self.random.u32(0..3) == 0;
        let items = (0..count).map(|at| {
            let x = base.wrapping_add(at as u64);
            if fails {
                // Few calls fail.
                Node::OddItem(if x % 16 == 0 { x } else { x | 1 })
            } else {
                Node::Item(x)
            }
        });
        let items: Vec<_> = items.collect();
        let all: Vec<_> = items.into_iter().map(|item| self.add(item)).collect();
        let ms = if fails { 0 } else { self.random.u64(0..4) };
        self.steps.push(Step::Map(all.clone(), ms));
        // Most of them get no dependents, so that they don't crowd out the others.
        let keeps_all = self.random.u32(0..4) == 0;
        for at in all {
            if !keeps_all && self.random.u32(0..8) > 0 {
                self.forget(at);
            }
        }
    }

    fn again(&mut self) {
        let Some(at) = self.random.choice(&self.keyed).copied() else { return };
        if !self.numbers.contains(&at) {
            self.numbers.push(at);
        }
        self.steps.push(Step::Again(at));
    }

    fn drop(&mut self) {
        if self.random.u32(0..4) == 0 && !self.bytes.is_empty() {
            let at = self.bytes[self.random.usize(..self.bytes.len())];
            self.forget(at);
        } else if self.numbers.len() > 1 {
            let at = self.number();
            self.forget(at);
        }
    }

    fn forget(&mut self, at: usize) {
        if self.numbers.len() > 1 || self.nodes[at].is_bytes() {
            self.numbers.retain(|live| *live != at);
            self.bytes.retain(|live| *live != at);
            self.steps.push(Step::Drop(at));
        }
    }
}
