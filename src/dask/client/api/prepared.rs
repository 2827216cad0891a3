//! A valid submission, until its inputs are located and it's sent.

use std::sync::Arc;

use super::batched_calls::{BatchedCall, ResultLocation};
use super::python::python_args;
use super::remote_task::{DeferredTask, Work};
use crate::Key;
use crate::dask::client::io::dask_future::DaskFuture;
use crate::dask::client::io::link::Link;
use crate::dask::client::state::task_spec::TaskSpec;
use crate::dask::codec::Encoded;
use crate::dask::wire::graph::{Annotations, Call};
use crate::engine::core::CoreRef;
use crate::engine::remote;
use crate::engine::task::header::Interest;

/// A function to call.
#[derive(Clone)]
pub(super) enum Function {
    /// The name that it's registered under.
    Rust(Arc<str>),
    /// The module, and the name in it.
    Python(Arc<str>, Arc<str>),
}

impl Function {
    pub(super) fn work(&self) -> Work {
        match self {
            Self::Rust(_) => Work::RustCall,
            Self::Python(..) => Work::PythonCall,
        }
    }
}

/// A submission whose arguments are valid.
pub(super) struct Prepared {
    key: Arc<str>,
    function: Function,
    encoded: Encoded,
    inputs: Vec<TaskInput>,
    annotations: Arc<Annotations>,
}

/// An input, held until the task is sent: the scheduler must know its key until then.
enum TaskInput {
    Single(Arc<DaskFuture>),
    /// Its location is known when it has ended.
    Batched(Arc<BatchedCall>),
    /// It may not be sent.
    Deferred(Arc<DeferredTask>),
    /// It has failed for good, so no dependent of it will be sent.
    Failed(Arc<str>),
}

impl TaskInput {
    /// Returns the input that a task of the local engine stands for.
    fn new(user: &Interest, core: &CoreRef) -> Result<Self, String> {
        // The task of another client may be on another cluster, and its key may be released at any time.
        let is_of_this_client = std::ptr::eq(user.core(), &**core);
        if !is_of_this_client || !user.vtable.is_remote {
            return Err(format!(
                "its input `{}` isn't on this cluster: await it and pass the value, or give the value to `ready`",
                user.key()
            ));
        }
        let failed = || Self::Failed((**user.key()).into());
        // A tag is weak: what it refers to is dropped when the task has failed for good.
        Ok(remote::tag(user).map_or_else(failed, |tag| {
            tag.downcast()
                .map(Self::Single)
                .or_else(|tag| tag.downcast().map(Self::Batched))
                .or_else(|tag| tag.downcast().map(Self::Deferred))
                .unwrap_or_else(|_| failed())
        }))
    }

    /// Returns where its result is or will be, if that's known.
    fn location(&self) -> Option<ResultLocation> {
        match self {
            Self::Single(future) => Some(ResultLocation::whole(future.key())),
            Self::Deferred(task) => task.sent().map(|future| ResultLocation::whole(future.key())),
            Self::Batched(call) => call.location(),
            Self::Failed(_) => None,
        }
    }
}

impl Prepared {
    /// Checks the inputs of a submission. Returns it with the local tasks that its inputs are, or the reason to refuse
    /// it.
    pub(super) fn new(
        key: &Key,
        function: Function,
        mut encoded: Encoded,
        annotations: Arc<Annotations>,
        core: &CoreRef,
    ) -> Result<(Self, Vec<Interest>), String> {
        let users = std::mem::take(&mut encoded.inputs);
        let inputs = users.iter().map(|user| TaskInput::new(user, core));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let prepared = Self { key: (**key).into(), function, encoded, inputs, annotations };
        if let Function::Python(..) = prepared.function {
            // Whether Python has such arguments doesn't depend on the keys of the inputs, so any will do.
            let keys = vec![prepared.key.clone(); prepared.inputs.len()];
            python_args(&prepared.encoded.msgpack.clone().into(), &keys)?;
        }
        Ok((prepared, users))
    }

    pub(super) fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// Returns whether it's known where the results of all inputs are or will be.
    pub(super) fn is_located(&self) -> bool {
        self.inputs.iter().all(|input| input.location().is_some())
    }

    /// Sends the task. Its inputs must be located; all are when they have ended.
    pub(super) fn send(self, link: &Link) -> Arc<DaskFuture> {
        let Self { key, function, encoded, inputs, annotations } = self;
        let location = |input: &TaskInput| match (input.location(), input) {
            (Some(location), _) => location,
            (None, TaskInput::Failed(key)) => ResultLocation::whole(key),
            (None, _) => {
                unreachable!("a task whose inputs aren't located is sent when they have ended")
            }
        };
        let call = match function {
            Function::Rust(function) => {
                let locations: Vec<_> = inputs.iter().map(location).collect();
                let items: Vec<_> = locations.iter().map(ResultLocation::spare).collect();
                // Rewritten only if needed: most inputs are whole results, and the arguments may be large.
                let args = match items.iter().any(Option::is_some) {
                    true => encoded.with_items(&items).into(),
                    false => encoded.msgpack.into(),
                };
                let inputs = locations.into_iter().map(|location| location.key).collect();
                Call::Rust { function, args, inputs }
            }
            Function::Python(module, name) => {
                // Python can't make the call again if a batch turns out shorter.
                for input in &inputs {
                    if let TaskInput::Batched(call) = input {
                        call.stand_alone();
                    }
                }
                let keys: Vec<_> = inputs.iter().map(|input| location(input).key).collect();
                let Ok(args) = python_args(&encoded.msgpack.into(), &keys) else {
                    unreachable!("`new` has checked the arguments");
                };
                Call::Python { module, name, args }
            }
        };
        let sent = link.submit(TaskSpec { key, call, annotations, is_alone: false });
        // Not before: their keys would be released.
        drop(inputs);
        sent
    }
}
