//! The same verbs on a stock Dask cluster.

mod client;
mod cluster;
#[doc(hidden)]
// for the crate's own tests and fuzzing, which play the other side; may change at any time
pub mod codec;
mod net;
#[cfg_attr(not(test), expect(dead_code))] // until the worker uses it
mod registry;
#[doc(hidden)]
// as `codec`
pub mod wire;
mod worker;

pub use client::python::PythonInputs;
pub use codec::Plain;
pub use registry::Registry;
