//! The calls that a worker serves, and the replies.

use crate::call::{EMPTY, WhoHas, read_data, read_who_has};
use crate::frame::Outgoing;
use crate::pack::{Pack, Packer, Pairs};
use crate::serialized::Serialized;
use crate::value::{Map, Value};
use crate::{WireError, WireKey};

/// A call to a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The call, with its arguments.
    pub ask: Ask,
    /// Whether the caller waits for a reply.
    pub reply: bool,
    /// Whether the connection is closed after the reply.
    pub close: bool,
}

/// A call to a worker, by its handler.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// `get_data`: send results. The caller confirms the [reply](data) with a message that
    /// [`is_delivered`] recognizes, and sends nothing else before that.
    GetData {
        /// The tasks.
        keys: Vec<WireKey>,
        /// The address of the caller, if it's a worker.
        who: Option<String>,
    },
    /// `update_data`: keep these results.
    UpdateData {
        /// The results by task.
        data: Vec<(WireKey, Value)>,
    },
    /// `gather`: fetch these results from other workers.
    Gather {
        /// The workers that have each result.
        who_has: WhoHas,
    },
    /// `free_keys`: drop these results.
    FreeKeys {
        /// The tasks.
        keys: Vec<WireKey>,
    },
    /// `keys`: list the results.
    Keys,
    /// `identity`: report name and addresses.
    Identity,
    /// `versions`: report the versions of packages.
    Versions,
    /// `ping`.
    Ping,
    /// `terminate`: leave the cluster.
    Terminate {
        /// The reason, for the log.
        reason: String,
    },
    /// `run` and `run_coroutine`: run a Python function, which only a Python worker can.
    Run,
    /// A call about something that only Python workers have, with the reply that keeps the caller working.
    Harmless(Harmless),
    /// An unknown call and its arguments; the reply is [`unknown`].
    Other(String, Map),
}

/// A neutral reply to a call about something that a Rust worker doesn't have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harmless {
    /// The status `OK`.
    Ok,
    /// An empty list.
    List,
    /// An empty map.
    Map,
    /// A profile without samples.
    Profile,
    /// The history of profiles, empty.
    ProfileTimes,
    /// The history of the system monitor, empty.
    Monitor,
}

impl Request {
    /// Reads a call.
    ///
    /// # Errors
    ///
    /// If the message is no map, or a required field is missing or of another type.
    pub fn read(message: Value) -> Result<Self, WireError> {
        let Value::Map(mut map) = message else {
            return Err(WireError::malformed("a call that is no map"));
        };
        let op = map.need_text("op")?;
        let reply = map.take("reply") != Value::Bool(false);
        let close = map.take("close") == Value::Bool(true);
        let ask = match op.as_str() {
            "get_data" => Ask::GetData { keys: map.need_keys("keys")?, who: map.take_text("who") },
            "update_data" => Ask::UpdateData { data: read_data(map.need_map("data")?)? },
            "gather" => Ask::Gather { who_has: read_who_has(map.need_map("who_has")?)? },
            "free_keys" => Ask::FreeKeys { keys: map.need_keys("keys")? },
            "keys" => Ask::Keys,
            "identity" => Ask::Identity,
            "versions" => Ask::Versions,
            "ping" => Ask::Ping,
            "terminate" => Ask::Terminate { reason: map.take_text("reason").unwrap_or_default() },
            "run" | "run_coroutine" => Ask::Run,
            "plugin-add" | "plugin-remove" | "upload_file" => Ask::Harmless(Harmless::Ok),
            "get_logs" | "get_story" => Ask::Harmless(Harmless::List),
            "call_stack" | "benchmark_disk" | "benchmark_memory" | "benchmark_network"
            | "dump_state" => Ask::Harmless(Harmless::Map),
            "profile" => Ask::Harmless(Harmless::Profile),
            "profile_metadata" => Ask::Harmless(Harmless::ProfileTimes),
            "get_monitor_info" => Ask::Harmless(Harmless::Monitor),
            _ => Ask::Other(op, map),
        };
        Ok(Self { ask, reply, close })
    }
}

/// Returns whether a message confirms that data has arrived.
pub fn is_delivered(message: &Value) -> bool {
    message.as_str() == Some("OK")
}

/// Returns the reply to [`Ask::GetData`] with those results that the worker has.
pub fn data(data: &[(WireKey, Serialized)]) -> Outgoing {
    let data = Pairs(data.iter().map(|(key, value)| (key, value)));
    Packer::message(&[("status", &"OK"), ("data", &data)])
}

/// Returns the reply to [`Ask::GetData`] of a worker that serves too many others.
pub fn busy() -> Outgoing {
    Packer::message(&[("status", &"busy")])
}

/// Returns the reply to [`Ask::UpdateData`], with the sizes of the results in bytes.
pub fn updated(sizes: &[(WireKey, u64)]) -> Outgoing {
    let sizes = Pairs(sizes.iter().map(|(key, size)| (key, *size)));
    Packer::message(&[("status", &"OK"), ("nbytes", &sizes)])
}

/// Returns the reply to [`Ask::Gather`], with the results that couldn't be fetched.
pub fn gathered(missing: &[WireKey]) -> Outgoing {
    match missing {
        [] => Packer::message(&[("status", &"OK")]),
        keys => Packer::message(&[("status", &"partial-fail"), ("keys", &keys)]),
    }
}

/// Returns the reply to [`Ask::Keys`].
pub fn keys(keys: &[WireKey]) -> Outgoing {
    plain(&keys)
}

/// Returns the reply to [`Ask::Ping`].
pub fn pong() -> Outgoing {
    plain(&bytes::Bytes::from_static(b"pong"))
}

/// Returns the reply to [`Ask::Identity`].
pub fn identity(id: &str, address: &str, name: &str, scheduler: &str) -> Outgoing {
    Packer::message(&[
        ("type", &"Worker"),
        ("id", &id),
        ("address", &address),
        ("name", &name),
        ("scheduler", &scheduler),
    ])
}

/// Returns the reply to [`Ask::Run`]. The caller raises an exception with the text.
pub fn not_run(text: &str) -> Outgoing {
    let exception = Serialized::bytes(crate::pickle::runtime_error(text).into());
    Packer::message(&[
        ("status", &"error"),
        ("exception", &exception),
        ("traceback", &()),
        ("exception_text", &text),
        ("traceback_text", &""),
    ])
}

/// Returns the reply to an unknown call.
pub fn unknown() -> Outgoing {
    plain(&())
}

/// Returns the reply to [`Ask::Harmless`].
pub fn harmless(kind: Harmless) -> Outgoing {
    let none: [bool; 0] = [];
    match kind {
        Harmless::Ok => Packer::message(&[("status", &"OK")]),
        Harmless::List => plain(&none),
        Harmless::Map => plain(&EMPTY),
        Harmless::ProfileTimes => Packer::message(&[("counts", &none), ("keys", &none)]),
        Harmless::Profile => Packer::message(&[
            ("count", &0u64),
            ("children", &EMPTY),
            ("identifier", &"root"),
            ("description", &EMPTY),
        ]),
        Harmless::Monitor => {
            Packer::message(&[("range_query", &EMPTY), ("count", &0u64), ("last_time", &0u64)])
        }
    }
}

fn plain(value: &dyn Pack) -> Outgoing {
    let mut packer = Packer::new();
    value.pack(&mut packer);
    packer.finish()
}
