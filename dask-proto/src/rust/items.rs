//! The reader of a list's items one by one.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::DecodeError;
use super::typed::{self, Opened};
use crate::msgpack::{self, Extent, ScanError};
use crate::serialized::Serialized;

/// An object that is a list, whose items are decoded one by one.
#[derive(Debug)]
pub struct Items {
    list: Bytes,
    /// The Rust type of the items, if a Rust worker has written the list.
    rust: Option<String>,
    /// The offset and the depth of each item, and the offset after the last.
    begins: Vec<Extent>,
}

impl Items {
    /// Finds the items of a list.
    ///
    /// # Errors
    ///
    /// If the object isn't a list, or can't be read.
    pub fn open(object: &Serialized) -> Result<Self, DecodeError> {
        let cannot = DecodeError::because::<Vec<()>>;
        let Opened { rust, body } = typed::open(object).map_err(cannot)?;
        let list = body.into_msgpack().map_err(|error| cannot(error.to_string()))?;
        Self::of(list, rust.as_deref()).map_err(|error| cannot(error.to_string()))
    }

    /// Finds the items of a list in msgpack that was a value of the Rust type `rust`.
    pub(super) fn of(list: Bytes, rust: Option<&str>) -> Result<Self, ScanError> {
        let (count, mut at) = msgpack::array(&list)?;
        let mut begins = Vec::with_capacity(count + 1);
        for _ in 0..count {
            let item = msgpack::scan(&list[at..], |_| ())?;
            begins.push(Extent { len: at, depth: item.depth });
            at += item.len;
        }
        begins.push(Extent { len: at, depth: 0 });
        let rust = rust.and_then(typed::item_of).map(str::to_owned);
        Ok(Self { list, rust, begins })
    }

    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.begins.len() - 1
    }

    /// Returns whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns an item in msgpack.
    pub(super) fn part(&self, at: usize) -> Result<(Bytes, Extent), String> {
        match self.begins.get(at..).unwrap_or_default() {
            [this, next, ..] => {
                let extent = Extent { len: next.len - this.len, depth: this.depth };
                Ok((self.list.slice(this.len..next.len), extent))
            }
            _ => Err(format!("it has {} items, none with the number {at}", self.len())),
        }
    }

    /// Decodes an item.
    ///
    /// # Errors
    ///
    /// If there is no such item, or it's of another type.
    pub fn get<T: DeserializeOwned + 'static>(&self, at: usize) -> Result<T, DecodeError> {
        let (msgpack, extent) = self.part(at).map_err(DecodeError::because::<T>)?;
        self.read(&msgpack, extent)
    }

    /// Returns an item as an object of its own.
    pub(super) fn object(&self, at: usize) -> Result<Serialized, String> {
        let (msgpack, _) = self.part(at)?;
        Ok(match &self.rust {
            Some(rust) => typed::object_of(rust, msgpack),
            None => Serialized::msgpack(msgpack),
        })
    }

    /// Decodes the item in `part`.
    pub(super) fn read<T: DeserializeOwned + 'static>(
        &self,
        part: &Bytes,
        extent: Extent,
    ) -> Result<T, DecodeError> {
        match self.rust.as_deref().filter(|rust| !typed::fits::<T>(rust)) {
            Some(rust) => Err(DecodeError::other::<T>(rust)),
            None => typed::decode_scanned(part, extent),
        }
    }
}
