//! What a task is called on the wire.

use std::fmt;
use std::sync::Arc;

use super::WireError;
use super::pack::{Pack, Packer};
use super::unpack;
use super::value::Value;

/// What a task is called on the wire: text where it's ours, else also a number, bytes, or a tuple of these.
///
/// It's kept as msgpack, so it goes back as it came.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireKey(Arc<[u8]>);

impl WireKey {
    /// The text it is, if it's that.
    pub fn as_str(&self) -> Option<&str> {
        let (&marker, rest) = self.0.split_first()?;
        // The length was written by us and is right.
        let text = match marker {
            0xa0..=0xbf => rest,
            0xd9 => rest.get(1..)?,
            0xda => rest.get(2..)?,
            0xdb => rest.get(4..)?,
            _ => return None,
        };
        std::str::from_utf8(text).ok()
    }

    /// As msgpack.
    pub fn as_msgpack(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for WireKey {
    fn from(text: &str) -> Self {
        let mut packer = Packer::new();
        packer.str(text);
        Self(packer.into_msgpack().into())
    }
}

impl TryFrom<&Value> for WireKey {
    type Error = WireError;

    fn try_from(value: &Value) -> Result<Self, WireError> {
        if !is_key(value) {
            return Err(WireError::malformed(
                "a key that is neither text, number, bytes nor tuple",
            ));
        }
        let mut packer = Packer::new();
        value.pack(&mut packer);
        Ok(Self(packer.into_msgpack().into()))
    }
}

fn is_key(value: &Value) -> bool {
    match value {
        Value::Str(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Float(_)
        | Value::Bin(_)
        | Value::Bool(_)
        | Value::Nil => true,
        Value::Array(items) => items.iter().all(is_key),
        _ => false,
    }
}

impl Pack for WireKey {
    fn pack(&self, packer: &mut Packer) {
        packer.raw(&self.0);
    }
}

impl fmt::Display for WireKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            Some(text) => f.pad(text),
            None => match unpack::plain(&self.0) {
                Ok(value) => show(&value, f),
                Err(_) => f.write_str("?"),
            },
        }
    }
}

fn show(value: &Value, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match value {
        Value::Int(number) => write!(f, "{number}"),
        Value::Uint(number) => write!(f, "{number}"),
        Value::Float(number) => write!(f, "{number:?}"),
        Value::Str(text) => write!(f, "'{text}'"),
        Value::Bin(bytes) => write!(f, "b'{}'", bytes.escape_ascii()),
        Value::Array(items) => {
            f.write_str("(")?;
            for (at, item) in items.iter().enumerate() {
                f.write_str(if at == 0 { "" } else { ", " })?;
                show(item, f)?;
            }
            f.write_str(")")
        }
        Value::Bool(true) => f.write_str("True"),
        Value::Bool(false) => f.write_str("False"),
        _ => f.write_str("None"),
    }
}

impl fmt::Debug for WireKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_in_keys_of_all_lengths() {
        for len in [0, 1, 31, 32, 255, 256, 65535, 65536] {
            let text = "k".repeat(len);
            let key = WireKey::from(&*text);
            assert_eq!(key.as_str(), Some(&*text));
            assert_eq!(Value::Str(text).key(), Ok(key));
        }
    }

    #[test]
    fn keys_read_as_in_python() {
        let tuple = Value::Array(vec!["x".into(), 3.into(), Value::Float(0.5), Value::Nil]);
        assert_eq!(tuple.key().unwrap().to_string(), "('x', 3, 0.5, None)");
        assert_eq!(format!("{:?}", WireKey::from("inc-1")), "`inc-1`");
        assert_eq!(Value::Bin("é".as_bytes().to_vec().into()).key().unwrap().as_str(), None);
        assert!(Value::Set(vec![]).key().is_err());
    }
}
