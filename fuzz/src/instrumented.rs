//! Instrumented user types, whose live objects are counted: values, functions and errors.

use std::fmt;

use ensue::{ErrorKind, Ref};

use super::model::{Id, Outcome, Phase};
use super::run_state::{
    expect, model, panic_point, panic_point_then, reentry_point, reentry_point_of, with,
};

/// The value of a task.
#[derive(Debug)]
pub(crate) struct Value {
    pub(crate) of: Id,
    /// Whether this is the task's own value, not a clone.
    pub(crate) original: bool,
}

impl Value {
    pub(crate) fn new(of: Id) -> Self {
        with(|state| state.alive(of).values += 1);
        Self { of, original: true }
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        // In a poll of a task the panic is that task's. Otherwise a later report shows which task fails.
        panic_point_then("clone of a value", || with(|state| state.clone_panicked = true));
        with(|state| state.alive(self.of).values += 1);
        Self { of: self.of, original: false }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        with(|state| state.alive(self.of).values -= 1);
        reentry_point("drop of a value");
    }
}

/// The captured state of a task's function.
pub(crate) struct Code {
    /// `None` if the submission joined another task.
    id: Option<Id>,
    pub(crate) body: usize,
}

impl Code {
    pub(crate) fn new(id: Option<Id>, body: usize) -> Self {
        with(|state| id.into_iter().for_each(|id| state.alive(id).functions += 1));
        Self { id, body }
    }

    pub(crate) fn id(&self) -> Id {
        expect(self.id.is_some(), || "the function of a joined submission was called".into());
        self.id.unwrap_or(0)
    }
}

impl Clone for Code {
    fn clone(&self) -> Self {
        // The engine clones the function for an attempt. If that panics there is no function to retry with.
        panic_point_then("clone of a function", || {
            let id = self.id();
            model(|model| {
                model.start(id);
                model.tasks[id].plan.retry = None;
                model.tasks[id].plan.rerunnable = false;
                model.stop(id, Some(Outcome::Error(ErrorKind::Panicked, Some(id))));
            });
        });
        Self::new(self.id, self.body)
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        with(|state| {
            state.alive(id).functions -= 1;
            if state.alive(id).functions == 0 {
                // The panic may come from the clone of an input's value for this task.
                let due = matches!(state.model.tasks[id].phase, Phase::Ready | Phase::Delayed(_));
                let clone_panicked = due && std::mem::take(&mut state.clone_panicked);
                state.model.drop_function(id, clone_panicked);
            }
        });
        reentry_point_of(id, "drop of a function");
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
        panic_point("drop of an error");
    }
}

/// The arguments of a task.
pub(crate) trait Args: Clone + Send + Unpin + 'static {
    /// Compares the arguments with the inputs of the task.
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
                // A rerunnable task keeps its arguments, so it passes clones.
                if *original && !model.tasks[id].plan.rerunnable {
                    let others = model.certain_users(*of);
                    model.expect(others == 0, || {
                        format!(
                            "t{id} was passed the value of t{of} itself, which {others} users need"
                        )
                    });
                    model.tasks[*of].moved_out = true;
                }
            }
            let of: Vec<_> = of.into_iter().map(|(of, _)| of).collect();
            let inputs = model.tasks[id].plan.inputs.clone();
            model.expect(of == inputs, || {
                format!("t{id} was passed the values of {of:?}, not {inputs:?}")
            });
        });
    }
}

impl Args for Vec<Ref<Value>> {
    fn check(self, id: Id) {
        let of: Vec<_> = self.iter().map(|value| value.of).collect();
        drop(self);
        model(|model| {
            let inputs = model.tasks[id].plan.inputs.clone();
            model.expect(of == inputs, || {
                format!("t{id} was passed the values of {of:?}, not {inputs:?}")
            });
        });
    }
}
