//! What is known of a task that failed on the cluster.

use std::sync::Arc;
use std::{error, fmt};

use super::wire::pickle::Exception;
use crate::ErrorKind;

/// What a worker of ours begins the texts with of what panicked, or took too long.
pub(crate) const PANICKED: &str = "panicked: ";
pub(crate) const TIMED_OUT: &str = "it took longer than its ";

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

    /// What has happened to a function of ours other than that it returned an error, which our workers tell by these
    /// classes; and what is to be said of it.
    pub(crate) fn other(&self) -> Option<(ErrorKind, &str)> {
        let text = self.message();
        let after = |begin| text.strip_prefix(begin).unwrap_or(text);
        match (self.0.module.as_str(), self.0.class.as_str()) {
            ("builtins", "SystemError") => Some((ErrorKind::Panicked, after(PANICKED))),
            ("builtins", "TimeoutError") => Some((ErrorKind::TimedOut, after(TIMED_OUT))),
            ("builtins", "LookupError") => Some((ErrorKind::Refused, text)),
            _ => None,
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
