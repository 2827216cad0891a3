//! Graphs of tasks as the scheduler expects them: a pickled `HighLevelGraph`.
//!
//! The pickle only calls constructors of Dask's classes with plain arguments, since the attributes of these classes
//! change from release to release.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::pack::{Batch, FieldMap, Pack, Packer};
use crate::pickle::Pickler;
use crate::serialized::Serialized;
use crate::value::Value;

const TASKS: &str = "dask._task_spec";
const GRAPHS: &str = "dask.highlevelgraph";
/// The annotation that has the function of a task for Rust workers; see [`rust`](crate::rust).
pub const RUST: &str = "rust";
/// The code of a Rust task on a Python worker, which may only run it by mistake.
const STRAY: &str = "raise RuntimeError('this task must run on a Rust worker')";

/// The work of a task.
#[derive(Clone, Debug)]
pub enum Call {
    /// Calls a Python function.
    Python {
        /// The module that the worker imports the function from.
        module: Arc<str>,
        /// The function's name in that module, with dots for attributes.
        name: Arc<str>,
        /// The positional arguments.
        args: Vec<Arg>,
    },
    /// Calls a function that is registered with the Rust workers.
    Rust {
        /// The name that it is registered under.
        function: Arc<str>,
        /// The encoded arguments, without the results of other tasks.
        args: Bytes,
        /// The keys of the tasks whose results it takes, in order.
        inputs: Vec<Arc<str>>,
    },
}

/// An argument of a Python function.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// `None`.
    None,
    /// A `bool`.
    Bool(bool),
    /// An `int`.
    Int(i128),
    /// A `float`.
    Float(f64),
    /// A `str`.
    Str(Arc<str>),
    /// `bytes`.
    Bytes(Bytes),
    /// The result of the task with this key.
    Result(Arc<str>),
    /// A `list`.
    List(Vec<Arg>),
    /// A `tuple`.
    Tuple(Vec<Arg>),
    /// A `dict`.
    Dict(Vec<(Arg, Arg)>),
}

/// The annotations of a task for the scheduler.
#[derive(Clone, Debug, Default)]
pub struct Annotations {
    /// The priority; tasks of a higher one run first.
    pub priority: Option<i64>,
    /// The number of times that the task runs again after a failure.
    pub retries: Option<u32>,
    /// The resources that the task takes on its worker, by name.
    pub resources: Vec<(Arc<str>, f64)>,
    /// The addresses, names or hosts of the workers that may run the task; all workers if empty.
    pub workers: Arc<[Arc<str>]>,
    /// Whether other workers may run it if none of `workers` exists.
    pub allow_other_workers: bool,
    /// The seconds that a Rust task may take. Dask itself has no timeouts.
    pub timeout: Option<f64>,
}

/// A graph. Tasks are pickled as they're added, so it takes little more memory than its message.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Layers by the annotations of their tasks. An annotation of a layer is a function from keys to values, which must
    /// know all keys of the layer.
    layers: BTreeMap<Vec<&'static str>, Layer>,
    len: usize,
}

#[derive(Clone, Debug, Default)]
struct Layer {
    /// The entries of a dict from keys to tasks.
    tasks: Pickler,
    /// The entries of a dict from keys to values, for each annotation.
    annotations: Vec<Pickler>,
}

/// The form of a graph in `update-graph`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphForm {
    /// The argument `expr_ser`, from 2025.4.0 on.
    Expression,
    /// The arguments `graph_header` and `graph_frames`, before that.
    Header,
}

impl Graph {
    /// Returns a graph without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of tasks.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no tasks.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the size of the pickled tasks in bytes.
    pub fn bytes(&self) -> usize {
        let layers = self.layers.values();
        let layer = |layer: &Layer| {
            layer.tasks.len() + layer.annotations.iter().map(Pickler::len).sum::<usize>()
        };
        layers.map(layer).sum()
    }

    /// Adds a task. Its inputs may be tasks of other graphs that some client still needs.
    pub fn add(&mut self, key: &str, call: &Call, annotations: &Annotations) {
        let values = annotations.values(call);
        let shape = values.iter().map(|(name, _)| *name).collect();
        let layer = self.layers.entry(shape).or_default();
        layer.tasks.str(key);
        call.pickle(key, &mut layer.tasks);
        layer.annotations.resize_with(values.len(), Pickler::new);
        for (to, (_, value)) in layer.annotations.iter_mut().zip(&values) {
            to.str(key);
            to.append(value);
        }
        self.len += 1;
    }

