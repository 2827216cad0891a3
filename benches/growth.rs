//! The growth of time and memory with the number of tasks, of submitting threads and of workers.
//!
//! ```text
//! cargo bench -p ensue-benches --bench growth
//! cargo bench -p ensue-benches --bench growth -- --most 6
//! ```
//!
//! `--most 6` stops at 10^6 tasks. Each table is markdown. A wrong answer fails the bench. Counting bytes adds a few
//! nanoseconds to each task.

use std::thread;
use std::time::{Duration, Instant};

use ensue::{Client, gather, wait_all};
use ensue_benches::{add, inc, pairs};
use ensue_tests_support::allocator::{self, Counting};
use futures_lite::future::block_on;
use futures_lite::{StreamExt, stream};
use lexopt::ValueExt;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Tasks in flight in a stream.
const IN_FLIGHT: usize = 1000;

/// Tasks of a measurement in which another number grows.
const TASKS: u64 = 200_000;

/// Rounds of a measurement, of which the median counts.
const ROUNDS: usize = 7;

const NUMBERS: [usize; 5] = [1, 2, 4, 8, 16];

/// Returns the number of bytes in use.
fn bytes() -> isize {
    allocator::bytes() as isize
}

fn main() -> Result<(), lexopt::Error> {
    let most = most()?;
    println!("With the number of tasks, {IN_FLIGHT} in flight, 2 workers:\n");
    println!("| tasks | ns a task | most bytes in use | bytes in use afterwards |");
    println!("|--:|--:|--:|--:|");
    for tasks in (3..=most).map(|digits| 10u64.pow(digits)) {
        streamed(tasks);
    }

    println!("\nOf a finished task that is held, with its handle and a `u64` as its result:\n");
    println!("| tasks | bytes a task |\n|--:|--:|");
    for tasks in [1000, 10_000, 100_000] {
        held(tasks);
    }

    println!("\nWith the number of threads that submit, {TASKS} tasks, 2 workers:\n");
    println!("| threads | ns a task |\n|--:|--:|");
    for threads in NUMBERS {
        let client = workers(2);
        let ns = median_ns(|| submitted_by(&client, threads as u64));
        println!("| {threads} | {ns:.0} |");
    }

    println!("\nWith the number of workers, {TASKS} tasks:\n");
    println!("| workers | ns a task, independent | ns a task, a tree |\n|--:|--:|--:|");
    for number in NUMBERS {
        let client = workers(number);
        let independent = median_ns(|| submitted_by(&client, 1));
        let tree = median_ns(|| tree(&client));
        println!("| {number} | {independent:.0} | {tree:.0} |");
    }
    Ok(())
}

/// Reads the command line: the number of zeros of the largest number of tasks.
fn most() -> Result<u32, lexopt::Error> {
    let mut most = 7;
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            lexopt::Arg::Long("most") => most = arguments.value()?.parse()?,
            // From `cargo bench`.
            lexopt::Arg::Long("bench") => {}
            other => return Err(other.unexpected()),
        }
    }
    Ok(most)
}

fn workers(number: usize) -> Client {
    Client::builder().workers(number).build()
}

/// Measures a stream of tasks whose results are dropped as they complete.
fn streamed(tasks: u64) {
    let before = bytes();
    let client = workers(2);
    let mut most = 0;
    let started = Instant::now();
    let sum = block_on(async {
        let mut results = client.map_stream(stream::iter(0..tasks), IN_FLIGHT, inc);
        let (mut sum, mut count) = (0, 0);
        while let Some(x) = results.next().await {
            sum += x.expect("no task fails");
            count += 1;
            if count % 500 == 0 {
                most = most.max(bytes() - before);
            }
        }
        sum
    });
    let took = started.elapsed();
    assert_eq!(sum, sum_to(tasks));
    let late = Instant::now() + Duration::from_secs(10);
    while client.tasks_in_memory() > 0 {
        assert!(Instant::now() < late, "{} tasks are still held", client.tasks_in_memory());
        thread::yield_now();
    }
    let after = bytes() - before;
    println!("| {tasks} | {:.0} | {most} | {after} |", took.as_nanos() as f64 / tasks as f64);
    block_on(client.close());
}

/// Measures the memory of finished tasks, with the vector of their handles.
fn held(tasks: u64) {
    let client = workers(2);
    let before = bytes();
    let handles = client.map(inc, 0..tasks);
    block_on(wait_all(&handles));
    block_on(client.idle());
    let each = (bytes() - before) as f64 / tasks as f64;
    let values = block_on(gather(&handles)).expect("no task fails");
    assert_eq!(values.into_iter().sum::<u64>(), sum_to(tasks));
    println!("| {tasks} | {each:.0} |");
    block_on(client.close());
}

/// Runs independent tasks, each awaited by the thread that has submitted it.
fn submitted_by(client: &Client, threads: u64) {
    let share = TASKS / threads;
    let submit = |first| {
        let handles: Vec<_> = (first..first + share).map(|i| client.submit(inc, i)).collect();
        block_on(async {
            let mut sum = 0;
            for handle in handles {
                sum += handle.await.expect("no task fails");
            }
            sum
        })
    };
    let sum: u64 = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..threads).map(|at| scope.spawn(move || submit(at * share))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it doesn't panic")).sum()
    });
    assert_eq!(sum, sum_to(TASKS));
}

fn tree(client: &Client) {
    let leaves = TASKS.div_ceil(2);
    let mut level = client.map(inc, 0..leaves);
    while level.len() > 1 {
        let (pairs, odd) = pairs(level);
        level = client.map(add, pairs);
        level.extend(odd);
    }
    let root = level.pop().expect("the root");
    assert_eq!(block_on(root).expect("no task fails"), sum_to(leaves));
}

fn sum_to(n: u64) -> u64 {
    n * (n + 1) / 2
}

fn median_ns(mut program: impl FnMut()) -> f64 {
    program();
    let mut each: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            program();
            started.elapsed().as_nanos() as f64 / TASKS as f64
        })
        .collect();
    each.sort_by(f64::total_cmp);
    each[ROUNDS / 2]
}
