//! The keys of tasks.

use std::fmt;
use std::sync::Arc;

use crate::msgpack::{self, Token};
use crate::pack::{Pack, Packer};

/// The key of a task: in Python text, a number, bytes, or a tuple of these.
///
/// It's kept in msgpack, so that it's sent back as it was received. A clone shares the bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireKey(Arc<[u8]>);

impl WireKey {
    /// Makes a key of msgpack that is known to be one.
    pub(crate) fn from_msgpack(msgpack: Vec<u8>) -> Self {
        Self(msgpack.into())
    }

    /// Returns the key if it's text.
    pub fn as_str(&self) -> Option<&str> {
        msgpack::text(&self.0)
    }

    /// Returns the key in msgpack.
    pub fn as_msgpack(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for WireKey {
    fn from(text: &str) -> Self {
        let mut msgpack = Vec::new();
        msgpack::write_str(text, &mut msgpack);
        Self::from_msgpack(msgpack)
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
            None => show(&mut &self.0[..], f),
        }
    }
}

/// Writes the value at the start of `left` as Python's `repr` does, and removes it there.
fn show(left: &mut &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (token, len) = msgpack::token(left).unwrap_or((Token::Nil, left.len()));
    *left = &left[len..];
    let mut take = |len: usize| {
        let (taken, rest) = left.split_at(len.min(left.len()));
        *left = rest;
        taken
    };
    match token {
        Token::Int(number) => write!(f, "{number}"),
        Token::Uint(number) => write!(f, "{number}"),
        Token::Float(number) => write!(f, "{number:?}"),
        Token::Str(len) => write!(f, "'{}'", String::from_utf8_lossy(take(len))),
        Token::Bin(len) => write!(f, "b'{}'", take(len).escape_ascii()),
        Token::Array(len) => {
            f.write_str("(")?;
            for at in 0..len {
                f.write_str(if at == 0 { "" } else { ", " })?;
                show(left, f)?;
            }
            f.write_str(")")
        }
        Token::Bool(true) => f.write_str("True"),
        Token::Bool(false) => f.write_str("False"),
        // No other type is a key.
        Token::Nil | Token::Map(_) | Token::Ext(..) => f.write_str("None"),
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
    use crate::value::Value;

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
