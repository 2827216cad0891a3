//! Calls to the scheduler and to workers, with one reply each, and the readers of the replies.

use std::{error, fmt};

use crate::frame::Outgoing;
use crate::pack::{FieldMap, Fields, Pack, Packer, Pairs};
use crate::serialized::Serialized;
use crate::value::{Map, Value};
use crate::{WireError, WireKey, failure};

/// The serializers that a Rust receiver asks for, in order of preference: `dask` doesn't copy bytes, `msgpack` is
/// readable without Python, `pickle` writes everything else.
pub const FORMS: [&str; 3] = ["dask", "msgpack", "pickle"];

/// Returns a call without arguments.
fn plain(op: &str) -> Outgoing {
    request(op, &[])
}

/// Returns a call of the handler `op` with these arguments.
pub fn request(op: &str, arguments: &Fields<'_>) -> Outgoing {
    let common: [(&str, &dyn Pack); 2] = [("op", &op), ("reply", &true)];
    Packer::message(&[&common[..], arguments].concat())
}

/// Asks a scheduler or worker for its identity.
pub fn identity() -> Outgoing {
    plain("identity")
}

/// Asks a scheduler or worker for the versions of its packages; see [`release`].
pub fn versions() -> Outgoing {
    plain("versions")
}

/// Asks a worker for a reply, which is `pong` as bytes.
pub fn ping() -> Outgoing {
    plain("ping")
}

/// Asks which workers have these results. [`who_has_reply`] reads the reply.
pub fn who_has<K: Pack>(keys: &[K]) -> Outgoing {
    request("who_has", &[("keys", &keys)])
}

/// Asks the scheduler for these results. [`data_reply`] reads the reply.
pub fn gather<K: Pack>(keys: &[K], forms: &[&str]) -> Outgoing {
    request("gather", &[("keys", &keys), ("serializers", &forms)])
}

/// Asks a worker for these results. `who` is the address of the worker that asks, if it is one. [`data_reply`] reads
/// the reply. If that is [`Data::Here`], send [`delivered`] afterwards.
pub fn get_data<K: Pack>(keys: &[K], who: Option<&str>, forms: &[&str]) -> Outgoing {
    request("get_data", &[("keys", &keys), ("who", &who), ("serializers", &forms)])
}

/// Confirms that the data of [`get_data`] has arrived.
pub fn delivered() -> Outgoing {
    let mut packer = Packer::new();
    packer.str("OK");
    packer.finish()
}

/// Sends results to the scheduler, which passes them to some of these workers, or of all.
pub fn scatter(client: &str, data: &[(WireKey, Serialized)], workers: Option<&[&str]>) -> Outgoing {
    let data = Pairs(data.iter().map(|(key, value)| (key, value)));
    request(
        "scatter",
        &[("data", &data), ("workers", &workers), ("client", &client), ("broadcast", &false)],
    )
}

/// Sends results to a worker.
pub fn update_data(data: &[(WireKey, Serialized)]) -> Outgoing {
    let data = Pairs(data.iter().map(|(key, value)| (key, value)));
    request("update_data", &[("data", &data)])
}

/// Asks the scheduler to run failed tasks again.
pub fn retry<K: Pack>(client: &str, keys: &[K]) -> Outgoing {
    request("retry", &[("keys", &keys), ("client", &client)])
}

/// Asks for the states of tasks. [`states_reply`] reads the reply.
pub fn states<K: Pack>(keys: &[K]) -> Outgoing {
    request("get_task_status", &[("keys", &keys)])
}

/// Restricts tasks to the workers of these addresses, of which at least one must be given. The reply is `None`; the
/// call fails if the scheduler doesn't know one of the tasks. It has no effect on a task that waits for a worker
/// already.
pub fn restrict<K: Pack>(keys: &[K], workers: &[K]) -> Outgoing {
    let workers = Pairs(keys.iter().map(|key| (key, workers)));
    request("set_restrictions", &[("worker", &workers)])
}

/// Asks the scheduler to move the results away from the workers of these addresses, and to close them.
pub fn retire_workers(addresses: &[&str]) -> Outgoing {
    request(
        "retire_workers",
        &[("workers", &addresses), ("close_workers", &true), ("remove", &true)],
    )
}

/// Why a call has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The reply can't be read.
    Wire(WireError),
    /// The handler raised an exception with this text.
    Failed(String),
    /// The reply is `None`: the other side has no such handler, or it returns nothing.
    Nothing,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(error) => error.fmt(f),
            Self::Failed(text) => write!(f, "the call failed on the other side: {text}"),
            Self::Nothing => {
                f.write_str("the other side has no handler for this call, or it returned nothing")
            }
        }
    }
}

