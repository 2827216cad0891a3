//! Finding one's way in msgpack without reading it: where values end, and how deep they go.
//!
//! Whatever comes from elsewhere is looked through before serde sees it, without recursion. serde's own readers
//! recurse where the bytes do, not all of them with a limit, and stop in the middle where bytes are missing.

use std::fmt;

use rmp::Marker;

/// How deep a value may be nested. A level of it costs the reader some hundred bytes of stack, and a few thousand
/// where nothing is optimized; threads have two million.
pub(super) const DEPTH: usize = 256;

/// What a value takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// How many bytes.
    pub(super) len: usize,
    /// How many levels of lists and maps.
    pub(super) depth: usize,
}

/// An extension within a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ext<'a> {
    /// Where it begins.
    pub(super) start: usize,
    /// Where it ends.
    pub(super) end: usize,
    /// How many lists and maps it's in.
    pub(super) depth: usize,
    /// What it's for.
    pub(super) kind: i8,
    /// What it says.
    pub(super) data: &'a [u8],
}

/// Why bytes are no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// There are too few.
    Short,
    /// There are more.
    Long,
    /// One is among them that nothing begins with.
    Reserved,
    /// It's nested too deeply.
    Deep,
    /// It isn't a list, where one must be.
    NoList,
    /// Its length can't be written.
    Large,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("its msgpack ends too early"),
            Self::Long => f.write_str("its msgpack goes on after its end"),
            Self::Reserved => f.write_str("it has a byte that msgpack doesn't have"),
            Self::Deep => write!(f, "it's nested more than {DEPTH} levels deep"),
            Self::NoList => f.write_str("it isn't a list"),
            Self::Large => f.write_str("it takes more than 4 GiB"),
        }
    }
}

/// What begins with a marker.
enum Head {
    /// A value of so many more bytes.
    Leaf(usize),
    /// A list of so many values.
    List(usize),
    /// A map of so many keys and values together.
    Map(usize),
    /// An extension with so many bytes of data.
    Ext(usize),
}

/// The marker with its lengths, and how many bytes these take.
fn head(bytes: &[u8]) -> Result<(Head, usize), Broken> {
    let (marker, rest) = bytes.split_first().ok_or(Broken::Short)?;
    let sized = |width: usize| -> Result<usize, Broken> {
        let len = rest.get(..width).ok_or(Broken::Short)?;
        Ok(len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)))
    };
    Ok(match Marker::from_u8(*marker) {
        Marker::Null | Marker::False | Marker::True | Marker::FixPos(_) | Marker::FixNeg(_) => {
            (Head::Leaf(0), 1)
        }
        Marker::U8 | Marker::I8 => (Head::Leaf(1), 1),
        Marker::U16 | Marker::I16 => (Head::Leaf(2), 1),
        Marker::U32 | Marker::I32 | Marker::F32 => (Head::Leaf(4), 1),
        Marker::U64 | Marker::I64 | Marker::F64 => (Head::Leaf(8), 1),
        Marker::FixStr(len) => (Head::Leaf(len.into()), 1),
        Marker::Str8 | Marker::Bin8 => (Head::Leaf(sized(1)?), 2),
        Marker::Str16 | Marker::Bin16 => (Head::Leaf(sized(2)?), 3),
        Marker::Str32 | Marker::Bin32 => (Head::Leaf(sized(4)?), 5),
        Marker::FixArray(len) => (Head::List(len.into()), 1),
        Marker::Array16 => (Head::List(sized(2)?), 3),
        Marker::Array32 => (Head::List(sized(4)?), 5),
        Marker::FixMap(len) => (Head::Map(2 * usize::from(len)), 1),
        Marker::Map16 => (Head::Map(2 * sized(2)?), 3),
        Marker::Map32 => (Head::Map(sized(4)?.saturating_mul(2)), 5),
        Marker::FixExt1 => (Head::Ext(1), 1),
        Marker::FixExt2 => (Head::Ext(2), 1),
        Marker::FixExt4 => (Head::Ext(4), 1),
        Marker::FixExt8 => (Head::Ext(8), 1),
        Marker::FixExt16 => (Head::Ext(16), 1),
        Marker::Ext8 => (Head::Ext(sized(1)?), 2),
        Marker::Ext16 => (Head::Ext(sized(2)?), 3),
        Marker::Ext32 => (Head::Ext(sized(4)?), 5),
        Marker::Reserved => return Err(Broken::Reserved),
    })
}

