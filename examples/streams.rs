//! Handles and streams with the combinators of the `futures` crate.
//!
//! ```text
//! cargo run --release --example streams
//! ```

use std::time::Duration;

use ensue::{Client, Error, as_completed, sleep};
use futures::executor::block_on;
use futures::future::try_join_all;
use futures::stream::{self, StreamExt, TryStreamExt};
use futures::{FutureExt, select};

async fn square(x: u64) -> u64 {
    x * x
}

async fn after(ms: u64) -> u64 {
    sleep(Duration::from_millis(ms)).await;
    ms
}

fn main() -> Result<(), Error> {
    let client = Client::new();
    block_on(async {
        race(&client).await?;
        join(&client).await?;
        adapt(&client).await?;
        million(&client).await
    })
}

/// A handle is a fused future, which `select!` accepts. The losing task runs on until its handle is dropped.
async fn race(client: &Client) -> Result<(), Error> {
    let mut slow = client.submit(after, 60_000);
    let mut quick = client.submit(after, 1);
    let first = select! {
        x = slow => x?,
        x = quick => x?,
    };
    assert_eq!(first, 1);
    let waited = select! {
        _ = slow => true,
        () = sleep(Duration::from_millis(10)).fuse() => false,
    };
    println!("select!: {first} was first; the other is still {}", slow.status());
    assert!(!waited && !slow.is_finished());
    Ok(())
}

/// `try_join_all` works on handles; `ensue::gather` does the same without polling each.
async fn join(client: &Client) -> Result<(), Error> {
    let squares = try_join_all(client.map(square, 0..100)).await?;
    assert_eq!(squares.iter().sum::<u64>(), 328_350);
    println!("try_join_all: {} squares", squares.len());
    Ok(())
}

/// `as_completed` is a stream, so all of `StreamExt` applies.
async fn adapt(client: &Client) -> Result<(), Error> {
    let naps = client.map(after, [30, 1, 15]);
    let order: Vec<u64> = as_completed(naps).then(|nap| nap).try_collect().await?;
    println!("as_completed: finished in the order {order:?}");
    assert_eq!(order.len(), 3);

    let numbers = client.try_map(async |text: &str| text.parse::<u64>(), ["1", "two", "3"]);
    let good = as_completed(numbers).with_results().filter_map(async |(_, result)| result.ok());
    let sum = good.fold(0, async |sum, x| sum + x).await;
    assert_eq!(sum, 4);
    println!("with_results: those that were numbers make {sum}");
    Ok(())
}

/// A million inputs, of which at most 64 are in memory.
async fn million(client: &Client) -> Result<(), Error> {
    let mut squares = client.map_stream(stream::iter(0..1_000_000), 64, square);
    let (mut sum, mut most) = (0, 0);
    while let Some(square) = squares.try_next().await? {
        sum += square;
        most = most.max(client.tasks_in_memory());
    }
    assert_eq!(sum, 333_332_833_333_500_000);
    println!("map_stream: a million squares make {sum}; at most {most} tasks were held");
    assert!(most <= 64);
    Ok(())
}
