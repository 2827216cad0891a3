//! The same verbs on a stock Dask cluster. So far there's the protocol, which isn't for use from outside.

#[doc(hidden)]
// for the crate's own tests and fuzzing, which play the other side; may change at any time
pub mod wire;
