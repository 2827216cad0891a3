//! Rust values as objects whose header has the name of the Rust type.
//!
//! Bytes are Python's `bytes`, without a copy; all other values are msgpack, with the field names of structs, so that
//! Python reads numbers, text, tuples and dicts. As in JSON, `Some(None)` and `Some(())` would be read as `None`;
//! they're refused.

use std::any::{Any, TypeId, type_name};
use std::marker::PhantomData;

use bytes::Bytes;
use rmp_serde::{Deserializer, Serializer, decode as rmp_decode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{DecodeError, EncodeError, ambiguity, python};
use crate::msgpack::{self, Extent, ScanError};
use crate::serialized::{Content, Serialized};
use crate::value::Value;

/// The most bytes that a value in msgpack may have: lengths in it have 32 bits.
const LONGEST: usize = u32::MAX as usize;

/// The header of an encoded value up to the type's name, and after it. Headers are compared as bytes, which is much
/// cheaper than reading them.
const MSGPACK: &[u8] = b"\x83\xaaserializer\xa7msgpack\xa4rust";
const BYTES: &[u8] = b"\x86\xaaserializer\xa4dask\xa4type\xa5bytes\xaasub-header\x80\
    \xaftype-serialized\xc4\x15\x80\x04\x8c\x08builtins\x8c\x05bytes\x93.\xa4rust";
const END: &[u8] = b"\xaenum-sub-frames\x01";

/// Encodes a value as an object.
///
/// `Bytes` and `Vec<u8>` aren't copied. Structs become maps of their fields.
///
/// # Errors
///
/// If the value's `Serialize` fails, if it contains `Some(None)` or `Some(())`, or if it's neither `Bytes` nor
/// `Vec<u8>` and takes more than 4 GiB.
///
/// ```
/// use ensue_dask_proto::rust::{decode, encode};
///
/// let object = encode((7_u64, "seven".to_owned())).unwrap();
/// assert_eq!(decode::<(u64, String)>(&object).unwrap().0, 7);
/// assert_eq!(decode::<u64>(&object).unwrap_err().to_string(), "a `(u64, String)`, not a `u64`");
/// ```
pub fn encode<T: Serialize + 'static>(value: T) -> Result<Serialized, EncodeError> {
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

/// Encodes a list value by value: the result of a batch of calls.
#[derive(Debug)]
pub struct ListWriter<T> {
    msgpack: Vec<u8>,
    len: u32,
    items: PhantomData<fn(T)>,
}

/// The start of a list, before its length is filled in.
const LIST: [u8; 5] = [0xdd, 0, 0, 0, 0];
/// The end of the type's name of a partial list.
const PARTIAL: &str = "..]";

impl<T> Default for ListWriter<T> {
    fn default() -> Self {
        Self { msgpack: LIST.to_vec(), len: 0, items: PhantomData }
    }
}

impl<T: Serialize + 'static> ListWriter<T> {
    /// Returns a list without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of values.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Returns whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a value.
    ///
    /// # Errors
    ///
    /// Those of [`encode`]. The list remains as it was.
    pub fn push(&mut self, value: T) -> Result<(), EncodeError> {
        let start = self.msgpack.len();
        let written = append_owned(value, &mut self.msgpack);
        match &written {
            Ok(()) => self.len += 1,
            Err(_) => self.msgpack.truncate(start),
        }
        written
    }

    /// Returns the list; `is_partial` if it has fewer values than were asked for.
    pub fn finish(mut self, is_partial: bool) -> Serialized {
        self.msgpack[1..5].copy_from_slice(&self.len.to_be_bytes());
        let end = if is_partial { PARTIAL } else { "]" };
        object(MSGPACK, &format!("[{}{end}", type_name::<T>()), self.msgpack.into())
    }
}

/// Returns whether an object is a list that has fewer values than were asked for; see [`ListWriter::finish`].
pub fn is_partial(object: &Serialized) -> bool {
    ours(object).is_some_and(|(rust, ..)| rust.ends_with(PARTIAL))
}

