//! The tour: Dask's futures notebook, step by step, and then what the notebook can't show.
//!
//! ```text
//! cargo run --release --example tour
//! cargo run --release --example tour -- --hold 600
//! cargo run --release --example tour -- --fast
//! ```
//!
//! The link that it prints first leads to a page on which the graph can be watched as it grows. The functions
//! sleep a random while, as in the notebook; `--fast` leaves that out. The steps use the verbs of the `Engine`
//! trait, except where they look at the workers and the store.

use std::env;
use std::fmt::Debug;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use ensue::dashboard::Dashboard;
use ensue::{
    Client, Engine, Error, Handle, Retry, Status, TaskOptions, as_completed, gather_settled,
    progress, sleep,
};
use futures::StreamExt;
use futures::executor::block_on;

const USAGE: &str = "usage: tour [--fast] [--hold SECONDS] [--no-dashboard]

  --fast           leave the sleeping out
  --hold SECONDS   keep the dashboard up so long after the last step
  --no-dashboard   leave the dashboard out";

/// Whether the functions are not to sleep.
static FAST: AtomicBool = AtomicBool::new(false);

// The functions. They're ordinary async functions and know nothing of clients and handles.

async fn inc(x: u64) -> u64 {
    work(x);
    x + 1
}

async fn double(x: u64) -> u64 {
    work(x);
    x * 2
}

async fn add(x: u64, y: u64) -> u64 {
    work(x ^ y);
    x + y
}

async fn total(xs: Vec<u64>) -> u64 {
    xs.into_iter().sum()
}

async fn divide(x: u64, y: u64) -> Result<u64, String> {
    x.checked_div(y).ok_or_else(|| format!("{x} can't be divided by {y}"))
}

/// Awaits, where `work` blocks: any number of these can be under way on one worker.
async fn nap(seconds: u64) -> u64 {
    sleep(Duration::from_secs(seconds)).await;
    seconds
}

/// Something that isn't there before its time, like a service that starts up.
async fn connect(up_at_ms: u64) -> Result<String, String> {
    let early = up_at_ms.saturating_sub(unix_ms());
    if early > 0 { Err(format!("{early} ms too early")) } else { Ok("connected".into()) }
}

/// Sleeps a while that depends on `seed` only. It stands for computing, so it keeps its worker busy.
fn work(seed: u64) {
    if !FAST.load(Ordering::Relaxed) {
        let while_ms = fastrand::Rng::with_seed(seed).u64(0..=20);
        thread::sleep(Duration::from_millis(while_ms));
    }
}

fn unix_ms() -> u64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64)
}

/// What is asked for.
struct Asked {
    dashboard: bool,
    hold: Duration,
}

/// `None` where the usage is all that's asked for, and what is wrong with the arguments.
fn read_arguments() -> Result<Option<Asked>, String> {
    let mut asked = Asked { dashboard: true, hold: Duration::ZERO };
    let mut arguments = env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_string_lossy().as_ref() {
            "--fast" => FAST.store(true, Ordering::Relaxed),
            "--no-dashboard" => asked.dashboard = false,
            "--hold" => {
                let seconds = arguments.next().unwrap_or_default();
                let number = seconds.to_string_lossy().parse().ok();
                let hold = number.and_then(|number| Duration::try_from_secs_f64(number).ok());
                asked.hold = hold.ok_or("--hold takes a number of seconds")?;
            }
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("unknown argument `{other}`")),
        }
    }
    Ok(Some(asked))
}

