//! The store of keys: who joins a task gets one that stays, and the last user of a task takes out that very
//! entry and no other, while others join, make anew, or cancel.
//!
//! Bounds: one key, three threads.

use loom::thread;

use super::{Model, WEAK, cancel, new_core, new_task, work};
use crate::Key;
use crate::engine::core::CoreRef;
use crate::engine::data::store::{Joined, Lookup};
use crate::engine::life::cell::Setup;
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
    let (user, task) = new_task(core, setup, async { 7 });
    (user.into_interest(), task)
}

/// Joins or makes a task, and has a new one queued.
fn submit(core: &CoreRef) -> Interest {
    join_or_make(core).0
}

/// Says also whether it's a new one.
fn join_or_make(core: &CoreRef) -> (Interest, bool) {
    let mut made = None;
    let joined = core.store.join_or_insert(Lookup::Key(KEY), || {
        let (user, task) = new(core);
        made = Some(task);
        user
    });
    made.into_iter().for_each(|task| core.injector.push(task));
    match joined {
        Joined::Existing(user) => (user, false),
        Joined::New(user) => (user, true),
    }
}

fn value(user: Interest) -> Option<i32> {
    Typed::<i32>::known(user).try_clone().map(Result::unwrap)
}

/// The last user goes while another joins, who can rely on what it gets.
fn joined() {
    let core = new_core();
    let user = submit(&core);
    let worker = thread::spawn({
        let core = core.clone();
        move || work(&core)
    });
    let dropper = thread::spawn(move || drop(user));
    let user = submit(&core);
    worker.join().unwrap();
    dropper.join().unwrap();
    work(&core);
    assert_eq!(value(user), Some(7));
    assert!(core.store.get(KEY).is_none());
}

/// The last two users of a finished task go while a third looks for it.
fn looked_up() {
    let core = new_core();
    let user = submit(&core);
    work(&core);
    let other = user.clone();
    let droppers = [user, other].map(|user| thread::spawn(move || drop(user)));
    if let Some(user) = core.store.get(KEY) {
        assert_eq!(value(user), Some(7));
    }
    droppers.into_iter().for_each(|dropper| dropper.join().unwrap());
    assert!(core.store.get(KEY).is_none());
}

/// A task is cancelled and forgotten while another submits the same, and then its last user goes.
fn cancelled() {
    let core = new_core();
    let user = submit(&core);
    let canceller = thread::spawn({
        let core = core.clone();
        move || {
            finish::abort(user.task(), cancel());
            core.store.forget(user.task());
            drop(user);
        }
    });
    let (user, is_new) = join_or_make(&core);
    canceller.join().unwrap();
    assert_eq!(core.store.get(KEY).is_some(), is_new);
    work(&core);
    drop(user);
    assert!(core.store.get(KEY).is_none());
}
