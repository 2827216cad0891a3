//! Results and handles.

use divan::Bencher;
use divan::counter::ItemsCount;
use ensue::{Error, Handle, Ref, as_completed, gather};
use ensue_benches::inc;
use futures_lite::future::block_on;
use futures_lite::{StreamExt, stream};

use crate::{CLIENT, ENDED, ended, now};

#[divan::bench(sample_size = 100)]
fn round_trip() -> u64 {
    block_on(CLIENT.submit(inc, 1)).unwrap()
}

#[divan::bench(sample_size = 100)]
fn await_finished(bencher: Bencher) {
    bencher.with_inputs(ended).bench_values(|handle| now(handle).unwrap());
}

#[divan::bench(sample_size = 100)]
fn await_finished_reference() -> Result<u64, Error> {
    now(IntoFuture::into_future(&*ENDED))
}

#[divan::bench(sample_size = 100)]
fn get_ref() -> Ref<u64> {
    now(ENDED.get_ref()).unwrap()
}

#[divan::bench(sample_size = 100)]
fn try_get() -> Option<Result<u64, Error>> {
    ENDED.try_get()
}

#[divan::bench(sample_size = 100)]
fn clone_and_drop() {
    drop(ENDED.clone());
}

#[divan::bench(sample_size = 10)]
fn gather_100_finished(bencher: Bencher) {
    let handles = || Vec::from_iter((0..100).map(|_| ended()));
    bencher
        .counter(ItemsCount::new(100u32))
        .with_inputs(handles)
        .bench_values(|handles| now(gather(handles)).unwrap());
}

#[divan::bench(sample_size = 100)]
fn as_completed_add_and_next(bencher: Bencher) {
    let mut arriving = as_completed(Vec::<Handle<u64>>::new());
    bencher.with_inputs(ended).bench_local_values(|handle| {
        arriving.add(handle);
        now(arriving.next())
    });
}

#[divan::bench(sample_size = 10)]
fn map_stream_1000(bencher: Bencher) {
    let squares = || CLIENT.map_stream(stream::iter(0..1000), 64, inc);
    bencher.counter(ItemsCount::new(1000u32)).with_inputs(squares).bench_values(|squares| {
        let sum = block_on(squares.fold(0, |sum, x| sum + x.unwrap()));
        assert_eq!(sum, 500_500);
    });
}
