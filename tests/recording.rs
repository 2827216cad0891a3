//! The memory that recording takes (promise 23). It's the only test, because the allocator counts for the whole process.

use std::time::Duration;

use ensue::Client;
use futures::executor::block_on;
use futures::{StreamExt, stream};
use support::allocator::{Counting, bytes};
use support::{eventually, within};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

async fn inc(x: u64) -> u64 {
    x + 1
}

#[test]
fn a_million_recorded_tasks_take_bounded_memory_and_leave_none_behind() {
    const TASKS: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    within(Duration::from_secs(300), || {
        let run = |client: &Client, tasks: u64| {
            let stream = stream::iter(0..tasks);
            block_on(client.map_stream(stream, 1_000, inc).for_each(|value| {
                value.unwrap();
                std::future::ready(())
            }));
        };
        let before = bytes();
        let client = Client::builder().workers(2).observe().build();
        let events = client.events();
        run(&client, TASKS);
        let graph = client.graph();
        assert!(graph.tasks.len() <= 100_000, "{}", graph.tasks.len());
        let stats = client.stats();
        assert_eq!((stats.submitted, stats.finished, stats.left), (TASKS, TASKS, 0));
        drop(graph);
        let during = bytes().saturating_sub(before);
        assert!(during < 200_000_000, "{during} bytes for a record");
        drop((client, events));
        eventually("the record is gone", || bytes().saturating_sub(before) < 40_000_000);
    });
}
