//! The handshake: the first message in each direction. Both sides send theirs at once, then read the other's.

use crate::WireError;
use crate::frame::Outgoing;
use crate::pack::Packer;
use crate::value::Value;

/// The pickle protocol, the first with out-of-band buffers.
const PICKLE: u64 = 5;

/// The handshake of the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The highest pickle protocol that it reads.
    pub pickle: i64,
    /// The compression that it offers. It isn't used, because [`ours`] offers none.
    pub compression: Option<String>,
}

/// Returns the handshake to send.
///
/// A scheduler that refuses it doesn't answer, so the wait for its handshake needs a timeout.
pub fn ours() -> Outgoing {
    Packer::message(&[
        ("compression", &()),
        ("python", &[3u64, 0, 0]),
        ("pickle-protocol", &PICKLE),
    ])
}

/// Reads the handshake of the other side.
///
/// # Errors
///
/// If the message isn't a handshake.
pub fn theirs(message: Value) -> Result<Handshake, WireError> {
    let Value::Map(mut map) = message else {
        return Err(WireError::malformed("a handshake that is no map"));
    };
    let pickle = map.need("pickle-protocol")?.as_int();
    let pickle = pickle.ok_or_else(|| WireError::malformed("a handshake without a version"))?;
    Ok(Handshake { pickle, compression: map.take_text("compression") })
}
