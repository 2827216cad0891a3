//! The operations that the scheduler sends to a worker on its stream.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::call::{WhoHas, read_who_has};
use crate::graph::RUST;
use crate::value::{Map, Value};
use crate::{WireError, WireKey};

/// The size in bytes from which on arguments aren't copied.
const LARGE: usize = 4096;

/// An operation that the scheduler sends to a worker.
///
/// A `stimulus` names the event that caused the operation. Replies repeat it, for the logs of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// `compute-task`: run a task. If the worker has the task already and it isn't done, only the number of the run
    /// changes.
    Compute(Box<Compute>),
    /// `free-keys`: forget these tasks and their results, without a reply.
    Free {
        /// The tasks.
        keys: Vec<WireKey>,
        /// The stimulus.
        stimulus: String,
    },
    /// `remove-replicas`: drop these results, or report that they're kept.
    RemoveReplicas {
        /// The tasks.
        keys: Vec<WireKey>,
        /// The stimulus.
        stimulus: String,
    },
    /// `acquire-replicas`: fetch these results, and report that.
    AcquireReplicas {
        /// The workers that have each result.
        who_has: WhoHas,
        /// The size of each result in bytes.
        sizes: Vec<(WireKey, u64)>,
        /// The stimulus.
        stimulus: String,
    },
    /// `steal-request`: give the task back unless it has begun, and reply with its [state](super::report::Stolen).
    Steal {
        /// The task.
        key: WireKey,
        /// The stimulus.
        stimulus: String,
    },
    /// `refresh-who-has`: the reply to [`refresh_who_has`](super::report::refresh_who_has).
    WhoHas {
        /// The workers that have each result; no addresses if it doesn't exist.
        who_has: WhoHas,
        /// The stimulus.
        stimulus: String,
    },
    /// `cancel-compute`: drop the task unless it has begun.
    Cancel {
        /// The task.
        key: WireKey,
    },
    /// `remove-worker`: another worker has left.
    Gone {
        /// Its address.
        address: String,
    },
    /// `worker-status-change`: change to this status, and report it.
    Status {
        /// The status, as in [`status`](super::report::status).
        status: String,
        /// The stimulus.
        stimulus: String,
    },
    /// `close` and `close-stream`: leave the cluster.
    Close {
        /// The reason, for the log.
        reason: String,
    },
    /// An operation of this name that needs no reaction, or is unknown.
    Other(String),
}

/// The operation `compute-task`.
#[derive(Clone, Debug, PartialEq)]
pub struct Compute {
    /// The task.
    pub key: WireKey,
    /// The number of the run, which the report of the result repeats.
    pub run: i64,
    /// The priority among the tasks of the worker.
    pub priority: Priority,
    /// The stimulus, which the report of the result repeats.
    pub stimulus: String,
    /// The inputs, with the workers that have them.
    pub who_has: WhoHas,
    /// The sizes of the inputs in bytes.
    pub sizes: Vec<(WireKey, u64)>,
    /// The Rust function to call, if it's a task for Rust workers.
    pub rust: Option<Rust>,
    /// Why the annotation for Rust workers can't be read, if it exists and can't.
    pub misread: Option<String>,
    /// The resources that the task takes on this worker.
    pub resources: Vec<(String, f64)>,
    /// Whether the task makes an actor.
    pub actor: bool,
}

/// A call of a Rust function; see [`rust`](crate::rust).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rust {
    /// The registered name.
    pub function: String,
    /// The encoded arguments.
    pub args: Bytes,
    /// The tasks whose results are inputs, in order.
    pub inputs: Vec<WireKey>,
    /// The seconds that the call may take.
    pub timeout: Option<f64>,
}

/// The priority of a task; lower ones run first. Priorities are compared number by number.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Priority(pub Vec<f64>);

impl Eq for Priority {}

