//! A scanner for msgpack that finds where values end without decoding them.
//!
//! Bytes from another process are scanned before serde sees them. The scanner doesn't recurse and checks depth and
//! lengths; serde's own readers recurse as deep as the bytes say, not all of them with a limit.

use std::{error, fmt};

use rmp::Marker;

/// The deepest nesting of arrays and maps that [`scan`] accepts.
///
/// A level costs serde some hundred bytes of stack, and a few thousand in a build without optimization, of the 2 MiB
/// that a thread has.
pub const MAX_DEPTH: usize = 256;

/// The size of a scanned value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The length in bytes.
    pub len: usize,
    /// The number of nested arrays and maps; 0 for a scalar.
    pub depth: usize,
}

/// An extension type found within a scanned value.
#[derive(Clone, Copy, Debug)]
pub struct Extension<'a> {
    /// The offset of its marker.
    pub start: usize,
    /// The offset after its data.
    pub end: usize,
    /// The number of arrays and maps around it.
    pub depth: usize,
    /// The type that its sender chose; msgpack itself uses negative ones.
    pub kind: i8,
    /// The data.
    pub data: &'a [u8],
}

/// Why bytes aren't the msgpack that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanError {
    /// The bytes end within the value.
    Truncated,
    /// Bytes follow the value.
    TrailingBytes,
    /// The marker 0xc1, which msgpack reserves.
    ReservedMarker,
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// An array was expected.
    NotAnArray,
    /// Longer than the 32 bits of a msgpack length.
    TooLong,
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("its msgpack ends too early"),
            Self::TrailingBytes => f.write_str("its msgpack goes on after its end"),
            Self::ReservedMarker => f.write_str("its msgpack has the reserved marker 0xc1"),
            Self::TooDeep => write!(f, "it's nested more than {MAX_DEPTH} levels deep"),
            Self::NotAnArray => f.write_str("it isn't a list"),
            Self::TooLong => f.write_str("it takes more than 4 GiB"),
        }
    }
}

impl error::Error for ScanError {}

/// The marker of a value with what follows it directly: a scalar's value, or a length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token {
    /// Nil.
    Nil,
    /// A boolean.
    Bool(bool),
    /// An integer that fits an `i64`.
    Int(i64),
    /// An integer above `i64::MAX`.
    Uint(u64),
    /// A float of 32 or 64 bits.
    Float(f64),
    /// Text of this many bytes, which follow.
    Str(usize),
    /// This many bytes, which follow.
    Bin(usize),
    /// An array of this many values, which follow.
    Array(usize),
    /// A map of this many pairs of key and value, which follow.
    Map(usize),
    /// An extension of a kind, with this many bytes of data, which follow.
    Ext(i8, usize),
}

/// Returns a noun for the values that begin with a marker, for error texts: "a number", "text", "a list".
pub(crate) fn noun(marker: u8) -> &'static str {
    // The zeros are the longest field that a marker may have.
    match token(&[marker, 0, 0, 0, 0, 0, 0, 0, 0]) {
        Ok((Token::Nil, _)) => "nothing",
        Ok((Token::Bool(_), _)) => "a truth value",
        Ok((Token::Int(_) | Token::Uint(_) | Token::Float(_), _)) => "a number",
        Ok((Token::Str(_), _)) => "text",
        Ok((Token::Bin(_), _)) => "bytes",
        Ok((Token::Array(_), _)) => "a list",
        Ok((Token::Map(_), _)) => "a map",
        Ok((Token::Ext(..), _)) => "an extension",
        Err(_) => "a reserved marker",
    }
}

