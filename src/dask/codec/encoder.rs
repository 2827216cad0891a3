//! The encoder of a call's arguments, which collects the tasks that they contain.

use std::collections::HashMap;
use std::fmt;

use foldhash::fast::RandomState;
use serde::Serialize;

use crate::client::visit::InputVisitor;
use crate::dask::codec::visit::Visit;
use crate::dask::wire::msgpack;
use crate::dask::wire::rust::{EncodeError, ItemCall, Placeholder, append, append_owned};
use crate::engine::task::header::Interest;
use crate::{Handle, Portable};

/// The number of inputs from which on they're found by a table instead of a search.
const MANY: usize = 16;

/// Encodes the arguments of a call: values in msgpack, handles as placeholders for inputs.
#[derive(Default)]
pub(crate) struct Encoder {
    msgpack: Vec<u8>,
    inputs: Vec<Interest>,
    /// The number of each input by the address of its task, once there are many.
    known: HashMap<usize, u32, RandomState>,
    /// The offsets of the placeholders.
    placeholders: Vec<usize>,
    error: Option<String>,
}

impl Encoder {
    /// Returns an encoder without arguments.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Keeps the first error.
    fn check(&mut self, written: Result<(), EncodeError>) {
        if let Err(error) = written {
            self.error.get_or_insert_with(|| error.to_string());
        }
    }

    /// Adds the placeholder for a task's result.
    fn task(&mut self, task: Interest) {
        let input = self.input(task);
        self.placeholders.push(self.msgpack.len());
        Placeholder::Input(input).write(&mut self.msgpack);
    }

    /// Returns the number of the input that a task is, a new one for a new task.
    fn input(&mut self, task: Interest) -> u32 {
        let next = self.inputs.len() as u32;
        let address = |task: &Interest| task.task().as_ptr().addr().get();
        if self.inputs.len() < MANY {
            let is_it = |other: &Interest| other.task().is(task.task());
            if let Some(input) = self.inputs.iter().position(is_it) {
                return input as u32;
            }
        } else {
            if self.known.is_empty() {
                let inputs = self.inputs.iter().zip(0..);
                self.known.extend(inputs.map(|(task, input)| (address(task), input)));
            }
            let input = *self.known.entry(address(&task)).or_insert(next);
            if input < next {
                return input;
            }
        }
        self.inputs.push(task);
        next
    }

    /// Returns the encoded arguments, or the text of the first error.
    pub(crate) fn finish(self) -> Result<Encoded, String> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if !self.inputs.is_empty() {
            // A value that contains what looks like a placeholder would be replaced on the worker.
            let mut found = 0;
            msgpack::scan(&self.msgpack, |ext| {
                found += usize::from(Placeholder::of(&ext).is_some());
            })
            .map_err(|error| format!("the arguments can't be sent: {error}"))?;
            if found != self.placeholders.len() {
                return Err("the arguments can't be sent: a value has a msgpack extension of the kind 1 or 2, \
                            which are reserved for the results of other tasks"
                    .to_owned());
            }
        }
        Ok(Encoded { msgpack: self.msgpack, inputs: self.inputs, placeholders: self.placeholders })
    }
}

/// The encoded arguments of a call.
pub(crate) struct Encoded {
    pub(crate) msgpack: Vec<u8>,
    /// The tasks, in the order in which the placeholders count them.
    pub(crate) inputs: Vec<Interest>,
    placeholders: Vec<usize>,
}

impl Encoded {
    /// Returns the arguments with the placeholders of some inputs replaced by those of items: `items` has one for each
    /// input that is an item of a batch.
    pub(crate) fn with_items(&self, items: &[Option<ItemCall<'_>>]) -> Vec<u8> {
        let mut msgpack = Vec::with_capacity(self.msgpack.len() + 4 * self.placeholders.len());
        let mut done = 0;
        for at in &self.placeholders {
            let Some(Placeholder::Input(input)) = Placeholder::input_at(&self.msgpack, *at) else {
                unreachable!("`task` has written a placeholder at this offset");
            };
            if let Some(Some(item)) = items.get(input as usize) {
                msgpack.extend_from_slice(&self.msgpack[done..*at]);
                item.write(input, &mut msgpack);
                done = at + Placeholder::INPUT_LEN;
            }
        }
        msgpack.extend_from_slice(&self.msgpack[done..]);
        msgpack
    }
}

impl InputVisitor for Encoder {
    fn value<T: Portable>(&mut self, value: T) {
        let written = append_owned(value, &mut self.msgpack);
        self.check(written);
    }

    fn plain<T: Serialize + ?Sized>(&mut self, value: &T) {
        let written = append(value, &mut self.msgpack);
        self.check(written);
    }

    fn handle<T>(&mut self, handle: Handle<T>) {
        self.task(handle.into_typed().into_interest());
    }

    fn handle_ref<T>(&mut self, handle: &Handle<T>) {
        self.task(handle.typed().interest().clone());
    }

    fn list(&mut self, len: usize) {
        msgpack::write_array_len(len, &mut self.msgpack);
    }

    fn map(&mut self, len: usize) {
        msgpack::write_map_len(len, &mut self.msgpack);
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("bytes", &self.msgpack.len())
            .field("inputs", &self.inputs.len())
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

macro_rules! plain {
    ($($plain:ty)*) => {$(
        impl Visit for $plain {
            fn visit<V: InputVisitor>(self, to: &mut V) {
                to.plain(&self);
            }
        }

        impl Visit for &$plain {
            fn visit<V: InputVisitor>(self, to: &mut V) {
                to.plain(self);
            }
        }
    )*};
}

plain! {
    bool u8 u16 u32 u64 usize i8 i16 i32 i64 isize f32 f64 char String &str bytes::Bytes
}

/// Makes a value of any type that is `Serialize` an argument of a Python function. A struct is a dict there, a tuple a
/// list.
///
/// ```
/// # use ensue::dask::Plain;
/// # fn python(_: impl ensue::dask::PythonInputs) {}
/// #[derive(serde::Serialize)]
/// struct Options {
///     depth: u32,
/// }
///
/// python((Plain(Options { depth: 3 }), 7));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Plain<T>(pub T);

impl<T: Serialize> Visit for Plain<T> {
    fn visit<V: InputVisitor>(self, to: &mut V) {
        to.plain(&self.0);
    }
}

impl<T: Serialize> Visit for &Plain<T> {
    fn visit<V: InputVisitor>(self, to: &mut V) {
        to.plain(&self.0);
    }
}
