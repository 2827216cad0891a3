//! A worker for other machines. It's a single binary: copy it to a machine and run it.
//!
//! ```text
//! cargo build --release --features dask --example dask_worker
//! target/release/examples/dask_worker tcp://10.0.0.1:8786 --threads 8 --memory-limit 16GB
//! ```
//!
//! It runs the functions of `src/functions.rs`. Your own program has its own functions, and needs a worker of its own: the
//! client and the workers should be the same binary.

use std::process::ExitCode;

use ensue_examples::{functions, worker};

fn main() -> ExitCode {
    worker::main("dask_worker", lexopt::Parser::from_env(), functions::registry())
}
