//! Places in a task's arguments, which the results of its inputs take: extensions of msgpack.

use super::scan::Ext;
use super::value;

/// The kind of the extension for a whole result: the input's number, with four bytes, the highest first.
const WHOLE: i8 = 1;
/// The kind for an item of a result that is a list: the input's number and the item's. What follows is a
/// [`spare`](super::spare).
const ITEM: i8 = 2;
/// How long the numbers of an item are.
pub(super) const NUMBERS: usize = 8;

/// What takes the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The result of the input with this number.
    Whole(u32),
    /// Of the list that is the result of the first, the item with the second number.
    Item(u32, u32),
}

impl Place {
    /// The place that an extension is. Others are none; one that isn't right is an error.
    pub(super) fn of(ext: &Ext<'_>) -> Option<Result<Self, BadPlace>> {
        match (Self::read(ext.kind, ext.data), ext.kind) {
            (Some(place), _) => Some(Ok(place)),
            (None, WHOLE | ITEM) => Some(Err(BadPlace)),
            (None, _) => None,
        }
    }

    /// The place that an extension of this kind and with this data is.
    pub(crate) fn read(kind: i8, data: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_be_bytes(*data.get(at..)?.first_chunk()?));
        match (kind, data.len()) {
            (WHOLE, 4) => number(0).map(Self::Whole),
            (ITEM, NUMBERS..) => {
                number(0).zip(number(4)).map(|(input, item)| Self::Item(input, item))
            }
            _ => None,
        }
    }

    /// How long the place of a whole result is.
    pub(super) const LEN: usize = 6;

    /// The place of a whole result that was written here.
    pub(super) fn at(msgpack: &[u8], at: usize) -> Option<Self> {
        let place = msgpack.get(at..at + Self::LEN)?;
        Self::read(WHOLE, place.strip_prefix(&[0xd6, WHOLE as u8])?)
    }

    /// Writes it.
    pub(crate) fn write(self, to: &mut Vec<u8>) {
        match self {
            Self::Whole(input) => {
                to.extend_from_slice(&[0xd6, WHOLE as u8]);
                to.extend_from_slice(&input.to_be_bytes());
            }
            Self::Item(input, item) => Self::write_item(input, item, &[], to),
        }
    }

    /// Writes that of an item, with what is to follow its numbers.
    pub(super) fn write_item(input: u32, item: u32, more: &[u8], to: &mut Vec<u8>) {
        value::ext(ITEM, NUMBERS + more.len(), to);
        to.extend_from_slice(&input.to_be_bytes());
        to.extend_from_slice(&item.to_be_bytes());
        to.extend_from_slice(more);
    }
}

/// A place whose numbers haven't the length they must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadPlace;

#[cfg(test)]
mod tests {
    use super::super::scan;
    use super::*;

    fn places(bytes: &[u8]) -> Vec<Option<Result<Place, BadPlace>>> {
        let mut seen = Vec::new();
        scan::value(bytes, |ext| seen.push(Place::of(&ext))).unwrap();
        seen
    }

    #[test]
    fn places_are_read_as_they_were_written() {
        for place in [Place::Whole(0), Place::Whole(u32::MAX), Place::Item(3, 70_000)] {
            let mut bytes = vec![0x91];
            place.write(&mut bytes);
            assert_eq!(places(&bytes), [Some(Ok(place))]);
        }
    }

    #[test]
    fn other_extensions_are_none() {
        assert_eq!(places(&[0xd6, 3, 0, 0, 0, 0]), [None]);
        assert_eq!(places(&[0xd6, 0xff, 0, 0, 0, 0]), [None]);
        assert_eq!(places(&[0xd4, 1, 0]), [Some(Err(BadPlace))]);
        assert_eq!(places(&[0xd6, 2, 0, 0, 0, 0]), [Some(Err(BadPlace))]);
        assert_eq!(places(&[0xc7, 7, 2, 0, 0, 0, 0, 0, 0, 0]), [Some(Err(BadPlace))]);
    }
}