fn main() -> ExitCode {
    let asked = match read_arguments() {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(what) => {
            eprintln!("tour: {what}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    match block_on(tour(&asked)) {
        Ok(()) => {
            println!("\nThat was the tour, in {:.1} s.", started.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tour: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn tour(asked: &Asked) -> Result<(), Error> {
    let client = start();
    let dashboard = asked.dashboard.then(|| show(&client)).flatten();
    call_locally().await;
    submit_one(&client).await?;
    chain(&client).await?;
    let graph = submit_many(&client);
    watch(&client, &graph).await?;
    let sums = sum_as_a_tree(&client, &graph.zs).await?;
    let zs = drop_old_handles(&client, graph, sums);
    sum_as_they_arrive(&client, zs).await?;
    fail(&client).await;
    cancel(&client).await;
    retry(&client).await?;
    time_out(&client).await;
    close(client).await;
    if dashboard.is_some() && !asked.hold.is_zero() {
        println!("the dashboard stays for {} s", asked.hold.as_secs_f64());
        thread::sleep(asked.hold);
    }
    Ok(())
}

fn start() -> Client {
    step("Start a client");
    let client = Client::builder().name("tour").workers(2).limit("connections", 1).build();
    println!("{client}");
    client
}

/// Starts the dashboard and says where it is. It's gone when this is dropped.
fn show(client: &Client) -> Option<Dashboard> {
    match client.dashboard().bind("127.0.0.1:0") {
        Ok(dashboard) => {
            println!("watch it at {}", dashboard.link());
            Some(dashboard)
        }
        Err(error) => {
            println!("there's no dashboard: {error}");
            None
        }
    }
}

async fn call_locally() {
    step("Call a function the ordinary way, which takes a while");
    let started = Instant::now();
    println!("inc(2).await = {} after {}", inc(2).await, ms(started.elapsed()));
}

async fn submit_one(engine: &impl Engine) -> Result<(), Error> {
    step("Submit the same call: a handle comes back at once, and the work goes on elsewhere");
    let x = engine.submit(inc, 2);
    println!("at once:  {x:?}");
    let value = (&x).await?;
    println!("awaited:  {x:?}");
    println!("result:   {value}");
    Ok(())
}

async fn chain(engine: &impl Engine) -> Result<(), Error> {
    step("Feed handles into further work, without waiting for anything");
    let x = engine.submit(inc, 1);
    let y = engine.submit(double, &x);
    let z = engine.submit(add, (&x, &y));
    println!("x = {}: {}", x.key(), (&x).await?);
    println!("y = {}: {}", y.key(), (&y).await?);
    println!("z = {}: {}", z.key(), (&z).await?);
    Ok(())
}

/// All the handles of the big step.
struct Graph {
    xs: Vec<Handle<u64>>,
    ys: Vec<Handle<u64>>,
    zs: Vec<Handle<u64>>,
    total: Handle<u64>,
}

fn submit_many(engine: &impl Engine) -> Graph {
    step("256 times inc, double and add, and the total; more workers join while it runs");
    let (mut xs, mut ys, mut zs) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..256 {
        let x = engine.submit(inc, i);
        let y = engine.submit(double, &x);
        let z = engine.submit(add, (&x, &y));
        xs.push(x);
        ys.push(y);
        zs.push(z);
    }
    let total = engine.submit(total, &zs);
    Graph { xs, ys, zs, total }
}

/// Shows the progress of all this, and adds workers.
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
            client.scale(10);
        }
    }
    let finished: usize = bars.await.iter().map(|counted| counted.done).sum();
    println!("{finished} of {of} finished, by {} workers", client.workers());
    println!("total = {}", total.await?);
    Ok(())
}

async fn sum_as_a_tree(
    engine: &impl Engine,
    zs: &[Handle<u64>],
) -> Result<Vec<Handle<u64>>, Error> {
    step("The same sum as a tree: neighbours are added, then the sums of neighbours, and so on");
    let mut sums = Vec::new();
    let mut level = zs.to_vec();
    while level.len() > 1 {
        level = engine.map(add, level.chunks(2).map(|pair| (&pair[0], &pair[1])));
        print!("{} ", level.len());
        sums.extend(level.iter().cloned());
    }
    println!("additions submitted");
    println!("total = {}", (&level[0]).await?);
    Ok(sums)
}

/// Keeps the handles that the next step needs.
fn drop_old_handles(client: &Client, graph: Graph, sums: Vec<Handle<u64>>) -> Vec<Handle<u64>> {
    step("Drop the handles that are no longer needed, and their results go");
    println!("before: the store holds {} results", client.held());
    let Graph { xs, ys, zs, total } = graph;
    drop((xs, ys, total, sums));
    println!("after:  the store holds {} results", client.held());
    zs
}

async fn sum_as_they_arrive(engine: &impl Engine, zs: Vec<Handle<u64>>) -> Result<(), Error> {
    step("Let the graph grow: inc over the 256, and whichever two arrive first are added");
    let mut arriving = as_completed(engine.map(inc, zs));
    let mut additions = 0;
    let first = TaskOptions::new().priority(1);
    // The handles are passed on by value, so each result is gone when it has been added.
    let sum = loop {
        let Some(a) = arriving.next().await else { unreachable!("one is always left") };
        let Some(b) = arriving.next().await else { break a.await? };
        if additions == 0 {
            println!("the first two to arrive: {} and {}", a.key(), b.key());
        }
        additions += 1;
        arriving.add(engine.submit_with(first.clone(), add, (a, b)));
    };
    println!("after {additions} additions one is left");
    println!("total = {sum}");
    Ok(())
}

async fn fail(engine: &impl Engine) {
    step("A task fails: what depends on it doesn't run, and its error says where it began");
    let x = engine.try_submit(divide, (1, 0));
    let y = engine.submit(inc, &x);
    let z = engine.submit(double, &y);
    let handles = [x, y, z];
    for (handle, result) in handles.iter().zip(gather_settled(&handles).await) {
        println!("{:9} {}", handle.key(), outcome(result));
    }
}

async fn cancel(engine: &impl Engine) {
    step("Cancel a task: it is dropped where it awaits, and so is what depends on it");
    let x = engine.submit(nap, 3600);
    let y = engine.submit(inc, &x);
    while x.status() != Status::Running {
        sleep(Duration::from_millis(1)).await;
    }
    println!("x: {x:?}");
    println!("y: {y:?}");
    println!("x.cancel() = {}", x.cancel());
    println!("x: {}", outcome(x.await));
    println!("y: {}", outcome(y.await));
}

async fn retry(engine: &impl Engine) -> Result<(), Error> {
    step("Retry with backoff: while it waits, the task holds no worker and no limit");
    let started = Instant::now();
    let up_at = unix_ms() + 100;
    let backoff = Retry::new(8).backoff(Duration::from_millis(20), Duration::from_millis(200));
    let options = TaskOptions::new().limit("connections", 1).retries(backoff);
    let connection = engine.try_submit_with(options, connect, up_at);
    while !matches!(connection.status(), Status::Delayed | Status::Finished) {
        sleep(Duration::from_millis(1)).await;
    }
    println!("after {}: {connection:?}", ms(started.elapsed()));
    let value = connection.await?;
    println!("after {}: {value}", ms(started.elapsed()));
    Ok(())
}

async fn time_out(engine: &impl Engine) {
    step("Give a task a time limit");
    let options = TaskOptions::new().timeout(Duration::from_millis(50));
    println!("{}", outcome(engine.submit_with(options, nap, 3600).await));
}

async fn close(client: Client) {
    step("Close the client");
    client.close().await;
    println!("{client}; the store holds {} results", client.held());
}

// Printing.

/// Announces a step.
fn step(title: &str) {
    static NUMBER: AtomicUsize = AtomicUsize::new(1);
    println!("\n{}. {title}", NUMBER.fetch_add(1, Ordering::Relaxed));
}

fn outcome<T: Debug>(result: Result<T, Error>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?}: {error}", error.kind()),
    }
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}
