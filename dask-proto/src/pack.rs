//! Writing messages.

use std::sync::Arc;

use bytes::Bytes;
use rmp::buffer::ByteBuf;
use rmp::encode as rmp;

use super::frame::Outgoing;
use super::serialized::{Parts, Pickled, Serialized};
use super::value::{Map, Value};

/// A message that is being written. Objects become frames of their own.
#[derive(Debug, Default)]
pub struct Packer {
    head: ByteBuf,
    frames: Vec<Bytes>,
}

/// What can be written to a message.
pub trait Pack {
    /// Writes it.
    fn pack(&self, packer: &mut Packer);
}

/// Names and what they stand for: the arguments of the method that the message is for.
pub type Fields<'a> = [(&'a str, &'a dyn Pack)];

impl Packer {
    /// A message in which is nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A whole message of one map.
    pub fn message(fields: &Fields<'_>) -> Outgoing {
        let mut packer = Self::new();
        packer.fields(fields);
        packer.finish()
    }

    /// A map of these fields.
    pub fn fields(&mut self, fields: &Fields<'_>) {
        self.map(fields.len());
        for (name, value) in fields {
            self.str(name);
            value.pack(self);
        }
    }

    /// Begins a map: so many keys and values must follow.
    pub fn map(&mut self, len: usize) {
        let Ok(_) = rmp::write_map_len(&mut self.head, short(len));
    }

    /// Begins an array: so many items must follow.
    pub fn array(&mut self, len: usize) {
        let Ok(_) = rmp::write_array_len(&mut self.head, short(len));
    }

    /// Text.
    pub fn str(&mut self, text: &str) {
        short(text.len());
        let Ok(()) = rmp::write_str(&mut self.head, text);
    }

    /// Bytes within the first frame; many of them are better an object.
    pub fn bin(&mut self, bytes: &[u8]) {
        short(bytes.len());
        let Ok(()) = rmp::write_bin(&mut self.head, bytes);
    }

    /// What is msgpack already.
    pub(crate) fn raw(&mut self, msgpack: &[u8]) {
        self.head.as_mut_vec().extend_from_slice(msgpack);
    }

    /// An object in frames of its own, which are shared.
    fn object(&mut self, mark: &str, parts: &Parts) {
        self.map(1);
        self.str(mark);
        (self.frames.len() as u64 + 1).pack(self);
        self.frames.push(parts.raw_header().clone());
        self.frames.extend_from_slice(parts.frames());
    }

    /// How many bytes the message has by now, more or less.
    pub fn len(&self) -> usize {
        self.head.as_slice().len() + self.frames.iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message.
    pub fn finish(self) -> Outgoing {
        Outgoing::new(std::iter::once(self.head.into_vec().into()).chain(self.frames))
    }

    /// The first frame alone.
    pub fn into_msgpack(self) -> Vec<u8> {
        self.head.into_vec()
    }
}

/// msgpack has no longer things than this.
fn short(len: usize) -> u32 {
    len.try_into().expect("msgpack has lengths of 32 bits")
}

/// Operations for a stream, all of which go in one message.
#[derive(Debug)]
pub struct Batch {
    packer: Packer,
    len: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// With nothing in it.
    pub fn new() -> Self {
        let mut packer = Packer::new();
        // The number is filled in when it's known.
        packer.raw(&[0xdd, 0, 0, 0, 0]);
        Self { packer, len: 0 }
    }

