//! The run of a plan on a cluster, whose outcomes are compared with the expected ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ensue::dask::Client;
use ensue::{Error, ErrorKind, Handle, Key, Retry, as_completed, gather_settled};
use ensue_tests_cluster::wait;
use futures::StreamExt;
use futures::executor::block_on;

use super::plan::{Node, Outcome, Plan, Step, evaluate};
use crate::functions::{
    add, bytes_of, digest, fail_at_first, fold, keep_busy, mix, mix_slowly, odd, odd_or_panic,
    slowly, when_there_is,
};

#[derive(Clone)]
enum Held {
    Number(Handle<u64>),
    Bytes(Handle<Vec<u8>>),
}

/// The effect of cancelling on a task.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Touched {
    No,
    /// An input was cancelled, maybe after this one had finished.
    Maybe,
    /// An input was cancelled before.
    CannotRun,
    Cancelled,
}

pub(crate) struct Program<'a> {
    client: &'a Client,
    plan: &'a Plan,
    folder: PathBuf,
    held: BTreeMap<usize, Held>,
    keys: BTreeMap<usize, Key>,
    touched: Vec<Touched>,
    collecting: Vec<JoinHandle<Result<u64, Error>>>,
    expected: Vec<Outcome>,
    /// Scattered data and its dependents are lost with the only worker that has them.
    can_be_lost: Vec<bool>,
}

impl Held {
    fn key(&self) -> Key {
        match self {
            Self::Number(handle) => handle.key(),
            Self::Bytes(handle) => handle.key(),
        }
    }

    fn cancel(&self) -> bool {
        match self {
            Self::Number(handle) => handle.cancel(),
            Self::Bytes(handle) => handle.cancel(),
        }
    }

    fn retry(&self) -> bool {
        match self {
            Self::Number(handle) => handle.retry(),
            Self::Bytes(handle) => handle.retry(),
        }
    }

    fn result(&self) -> Result<u64, Error> {
        match self {
            Self::Number(handle) => wait(handle),
            Self::Bytes(handle) => wait(handle).map(|bytes| block_on(digest(bytes))),
        }
    }
}

impl<'a> Program<'a> {
    pub(crate) fn new(client: &'a Client, plan: &'a Plan, folder: &Path) -> Self {
        let mut can_be_lost: Vec<bool> = Vec::new();
        for node in &plan.nodes {
            let takes_some = node.inputs().iter().any(|input| can_be_lost[*input]);
            can_be_lost.push(takes_some || node.is_data());
        }
        Self {
            client,
            plan,
            folder: folder.to_owned(),
            held: BTreeMap::new(),
            keys: BTreeMap::new(),
            touched: vec![Touched::No; plan.nodes.len()],
            collecting: Vec::new(),
            expected: evaluate(&plan.nodes, false),
            can_be_lost,
        }
    }

    pub(crate) fn run(&mut self) {
        for step in &self.plan.steps {
            self.step(step);
        }
    }

