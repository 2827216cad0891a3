//! What is known of a task that failed on the cluster.

use std::sync::Arc;
use std::{error, fmt};

use super::wire::pickle::Exception;
use crate::ErrorKind;

/// Why a task failed on a cluster, as far as that came across: the [source](std::error::Error::source) of an
/// [`Error`](crate::Error) of kind [`Failed`](ErrorKind::Failed).
///
/// ```
/// # fn show(error: ensue::Error) {
/// if let Some(failed) = error.downcast_ref::<ensue::dask::Failed>() {
///     println!("{} said: {}", failed.class(), failed.message());
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Failed(Arc<Exception>);

impl Failed {
    pub(crate) fn new(exception: Arc<Exception>) -> Self {
        Self(exception)
    }

    /// What Python calls the class of the exception. What a function of ours returns as its error is a
    /// `RuntimeError`.
    pub fn class(&self) -> &str {
        &self.0.class
    }

    /// What it says.
    pub fn message(&self) -> &str {
        &self.0.text
    }

    /// What has happened to a function of ours, which our workers tell by these classes.
    pub(crate) fn kind(&self) -> ErrorKind {
        match (self.0.module.as_str(), self.0.class.as_str()) {
            ("builtins", "SystemError") => ErrorKind::Panicked,
            ("builtins", "TimeoutError") => ErrorKind::TimedOut,
            ("builtins", "LookupError") => ErrorKind::Refused,
            _ => ErrorKind::Failed,
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.class() {
            "RuntimeError" => f.write_str(self.message()),
            _ => self.0.fmt(f),
        }
    }
}

impl error::Error for Failed {}
