//! The tour on a Dask cluster.

use std::error::Error;
use std::thread;
use std::time::Duration;

use ensue::dask::{Client, LocalCluster};
use ensue::{TaskOptions, as_completed, progress};

use crate::steps::{self, Graph, step};
use ensue_examples::functions::registry;

/// The time limit for the registration of a worker.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the tour on the cluster of a scheduler, or on one that it starts.
pub(crate) async fn tour(
    scheduler: Option<&str>,
    with_dashboard: bool,
    hold: Duration,
) -> Result<(), Box<dyn Error>> {
    step("Connect to a Dask cluster");
    let started = match scheduler {
        None => Some(LocalCluster::start(2, registry()).dashboard(with_dashboard).await?),
        Some(_) => None,
    };
    let client = match (&started, scheduler) {
        (Some(cluster), _) => cluster.client().await?,
        (None, address) => Client::connect(address.unwrap_or_default(), registry()).await?,
    };
    client.wait_for_workers(1, PATIENCE).await?;
    println!("{client:?}");
    let link = match &started {
        Some(cluster) => cluster.dashboard().map(str::to_owned),
        None => client.dashboard().await?,
    };
    let link = link.filter(|_| with_dashboard);
    match &link {
        Some(link) => println!("watch it at {link}"),
        None if with_dashboard => println!("the scheduler has no dashboard: `pip install bokeh`"),
        None => {}
    }
    steps::call_locally().await;
    steps::submit_one(&client).await?;
    steps::chain(&client).await?;
    step("256 times inc, double and add, and the total");
    let graph = steps::submit_many(&client);
    watch(&graph).await?;
    let sums = steps::sum_as_a_tree(&client, &graph.zs).await?;
    drop(sums);
    steps::sum_as_they_arrive(&client, graph.zs).await?;
    steps::fail(&client).await;
    steps::cancel(&client).await;
    steps::retry(&client, TaskOptions::new()).await?;
    steps::time_out(&client).await;
    step("Leave the cluster");
    client.close().await;
    if link.is_some() && started.is_some() && !hold.is_zero() {
        println!("the cluster stays for {} s", hold.as_secs_f64());
        thread::sleep(hold);
    }
    Ok(())
}

/// Shows the progress of the graph.
async fn watch(graph: &Graph) -> Result<(), ensue::Error> {
    let Graph { xs, ys, zs, total } = graph;
    let all = || xs.iter().chain(ys).chain(zs);
    let bars = progress(all());
    let mut running = as_completed(all());
    let of = running.len();
    while !running.is_empty() {
        running.next_batch().await;
    }
    let finished: usize = bars.await.iter().map(|counted| counted.done).sum();
    println!("{finished} of {of} finished, without fetching a result");
    println!("total = {}", total.await?);
    Ok(())
}