    /// Returns the pickle of the graph.
    pub fn finish(&self, form: GraphForm) -> Vec<u8> {
        let (module, name) = match form {
            GraphForm::Expression => ("dask._expr", "HLGExpr"),
            GraphForm::Header => ("distributed.protocol.serialize", "ToPickle"),
        };
        let mut pickler = Pickler::new();
        pickler.call(module, name, |to| to.call(GRAPHS, "HighLevelGraph", |to| self.parts(to)));
        pickler.finish()
    }

    fn parts(&self, to: &mut Pickler) {
        let name = |at: usize| format!("layer-{at}");
        to.dict(|to| {
            for (at, (shape, layer)) in self.layers.iter().enumerate() {
                to.str(&name(at));
                to.call(GRAPHS, "MaterializedLayer", |to| layer.pickle(shape, to));
            }
        });
        // The dependencies between layers; the scheduler finds those between tasks.
        to.dict(|to| {
            for at in 0..self.layers.len() {
                to.str(&name(at));
                to.empty_set();
            }
        });
    }
}

impl Layer {
    fn pickle(&self, names: &[&str], to: &mut Pickler) {
        to.dict(|to| to.append(&self.tasks));
        if names.is_empty() {
            return to.none();
        }
        to.dict(|to| {
            for (name, values) in names.iter().zip(&self.annotations) {
                to.str(name);
                // The scheduler calls an annotation that is callable with each key.
                to.call("builtins", "getattr", |to| {
                    to.dict(|to| to.append(values));
                    to.str("get");
                });
            }
        });
    }
}

impl Annotations {
    /// Returns the names and pickled values of the annotations that are set, sorted by name.
    fn values(&self, call: &Call) -> Vec<(&'static str, Pickler)> {
        let mut values = Vec::new();
        let mut value = |name, write: &dyn Fn(&mut Pickler)| {
            let mut pickler = Pickler::new();
            write(&mut pickler);
            values.push((name, pickler));
        };
        if self.allow_other_workers {
            value("allow_other_workers", &|to| to.bool(true));
        }
        if let Some(priority) = self.priority {
            value("priority", &|to| to.int(priority.into()));
        }
        if !self.resources.is_empty() {
            value("resources", &|to| {
                to.dict(|to| {
                    for (name, amount) in &self.resources {
                        to.str(name);
                        to.float(*amount);
                    }
                });
            });
        }
        if let Some(retries) = self.retries {
            value("retries", &|to| to.int(retries.into()));
        }
        if let Call::Rust { function, args, inputs } = call {
            value(RUST, &|to| {
                to.dict(|to| {
                    to.str("fn");
                    to.str(function);
                    to.str("args");
                    to.bytes(args);
                    to.str("deps");
                    to.list(|to| inputs.iter().for_each(|key| to.str(key)));
                    if let Some(seconds) = self.timeout {
                        to.str("timeout");
                        to.float(seconds);
                    }
                });
            });
        }
        if !self.workers.is_empty() {
            value("workers", &|to| {
                to.list(|to| self.workers.iter().for_each(|worker| to.str(worker)));
            });
        }
        values
    }
}

impl Call {
    /// Returns the keys of the tasks whose results the call takes. A key is repeated where it is taken twice.
    pub fn inputs(&self) -> Vec<&Arc<str>> {
        match self {
            Self::Rust { inputs, .. } => inputs.iter().collect(),
            Self::Python { args, .. } => {
                let mut found = Vec::new();
                args.iter().for_each(|arg| arg.results(&mut found));
                found
            }
        }
    }

    /// Estimates how many bytes the call adds to a message. The sizes of the pickle opcodes are rough: callers only
    /// need to know when a message gets large.
    pub fn estimated_bytes(&self) -> usize {
        match self {
            Self::Python { args, .. } => args.iter().map(Arg::estimated_bytes).sum(),
            Self::Rust { function, args, inputs } => {
                // An input is in the pickle three times: as a dependency, and as name and value in the Python call.
                let inputs = inputs.iter().map(|key| 3 * key.len());
                function.len() + args.len() + inputs.sum::<usize>()
            }
        }
    }

    fn pickle(&self, key: &str, to: &mut Pickler) {
        to.call(TASKS, "Task", |to| {
            to.str(key);
            match self {
                Self::Python { module, name, args } => {
                    to.global(module, name);
                    args.iter().for_each(|arg| arg.pickle(to));
                }
                Self::Rust { inputs, .. } => {
                    to.global("builtins", "exec");
                    to.str(STRAY);
                    let globals: Vec<_> = inputs
                        .iter()
                        .map(|key| (Arg::Str(key.clone()), Arg::Result(key.clone())))
                        .collect();
                    Arg::Dict(globals).pickle(to);
                }
            }
        });
    }
}

