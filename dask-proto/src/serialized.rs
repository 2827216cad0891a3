//! Objects that travel in frames of their own: their constructors, and their content.
//!
//! A scheduler passes objects on without looking into them. A [`Serialized`] keeps its header and frames as they were
//! received, and [`content`](Serialized::content) reads them where they're needed.

use std::ops::Range;

use bytes::Bytes;

pub use crate::object::{Frames, Pickled, Serialized};
use crate::pack::{Pack, Packer};
use crate::value::{Map, Value};
use crate::{WireError, unpack};

/// `builtins.bytes`, pickled: the type of a result that is bytes.
pub const BYTES_CLASS: &[u8] = b"\x80\x04\x8c\x08builtins\x8c\x05bytes\x93.";

/// `builtins.list`, pickled: the type that a Rust worker reports for a [partial](crate::rust::is_partial) result.
pub const LIST_CLASS: &[u8] = b"\x80\x04\x8c\x08builtins\x8c\x04list\x93.";

/// The content of an object, by the serializer that wrote it.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// `bytes`, a `bytearray` or a `memoryview`, in one or more pieces.
    Bytes(Vec<Bytes>),
    /// A value in msgpack.
    Plain(Value),
    /// A pickle, and its out-of-band buffers.
    Pickle(Bytes, Vec<Bytes>),
    /// The sender had no serializer for it that the receiver had asked for; the text is the reason.
    Error(String),
    /// An object of a serializer that this crate doesn't know; the text is the name of its type, or of the serializer.
    Other(String),
    /// The items of a list, tuple or set.
    Items(Collection, Vec<Content>),
    /// The entries of a dict.
    Entries(Vec<(Value, Content)>),
}

/// The type of a Python collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collection {
    /// A `list`.
    List,
    /// A `tuple`.
    Tuple,
    /// A `set`.
    Set,
}

impl Serialized {
    fn new(fields: &[(&str, &dyn Pack)], frame: Bytes) -> Self {
        let mut packer = Packer::new();
        packer.fields(&[fields, &[("num-sub-frames", &1u64)]].concat());
        Self::from_wire(packer.into_msgpack().into(), vec![frame])
    }

    /// Returns an object that is `bytes` in Python. They aren't copied.
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

    /// Returns an object that Python unpickles.
    pub fn pickle(pickle: Bytes) -> Self {
        let none: [bool; 0] = [];
        Self::new(&[("serializer", &"pickle"), ("writeable", &none)], pickle)
    }

    /// Returns an object of one msgpack value, which Python reads as a number, text, tuple or dict.
    pub fn msgpack(msgpack: Bytes) -> Self {
        Self::new(&[("serializer", &"msgpack")], msgpack)
    }

    /// Reads the object.
    ///
    /// # Errors
    ///
    /// [`Compressed`](WireError::Compressed), and [`Malformed`](WireError::Malformed) if header and frames don't belong
    /// together.
    pub fn content(&self) -> Result<Content, WireError> {
        let header = self.header()?;
        let logical = Logical::new(&header, self.frames())?;
        let all = 0..logical.len();
        content(header, &logical, all)
    }
}

impl Pickled {
    /// Returns an object of a pickle without out-of-band buffers.
    pub fn new(pickle: &[u8]) -> Self {
        let mut packer = Packer::new();
        packer
            .fields(&[("pickled-obj", &Bytes::copy_from_slice(pickle)), ("num-sub-frames", &0u64)]);
        Self::from_wire(packer.into_msgpack().into(), Vec::new())
    }

    /// Returns the pickle.
    ///
    /// # Errors
    ///
    /// If the header isn't one of a pickled object.
    pub fn pickle(&self) -> Result<Bytes, WireError> {
        match self.header()?.take("pickled-obj") {
            Value::Bin(pickle) => Ok(pickle),
            _ => Err(WireError::malformed("a pickled object without its pickle")),
        }
    }
}

impl Frames {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// If it isn't a map in msgpack.
    pub fn header(&self) -> Result<Map, WireError> {
        match unpack::plain_shared(self.raw_header())? {
            Value::Map(map) => Ok(map),
            _ => Err(WireError::malformed("an object's header that is no map")),
        }
    }
}

/// The frames as the serializer made them. Dask splits long ones before it sends them.
struct Logical<'a> {
    parts: &'a [Bytes],
    /// The parts of each frame; empty if no frame was split.
    split: Vec<Range<usize>>,
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
            return Ok(Self { parts, split: Vec::new() });
        };
        let wrong = || WireError::malformed("parts of frames that don't exist");
        let (counts, offsets) = (numbers(counts)?, numbers(offsets)?);
        let mut split = Vec::new();
        let mut shown = 0;
        for (count, offset) in counts.into_iter().zip(offsets) {
            let end =
                offset.checked_add(count).filter(|end| *end <= parts.len()).ok_or_else(wrong)?;
            shown += count;
            WireError::check("shown parts", shown as u64, parts.len() as u64)?;
            split.push(offset..end);
        }
        Ok(Self { parts, split })
    }

    fn len(&self) -> usize {
        if self.split.is_empty() { self.parts.len() } else { self.split.len() }
    }

    /// Returns the parts of a frame.
    fn get(&self, at: usize) -> &'a [Bytes] {
        if self.split.is_empty() {
            &self.parts[at..=at]
        } else {
            &self.parts[self.split[at].clone()]
        }
    }

    /// Returns a frame in one piece, copied only if it was split.
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
    numbers.ok_or_else(|| WireError::malformed("counts that aren't numbers"))
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
    let wrong = || WireError::malformed("a collection with fewer items than it lists");
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
        Some("list") => Collection::List,
        Some("tuple") => Collection::Tuple,
        Some("set") => Collection::Set,
        Some("dict") => return Ok(Content::Entries(items)),
        other => return Ok(Content::Other(other.unwrap_or_default().to_owned())),
    };
    Ok(Content::Items(kind, items.into_iter().map(|(_, item)| item).collect()))
}
