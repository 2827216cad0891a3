//! The first message in each direction. Both sides write theirs at once, then read the other's.

use crate::WireError;
use crate::frame::Outgoing;
use crate::pack::Packer;
use crate::value::Value;

/// The version of pickles that buffers can be beside.
const PICKLE: u64 = 5;

/// What the other side said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The latest version of pickles that it reads.
    pub pickle: i64,
    /// How it would like to compress; it won't, since we don't.
    pub compression: Option<String>,
}

/// What we say. A scheduler that doesn't like it never answers: bound the wait.
pub fn ours() -> Outgoing {
    Packer::message(&[
        ("compression", &()),
        ("python", &[3u64, 0, 0]),
        ("pickle-protocol", &PICKLE),
    ])
}

/// Reads what the other side says.
pub fn theirs(message: Value) -> Result<Handshake, WireError> {
    let Value::Map(mut map) = message else {
        return Err(WireError::malformed("a handshake that is no map"));
    };
    let pickle = map.need("pickle-protocol")?.as_int();
    let pickle = pickle.ok_or_else(|| WireError::malformed("a handshake without a version"))?;
    Ok(Handshake { pickle, compression: map.take_text("compression") })
}
