//! Failures of workers, schedulers, networks and disks: real processes, with stock schedulers that validate their state,
//! of each release that `ENSUE_DASK` has an environment of (folders with `bin/dask`, separated by colons).
//!
//! ```text
//! ENSUE_DASK=… cargo test -p ensue-tests-cluster --test failures -- [--repeat N] [--test-threads N] [NAME]
//! ```
//!
//! The program is its own worker: `failures worker tcp://…`.

mod batches;
mod chaos;
mod functions;
mod hosts;
mod killed;
mod local;
mod members;
mod mixed;
mod python;
mod run;
mod scheduler;
mod tls;
mod transfer;
mod verbs;

use std::io::Read;
use std::process::{ExitCode, exit};
use std::thread;

use ensue_examples::worker;
use lexopt::Parser;
use run::Test;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_ref().and_then(|first| first.to_str()) {
        Some("worker") => {
            end_with_the_parent();
            return worker::main(
                "failures worker",
                Parser::from_args(arguments),
                functions::registry(),
            );
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
    run::run(&tests)
}

/// Exits when the tests are killed, which closes the standard input of their children.
fn end_with_the_parent() {
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        exit(9);
    });
}
