//! What can be wrong with bytes from the other side.

use std::borrow::Cow;
use std::{error, fmt};

/// What is wrong with a message, or why it can't be read. The connection it came from is of no more use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// It isn't what it should be.
    Malformed(Cow<'static, str>),
    /// It's more, or deeper, than we want to have.
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much it is.
        is: u64,
        /// How much it may be.
        most: u64,
    },
    /// It's compressed with the codec of this name, by a process that we didn't talk to.
    Compressed(String),
}

impl WireError {
    pub(crate) fn malformed(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed(text.into())
    }

    /// Fails if there is too much of it.
    pub(crate) fn check(what: &'static str, is: u64, most: u64) -> Result<(), Self> {
        if is > most { Err(Self::TooMuch { what, is, most }) } else { Ok(()) }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(text) => write!(f, "this isn't Dask's protocol: {text}"),
            Self::TooMuch { what, is, most } => {
                write!(f, "a message has {is} {what}, and {most} is the most that is read")
            }
            Self::Compressed(codec) => write!(f, "an object is compressed with {codec}"),
        }
    }
}

impl error::Error for WireError {}
