//! Models of the protocols between the engine's threads: see `README.md`.

// The engine is part of a library, and the models use a fraction of its items.
#![allow(dead_code)]

extern crate self as crossbeam_deque;

mod deque;
mod engine;
mod memory;
mod models;
mod sync;
#[path = "../../src/task"]
mod task {
    pub(crate) mod error;
    pub(crate) mod key;
    pub(crate) mod panic_place;
    pub(crate) mod seal;
    pub(crate) mod status;
    pub(crate) mod subject;
    pub(crate) mod thread_wait;
}

pub use deque::{Steal, Stealer, Worker};
pub use task::error::{Error, ErrorKind};
pub use task::key::Key;
pub use task::status::Status;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    models::run(&wanted);
}
