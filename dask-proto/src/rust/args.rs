//! The arguments of a call, from what the client has sent and what the task's inputs are.
//!
//! The client sends a list of msgpack with one value for each argument; in these may be [places](super::places) of
//! inputs. An argument that is nothing but a place is read straight from the input; where places are within others,
//! the whole is put together first.

use std::fmt;

use bytes::Bytes;

use super::items::Items;
use super::places::{BadPlace, Place};
use super::problem::{Misfit, Problem};
use super::scan::{self, Extent};
use super::value::{self, Opened};
use crate::Portable;
use crate::dask::wire::serialized::Serialized;

/// How many bytes an argument may be put together from.
const MOST: usize = 1 << 32;

/// The arguments of a function that can be called by name: a tuple of [`Portable`] values.
///
/// You never implement it yourself.
#[diagnostic::on_unimplemented(
    message = "a function that takes `{Self}` can't be called from another machine",
    note = "each argument must be `Serialize + DeserializeOwned + Clone + Send + Sync + 'static`",
    note = "`ensue::Ref<T>` doesn't travel between machines: take a `T`"
)]
pub trait Arguments: Sized + Send + 'static {
    #[doc(hidden)]
    const COUNT: usize;

    #[doc(hidden)]
    fn read(from: &mut Reader<'_>) -> Result<Self, Problem>;
}

/// The results of a task's inputs.
#[derive(Debug)]
pub struct Inputs {
    values: Vec<Serialized>,
    /// As msgpack, once needed.
    documents: Vec<Option<Document>>,
}

/// A result as msgpack that was looked through.
#[derive(Debug)]
struct Document {
    msgpack: Bytes,
    extent: Extent,
    /// The type of Rust's that it was.
    rust: Option<String>,
    /// Where its items are, once needed.
    items: Option<Items>,
}

impl Inputs {
    /// In the order in which the places count them.
    pub fn new(values: Vec<Serialized>) -> Self {
        let documents = values.iter().map(|_| None).collect();
        Self { values, documents }
    }

    /// A whole result.
    fn whole<T: Portable>(&self, input: u32) -> Result<T, Trouble> {
        let value = self.values.get(input as usize).ok_or(Trouble::NoInput(input))?;
        Ok(value::read(value)?)
    }

    /// An item of a result.
    fn item<T: Portable>(&mut self, input: u32, item: u32) -> Result<T, Trouble> {
        let because = |why| Trouble::Input(input, why);
        let items = self.document(input)?.items().map_err(because)?;
        let (msgpack, extent) = items.part(item as usize).map_err(because)?;
        Ok(items.read(&msgpack, extent)?)
    }

    /// What is to be in a place.
    fn part(&mut self, place: Place) -> Result<(Bytes, Extent), Trouble> {
        match place {
            Place::Whole(input) => {
                let document = self.document(input)?;
                Ok((document.msgpack.clone(), document.extent))
            }
            Place::Item(input, item) => {
                let items = self.document(input)?.items();
                let part = items.and_then(|items| items.part(item as usize));
                part.map_err(|why| Trouble::Input(input, why))
            }
        }
    }

    /// A result that was looked through.
    fn document(&mut self, input: u32) -> Result<&mut Document, Trouble> {
        let at = input as usize;
        let value = self.values.get(at).ok_or(Trouble::NoInput(input))?;
        match &mut self.documents[at] {
            Some(document) => Ok(document),
            none => {
                let document = Document::of(value).map_err(|why| Trouble::Input(input, why))?;
                Ok(none.insert(document))
            }
        }
    }
}

impl Document {
    fn of(value: &Serialized) -> Result<Self, String> {
        let Opened { rust, body } = value::open(value)?;
        let look = || {
            let msgpack = body.into_msgpack()?;
            let extent = scan::whole(&msgpack)?;
            Ok(Self { msgpack, extent, rust, items: None })
        };
        look().map_err(|broken: scan::Broken| broken.to_string())
    }

    fn items(&mut self) -> Result<&Items, String> {
        match &mut self.items {
            Some(items) => Ok(items),
            none => {
                let items = Items::of(self.msgpack.clone(), self.rust.as_deref());
                Ok(none.insert(items.map_err(|broken| broken.to_string())?))
            }
        }
    }
}

/// What is wrong with an argument.
enum Trouble {
    Misfit(Misfit),
    Broken(scan::Broken),
    Place,
    /// There's no input with this number.
    NoInput(u32),
    /// What is wrong with the input.
    Input(u32, String),
    Large,
}

impl From<Misfit> for Trouble {
    fn from(misfit: Misfit) -> Self {
        Self::Misfit(misfit)
    }
}

impl From<scan::Broken> for Trouble {
    fn from(broken: scan::Broken) -> Self {
        Self::Broken(broken)
    }
}

