//! The fuzz targets as functions: scripts of operations on a seeded client, compared with a naive model.
//!
//! A target decodes the fuzzer's bytes into a [`script`]. A [`program`] executes its operations one by one, from
//! outside and in the [`body`] of each task, and reports them to the [`model`]. After each step, the client's
//! observable state is compared with the model's. A failing run prints the script with its seed and a trace;
//! `FUZZ_TRACE=1` prints the trace while it runs, which shows where a run hangs.
//!
//! `README.md` shows how to run a target, and how to replay the corpus without a fuzzer.

mod body;
mod clients;
mod clients_record;
mod combine;
mod coverage;
mod current;
mod events;
mod inputs;
mod instrumented;
mod model;
mod model_attempts;
mod model_inspection;
mod model_outcomes;
mod model_scheduling;
mod model_several;
mod ops;
mod pending_await;
mod program;
mod run_state;
mod script;
mod several;
mod stream;
mod submit;
mod tally;
mod threads;
mod threads_body;
mod threads_plan;
mod threads_record;
mod tracked;
#[cfg(feature = "dask")]
mod value_codec;
#[cfg(feature = "dask")]
mod wire;

pub use coverage::{count_coverage, coverage};

use std::panic;
use std::rc::Rc;
use std::sync::Once;

use script::{Profile, Script};

/// Fuzzes tasks of all kinds, submitted from inside and outside of tasks.
pub fn schedule(data: &[u8]) {
    run(data, Profile::Schedule);
}

/// Fuzzes the same operations with more of `as_completed`.
pub fn as_completed(data: &[u8]) {
    run(data, Profile::Streams);
}

/// Fuzzes the same operations with more shared keys.
pub fn keys(data: &[u8]) {
    run(data, Profile::Keys);
}

/// Fuzzes the same operations with a panic in any poll, drop, clone, callback, predicate or waker.
pub fn panics(data: &[u8]) {
    run(data, Profile::Panics);
}

/// Fuzzes tasks that await several things at once, forgotten futures, and calls from hooks.
pub fn several(data: &[u8]) {
    run(data, Profile::Several);
}

/// Fuzzes the same operations on a client without a seed, with one worker.
pub fn unseeded(data: &[u8]) {
    run(data, Profile::Unseeded);
}

/// Fuzzes containers of handles as inputs.
pub fn inputs(data: &[u8]) {
    print_script_of_panics();
    inputs::run(data);
}

/// Fuzzes two clients that take each other's values.
pub fn clients(data: &[u8]) {
    print_script_of_panics();
    clients::run(data);
}

/// Fuzzes clients with several threads.
pub fn threads(data: &[u8]) {
    threads::run(data);
}

/// Fuzzes bytes from a Dask cluster.
#[cfg(feature = "dask")]
pub fn wire(data: &[u8]) {
    wire::run(data);
}

/// Fuzzes values and arguments from other machines.
#[cfg(feature = "dask")]
pub fn values(data: &[u8]) {
    value_codec::run(data);
}

fn run(data: &[u8], profile: Profile) {
    print_script_of_panics();
    let Ok(script) = Script::decode(data, profile) else { return };
    let script = Rc::new(script);
    let (failure, _) = program::run(&script, false);
    if let Some(failure) = failure {
        let (again, trace) = program::run(&script, true);
        run_state::leave();
        panic!("{failure}\nagain: {again:?}\n{script:#?}\ntrace:\n{}\n{failure}", trace.join("\n"));
    }
}

/// Prints the script with panics that the model didn't raise, such as one in the engine.
fn print_script_of_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if let Some(script) = run_state::script() {
                eprintln!("panic in the run of {script}");
            }
            before(info);
        }));
    });
}
