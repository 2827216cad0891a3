//! Reading messages.

use bytes::{Buf, Bytes};
use rmp::Marker;

use super::WireError;
use super::serialized::{Pickled, Serialized};
use super::value::{Map, Member, Value};

/// How deep a message may be nested.
const DEPTH: u32 = 128;
/// How many values a message may have. One takes a byte there, and forty here. A million tasks for one worker may
/// come in one message, and have 60 each.
const VALUES: u64 = 1 << 27;

/// Reads a message. What it shows in other frames goes with it.
pub fn message(frames: &[Bytes]) -> Result<Value, WireError> {
    read_all(frames, |unpacker| unpacker.value(0))
}

/// Reads a stream's message: what `read` makes of each operation in it, one by one, since as values they're large.
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
        // One alone needs no array.
        None => Ok(vec![unpacker.value(0).and_then(operation)?]),
    })
}

/// Reads msgpack that stands alone.
pub fn plain(msgpack: &[u8]) -> Result<Value, WireError> {
    plain_shared(&Bytes::copy_from_slice(msgpack))
}

/// The same, and bytes in it aren't copied.
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
    if !unpacker.left.is_empty() {
        return Err(WireError::malformed("msgpack goes on after its end"));
    }
    Ok(value)
}

struct Unpacker<'a> {
    left: Bytes,
    /// All frames but the first.
    others: &'a [Bytes],
    values: u64,
    /// How many of the others have been given away. A frame that's shown often would make much of little.
    shown: usize,
}

impl Unpacker<'_> {
    fn value(&mut self, depth: u32) -> Result<Value, WireError> {
        WireError::check("levels", depth.into(), DEPTH.into())?;
        self.values += 1;
        WireError::check("values", self.values, VALUES)?;
        Ok(match Marker::from_u8(self.number::<1>()?[0]) {
            Marker::Null => Value::Nil,
            Marker::False => Value::Bool(false),
            Marker::True => Value::Bool(true),
            Marker::FixPos(it) => Value::Int(it.into()),
            Marker::FixNeg(it) => Value::Int(it.into()),
            Marker::U8 => Value::Int(u8::from_be_bytes(self.number()?).into()),
            Marker::U16 => Value::Int(u16::from_be_bytes(self.number()?).into()),
            Marker::U32 => Value::Int(u32::from_be_bytes(self.number()?).into()),
            Marker::U64 => {
                let it = u64::from_be_bytes(self.number()?);
                i64::try_from(it).map_or(Value::Uint(it), Value::Int)
            }
            Marker::I8 => Value::Int(i8::from_be_bytes(self.number()?).into()),
            Marker::I16 => Value::Int(i16::from_be_bytes(self.number()?).into()),
            Marker::I32 => Value::Int(i32::from_be_bytes(self.number()?).into()),
            Marker::I64 => Value::Int(i64::from_be_bytes(self.number()?)),
            Marker::F32 => Value::Float(f32::from_be_bytes(self.number()?).into()),
            Marker::F64 => Value::Float(f64::from_be_bytes(self.number()?)),
            Marker::FixStr(len) => self.text(len.into())?,
            Marker::Str8 => self.sized::<1>().and_then(|len| self.text(len))?,
            Marker::Str16 => self.sized::<2>().and_then(|len| self.text(len))?,
            Marker::Str32 => self.sized::<4>().and_then(|len| self.text(len))?,
            Marker::Bin8 => self.sized::<1>().and_then(|len| self.bytes(len)).map(Value::Bin)?,
            Marker::Bin16 => self.sized::<2>().and_then(|len| self.bytes(len)).map(Value::Bin)?,
            Marker::Bin32 => self.sized::<4>().and_then(|len| self.bytes(len)).map(Value::Bin)?,
            Marker::FixArray(len) => self.array(len.into(), depth)?,
            Marker::Array16 => self.sized::<2>().and_then(|len| self.array(len, depth))?,
            Marker::Array32 => self.sized::<4>().and_then(|len| self.array(len, depth))?,
            Marker::FixMap(len) => self.map(len.into(), depth)?,
            Marker::Map16 => self.sized::<2>().and_then(|len| self.map(len, depth))?,
            Marker::Map32 => self.sized::<4>().and_then(|len| self.map(len, depth))?,
            Marker::FixExt1 => self.extension(1)?,
            Marker::FixExt2 => self.extension(2)?,
            Marker::FixExt4 => self.extension(4)?,
            Marker::FixExt8 => self.extension(8)?,
            Marker::FixExt16 => self.extension(16)?,
            Marker::Ext8 => self.sized::<1>().and_then(|len| self.extension(len))?,
            Marker::Ext16 => self.sized::<2>().and_then(|len| self.extension(len))?,
            Marker::Ext32 => self.sized::<4>().and_then(|len| self.extension(len))?,
            Marker::Reserved => return Err(WireError::malformed("a byte msgpack doesn't have")),
        })
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let number = *self.left.first_chunk().ok_or_else(ended)?;
        self.left.advance(N);
        Ok(number)
    }

    /// A length of so many bytes.
    fn sized<const N: usize>(&mut self) -> Result<usize, WireError> {
        let number = self.number::<N>()?;
        Ok(number.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)))
    }

    fn bytes(&mut self, len: usize) -> Result<Bytes, WireError> {
        if len > self.left.len() { Err(ended()) } else { Ok(self.left.split_to(len)) }
    }

    fn text(&mut self, len: usize) -> Result<Value, WireError> {
        let text = self.left.get(..len).ok_or_else(ended)?;
        let text =
            std::str::from_utf8(text).map_err(|_| WireError::malformed("text not in UTF-8"))?;
        let text = text.to_owned();
        self.left.advance(len);
        Ok(Value::Str(text))
    }

    /// How many items follow, if it's an array that comes.
    fn array_len(&mut self) -> Result<Option<usize>, WireError> {
        let Some(&first) = self.left.first() else { return Err(ended()) };
        let marker = Marker::from_u8(first);
        if !matches!(marker, Marker::FixArray(_) | Marker::Array16 | Marker::Array32) {
            return Ok(None);
        }
        self.left.advance(1);
        self.values += 1;
        Ok(Some(match marker {
            Marker::FixArray(len) => len.into(),
            Marker::Array16 => self.sized::<2>()?,
            _ => self.sized::<4>()?,
        }))
    }

    fn array(&mut self, len: usize, depth: u32) -> Result<Value, WireError> {
        Ok(Value::Array(self.items(len, |unpacker| unpacker.value(depth + 1))?))
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
        // An item takes a byte at least. Memory comes with the items: a few bytes nested deeply would else
        // ask for a lot.
        if len > self.left.len() {
            return Err(ended());
        }
        let mut items = Vec::with_capacity(len.min(16));
        for _ in 0..len {
            items.push(read(self)?);
        }
        Ok(items)
    }

    fn extension(&mut self, len: usize) -> Result<Value, WireError> {
        let kind = i8::from_be_bytes(self.number()?);
        Ok(Value::Ext(kind, self.bytes(len)?))
    }

    /// What a map stands for, mostly itself.
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

    /// The header and the frames of the object that begins at a frame.
    fn object(&mut self, at: Option<i64>) -> Result<(Bytes, Vec<Bytes>), WireError> {
        let nowhere = || WireError::malformed("an object in a frame that isn't there");
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

fn ended() -> WireError {
    WireError::malformed("msgpack ends too early")
}
