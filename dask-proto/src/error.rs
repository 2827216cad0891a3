//! The error for bytes that break the protocol or its limits.

use std::borrow::Cow;
use std::{error, fmt};

use crate::msgpack::ScanError;

/// Why a message can't be read. After one that isn't about a single object, the connection can't be used any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The bytes aren't Dask's protocol; the text says where they differ.
    Malformed(Cow<'static, str>),
    /// A limit on size, count or depth is exceeded.
    TooMuch {
        /// The unit that is counted.
        what: &'static str,
        /// The count in the message.
        is: u64,
        /// The limit.
        most: u64,
    },
    /// An object is compressed with the codec of this name. Compression is never negotiated by this crate, so a third
    /// process has compressed it.
    Compressed(String),
}

impl WireError {
    pub(crate) fn malformed(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed(text.into())
    }

    /// Fails if `is` exceeds `most`.
    pub(crate) fn check(what: &'static str, is: u64, most: u64) -> Result<(), Self> {
        if is > most { Err(Self::TooMuch { what, is, most }) } else { Ok(()) }
    }
}

impl From<ScanError> for WireError {
    fn from(error: ScanError) -> Self {
        Self::malformed(match error {
            ScanError::Truncated => "msgpack that ends too early",
            ScanError::TrailingBytes => "bytes after the end of msgpack",
            ScanError::ReservedMarker => "the reserved msgpack marker 0xc1",
            ScanError::TooDeep => "msgpack that is nested too deep",
            ScanError::NotAnArray => "msgpack that isn't an array",
            ScanError::TooLong => "msgpack of more than 4 GiB",
        })
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(text) => write!(f, "this isn't Dask's protocol: {text}"),
            Self::TooMuch { what, is, most } => {
                write!(f, "a message has {is} {what}, and {most} is the most that is read")
            }
            Self::Compressed(codec) => {
                write!(f, "an object is compressed with {codec}, which isn't supported")
            }
        }
    }
}

impl error::Error for WireError {}
