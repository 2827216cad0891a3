//! Dropping, cancelling and retrying tasks.

use divan::Bencher;
use ensue::Handle;
use ensue_benches::inc;

use crate::{CLIENT, NEVER};

/// A task that waits for its input.
fn waiting() -> Handle<u64> {
    CLIENT.submit(inc, &*NEVER)
}

/// A task that has failed and can run again.
fn failed() -> Handle<u64> {
    let handle = CLIENT.try_submit(async || Err("never"), ());
    handle.result().unwrap_err();
    handle
}

#[divan::bench(sample_size = 100)]
fn cancel_waiting(bencher: Bencher) {
    bencher.with_inputs(waiting).bench_values(|handle| {
        assert!(handle.cancel());
        handle
    });
}

#[divan::bench(sample_size = 100)]
fn drop_waiting(bencher: Bencher) {
    bencher.with_inputs(waiting).bench_values(drop);
}

#[divan::bench(sample_size = 100)]
fn drop_queued_or_running(bencher: Bencher) {
    bencher.with_inputs(|| CLIENT.submit(inc, 1)).bench_values(drop);
}

#[divan::bench(sample_size = 100)]
fn retry_failed(bencher: Bencher) {
    bencher.with_inputs(failed).bench_values(|handle| {
        assert!(handle.retry());
        handle
    });
}
