//! What the fuzz targets run: scripts of operations on a seeded client, held against a naive model.
//!
//! A target decodes the fuzzer's bytes into a [`script`], of which a [`program`] runs the operations one by
//! one, from outside and in the [`body`] of each task. All of them are told to the [`model`], which says what
//! should happen; what is looked at after each step is checked against it. A run that fails prints the
//! script with its seed, and what happened step by step; one that hangs does with `FUZZ_TRACE=1`.
//!
//! `cargo +nightly fuzz run schedule FOUND fuzz/corpus/schedule -- -entropic=0 -max_len=1024` runs a target and
//! puts new inputs into the folder FOUND. Weighing inputs by their rare features, which `-entropic=0` turns off,
//! takes libFuzzer longer than the runs do, there are so many features. A dictionary is of no use, since a script
//! has no words. The library needs neither nightly nor a fuzzer: `tests/corpus.rs` runs the corpus without them, with
//! `cargo test --release --manifest-path fuzz/Cargo.toml --no-default-features --features dask`.

mod body;
mod clients;
mod clients_record;
mod events;
mod inputs;
mod instrumented;
mod model;
mod model_attempts;
mod model_inspection;
mod model_outcomes;
mod model_scheduling;
mod ops;
mod pending_await;
mod program;
mod run_state;
mod script;
mod stream;
mod submit;
mod tracked;
#[cfg(feature = "dask")]
mod value_codec;
#[cfg(feature = "dask")]
mod wire;

use std::panic;
use std::rc::Rc;
use std::sync::Once;

use script::{Profile, Script};

/// Tasks of all kinds, from inside and outside.
pub fn schedule(data: &[u8]) {
    run(data, Profile::Schedule);
}

/// The same with more of `as_completed`.
pub fn as_completed(data: &[u8]) {
    run(data, Profile::Streams);
}

/// The same with more keys.
pub fn keys(data: &[u8]) {
    run(data, Profile::Keys);
}

/// The same with a panic at any poll, drop, clone, callback, predicate, hook or waker.
pub fn panics(data: &[u8]) {
    run(data, Profile::Panics);
}

/// Containers of handles as inputs.
pub fn inputs(data: &[u8]) {
    print_script_of_panics();
    inputs::run(data);
}

/// Two clients that take each other's values.
pub fn clients(data: &[u8]) {
    print_script_of_panics();
    clients::run(data);
}

/// What comes from a Dask cluster.
#[cfg(feature = "dask")]
pub fn wire(data: &[u8]) {
    wire::run(data);
}

/// Values and arguments from other machines.
#[cfg(feature = "dask")]
pub fn coded(data: &[u8]) {
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
        panic!(
            "{failure}\nagain: {again:?}\n{script:#?}\nwhat happened:\n{}\n{failure}",
            trace.join("\n")
        );
    }
}

/// A panic that isn't of the model's finding, in the engine for example, is printed with the script, too.
fn print_script_of_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if let Some(script) = run_state::script() {
                eprintln!("a panic in the run of {script}");
            }
            before(info);
        }));
    });
}
