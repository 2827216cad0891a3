//! The steps that run on any engine.

use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ensue::{
    Engine, Error, Handle, Retry, Status, TaskOptions, as_completed, gather_settled, sleep,
};
use futures::StreamExt;

use ensue_examples::functions::{add, connect, divide, double, inc, nap, total, unix_ms};

pub(crate) async fn call_locally() {
    step("Call a function the ordinary way, which takes a while");
    let started = Instant::now();
    println!("inc(2).await = {} after {}", inc(2).await, ms(started.elapsed()));
}

pub(crate) async fn submit_one(engine: &impl Engine) -> Result<(), Error> {
    step("Submit the same call: a handle comes back at once, and a worker runs the call");
    let x = engine.submit(inc, 2);
    println!("at once:  {x:?}");
    let value = (&x).await?;
    println!("awaited:  {x:?}");
    println!("result:   {value}");
    Ok(())
}

pub(crate) async fn chain(engine: &impl Engine) -> Result<(), Error> {
    step("Feed handles into further work, without waiting for anything");
    let x = engine.submit(inc, 1);
    let y = engine.submit(double, &x);
    let z = engine.submit(add, (&x, &y));
    println!("x = {}: {}", x.key(), (&x).await?);
    println!("y = {}: {}", y.key(), (&y).await?);
    println!("z = {}: {}", z.key(), (&z).await?);
    Ok(())
}

/// The handles of the large graph.
pub(crate) struct Graph {
    pub(crate) xs: Vec<Handle<u64>>,
    pub(crate) ys: Vec<Handle<u64>>,
    pub(crate) zs: Vec<Handle<u64>>,
    pub(crate) total: Handle<u64>,
}

pub(crate) fn submit_many(engine: &impl Engine) -> Graph {
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

pub(crate) async fn sum_as_a_tree(
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

pub(crate) async fn sum_as_they_arrive(
    engine: &impl Engine,
    zs: Vec<Handle<u64>>,
) -> Result<(), Error> {
    step("Let the graph grow: inc over the 256, and whichever two arrive first are added");
    let mut arriving = as_completed(engine.map(inc, zs));
    let mut additions = 0;
    let first = TaskOptions::new().priority(1);
    // The handles are passed by value, so each result is freed once it has been added.
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

pub(crate) async fn fail(engine: &impl Engine) {
    step("A task fails: its dependents don't run, and their error names its origin");
    let x = engine.try_submit(divide, (1, 0));
    let y = engine.submit(inc, &x);
    let z = engine.submit(double, &y);
    let handles = [x, y, z];
    for (handle, result) in handles.iter().zip(gather_settled(&handles).await) {
        println!("{:9} {}", handle.key(), outcome(result));
    }
}

pub(crate) async fn cancel(engine: &impl Engine) {
    step("Cancel a task: it is dropped at its await, and its dependents are cancelled");
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

pub(crate) async fn retry(engine: &impl Engine, options: TaskOptions) -> Result<(), Error> {
    step("Retry with backoff: while it waits, the task holds no worker and no limit");
    let started = Instant::now();
    let up_at = unix_ms() + 100;
    let backoff = Retry::new(8).backoff(Duration::from_millis(20), Duration::from_millis(200));
    let options = options.retries(backoff);
    let connection = engine.try_submit_with(options, connect, up_at);
    while !matches!(connection.status(), Status::Delayed | Status::Finished) {
        sleep(Duration::from_millis(1)).await;
    }
    println!("after {}: {connection:?}", ms(started.elapsed()));
    let value = connection.await?;
    println!("after {}: {value}", ms(started.elapsed()));
    Ok(())
}

pub(crate) async fn time_out(engine: &impl Engine) {
    step("Give a task a time limit");
    let options = TaskOptions::new().timeout(Duration::from_millis(50));
    println!("{}", outcome(engine.submit_with(options, nap, 3600).await));
}

/// Announces a step.
pub(crate) fn step(title: &str) {
    static NUMBER: AtomicUsize = AtomicUsize::new(1);
    println!("\n{}. {title}", NUMBER.fetch_add(1, Ordering::Relaxed));
}

fn outcome<T: Debug>(result: Result<T, Error>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?}: {error:#}", error.kind()),
    }
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}
