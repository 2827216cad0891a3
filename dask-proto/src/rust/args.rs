//! The decoder of a call's arguments.
//!
//! Arguments are a msgpack array with one value for each; [placeholders](super::Placeholder) in them stand for inputs.
//! An argument that is nothing but a placeholder is decoded directly from the input. Placeholders within an argument
//! are replaced by the inputs' msgpack first.

use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::items::Items;
use super::placeholder::{MalformedPlaceholder, Placeholder};
use super::typed::{self, Opened};
use super::{ArgumentError, DecodeError};
use crate::msgpack::{self, Extent, MAX_DEPTH, ScanError};
use crate::serialized::Serialized;

/// The most bytes that an argument may have with the inputs in it: less where an address has 32 bits.
const MOST: u64 = if usize::BITS > 32 { 1 << 32 } else { 1 << 30 };

/// The arguments of a function: a tuple of up to 12 types that can be decoded.
///
/// It's implemented for all such tuples, and can't be implemented otherwise.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be decoded as the arguments of a function",
    note = "arguments are a tuple of types that are `DeserializeOwned + 'static`"
)]
pub trait Arguments: Sized {
    #[doc(hidden)]
    const COUNT: usize;

    #[doc(hidden)]
    fn read(from: &mut ArgumentReader<'_>) -> Result<Self, ArgumentError>;
}

/// The results of a call's inputs.
///
/// The items of a list are found once, and kept for the next call of a batch.
#[derive(Debug)]
pub struct Inputs {
    values: Vec<Serialized>,
    /// The values that were needed in msgpack.
    documents: Vec<Option<Document>>,
}

/// A result in msgpack.
#[derive(Debug)]
struct Document {
    msgpack: Bytes,
    extent: Extent,
    /// The Rust type, if the header names one.
    rust: Option<String>,
    /// The items, once one was needed.
    items: Option<Items>,
}

impl Inputs {
    /// Returns inputs, in the order in which placeholders count them.
    pub fn new(values: Vec<Serialized>) -> Self {
        let documents = values.iter().map(|_| None).collect();
        Self { values, documents }
    }

    /// Decodes a whole result.
    fn whole<T: DeserializeOwned + 'static>(&self, input: u32) -> Result<T, Cause> {
        let value = self.values.get(input as usize).ok_or(Cause::NoInput(input))?;
        Ok(typed::decode(value)?)
    }

    /// Decodes an item of a result.
    fn item<T: DeserializeOwned + 'static>(&mut self, input: u32, item: u32) -> Result<T, Cause> {
        let because = |why| Cause::Input(input, why);
        let items = self.document(input)?.items().map_err(because)?;
        let (msgpack, extent) = items.part(item as usize).map_err(because)?;
        Ok(items.read(&msgpack, extent)?)
    }

    /// Returns the msgpack that replaces a placeholder.
    fn part(&mut self, placeholder: Placeholder) -> Result<(Bytes, Extent), Cause> {
        match placeholder {
            Placeholder::Input(input) => {
                let document = self.document(input)?;
                Ok((document.msgpack.clone(), document.extent))
            }
            Placeholder::Item(input, item) => {
                let items = self.document(input)?.items();
                let part = items.and_then(|items| items.part(item as usize));
                part.map_err(|why| Cause::Input(input, why))
            }
        }
    }

    /// Returns a result in msgpack.
    fn document(&mut self, input: u32) -> Result<&mut Document, Cause> {
        let at = input as usize;
        let value = self.values.get(at).ok_or(Cause::NoInput(input))?;
        match &mut self.documents[at] {
            Some(document) => Ok(document),
            none => {
                let document = Document::of(value).map_err(|why| Cause::Input(input, why))?;
                Ok(none.insert(document))
            }
        }
    }
}

impl Document {
    fn of(value: &Serialized) -> Result<Self, String> {
        let Opened { rust, body } = typed::open(value)?;
        let scanned = || {
            let msgpack = body.into_msgpack()?;
            let extent = msgpack::scan_all(&msgpack)?;
            Ok(Self { msgpack, extent, rust, items: None })
        };
        scanned().map_err(|error: ScanError| error.to_string())
    }

    fn items(&mut self) -> Result<&Items, String> {
        match &mut self.items {
            Some(items) => Ok(items),
            none => {
                let items = Items::of(self.msgpack.clone(), self.rust.as_deref());
                Ok(none.insert(items.map_err(|error| error.to_string())?))
            }
        }
    }
}

/// Why an argument can't be decoded.
enum Cause {
    Decode(DecodeError),
    Scan(ScanError),
    Placeholder(MalformedPlaceholder),
    /// There is no input with this number.
    NoInput(u32),
    /// The input with this number can't be used, for this reason.
    Input(u32, String),
    TooLarge,
}

impl From<DecodeError> for Cause {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<ScanError> for Cause {
    fn from(error: ScanError) -> Self {
        Self::Scan(error)
    }
}

/// Follows "argument 2 of `add` ".
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => write!(f, "is {error}"),
            Self::Scan(error) => write!(f, "can't be read: {error}"),
            Self::Placeholder(error) => write!(f, "has {error}"),
            Self::NoInput(input) => {
                write!(f, "is the result of input {input} (from 0), and the task has fewer inputs")
            }
            Self::Input(input, why) => {
                write!(f, "can't be read from the result of input {input} (from 0): {why}")
            }
            Self::TooLarge => write!(f, "takes more than {MOST} bytes with its inputs in it"),
        }
    }
}

