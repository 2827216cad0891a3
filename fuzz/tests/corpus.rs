//! Replay of the fuzz targets' corpora, and of pseudo-random bytes, without a fuzzer.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ensue_tests_support as support;

/// Pseudo-random scripts for each target.
const SCRIPTS: u64 = 2000;
/// The time after which no further script is started.
const TIME_LIMIT: Duration = Duration::from_secs(4);

/// Runs a target with its corpus and with pseudo-random bytes, on a thread with a time limit.
fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    support::bounded(move || {
        for file in files {
            target(&fs::read(&file).unwrap());
        }
        let start = Instant::now();
        for seed in 0..SCRIPTS {
            if start.elapsed() > TIME_LIMIT {
                break;
            }
            let mut random = fastrand::Rng::with_seed(seed);
            let len = random.usize(20..600);
            target(&std::iter::repeat_with(|| random.u8(..)).take(len).collect::<Vec<_>>());
        }
    });
}

#[test]
fn schedule() {
    replay("schedule", ensue_fuzz::schedule);
}

#[test]
fn as_completed() {
    replay("as_completed", ensue_fuzz::as_completed);
}

#[test]
fn keys() {
    replay("keys", ensue_fuzz::keys);
}

#[test]
fn panics() {
    replay("panics", ensue_fuzz::panics);
}

#[test]
fn inputs() {
    replay("inputs", ensue_fuzz::inputs);
}

#[test]
fn clients() {
    replay("clients", ensue_fuzz::clients);
}

#[test]
fn several() {
    replay("several", ensue_fuzz::several);
}

#[test]
fn unseeded() {
    replay("unseeded", ensue_fuzz::unseeded);
}

#[test]
fn threads() {
    replay("threads", ensue_fuzz::threads);
}

#[cfg(feature = "dask")]
#[test]
fn wire() {
    replay("wire", ensue_fuzz::wire);
}

#[cfg(feature = "dask")]
#[test]
fn values() {
    replay("values", ensue_fuzz::values);
}
