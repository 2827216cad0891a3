//! Placeholders in arguments for the results of other tasks.

use std::{error, fmt};

use crate::msgpack::{self, Extension};

/// The extension type for a whole result. Its data is the number of the input, in four bytes, big-endian.
const INPUT: i8 = 1;
/// The extension type for an item of a result that is a list. Its data is the number of the input and that of the item,
/// and then optionally an [`ItemCall`](super::ItemCall).
const ITEM: i8 = 2;
/// The length of the two numbers of an item in bytes.
pub(super) const NUMBERS: usize = 8;

/// A placeholder in the arguments of a call: the result of another task, one of the call's inputs.
///
/// It's a msgpack extension type of the kind 1 or 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// The result of the input with this number, from 0.
    Input(u32),
    /// An item of the list that is an input's result: the number of the input, and that of the item, from 0.
    Item(u32, u32),
}

impl Placeholder {
    /// Returns the placeholder that an extension is, `None` if it's of another kind, or the error in it.
    pub fn of(ext: &Extension<'_>) -> Option<Result<Self, MalformedPlaceholder>> {
        match (Self::read(ext.kind, ext.data), ext.kind) {
            (Some(placeholder), _) => Some(Ok(placeholder)),
            (None, INPUT | ITEM) => Some(Err(MalformedPlaceholder)),
            (None, _) => None,
        }
    }

    /// Returns the placeholder that an extension of this kind and with this data is.
    pub fn read(kind: i8, data: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_be_bytes(*data.get(at..)?.first_chunk()?));
        match (kind, data.len()) {
            (INPUT, 4) => number(0).map(Self::Input),
            (ITEM, NUMBERS..) => {
                number(0).zip(number(4)).map(|(input, item)| Self::Item(input, item))
            }
            _ => None,
        }
    }

    /// The length of an [`Input`](Self::Input) that [`write`](Self::write) has written, in bytes.
    pub const INPUT_LEN: usize = 6;

    /// Returns the [`Input`](Self::Input) at an offset.
    pub fn input_at(msgpack: &[u8], at: usize) -> Option<Self> {
        let placeholder = msgpack.get(at..at + Self::INPUT_LEN)?;
        Self::read(INPUT, placeholder.strip_prefix(&[0xd6, INPUT as u8])?)
    }

    /// Appends the placeholder in msgpack.
    pub fn write(self, to: &mut Vec<u8>) {
        match self {
            Self::Input(input) => {
                to.extend_from_slice(&[0xd6, INPUT as u8]);
                to.extend_from_slice(&input.to_be_bytes());
            }
            Self::Item(input, item) => Self::write_item(input, item, &[], to),
        }
    }

    /// Appends an [`Item`](Self::Item) with more data after its numbers.
    pub(super) fn write_item(input: u32, item: u32, more: &[u8], to: &mut Vec<u8>) {
        msgpack::write_ext_len(ITEM, NUMBERS + more.len(), to);
        to.extend_from_slice(&input.to_be_bytes());
        to.extend_from_slice(&item.to_be_bytes());
        to.extend_from_slice(more);
    }
}

/// A placeholder whose data is too short or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedPlaceholder;

impl fmt::Display for MalformedPlaceholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a placeholder for an input whose data has the wrong length")
    }
}

impl error::Error for MalformedPlaceholder {}

#[cfg(test)]
mod tests {
    use super::*;

    fn placeholders(bytes: &[u8]) -> Vec<Option<Result<Placeholder, MalformedPlaceholder>>> {
        let mut seen = Vec::new();
        msgpack::scan(bytes, |ext| seen.push(Placeholder::of(&ext))).unwrap();
        seen
    }

    #[test]
    fn placeholders_are_read_as_they_were_written() {
        for placeholder in
            [Placeholder::Input(0), Placeholder::Input(u32::MAX), Placeholder::Item(3, 70_000)]
        {
            let mut bytes = vec![0x91];
            placeholder.write(&mut bytes);
            assert_eq!(placeholders(&bytes), [Some(Ok(placeholder))]);
        }
    }

    #[test]
    fn other_extensions_are_none() {
        assert_eq!(placeholders(&[0xd6, 3, 0, 0, 0, 0]), [None]);
        assert_eq!(placeholders(&[0xd6, 0xff, 0, 0, 0, 0]), [None]);
        assert_eq!(placeholders(&[0xd4, 1, 0]), [Some(Err(MalformedPlaceholder))]);
        assert_eq!(placeholders(&[0xd6, 2, 0, 0, 0, 0]), [Some(Err(MalformedPlaceholder))]);
        assert_eq!(
            placeholders(&[0xc7, 7, 2, 0, 0, 0, 0, 0, 0, 0]),
            [Some(Err(MalformedPlaceholder))]
        );
    }
}
