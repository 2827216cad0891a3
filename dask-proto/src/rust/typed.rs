//! Values as they travel: an object whose header tells the type of Rust's it was.
//!
//! Bytes go as Python's `bytes`, without being copied; all else as msgpack, with names where structs have them, so
//! that Python reads numbers, text, tuples and dicts. Two things can't be told from `None` then, as in JSON, and are
//! refused: `Some(None)` and `Some(())`.

use std::any::{Any, TypeId, type_name};
use std::marker::PhantomData;

use bytes::Bytes;
use rmp_serde::{Deserializer, Serializer, decode};
use serde::Serialize;

use super::problem::{Misfit, Problem, ProblemKind, short};
use super::{nothing, python, scan};
use crate::Portable;
use crate::dask::wire::serialized::{Content, Serialized};
use crate::dask::wire::value::Value;

/// How many bytes of msgpack a value may have: lengths in it have 32 bits.
const LONGEST: usize = u32::MAX as usize;

/// How our headers begin and end; the name of the type is between.
const MSGPACK: &[u8] = b"\x83\xaaserializer\xa7msgpack\xa4rust";
const BYTES: &[u8] = b"\x86\xaaserializer\xa4dask\xa4type\xa5bytes\xaasub-header\x80\
    \xaftype-serialized\xc4\x15\x80\x04\x8c\x08builtins\x8c\x05bytes\x93.\xa4rust";
const END: &[u8] = b"\xaenum-sub-frames\x01";

/// The value, ready to travel.
pub fn write<T: Portable>(value: T) -> Result<Serialized, Problem> {
    let mut value = Some(value);
    let bytes = match taken::<T, Bytes>(&mut value) {
        Some(bytes) => Some(bytes),
        None => taken::<T, Vec<u8>>(&mut value).map(Bytes::from),
    };
    if let Some(bytes) = bytes {
        return Ok(object(BYTES, type_name::<T>(), bytes));
    }
    let Some(value) = value else { unreachable!("only bytes are taken") };
    let mut msgpack = Vec::new();
    append(&value, &mut msgpack)?;
    Ok(object(MSGPACK, type_name::<T>(), msgpack.into()))
}

/// A list of values, written one after the other.
#[derive(Debug)]
pub(crate) struct List<T> {
    msgpack: Vec<u8>,
    len: u32,
    items: PhantomData<fn(T)>,
}

/// How a list begins whose length isn't known yet.
const LIST: [u8; 5] = [0xdd, 0, 0, 0, 0];
/// What the name of a list's type ends with, if there was more to come.
const PARTIAL: &str = "..]";

