//! The conversion of plain Python values to msgpack, which is then decoded as that of Rust values.
//!
//! Plain values are numbers, text, bytes, `None`, and lists, tuples, sets and dicts of these, with whichever of its
//! serializers a Python worker has written them.

use bytes::Bytes;

use crate::msgpack::MAX_DEPTH;
use crate::pack::{Pack, Packer};
use crate::pickle::{self, Node, NodeId, Objects};
use crate::serialized::Content;
use crate::value::{Map, Value};

/// The largest ratio of a value's size to that of its pickle. An object that occurs several times is pickled once, and
/// one that contains itself would never end.
const GROWTH: usize = 64;
/// The size in bytes that a value may have whatever the size of its pickle.
const ROOM: usize = 1 << 20;

/// Converts the content of an object.
pub(super) fn msgpack(content: &Content) -> Result<Vec<u8>, String> {
    let mut packer = Packer::new();
    write(content, &mut packer)?;
    Ok(packer.into_msgpack())
}

fn write(content: &Content, to: &mut Packer) -> Result<(), String> {
    match content {
        Content::Bytes(parts) => match &parts[..] {
            [part] => bin(part, to),
            parts => bin(&parts.concat(), to),
        },
        Content::Plain(value) => plain(value, to),
        Content::Pickle(_, buffers) if !buffers.is_empty() => {
            Err("it's a Python object with buffers beside its pickle".to_owned())
        }
        Content::Pickle(pickle, _) => pickled(pickle, to),
        Content::Error(text) => Err(format!("it couldn't be sent: {text}")),
        Content::Other(name) => Err(format!("it's a Python object of the type `{name}`")),
        Content::Items(_, items) => {
            to.array(items.len());
            items.iter().try_for_each(|item| write(item, to))
        }
        Content::Entries(entries) => {
            to.map(entries.len());
            entries.iter().try_for_each(|(key, value)| {
                plain(key, to)?;
                write(value, to)
            })
        }
    }
}

fn bin(bytes: &[u8], to: &mut Packer) -> Result<(), String> {
    if u32::try_from(bytes.len()).is_err() {
        return Err("it contains more than 4 GiB of bytes".to_owned());
    }
    to.bin(bytes);
    Ok(())
}

/// Writes a value of a message.
fn plain(value: &Value, to: &mut Packer) -> Result<(), String> {
    match value {
        Value::Array(items) | Value::Set(items) => {
            to.array(items.len());
            items.iter().try_for_each(|item| plain(item, to))
        }
        Value::Map(Map(entries)) => {
            to.map(entries.len());
            entries.iter().try_for_each(|(key, value)| {
                plain(key, to)?;
                plain(value, to)
            })
        }
        Value::Enum(member) => {
            to.str(&member.name);
            Ok(())
        }
        Value::Serialized(object) => {
            let content = object.content().map_err(|error| error.to_string())?;
            write(&content, to)
        }
        Value::Pickled(object) => {
            let pickle = object.pickle().map_err(|error| error.to_string())?;
            pickled(&pickle, to)
        }
        leaf => {
            leaf.pack(to);
            Ok(())
        }
    }
}

fn pickled(pickle: &Bytes, to: &mut Packer) -> Result<(), String> {
    let objects = pickle::read(pickle).map_err(|error| error.to_string())?;
    let most = to.len().saturating_add(pickle.len().saturating_mul(GROWTH)).saturating_add(ROOM);
    node(&objects, objects.root(), 0, most, to)
}

/// Writes an object of a pickle, up to a size of `most` bytes.
fn node(
    objects: &Objects,
    id: NodeId,
    depth: usize,
    most: usize,
    to: &mut Packer,
) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("it's nested more than {MAX_DEPTH} levels deep"));
    }
    if to.len() > most {
        return Err("it's much larger than its pickle".to_owned());
    }
    match objects.get(id) {
        Node::None => ().pack(to),
        Node::Bool(it) => it.pack(to),
        Node::Int(it) => match (i64::try_from(*it), u64::try_from(*it)) {
            (Ok(it), _) => it.pack(to),
            (_, Ok(it)) => it.pack(to),
            // As rmp-serde encodes an `i128`.
            _ => to.bin(&it.to_be_bytes()),
        },
        Node::LongInt(len) => return Err(format!("it has a whole number of {len} bytes")),
        Node::Float(it) => it.pack(to),
        Node::Str(it) => {
            room(it.len(), most, to)?;
            to.str(it);
        }
        Node::Bytes(it) => {
            room(it.len(), most, to)?;
            bin(it, to)?;
        }
        Node::List(items) | Node::Tuple(items) | Node::Set(items) => {
            to.array(items.len());
            return items.iter().try_for_each(|item| node(objects, *item, depth + 1, most, to));
        }
        Node::Dict(entries) => {
            to.map(entries.len());
            return entries.iter().try_for_each(|(key, value)| {
                node(objects, *key, depth + 1, most, to)?;
                node(objects, *value, depth + 1, most, to)
            });
        }
        Node::Class { module, name } => {
            return Err(format!("it's the Python class or function `{module}.{name}`"));
        }
        Node::Call { of, .. } => return Err(made_by(objects, *of)),
        Node::External => return Err("it's a Python object that isn't in its pickle".to_owned()),
    }
    Ok(())
}

/// Fails if `len` more bytes would exceed `most`.
fn room(len: usize, most: usize, to: &Packer) -> Result<(), String> {
    if to.len() + len > most || u32::try_from(len).is_err() {
        return Err("it's much larger than its pickle".to_owned());
    }
    Ok(())
}

fn made_by(objects: &Objects, of: NodeId) -> String {
    match objects.get(of) {
        Node::Class { module, name } => format!("it's a Python object made by `{module}.{name}`"),
        _ => "it's a Python object of a class of its own".to_owned(),
    }
}
