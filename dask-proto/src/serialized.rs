//! Objects that travel as they are: a header, and frames.
//!
//! Whoever doesn't need what is in one keeps it as it came, and can give it to the next.

use std::ops::{Deref, Range};

use bytes::Bytes;

use super::WireError;
use super::pack::{Pack, Packer};
use super::unpack;
use super::value::{Map, Value};

/// `builtins.bytes`, pickled.
pub const BYTES_CLASS: &[u8] = b"\x80\x04\x8c\x08builtins\x8c\x05bytes\x93.";

/// `builtins.list`, pickled: what a worker of ours says it has if that's a part of what it was asked for.
pub const LIST_CLASS: &[u8] = b"\x80\x04\x8c\x08builtins\x8c\x04list\x93.";

/// An object that is opened by who needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serialized(Parts);

/// An object that every receiver opens, and that we keep closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pickled(Parts);

/// What an object travels as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    header: Bytes,
    frames: Vec<Bytes>,
}

/// What is in an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Python's `bytes` or something like it, in pieces.
    Bytes(Vec<Bytes>),
    /// What msgpack can say.
    Plain(Value),
    /// A pickle, and the buffers that belong to it.
    Pickle(Bytes, Vec<Bytes>),
    /// The sender couldn't write it in the ways we had allowed, and says why.
    Error(String),
    /// A Python object in a form of its own: the name of its type.
    Other(String),
    /// A list, tuple or set.
    Items(Kind, Vec<Content>),
    /// A dict.
    Entries(Vec<(Value, Content)>),
}

/// What Python calls a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    List,
    Tuple,
    Set,
}

impl Serialized {
    pub fn from_wire(header: Bytes, frames: Vec<Bytes>) -> Self {
        Self(Parts { header, frames })
    }

    fn new(fields: &[(&str, &dyn Pack)], frame: Bytes) -> Self {
        let mut packer = Packer::new();
        packer.map(fields.len() + 1);
        for (name, value) in fields {
            packer.str(name);
            value.pack(&mut packer);
        }
        packer.str("num-sub-frames");
        1u64.pack(&mut packer);
        Self::from_wire(packer.into_msgpack().into(), vec![frame])
    }

    /// What Python sees as `bytes`. They aren't copied.
    pub fn bytes(bytes: Bytes) -> Self {
        let class = Bytes::from_static(BYTES_CLASS);
        let header: [(&str, &dyn Pack); 4] = [
            ("serializer", &"dask"),
            ("type", &"bytes"),
            ("type-serialized", &class),
            ("sub-header", &Map::default()),
        ];
        Self::new(&header, bytes)
    }

    /// What Python unpickles.
    pub fn pickle(pickle: Bytes) -> Self {
        let none: [bool; 0] = [];
        Self::new(&[("serializer", &"pickle"), ("writeable", &none)], pickle)
    }

    /// What Python reads as a number, text, tuple or dict.
    pub fn msgpack(msgpack: Bytes) -> Self {
        Self::new(&[("serializer", &"msgpack")], msgpack)
    }

    /// What is in it.
    pub fn content(&self) -> Result<Content, WireError> {
        let header = self.header()?;
        let logical = Logical::new(&header, self.frames())?;
        let all = 0..logical.len();
        content(header, &logical, all)
    }
}

impl Pickled {
    pub fn from_wire(header: Bytes, frames: Vec<Bytes>) -> Self {
        Self(Parts { header, frames })
    }

    /// Of a pickle without buffers.
    pub fn new(pickle: &[u8]) -> Self {
        let mut packer = Packer::new();
        packer
            .fields(&[("pickled-obj", &Bytes::copy_from_slice(pickle)), ("num-sub-frames", &0u64)]);
        Self::from_wire(packer.into_msgpack().into(), Vec::new())
    }

    /// The pickle.
    pub fn pickle(&self) -> Result<Bytes, WireError> {
        match self.header()?.take("pickled-obj") {
            Value::Bin(pickle) => Ok(pickle),
            _ => Err(WireError::malformed("a pickled object without its pickle")),
        }
    }
}

impl Parts {
    /// The header as it came.
    pub fn raw_header(&self) -> &Bytes {
        &self.header
    }

    /// The header, read.
    pub fn header(&self) -> Result<Map, WireError> {
        match unpack::plain_shared(&self.header)? {
            Value::Map(map) => Ok(map),
            _ => Err(WireError::malformed("an object's header that is no map")),
        }
    }

    /// The frames as they came.
    pub fn frames(&self) -> &[Bytes] {
        &self.frames
    }

    /// How many bytes it takes.
    pub fn nbytes(&self) -> u64 {
        (self.header.len() + self.frames.iter().map(Bytes::len).sum::<usize>()) as u64
    }
}

