//! The parts of msgpack that messages and values share: lengths, extensions, and a scanner with limits.

mod scan;
mod write;

pub(crate) use scan::noun;
pub use scan::{
    Extension, Extent, MAX_DEPTH, ScanError, Token, array, bin, scan, scan_all, text, token,
};
pub use write::{
    write_array_len, write_bin, write_bin_len, write_ext_len, write_map_len, write_str,
};
pub(crate) use write::{write_bool, write_f64, write_int, write_nil, write_uint};