    /// One more operation.
    pub fn push(&mut self, fields: &Fields<'_>) {
        self.packer.fields(fields);
        self.len += 1;
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes they take, more or less.
    pub fn bytes(&self) -> usize {
        self.packer.len()
    }

    /// The message.
    pub fn finish(mut self) -> Outgoing {
        self.packer.head.as_mut_vec()[1..5].copy_from_slice(&self.len.to_be_bytes());
        self.packer.finish()
    }
}

impl Pack for Value {
    fn pack(&self, packer: &mut Packer) {
        match self {
            Self::Nil => ().pack(packer),
            Self::Bool(it) => it.pack(packer),
            Self::Int(it) => it.pack(packer),
            Self::Uint(it) => it.pack(packer),
            Self::Float(it) => it.pack(packer),
            Self::Str(it) => packer.str(it),
            Self::Bin(it) => packer.bin(it),
            Self::Array(it) => it.pack(packer),
            Self::Map(it) => it.pack(packer),
            Self::Set(it) => packer.fields(&[("__Set__", &true), ("as-list", it)]),
            Self::Enum(it) => packer.fields(&[
                ("__Enum__", &true),
                ("name", &it.name),
                ("__module__", &it.module),
                ("__name__", &it.class),
            ]),
            Self::Serialized(it) => it.pack(packer),
            Self::Pickled(it) => it.pack(packer),
            Self::Ext(kind, bytes) => {
                let Ok(_) = rmp::write_ext_meta(&mut packer.head, short(bytes.len()), *kind);
                packer.raw(bytes);
            }
        }
    }
}

impl Pack for Map {
    fn pack(&self, packer: &mut Packer) {
        Pairs(self.0.iter().map(|(key, value)| (key, value))).pack(packer);
    }
}

impl Pack for Serialized {
    fn pack(&self, packer: &mut Packer) {
        packer.object("__Serialized__", self);
    }
}

impl Pack for Pickled {
    fn pack(&self, packer: &mut Packer) {
        packer.object("__Pickled__", self);
    }
}

impl Pack for () {
    fn pack(&self, packer: &mut Packer) {
        let Ok(()) = rmp::write_nil(&mut packer.head);
    }
}

impl Pack for bool {
    fn pack(&self, packer: &mut Packer) {
        let Ok(()) = rmp::write_bool(&mut packer.head, *self);
    }
}

impl Pack for i64 {
    fn pack(&self, packer: &mut Packer) {
        let Ok(_) = rmp::write_sint(&mut packer.head, *self);
    }
}

impl Pack for u64 {
    fn pack(&self, packer: &mut Packer) {
        let Ok(_) = rmp::write_uint(&mut packer.head, *self);
    }
}

impl Pack for f64 {
    fn pack(&self, packer: &mut Packer) {
        let Ok(()) = rmp::write_f64(&mut packer.head, *self);
    }
}

impl Pack for str {
    fn pack(&self, packer: &mut Packer) {
        packer.str(self);
    }
}

impl Pack for String {
    fn pack(&self, packer: &mut Packer) {
        packer.str(self);
    }
}

impl Pack for Bytes {
    fn pack(&self, packer: &mut Packer) {
        packer.bin(self);
    }
}

impl<T: Pack + ?Sized> Pack for &T {
    fn pack(&self, packer: &mut Packer) {
        (**self).pack(packer);
    }
}

impl<T: Pack + ?Sized> Pack for Arc<T> {
    fn pack(&self, packer: &mut Packer) {
        (**self).pack(packer);
    }
}

impl<T: Pack> Pack for Option<T> {
    fn pack(&self, packer: &mut Packer) {
        match self {
            Some(it) => it.pack(packer),
            None => ().pack(packer),
        }
    }
}

impl<T: Pack> Pack for [T] {
    fn pack(&self, packer: &mut Packer) {
        packer.array(self.len());
        self.iter().for_each(|item| item.pack(packer));
    }
}

impl<T: Pack> Pack for Vec<T> {
    fn pack(&self, packer: &mut Packer) {
        self.as_slice().pack(packer);
    }
}

impl<T: Pack, const N: usize> Pack for [T; N] {
    fn pack(&self, packer: &mut Packer) {
        self.as_slice().pack(packer);
    }
}

/// A map with what an iterator gives, which must know how much that is.
#[derive(Clone, Debug)]
pub struct Pairs<I>(pub I);

impl<K: Pack, V: Pack, I: ExactSizeIterator<Item = (K, V)> + Clone> Pack for Pairs<I> {
    fn pack(&self, packer: &mut Packer) {
        packer.map(self.0.len());
        for (key, value) in self.0.clone() {
            key.pack(packer);
            value.pack(packer);
        }
    }
}

/// A map with names that are known.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations)] // its values are anything that packs
pub struct Named<'a>(pub &'a Fields<'a>);

impl Pack for Named<'_> {
    fn pack(&self, packer: &mut Packer) {
        packer.fields(self.0);
    }
}
