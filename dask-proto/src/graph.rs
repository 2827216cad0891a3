//! Graphs of tasks, as the scheduler wants them: a pickled `HighLevelGraph`.
//!
//! Only constructors of Dask's classes are called, with the plainest arguments, since what is inside of them
//! changes from release to release.

use std::collections::BTreeMap;

use crate::pack::{Batch, FieldMap, Pack, Packer};
use crate::pickle::Pickler;
use crate::serialized::Serialized;
use crate::value::Value;

const TASKS: &str = "dask._task_spec";
const GRAPHS: &str = "dask.highlevelgraph";
/// The annotation under which our workers find what to run.
pub const RUST: &str = "rust";
/// What a task of ours does to a worker in Python.
const STRAY: &str = "raise RuntimeError('this task must run on a Rust worker')";

/// What a task is to do.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// Call a Python function.
    Python {
        /// Where the function is.
        module: &'a str,
        /// The function.
        name: &'a str,
        /// What it's called with.
        args: &'a [Arg<'a>],
    },
    /// Call a function that our workers know.
    Rust {
        /// What they know it by.
        function: &'a str,
        /// What the worker needs to make its arguments, besides the results of other tasks.
        args: &'a [u8],
        /// The tasks whose results it takes, in order.
        inputs: &'a [&'a str],
    },
}

/// An argument of a Python function.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg<'a> {
    None,
    Bool(bool),
    /// An `i64` or `u64`.
    Int(i128),
    Float(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
    /// The result of a task.
    Result(&'a str),
    List(Vec<Arg<'a>>),
    Tuple(Vec<Arg<'a>>),
    Dict(Vec<(Arg<'a>, Arg<'a>)>),
}

/// What the scheduler is to know of a task.
#[derive(Clone, Copy, Debug, Default)]
pub struct Annotations<'a> {
    /// Higher ones first.
    pub priority: Option<i64>,
    /// How often it's run again after it failed.
    pub retries: Option<u32>,
    /// What it uses of what workers say they have.
    pub resources: &'a [(&'a str, f64)],
    /// Addresses, names or hosts of the workers that may run it; all may if there are none.
    pub workers: &'a [&'a str],
    /// Others may, too, if none of those is there.
    pub allow_other_workers: bool,
    /// How many seconds it may take, if it's one of ours; Dask has no such thing.
    pub timeout: Option<f64>,
}

/// A graph, of which only the pickle is kept while tasks are added.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// By the annotations that their tasks have: a layer's annotations are functions from its keys, which
    /// must know all of these.
    layers: BTreeMap<Vec<&'static str>, Layer>,
    len: usize,
}

#[derive(Clone, Debug, Default)]
struct Layer {
    /// Each key with its task.
    tasks: Pickler,
    /// Each key with its value, for each annotation.
    annotations: Vec<Pickler>,
}

/// How a graph is put into the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphForm {
    /// `expr_ser`, from 2025.4.0 on.
    Expression,
    /// `graph_header` and `graph_frames`, before.
    Header,
}

impl Graph {
    /// Without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many tasks there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> usize {
        let layers = self.layers.values();
        let layer = |layer: &Layer| {
            layer.tasks.len() + layer.annotations.iter().map(Pickler::len).sum::<usize>()
        };
        layers.map(layer).sum()
    }

    /// Adds a task. Keys of other graphs may be among its inputs, if somebody still holds them.
    pub fn add(&mut self, key: &str, call: &Call<'_>, annotations: &Annotations<'_>) {
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

    /// The pickle, in a form that the scheduler understands.
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
        // What depends on what is in the tasks.
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
                // An annotation that can be called is called with each key.
                to.call("builtins", "getattr", |to| {
                    to.dict(|to| to.append(values));
                    to.str("get");
                });
            }
        });
    }
}

impl Annotations<'_> {
    /// The annotations that are there, sorted by name.
    fn values(&self, call: &Call<'_>) -> Vec<(&'static str, Pickler)> {
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
                    for (name, amount) in self.resources {
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

impl Call<'_> {
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
                    let globals: Vec<_> =
                        inputs.iter().map(|key| (Arg::Str(key), Arg::Result(key))).collect();
                    Arg::Dict(globals).pickle(to);
                }
            }
        });
    }
}

impl Arg<'_> {
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
        // Results are found only in containers of Dask's own, which take a plain one.
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

/// `update-graph`.
#[derive(Clone, Copy, Debug)]
pub struct UpdateGraph<'a> {
    /// The tasks.
    pub graph: &'a Graph,
    /// How the scheduler wants it.
    pub form: GraphForm,
    /// The tasks this client wants.
    pub keys: &'a [&'a str],
    /// All tasks in the order in which those of equal priority are to run. Without it the scheduler finds one.
    pub order: Option<&'a [&'a str]>,
}

impl UpdateGraph<'_> {
    /// Adds the operation.
    pub fn push(&self, to: &mut Batch) {
        let pickle = self.graph.finish(self.form).into();
        let order = self.order.map(Order);
        let common: [(&str, &dyn Pack); 5] = [
            ("op", &"update-graph"),
            ("keys", &self.keys),
            // Not even with an empty list in it: the scheduler would keep that, as a tuple, and break later.
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
                let header = FieldMap(&[("serializer", &"pickle"), ("writeable", &none)]);
                let frames = [Value::Bin(pickle)];
                let graph: [(&str, &dyn Pack); 2] =
                    [("graph_header", &header), ("graph_frames", &frames)];
                to.push(&[&common[..], &graph].concat());
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Order<'a>(&'a [&'a str]);

impl Pack for Order<'_> {
    fn pack(&self, packer: &mut Packer) {
        packer.map(self.0.len());
        for (at, key) in self.0.iter().enumerate() {
            packer.str(key);
            (at as u64).pack(packer);
        }
    }
}
