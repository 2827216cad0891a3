//! The error of a task that failed on the cluster.

use std::sync::Arc;
use std::{error, fmt};

use super::wire::pickle::Exception;
use crate::task::subject::Subject;
use crate::{Error, ErrorKind};

/// The beginnings of the texts in which a Rust worker reports a panic and a timeout. The client recognizes them.
pub(crate) const PANICKED: &str = "panicked: ";
/// The place and the message follow, with [`PANICKED`]'s colon between them.
pub(crate) const PANICKED_AT: &str = "panicked at ";
pub(crate) const TIMED_OUT: &str = "it took longer than its timeout of ";

/// The exception of a task that failed on a cluster: the [source](std::error::Error::source) of an
/// [`Error`] of kind [`Failed`](ErrorKind::Failed).
///
/// ```
/// # fn show(error: ensue::Error) {
/// if let Some(failed) = error.downcast_ref::<ensue::dask::Failed>() {
///     println!("{}: {}", failed.class(), failed.message());
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Failed(Arc<Exception>);

impl Failed {
    pub(crate) fn new(exception: Arc<Exception>) -> Self {
        Self(exception)
    }

    /// Returns the name of the exception's class in Python. An error that a Rust function returned is a
    /// `RuntimeError`.
    pub fn class(&self) -> &str {
        &self.0.class
    }

    /// Returns the message of the exception.
    pub fn message(&self) -> &str {
        &self.0.text
    }

    /// Returns the error of this task whose failure isn't an error returned by the function. Rust workers report
    /// these by classes that a Rust function itself never raises.
    pub(crate) fn other(&self, task: &Subject) -> Option<Error> {
        let text = self.message();
        let after = |begin| text.strip_prefix(begin).unwrap_or(text);
        let far = |kind, text: &str| Some(Error::far(kind, task.clone(), text));
        match (self.0.module.as_str(), self.0.class.as_str()) {
            ("builtins", "SystemError") => {
                let placed = text.strip_prefix(PANICKED_AT).and_then(|it| it.split_once(": "));
                match placed {
                    Some((place, text)) => Some(Error::far_panic(task.clone(), place, text)),
                    None => far(ErrorKind::Panicked, after(PANICKED)),
                }
            }
            ("builtins", "TimeoutError") => match text.strip_prefix(TIMED_OUT) {
                Some(limit) => Some(Error::timed_out(task.clone(), limit)),
                None => far(ErrorKind::TimedOut, &format!("ran into a timeout: {text}")),
            },
            ("builtins", "LookupError") => far(ErrorKind::Refused, text),
            _ => None,
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.class() {
            // The class of every Rust error, so it says nothing.
            "RuntimeError" => f.write_str(self.message()),
            _ => self.0.fmt(f),
        }
    }
}

impl error::Error for Failed {}