impl Arg {
    fn results<'a>(&'a self, found: &mut Vec<&'a Arc<str>>) {
        match self {
            Self::Result(key) => found.push(key),
            Self::List(items) | Self::Tuple(items) => {
                items.iter().for_each(|item| item.results(found));
            }
            Self::Dict(entries) => entries.iter().for_each(|(key, value)| {
                key.results(found);
                value.results(found);
            }),
            _ => (),
        }
    }

    fn estimated_bytes(&self) -> usize {
        match self {
            Self::Str(text) => text.len() + 5,
            Self::Bytes(bytes) => bytes.len() + 5,
            // With the call of `TaskRef`.
            Self::Result(key) => key.len() + 60,
            Self::List(items) | Self::Tuple(items) => items.iter().map(Self::estimated_bytes).sum(),
            Self::Dict(entries) => entries
                .iter()
                .map(|(key, value)| key.estimated_bytes() + value.estimated_bytes())
                .sum(),
            _ => 9,
        }
    }

    fn has_result(&self) -> bool {
        match self {
            Self::Result(_) => true,
            Self::List(items) | Self::Tuple(items) => items.iter().any(Self::has_result),
            Self::Dict(entries) => {
                entries.iter().any(|(key, value)| key.has_result() || value.has_result())
            }
            _ => false,
        }
    }

    fn pickle(&self, to: &mut Pickler) {
        // The scheduler finds results only in Dask's own containers, whose constructors take plain ones.
        let class = match self {
            Self::List(_) => "List",
            Self::Tuple(_) => "Tuple",
            Self::Dict(_) => "Dict",
            _ => return self.pickle_plain(to),
        };
        if self.has_result() {
            to.call(TASKS, class, |to| self.pickle_plain(to));
        } else {
            self.pickle_plain(to);
        }
    }

    fn pickle_plain(&self, to: &mut Pickler) {
        match self {
            Self::None => to.none(),
            Self::Bool(it) => to.bool(*it),
            Self::Int(it) => to.int(*it),
            Self::Float(it) => to.float(*it),
            Self::Str(it) => to.str(it),
            Self::Bytes(it) => to.bytes(it),
            Self::Result(key) => to.call(TASKS, "TaskRef", |to| to.str(key)),
            Self::List(items) => to.list(|to| items.iter().for_each(|item| item.pickle(to))),
            Self::Tuple(items) => to.tuple(|to| items.iter().for_each(|item| item.pickle(to))),
            Self::Dict(entries) => to.dict(|to| {
                for (key, value) in entries {
                    key.pickle(to);
                    value.pickle(to);
                }
            }),
        }
    }
}

/// The operation `update-graph`, which submits tasks.
#[derive(Clone, Copy, Debug)]
pub struct UpdateGraph<'a> {
    /// The tasks.
    pub graph: &'a Graph,
    /// The form that the scheduler expects.
    pub form: GraphForm,
    /// The tasks whose results the client needs.
    pub keys: &'a [&'a str],
    /// All tasks, in the order in which those of equal priority run. If `None`, the scheduler finds an order.
    pub order: Option<&'a [&'a str]>,
}

impl UpdateGraph<'_> {
    /// Adds the operation to a batch.
    pub fn push(&self, to: &mut Batch) {
        let pickle = self.graph.finish(self.form).into();
        let order = self.order.map(KeyOrder);
        let common: [(&str, &dyn Pack); 5] = [
            ("op", &"update-graph"),
            ("keys", &self.keys),
            // Empty: the scheduler would keep an empty list as a tuple, and fail later.
            ("span_metadata", &FieldMap(&[])),
            ("internal_priority", &order),
            ("submitting_task", &()),
        ];
        match self.form {
            GraphForm::Expression => {
                let graph = Serialized::pickle(pickle);
                to.push(&[&common[..], &[("expr_ser", &graph as &dyn Pack)]].concat());
            }
            GraphForm::Header => {
                let none: [bool; 0] = [];
                let header: [(&str, &dyn Pack); 2] =
                    [("serializer", &"pickle"), ("writeable", &none)];
                let header = FieldMap(&header);
                let frames = [Value::Bin(pickle)];
                let graph: [(&str, &dyn Pack); 2] =
                    [("graph_header", &header), ("graph_frames", &frames)];
                to.push(&[&common[..], &graph].concat());
            }
        }
    }
}

/// A map from keys to their positions.
#[derive(Clone, Copy, Debug)]
struct KeyOrder<'a>(&'a [&'a str]);

impl Pack for KeyOrder<'_> {
    fn pack(&self, packer: &mut Packer) {
        packer.map(self.0.len());
        for (at, key) in self.0.iter().enumerate() {
            packer.str(key);
            (at as u64).pack(packer);
        }
    }
}
