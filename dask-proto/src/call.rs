//! Calls, with one reply each, to the scheduler and to workers.

use std::{error, fmt};

use crate::frame::Outgoing;
use crate::pack::{FieldMap, Fields, Pack, Packer, Pairs};
use crate::serialized::Serialized;
use crate::value::{Map, Value};
use crate::{WireError, WireKey, failure};

/// In what forms a worker of ours takes objects: without copying bytes, in the clear if possible, and else
/// closed.
pub const FORMS: [&str; 3] = ["dask", "msgpack", "pickle"];

/// A call without arguments.
fn plain(op: &str) -> Outgoing {
    request(op, &[])
}

/// A call of anything.
pub fn request(op: &str, arguments: &Fields<'_>) -> Outgoing {
    let common: [(&str, &dyn Pack); 2] = [("op", &op), ("reply", &true)];
    Packer::message(&[&common[..], arguments].concat())
}

/// What a scheduler or worker is.
pub fn identity() -> Outgoing {
    plain("identity")
}

/// What packages it has.
pub fn versions() -> Outgoing {
    plain("versions")
}

/// Whether a worker is there; the reply is `pong`, as bytes.
pub fn ping() -> Outgoing {
    plain("ping")
}

/// Which workers have these results. Answered as [`who_has_reply`] reads it.
pub fn who_has<K: Pack>(keys: &[K]) -> Outgoing {
    request("who_has", &[("keys", &keys)])
}

/// These results by way of the scheduler. Answered as [`data_reply`] reads it.
pub fn gather<K: Pack>(keys: &[K], forms: &[&str]) -> Outgoing {
    request("gather", &[("keys", &keys), ("serializers", &forms)])
}

/// These results from the worker that has them, for who is at this address. Answered as [`data_reply`] reads
/// it; if that is [`Data::Here`], say [`delivered`].
pub fn get_data<K: Pack>(keys: &[K], who: Option<&str>, forms: &[&str]) -> Outgoing {
    request("get_data", &[("keys", &keys), ("who", &who), ("serializers", &forms)])
}

/// The data has arrived.
pub fn delivered() -> Outgoing {
    let mut packer = Packer::new();
    packer.str("OK");
    packer.finish()
}

/// Gives results to the scheduler, which gives them to some worker.
pub fn scatter(client: &str, data: &[(WireKey, Serialized)], workers: Option<&[&str]>) -> Outgoing {
    let data = Pairs(data.iter().map(|(key, value)| (key, value)));
    request(
        "scatter",
        &[("data", &data), ("workers", &workers), ("client", &client), ("broadcast", &false)],
    )
}

/// Gives results to a worker.
pub fn update_data(data: &[(WireKey, Serialized)]) -> Outgoing {
    let data = Pairs(data.iter().map(|(key, value)| (key, value)));
    request("update_data", &[("data", &data)])
}

/// Runs failed tasks again.
pub fn retry<K: Pack>(client: &str, keys: &[K]) -> Outgoing {
    request("retry", &[("keys", &keys), ("client", &client)])
}

/// In what states these tasks are. Answered as [`states_reply`] reads it.
pub fn states<K: Pack>(keys: &[K]) -> Outgoing {
    request("get_task_status", &[("keys", &keys)])
}

/// Tasks may run on the workers of these addresses only, of which there must be some. The reply is nothing; it fails
/// if the scheduler doesn't know one of the tasks. One that waits for a worker isn't looked at again.
pub fn restrict<K: Pack>(keys: &[K], workers: &[K]) -> Outgoing {
    let workers = Pairs(keys.iter().map(|key| (key, workers)));
    request("set_restrictions", &[("worker", &workers)])
}

/// Moves away what the workers of these addresses hold, and closes them.
pub fn retire_workers(addresses: &[&str]) -> Outgoing {
    request(
        "retire_workers",
        &[("workers", &addresses), ("close_workers", &true), ("remove", &true)],
    )
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// It can't be read.
    Wire(WireError),
    /// The call failed there, with this text.
    Failed(String),
    /// There's no such call, or it gives nothing.
    Nothing,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(error) => error.fmt(f),
            Self::Failed(text) => write!(f, "the call failed on the other side: {text}"),
            Self::Nothing => f.write_str("the other side doesn't know this call"),
        }
    }
}

impl error::Error for CallError {}

impl From<WireError> for CallError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// What was answered, unless the call failed.
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

/// What was answered, which must be a map.
pub fn map_reply(message: Value) -> Result<Map, CallError> {
    match reply(message)? {
        Value::Map(map) => Ok(map),
        _ => Err(WireError::malformed("a reply that is no map").into()),
    }
}

/// The release of Dask in what was answered to [`versions`].
pub fn release(versions: &Map) -> Option<&str> {
    versions.get("packages")?.as_map()?.text("distributed")
}

/// Reads what was answered to [`states`]: that of a task that isn't known is none.
pub fn states_reply(message: Value) -> Result<Vec<(WireKey, Option<String>)>, CallError> {
    let states = map_reply(message)?.0.into_iter();
    Ok(states
        .map(|(key, state)| Ok((key.key()?, state.string())))
        .collect::<Result<_, WireError>>()?)
}

/// The keys, and the addresses of the workers that have them.
pub type WhoHas = Vec<(WireKey, Vec<String>)>;

/// Reads what was answered to [`who_has`].
pub fn who_has_reply(message: Value) -> Result<WhoHas, CallError> {
    Ok(read_who_has(map_reply(message)?)?)
}

pub(crate) fn read_who_has(map: Map) -> Result<WhoHas, WireError> {
    map.0.into_iter().map(|(key, addresses)| Ok((key.key()?, addresses.texts()))).collect()
}

/// What was answered to [`get_data`] or [`gather`].
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// What there is of it; what is missing isn't there.
    Here(Vec<(WireKey, Value)>),
    /// Ask again, in 150 ms for example.
    Busy,
    /// The scheduler couldn't get these.
    Missing(Vec<WireKey>),
}

/// Reads what was answered to [`get_data`] or [`gather`].
pub fn data_reply(message: Value) -> Result<Data, CallError> {
    let mut map = map_reply(message)?;
    match map.take_text("status").as_deref() {
        Some("OK") => Ok(Data::Here(read_data(map.need_map("data")?)?)),
        Some("busy") => Ok(Data::Busy),
        Some("error") => Ok(Data::Missing(map.need_keys("keys")?)),
        _ => Err(WireError::malformed("data in an unknown state").into()),
    }
}

pub(crate) fn read_data(map: Map) -> Result<Vec<(WireKey, Value)>, WireError> {
    map.0.into_iter().map(|(key, value)| Ok((key.key()?, value))).collect()
}

/// A reply that says that all is well.
pub fn ok() -> Outgoing {
    Packer::message(&[("status", &"OK")])
}

/// A reply of a map.
pub fn answer(fields: &Fields<'_>) -> Outgoing {
    Packer::message(fields)
}

/// A reply of anything, nothing in particular.
pub fn answer_value(value: &impl Pack) -> Outgoing {
    let mut packer = Packer::new();
    value.pack(&mut packer);
    packer.finish()
}

/// A reply that says what went wrong. The other side raises it.
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

/// A map without anything in it.
pub const EMPTY: FieldMap<'static> = FieldMap(&[]);