impl<T: Portable> List<T> {
    /// Without values.
    pub(crate) fn new() -> Self {
        Self { msgpack: LIST.to_vec(), len: 0, items: PhantomData }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// One more value. If it can't be written, the list is what it was before.
    pub(crate) fn push(&mut self, value: T) -> Result<(), Problem> {
        let start = self.msgpack.len();
        let written = append_portable(value, &mut self.msgpack);
        match &written {
            Ok(()) => self.len += 1,
            Err(_) => self.msgpack.truncate(start),
        }
        written
    }

    /// All of them; `is_partial` if there should be more.
    pub(crate) fn finish(mut self, is_partial: bool) -> Serialized {
        self.msgpack[1..5].copy_from_slice(&self.len.to_be_bytes());
        let end = if is_partial { PARTIAL } else { "]" };
        object(MSGPACK, &format!("[{}{end}", type_name::<T>()), self.msgpack.into())
    }
}

/// Whether this is a list to which there should be more.
pub(crate) fn is_partial(object: &Serialized) -> bool {
    ours(object).is_some_and(|(rust, ..)| rust.ends_with(PARTIAL))
}

/// Lists of arguments, as those of many calls.
pub(crate) fn list(items: &[&Bytes]) -> Vec<u8> {
    let mut msgpack = Vec::new();
    array(items.len(), &mut msgpack);
    items.iter().for_each(|item| msgpack.extend_from_slice(item));
    msgpack
}

/// A value as msgpack, after what is there.
pub(super) fn append<T: Serialize + ?Sized>(value: &T, to: &mut Vec<u8>) -> Result<(), Problem> {
    let cannot = |why: &dyn std::fmt::Display| {
        let text = format!("a `{}` can't be sent: {why}", short(type_name::<T>()));
        Problem::new(ProblemKind::Unserializable, text)
    };
    let start = to.len();
    value
        .serialize(&mut Serializer::new(&mut *to).with_struct_map())
        .map_err(|why| cannot(&why))?;
    if nothing::is_within_some(value, &to[start..]) {
        return Err(cannot(&"a `Some` in it holds nothing, and would arrive as `None`"));
    }
    if to.len() - start > LONGEST {
        return Err(cannot(
            &"it takes more than 4 GiB; only `Bytes` and `Vec<u8>` may be so large",
        ));
    }
    Ok(())
}

/// The same, with bytes as bytes, where serde would make them a list of numbers.
pub(super) fn append_portable<T: Portable>(value: T, to: &mut Vec<u8>) -> Result<(), Problem> {
    let mut value = Some(value);
    if let Some(bytes) = taken::<T, Vec<u8>>(&mut value) {
        return append(&Bytes::from(bytes), to);
    }
    let Some(value) = value else { unreachable!("only bytes are taken") };
    append(&value, to)
}

/// Begins a list.
pub(super) fn array(len: usize, to: &mut Vec<u8>) {
    let len = u32::try_from(len).unwrap_or_else(|_| unreachable!("no list in memory is so long"));
    written(rmp::encode::write_array_len(to, len));
}

/// Begins a map.
pub(super) fn map(len: usize, to: &mut Vec<u8>) {
    let len = u32::try_from(len).unwrap_or_else(|_| unreachable!("no map in memory is so large"));
    written(rmp::encode::write_map_len(to, len));
}

/// Bytes, as what comes before them tells.
pub(super) fn bin(parts: &[Bytes]) -> Result<Bytes, scan::Broken> {
    let len = parts.iter().map(Bytes::len).sum::<usize>();
    let short = u32::try_from(len).map_err(|_| scan::Broken::Large)?;
    let mut msgpack = Vec::with_capacity(len + 5);
    written(rmp::encode::write_bin_len(&mut msgpack, short));
    parts.iter().for_each(|part| msgpack.extend_from_slice(part));
    Ok(msgpack.into())
}

/// What writing to memory gives.
fn written<T, E>(result: Result<T, E>) {
    if result.is_err() {
        unreachable!("memory takes all that is written to it");
    }
}

/// The value, if it's a `U`.
fn taken<T: 'static, U: 'static>(value: &mut Option<T>) -> Option<U> {
    (value as &mut dyn Any).downcast_mut::<Option<U>>()?.take()
}

fn is<T: 'static, U: 'static>() -> bool {
    TypeId::of::<T>() == TypeId::of::<U>()
}

/// Begins an extension of this kind, with so many bytes.
pub(super) fn ext(kind: i8, len: usize, to: &mut Vec<u8>) {
    let Ok(len) = u32::try_from(len) else { unreachable!("what is in it has fewer bytes") };
    written(rmp::encode::write_ext_meta(to, len, kind));
}

/// Text.
pub(super) fn text(text: &str, to: &mut Vec<u8>) {
    written(rmp::encode::write_str(to, text));
}

/// A value of msgpack that was a `rust`.
pub(super) fn object_of(rust: &str, msgpack: Bytes) -> Serialized {
    object(MSGPACK, rust, msgpack)
}

/// An object of ours.
fn object(begin: &[u8], rust: &str, frame: Bytes) -> Serialized {
    let mut header = Vec::with_capacity(begin.len() + rust.len() + 5 + END.len());
    header.extend_from_slice(begin);
    written(rmp::encode::write_str(&mut header, rust));
    header.extend_from_slice(END);
    Serialized::from_wire(header.into(), vec![frame])
}

/// An object that was looked into.
pub(super) struct Opened {
    /// The type of Rust's that it was.
    pub(super) rust: Option<String>,
    pub(super) body: Body,
}

pub(super) enum Body {
    /// Bytes in pieces.
    Bytes(Vec<Bytes>),
    /// A value of msgpack, which wasn't looked through.
    Msgpack(Bytes),
}

impl Body {
    /// All as msgpack.
    pub(super) fn into_msgpack(self) -> Result<Bytes, scan::Broken> {
        match self {
            Self::Bytes(parts) => bin(&parts),
            Self::Msgpack(msgpack) => Ok(msgpack),
        }
    }
}

/// The type of Rust's and whether it's bytes, if the object was written by the like of us and is as it was.
fn ours(object: &Serialized) -> Option<(&str, bool, &Bytes)> {
    let [frame] = object.frames() else { return None };
    let header = object.raw_header().strip_suffix(END)?;
    let (rust, is_bytes) = match header.strip_prefix(MSGPACK) {
        Some(rust) => (rust, false),
        None => (header.strip_prefix(BYTES)?, true),
    };
    Some((scan::text(rust)?, is_bytes, frame))
}

/// Looks into an object; says what it is where it can't be read.
pub(super) fn open(object: &Serialized) -> Result<Opened, String> {
    if let Some((rust, is_bytes, frame)) = ours(object) {
        let frame = frame.clone();
        let body = if is_bytes { Body::Bytes(vec![frame]) } else { Body::Msgpack(frame) };
        return Ok(Opened { rust: Some(rust.to_owned()), body });
    }
    let header = object.header().map_err(|error| error.to_string())?;
    let rust = header.text("rust").map(str::to_owned);
    let codecs = header.get("compression").and_then(Value::items).unwrap_or_default();
    let is_compressed = codecs.iter().any(|codec| *codec != Value::Nil);
    if let ([frame], Some("msgpack"), false) =
        (object.frames(), header.text("serializer"), is_compressed)
    {
        return Ok(Opened { rust, body: Body::Msgpack(frame.clone()) });
    }
    let body = match object.content().map_err(|error| error.to_string())? {
        Content::Bytes(parts) => Body::Bytes(parts),
        other => Body::Msgpack(python::msgpack(&other)?.into()),
    };
    Ok(Opened { rust, body })
}

/// Whether what was a `rust` can be read as a `T`: it's that, or a list for a vector, or what is in an option,
/// which is written as it is.
pub(super) fn fits<T>(rust: &str) -> bool {
    let wanted = type_name::<T>();
    let is_list = || {
        let item = strip(rust, "[", "]");
        item.is_some() && strip(wanted, "alloc::vec::Vec<", ">") == item
    };
    rust == wanted || is_list() || strip(wanted, "core::option::Option<", ">") == Some(rust)
}

/// What the items of a list are called, if it was one of Rust's.
pub(super) fn item_of(rust: &str) -> Option<&str> {
    strip(rust, "[", PARTIAL)
        .or_else(|| strip(rust, "[", "]"))
        .or_else(|| strip(rust, "alloc::vec::Vec<", ">"))
}

fn strip<'a>(name: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    name.strip_prefix(begin)?.strip_suffix(end)
}

