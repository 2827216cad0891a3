//! Fork and join: the sum over a balanced binary tree, with a join at each node, beside rayon and chili.
//!
//! ```sh
//! cargo bench --bench fork_join
//! cargo bench --bench fork_join -- --levels 20 --threads 4
//! cargo bench --bench fork_join -- --only ensue --threads 1 --rounds 1    # under a profiler
//! ```
//!
//! The nodes do next to nothing, so this is the cost of the joins: the table has the time of the whole tree divided by the
//! number of its nodes. All sides go through the same tree, in turns; each number is the median of the rounds.
//!
//! One thread goes through the tree in the order in which it's in memory, on each side. In another order the time is that of
//! the memory: from 2^18 nodes on, ten times as much as that of the joins.

use std::time::Instant;

use ensue::Client;
use ensue_benches::threads;
use lexopt::ValueExt;

struct Node {
    value: u64,
    left: Option<Box<Self>>,
    right: Option<Box<Self>>,
}

impl Node {
    /// A tree of 2^levels - 1 nodes. They are in memory in the order in which one thread goes through them.
    fn tree(levels: u32) -> Box<Self> {
        let mut tree = Box::new(Self { value: u64::from(levels), left: None, right: None });
        if levels > 1 {
            tree.left = Some(Self::tree(levels - 1));
            tree.right = Some(Self::tree(levels - 1));
        }
        tree
    }
}

fn sequential(node: &Node) -> u64 {
    let left = node.left.as_deref().map_or(0, sequential);
    let right = node.right.as_deref().map_or(0, sequential);
    node.value + left + right
}

fn with_ensue(node: &Node) -> u64 {
    let (left, right) = ensue::join(
        || node.left.as_deref().map_or(0, with_ensue),
        || node.right.as_deref().map_or(0, with_ensue),
    );
    node.value + left + right
}

fn with_rayon(node: &Node) -> u64 {
    let (left, right) = rayon::join(
        || node.left.as_deref().map_or(0, with_rayon),
        || node.right.as_deref().map_or(0, with_rayon),
    );
    node.value + left + right
}

fn with_chili(scope: &mut chili::Scope<'_>, node: &Node) -> u64 {
    // It runs the second function first.
    let (right, left) = scope.join(
        |scope| node.right.as_deref().map_or(0, |right| with_chili(scope, right)),
        |scope| node.left.as_deref().map_or(0, |left| with_chili(scope, left)),
    );
    node.value + left + right
}

struct Arguments {
    levels: u32,
    threads: usize,
    rounds: usize,
    only: Option<String>,
}

impl Arguments {
    fn read() -> Result<Self, lexopt::Error> {
        let mut read = Self { levels: 24, threads: 2, rounds: 11, only: None };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                lexopt::Arg::Long("levels") => read.levels = arguments.value()?.parse()?,
                lexopt::Arg::Long("threads") => read.threads = arguments.value()?.parse()?,
                lexopt::Arg::Long("rounds") => read.rounds = arguments.value()?.parse()?,
                lexopt::Arg::Long("only") => read.only = Some(arguments.value()?.string()?),
                // From `cargo bench`.
                lexopt::Arg::Long("bench") => {}
                other => return Err(other.unexpected()),
            }
        }
        Ok(read)
    }
}

fn main() -> Result<(), lexopt::Error> {
    let arguments = Arguments::read()?;
    let Arguments { levels, threads, .. } = arguments;
    // For the tasks, which borrow nothing from their submitter.
    let tree: &'static Node = Box::leak(Node::tree(levels));
    let client = Client::builder().workers(threads).build();
    let rayon = threads::rayon(threads);
    let chili = chili::ThreadPool::with_config(chili::Config {
        thread_count: threads.try_into().ok(),
        ..chili::Config::default()
    });
    let sides: [(&str, &dyn Fn() -> u64); 4] = [
        ("sequential", &|| sequential(tree)),
        ("ensue", &|| {
            client.submit(async || with_ensue(tree), ()).result().expect("it doesn't fail")
        }),
        ("chili", &|| with_chili(&mut chili.scope(), tree)),
        ("rayon", &|| rayon.install(|| with_rayon(tree))),
    ];
    let is_wanted = |name: &str| arguments.only.as_ref().is_none_or(|only| only == name);
    let sides: Vec<_> = sides.into_iter().filter(|(name, _)| is_wanted(name)).collect();
    let mut times = vec![Vec::new(); sides.len()];
    for _ in 0..arguments.rounds {
        for ((_, side), times) in sides.iter().zip(&mut times) {
            let started = Instant::now();
            let sum = side();
            times.push(started.elapsed().as_secs_f64() * 1e9);
            assert_eq!(sum, expected(levels));
        }
    }
    let nodes = f64::from(2u32.pow(levels)) - 1.0;
    println!("A tree of {nodes} nodes, {threads} threads.\n");
    println!("| | ns a node | least | of sequential |\n|---|--:|--:|--:|");
    let mut first = None;
    for ((name, _), mut times) in sides.into_iter().zip(times) {
        times.sort_by(f64::total_cmp);
        let (median, least) = (times[times.len() / 2] / nodes, times[0] / nodes);
        let first = *first.get_or_insert(median);
        println!("| {name} | {median:.2} | {least:.2} | {:.2} |", median / first);
    }
    Ok(())
}

/// The sum of the levels of all nodes.
fn expected(levels: u32) -> u64 {
    (1..=levels).map(|level| u64::from(level) << (levels - level)).sum()
}
