//! The reader of messages.

use bytes::{Buf, Bytes};

use crate::WireError;
use crate::msgpack::{self, ScanError, Token};
use crate::object::{Pickled, Serialized};
use crate::value::{Map, Member, Value};

/// The deepest nesting of a message, in levels.
const DEPTH: u32 = 128;
/// The most values in a message. One takes a byte there at least, and 40 as a [`Value`]. A scheduler may send a million
/// tasks in one message, with 60 values each.
const VALUES: u64 = 1 << 27;

/// Reads a message. Objects in its other frames become [`Value::Serialized`] and [`Value::Pickled`] without a copy.
///
/// # Errors
///
/// If the first frame isn't msgpack, refers to frames that don't exist or to one frame twice, or exceeds a limit: 128
/// levels, 2²⁷ values.
pub fn message(frames: &[Bytes]) -> Result<Value, WireError> {
    read_all(frames, |unpacker| unpacker.value(0))
}

/// Reads a message of a stream, which is one operation or a list of them, and converts each with `read`.
///
/// The operations are converted one by one, since a [`Map`] takes more memory than most results of `read`.
///
/// # Errors
///
/// Those of [`message`], an operation that is no map, and the first error of `read`.
pub fn operations<T>(
    frames: &[Bytes],
    mut read: impl FnMut(Map) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let mut operation = |value| match value {
        Value::Map(map) => read(map),
        _ => Err(WireError::malformed("an operation that is no map")),
    };
    read_all(frames, |unpacker| match unpacker.array_len()? {
        Some(len) => unpacker.items(len, |unpacker| unpacker.value(1).and_then(&mut operation)),
        // An operation alone needs no array.
        None => Ok(vec![unpacker.value(0).and_then(operation)?]),
    })
}

/// Reads msgpack without frames, as the first frame of a message.
///
/// # Errors
///
/// Those of [`message`].
pub fn plain(msgpack: &[u8]) -> Result<Value, WireError> {
    plain_shared(&Bytes::copy_from_slice(msgpack))
}

/// Does the same as [`plain`], and shares the bytes in `msgpack` instead of copying them.
///
/// # Errors
///
/// Those of [`message`].
pub fn plain_shared(msgpack: &Bytes) -> Result<Value, WireError> {
    read_all(std::slice::from_ref(msgpack), |unpacker| unpacker.value(0))
}

fn read_all<T>(
    frames: &[Bytes],
    read: impl FnOnce(&mut Unpacker<'_>) -> Result<T, WireError>,
) -> Result<T, WireError> {
    let Some((head, others)) = frames.split_first() else {
        return Err(WireError::malformed("a message without frames"));
    };
    let mut unpacker = Unpacker { left: head.clone(), others, values: 0, shown: 0 };
    let value = read(&mut unpacker)?;
    if unpacker.left.is_empty() { Ok(value) } else { Err(ScanError::TrailingBytes.into()) }
}

struct Unpacker<'a> {
    left: Bytes,
    /// All frames but the first.
    others: &'a [Bytes],
    values: u64,
    /// The number of the other frames that objects have. Without a limit, references to one large frame would multiply
    /// it.
    shown: usize,
}

