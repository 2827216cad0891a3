//! What a task has with it in case that an input isn't what it was.
//!
//! An input may be an item of the list that a batch of calls has given. If the list is lost with its worker and made
//! again, it may turn out shorter: calls took longer, or one failed. By then the task is fixed, here and at the
//! scheduler. So with the place of an item goes the call that gives it, and who finds the item missing makes that call.

use bytes::Bytes;

use super::places::{NUMBERS, Place};
use super::problem::Problem;
use super::{Items, scan, value};
use crate::dask::wire::serialized::Serialized;

/// An item, and the call that gives it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spare<'a> {
    pub(crate) item: u32,
    pub(crate) function: &'a str,
    pub(crate) args: &'a [u8],
}

impl Spare<'_> {
    /// Writes the place of the item of this input.
    pub(crate) fn write(&self, input: u32, to: &mut Vec<u8>) {
        let mut call = Vec::with_capacity(self.function.len() + 5 + self.args.len());
        value::text(self.function, &mut call);
        call.extend_from_slice(self.args);
        Place::write_item(input, self.item, &call, to);
    }
}

/// A call that is to be made since its result isn't in the list where it should be.
#[derive(Debug, PartialEq)]
pub(crate) struct Missing {
    /// Of which input it was to be an item.
    input: u32,
    pub(crate) function: String,
    pub(crate) args: Bytes,
}

/// The arguments for a task that gives the item: of its first input.
pub(crate) fn picked(item: &Spare<'_>) -> Vec<u8> {
    let mut args = Vec::new();
    value::array(1, &mut args);
    item.write(0, &mut args);
    args
}

/// The calls whose results aren't there, of those that go with the arguments.
pub(crate) fn missing(args: &Bytes, inputs: &[Serialized]) -> Vec<Missing> {
    let mut missing: Vec<Missing> = Vec::new();
    if inputs.is_empty() {
        // Then there are no places.
        return missing;
    }
    // What is wrong with the arguments is told when they're read.
    let _ = scan::value(args, |ext| {
        let Some(Ok(Place::Item(input, item))) = Place::of(&ext) else { return };
        let call = &ext.data[NUMBERS..];
        let is_known = missing.iter().any(|missing| missing.input == input);
        if call.is_empty() || is_known || has_item(inputs.get(input as usize), item) {
            return;
        }
        if let Ok(name) = scan::value(call, |_| ()) {
            let (name, arguments) = call.split_at(name.len);
            if let Some(function) = scan::text(name) {
                let args = args.slice_ref(arguments);
                missing.push(Missing { input, function: function.to_owned(), args });
            }
        }
    });
    missing
}

/// Whether it has the item, or is no list at all.
fn has_item(list: Option<&Serialized>, item: u32) -> bool {
    let Some(Ok(opened)) = list.map(value::open) else { return true };
    let Ok(list) = opened.body.into_msgpack() else { return true };
    !matches!(scan::list(&list), Ok((count, _)) if count <= item as usize)
}

/// The arguments with the results of these calls in place of what is missing: those are inputs from this one on.
pub(crate) fn filled(args: &Bytes, missing: &[Missing], first: usize) -> Bytes {
    let mut filled = Vec::with_capacity(args.len());
    let mut done = 0;
    let _ = scan::value(args, |ext| {
        let Some(Ok(Place::Item(input, _))) = Place::of(&ext) else { return };
        if let Some(at) = missing.iter().position(|missing| missing.input == input) {
            filled.extend_from_slice(&args[done..ext.start]);
            Place::Whole((first + at) as u32).write(&mut filled);
            done = ext.end;
        }
    });
    filled.extend_from_slice(&args[done..]);
    filled.into()
}

/// What the place stands for that is the only argument.
pub(crate) fn pick(args: &Bytes, inputs: &[Serialized]) -> Result<Serialized, Problem> {
    let wrong = |why: &str| Problem::mismatch(format!("the item can't be taken: {why}"));
    let mut place = None;
    let scanned = scan::value(args, |ext| place = Place::of(&ext));
    scanned.map_err(|broken| wrong(&broken.to_string()))?;
    let Some(Ok(place)) = place else { return Err(wrong("there's no place of it")) };
    let input = match place {
        Place::Whole(input) | Place::Item(input, _) => inputs.get(input as usize),
    };
    let input = input.ok_or_else(|| wrong("there's no such input"))?;
    match place {
        Place::Whole(_) => Ok(input.clone()),
        Place::Item(_, item) => {
            let items = Items::open(input).map_err(|misfit| wrong(&misfit.to_string()))?;
            items.object(item as usize).map_err(|why| wrong(&why))
        }
    }
}
