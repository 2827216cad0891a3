//! With a client: the handles of a row are the inputs of the next one's tasks.

use ensue::{Client, Handle, gather};
use futures_lite::future::block_on;

use super::System;
use crate::graph::Graph;
use crate::kernel::{Kernel, Place};

pub(crate) struct Ours(Client);

impl Ours {
    pub(crate) fn new(threads: usize) -> Self {
        Self(Client::builder().workers(threads).build())
    }

    fn submit(&self, graph: &Graph, kernel: Kernel) -> Vec<Handle<u64>> {
        let mut handles: Vec<Handle<u64>> = Vec::new();
        for (step, row) in graph.rows().iter().enumerate() {
            let submit = |(column, inputs): (usize, &Vec<usize>)| {
                let place = Place { step, column };
                let inputs: Vec<_> = inputs.iter().map(|&input| handles[input].clone()).collect();
                self.0.submit(async move |inputs: Vec<u64>| kernel.run(place, inputs), inputs)
            };
            handles = row.iter().enumerate().map(submit).collect();
        }
        handles
    }
}

impl System for Ours {
    fn run(&mut self, graphs: &[Graph], kernel: Kernel) -> u64 {
        let last: Vec<_> = graphs.iter().flat_map(|graph| self.submit(graph, kernel)).collect();
        let results = block_on(gather(last)).expect("no task fails");
        results.into_iter().fold(0, u64::wrapping_add)
    }
}
