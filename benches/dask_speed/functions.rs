//! The functions of the crate's workers.

use bytes::Bytes;
use ensue::dask::Registry;
use ensue_benches::{add, double, inc, total};

pub(crate) async fn noop(x: u64) -> u64 {
    x
}

pub(crate) async fn blob(length: u64) -> Bytes {
    (0..length).map(|at| (at % 251) as u8).collect()
}

pub(crate) async fn vector(length: u64) -> Vec<u8> {
    blob(length).await.into()
}

/// Returns the length. `Bytes` shares its memory with the worker's store, as Python's `bytes` does.
pub(crate) async fn length(bytes: Bytes) -> u64 {
    bytes.len() as u64
}

/// Returns the length of a copy.
pub(crate) async fn vector_length(bytes: Vec<u8>) -> u64 {
    bytes.len() as u64
}

pub(crate) fn registry() -> Registry {
    let numbers = Registry::new().add(noop).add(inc).add(double).add(add).add(total);
    numbers.add(blob).add(vector).add(length).add(vector_length)
}