    /// Checks every remaining handle, also after failed tasks have run again without failing.
    pub(crate) fn end(mut self) {
        let sums = std::mem::take(&mut self.collecting);
        let all: Vec<_> = self.held.keys().copied().collect();
        self.gather(&all);
        for sum in sums {
            let sum = sum.join().expect("no panic").expect("a sum");
            assert_eq!(sum, 0, "the difference of a sum by `as_completed`");
        }
        let open = &self.plan.open;
        for (at, node) in self.plan.nodes.iter().enumerate() {
            if let Node::Gated(_) = node {
                std::fs::write(self.file(at), "").expect("a file");
            }
        }
        let again = |at: &usize| {
            !self.can_be_lost[*at]
                && self.touched[*at] == Touched::No
                && open[*at].is_ok()
                && self.expected[*at].is_err()
        };
        let again: Vec<_> = all.into_iter().filter(again).collect();
        for at in &again {
            self.held[at].retry();
        }
        self.expected = open.clone();
        self.gather(&again);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Submit(at) => {
                let held = self.submit(*at);
                self.hold(*at, held);
            }
            Step::Again(at) => {
                if self.touched[*at] == Touched::Cancelled {
                    self.touched[*at] = Touched::No;
                }
                let held = self.submit(*at);
                self.hold(*at, held);
            }
            Step::Map(all, ms) => {
                for (at, handle) in all.iter().zip(self.map(all, *ms)) {
                    self.hold(*at, Held::Number(handle));
                }
            }
            Step::Cancel(at) => {
                if self.held[at].cancel() {
                    self.touched[*at] = Touched::Cancelled;
                    self.touch_dependents(*at);
                }
            }
            Step::Drop(at) => drop(self.held.remove(at)),
            Step::Gather(some) => self.gather(some),
            Step::Collect(count, ms) => self.collect(*count, *ms),
            Step::Pause(ms) => thread::sleep(Duration::from_millis(*ms)),
        }
    }

    fn hold(&mut self, at: usize, held: Held) {
        self.keys.insert(at, held.key());
        self.held.insert(at, held);
        for input in self.plan.nodes[at].inputs() {
            match self.touched[input] {
                Touched::No => {}
                Touched::Maybe if self.touched[at] == Touched::No => {
                    self.touched[at] = Touched::Maybe;
                }
                Touched::Maybe => {}
                Touched::CannotRun | Touched::Cancelled => self.touched[at] = Touched::CannotRun,
            }
        }
    }

    fn touch_dependents(&mut self, of: usize) {
        let mut touched = vec![of];
        // Inputs come before their dependents.
        for at in of + 1..self.plan.nodes.len() {
            let takes = self.plan.nodes[at].inputs().iter().any(|input| touched.contains(input));
            if takes && self.keys.contains_key(&at) {
                touched.push(at);
                if self.touched[at] == Touched::No {
                    self.touched[at] = Touched::Maybe;
                }
            }
        }
    }

    fn file(&self, at: usize) -> String {
        self.folder.join(format!("file-{at}")).to_str().expect("text").to_owned()
    }

    fn number(&self, at: &usize) -> &Handle<u64> {
        match &self.held[at] {
            Held::Number(handle) => handle,
            Held::Bytes(_) => panic!("{at} is bytes"),
        }
    }

    fn bytes(&self, at: &usize) -> &Handle<Vec<u8>> {
        match &self.held[at] {
            Held::Bytes(handle) => handle,
            Held::Number(_) => panic!("{at} is a number"),
        }
    }

    fn submit(&self, at: usize) -> Held {
        let client = self.client;
        let node = &self.plan.nodes[at];
        Held::Number(match node {
            Node::Number(x) | Node::Item(x) => client.submit(mix, (*x, 1)),
            Node::Ready(x) => client.ready(*x),
            Node::Mix(a, b) => client.submit(mix, (self.number(a), self.number(b))),
            Node::Fold(all) => {
                let all: Vec<_> = all.iter().map(|a| self.number(a)).collect();
                client.submit(fold, all)
            }
            Node::Slow(a, ms) => client.submit(slowly, (*ms, self.number(a))),
            Node::Blocking(a, ms) => client.submit_blocking(keep_busy, (*ms, self.number(a))),
            Node::Urgent(a, priority) => {
                client.task().priority(*priority).submit(mix, (self.number(a), 2))
            }
            Node::OddItem(x) => client.try_submit(odd, *x),
            Node::Odd(a) => client.try_submit(odd, self.number(a)),
            Node::OddOrPanic(a) => client.submit(odd_or_panic, self.number(a)),
            Node::Flaky(a, times, by_scheduler) => {
                let (short, long) = (Duration::from_millis(5), Duration::from_millis(50));
                let retry = Retry::new(*times);
                let retry = if *by_scheduler { retry } else { retry.backoff(short, long) };
                let inputs = (self.file(at), u64::from(*times), self.number(a));
                client.task().retries(retry).try_submit(fail_at_first, inputs)
            }
            Node::Gated(a) => {
                client.task().try_submit(when_there_is, (self.file(at), self.number(a)))
            }
            Node::Keyed(x) => client.task().key(format!("keyed-{at}")).submit(mix, (*x, 1)),
            Node::Python(a, x) => client.submit_python("operator.xor", (self.number(a), *x)),
            Node::PythonFails(a) => client.submit_python("operator.floordiv", (self.number(a), 0)),
            Node::PythonLen(of) => client.submit_python("builtins.len", (self.bytes(of),)),
            Node::Digest(of) => client.submit(digest, self.bytes(of)),
            Node::Bytes(a, length) => {
                return Held::Bytes(client.submit(bytes_of, (self.number(a), *length)));
            }
            Node::ReadyBytes(x, length) => {
                return Held::Bytes(client.ready(block_on(bytes_of(*x, *length))));
            }
        })
    }

    fn map(&self, all: &[usize], ms: u64) -> Vec<Handle<u64>> {
        let item = |at: &usize| match self.plan.nodes[*at] {
            Node::Item(x) | Node::OddItem(x) => x,
            _ => panic!("{at} is no item"),
        };
        let items = all.iter().map(item);
        match (&self.plan.nodes[all[0]], ms) {
            (Node::OddItem(_), _) => self.client.try_map(odd, items),
            (_, 0) => self.client.map(mix, items.map(|x| (x, 1u64))),
            (_, ms) => self.client.map(mix_slowly, items.map(|x| (ms, x, 1u64))),
        }
    }

    /// Starts a thread whose result is the difference between the sum and the expected one.
    fn collect(&mut self, count: u64, ms: u64) {
        let client = self.client.clone();
        self.collecting.push(thread::spawn(move || {
            wait(async {
                let mut arriving = as_completed(client.map(slowly, (0..count).map(|x| (ms, x))));
                loop {
                    let Some(a) = arriving.next().await else { panic!("one is always left") };
                    let Some(b) = arriving.next().await else {
                        return Ok((0..count).sum::<u64>().abs_diff(a.await?));
                    };
                    arriving.add(client.submit(add, (a, b)));
                }
            })
        }));
    }

    fn gather(&self, some: &[usize]) {
        let numbers: Vec<_> =
            some.iter().filter(|at| !self.plan.nodes[**at].is_bytes()).copied().collect();
        let handles = numbers.iter().map(|at| self.number(at));
        let results = wait(gather_settled(handles));
        numbers.iter().zip(results).for_each(|(at, result)| self.check(*at, &result));
        for at in some.iter().filter(|at| self.plan.nodes[**at].is_bytes()) {
            self.check(*at, &self.held[at].result());
        }
    }

    fn check(&self, at: usize, result: &Result<u64, Error>) {
        let (touched, expected) = (self.touched[at], &self.expected[at]);
        let is_right = match (result, expected) {
            (Ok(value), Ok(right)) => {
                matches!(touched, Touched::No | Touched::Maybe) && value == right
            }
            (Err(error), _) if error.is_cancelled() => touched != Touched::No,
            (Err(error), _) if error.kind() == ErrorKind::Lost => self.can_be_lost[at],
            (Err(error), Err(origins)) => {
                let of = origins.iter().find(|of| self.keys[of] == *error.origin());
                touched != Touched::Cancelled
                    && of.is_some_and(|of| error.kind() == self.failure(*of))
            }
            _ => false,
        };
        let (key, node) = (&self.keys[&at], &self.plan.nodes[at]);
        assert!(
            is_right,
            "node {at}, {key}, {node:?}, {touched:?}: {result:?} instead of {expected:?}"
        );
    }

    fn failure(&self, of: usize) -> ErrorKind {
        match self.plan.nodes[of] {
            Node::OddOrPanic(_) => ErrorKind::Panicked,
            _ => ErrorKind::Failed,
        }
    }
}