/// Appends a value in msgpack.
///
/// # Errors
///
/// If the value's `Serialize` fails, if it contains `Some(None)` or `Some(())`, or if it takes more than 4 GiB. Then
/// `to` has a part of the value.
pub fn append<T: Serialize + ?Sized>(value: &T, to: &mut Vec<u8>) -> Result<(), EncodeError> {
    let cannot = |why: &dyn std::fmt::Display| EncodeError::new::<T>(why);
    let start = to.len();
    value
        .serialize(&mut Serializer::new(&mut *to).with_struct_map())
        .map_err(|why| cannot(&why))?;
    if ambiguity::has_empty_some(value, &to[start..]) {
        return Err(cannot(&"a `Some` in it holds nothing, and would arrive as `None`"));
    }
    if to.len() - start > LONGEST {
        return Err(cannot(
            &"it takes more than 4 GiB; only `Bytes` and `Vec<u8>` may be so large",
        ));
    }
    Ok(())
}

/// Appends a value in msgpack, a `Vec<u8>` as bytes. To serde it's a list of numbers.
///
/// # Errors
///
/// Those of [`append`].
pub fn append_owned<T: Serialize + 'static>(value: T, to: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut value = Some(value);
    if let Some(bytes) = taken::<T, Vec<u8>>(&mut value) {
        return append(&Bytes::from(bytes), to);
    }
    let Some(value) = value else { unreachable!("only bytes are taken") };
    append(&value, to)
}

/// Joins bytes to one msgpack value.
fn bin(parts: &[Bytes]) -> Result<Bytes, ScanError> {
    let len = parts.iter().map(Bytes::len).sum::<usize>();
    if u32::try_from(len).is_err() {
        return Err(ScanError::TooLong);
    }
    let mut msgpack = Vec::with_capacity(len + 5);
    msgpack::write_bin_len(len, &mut msgpack);
    parts.iter().for_each(|part| msgpack.extend_from_slice(part));
    Ok(msgpack.into())
}

/// Takes the value if it's a `U`.
fn taken<T: 'static, U: 'static>(value: &mut Option<T>) -> Option<U> {
    (value as &mut dyn Any).downcast_mut::<Option<U>>()?.take()
}

fn is<T: 'static, U: 'static>() -> bool {
    TypeId::of::<T>() == TypeId::of::<U>()
}

/// Returns the object of a msgpack value that was a value of the Rust type `rust`.
pub(super) fn object_of(rust: &str, msgpack: Bytes) -> Serialized {
    object(MSGPACK, rust, msgpack)
}

/// Returns an object whose header begins with `begin` and names the Rust type `rust`.
fn object(begin: &[u8], rust: &str, frame: Bytes) -> Serialized {
    let mut header = Vec::with_capacity(begin.len() + rust.len() + 5 + END.len());
    header.extend_from_slice(begin);
    msgpack::write_str(rust, &mut header);
    header.extend_from_slice(END);
    Serialized::from_wire(header.into(), vec![frame])
}

/// An object whose header is read.
pub(super) struct Opened {
    /// The Rust type, if the header names one.
    pub(super) rust: Option<String>,
    pub(super) body: Body,
}

pub(super) enum Body {
    /// Bytes in one or more pieces.
    Bytes(Vec<Bytes>),
    /// A msgpack value, not scanned yet.
    Msgpack(Bytes),
}

impl Body {
    /// Returns the body in msgpack.
    pub(super) fn into_msgpack(self) -> Result<Bytes, ScanError> {
        match self {
            Self::Bytes(parts) => bin(&parts),
            Self::Msgpack(msgpack) => Ok(msgpack),
        }
    }
}

/// Returns the Rust type, whether the frame is bytes, and the frame, if the object is as [`encode`] writes it.
fn ours(object: &Serialized) -> Option<(&str, bool, &Bytes)> {
    let [frame] = object.frames() else { return None };
    let header = object.raw_header().strip_suffix(END)?;
    let (rust, is_bytes) = match header.strip_prefix(MSGPACK) {
        Some(rust) => (rust, false),
        None => (header.strip_prefix(BYTES)?, true),
    };
    Some((msgpack::text(rust)?, is_bytes, frame))
}

/// Reads the header of an object, and converts a Python value to msgpack.
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

