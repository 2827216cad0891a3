//! The time and the allocations of single operations, on the calling thread.
//!
//! ```text
//! cargo bench -p ensue-benches --bench operations
//! cargo bench -p ensue-benches --bench operations -- keyed
//! ```
//!
//! A worker runs the tasks meanwhile. The return values are dropped outside the measured time. A sample has many calls, so
//! that waking the worker has little weight.

mod endings;
mod options;
mod results;
mod submitting;

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use divan::AllocProfiler;
use ensue::{Client, Handle};
use ensue_benches::inc;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

static CLIENT: LazyLock<Client> =
    LazyLock::new(|| Client::builder().workers(1).limit("many", usize::MAX).build());

/// A task that never ends.
static NEVER: LazyLock<Handle<u64>> = LazyLock::new(|| CLIENT.spawn(pending()));

/// A task that has ended.
static ENDED: LazyLock<Handle<u64>> = LazyLock::new(ended);

fn main() {
    divan::main();
}

fn ended() -> Handle<u64> {
    let handle = CLIENT.submit(inc, 1);
    assert_eq!(handle.result().unwrap(), 2);
    handle
}

/// Returns the output of a future that is ready.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it had to wait"),
    }
}
