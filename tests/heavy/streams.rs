//! A stream of a million inputs (promise 18).

use std::time::Duration;

use futures::executor::block_on;
use futures::{StreamExt, stream};
use support::{client_of, eventually, within};

async fn inc(x: u64) -> u64 {
    x + 1
}

#[test]
fn a_million_inputs_take_constant_memory() {
    within(Duration::from_secs(600), || {
        let client = client_of(2);
        let n: u64 = if cfg!(debug_assertions) { 50_000 } else { 1_000_000 };
        let mut results = client.map_stream(stream::iter(0..n), 16, inc);
        let (mut sum, mut most) = (0, 0);
        block_on(async {
            let mut out = 0u64;
            while let Some(x) = results.next().await {
                sum += x.unwrap();
                out += 1;
                if out % 1000 == 0 {
                    // The number of tasks is exact while nothing happens.
                    client.idle().await;
                    most = most.max(client.tasks_in_memory());
                }
            }
        });
        assert_eq!(sum, n * (n + 1) / 2);
        assert!(most <= 16, "{most} were held");
        drop(results);
        eventually("nothing is left", || client.tasks_in_memory() == 0);
    });
}
