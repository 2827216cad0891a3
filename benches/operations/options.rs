//! Submissions with options.

use std::time::Duration;

use ensue::Handle;
use ensue_benches::inc;

use crate::CLIENT;

#[divan::bench(sample_size = 100)]
fn priority() -> Handle<u64> {
    CLIENT.task().priority(1).submit(inc, 1)
}

#[divan::bench(sample_size = 100)]
fn limit() -> Handle<u64> {
    CLIENT.task().acquire("many").submit(inc, 1)
}

#[divan::bench(sample_size = 100)]
fn timeout() -> Handle<u64> {
    CLIENT.task().timeout(Duration::from_secs(60)).submit(inc, 1)
}

#[divan::bench(sample_size = 100)]
fn retries() -> Handle<u64> {
    CLIENT.task().retries(3).submit(inc, 1)
}

#[divan::bench(sample_size = 100)]
fn name() -> Handle<u64> {
    CLIENT.task().name("increment").submit(inc, 1)
}
