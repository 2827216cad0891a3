//! The error of connecting to a cluster, and of asking for its state.

use std::time::Duration;
use std::{error, fmt};

use crate::dask::client::io::register::RegistrationError;

/// The error of connecting to a cluster, or of using it. The text says what's wrong and what to do.
#[derive(Debug)]
pub struct ConnectError(Cause);

#[derive(Debug)]
enum Cause {
    Registration(RegistrationError),
    FewWorkers { connected: usize, wanted: usize, after: Duration },
}

impl ConnectError {
    pub(super) fn few_workers(connected: usize, wanted: usize, after: Duration) -> Self {
        Self(Cause::FewWorkers { connected, wanted, after })
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::Registration(error) => error.fmt(f),
            Cause::FewWorkers { connected, wanted, after } => write!(
                f,
                "{connected} of {wanted} Rust workers are connected after {after:?}: start more of them with \
                 `ensue::dask::Worker`"
            ),
        }
    }
}

impl error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.0 {
            Cause::Registration(error) => Some(error),
            Cause::FewWorkers { .. } => None,
        }
    }
}

impl<E: Into<RegistrationError>> From<E> for ConnectError {
    fn from(error: E) -> Self {
        Self(Cause::Registration(error.into()))
    }
}
