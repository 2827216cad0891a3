//! What others ask of a worker, and the answers.

use crate::call::{EMPTY, WhoHas, read_data, read_who_has};
use crate::frame::Outgoing;
use crate::pack::{Pack, Packer, Pairs};
use crate::serialized::Serialized;
use crate::value::{Map, Value};
use crate::{WireError, WireKey};

/// A call.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What is asked.
    pub ask: Ask,
    /// Whether an answer is waited for.
    pub reply: bool,
    /// Whether the connection ends with the answer.
    pub close: bool,
}

/// What is asked of a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// For results. After the answer comes [`is_delivered`], and before that nothing is.
    GetData {
        keys: Vec<WireKey>,
        who: Option<String>,
    },
    /// To hold these results.
    UpdateData {
        data: Vec<(WireKey, Value)>,
    },
    /// To get these results from others.
    Gather {
        who_has: WhoHas,
    },
    /// To drop these.
    FreeKeys {
        keys: Vec<WireKey>,
    },
    /// What it has.
    Keys,
    Identity,
    Versions,
    Ping,
    /// To leave.
    Terminate {
        reason: String,
    },
    /// To run a Python function, which it can't.
    Run,
    /// Something that only a worker in Python has, and whoever asks can do without: the answer that does no
    /// harm.
    Harmless(Harmless),
    /// Nothing we know; the answer is [`unknown`].
    Other(String, Map),
}

/// How to answer what we don't have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harmless {
    /// That it's done.
    Ok,
    /// With an empty list.
    List,
    /// With an empty map.
    Map,
    /// That no time was spent.
    Profile,
    /// That no time was spent, ever.
    ProfileTimes,
    /// That nothing was measured.
    Monitor,
}

impl Request {
    /// Reads a call.
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

/// Whether this is what comes after data has arrived.
pub fn is_delivered(message: &Value) -> bool {
    message.as_str() == Some("OK")
}

/// The answer to [`Ask::GetData`]: what there is of it.
pub fn data(data: &[(WireKey, Serialized)]) -> Outgoing {
    let data = Pairs(data.iter().map(|(key, value)| (key, value)));
    Packer::message(&[("status", &"OK"), ("data", &data)])
}

/// The answer to [`Ask::GetData`] where too much is under way.
pub fn busy() -> Outgoing {
    Packer::message(&[("status", &"busy")])
}

/// The answer to [`Ask::UpdateData`].
pub fn updated(sizes: &[(WireKey, u64)]) -> Outgoing {
    let sizes = Pairs(sizes.iter().map(|(key, size)| (key, *size)));
    Packer::message(&[("status", &"OK"), ("nbytes", &sizes)])
}

/// The answer to [`Ask::Gather`]: what couldn't be got.
pub fn gathered(missing: &[WireKey]) -> Outgoing {
    match missing {
        [] => Packer::message(&[("status", &"OK")]),
        keys => Packer::message(&[("status", &"partial-fail"), ("keys", &keys)]),
    }
}

/// The answer to [`Ask::Keys`].
pub fn keys(keys: &[WireKey]) -> Outgoing {
    plain(&keys)
}

/// The answer to [`Ask::Ping`].
pub fn pong() -> Outgoing {
    plain(&bytes::Bytes::from_static(b"pong"))
}

/// The answer to [`Ask::Identity`].
pub fn identity(id: &str, address: &str, name: &str, scheduler: &str) -> Outgoing {
    Packer::message(&[
        ("type", &"Worker"),
        ("id", &id),
        ("address", &address),
        ("name", &name),
        ("scheduler", &scheduler),
    ])
}

/// The answer to [`Ask::Run`]; the caller sees an exception with the text.
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

/// The answer to what isn't known.
pub fn unknown() -> Outgoing {
    plain(&())
}

/// The answer to [`Ask::Harmless`].
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
