//! What the scheduler tells a worker to do, on its stream.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::call::{WhoHas, read_who_has};
use crate::graph::RUST;
use crate::value::{Map, Value};
use crate::{WireError, WireKey};

/// Arguments of so many bytes aren't copied.
const LARGE: usize = 4096;

/// What the scheduler tells a worker to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Run a task. For one that is known already and isn't done, only the run is new.
    Compute(Box<Compute>),
    /// Forget these: their results, or that they're to run. Nothing is said of them any more.
    Free { keys: Vec<WireKey>, stimulus: String },
    /// Drop the results of these, or say that they're kept.
    RemoveReplicas { keys: Vec<WireKey>, stimulus: String },
    /// Get these from who has them, and say so.
    AcquireReplicas { who_has: WhoHas, sizes: Vec<(WireKey, u64)>, stimulus: String },
    /// Give up a task, if it hasn't begun, and say whether.
    Steal { key: WireKey, stimulus: String },
    /// Who has what this worker asked for. Nobody, if there's no address.
    WhoHas { who_has: WhoHas, stimulus: String },
    /// Drop the task if it hasn't begun.
    Cancel { key: WireKey },
    /// This worker is gone.
    Gone { address: String },
    /// Be in this state, and say so.
    Status { status: String, stimulus: String },
    /// Leave.
    Close { reason: String },
    /// Of no matter, or unknown.
    Other(String),
}

/// A task to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Compute {
    /// Its name.
    pub key: WireKey,
    /// Goes back with the result.
    pub run: i64,
    /// Lower ones first.
    pub priority: Priority,
    /// Goes back with the result.
    pub stimulus: String,
    /// Its inputs, all of them.
    pub who_has: WhoHas,
    /// How large they are.
    pub sizes: Vec<(WireKey, u64)>,
    /// What to run, if it's ours.
    pub rust: Option<Rust>,
    /// Why it can't be told what to run, though it's meant to be ours.
    pub misread: Option<String>,
    /// What it uses of what this worker has.
    pub resources: Vec<(String, f64)>,
    /// Whether it's an actor.
    pub actor: bool,
}

/// What one of our functions is to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rust {
    /// What it's registered as.
    pub function: String,
    /// What its arguments are made of, besides the inputs.
    pub args: Bytes,
    /// In order.
    pub inputs: Vec<WireKey>,
    /// How many seconds it may take.
    pub timeout: Option<f64>,
}

/// The order in which tasks run: lower ones first, number by number.
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
                misread = Some("it isn't a dict".to_owned());
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
        // A few bytes would keep a whole message in memory, with all its other tasks, for as long as this one waits.
        let args = if args.len() < LARGE { Bytes::copy_from_slice(&args) } else { args };
        let timeout = map.take("timeout").as_float().filter(|seconds| *seconds >= 0.0);
        let (function, inputs) = (map.need_text("fn")?, map.need_keys("deps")?);
        Ok(Self { function, args, inputs, timeout })
    }
}

/// A map, or nothing at all.
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
