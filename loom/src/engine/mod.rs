//! The engine's files as they are, between stand-ins for what has no part in the protocols between threads.

#![allow(dead_code, unused_imports, unsafe_code)]

/// The file of that name, from the engine itself.
macro_rules! real {
    ($($name:ident $file:literal;)*) => {
        $(#[path = $file] pub(crate) mod $name;)*
    };
}

real! {
    callback "../../../src/engine/callback.rs";
    cell "../../../src/engine/cell.rs";
    context "../../../src/engine/context.rs";
    core "../../../src/engine/core.rs";
    count "../../../src/engine/count.rs";
    cycle "../../../src/engine/cycle.rs";
    edges "../../../src/engine/edges.rs";
    finish "../../../src/engine/finish.rs";
    header "../../../src/engine/header.rs";
    hook "../../../src/engine/hook.rs";
    injector "../../../src/engine/injector.rs";
    local "../../../src/engine/local.rs";
    park "../../../src/engine/park.rs";
    prefetch "../../../src/engine/prefetch.rs";
    priority "../../../src/engine/priority.rs";
    release "../../../src/engine/release.rs";
    sink "../../../src/engine/sink.rs";
    sleepers "../../../src/engine/sleepers.rs";
    state "../../../src/engine/state.rs";
    store "../../../src/engine/store.rs";
    tally "../../../src/engine/tally.rs";
    typed "../../../src/engine/typed.rs";
    urgent "../../../src/engine/urgent.rs";
    wait "../../../src/engine/wait.rs";
    waiters "../../../src/engine/waiters.rs";
    waker "../../../src/engine/waker.rs";
    watched "../../../src/engine/watched.rs";
    worker "../../../src/engine/worker.rs";
}

pub(crate) use crate::sync;

pub(crate) mod closing;
pub(crate) mod lock;
pub(crate) mod memory;
mod standins;

pub(crate) use standins::{limits, purse, seeded, started, threads};