/// The value that travelled.
pub fn read<T: Portable>(object: &Serialized) -> Result<T, Misfit> {
    if let Some((rust, false, frame)) = ours(object) {
        // The most frequent case, without making anything of the header.
        return if fits::<T>(rust) { decode(frame) } else { Err(Misfit::other::<T>(rust)) };
    }
    let Opened { rust, body } = open(object).map_err(Misfit::because::<T>)?;
    if let Some(rust) = rust.filter(|rust| !fits::<T>(rust)) {
        return Err(Misfit::other::<T>(&rust));
    }
    match body {
        Body::Bytes(parts) if is::<T, Bytes>() => Ok(known(one(parts))),
        Body::Bytes(parts) if is::<T, Vec<u8>>() => Ok(known(Vec::from(one(parts)))),
        // serde would take them for text, if by chance they're UTF-8.
        Body::Bytes(_) if is::<T, String>() => Err(Misfit::because::<T>("it's bytes")),
        body => decode(&body.into_msgpack().map_err(Misfit::because::<T>)?),
    }
}

/// Bytes in one piece.
fn one(mut parts: Vec<Bytes>) -> Bytes {
    match parts.len() {
        1 => parts.remove(0),
        _ => parts.concat().into(),
    }
}

/// A value whose type is `T`.
fn known<T: 'static, U: 'static>(value: U) -> T {
    match taken(&mut Some(value)) {
        Some(value) => value,
        None => unreachable!("it's of this type"),
    }
}

/// A value of msgpack.
pub(super) fn decode<T: Portable>(msgpack: &Bytes) -> Result<T, Misfit> {
    let extent = scan::whole(msgpack).map_err(Misfit::because::<T>)?;
    decode_seen(msgpack, extent)
}

/// The same, which was looked through.
pub(super) fn decode_seen<T: Portable>(msgpack: &Bytes, extent: scan::Extent) -> Result<T, Misfit> {
    debug_assert_eq!(extent.len, msgpack.len());
    if is::<T, Bytes>() || is::<T, Vec<u8>>() {
        if let Some(bytes) = scan::bin(msgpack) {
            let bytes = msgpack.slice_ref(bytes);
            return Ok(if is::<T, Bytes>() { known(bytes) } else { known(Vec::from(bytes)) });
        }
    }
    let mut deserializer = Deserializer::from_read_ref(&msgpack[..]);
    T::deserialize(&mut deserializer).map_err(|error| match error {
        decode::Error::TypeMismatch(marker) => {
            Misfit::because::<T>(format_args!("{} is where it doesn't belong", scan::kind(marker)))
        }
        other => Misfit::because::<T>(other),
    })
}
