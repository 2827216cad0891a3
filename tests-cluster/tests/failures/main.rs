//! What happens to a cluster when its parts fail: real processes, stock schedulers that check themselves, of each
//! release that `ENSUE_DASK` has an environment of (folders with `bin/dask`, separated by colons).
//!
//! ```text
//! ENSUE_DASK=… cargo test --features dask --test dask_failures -- [--repeat N] [--jobs N] [NAME...]
//! ```
//!
//! The program is its own worker: `dask_failures worker tcp://…`.

#[path = "../dask/comm.rs"]
mod comm;
mod functions;
mod harness;
#[path = "../../examples/support/worker.rs"]
mod worker;

mod batches;
mod chaos;
mod hosts;
mod killed;
mod local;
mod members;
mod mixed;
mod python;
mod scheduler;
mod tls;
mod transfer;
mod verbs;

use std::io::Read;
use std::process::{ExitCode, exit};
use std::thread;

use harness::Test;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("worker") => {
            end_with_the_parent();
            return worker::main("dask_failures worker", arguments, functions::registry());
        }
        Some("local-cluster") => {
            end_with_the_parent();
            return local::main(arguments.next().unwrap_or_default().as_ref());
        }
        _ => {}
    }
    let tests: Vec<Test> = [
        killed::TESTS,
        batches::TESTS,
        scheduler::TESTS,
        transfer::TESTS,
        verbs::TESTS,
        members::TESTS,
        tls::TESTS,
        hosts::TESTS,
        python::TESTS,
        mixed::TESTS,
        local::TESTS,
        chaos::TESTS,
    ]
    .concat();
    harness::run::run(&tests)
}

/// No worker is left when the tests are killed: its input ends then.
fn end_with_the_parent() {
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        exit(9);
    });
}
