//! With dagx, which runs graphs that are complete before they start, of tasks with at most eight inputs.

use dagx::{DagRunner, Task, TaskHandle, task};
use ensue_benches::threads;
use futures_lite::future::block_on;
use tokio::runtime::Runtime;

use super::System;
use crate::graph::Graph;
use crate::kernel::{Kernel, Place};

pub(crate) struct Dagx(Runtime);

impl Dagx {
    pub(crate) fn new(threads: usize) -> Self {
        Self(threads::tokio(threads))
    }
}

impl System for Dagx {
    fn run(&mut self, graphs: &[Graph], kernel: Kernel) -> u64 {
        let dag = DagRunner::new();
        let last: Vec<_> = graphs.iter().flat_map(|graph| add(&dag, graph, kernel)).collect();
        let spawn = |future| {
            self.0.spawn(future);
        };
        block_on(dag.run(spawn)).expect("it doesn't panic");
        let result = |task| dag.get(task).expect("it has run");
        last.into_iter().map(result).fold(0, u64::wrapping_add)
    }

    fn can_run(&self, graph: &Graph) -> bool {
        graph.most_inputs() <= 5
    }
}

fn add(dag: &DagRunner, graph: &Graph, kernel: Kernel) -> Vec<TaskHandle<u64>> {
    let mut tasks: Vec<TaskHandle<u64>> = Vec::new();
    for (step, row) in graph.rows().iter().enumerate() {
        let add = |(column, inputs): (usize, &Vec<usize>)| {
            let place = Place { step, column };
            let inputs: Vec<_> = inputs.iter().map(|&input| &tasks[input]).collect();
            match *inputs.as_slice() {
                [] => (&dag.add_task(NoInput(kernel, place))).into(),
                [a] => dag.add_task(One(kernel, place)).depends_on(a),
                [a, b] => dag.add_task(Two(kernel, place)).depends_on((a, b)),
                [a, b, c] => dag.add_task(Three(kernel, place)).depends_on((a, b, c)),
                [a, b, c, d] => dag.add_task(Four(kernel, place)).depends_on((a, b, c, d)),
                [a, b, c, d, e] => dag.add_task(Five(kernel, place)).depends_on((a, b, c, d, e)),
                _ => unreachable!("`can_run` refuses more inputs"),
            }
        };
        tasks = row.iter().enumerate().map(add).collect();
    }
    tasks
}

struct NoInput(Kernel, Place);

#[task]
impl NoInput {
    async fn run(&self) -> u64 {
        self.0.run(self.1, [])
    }
}

struct One(Kernel, Place);

#[task]
impl One {
    async fn run(&self, a: &u64) -> u64 {
        self.0.run(self.1, [*a])
    }
}

struct Two(Kernel, Place);

#[task]
impl Two {
    async fn run(&self, a: &u64, b: &u64) -> u64 {
        self.0.run(self.1, [*a, *b])
    }
}

struct Three(Kernel, Place);

#[task]
impl Three {
    async fn run(&self, a: &u64, b: &u64, c: &u64) -> u64 {
        self.0.run(self.1, [*a, *b, *c])
    }
}

struct Four(Kernel, Place);

#[task]
impl Four {
    async fn run(&self, a: &u64, b: &u64, c: &u64, d: &u64) -> u64 {
        self.0.run(self.1, [*a, *b, *c, *d])
    }
}

struct Five(Kernel, Place);

#[task]
impl Five {
    async fn run(&self, a: &u64, b: &u64, c: &u64, d: &u64, e: &u64) -> u64 {
        self.0.run(self.1, [*a, *b, *c, *d, *e])
    }
}
