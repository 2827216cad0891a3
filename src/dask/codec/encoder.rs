//! What a client sends for a task's arguments, and which tasks' results belong to them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use foldhash::fast::RandomState;
use serde::Serialize;

use super::places::Place;
use super::{Spare, scan, value};
use crate::engine::task::header::Interest;
use crate::{Handle, Portable};

/// From how many inputs on they're found by a table.
const MANY: usize = 16;

/// Collects the arguments of a call: values as msgpack, handles as places of inputs.
#[derive(Default)]
pub struct Encoder {
    msgpack: Vec<u8>,
    inputs: Vec<Interest>,
    /// Which input a task is, by its address, once there are many.
    known: HashMap<usize, u32, RandomState>,
    /// Where the places are.
    places: Vec<usize>,
    error: Option<String>,
}

impl Encoder {
    /// With nothing in it.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Begins a list, of which the arguments themselves are the first: so many items must follow.
    pub(crate) fn list(&mut self, len: usize) {
        value::array(len, &mut self.msgpack);
    }

    /// Begins a map: so many keys and values must follow.
    pub(crate) fn map(&mut self, len: usize) {
        value::map(len, &mut self.msgpack);
    }

    /// A value.
    pub(crate) fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        if let Err(problem) = value::append(value, &mut self.msgpack) {
            self.error.get_or_insert(problem.text);
        }
    }

    /// A value of an argument, which may be bytes.
    pub(crate) fn portable<T: Portable>(&mut self, value: T) {
        if let Err(problem) = value::append_portable(value, &mut self.msgpack) {
            self.error.get_or_insert(problem.text);
        }
    }

    /// The result of a task.
    pub(crate) fn handle(&mut self, task: Interest) {
        let input = self.input(task);
        self.places.push(self.msgpack.len());
        Place::Whole(input).write(&mut self.msgpack);
    }

    /// Which input a task is; a new one if it isn't any yet.
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

    /// What is to be sent, with the inputs; or why it can't be.
    pub(crate) fn finish(self) -> Result<Encoded, String> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if !self.inputs.is_empty() {
            let mut places = 0;
            scan::value(&self.msgpack, |ext| places += usize::from(Place::of(&ext).is_some()))
                .map_err(|broken| format!("the arguments can't be sent: {broken}"))?;
            if places != self.places.len() {
                return Err("the arguments can't be sent: one has an extension of msgpack of the kind 1 or \
                            2, which stand for results of other tasks"
                    .to_owned());
            }
        }
        Ok(Encoded { msgpack: self.msgpack, inputs: self.inputs, places: self.places })
    }
}

/// The arguments of a call.
pub(crate) struct Encoded {
    pub(crate) msgpack: Vec<u8>,
    /// In the order in which the places count them.
    pub(crate) inputs: Vec<Interest>,
    places: Vec<usize>,
}

impl Encoded {
    /// The arguments where some inputs are items of lists: `items` says of each input which one.
    pub(crate) fn with_items(&self, items: &[Option<Spare<'_>>]) -> Vec<u8> {
        let mut msgpack = Vec::with_capacity(self.msgpack.len() + 4 * self.places.len());
        let mut done = 0;
        for at in &self.places {
            let Some(Place::Whole(input)) = Place::at(&self.msgpack, *at) else {
                unreachable!("that's what was written there");
            };
            if let Some(Some(item)) = items.get(input as usize) {
                msgpack.extend_from_slice(&self.msgpack[done..*at]);
                item.write(input, &mut msgpack);
                done = at + Place::LEN;
            }
        }
        msgpack.extend_from_slice(&self.msgpack[done..]);
        msgpack
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

/// What knows by its shape how it's written: handles, plain values, and containers of these.
pub trait Encode {
    /// Writes it.
    fn encode(self, to: &mut Encoder);
}

impl<T> Encode for Handle<T> {
    fn encode(self, to: &mut Encoder) {
        to.handle(self.into_typed().into_interest());
    }
}

impl<T> Encode for &Handle<T> {
    fn encode(self, to: &mut Encoder) {
        to.handle(self.typed().interest().clone());
    }
}

/// Items that become a list.
macro_rules! lists {
    ($([$($param:tt)*] $list:ty;)*) => {$(
        impl<$($param)*> Encode for $list
        where
            <$list as IntoIterator>::Item: Encode,
        {
            fn encode(self, to: &mut Encoder) {
                to.list(self.len());
                self.into_iter().for_each(|item| item.encode(to));
            }
        }
    )*};
}

lists! {
    [X] Vec<X>;
    ['a, X] &'a Vec<X>;
    ['a, X] &'a [X];
    [X, const N: usize] [X; N];
    ['a, X, const N: usize] &'a [X; N];
}

impl<X: Encode> Encode for Box<[X]> {
    fn encode(self, to: &mut Encoder) {
        Vec::from(self).encode(to);
    }
}

impl<X: Encode> Encode for Option<X> {
    fn encode(self, to: &mut Encoder) {
        match self {
            Some(inside) => inside.encode(to),
            None => to.value(&()),
        }
    }
}

impl<'a, X> Encode for &'a Option<X>
where
    &'a X: Encode,
{
    fn encode(self, to: &mut Encoder) {
        self.as_ref().encode(to);
    }
}

/// Keys, which are plain, and what they stand for.
macro_rules! maps {
    ($([$($param:tt)*] $map:ty, $value:ty;)*) => {$(
        impl<$($param)*> Encode for $map
        where
            K: Serialize,
            $value: Encode,
        {
            fn encode(self, to: &mut Encoder) {
                to.map(self.len());
                for (key, value) in self {
                    to.value(&key);
                    value.encode(to);
                }
            }
        }
    )*};
}

maps! {
    [K, X] BTreeMap<K, X>, X;
    ['a, K, X] &'a BTreeMap<K, X>, &'a X;
    [K, X, S] HashMap<K, X, S>, X;
    ['a, K, X, S] &'a HashMap<K, X, S>, &'a X;
}

macro_rules! plain {
    ($($plain:ty)*) => {$(
        impl Encode for $plain {
            fn encode(self, to: &mut Encoder) {
                to.value(&self);
            }
        }

        impl Encode for &$plain {
            fn encode(self, to: &mut Encoder) {
                to.value(self);
            }
        }
    )*};
}

plain! {
    bool u8 u16 u32 u64 usize i8 i16 i32 i64 isize f32 f64 char String &str bytes::Bytes
}

/// A value of any type that serde can write, as an argument of a Python function: a struct is a dict there, a tuple
/// a list.
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

impl<T: Serialize> Encode for Plain<T> {
    fn encode(self, to: &mut Encoder) {
        to.value(&self.0);
    }
}

impl<T: Serialize> Encode for &Plain<T> {
    fn encode(self, to: &mut Encoder) {
        to.value(&self.0);
    }
}
