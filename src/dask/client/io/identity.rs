//! The workers in a scheduler's identity.

use std::sync::Arc;

use crate::dask::RUST;
use crate::dask::wire::value::{Map, Value};

/// Returns the workers in an identity that have the resource of the Rust workers.
pub(crate) fn rust_workers(identity: &Map) -> impl Iterator<Item = &Map> {
    let workers = identity.get("workers").and_then(Value::as_map);
    let workers = workers.into_iter().flat_map(|workers| &workers.0);
    workers.filter_map(|(_, worker)| worker.as_map()).filter(|worker| is_rust_worker(worker))
}

fn is_rust_worker(worker: &Map) -> bool {
    let resources = worker.get("resources").and_then(Value::as_map);
    resources.is_some_and(|resources| resources.get(RUST).is_some())
}

/// Returns the addresses of the Python workers in an identity that accept tasks, sorted.
pub(crate) fn python_workers(identity: &Map) -> Vec<Arc<str>> {
    let workers = identity.get("workers").and_then(Value::as_map);
    let workers = workers.into_iter().flat_map(Map::named);
    // A task that names only closing workers would wait for ever.
    let accepts_tasks = |worker: &Map| {
        !matches!(worker.text("status"), Some("closing_gracefully" | "closing" | "closed"))
    };
    let fits = |worker: &Map| !is_rust_worker(worker) && accepts_tasks(worker);
    let fitting = workers.filter(|(_, worker)| worker.as_map().is_some_and(fits));
    let mut addresses: Vec<Arc<str>> = fitting.map(|(address, _)| address.into()).collect();
    // So that two sets of the same workers are equal.
    addresses.sort_unstable();
    addresses
}
