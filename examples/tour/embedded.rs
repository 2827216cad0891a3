//! The tour on an embedded client.

use std::thread;
use std::time::Duration;

use ensue::dashboard::Dashboard;
use ensue::{Client, Error, Handle, TaskOptions, as_completed, progress};

use crate::steps::{self, Graph, step};

pub(crate) async fn tour(with_dashboard: bool, hold: Duration) -> Result<(), Error> {
    let client = start();
    let dashboard = with_dashboard.then(|| show(&client)).flatten();
    steps::call_locally().await;
    steps::submit_one(&client).await?;
    steps::chain(&client).await?;
    step("256 times inc, double and add, and the total; more workers join while it runs");
    let graph = steps::submit_many(&client);
    watch(&client, &graph).await?;
    let sums = steps::sum_as_a_tree(&client, &graph.zs).await?;
    let zs = drop_old_handles(&client, graph, sums).await;
    steps::sum_as_they_arrive(&client, zs).await?;
    steps::fail(&client).await;
    steps::cancel(&client).await;
    steps::retry(&client, TaskOptions::new().acquire("connections")).await?;
    steps::time_out(&client).await;
    close(client).await;
    if dashboard.is_some() && !hold.is_zero() {
        println!("the dashboard stays for {} s", hold.as_secs_f64());
        thread::sleep(hold);
    }
    Ok(())
}

fn start() -> Client {
    step("Start a client");
    let client = Client::builder().name("tour").workers(2).limit("connections", 1).build();
    println!("{client}");
    client
}

/// Starts the dashboard and prints its link. Dropping it stops the dashboard.
fn show(client: &Client) -> Option<Dashboard> {
    match client.dashboard().bind("127.0.0.1:0") {
        Ok(dashboard) => {
            println!("watch it at {}", dashboard.link());
            Some(dashboard)
        }
        Err(error) => {
            println!("the dashboard can't start: {error}");
            None
        }
    }
}

/// Shows the progress of the graph, and adds workers.
async fn watch(client: &Client, graph: &Graph) -> Result<(), Error> {
    let Graph { xs, ys, zs, total } = graph;
    let all = || xs.iter().chain(ys).chain(zs);
    let bars = progress(all());
    let mut running = as_completed(all());
    let of = running.len();
    while !running.is_empty() {
        running.next_batch().await;
        if of - running.len() >= 96 && client.workers() == 2 {
            bars.println("client.scale(10)");
            client.scale(10).expect("the system has eight more threads");
        }
    }
    let finished: usize = bars.await.iter().map(|counted| counted.done).sum();
    println!("{finished} of {of} finished, by {} workers", client.workers());
    println!("total = {}", total.await?);
    Ok(())
}

/// Drops the handles that the next step doesn't need, and returns the others.
async fn drop_old_handles(
    client: &Client,
    graph: Graph,
    sums: Vec<Handle<u64>>,
) -> Vec<Handle<u64>> {
    step("Drop the handles that are no longer needed, which frees their results");
    // A worker may still be busy with the end of the last task.
    client.idle().await;
    println!("before: the store holds {} results", client.tasks_in_memory());
    let Graph { xs, ys, zs, total } = graph;
    drop((xs, ys, total, sums));
    println!("after:  the store holds {} results", client.tasks_in_memory());
    zs
}

async fn close(client: Client) {
    step("Close the client");
    client.close().await;
    println!("{client}; the store holds {} results", client.tasks_in_memory());
}