impl error::Error for CallError {}

impl From<WireError> for CallError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// Returns the reply in a message.
///
/// # Errors
///
/// [`Failed`](CallError::Failed) and [`Nothing`](CallError::Nothing).
pub fn reply(message: Value) -> Result<Value, CallError> {
    match message {
        Value::Nil => Err(CallError::Nothing),
        Value::Map(map) if map.text("status") == Some("uncaught-error") => {
            let text = map.text("exception_text").map(str::to_owned);
            let text = text.or_else(|| {
                map.get("exception").map(|exception| failure::exception(exception).to_string())
            });
            Err(CallError::Failed(text.unwrap_or_default()))
        }
        other => Ok(other),
    }
}

/// Returns the reply in a message, which must be a map.
///
/// # Errors
///
/// Those of [`reply`], and a reply that is no map.
pub fn map_reply(message: Value) -> Result<Map, CallError> {
    match reply(message)? {
        Value::Map(map) => Ok(map),
        _ => Err(WireError::malformed("a reply that is no map").into()),
    }
}

/// Returns the release of Dask in the reply to [`versions`].
pub fn release(versions: &Map) -> Option<&str> {
    versions.get("packages")?.as_map()?.text("distributed")
}

/// Reads the reply to [`states`]. The state of an unknown task is `None`.
///
/// # Errors
///
/// Those of [`map_reply`].
pub fn states_reply(message: Value) -> Result<Vec<(WireKey, Option<String>)>, CallError> {
    let states = map_reply(message)?.0.into_iter();
    Ok(states
        .map(|(key, state)| Ok((key.key()?, state.string())))
        .collect::<Result<_, WireError>>()?)
}

/// Keys with the addresses of the workers that have their results.
pub type WhoHas = Vec<(WireKey, Vec<String>)>;

/// Reads the reply to [`who_has`].
///
/// # Errors
///
/// Those of [`map_reply`].
pub fn who_has_reply(message: Value) -> Result<WhoHas, CallError> {
    Ok(read_who_has(map_reply(message)?)?)
}

pub(crate) fn read_who_has(map: Map) -> Result<WhoHas, WireError> {
    map.0.into_iter().map(|(key, addresses)| Ok((key.key()?, addresses.texts()))).collect()
}

/// The reply to [`get_data`] or [`gather`].
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// The results; keys without one are missing in the list.
    Here(Vec<(WireKey, Value)>),
    /// The worker serves too many others. Dask asks again after 150 ms.
    Busy,
    /// The scheduler couldn't fetch these.
    Missing(Vec<WireKey>),
}

/// Reads the reply to [`get_data`] or [`gather`].
///
/// # Errors
///
/// Those of [`map_reply`], and a reply of an unknown status.
pub fn data_reply(message: Value) -> Result<Data, CallError> {
    let mut map = map_reply(message)?;
    match map.take_text("status").as_deref() {
        Some("OK") => Ok(Data::Here(read_data(map.need_map("data")?)?)),
        Some("busy") => Ok(Data::Busy),
        Some("error") => Ok(Data::Missing(map.need_keys("keys")?)),
        _ => Err(WireError::malformed("data with an unknown status").into()),
    }
}

pub(crate) fn read_data(map: Map) -> Result<Vec<(WireKey, Value)>, WireError> {
    map.0.into_iter().map(|(key, value)| Ok((key.key()?, value))).collect()
}

/// Returns the reply of the status `OK`.
pub fn ok() -> Outgoing {
    Packer::message(&[("status", &"OK")])
}

/// Returns a reply of a map.
pub fn answer(fields: &Fields<'_>) -> Outgoing {
    Packer::message(fields)
}

/// Returns a reply of any value.
pub fn answer_value(value: &impl Pack) -> Outgoing {
    let mut packer = Packer::new();
    value.pack(&mut packer);
    packer.finish()
}

/// Returns the reply that makes the call fail. A Python caller raises a `RuntimeError` with the text.
pub fn failed(text: &str) -> Outgoing {
    let exception = Serialized::bytes(crate::pickle::runtime_error(text).into());
    Packer::message(&[
        ("status", &"uncaught-error"),
        ("exception", &exception),
        ("traceback", &()),
        ("exception_text", &text),
        ("traceback_text", &""),
    ])
}

/// An empty map.
pub const EMPTY: FieldMap<'static> = FieldMap(&[]);
