//! The client: verbs, and the link to the scheduler below them.

mod api;
mod io;
#[cfg(test)]
mod live;
mod state;
#[cfg(test)]
mod tests;

pub use api::client::{Client, Connect, ConnectError};
pub use api::options::Options;
pub use api::python::PythonInputs;
