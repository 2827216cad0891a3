//! Workers: futures that take tasks from the queues and run them, and the threads that poll the client's own.

mod run;
pub(crate) mod threads;
mod worker_future;

pub(crate) use worker_future::{Drive, WorkerFuture, drive_seeded};
