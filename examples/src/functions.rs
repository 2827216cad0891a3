//! The functions of the tour. They're ordinary async functions and know nothing of clients and handles.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

/// Whether the functions are not to sleep.
pub(crate) static FAST: AtomicBool = AtomicBool::new(false);

pub(crate) async fn inc(x: u64) -> u64 {
    work(x);
    x + 1
}

pub(crate) async fn double(x: u64) -> u64 {
    work(x);
    x * 2
}

pub(crate) async fn add(x: u64, y: u64) -> u64 {
    work(x ^ y);
    x + y
}

pub(crate) async fn total(xs: Vec<u64>) -> u64 {
    xs.into_iter().sum()
}

pub(crate) async fn divide(x: u64, y: u64) -> Result<u64, String> {
    x.checked_div(y).ok_or_else(|| format!("{x} can't be divided by {y}"))
}

/// Awaits, where `work` blocks: any number of these can be under way on one worker.
pub(crate) async fn nap(seconds: u64) -> u64 {
    ensue::sleep(Duration::from_secs(seconds)).await;
    seconds
}

/// Something that isn't there before its time, like a service that starts up.
pub(crate) async fn connect(up_at_ms: u64) -> Result<String, String> {
    let early = up_at_ms.saturating_sub(unix_ms());
    if early > 0 { Err(format!("{early} ms too early")) } else { Ok("connected".into()) }
}

/// Sleeps a while that depends on `seed` only. It stands for computing, so it keeps its worker busy.
fn work(seed: u64) {
    if !FAST.load(Ordering::Relaxed) {
        let while_ms = fastrand::Rng::with_seed(seed).u64(0..=20);
        thread::sleep(Duration::from_millis(while_ms));
    }
}

pub(crate) fn unix_ms() -> u64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64)
}

/// As workers need them, and the programs that submit them: by names that are the same in all programs.
#[cfg(feature = "dask")]
pub(crate) fn registry() -> ensue::dask::Registry {
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
