//! What is foreign to the engine, and counted: values, functions and errors.

use std::fmt;

use ensue::{ErrorKind, Ref};

use super::model::{Id, Outcome, Phase};
use super::run_state::{expect, fuse, fuse_then, hook, hook_of, model, with};

/// The value of a task.
#[derive(Debug)]
pub(crate) struct Value {
    pub(crate) of: Id,
    /// Not a clone.
    pub(crate) original: bool,
}

impl Value {
    pub(crate) fn new(of: Id) -> Self {
        with(|world| world.alive(of).values += 1);
        Self { of, original: true }
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        // In a task's own poll it's that task's panic; elsewhere it turns out later whose.
        fuse_then("clone of a value", || with(|world| world.clone_panicked = true));
        with(|world| world.alive(self.of).values += 1);
        Self { of: self.of, original: false }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        with(|world| world.alive(self.of).values -= 1);
        hook("drop of a value");
    }
}

/// What a task's function captures.
pub(crate) struct Code {
    /// `None` if the submission joined another task.
    id: Option<Id>,
    pub(crate) body: usize,
}

impl Code {
    pub(crate) fn new(id: Option<Id>, body: usize) -> Self {
        with(|world| id.into_iter().for_each(|id| world.alive(id).codes += 1));
        Self { id, body }
    }

    pub(crate) fn id(&self) -> Id {
        expect(self.id.is_some(), || "a function was called that had joined another task".into());
        self.id.unwrap_or(0)
    }
}

impl Clone for Code {
    fn clone(&self) -> Self {
        // It's cloned where an attempt begins, and if that panics nothing can be tried again.
        fuse_then("clone of a function", || {
            let id = self.id();
            model(|model| {
                model.start(id);
                model.tasks[id].plan.retry = None;
                model.tasks[id].plan.again = false;
                model.stop(id, Some(Outcome::Error(ErrorKind::Panicked, Some(id))));
            });
        });
        Self::new(self.id, self.body)
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        with(|world| {
            world.alive(id).codes -= 1;
            if world.alive(id).codes == 0 {
                // It may be a clone of an input's value for this very task that panicked.
                let due = matches!(world.model.tasks[id].phase, Phase::Ready | Phase::Delayed(_));
                let clone_panicked = due && std::mem::take(&mut world.clone_panicked);
                world.model.lose_code(id, clone_panicked);
            }
        });
        hook_of(id, "drop of a function");
    }
}

/// The error of a task.
#[derive(Debug)]
pub(crate) struct Failure;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("planned")
    }
}

impl std::error::Error for Failure {}

impl Drop for Failure {
    fn drop(&mut self) {
        fuse("drop of an error");
    }
}

/// The arguments of a task.
pub(crate) trait Args: Clone + Send + Unpin + 'static {
    /// Checks them against what the task was given.
    fn check(self, id: Id);
}

impl Args for () {
    fn check(self, _: Id) {}
}

impl Args for Vec<Value> {
    fn check(self, id: Id) {
        let of: Vec<_> = self.iter().map(|value| (value.of, value.original)).collect();
        drop(self);
        model(|model| {
            for (of, original) in &of {
                // The others are copies that are kept for another attempt.
                if *original && !model.tasks[id].plan.again {
                    let others = model.sure_users(*of);
                    model.expect(others == 0, || {
                        format!("t{id} was given the value of t{of} itself, which {others} need")
                    });
                    model.tasks[*of].taken = true;
                }
            }
            let of: Vec<_> = of.into_iter().map(|(of, _)| of).collect();
            let inputs = model.tasks[id].plan.inputs.clone();
            model.expect(of == inputs, || format!("t{id} was given {of:?} for {inputs:?}"));
        });
    }
}

impl Args for Vec<Ref<Value>> {
    fn check(self, id: Id) {
        let of: Vec<_> = self.iter().map(|value| value.of).collect();
        drop(self);
        model(|model| {
            let inputs = model.tasks[id].plan.inputs.clone();
            model.expect(of == inputs, || format!("t{id} was given {of:?} for {inputs:?}"));
        });
    }
}
