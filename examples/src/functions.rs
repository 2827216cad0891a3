//! The functions of the tour: ordinary async functions, without clients and handles.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

/// Turns the sleeping of the functions off.
pub static FAST: AtomicBool = AtomicBool::new(false);

/// Returns `x + 1`, after a while.
pub async fn inc(x: u64) -> u64 {
    work(x);
    x + 1
}

/// Returns `2 * x`, after a while.
pub async fn double(x: u64) -> u64 {
    work(x);
    x * 2
}

/// Returns `x + y`, after a while.
pub async fn add(x: u64, y: u64) -> u64 {
    work(x ^ y);
    x + y
}

/// Returns the sum.
pub async fn total(xs: Vec<u64>) -> u64 {
    xs.into_iter().sum()
}

/// Returns `x / y`, or an error if `y` is 0.
pub async fn divide(x: u64, y: u64) -> Result<u64, String> {
    x.checked_div(y).ok_or_else(|| format!("{x} can't be divided by {y}"))
}

/// Returns after this number of seconds. It awaits, so that one worker runs any number of these at a time.
pub async fn nap(seconds: u64) -> u64 {
    ensue::sleep(Duration::from_secs(seconds)).await;
    seconds
}

/// Fails before a point in time, like a connection to a service that is starting up.
pub async fn connect(up_at_ms: u64) -> Result<String, String> {
    let early = up_at_ms.saturating_sub(unix_ms());
    if early > 0 { Err(format!("{early} ms too early")) } else { Ok("connected".into()) }
}

/// Blocks its worker for 0 to 20 ms, which depend on `seed` only, in place of a computation.
fn work(seed: u64) {
    if !FAST.load(Ordering::Relaxed) {
        let while_ms = fastrand::Rng::with_seed(seed).u64(0..=20);
        thread::sleep(Duration::from_millis(while_ms));
    }
}

/// Returns the milliseconds since 1970.
pub fn unix_ms() -> u64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64)
}

/// Returns a registry of these functions, for workers and for the clients that submit them. The names are the same in all
/// programs.
#[cfg(feature = "dask")]
pub fn registry() -> ensue::dask::Registry {
    ensue::dask::Registry::new()
        .add(inc)
        .add(double)
        .add(add)
        .add(total)
        .add(nap)
        .try_add(divide)
        .try_add(connect)
        .name(inc, "inc")
        .name(double, "double")
        .name(add, "add")
        .name(total, "total")
        .name(nap, "nap")
        .name(divide, "divide")
        .name(connect, "connect")
}
