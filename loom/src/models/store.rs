//! The store of keys: a thread that joins a task gets an interest that keeps it, and dropping the last interest removes the
//! entry of that very task, while other threads join it, create it anew, or cancel it.
//!
//! Bounds: one key, three threads.

use loom::thread;

use super::{Model, WEAK, cancel, new_core, new_task, work};
use crate::Key;
use crate::engine::core::CoreRef;
use crate::engine::data::store::{Joined, Lookup};
use crate::engine::life::create::Setup;
use crate::engine::life::finish;
use crate::engine::task::header::{Extras, Interest, Task};
use crate::engine::task::state::KEYED;
use crate::engine::task::typed::Typed;

pub(super) const MODELS: &[Model] = &[
    Model { name: "store: joined", orders: WEAK, interruptions: Some(4), run: joined },
    Model { name: "store: looked up", orders: WEAK, interruptions: Some(4), run: looked_up },
    Model { name: "store: cancelled", orders: WEAK, interruptions: Some(3), run: cancelled },
];

const KEY: &str = "key";

fn new(core: &CoreRef) -> (Interest, Task) {
    let extras = Extras { key: Key::from(KEY).into(), ..Extras::default() };
    let setup = Setup { flags: KEYED, extras: Some(Box::new(extras)), ..Setup::default() };
    let (interest, task) = new_task(core, setup, async { 7 });
    (interest.into_interest(), task)
}

/// Joins the task, or creates and queues it.
fn submit(core: &CoreRef) -> Interest {
    join_or_create(core).0
}

/// Does the same, and returns whether the task is a new one.
fn join_or_create(core: &CoreRef) -> (Interest, bool) {
    let mut made = None;
    let joined = core.store.join_or_insert(Lookup::Key(KEY), || {
        let (interest, task) = new(core);
        made = Some(task);
        interest
    });
    made.into_iter().for_each(|task| core.injector.push(task));
    match joined {
        Joined::Existing(interest) => (interest, false),
        Joined::New(interest) => (interest, true),
    }
}

fn value(interest: Interest) -> Option<i32> {
    Typed::<i32>::known(interest).try_clone().map(Result::unwrap)
}

/// The last interest is dropped while another thread joins the task, which must then run for it.
fn joined() {
    let core = new_core();
    let interest = submit(&core);
    let worker = thread::spawn({
        let core = core.clone();
        move || work(&core)
    });
    let dropper = thread::spawn(move || drop(interest));
    let interest = submit(&core);
    worker.join().unwrap();
    dropper.join().unwrap();
    work(&core);
    assert_eq!(value(interest), Some(7));
    assert!(core.store.get(KEY).is_none());
}

/// The last two interests in a finished task are dropped while a third thread looks it up.
fn looked_up() {
    let core = new_core();
    let interest = submit(&core);
    work(&core);
    let other = interest.clone();
    let droppers = [interest, other].map(|interest| thread::spawn(move || drop(interest)));
    if let Some(interest) = core.store.get(KEY) {
        assert_eq!(value(interest), Some(7));
    }
    droppers.into_iter().for_each(|dropper| dropper.join().unwrap());
    assert!(core.store.get(KEY).is_none());
}

/// A task is cancelled and removed while another thread submits the same key; then its last interest is dropped.
fn cancelled() {
    let core = new_core();
    let interest = submit(&core);
    let canceller = thread::spawn({
        let core = core.clone();
        move || {
            finish::abort(interest.task(), cancel());
            core.store.forget(interest.task());
            drop(interest);
        }
    });
    let (interest, is_new) = join_or_create(&core);
    canceller.join().unwrap();
    assert_eq!(core.store.get(KEY).is_some(), is_new);
    work(&core);
    drop(interest);
    assert!(core.store.get(KEY).is_none());
}
