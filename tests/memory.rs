//! Memory returns to its baseline (promise 9). The only test of its process, since it counts all memory.

mod support_a;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering::SeqCst};
use std::time::Duration;

use ensue::{Client, Handle, as_completed, gather};
use futures::StreamExt;
use futures::executor::block_on;
use support_a::*;

struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

// SAFETY: it passes everything on to the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const COUNT: u64 = 100_000;

async fn inc(x: u64) -> u64 {
    x + 1
}

/// A bit of everything, `COUNT` times.
fn round(client: &Client) {
    let first = client.ready(0);
    let last = (0..COUNT).fold(first, |last, _| client.submit(inc, last));
    assert_eq!(block_on(last).unwrap(), COUNT);

    let held = client.map(inc, 0..COUNT);
    assert_eq!(block_on(gather(&held)).unwrap().len() as u64, COUNT);
    drop(held);

    let mut stream = as_completed(client.map(inc, 0..COUNT));
    block_on(async { while stream.next().await.is_some() {} });
    drop(stream);

    for _ in 0..COUNT {
        drop(client.task().key("same").submit(inc, 1));
    }
    let keyed: Vec<Handle<u64>> =
        (0..COUNT).map(|x| client.task().key(format!("k{x}")).submit(inc, x)).collect();
    keyed.iter().for_each(|handle| {
        handle.cancel();
    });
    drop(keyed);

    let failed = client.try_map(async |x: u64| Err::<u64, _>(x.to_string()), 0..COUNT);
    let dependents = client.map(inc, &failed);
    block_on(gather(&dependents)).unwrap_err();
    drop((failed, dependents));

    let never = client.map(async |_: u64| std::future::pending::<()>().await, 0..COUNT);
    drop(never);
    eventually("everything is freed", || client.held() == 0);
}

#[test]
fn memory_returns_to_its_baseline() {
    within(Duration::from_secs(120), || {
        let before = LIVE.load(SeqCst);
        let client = Client::builder().workers(1).build();
        // Queues, tables and thread locals grow in the first round and may keep their size.
        round(&client);
        let first = LIVE.load(SeqCst);
        for _ in 0..3 {
            round(&client);
        }
        // A queue or a table may come to double once more, which is a few bytes for each of its places.
        // Losing a task of one kind would be some 100 bytes for each of them, in each round.
        let grown = LIVE.load(SeqCst) - first;
        assert!(grown < 4_000_000, "it has grown by {grown} bytes in three rounds");
        block_on(client.close());
        drop(client);
        eventually("the client is gone", || LIVE.load(SeqCst) - before < 100_000);
    });
}