/// Looks through the value that the bytes begin with, and shows each extension in it.
pub(super) fn value<'a>(bytes: &'a [u8], mut each: impl FnMut(Ext<'a>)) -> Result<Extent, Broken> {
    let mut at = 0;
    let mut depth = 0;
    // How many values are still to come: at this level, and at those around it.
    let mut left = 1_usize;
    let mut around = Vec::new();
    loop {
        while left == 0 {
            match around.pop() {
                Some(outer) => left = outer,
                None => return Ok(Extent { len: at, depth }),
            }
        }
        left -= 1;
        let (head, len) = head(&bytes[at..])?;
        let start = at;
        at += len;
        let here = bytes.len() - at;
        match head {
            Head::Leaf(len) if len <= here => at += len,
            // A kind comes before the data.
            Head::Ext(len) if len < here => {
                let kind = i8::from_be_bytes([bytes[at]]);
                let data = &bytes[at + 1..at + 1 + len];
                at += 1 + len;
                each(Ext { start, end: at, depth: around.len(), kind, data });
            }
            // An item takes a byte at least.
            Head::List(len) | Head::Map(len) if len <= here => {
                around.push(left);
                left = len;
                depth = depth.max(around.len());
                if depth > DEPTH {
                    return Err(Broken::Deep);
                }
            }
            _ => return Err(Broken::Short),
        }
    }
}

/// Looks through bytes that are to be one value.
pub(super) fn whole(bytes: &[u8]) -> Result<Extent, Broken> {
    let extent = value(bytes, |_| ())?;
    if extent.len < bytes.len() { Err(Broken::Long) } else { Ok(extent) }
}

/// How many items the list has that the bytes begin with, and where the first is.
pub(super) fn list(bytes: &[u8]) -> Result<(usize, usize), Broken> {
    match head(bytes)? {
        (Head::List(count), start) if count <= bytes.len() - start => Ok((count, start)),
        (Head::List(_), _) => Err(Broken::Short),
        _ => Err(Broken::NoList),
    }
}

/// The text that the bytes are.
pub(super) fn text(bytes: &[u8]) -> Option<&str> {
    let is_text = matches!(bytes.first()?, 0xa0..=0xbf | 0xd9..=0xdb);
    leaf(bytes).filter(|_| is_text).and_then(|text| std::str::from_utf8(text).ok())
}

/// The bytes that the bytes are.
pub(super) fn bin(bytes: &[u8]) -> Option<&[u8]> {
    let is_bin = matches!(bytes.first()?, 0xc4..=0xc6);
    leaf(bytes).filter(|_| is_bin)
}

/// What comes after a length that is right.
fn leaf(bytes: &[u8]) -> Option<&[u8]> {
    match head(bytes) {
        Ok((Head::Leaf(len), start)) if len == bytes.len() - start => Some(&bytes[start..]),
        _ => None,
    }
}