impl Deref for Serialized {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Deref for Pickled {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Frames as the serializer made them, before long ones were cut in parts.
struct Logical<'a> {
    parts: &'a [Bytes],
    /// Which parts each has; empty if none was cut.
    cut: Vec<Range<usize>>,
}

impl<'a> Logical<'a> {
    fn new(header: &Map, parts: &'a [Bytes]) -> Result<Self, WireError> {
        let codecs = header.get("compression").and_then(Value::items).unwrap_or_default();
        if let Some(codec) = codecs.iter().find(|codec| **codec != Value::Nil) {
            return Err(WireError::Compressed(codec.as_str().unwrap_or("something").to_owned()));
        }
        let (Some(counts), Some(offsets)) =
            (header.get("split-num-sub-frames"), header.get("split-offsets"))
        else {
            return Ok(Self { parts, cut: Vec::new() });
        };
        let wrong = || WireError::malformed("parts of frames that aren't there");
        let (counts, offsets) = (numbers(counts)?, numbers(offsets)?);
        let mut cut = Vec::new();
        let mut shown = 0;
        for (count, offset) in counts.into_iter().zip(offsets) {
            let end =
                offset.checked_add(count).filter(|end| *end <= parts.len()).ok_or_else(wrong)?;
            shown += count;
            WireError::check("shown parts", shown as u64, parts.len() as u64)?;
            cut.push(offset..end);
        }
        Ok(Self { parts, cut })
    }

    fn len(&self) -> usize {
        if self.cut.is_empty() { self.parts.len() } else { self.cut.len() }
    }

    /// The parts of a frame.
    fn get(&self, at: usize) -> &'a [Bytes] {
        if self.cut.is_empty() { &self.parts[at..=at] } else { &self.parts[self.cut[at].clone()] }
    }

    /// A frame in one piece, copied only if it was cut.
    fn whole(&self, at: usize) -> Bytes {
        match self.get(at) {
            [one] => one.clone(),
            parts => parts.concat().into(),
        }
    }
}

fn numbers(value: &Value) -> Result<Vec<usize>, WireError> {
    let number = |item: &Value| item.as_int().and_then(|number| usize::try_from(number).ok());
    let items = value.items().unwrap_or_default();
    let numbers: Option<Vec<_>> = items.iter().map(number).collect();
    numbers.ok_or_else(|| WireError::malformed("counts that are no numbers"))
}

fn content(
    mut header: Map,
    logical: &Logical<'_>,
    frames: Range<usize>,
) -> Result<Content, WireError> {
    if header.get("is-collection") == Some(&Value::Bool(true)) {
        return collection(header, logical, frames);
    }
    let whole = |at| logical.whole(at);
    Ok(match header.text("serializer") {
        Some("dask") => match header.take_text("type").unwrap_or_default().as_str() {
            "bytes" | "bytearray" | "memoryview" => {
                let parts = frames.flat_map(|at| logical.get(at).iter().cloned());
                Content::Bytes(parts.filter(|part| !part.is_empty()).collect())
            }
            other => Content::Other(other.to_owned()),
        },
        Some("msgpack") => {
            let joined: Bytes = match frames.len() {
                1 => whole(frames.start),
                _ => frames.map(whole).collect::<Vec<_>>().concat().into(),
            };
            Content::Plain(unpack::plain_shared(&joined)?)
        }
        Some("pickle") if !frames.is_empty() => Content::Pickle(
            whole(frames.start),
            (frames.start + 1..frames.end).map(whole).collect(),
        ),
        Some("error") => {
            let text: Vec<_> = frames.map(whole).collect();
            Content::Error(String::from_utf8_lossy(&text.join(&b'\n')).into_owned())
        }
        other => Content::Other(other.unwrap_or_default().to_owned()),
    })
}

fn collection(
    mut header: Map,
    logical: &Logical<'_>,
    frames: Range<usize>,
) -> Result<Content, WireError> {
    let wrong = || WireError::malformed("a collection whose items aren't there");
    let Value::Array(headers) = header.take("sub-headers") else { return Err(wrong()) };
    let lengths = numbers(&header.take("frame-lengths"))?;
    if headers.len() != lengths.len() {
        return Err(wrong());
    }
    let mut at = frames.start;
    let mut items = Vec::new();
    for (sub_header, length) in headers.into_iter().zip(lengths) {
        let Value::Map(mut sub_header) = sub_header else { return Err(wrong()) };
        let end = at.checked_add(length).filter(|end| *end <= frames.end).ok_or_else(wrong)?;
        let key = sub_header.take("key");
        items.push((key, content(sub_header, logical, at..end)?));
        at = end;
    }
    let kind = match header.text("type-serialized") {
        Some("list") => Kind::List,
        Some("tuple") => Kind::Tuple,
        Some("set") => Kind::Set,
        Some("dict") => return Ok(Content::Entries(items)),
        other => return Ok(Content::Other(other.unwrap_or_default().to_owned())),
    };
    Ok(Content::Items(kind, items.into_iter().map(|(_, item)| item).collect()))
}
