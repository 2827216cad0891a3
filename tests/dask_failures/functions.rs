//! What the workers run.

use std::time::Duration;

use ensue::dask::Registry;

pub(crate) async fn inc(x: u64) -> u64 {
    x + 1
}

pub(crate) async fn add(x: u64, y: u64) -> u64 {
    x + y
}

pub(crate) async fn total(xs: Vec<u64>) -> u64 {
    xs.into_iter().sum()
}

/// Gives `x` after a while.
pub(crate) async fn slowly(ms: u64, x: u64) -> u64 {
    ensue::sleep(Duration::from_millis(ms)).await;
    x
}

pub(crate) async fn divide(x: u64, y: u64) -> Result<u64, String> {
    x.checked_div(y).ok_or_else(|| format!("{x} can't be divided by {y}"))
}

/// So many bytes, all different from their neighbours.
pub(crate) async fn blob(length: u64) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// What [`checksum`] makes of a [`blob`].
pub(crate) fn checksum_of_blob(length: u64) -> u64 {
    let (rounds, rest) = (length / 251, length % 251);
    length + rounds * (250 * 251 / 2) + rest * rest.saturating_sub(1) / 2
}

/// Their number and their sum.
pub(crate) async fn checksum(bytes: Vec<u8>) -> u64 {
    bytes.len() as u64 + bytes.into_iter().map(u64::from).sum::<u64>()
}

/// Ends the worker that runs it.
pub(crate) async fn die(_: u64) -> u64 {
    std::process::abort()
}

/// The process that runs it.
pub(crate) async fn worker_id(_: u64) -> u32 {
    std::process::id()
}

pub(crate) fn registry() -> Registry {
    Registry::new()
        .add(inc)
        .add(add)
        .add(total)
        .add(slowly)
        .try_add(divide)
        .add(blob)
        .add(checksum)
        .add(die)
        .add(worker_id)
        // What the program in the documentation calls them.
        .name(inc, "inc")
        .name(add, "add")
        .name(divide, "divide")
}
