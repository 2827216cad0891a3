//! With executors: a task awaits the `Shared` tasks that it takes its inputs from.

use ensue_benches::threads::{self, Pool};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use futures_lite::future::block_on;
use tokio::runtime::Runtime;

use super::System;
use crate::graph::Graph;
use crate::kernel::{Kernel, Place};

type Task = Shared<BoxFuture<'static, u64>>;

pub(crate) struct Tokio(Runtime);

impl Tokio {
    pub(crate) fn new(threads: usize) -> Self {
        Self(threads::tokio(threads))
    }
}

impl System for Tokio {
    fn run(&mut self, graphs: &[Graph], kernel: Kernel) -> u64 {
        run(graphs, kernel, |task| {
            let task = self.0.spawn(task);
            async { task.await.expect("it doesn't panic") }.boxed().shared()
        })
    }
}

pub(crate) struct AsyncExecutor(Pool);

impl AsyncExecutor {
    pub(crate) fn new(threads: usize) -> Self {
        Self(Pool::new(threads))
    }
}

impl System for AsyncExecutor {
    fn run(&mut self, graphs: &[Graph], kernel: Kernel) -> u64 {
        run(graphs, kernel, |task| self.0.executor.spawn(task).boxed().shared())
    }
}

fn run(graphs: &[Graph], kernel: Kernel, spawn: impl Fn(BoxFuture<'static, u64>) -> Task) -> u64 {
    let mut last = Vec::new();
    for graph in graphs {
        let mut tasks: Vec<Task> = Vec::new();
        for (step, row) in graph.rows().iter().enumerate() {
            let start = |(column, inputs): (usize, &Vec<usize>)| {
                let inputs: Vec<_> = inputs.iter().map(|&input| tasks[input].clone()).collect();
                spawn(Box::pin(task(inputs, kernel, Place { step, column })))
            };
            tasks = row.iter().enumerate().map(start).collect();
        }
        last.extend(tasks);
    }
    block_on(async {
        let mut sum = 0u64;
        for task in last {
            sum = sum.wrapping_add(task.await);
        }
        sum
    })
}

async fn task(inputs: Vec<Task>, kernel: Kernel, place: Place) -> u64 {
    let mut results = Vec::with_capacity(inputs.len());
    for input in inputs {
        results.push(input.await);
    }
    kernel.run(place, results)
}
