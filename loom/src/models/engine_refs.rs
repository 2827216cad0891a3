//! The references to an engine, in the pools of threads: the engine is freed once, after its last task.
//!
//! Loom finds an engine that isn't freed, and an access that could come after. Bounds: two threads, two tasks.

use loom::thread;

use super::{Model, WEAK, new_core, new_task};
use crate::engine::core::engine_refs;
use crate::engine::life::create::Setup;

pub(super) const MODELS: &[Model] = &[
    Model { name: "engine: last task", orders: WEAK, interruptions: Some(2), run: last_task },
    Model { name: "engine: two at once", orders: WEAK, interruptions: Some(2), run: two_at_once },
];

/// A task outlives the engine's client, and is dropped on another thread, while a second one is created and dropped here.
fn last_task() {
    let core = new_core();
    let (interest, task) = new_task(&core, Setup::default(), async {});
    let dropper = thread::spawn(move || drop((interest, task)));
    let (interest, task) = new_task(&core, Setup::default(), async {});
    core.begin_close(true);
    engine_refs::drain(&core);
    drop(core);
    drop((interest, task));
    dropper.join().unwrap();
}

/// A thread uses two engines in turn, and drops the tasks of both while another one drops its own.
fn two_at_once() {
    let (one, two) = (new_core(), new_core());
    let first = new_task(&one, Setup::default(), async {});
    let dropper = thread::spawn(move || drop(first));
    let second = new_task(&two, Setup::default(), async {});
    let third = new_task(&one, Setup::default(), async {});
    assert!(one.tasks_in_memory() >= 1 && two.tasks_in_memory() == 1);
    drop((second, third));
    dropper.join().unwrap();
}
