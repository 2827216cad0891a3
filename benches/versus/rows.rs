//! The rows: programs, their peers, and the bounds of their cost.

use std::sync::Arc;

use async_executor::Executor;
use ensue::{Client, Error};

use crate::{others, ours, peers};
use ensue_benches::answers;
use ensue_benches::threads::{self, Pool};

/// Workers of each side.
pub(crate) const WORKERS: usize = 2;

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) peer: &'static str,
    /// The largest accepted quotient of our time and the peer's.
    pub(crate) bound: Option<f64>,
    /// The numbers of tasks of its measurements.
    pub(crate) sizes: &'static [u64],
    /// Returns the right answer for a number of tasks.
    pub(crate) answer: fn(u64) -> u64,
    pub(crate) ours: Start,
    pub(crate) theirs: Start,
}

/// Makes the engine of a side, for all rounds of a process.
pub(crate) type Start = Box<dyn Fn() -> Side>;

/// Runs the program with a number of tasks.
pub(crate) type Side = Box<dyn FnMut(u64) -> u64>;

/// Returns all rows, those with a bound first.
pub(crate) fn all() -> Vec<Row> {
    let spawn = "async-executor `spawn`";
    vec![
        row("independent", answers::independent, ours::independent)
            .beside(spawn, executor(peers::independent))
            .within(0.5),
        row("independent, inside a task", answers::independent, ours::inside)
            .beside("async-executor `spawn` inside a task", executor(peers::inside))
            .within(0.4),
        row("notebook", answers::notebook, ours::notebook)
            .beside("async-executor and `Shared`", executor(peers::notebook))
            .within(0.3),
        row("tree", answers::tree, ours::tree).beside(spawn, executor(peers::tree)).within(0.35),
        row("chain", answers::chain, ours::chain).beside(spawn, executor(peers::chain)).within(0.3),
        row("fan-out and fan-in", answers::fan, ours::fan)
            .beside("async-executor and `Shared`", executor(peers::fan))
            .within(0.5),
        row("as_completed", answers::tree, ours::arriving)
            .beside("async-executor and `FuturesUnordered`", executor(peers::arriving))
            .within(0.3),
        row("keyed, ten a key", answers::keyed, ours::keyed)
            .beside("async-executor and moka `get_with`", executor(peers::keyed))
            .within(0.1),
        row("four threads", answers::four_threads, ours::four_threads)
            .beside(spawn, executor(peers::four_threads))
            .within(0.5),
        row("round trip", answers::chain, ours::round_trips)
            .beside("tokio `spawn`", on(|| threads::tokio(WORKERS), others::round_trips))
            .within(1.0)
            .sizes(&[2_000, 20_000]),
        row("independent", answers::independent, ours::independent)
            .beside("rayon `spawn`", on(|| threads::rayon(WORKERS), others::rayon_spawn)),
        row("independent, inside a task", answers::independent, ours::inside).beside(
            "rayon `spawn` inside the pool",
            on(|| threads::rayon(WORKERS), others::rayon_spawn_inside),
        ),
        row("tree", answers::tree, ours::tree)
            .beside("rayon `join`", on(|| threads::rayon(WORKERS), others::rayon_join)),
        row("independent", answers::independent, ours::independent)
            .beside("tokio `spawn`", on(|| threads::tokio(WORKERS), others::tokio_spawn)),
        row("independent", answers::independent, ours::independent)
            .beside("tokio `JoinSet`", on(|| threads::tokio(WORKERS), others::join_set)),
        row("independent", answers::independent, ours::independent).beside(
            "async-executor `StaticExecutor`",
            on(others::static_executor, others::static_spawn),
        ),
        row("independent, `map`", answers::independent, ours::mapped)
            .beside("async-executor `spawn_many`", executor(peers::spawn_many)),
        row("as_completed", answers::tree, ours::arriving)
            .beside("async-executor and futures-buffered", executor(others::buffered)),
        row("tree", answers::tree, ours::tree)
            .beside("dagx on async-executor", executor(others::dagx_tree)),
        row("independent, `map`", answers::independent, ours::mapped)
            .beside("our own `submit`, one by one", on(client, with_client(ours::independent))),
        row("independent, `gather`", answers::independent, ours::gathered)
            .beside("our own handles, one by one", on(client, with_client(ours::independent))),
    ]
}

fn row(
    name: &'static str,
    answer: fn(u64) -> u64,
    program: fn(&Client, u64) -> Result<u64, Error>,
) -> Row {
    let ours = on(client, with_client(program));
    let theirs: Start = Box::new(|| unreachable!("every row has a peer"));
    Row { name, peer: "", bound: None, sizes: &[200_000], answer, ours, theirs }
}

impl Row {
    fn beside(self, peer: &'static str, theirs: Start) -> Self {
        Self { peer, theirs, ..self }
    }

    fn within(self, bound: f64) -> Self {
        Self { bound: Some(bound), sizes: &[20_000, 200_000], ..self }
    }

    fn sizes(self, sizes: &'static [u64]) -> Self {
        Self { sizes, ..self }
    }
}

fn client() -> Client {
    Client::builder().workers(WORKERS).build()
}

fn with_client(
    program: fn(&Client, u64) -> Result<u64, Error>,
) -> impl Fn(&Client, u64) -> u64 + Copy + 'static {
    move |client, n| program(client, n).expect("no task fails")
}

fn executor(program: fn(&Arc<Executor<'static>>, u64) -> u64) -> Start {
    on(|| Pool::new(WORKERS), move |pool: &Pool, n| program(&pool.executor, n))
}

/// A program on an engine.
fn on<T: 'static>(start: fn() -> T, program: impl Fn(&T, u64) -> u64 + Copy + 'static) -> Start {
    Box::new(move || {
        let runs = start();
        Box::new(move |n| program(&runs, n))
    })
}
