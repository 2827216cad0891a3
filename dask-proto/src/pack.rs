//! The writer of messages, and the trait of what it writes.

use std::sync::Arc;

use bytes::Bytes;

use crate::frame::Outgoing;
use crate::msgpack;

/// Writes one message.
///
/// Values go to the first frame as msgpack. Objects get frames of their own, which aren't copied.
#[derive(Debug, Default)]
pub struct Packer {
    head: Vec<u8>,
    frames: Vec<Bytes>,
}

/// A type that can be written to a message.
pub trait Pack {
    /// Writes the value to `packer`.
    fn pack(&self, packer: &mut Packer);
}

/// The fields of a message: the keyword arguments of the method that handles it.
pub type Fields<'a> = [(&'a str, &'a dyn Pack)];

impl Packer {
    /// Returns a writer of an empty message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a whole message: a map of `fields`.
    pub fn message(fields: &Fields<'_>) -> Outgoing {
        let mut packer = Self::new();
        packer.fields(fields);
        packer.finish()
    }

    /// Writes a map of `fields`.
    pub fn fields(&mut self, fields: &Fields<'_>) {
        self.map(fields.len());
        for (name, value) in fields {
            self.str(name);
            value.pack(self);
        }
    }

    /// Begins a map of `len` pairs of key and value, which must follow.
    pub fn map(&mut self, len: usize) {
        msgpack::write_map_len(len, &mut self.head);
    }

    /// Begins an array of `len` items, which must follow.
    pub fn array(&mut self, len: usize) {
        msgpack::write_array_len(len, &mut self.head);
    }

    /// Writes text.
    pub fn str(&mut self, text: &str) {
        msgpack::write_str(text, &mut self.head);
    }

    /// Writes bytes into the first frame. They're copied: for many bytes, write a
    /// [`Serialized`](crate::serialized::Serialized).
    pub fn bin(&mut self, bytes: &[u8]) {
        msgpack::write_bin(bytes, &mut self.head);
    }

    /// Writes one or more values that are msgpack already, unchecked.
    pub fn raw(&mut self, msgpack: &[u8]) {
        self.head.extend_from_slice(msgpack);
    }

    /// Writes an extension type.
    pub fn ext(&mut self, kind: i8, data: &[u8]) {
        msgpack::write_ext_len(kind, data.len(), &mut self.head);
        self.raw(data);
    }

    /// Writes an object: its mark in the first frame, its header and frames, which are shared, behind that.
    pub(crate) fn object(&mut self, mark: &str, header: &Bytes, frames: &[Bytes]) {
        self.map(1);
        self.str(mark);
        (self.frames.len() as u64 + 1).pack(self);
        self.frames.push(header.clone());
        self.frames.extend_from_slice(frames);
    }

    /// Returns the size of the message so far in bytes, without the lengths of its frames.
    pub fn len(&self) -> usize {
        self.head.len() + self.frames.iter().map(Bytes::len).sum::<usize>()
    }

    /// Returns whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the message.
    pub fn finish(self) -> Outgoing {
        Outgoing::new(std::iter::once(self.head.into()).chain(self.frames))
    }

    /// Returns the first frame, without the objects.
    pub fn into_msgpack(self) -> Vec<u8> {
        self.head
    }
}

/// Operations for a stream, which are sent as one message.
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
    /// Returns a batch without operations.
    pub fn new() -> Self {
        let mut packer = Packer::new();
        // An array whose length `finish` fills in.
        packer.raw(&[0xdd, 0, 0, 0, 0]);
        Self { packer, len: 0 }
    }

    /// Adds an operation.
    pub fn push(&mut self, fields: &Fields<'_>) {
        self.packer.fields(fields);
        self.len += 1;
    }

    /// Returns the number of operations.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Returns whether there are no operations.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the size of the operations in bytes, without the lengths of frames.
    pub fn bytes(&self) -> usize {
        self.packer.len()
    }

    /// Returns the message.
    pub fn finish(mut self) -> Outgoing {
        self.packer.head[1..5].copy_from_slice(&self.len.to_be_bytes());
        self.packer.finish()
    }
}

impl Pack for () {
    fn pack(&self, packer: &mut Packer) {
        msgpack::write_nil(&mut packer.head);
    }
}

impl Pack for bool {
    fn pack(&self, packer: &mut Packer) {
        msgpack::write_bool(*self, &mut packer.head);
    }
}

impl Pack for i64 {
    fn pack(&self, packer: &mut Packer) {
        msgpack::write_int(*self, &mut packer.head);
    }
}

impl Pack for u64 {
    fn pack(&self, packer: &mut Packer) {
        msgpack::write_uint(*self, &mut packer.head);
    }
}

impl Pack for f64 {
    fn pack(&self, packer: &mut Packer) {
        msgpack::write_f64(*self, &mut packer.head);
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

/// A map of the pairs that an iterator yields.
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

/// A map of fields, as a value within a message.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations)] // a `dyn Pack` has none
pub struct FieldMap<'a>(pub &'a Fields<'a>);

impl Pack for FieldMap<'_> {
    fn pack(&self, packer: &mut Packer) {
        packer.fields(self.0);
    }
}
