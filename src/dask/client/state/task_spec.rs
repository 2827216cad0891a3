//! A task as it's submitted, until it's sent: the owned forms of what a graph is made of.

use std::sync::Arc;

use bytes::Bytes;

use crate::dask::wire::graph::{Annotations, Arg, Call, Graph};

/// A task to submit.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) key: Arc<str>,
    pub(crate) call: OwnedCall,
    /// Mostly the same for many tasks.
    pub(crate) annotations: Arc<OwnedAnnotations>,
    /// It has a graph of its own, so that it alone fails if the scheduler refuses it.
    pub(crate) is_alone: bool,
}

/// What a task is to do; see [`Call`].
#[derive(Clone, Debug)]
pub(crate) enum OwnedCall {
    Python { module: Arc<str>, name: Arc<str>, args: Vec<OwnedArg> },
    Rust { function: Arc<str>, args: Bytes, inputs: Vec<Arc<str>> },
}

/// An argument of a Python function; see [`Arg`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OwnedArg {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    Bytes(Bytes),
    /// The result of a task.
    Result(Arc<str>),
    List(Vec<OwnedArg>),
    Dict(Vec<(OwnedArg, OwnedArg)>),
}

/// What the scheduler is to know of a task; see [`Annotations`].
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnedAnnotations {
    pub(crate) priority: Option<i64>,
    pub(crate) retries: Option<u32>,
    pub(crate) resources: Vec<(Arc<str>, f64)>,
    pub(crate) workers: Vec<Arc<str>>,
    pub(crate) allow_other_workers: bool,
    /// In seconds.
    pub(crate) timeout: Option<f64>,
}

impl Spec {
    /// The tasks whose results it takes.
    pub(crate) fn inputs(&self) -> Vec<&Arc<str>> {
        match &self.call {
            OwnedCall::Rust { inputs, .. } => inputs.iter().collect(),
            OwnedCall::Python { args, .. } => {
                let mut found = Vec::new();
                args.iter().for_each(|arg| arg.results(&mut found));
                found
            }
        }
    }

    /// How many bytes it takes in a message, more or less.
    pub(crate) fn bytes(&self) -> usize {
        let Self { key, call, .. } = self;
        2 * key.len()
            + match call {
                OwnedCall::Python { args, .. } => args.iter().map(OwnedArg::bytes).sum(),
                OwnedCall::Rust { function, args, inputs } => {
                    function.len()
                        + args.len()
                        + inputs.iter().map(|key| 3 * key.len()).sum::<usize>()
                }
            }
    }

    /// Whether they may be in one graph. The scheduler looks up Python functions while it reads a graph, and
    /// where it has one not, all tasks of the graph fail.
    pub(crate) fn goes_with(&self, other: &Self) -> bool {
        match (&self.call, &other.call) {
            _ if self.is_alone || other.is_alone => false,
            (OwnedCall::Rust { .. }, OwnedCall::Rust { .. }) => true,
            (
                OwnedCall::Python { module, name, .. },
                OwnedCall::Python { module: other_module, name: other_name, .. },
            ) => (module, name) == (other_module, other_name),
            _ => false,
        }
    }

    /// Whether any worker may run it that isn't ours.
    pub(crate) fn is_for_python(&self) -> bool {
        let OwnedAnnotations { workers, resources, .. } = &*self.annotations;
        matches!(self.call, OwnedCall::Python { .. }) && workers.is_empty() && resources.is_empty()
    }

    /// Adds the task. `python` are the workers that aren't ours.
    pub(crate) fn add_to(&self, graph: &mut Graph, python: &[Arc<str>]) {
        let is_for_python = self.is_for_python();
        let Self { key, call, annotations, .. } = self;
        let resources: Vec<_> =
            annotations.resources.iter().map(|(name, amount)| (&**name, *amount)).collect();
        let workers = if is_for_python { python } else { &annotations.workers };
        let workers: Vec<_> = workers.iter().map(|worker| &**worker).collect();
        let annotations = Annotations {
            priority: annotations.priority,
            retries: annotations.retries,
            resources: &resources,
            workers: &workers,
            allow_other_workers: annotations.allow_other_workers && !is_for_python,
            timeout: annotations.timeout,
        };
        match call {
            OwnedCall::Python { module, name, args } => {
                let args: Vec<_> = args.iter().map(OwnedArg::borrow).collect();
                graph.add(key, &Call::Python { module, name, args: &args }, &annotations);
            }
            OwnedCall::Rust { function, args, inputs } => {
                let inputs: Vec<_> = inputs.iter().map(|key| &**key).collect();
                graph.add(key, &Call::Rust { function, args, inputs: &inputs }, &annotations);
            }
        }
    }
}

impl OwnedArg {
    fn borrow(&self) -> Arg<'_> {
        match self {
            Self::None => Arg::None,
            Self::Bool(it) => Arg::Bool(*it),
            Self::Int(it) => Arg::Int(*it),
            Self::Float(it) => Arg::Float(*it),
            Self::Str(it) => Arg::Str(it),
            Self::Bytes(it) => Arg::Bytes(it),
            Self::Result(key) => Arg::Result(key),
            Self::List(items) => Arg::List(items.iter().map(Self::borrow).collect()),
            Self::Dict(entries) => {
                let entries = entries.iter();
                Arg::Dict(entries.map(|(key, value)| (key.borrow(), value.borrow())).collect())
            }
        }
    }

    fn results<'a>(&'a self, found: &mut Vec<&'a Arc<str>>) {
        match self {
            Self::Result(key) => found.push(key),
            Self::List(items) => items.iter().for_each(|item| item.results(found)),
            Self::Dict(entries) => entries.iter().for_each(|(key, value)| {
                key.results(found);
                value.results(found);
            }),
            _ => (),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Str(text) => text.len() + 5,
            Self::Bytes(bytes) => bytes.len() + 5,
            Self::Result(key) => key.len() + 60,
            Self::List(items) => items.iter().map(Self::bytes).sum(),
            Self::Dict(entries) => {
                entries.iter().map(|(key, value)| key.bytes() + value.bytes()).sum()
            }
            _ => 9,
        }
    }
}
