//! The functions of the workers.

use std::io::Write;
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

/// Returns `x` after a while.
pub(crate) async fn slowly(ms: u64, x: u64) -> u64 {
    ensue::sleep(Duration::from_millis(ms)).await;
    x
}

/// Returns `x`, after a while if the file exists.
pub(crate) async fn delayed(path: String, x: u64) -> u64 {
    if std::fs::exists(path).is_ok_and(|is_there| is_there) {
        ensue::sleep(Duration::from_millis(20)).await;
    }
    x
}

pub(crate) async fn divide(x: u64, y: u64) -> Result<u64, String> {
    x.checked_div(y).ok_or_else(|| format!("{x} can't be divided by {y}"))
}

/// Returns bytes, each different from its neighbours.
pub(crate) async fn blob(length: u64) -> Vec<u8> {
    let length = length as usize;
    let round: Vec<u8> = (0..251).collect();
    let mut bytes = round.repeat(length / round.len() + 1);
    bytes.truncate(length);
    bytes
}

/// Returns the number of bytes. Panics if they aren't those of a [`blob`].
pub(crate) async fn length(bytes: Vec<u8>) -> u64 {
    let length = bytes.len() as u64;
    assert!(bytes == blob(length).await, "not as they were made");
    length
}

/// Returns the number in a file.
pub(crate) async fn read_file(path: String) -> Result<u64, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    text.trim().parse().map_err(|_| format!("`{text}` isn't a number"))
}

/// Returns a number that depends on both, and on their order.
pub(crate) async fn mix(x: u64, y: u64) -> u64 {
    (x ^ y.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

pub(crate) async fn mix_slowly(ms: u64, x: u64, y: u64) -> u64 {
    ensue::sleep(Duration::from_millis(ms)).await;
    mix(x, y).await
}

/// Mixes the numbers, one after the other.
pub(crate) async fn fold(xs: Vec<u64>) -> u64 {
    let mut folded = 0;
    for x in xs {
        folded = mix(folded, x).await;
    }
    folded
}

/// Returns `x` after a while, and blocks its thread until then.
pub(crate) fn keep_busy(ms: u64, x: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    x
}

pub(crate) async fn odd(x: u64) -> Result<u64, String> {
    if x % 2 == 1 { Ok(x) } else { Err(format!("{x} is even")) }
}

pub(crate) async fn odd_or_panic(x: u64) -> u64 {
    assert!(x % 2 == 1, "{x} is even");
    x
}

/// Returns `x` after it has failed `times` times, which it counts in a file.
pub(crate) async fn fail_at_first(path: String, times: u64, x: u64) -> Result<u64, String> {
    let file = std::fs::File::options().append(true).create(true).open(path);
    let mut file = file.map_err(|error| error.to_string())?;
    file.write_all(b".").map_err(|error| error.to_string())?;
    let attempts = file.metadata().map_err(|error| error.to_string())?.len();
    if attempts > times { Ok(x) } else { Err(format!("attempt {attempts}")) }
}

/// Returns `x` once the file exists, and fails before.
pub(crate) async fn when_there_is(path: String, x: u64) -> Result<u64, String> {
    if std::fs::exists(path).is_ok_and(|is| is) { Ok(x) } else { Err("not yet".to_owned()) }
}

/// Returns `length` bytes that depend on `x`.
pub(crate) async fn bytes_of(x: u64, length: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(x);
    let mut bytes = vec![0; length as usize];
    random.fill(&mut bytes);
    bytes
}

/// Returns a number that depends on all the bytes.
pub(crate) async fn digest(bytes: Vec<u8>) -> u64 {
    let numbers = bytes.chunks(8).map(|chunk| {
        let mut number = [0; 8];
        number[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(number)
    });
    let sum = numbers.fold(0u64, |sum, x| sum.rotate_left(5).wrapping_add(x));
    mix(sum, bytes.len() as u64).await
}

/// Aborts the worker that runs it.
pub(crate) async fn die(_: u64) -> u64 {
    std::process::abort()
}

/// Returns the id of the process that runs it.
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
        .add(mix)
        .add(mix_slowly)
        .add(fold)
        .add_blocking(keep_busy)
        .try_add(odd)
        .add(odd_or_panic)
        .try_add(fail_at_first)
        .try_add(when_there_is)
        .add(bytes_of)
        .add(digest)
        .add(die)
        .add(worker_id)
        // The names in the documented program.
        .name(inc, "inc")
        .name(add, "add")
        .name(divide, "divide")
}