impl PartialOrd for Priority {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Priority {
    fn cmp(&self, other: &Self) -> Ordering {
        let pairs = self.0.iter().zip(&other.0);
        let unequal = pairs.map(|(one, other)| one.total_cmp(other)).find(|order| order.is_ne());
        unequal.unwrap_or_else(|| self.0.len().cmp(&other.0.len()))
    }
}

impl Order {
    /// Reads an operation.
    ///
    /// # Errors
    ///
    /// If `op` or another required field is missing or of another type.
    pub fn read(mut operation: Map) -> Result<Self, WireError> {
        let op = operation.need_text("op")?;
        let stimulus = operation.take_text("stimulus_id").unwrap_or_default();
        Ok(match op.as_str() {
            "compute-task" => Self::Compute(Box::new(Compute::read(operation, stimulus)?)),
            "free-keys" => Self::Free { keys: operation.need_keys("keys")?, stimulus },
            "remove-replicas" => {
                Self::RemoveReplicas { keys: operation.need_keys("keys")?, stimulus }
            }
            "acquire-replicas" => Self::AcquireReplicas {
                who_has: read_who_has(operation.need_map("who_has")?)?,
                sizes: sizes(operation.take("nbytes"))?,
                stimulus,
            },
            "steal-request" => Self::Steal { key: operation.need_key("key")?, stimulus },
            "refresh-who-has" => {
                Self::WhoHas { who_has: read_who_has(operation.need_map("who_has")?)?, stimulus }
            }
            "cancel-compute" => Self::Cancel { key: operation.need_key("key")? },
            "remove-worker" => Self::Gone { address: operation.need_text("worker")? },
            "worker-status-change" => {
                Self::Status { status: operation.need_text("status")?, stimulus }
            }
            "close" | "close-stream" => {
                Self::Close { reason: operation.take_text("reason").unwrap_or_default() }
            }
            _ => Self::Other(op),
        })
    }
}

impl Compute {
    fn read(mut operation: Map, stimulus: String) -> Result<Self, WireError> {
        let mut annotations = map(operation.take("annotations"));
        let mut misread = None;
        let rust = match annotations.take(RUST) {
            Value::Map(rust) => match Rust::read(rust) {
                Ok(rust) => Some(rust),
                Err(error) => {
                    misread = Some(error.to_string());
                    None
                }
            },
            Value::Nil => None,
            _ => {
                misread = Some("it isn't a map".to_owned());
                None
            }
        };
        let run = operation.need("run_id")?.as_int();
        let priority = operation.take("priority");
        let numbers = priority.items().unwrap_or_default().iter().map(Value::as_float);
        let resources = map(operation.take("resource_restrictions"));
        Ok(Self {
            key: operation.need_key("key")?,
            run: run.ok_or_else(|| WireError::malformed("`run_id` isn't a number"))?,
            priority: Priority(numbers.map(|number| number.unwrap_or(0.0)).collect()),
            stimulus,
            who_has: read_who_has(map(operation.take("who_has")))?,
            sizes: sizes(operation.take("nbytes"))?,
            rust,
            misread,
            resources: resources
                .named()
                .filter_map(|(name, amount)| Some((name.to_owned(), amount.as_float()?)))
                .collect(),
            actor: operation.take("actor") == Value::Bool(true),
        })
    }
}

impl Rust {
    fn read(mut map: Map) -> Result<Self, WireError> {
        let Value::Bin(args) = map.need("args")? else {
            return Err(WireError::malformed("`args` isn't bytes"));
        };
        // A slice would keep the whole message in memory, with all its other tasks, until this task has run.
        let args = if args.len() < LARGE { Bytes::copy_from_slice(&args) } else { args };
        let timeout = map.take("timeout").as_float().filter(|seconds| *seconds >= 0.0);
        let (function, inputs) = (map.need_text("fn")?, map.need_keys("deps")?);
        Ok(Self { function, args, inputs, timeout })
    }
}

/// Returns a map, an empty one for any other value.
fn map(value: Value) -> Map {
    match value {
        Value::Map(map) => map,
        _ => Map::default(),
    }
}

fn sizes(value: Value) -> Result<Vec<(WireKey, u64)>, WireError> {
    let size = |value: Value| value.as_int().and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
    map(value).0.into_iter().map(|(key, value)| Ok((key.key()?, size(value)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::{Batch, FieldMap};
    use crate::unpack;

    #[test]
    fn small_arguments_do_not_keep_the_message() {
        for len in [0, 1, LARGE - 1, LARGE, 2 * LARGE] {
            let args = Bytes::from(vec![7; len]);
            let deps: &[WireKey] = &[];
            let mut batch = Batch::new();
            batch.push(&[
                ("op", &"compute-task"),
                ("key", &"k"),
                ("run_id", &1i64),
                (
                    "annotations",
                    &FieldMap(&[(
                        "rust",
                        &FieldMap(&[("fn", &"f"), ("args", &args), ("deps", &deps)]),
                    )]),
                ),
            ]);
            let message = Bytes::from(batch.finish().to_vec());
            let mut reader = crate::frame::Reader::new(Default::default());
            reader.feed(&message);
            let frames = reader.message().unwrap().unwrap();
            let mut orders = unpack::operations(&frames, Order::read).unwrap();
            let Some(Order::Compute(compute)) = orders.pop() else { panic!("{orders:?}") };
            let got = compute.rust.unwrap().args;
            assert_eq!(got, args);
            let head = frames[0].as_ptr_range();
            assert_eq!(head.contains(&got.as_ptr()), len >= LARGE, "{len}");
        }
    }
}