/// Comes after "argument 2 of `add` ".
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misfit(misfit) => write!(f, "is {misfit}"),
            Self::Broken(broken) => write!(f, "can't be read: {broken}"),
            Self::Place => f.write_str("has a place of an input with bad numbers"),
            Self::NoInput(input) => {
                write!(f, "is to be the result of input {input} (from 0), but there aren't so many")
            }
            Self::Input(input, why) => {
                write!(f, "can't be made of the result of input {input} (from 0): {why}")
            }
            Self::Large => write!(f, "takes more than {MOST} bytes with its inputs in it"),
        }
    }
}

/// Reads the arguments of one call, from the first to the last.
#[derive(Debug)]
pub struct Reader<'a> {
    function: &'a str,
    left: Bytes,
    /// Which argument was read last, from 1.
    number: usize,
    inputs: &'a mut Inputs,
}

/// The arguments of a call, given what the client has sent for them.
pub fn decode<A: Arguments>(
    function: &str,
    args: &Bytes,
    inputs: &mut Inputs,
) -> Result<A, Problem> {
    let wrong = |why: &dyn fmt::Display| {
        Problem::mismatch(format!("the arguments of `{function}` can't be read: {why}"))
    };
    let (count, start) = scan::list(args).map_err(|broken| wrong(&broken))?;
    if count != A::COUNT {
        let arguments = if A::COUNT == 1 { "argument" } else { "arguments" };
        let text = format!("`{function}` takes {} {arguments}, and got {count}", A::COUNT);
        return Err(Problem::mismatch(text));
    }
    let mut reader = Reader { function, left: args.slice(start..), number: 0, inputs };
    let arguments = A::read(&mut reader)?;
    if reader.left.is_empty() { Ok(arguments) } else { Err(wrong(&scan::Broken::Long)) }
}

impl Reader<'_> {
    fn next<T: Portable>(&mut self) -> Result<T, Problem> {
        self.number += 1;
        self.read().map_err(|trouble| {
            let Self { function, number, .. } = self;
            Problem::mismatch(format!("argument {number} of `{function}` {trouble}"))
        })
    }

    fn read<T: Portable>(&mut self) -> Result<T, Trouble> {
        let mut places = Vec::new();
        let mut is_bad = false;
        let extent = scan::value(&self.left, |ext| match Place::of(&ext) {
            Some(Ok(place)) => places.push((ext.start, ext.end, ext.depth, place)),
            Some(Err(BadPlace)) => is_bad = true,
            None => {}
        })?;
        let argument = self.left.split_to(extent.len);
        if self.inputs.values.is_empty() {
            // Then they aren't places: extensions that the value itself has.
            return Ok(value::decode_seen(&argument, extent)?);
        }
        if is_bad {
            return Err(Trouble::Place);
        }
        match &places[..] {
            [] => Ok(value::decode_seen(&argument, extent)?),
            [(_, _, 0, Place::Whole(input))] => self.inputs.whole(*input),
            [(_, _, 0, Place::Item(input, item))] => self.inputs.item(*input, *item),
            _ => {
                let (spliced, extent) = self.splice(&argument, extent, &places)?;
                Ok(value::decode_seen(&spliced, extent)?)
            }
        }
    }

    /// The argument with what is to be in its places.
    fn splice(
        &mut self,
        argument: &[u8],
        extent: Extent,
        places: &[(usize, usize, usize, Place)],
    ) -> Result<(Bytes, Extent), Trouble> {
        // Parts are put into a list first, to know how much it is.
        let mut parts = Vec::with_capacity(places.len());
        let mut len = argument.len();
        let mut depth = extent.depth;
        for (start, end, around, place) in places {
            let (part, inside) = self.inputs.part(*place)?;
            len = len.saturating_add(part.len());
            depth = depth.max(around + inside.depth);
            parts.push((*start, *end, part));
        }
        if len > MOST {
            return Err(Trouble::Large);
        }
        if depth > scan::DEPTH {
            return Err(scan::Broken::Deep.into());
        }
        let mut spliced = Vec::with_capacity(len);
        let mut done = 0;
        for (start, end, part) in parts {
            spliced.extend_from_slice(&argument[done..start]);
            spliced.extend_from_slice(&part);
            done = end;
        }
        spliced.extend_from_slice(&argument[done..]);
        let extent = Extent { len: spliced.len(), depth };
        Ok((spliced.into(), extent))
    }
}

macro_rules! tuples {
    ($count:literal $($A:ident)*) => {
        impl<$($A: Portable),*> Arguments for ($($A,)*) {
            const COUNT: usize = $count;

            fn read(_from: &mut Reader<'_>) -> Result<Self, Problem> {
                Ok(($(_from.next::<$A>()?,)*))
            }
        }
    };
}

tuples!(0);
tuples!(1 A);
tuples!(2 A B);
tuples!(3 A B C);
tuples!(4 A B C D);
tuples!(5 A B C D E);
tuples!(6 A B C D E F);
tuples!(7 A B C D E F G);
tuples!(8 A B C D E F G H);
tuples!(9 A B C D E F G H I);
tuples!(10 A B C D E F G H I J);
tuples!(11 A B C D E F G H I J K);
tuples!(12 A B C D E F G H I J K L);
