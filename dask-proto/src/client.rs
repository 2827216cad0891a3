//! What a client says to the scheduler, and hears from it.

use crate::capabilities::Forms;
use crate::frame::Outgoing;
use crate::pack::{Batch, Pack, Packer};
use crate::serialized::LIST_CLASS;
use crate::value::{Map, Value};
use crate::{WireError, WireKey};

/// Makes this connection a client's stream. `versions` is what the scheduler answered to
/// [`versions`](super::call::versions). The first event is [`Event::Started`]; a scheduler that doesn't like
/// it may never answer.
pub fn register(id: &str, versions: &Map) -> Outgoing {
    Packer::message(&[
        ("op", &"register-client"),
        ("client", &id),
        ("reply", &false),
        ("versions", versions),
    ])
}

/// This client doesn't need these results any more.
pub fn releases_keys<K: Pack>(to: &mut Batch, keys: &[K]) {
    to.push(&[("op", &"client-releases-keys"), ("keys", &keys)]);
}

/// This client needs these results, which others asked for.
pub fn desires_keys<K: Pack>(to: &mut Batch, keys: &[K]) {
    to.push(&[("op", &"client-desires-keys"), ("keys", &keys)]);
}

/// Cancels tasks: those that no other client needs, or all with `force`. `reason` is for the logs.
pub fn cancel_keys<K: Pack>(to: &mut Batch, forms: &Forms, keys: &[K], force: bool, reason: &str) {
    let mut fields: Vec<(&str, &dyn Pack)> =
        vec![("op", &"cancel-keys"), ("keys", &keys), ("force", &force)];
    if forms.cancel_has_reason {
        fields.push(("reason", &reason));
        fields.push(("msg", &reason));
    }
    to.push(&fields);
}

/// Asks for the state of a task; the answer is an event.
pub fn report_key<K: Pack>(to: &mut Batch, key: &K) {
    to.push(&[("op", &"report-key"), ("key", key)]);
}

/// This client lives.
pub fn heartbeat(to: &mut Batch) {
    to.push(&[("op", &"heartbeat-client")]);
}

/// This client leaves, and needs nothing any more.
pub fn close(to: &mut Batch) {
    to.push(&[("op", &"close-client")]);
    to.push(&[("op", &"close-stream")]);
}

/// What the scheduler tells a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The stream has begun.
    Started {
        /// What the scheduler thinks of the versions.
        warning: String,
    },
    /// A result is there. This may come more than once.
    InMemory {
        key: WireKey,
        workers: Vec<String>,
        /// A worker of ours has only a part of what it was asked for.
        is_partial: bool,
    },
    /// The task, or one that it depends on, failed. See [`exception`](super::failure::exception).
    Erred { key: WireKey, exception: Value, traceback: Value },
    /// The result has gone with a worker. It comes again, if it can be computed again.
    Lost { key: WireKey },
    /// The tasks are cancelled, can't be computed, or are unknown.
    Cancelled { keys: Vec<WireKey>, reason: Option<String> },
    /// The task will run again.
    Retried { key: WireKey },
    /// All tasks are gone.
    Restarted,
    /// The scheduler ends the stream.
    Closed,
    /// Of no matter, or unknown.
    Other(String),
}

impl Event {
    /// Reads an operation.
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
