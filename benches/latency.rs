//! The time from the submission of a task to its start under load, beside tokio.
//!
//! ```text
//! cargo bench -p ensue-benches --bench latency
//! ```
//!
//! Each task records when it starts, and then computes a while. The two sides take turns; each number is the median over
//! the rounds.

use std::thread;
use std::time::{Duration, Instant};

use ensue::Client;
use ensue_benches::threads;
use futures_lite::future::block_on;
use tokio::runtime::Runtime;

const WORKERS: usize = 2;
const ROUNDS: usize = 5;

/// A load: tasks that are submitted in ticks.
struct Shape {
    name: &'static str,
    ticks: u32,
    tick: Duration,
    /// Tasks of each tick.
    tasks: usize,
    /// The time that each task computes.
    work: Duration,
}

const SHAPES: [Shape; 3] = [
    Shape {
        name: "one every 100 µs, of 20 µs: 10 % load",
        ticks: 10_000,
        tick: Duration::from_micros(100),
        tasks: 1,
        work: Duration::from_micros(20),
    },
    Shape {
        name: "30 every ms, of 20 µs: 30 % load",
        ticks: 1000,
        tick: Duration::from_millis(1),
        tasks: 30,
        work: Duration::from_micros(20),
    },
    Shape {
        name: "a burst of 20,000, of 1 µs",
        ticks: 1,
        tick: Duration::ZERO,
        tasks: 20_000,
        work: Duration::from_micros(1),
    },
];

fn main() {
    println!("From submission to start, in µs:\n");
    println!("| tasks | | median | p99 | p99.9 |\n|---|---|--:|--:|--:|");
    for shape in &SHAPES {
        let client = Client::builder().workers(WORKERS).build();
        let runtime = threads::tokio(WORKERS);
        let (mut ours, mut tokios) = (Vec::new(), Vec::new());
        run_ours(&client, shape);
        run_tokio(&runtime, shape);
        for _ in 0..ROUNDS {
            ours.push(quantiles(run_ours(&client, shape)));
            tokios.push(quantiles(run_tokio(&runtime, shape)));
        }
        print(shape, "ensue", ours);
        print(shape, "tokio", tokios);
    }
}

fn run_ours(client: &Client, shape: &Shape) -> Vec<Duration> {
    let handles = submit(shape, |work| client.submit(start, (Instant::now(), work)));
    block_on(async {
        let mut waits = Vec::with_capacity(handles.len());
        for handle in handles {
            waits.push(handle.await.expect("no task fails"));
        }
        waits
    })
}

fn run_tokio(runtime: &Runtime, shape: &Shape) -> Vec<Duration> {
    let handles = submit(shape, |work| runtime.spawn(start(Instant::now(), work)));
    block_on(async {
        let mut waits = Vec::with_capacity(handles.len());
        for handle in handles {
            waits.push(handle.await.expect("no task fails"));
        }
        waits
    })
}

fn submit<H>(shape: &Shape, one: impl Fn(Duration) -> H) -> Vec<H> {
    let mut handles = Vec::with_capacity(shape.ticks as usize * shape.tasks);
    let started = Instant::now();
    for tick in 0..shape.ticks {
        thread::sleep((started + shape.tick * tick).saturating_duration_since(Instant::now()));
        handles.extend((0..shape.tasks).map(|_| one(shape.work)));
    }
    handles
}

/// The task. Returns the time since its submission, and computes a while.
async fn start(submitted: Instant, work: Duration) -> Duration {
    let started = Instant::now();
    while started.elapsed() < work {
        std::hint::spin_loop();
    }
    started - submitted
}

/// Returns the median, the 99th and the 99.9th percentile, in microseconds.
fn quantiles(mut waits: Vec<Duration>) -> [f64; 3] {
    waits.sort();
    let last = (waits.len() - 1) as f64;
    [0.5, 0.99, 0.999].map(|part| waits[(last * part) as usize].as_secs_f64() * 1e6)
}

fn print(shape: &Shape, side: &str, rounds: Vec<[f64; 3]>) {
    let [median, p99, p999] = [0, 1, 2].map(|which| {
        let mut each: Vec<_> = rounds.iter().map(|quantiles| quantiles[which]).collect();
        each.sort_by(f64::total_cmp);
        each[ROUNDS / 2]
    });
    println!("| {} | {side} | {median:.1} | {p99:.1} | {p999:.1} |", shape.name);
}
