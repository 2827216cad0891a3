//! Lists that are read item by item.

use bytes::Bytes;

use super::problem::Misfit;
use super::scan::{self, Broken, Extent};
use super::value::{self, Opened};
use crate::Portable;
use crate::dask::wire::serialized::Serialized;

/// A list, and where its items are.
#[derive(Debug)]
pub(crate) struct Items {
    list: Bytes,
    /// The type of Rust's that the items were.
    rust: Option<String>,
    /// Where each begins, with its depth, and where the last ends.
    begins: Vec<Extent>,
}

impl Items {
    /// Looks through a list that travelled.
    pub(crate) fn open(object: &Serialized) -> Result<Self, Misfit> {
        let cannot = Misfit::because::<Vec<()>>;
        let Opened { rust, body } = value::open(object).map_err(cannot)?;
        let list = body.into_msgpack().map_err(|broken| cannot(broken.to_string()))?;
        Self::of(list, rust.as_deref()).map_err(|broken| cannot(broken.to_string()))
    }

    /// Looks through a list, which was a `rust`.
    pub(super) fn of(list: Bytes, rust: Option<&str>) -> Result<Self, Broken> {
        let (count, mut at) = scan::list(&list)?;
        let mut begins = Vec::with_capacity(count + 1);
        for _ in 0..count {
            let item = scan::value(&list[at..], |_| ())?;
            begins.push(Extent { len: at, depth: item.depth });
            at += item.len;
        }
        begins.push(Extent { len: at, depth: 0 });
        let rust = rust.and_then(value::item_of).map(str::to_owned);
        Ok(Self { list, rust, begins })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.begins.len() - 1
    }

    /// The one with this number, as msgpack.
    pub(super) fn part(&self, at: usize) -> Result<(Bytes, Extent), String> {
        match self.begins.get(at..).unwrap_or_default() {
            [this, next, ..] => {
                let extent = Extent { len: next.len - this.len, depth: this.depth };
                Ok((self.list.slice(this.len..next.len), extent))
            }
            _ => Err(format!("it has {} items, none with the number {at}", self.len())),
        }
    }

    /// The one with this number.
    pub(crate) fn get<T: Portable>(&self, at: usize) -> Result<T, Misfit> {
        let (msgpack, extent) = self.part(at).map_err(Misfit::because::<T>)?;
        self.read(&msgpack, extent)
    }

    /// The one with this number, as an object of its own.
    pub(super) fn object(&self, at: usize) -> Result<Serialized, String> {
        let (msgpack, _) = self.part(at)?;
        Ok(match &self.rust {
            Some(rust) => value::object_of(rust, msgpack),
            None => Serialized::msgpack(msgpack),
        })
    }

    /// One of them.
    pub(super) fn read<T: Portable>(&self, part: &Bytes, extent: Extent) -> Result<T, Misfit> {
        match self.rust.as_deref().filter(|rust| !value::fits::<T>(rust)) {
            Some(rust) => Err(Misfit::other::<T>(rust)),
            None => value::decode_seen(part, extent),
        }
    }
}
