//! The failure of a call on a worker.

use std::fmt;

use crate::dask::wire::rust::{ArgumentError, EncodeError};

/// Why a call returned no value, other than by a panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The kind of failure.
    pub(crate) kind: ProblemKind,
    /// The description for the error of the handle.
    pub(crate) text: String,
}

/// The kind of a [`Problem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProblemKind {
    /// The function returned an `Err`.
    Failed,
    /// The arguments don't match the function.
    Mismatch,
    /// The worker has no such function.
    Unregistered,
    /// The result can't be encoded.
    Unserializable,
}

impl Problem {
    pub(crate) fn new(kind: ProblemKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    pub(super) fn mismatch(text: impl Into<String>) -> Self {
        Self::new(ProblemKind::Mismatch, text)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Problem {}

impl From<EncodeError> for Problem {
    fn from(error: EncodeError) -> Self {
        Self::new(ProblemKind::Unserializable, error.to_string())
    }
}

impl From<ArgumentError> for Problem {
    fn from(error: ArgumentError) -> Self {
        Self::mismatch(error.to_string())
    }
}