/// Returns whether a value of the Rust type `rust` can be read as a `T`: it's the same type, a list for a vector, or
/// the content of an option, which is encoded like the option.
pub(super) fn fits<T>(rust: &str) -> bool {
    let wanted = type_name::<T>();
    let is_list = || {
        let item = strip(rust, "[", "]");
        item.is_some() && strip(wanted, "alloc::vec::Vec<", ">") == item
    };
    rust == wanted || is_list() || strip(wanted, "core::option::Option<", ">") == Some(rust)
}

/// Returns the type of the items of a Rust list or vector.
pub(super) fn item_of(rust: &str) -> Option<&str> {
    strip(rust, "[", PARTIAL)
        .or_else(|| strip(rust, "[", "]"))
        .or_else(|| strip(rust, "alloc::vec::Vec<", ">"))
}

fn strip<'a>(name: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    name.strip_prefix(begin)?.strip_suffix(end)
}

/// Decodes an object that [`encode`] has written, or a plain value that a Python worker has.
///
/// The Rust type that the header names must be `T`; types are compared by their names. Plain values of Python are
/// numbers, text, bytes, `None`, and lists, tuples, sets and dicts of these. A pickle of them is read without running
/// it.
///
/// # Errors
///
/// If the object is of another type, of a type of Python's that isn't plain, or malformed.
pub fn decode<T: DeserializeOwned + 'static>(object: &Serialized) -> Result<T, DecodeError> {
    if let Some((rust, false, frame)) = ours(object) {
        // The most frequent case, without an allocation for the header.
        return match fits::<T>(rust) {
            true => decode_msgpack(frame),
            false => Err(DecodeError::other::<T>(rust)),
        };
    }
    let Opened { rust, body } = open(object).map_err(DecodeError::because::<T>)?;
    if let Some(rust) = rust.filter(|rust| !fits::<T>(rust)) {
        return Err(DecodeError::other::<T>(&rust));
    }
    match body {
        Body::Bytes(parts) if is::<T, Bytes>() => Ok(known(one(parts))),
        Body::Bytes(parts) if is::<T, Vec<u8>>() => Ok(known(Vec::from(one(parts)))),
        // serde would read them as text if they happen to be UTF-8.
        Body::Bytes(_) if is::<T, String>() => Err(DecodeError::because::<T>("it's bytes")),
        body => decode_msgpack(&body.into_msgpack().map_err(DecodeError::because::<T>)?),
    }
}

/// Joins bytes.
fn one(mut parts: Vec<Bytes>) -> Bytes {
    match parts.len() {
        1 => parts.remove(0),
        _ => parts.concat().into(),
    }
}

/// Returns a value whose type `U` is `T`.
fn known<T: 'static, U: 'static>(value: U) -> T {
    match taken(&mut Some(value)) {
        Some(value) => value,
        None => unreachable!("it's of this type"),
    }
}

/// Decodes a msgpack value.
fn decode_msgpack<T: DeserializeOwned + 'static>(msgpack: &Bytes) -> Result<T, DecodeError> {
    let extent = msgpack::scan_all(msgpack).map_err(DecodeError::because::<T>)?;
    decode_scanned(msgpack, extent)
}

/// Decodes a msgpack value of this extent.
pub(super) fn decode_scanned<T: DeserializeOwned + 'static>(
    msgpack: &Bytes,
    extent: Extent,
) -> Result<T, DecodeError> {
    debug_assert_eq!(extent.len, msgpack.len());
    if is::<T, Bytes>() || is::<T, Vec<u8>>() {
        if let Some(bytes) = msgpack::bin(msgpack) {
            let bytes = msgpack.slice_ref(bytes);
            return Ok(if is::<T, Bytes>() { known(bytes) } else { known(Vec::from(bytes)) });
        }
    }
    let mut deserializer = Deserializer::from_read_ref(&msgpack[..]);
    T::deserialize(&mut deserializer).map_err(|error| match error {
        rmp_decode::Error::TypeMismatch(marker) => {
            let noun = msgpack::noun(marker.to_u8());
            DecodeError::because::<T>(format_args!("{noun} is where it doesn't belong"))
        }
        other => DecodeError::because::<T>(other),
    })
}