/// Reads the token at the start of `bytes`, and how many bytes it takes.
///
/// The length in a token isn't checked against the bytes that follow.
///
/// # Errors
///
/// [`Truncated`](ScanError::Truncated) and [`ReservedMarker`](ScanError::ReservedMarker).
pub fn token(bytes: &[u8]) -> Result<(Token, usize), ScanError> {
    let (&marker, rest) = bytes.split_first().ok_or(ScanError::Truncated)?;
    let mut fields = Fields { left: rest };
    let token = match Marker::from_u8(marker) {
        Marker::Null => Token::Nil,
        Marker::False => Token::Bool(false),
        Marker::True => Token::Bool(true),
        Marker::FixPos(number) => Token::Int(number.into()),
        Marker::FixNeg(number) => Token::Int(number.into()),
        Marker::U8 => Token::Int(u8::from_be_bytes(fields.take()?).into()),
        Marker::U16 => Token::Int(u16::from_be_bytes(fields.take()?).into()),
        Marker::U32 => Token::Int(u32::from_be_bytes(fields.take()?).into()),
        Marker::U64 => {
            let number = u64::from_be_bytes(fields.take()?);
            i64::try_from(number).map_or(Token::Uint(number), Token::Int)
        }
        Marker::I8 => Token::Int(i8::from_be_bytes(fields.take()?).into()),
        Marker::I16 => Token::Int(i16::from_be_bytes(fields.take()?).into()),
        Marker::I32 => Token::Int(i32::from_be_bytes(fields.take()?).into()),
        Marker::I64 => Token::Int(i64::from_be_bytes(fields.take()?)),
        Marker::F32 => Token::Float(f32::from_be_bytes(fields.take()?).into()),
        Marker::F64 => Token::Float(f64::from_be_bytes(fields.take()?)),
        Marker::FixStr(len) => Token::Str(len.into()),
        Marker::Str8 => Token::Str(fields.len::<1>()?),
        Marker::Str16 => Token::Str(fields.len::<2>()?),
        Marker::Str32 => Token::Str(fields.len::<4>()?),
        Marker::Bin8 => Token::Bin(fields.len::<1>()?),
        Marker::Bin16 => Token::Bin(fields.len::<2>()?),
        Marker::Bin32 => Token::Bin(fields.len::<4>()?),
        Marker::FixArray(len) => Token::Array(len.into()),
        Marker::Array16 => Token::Array(fields.len::<2>()?),
        Marker::Array32 => Token::Array(fields.len::<4>()?),
        Marker::FixMap(len) => Token::Map(len.into()),
        Marker::Map16 => Token::Map(fields.len::<2>()?),
        Marker::Map32 => Token::Map(fields.len::<4>()?),
        Marker::FixExt1 => fields.extension(1)?,
        Marker::FixExt2 => fields.extension(2)?,
        Marker::FixExt4 => fields.extension(4)?,
        Marker::FixExt8 => fields.extension(8)?,
        Marker::FixExt16 => fields.extension(16)?,
        Marker::Ext8 => fields.len::<1>().and_then(|len| fields.extension(len))?,
        Marker::Ext16 => fields.len::<2>().and_then(|len| fields.extension(len))?,
        Marker::Ext32 => fields.len::<4>().and_then(|len| fields.extension(len))?,
        Marker::Reserved => return Err(ScanError::ReservedMarker),
    };
    Ok((token, bytes.len() - fields.left.len()))
}

/// The fields after a marker.
struct Fields<'a> {
    left: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ScanError> {
        let (field, left) = self.left.split_first_chunk().ok_or(ScanError::Truncated)?;
        self.left = left;
        Ok(*field)
    }

    /// Takes a big-endian length of `N` bytes.
    fn len<const N: usize>(&mut self) -> Result<usize, ScanError> {
        Ok(self.take::<N>()?.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)))
    }

    fn extension(&mut self, len: usize) -> Result<Token, ScanError> {
        Ok(Token::Ext(i8::from_be_bytes(self.take()?), len))
    }
}

/// Scans the value at the start of `bytes`, and passes each extension in it to `each`.
///
/// Bytes after the value are ignored. Text isn't checked for UTF-8.
///
/// # Errors
///
/// [`Truncated`](ScanError::Truncated), [`ReservedMarker`](ScanError::ReservedMarker) and
/// [`TooDeep`](ScanError::TooDeep). A length that promises more than `bytes` has is found without reading on.
pub fn scan<'a>(bytes: &'a [u8], mut each: impl FnMut(Extension<'a>)) -> Result<Extent, ScanError> {
    let mut at = 0;
    let mut depth = 0;
    // The number of values that are still to come: at this level, and at the levels around it.
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
        let start = at;
        let (token, len) = token(&bytes[at..])?;
        at += len;
        let rest = bytes.len() - at;
        match token {
            Token::Nil | Token::Bool(_) | Token::Int(_) | Token::Uint(_) | Token::Float(_) => {}
            Token::Str(len) | Token::Bin(len) if len <= rest => at += len,
            Token::Ext(kind, len) if len <= rest => {
                let data = &bytes[at..at + len];
                at += len;
                each(Extension { start, end: at, depth: around.len(), kind, data });
            }
            // A value takes a byte at least.
            Token::Array(len) if len <= rest => enter(len, &mut left, &mut around, &mut depth)?,
            Token::Map(len) if len.saturating_mul(2) <= rest => {
                enter(2 * len, &mut left, &mut around, &mut depth)?;
            }
            _ => return Err(ScanError::Truncated),
        }
    }
}

