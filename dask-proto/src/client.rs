//! The operations of a client's stream, in both directions.

use crate::capabilities::Forms;
use crate::frame::Outgoing;
use crate::pack::{Batch, Pack, Packer};
use crate::serialized::LIST_CLASS;
use crate::value::{Map, Value};
use crate::{WireError, WireKey};

/// Returns the message that makes a connection the stream of the client `id`.
///
/// `versions` is the scheduler's reply to [`versions`](crate::call::versions). The first event is
/// [`SchedulerEvent::Started`]. A scheduler that refuses the client may not answer, so the wait needs a timeout.
pub fn register(id: &str, versions: &Map) -> Outgoing {
    Packer::message(&[
        ("op", &"register-client"),
        ("client", &id),
        ("reply", &false),
        ("versions", versions),
    ])
}

/// Adds `client-releases-keys`: the client no longer needs these results.
pub fn releases_keys<K: Pack>(to: &mut Batch, keys: &[K]) {
    to.push(&[("op", &"client-releases-keys"), ("keys", &keys)]);
}

/// Adds `client-desires-keys`: the client needs these results of tasks that exist already.
pub fn desires_keys<K: Pack>(to: &mut Batch, keys: &[K]) {
    to.push(&[("op", &"client-desires-keys"), ("keys", &keys)]);
}

/// Adds `cancel-keys`: cancels the tasks that no other client needs, or all of them with `force`. The reason appears in
/// the scheduler's log.
pub fn cancel_keys<K: Pack>(to: &mut Batch, forms: &Forms, keys: &[K], force: bool, reason: &str) {
    let mut fields: Vec<(&str, &dyn Pack)> =
        vec![("op", &"cancel-keys"), ("keys", &keys), ("force", &force)];
    if forms.cancel_has_reason {
        fields.push(("reason", &reason));
        fields.push(("msg", &reason));
    }
    to.push(&fields);
}

/// Adds `report-key`: asks for the state of a task. The answer is an event.
pub fn report_key<K: Pack>(to: &mut Batch, key: &K) {
    to.push(&[("op", &"report-key"), ("key", key)]);
}

/// Adds `heartbeat-client`.
pub fn heartbeat(to: &mut Batch) {
    to.push(&[("op", &"heartbeat-client")]);
}

/// Adds `close-client` and `close-stream`: the client disconnects and releases all its keys.
pub fn close(to: &mut Batch) {
    to.push(&[("op", &"close-client")]);
    to.push(&[("op", &"close-stream")]);
}

/// An operation that the scheduler sends to a client.
#[derive(Clone, Debug, PartialEq)]
pub enum SchedulerEvent {
    /// `stream-start`: the client is registered.
    Started {
        /// The scheduler's warning about different versions, or an empty text.
        warning: String,
    },
    /// `key-in-memory`: a task has a result. This may be sent more than once.
    InMemory {
        /// The task.
        key: WireKey,
        /// The addresses of the workers that have the result.
        workers: Vec<String>,
        /// Whether the result is that of a batch that isn't complete; see
        /// [`rust::is_partial`](crate::rust::is_partial).
        is_partial: bool,
    },
    /// `task-erred`: the task, or one that it depends on, failed.
    Erred {
        /// The task.
        key: WireKey,
        /// The exception; see [`failure::exception`](crate::failure::exception).
        exception: Value,
        /// The traceback, an object that only Python can read.
        traceback: Value,
    },
    /// `lost-data`: the result was lost with a worker. If the task can run again, it will.
    Lost {
        /// The task.
        key: WireKey,
    },
    /// `cancelled-keys`: the tasks are cancelled, can't run, or are unknown.
    Cancelled {
        /// The tasks.
        keys: Vec<WireKey>,
        /// The reason, if the scheduler gives one.
        reason: Option<String>,
    },
    /// `task-retried`: the task will run again.
    Retried {
        /// The task.
        key: WireKey,
    },
    /// `restart`: the scheduler has removed all tasks.
    Restarted,
    /// The scheduler closes the stream.
    Closed,
    /// An operation of this name that needs no reaction, or is unknown.
    Other(String),
}

impl SchedulerEvent {
    /// Reads an operation.
    ///
    /// # Errors
    ///
    /// If `op` or another required field is missing or of another type.
    pub fn read(mut operation: Map) -> Result<Self, WireError> {
        let op = operation.need_text("op")?;
        Ok(match op.as_str() {
            "stream-start" => {
                Self::Started { warning: operation.take_text("warning").unwrap_or_default() }
            }
            "key-in-memory" => Self::InMemory {
                key: operation.need_key("key")?,
                workers: operation.take("workers").texts(),
                is_partial: matches!(operation.take("type"), Value::Bin(class) if class == LIST_CLASS),
            },
            "task-erred" => Self::Erred {
                key: operation.need_key("key")?,
                exception: operation.take("exception"),
                traceback: operation.take("traceback"),
            },
            "lost-data" => Self::Lost { key: operation.need_key("key")? },
            "cancelled-keys" => Self::Cancelled {
                keys: operation.need_keys("keys")?,
                reason: operation.take_text("reason"),
            },
            "task-retried" => Self::Retried { key: operation.need_key("key")? },
            "restart" => Self::Restarted,
            "close" | "stream-closed" => Self::Closed,
            _ => Self::Other(op),
        })
    }
}
