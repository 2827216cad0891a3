//! Writers of msgpack to memory.

use rmp::encode;

/// Unwraps what writing to memory returns; a `Vec` accepts all bytes.
fn written<T, E>(result: Result<T, E>) {
    if result.is_err() {
        unreachable!("writing to memory doesn't fail");
    }
}

/// Checks a length, of which msgpack has 32 bits.
fn checked(len: usize) -> u32 {
    len.try_into().unwrap_or_else(|_| panic!("msgpack has lengths of 32 bits, and {len} is more"))
}

/// Begins an array of `len` values, which must follow.
///
/// # Panics
///
/// If `len` has more than 32 bits.
pub fn write_array_len(len: usize, to: &mut Vec<u8>) {
    written(encode::write_array_len(to, checked(len)));
}

/// Begins a map of `len` pairs of key and value, which must follow.
///
/// # Panics
///
/// If `len` has more than 32 bits.
pub fn write_map_len(len: usize, to: &mut Vec<u8>) {
    written(encode::write_map_len(to, checked(len)));
}

/// Writes text.
///
/// # Panics
///
/// If it has more than 4 GiB.
pub fn write_str(text: &str, to: &mut Vec<u8>) {
    checked(text.len());
    written(encode::write_str(to, text));
}

/// Writes a byte string.
///
/// # Panics
///
/// If it has more than 4 GiB.
pub fn write_bin(bytes: &[u8], to: &mut Vec<u8>) {
    write_bin_len(bytes.len(), to);
    to.extend_from_slice(bytes);
}

/// Begins a byte string of `len` bytes, which must follow.
///
/// # Panics
///
/// If `len` has more than 32 bits.
pub fn write_bin_len(len: usize, to: &mut Vec<u8>) {
    written(encode::write_bin_len(to, checked(len)));
}

/// Begins an extension of a kind, with `len` bytes of data, which must follow.
///
/// # Panics
///
/// If `len` has more than 32 bits.
pub fn write_ext_len(kind: i8, len: usize, to: &mut Vec<u8>) {
    written(encode::write_ext_meta(to, checked(len), kind));
}

pub(crate) fn write_nil(to: &mut Vec<u8>) {
    written(encode::write_nil(to));
}

pub(crate) fn write_bool(value: bool, to: &mut Vec<u8>) {
    written(encode::write_bool(to, value));
}

pub(crate) fn write_int(value: i64, to: &mut Vec<u8>) {
    written(encode::write_sint(to, value));
}

pub(crate) fn write_uint(value: u64, to: &mut Vec<u8>) {
    written(encode::write_uint(to, value));
}

pub(crate) fn write_f64(value: f64, to: &mut Vec<u8>) {
    written(encode::write_f64(to, value));
}
