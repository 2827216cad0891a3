//! What runs the graphs.

mod barriers;
mod dag;
mod executors;
mod native;
mod ours;

use crate::graph::Graph;
use crate::kernel::{Kernel, Place};

/// Something that runs graphs of tasks.
pub(crate) trait System {
    /// Runs the graphs at once, and returns the sum of the results of their last rows.
    fn run(&mut self, graphs: &[Graph], kernel: Kernel) -> u64;

    /// Whether it can run this graph.
    fn can_run(&self, _graph: &Graph) -> bool {
        true
    }
}

/// Starts a system with this many threads; `None` if this machine doesn't have it.
pub(crate) type Start = fn(usize) -> Option<Box<dyn System>>;

/// The systems, by name.
pub(crate) const SYSTEMS: [(&str, Start); 8] = [
    ("ensue", |threads| Some(Box::new(ours::Ours::new(threads)))),
    ("tokio and `Shared`", |threads| Some(Box::new(executors::Tokio::new(threads)))),
    ("async-executor and `Shared`", |threads| {
        Some(Box::new(executors::AsyncExecutor::new(threads)))
    }),
    ("dagx", |threads| Some(Box::new(dag::Dagx::new(threads)))),
    ("rayon, a barrier a step", |threads| Some(Box::new(barriers::Rayon::new(threads)))),
    ("chili, a barrier a step", |threads| Some(Box::new(barriers::Chili::new(threads)))),
    ("OpenMP", |threads| Some(Box::new(native::open_mp(threads)?))),
    ("oneTBB", |threads| Some(Box::new(native::tbb(threads)?))),
];

/// Runs the graphs one task after the other: the right answer.
pub(crate) fn in_sequence(graphs: &[Graph], kernel: Kernel) -> u64 {
    let last_row = |graph: &Graph| {
        let mut results: Vec<u64> = Vec::new();
        for (step, row) in graph.rows().iter().enumerate() {
            let result = |(column, inputs): (usize, &Vec<usize>)| {
                kernel.run(Place { step, column }, inputs.iter().map(|&input| results[input]))
            };
            results = row.iter().enumerate().map(result).collect();
        }
        results
    };
    graphs.iter().flat_map(last_row).fold(0, u64::wrapping_add)
}
