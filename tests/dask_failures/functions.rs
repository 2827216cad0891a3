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

/// Gives `x`, after a while once there's such a file.
pub(crate) async fn delayed(path: String, x: u64) -> u64 {
    if std::fs::exists(path).is_ok_and(|is_there| is_there) {
        ensue::sleep(Duration::from_millis(20)).await;
    }
    x
}

pub(crate) async fn divide(x: u64, y: u64) -> Result<u64, String> {
    x.checked_div(y).ok_or_else(|| format!("{x} can't be divided by {y}"))
}

/// So many bytes, all different from their neighbours.
pub(crate) async fn blob(length: u64) -> Vec<u8> {
    let length = length as usize;
    let round: Vec<u8> = (0..251).collect();
    let mut bytes = round.repeat(length / round.len() + 1);
    bytes.truncate(length);
    bytes
}

/// How many there are. Panics if they aren't those of a [`blob`].
pub(crate) async fn length(bytes: Vec<u8>) -> u64 {
    let length = bytes.len() as u64;
    assert!(bytes == blob(length).await, "not as they were made");
    length
}

/// The number in a file.
pub(crate) async fn read_file(path: String) -> Result<u64, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    text.trim().parse().map_err(|_| format!("`{text}` isn't a number"))
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
        .add(delayed)
        .try_add(divide)
        .try_add(read_file)
        .add(blob)
        .add(length)
        .add(die)
        .add(worker_id)
        // What the program in the documentation calls them.
        .name(inc, "inc")
        .name(add, "add")
        .name(divide, "divide")
}
