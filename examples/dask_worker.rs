//! A worker to start on other machines. It's one binary: copy it there and run it.
//!
//! ```text
//! cargo build --release --features dask --example dask_worker
//! target/release/examples/dask_worker tcp://10.0.0.1:8786 --threads 8 --memory-limit 16GB
//! ```
//!
//! It serves the functions of `src/functions.rs`. A program of your own has its own functions, and is its own worker: the
//! client and the workers are best the same binary.

use std::process::ExitCode;

use ensue_examples::{functions, worker};

fn main() -> ExitCode {
    worker::main("dask_worker", lexopt::Parser::from_env(), functions::registry())
}
