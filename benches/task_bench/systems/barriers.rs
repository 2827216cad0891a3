//! With libraries of parallel loops: each step is a loop over its tasks, and ends before the next begins.

use std::num::NonZero;

use ensue_benches::threads;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use super::System;
use crate::graph::Graph;
use crate::kernel::{Kernel, Place};

pub(crate) struct Rayon(rayon::ThreadPool);

impl Rayon {
    pub(crate) fn new(threads: usize) -> Self {
        Self(threads::rayon(threads))
    }
}

impl System for Rayon {
    fn run(&mut self, graphs: &[Graph], kernel: Kernel) -> u64 {
        self.0.install(|| {
            let last: Vec<_> = graphs.par_iter().map(|graph| rayon_graph(graph, kernel)).collect();
            last.into_iter().fold(0, u64::wrapping_add)
        })
    }
}

fn rayon_graph(graph: &Graph, kernel: Kernel) -> u64 {
    let mut results: Vec<u64> = Vec::new();
    let mut next: Vec<u64> = Vec::new();
    for (step, row) in graph.rows().iter().enumerate() {
        let result = |(column, inputs): (usize, &Vec<usize>)| {
            kernel.run(Place { step, column }, inputs.iter().map(|&input| results[input]))
        };
        row.par_iter().enumerate().with_max_len(1).map(result).collect_into_vec(&mut next);
        std::mem::swap(&mut results, &mut next);
    }
    results.into_iter().fold(0, u64::wrapping_add)
}

pub(crate) struct Chili(chili::ThreadPool);

impl Chili {
    pub(crate) fn new(threads: usize) -> Self {
        let thread_count = NonZero::new(threads);
        let config = chili::Config { thread_count, ..chili::Config::default() };
        Self(chili::ThreadPool::with_config(config))
    }
}

impl System for Chili {
    fn run(&mut self, graphs: &[Graph], kernel: Kernel) -> u64 {
        let mut last = vec![0; graphs.len()];
        let graph =
            |scope: &mut chili::Scope<'_>, at: usize| chili_graph(scope, &graphs[at], kernel);
        each(&mut self.0.scope(), 0, &mut last, &graph);
        last.into_iter().fold(0, u64::wrapping_add)
    }
}

fn chili_graph(scope: &mut chili::Scope<'_>, graph: &Graph, kernel: Kernel) -> u64 {
    let mut results: Vec<u64> = Vec::new();
    for (step, row) in graph.rows().iter().enumerate() {
        let mut next = vec![0; row.len()];
        let result = |_: &mut chili::Scope<'_>, column: usize| {
            kernel.run(Place { step, column }, row[column].iter().map(|&input| results[input]))
        };
        each(scope, 0, &mut next, &result);
        results = next;
    }
    results.into_iter().fold(0, u64::wrapping_add)
}

/// Computes a slice whose first element has the index `from`, halves of it at once.
fn each<F>(scope: &mut chili::Scope<'_>, from: usize, to: &mut [u64], compute: &F)
where
    F: Fn(&mut chili::Scope<'_>, usize) -> u64 + Sync,
{
    match to {
        [] => {}
        [one] => *one = compute(scope, from),
        more => {
            let middle = more.len() / 2;
            let (first, second) = more.split_at_mut(middle);
            scope.join(
                |scope| each(scope, from, first, compute),
                |scope| each(scope, from + middle, second, compute),
            );
        }
    }
}