/// What a value is, for people.
pub(super) fn kind(marker: Marker) -> &'static str {
    match marker {
        Marker::Null => "nothing",
        Marker::False | Marker::True => "a truth value",
        Marker::FixPos(_)
        | Marker::FixNeg(_)
        | Marker::U8
        | Marker::U16
        | Marker::U32
        | Marker::U64
        | Marker::I8
        | Marker::I16
        | Marker::I32
        | Marker::I64
        | Marker::F32
        | Marker::F64 => "a number",
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => "text",
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => "bytes",
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => "a list",
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => "a map",
        _ => "an extension",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rmp::encode as rmp;

    use super::*;

    #[test]
    fn values_of_all_kinds_end_where_they_end() {
        let mut values: Vec<Vec<u8>> =
            vec![vec![0xc0], vec![0xc2], vec![0xc3], vec![7], vec![0xff]];
        let mut add = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut value = Vec::new();
            write(&mut value);
            values.push(value);
        };
        for len in [0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536] {
            add(&|to| rmp::write_str(to, &"x".repeat(len)).unwrap());
            add(&|to| rmp::write_bin(to, &vec![1; len]).unwrap());
            add(&|to| {
                rmp::write_array_len(to, len as u32).unwrap();
                to.extend(vec![0xc0; len]);
            });
            add(&|to| {
                rmp::write_map_len(to, len as u32).unwrap();
                to.extend(vec![0; 2 * len]);
            });
            add(&|to| {
                rmp::write_ext_meta(to, len as u32, 5).unwrap();
                to.extend(vec![0; len]);
            });
        }
        for number in [200, 60_000, 3_000_000_000, u64::MAX] {
            add(&|to| assert!(rmp::write_uint(to, number).is_ok()));
            add(&|to| assert!(rmp::write_sint(to, -((number / 2) as i64)).is_ok()));
        }
        add(&|to| rmp::write_f32(to, 0.5).unwrap());
        add(&|to| rmp::write_f64(to, 0.5).unwrap());
        for value in values {
            assert_eq!(whole(&value).map(|extent| extent.len), Ok(value.len()), "{value:02x?}");
            assert_eq!(whole(&value[..value.len() - 1]), Err(Broken::Short), "{value:02x?}");
            let longer = [&value[..], &[0]].concat();
            assert_eq!(whole(&longer), Err(Broken::Long));
            assert_eq!(super::value(&longer, |_| ()).unwrap().len, value.len());
        }
        assert_eq!(whole(&[0xc1]), Err(Broken::Reserved));
        assert_eq!(whole(&[]), Err(Broken::Short));
    }

    #[test]
    fn depth_is_counted_and_bounded() {
        let nested = |levels: usize| [vec![0x91; levels], vec![0xc0]].concat();
        assert_eq!(whole(&nested(0)).unwrap().depth, 0);
        assert_eq!(whole(&nested(DEPTH)).unwrap().depth, DEPTH);
        assert_eq!(whole(&nested(DEPTH + 1)), Err(Broken::Deep));
        assert_eq!(whole(&nested(1_000_000)), Err(Broken::Deep));
        // Side by side, they aren't deep.
        assert_eq!(whole(&[0x93, 0x91, 0x90, 0x90, 0x81, 1, 0x90]).unwrap().depth, 3);
    }

    #[test]
    fn extensions_are_shown_with_their_places() {
        let bytes = [0x92, 0x05, 0x91, 0xd6, 1, 0, 0, 0, 9];
        let mut seen = Vec::new();
        value(&bytes, |ext| seen.push((ext.start..ext.end, ext.depth, ext.kind, ext.data)))
            .unwrap();
        assert_eq!(seen, [(3..9, 2, 1, &[0, 0, 0, 9][..])]);
    }

    #[test]
    fn a_forged_length_is_found_at_once() {
        for forged in
            [[0xdd, 255, 255, 255, 255], [0xdf, 255, 255, 255, 255], [0xdb, 255, 255, 255, 255]]
        {
            assert_eq!(whole(&forged), Err(Broken::Short));
        }
        assert_eq!(list(&[0xdc, 0, 3, 1, 1]), Err(Broken::Short));
        assert_eq!(list(&[0x92, 1, 1]), Ok((2, 1)));
        assert_eq!(list(&[0x81, 1, 1]), Err(Broken::NoList));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(extent) = value(&bytes, |ext| assert!(ext.end <= bytes.len())) {
                prop_assert!(extent.len <= bytes.len() && extent.depth <= DEPTH);
            }
        }
    }
}