/// Enters an array or map of `len` values.
fn enter(
    len: usize,
    left: &mut usize,
    around: &mut Vec<usize>,
    depth: &mut usize,
) -> Result<(), ScanError> {
    around.push(std::mem::replace(left, len));
    *depth = around.len().max(*depth);
    if *depth > MAX_DEPTH { Err(ScanError::TooDeep) } else { Ok(()) }
}

/// Scans `bytes`, which must be exactly one value.
///
/// # Errors
///
/// Those of [`scan`], and [`TrailingBytes`](ScanError::TrailingBytes).
pub fn scan_all(bytes: &[u8]) -> Result<Extent, ScanError> {
    let extent = scan(bytes, |_| ())?;
    if extent.len < bytes.len() { Err(ScanError::TrailingBytes) } else { Ok(extent) }
}

/// Returns how many items the array at the start of `bytes` has, and the offset of the first.
///
/// # Errors
///
/// Those of [`token`], and [`NotAnArray`](ScanError::NotAnArray).
pub fn array(bytes: &[u8]) -> Result<(usize, usize), ScanError> {
    match token(bytes)? {
        (Token::Array(count), start) if count <= bytes.len() - start => Ok((count, start)),
        (Token::Array(_), _) => Err(ScanError::Truncated),
        _ => Err(ScanError::NotAnArray),
    }
}

/// Returns the text that `bytes` encode, if they are exactly one text in UTF-8.
pub fn text(bytes: &[u8]) -> Option<&str> {
    match token(bytes) {
        Ok((Token::Str(len), start)) if len == bytes.len() - start => {
            std::str::from_utf8(&bytes[start..]).ok()
        }
        _ => None,
    }
}

/// Returns the bytes that `bytes` encode, if they are exactly one byte string.
pub fn bin(bytes: &[u8]) -> Option<&[u8]> {
    match token(bytes) {
        Ok((Token::Bin(len), start)) if len == bytes.len() - start => Some(&bytes[start..]),
        _ => None,
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
            assert_eq!(scan_all(&value).map(|extent| extent.len), Ok(value.len()), "{value:02x?}");
            assert_eq!(
                scan_all(&value[..value.len() - 1]),
                Err(ScanError::Truncated),
                "{value:02x?}"
            );
            let longer = [&value[..], &[0]].concat();
            assert_eq!(scan_all(&longer), Err(ScanError::TrailingBytes));
            assert_eq!(scan(&longer, |_| ()).unwrap().len, value.len());
        }
        assert_eq!(scan_all(&[0xc1]), Err(ScanError::ReservedMarker));
        assert_eq!(scan_all(&[]), Err(ScanError::Truncated));
    }

    #[test]
    fn depth_is_counted_and_bounded() {
        let nested = |levels: usize| [vec![0x91; levels], vec![0xc0]].concat();
        assert_eq!(scan_all(&nested(0)).unwrap().depth, 0);
        assert_eq!(scan_all(&nested(MAX_DEPTH)).unwrap().depth, MAX_DEPTH);
        assert_eq!(scan_all(&nested(MAX_DEPTH + 1)), Err(ScanError::TooDeep));
        assert_eq!(scan_all(&nested(1_000_000)), Err(ScanError::TooDeep));
        // Side by side, they aren't deep.
        assert_eq!(scan_all(&[0x93, 0x91, 0x90, 0x90, 0x81, 1, 0x90]).unwrap().depth, 3);
    }

    #[test]
    fn extensions_are_shown_with_their_places() {
        let bytes = [0x92, 0x05, 0x91, 0xd6, 1, 0, 0, 0, 9];
        let mut seen = Vec::new();
        scan(&bytes, |ext| seen.push((ext.start..ext.end, ext.depth, ext.kind, ext.data))).unwrap();
        assert_eq!(seen, [(3..9, 2, 1, &[0, 0, 0, 9][..])]);
    }

    #[test]
    fn a_forged_length_is_found_at_once() {
        for forged in
            [[0xdd, 255, 255, 255, 255], [0xdf, 255, 255, 255, 255], [0xdb, 255, 255, 255, 255]]
        {
            assert_eq!(scan_all(&forged), Err(ScanError::Truncated));
        }
        assert_eq!(array(&[0xdc, 0, 3, 1, 1]), Err(ScanError::Truncated));
        assert_eq!(array(&[0x92, 1, 1]), Ok((2, 1)));
        assert_eq!(array(&[0x81, 1, 1]), Err(ScanError::NotAnArray));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(extent) = scan(&bytes, |ext| assert!(ext.end <= bytes.len())) {
                prop_assert!(extent.len <= bytes.len() && extent.depth <= MAX_DEPTH);
            }
        }
    }
}
