//! Models of what happens between the engine's threads: see `README.md`.

// The engine is made for a library, most of which isn't here.
#![allow(dead_code)]

extern crate self as crossbeam_deque;

mod deque;
mod engine;
#[path = "../../src/task/error.rs"]
mod error;
#[path = "../../src/task/key.rs"]
mod key;
mod models;
#[path = "../../src/task/status.rs"]
mod status;
mod sync;

pub use deque::{Steal, Stealer, Worker};
pub use error::{Error, ErrorKind};
pub use key::Key;
pub use status::Status;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    models::run(&wanted);
}