impl Unpacker<'_> {
    fn value(&mut self, depth: u32) -> Result<Value, WireError> {
        WireError::check("levels", depth.into(), DEPTH.into())?;
        self.values += 1;
        WireError::check("values", self.values, VALUES)?;
        Ok(match self.token()? {
            Token::Nil => Value::Nil,
            Token::Bool(it) => Value::Bool(it),
            Token::Int(it) => Value::Int(it),
            Token::Uint(it) => Value::Uint(it),
            Token::Float(it) => Value::Float(it),
            Token::Str(len) => self.text(len)?,
            Token::Bin(len) => Value::Bin(self.bytes(len)?),
            Token::Array(len) => {
                Value::Array(self.items(len, |unpacker| unpacker.value(depth + 1))?)
            }
            Token::Map(len) => self.map(len, depth)?,
            Token::Ext(kind, len) => Value::Ext(kind, self.bytes(len)?),
        })
    }

    fn token(&mut self) -> Result<Token, WireError> {
        let (token, len) = msgpack::token(&self.left)?;
        self.left.advance(len);
        Ok(token)
    }

    fn bytes(&mut self, len: usize) -> Result<Bytes, WireError> {
        if len > self.left.len() { Err(truncated()) } else { Ok(self.left.split_to(len)) }
    }

    fn text(&mut self, len: usize) -> Result<Value, WireError> {
        let text = self.left.get(..len).ok_or_else(truncated)?;
        let text =
            std::str::from_utf8(text).map_err(|_| WireError::malformed("text not in UTF-8"))?;
        let text = text.to_owned();
        self.left.advance(len);
        Ok(Value::Str(text))
    }

    /// Takes the length of an array, if an array is next.
    fn array_len(&mut self) -> Result<Option<usize>, WireError> {
        let (Token::Array(count), len) = msgpack::token(&self.left)? else { return Ok(None) };
        self.left.advance(len);
        self.values += 1;
        Ok(Some(count))
    }

    fn map(&mut self, len: usize, depth: u32) -> Result<Value, WireError> {
        let entries = self
            .items(len, |unpacker| Ok((unpacker.value(depth + 1)?, unpacker.value(depth + 1)?)))?;
        self.meaning(Map(entries))
    }

    fn items<T>(
        &mut self,
        len: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        // An item takes a byte at least. Memory is reserved as items are read: a few bytes that nest forged lengths
        // would otherwise reserve a lot.
        if len > self.left.len() {
            return Err(truncated());
        }
        let mut items = Vec::with_capacity(len.min(16));
        for _ in 0..len {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// Converts a map with one of Dask's marks; others remain maps.
    fn meaning(&mut self, mut map: Map) -> Result<Value, WireError> {
        let Some(mark) = map.named().map(|(name, _)| name).find(|name| name.starts_with("__"))
        else {
            return Ok(Value::Map(map));
        };
        match mark {
            "__Serialized__" | "__Pickled__" => {
                let is_pickled = mark == "__Pickled__";
                let at = map.get(mark).and_then(Value::as_int);
                let (header, frames) = self.object(at)?;
                if is_pickled {
                    return Ok(Value::Pickled(Box::new(Pickled::from_wire(header, frames))));
                }
                Ok(Value::Serialized(Box::new(Serialized::from_wire(header, frames))))
            }
            "__Set__" => match map.take("as-list") {
                Value::Array(items) => Ok(Value::Set(items)),
                _ => Err(WireError::malformed("a set without items")),
            },
            "__Enum__" | "__module__" | "__name__" if map.get("__Enum__").is_some() => {
                Ok(Value::Enum(Box::new(Member {
                    name: map.need_text("name")?,
                    module: map.need_text("__module__")?,
                    class: map.need_text("__name__")?,
                })))
            }
            _ => Ok(Value::Map(map)),
        }
    }

    /// Returns the header and the frames of the object whose header is the frame `at`.
    fn object(&mut self, at: Option<i64>) -> Result<(Bytes, Vec<Bytes>), WireError> {
        let nowhere = || WireError::malformed("an object in a frame that doesn't exist");
        let at = at.and_then(|at| usize::try_from(at).ok()).ok_or_else(nowhere)?;
        let rest = at.checked_sub(1).and_then(|at| self.others.get(at..)).ok_or_else(nowhere)?;
        let (header, rest) = rest.split_first().ok_or_else(nowhere)?;
        let Value::Map(fields) = plain_shared(header)? else {
            return Err(WireError::malformed("an object's header that is no map"));
        };
        let count = fields.get("num-sub-frames").and_then(Value::as_int);
        let count = count.and_then(|count| usize::try_from(count).ok()).ok_or_else(nowhere)?;
        let frames = rest.get(..count).ok_or_else(nowhere)?;
        self.shown += 1 + count;
        WireError::check("shown frames", self.shown as u64, self.others.len() as u64)?;
        Ok((header.clone(), frames.to_vec()))
    }
}

fn truncated() -> WireError {
    ScanError::Truncated.into()
}
