//! A task as the client submits it, until it's in a graph.

use std::sync::Arc;

use crate::dask::wire::graph::{Annotations, Call, Graph};

/// Addresses of workers, sorted.
pub(crate) type WorkerAddresses = Arc<[Arc<str>]>;

/// A task to submit.
#[derive(Clone, Debug)]
pub(crate) struct TaskSpec {
    pub(crate) key: Arc<str>,
    pub(crate) call: Call,
    /// Shared, since all tasks of a `map` have the same.
    pub(crate) annotations: Arc<Annotations>,
    /// Whether the task gets a graph of its own, so that no other task fails if the scheduler refuses it.
    pub(crate) is_alone: bool,
}

impl TaskSpec {
    /// Returns the keys of the tasks whose results it takes.
    pub(crate) fn inputs(&self) -> Vec<&Arc<str>> {
        self.call.inputs()
    }

    /// Estimates how many bytes it takes in a message.
    pub(crate) fn estimated_bytes(&self) -> usize {
        2 * self.key.len() + self.call.estimated_bytes()
    }

    /// Returns whether both tasks may be in one graph.
    ///
    /// The scheduler imports Python functions while it reads a graph. If one of them doesn't exist, all tasks of the
    /// graph fail, so different Python functions need different graphs.
    pub(crate) fn fits_in_graph_with(&self, other: &Self) -> bool {
        match (&self.call, &other.call) {
            // It was refused twice with others, and a third refusal has to name it alone.
            _ if self.is_alone || other.is_alone => false,
            (Call::Rust { .. }, Call::Rust { .. }) => true,
            (
                Call::Python { module, name, .. },
                Call::Python { module: other_module, name: other_name, .. },
            ) => (module, name) == (other_module, other_name),
            _ => false,
        }
    }

    /// Returns whether any Python worker may run it. A task with workers or resources of its own is placed by those.
    pub(crate) fn is_for_any_python_worker(&self) -> bool {
        let Annotations { workers, resources, .. } = &*self.annotations;
        matches!(self.call, Call::Python { .. }) && workers.is_empty() && resources.is_empty()
    }

    /// Adds the task to a graph. One for any Python worker names all of `python_workers`.
    pub(crate) fn add_to(&self, graph: &mut Graph, python_workers: &WorkerAddresses) {
        if self.is_for_any_python_worker() {
            // Only now: the workers may have changed since the task was submitted.
            let annotations = Annotations {
                workers: python_workers.clone(),
                // The scheduler would give it to a Rust worker.
                allow_other_workers: false,
                ..(*self.annotations).clone()
            };
            graph.add(&self.key, &self.call, &annotations);
        } else {
            graph.add(&self.key, &self.call, &self.annotations);
        }
    }
}
