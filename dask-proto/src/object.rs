//! Objects in frames of their own, as they are received and passed on.

use std::ops::Deref;

use bytes::Bytes;

use crate::pack::{Pack, Packer};

/// An object that only its consumer deserializes; schedulers pass it on as it is.
///
/// Dask calls this `Serialized` and `Serialize`. A clone shares the frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serialized(Frames);

/// An object that every receiver in Python unpickles. This crate never does; it passes the pickle on.
///
/// Dask calls this `ToPickle`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pickled(Frames);

/// The header and the frames of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frames {
    header: Bytes,
    frames: Vec<Bytes>,
}

impl Serialized {
    /// Returns the object with this header, in msgpack, and these frames. They aren't checked.
    pub fn from_wire(header: Bytes, frames: Vec<Bytes>) -> Self {
        Self(Frames { header, frames })
    }
}

impl Pickled {
    /// Returns the object with this header, in msgpack, and these frames. They aren't checked.
    pub fn from_wire(header: Bytes, frames: Vec<Bytes>) -> Self {
        Self(Frames { header, frames })
    }
}

impl Frames {
    /// Returns the header in msgpack, as it was received.
    pub fn raw_header(&self) -> &Bytes {
        &self.header
    }

    /// Returns the frames, as they were received.
    pub fn frames(&self) -> &[Bytes] {
        &self.frames
    }

    /// Returns the size of header and frames in bytes.
    pub fn nbytes(&self) -> u64 {
        (self.header.len() + self.frames.iter().map(Bytes::len).sum::<usize>()) as u64
    }
}

impl Deref for Serialized {
    type Target = Frames;

    fn deref(&self) -> &Frames {
        &self.0
    }
}

impl Deref for Pickled {
    type Target = Frames;

    fn deref(&self) -> &Frames {
        &self.0
    }
}

impl Pack for Serialized {
    fn pack(&self, packer: &mut Packer) {
        packer.object("__Serialized__", self.raw_header(), self.frames());
    }
}

impl Pack for Pickled {
    fn pack(&self, packer: &mut Packer) {
        packer.object("__Pickled__", self.raw_header(), self.frames());
    }
}
