//! Submissions.

use std::sync::atomic::{AtomicU64, Ordering};

use divan::Bencher;
use divan::counter::ItemsCount;
use ensue::{Handle, Ref};
use ensue_benches::inc;

use crate::{CLIENT, ENDED, NEVER, ended};

async fn inc_ref(x: Ref<u64>) -> u64 {
    *x + 1
}

#[divan::bench(sample_size = 100)]
fn submit() -> Handle<u64> {
    CLIENT.submit(inc, 1)
}

#[divan::bench(sample_size = 100)]
fn spawn() -> Handle<u64> {
    CLIENT.spawn(async { 1 })
}

#[divan::bench(sample_size = 100)]
fn with_handle(bencher: Bencher) {
    bencher.with_inputs(ended).bench_values(|input| CLIENT.submit(inc, input));
}

#[divan::bench(sample_size = 100)]
fn with_reference() -> Handle<u64> {
    CLIENT.submit(inc, &*ENDED)
}

#[divan::bench(sample_size = 100)]
fn with_ref() -> Handle<u64> {
    CLIENT.submit(inc_ref, &*ENDED)
}

#[divan::bench(sample_size = 100)]
fn with_unfinished_reference() -> Handle<u64> {
    CLIENT.submit(inc, &*NEVER)
}

#[divan::bench(sample_size = 10)]
fn map_100(bencher: Bencher) {
    bencher.counter(ItemsCount::new(100u32)).bench(|| CLIENT.map(inc, 0..100));
}

#[divan::bench(sample_size = 100)]
fn keyed_hit(bencher: Bencher) {
    let _held = CLIENT.task().key("hit").submit(inc, 1);
    bencher.bench(|| CLIENT.task().key("hit").submit(inc, 1));
}

#[divan::bench(sample_size = 100)]
fn keyed_miss(bencher: Bencher) {
    let new_key = || format!("miss {}", number());
    bencher.with_inputs(new_key).bench_values(|key| CLIENT.task().key(key).submit(inc, 1));
}

#[divan::bench(sample_size = 100)]
fn pure_hit(bencher: Bencher) {
    let _held = CLIENT.submit_pure(inc, 1);
    bencher.bench(|| CLIENT.submit_pure(inc, 1));
}

#[divan::bench(sample_size = 100)]
fn pure_miss(bencher: Bencher) {
    bencher.with_inputs(number).bench_values(|x| CLIENT.submit_pure(inc, x));
}

#[divan::bench(sample_size = 10)]
fn blocking() -> Handle<u64> {
    CLIENT.submit_blocking(|x: u64| x + 1, 1)
}

/// Returns a new number.
fn number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(1);
    LAST.fetch_add(1, Ordering::Relaxed)
}
