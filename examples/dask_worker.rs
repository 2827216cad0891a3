//! A worker for other machines. It's a single binary: copy it to a machine and run it.
//!
//! ```text
//! cargo build --release --features dask --example dask_worker
//! target/release/examples/dask_worker tcp://10.0.0.1:8786 --threads 8 --memory-limit 16GB
//! ```
//!
//! It runs the functions of `support/functions.rs`. Your own program has its own functions, and needs a worker of its own:
//! the client and the workers should be the same binary.

#[path = "support/functions.rs"]
mod functions;
#[cfg(test)]
#[path = "support/worker_tests.rs"]
mod tests;
#[path = "support/worker.rs"]
mod worker;

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    worker::main("dask_worker", arguments, functions::registry())
}
