//! Threads and `result()`, without an async runtime.
//!
//! ```text
//! cargo run --example blocking
//! ```

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ensue::{Client, Error, ErrorKind, Handle, Ref, is_cancelled};

async fn is_prime(n: u64) -> bool {
    n > 1 && (2..).take_while(|d| d * d <= n).all(|d| n % d != 0)
}

async fn count(found: Vec<bool>) -> usize {
    found.into_iter().filter(|&found| found).count()
}

static RUNS: AtomicUsize = AtomicUsize::new(0);

async fn answer() -> u64 {
    RUNS.fetch_add(1, Ordering::Relaxed);
    42
}

fn main() -> Result<(), Error> {
    let client = Client::new();

    // Async functions may also compute: no other method is needed for that.
    let primes = client.submit(count, client.map(is_prime, 0..10_000)).result()?;
    assert_eq!(primes, 1229);
    println!("{primes} primes below 10000");

    // Blocking functions run on threads of their own, so that they don't block a worker. A handle is an input
    // as for any task; `Ref` avoids a copy of the text.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/blocking.rs");
    let source = client.try_submit_blocking(fs::read_to_string, path);
    let lines = client.submit(async |text: Ref<String>| text.lines().count(), &source);
    println!("this example has {} lines", lines.result()?);

    // Threads share a client and its keys. All of them submit the same key, and one task runs.
    let ask = || client.task().key("answer").submit(answer, ());
    let first = ask();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(ask().result().ok(), Some(42)));
        }
    });
    assert_eq!((first.result()?, RUNS.load(Ordering::Relaxed)), (42, 1));
    println!("five asked for the answer, one computed it");

    // Blocking work can't be stopped from outside, but it can check for its cancellation.
    let (sender, receiver) = mpsc::channel();
    let patient = client.submit_blocking(
        move || {
            let mut round = 0;
            while !is_cancelled() && sender.send(round).is_ok() {
                thread::sleep(Duration::from_millis(1));
                round += 1;
            }
        },
        (),
    );
    assert_eq!(receiver.recv(), Ok(0));
    assert!(patient.cancel());
    assert!(patient.result().is_err_and(|error| error.is_cancelled()));
    println!("cancelled after round {}", receiver.iter().last().unwrap_or(0));

    // A blocking wait inside a task could wait for itself, so it's refused with an error.
    let slow = client.submit(async || ensue::sleep(Duration::from_millis(5)).await, ());
    let inside = client.submit(async |slow: Handle<()>| slow.result(), slow.clone());
    let error = inside.result()?.expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Blocking);
    println!("{error:#}");
    slow.result()
}