/// The reader of the arguments of one call, in order. [`decode_args`] uses it.
#[derive(Debug)]
pub struct ArgumentReader<'a> {
    function: &'a str,
    left: Bytes,
    /// The number of the argument that was read last, from 1.
    number: usize,
    inputs: &'a mut Inputs,
}

/// Decodes the arguments of a call of `function`, whose name is for error texts.
///
/// Without inputs, extension types in the arguments aren't placeholders but part of the values.
///
/// # Errors
///
/// If the number of arguments or one of their types differs from `A`, or if placeholder and inputs don't match.
///
/// ```
/// use ensue_dask_proto::msgpack::write_array_len;
/// use ensue_dask_proto::rust::{Inputs, Placeholder, append, decode_args, encode};
///
/// let mut args = Vec::new();
/// write_array_len(2, &mut args);
/// append(&5, &mut args)?;
/// Placeholder::Input(0).write(&mut args);
///
/// let mut inputs = Inputs::new(vec![encode("text".to_owned())?]);
/// let args = decode_args::<(u8, String)>("f", &args.into(), &mut inputs)?;
/// assert_eq!(args, (5, "text".to_owned()));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn decode_args<A: Arguments>(
    function: &str,
    args: &Bytes,
    inputs: &mut Inputs,
) -> Result<A, ArgumentError> {
    let wrong = |error: ScanError| {
        ArgumentError(format!("the arguments of `{function}` can't be read: {error}"))
    };
    let (count, start) = msgpack::array(args).map_err(wrong)?;
    if count != A::COUNT {
        let arguments = if A::COUNT == 1 { "argument" } else { "arguments" };
        let text = format!("`{function}` takes {} {arguments}, and got {count}", A::COUNT);
        return Err(ArgumentError(text));
    }
    let mut reader = ArgumentReader { function, left: args.slice(start..), number: 0, inputs };
    let arguments = A::read(&mut reader)?;
    if reader.left.is_empty() { Ok(arguments) } else { Err(wrong(ScanError::TrailingBytes)) }
}

/// Returns the arguments of a [batch](super::BATCH_PREFIX) of calls with these arguments.
pub fn batch_args(calls: &[&Bytes]) -> Vec<u8> {
    let mut args = Vec::new();
    msgpack::write_array_len(calls.len(), &mut args);
    calls.iter().for_each(|call| args.extend_from_slice(call));
    args
}

/// A placeholder within an argument.
struct Occurrence {
    start: usize,
    end: usize,
    /// The number of arrays and maps around it.
    depth: usize,
    placeholder: Placeholder,
}

impl ArgumentReader<'_> {
    fn next<T: DeserializeOwned + 'static>(&mut self) -> Result<T, ArgumentError> {
        self.number += 1;
        self.read().map_err(|cause| {
            let Self { function, number, .. } = self;
            ArgumentError(format!("argument {number} of `{function}` {cause}"))
        })
    }

    fn read<T: DeserializeOwned + 'static>(&mut self) -> Result<T, Cause> {
        let mut found = Vec::new();
        let mut malformed = None;
        let extent = msgpack::scan(&self.left, |ext| match Placeholder::of(&ext) {
            Some(Ok(placeholder)) => found.push(Occurrence {
                start: ext.start,
                end: ext.end,
                depth: ext.depth,
                placeholder,
            }),
            Some(Err(error)) => malformed = Some(error),
            None => {}
        })?;
        let argument = self.left.split_to(extent.len);
        if self.inputs.values.is_empty() {
            // Then the extensions belong to the value itself.
            return Ok(typed::decode_scanned(&argument, extent)?);
        }
        if let Some(error) = malformed {
            return Err(Cause::Placeholder(error));
        }
        match &found[..] {
            [] => Ok(typed::decode_scanned(&argument, extent)?),
            [Occurrence { depth: 0, placeholder: Placeholder::Input(input), .. }] => {
                self.inputs.whole(*input)
            }
            [Occurrence { depth: 0, placeholder: Placeholder::Item(input, item), .. }] => {
                self.inputs.item(*input, *item)
            }
            _ => {
                let (spliced, extent) = self.splice(&argument, extent, &found)?;
                Ok(typed::decode_scanned(&spliced, extent)?)
            }
        }
    }

    /// Returns the argument with its placeholders replaced.
    fn splice(
        &mut self,
        argument: &[u8],
        extent: Extent,
        found: &[Occurrence],
    ) -> Result<(Bytes, Extent), Cause> {
        // The parts are collected first: many placeholders for one large input could exceed any memory.
        let mut parts = Vec::with_capacity(found.len());
        let mut len = argument.len();
        let mut depth = extent.depth;
        for at in found {
            let (part, inside) = self.inputs.part(at.placeholder)?;
            len = len.saturating_add(part.len());
            depth = depth.max(at.depth + inside.depth);
            parts.push((at.start, at.end, part));
        }
        if len as u64 > MOST {
            return Err(Cause::TooLarge);
        }
        if depth > MAX_DEPTH {
            return Err(ScanError::TooDeep.into());
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
        impl<$($A: DeserializeOwned + 'static),*> Arguments for ($($A,)*) {
            const COUNT: usize = $count;

            fn read(_from: &mut ArgumentReader<'_>) -> Result<Self, ArgumentError> {
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
