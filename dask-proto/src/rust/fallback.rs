//! Calls that compute an item of a batch again.
//!
//! An input may be an item of the list that a batch of calls has returned. If the list is lost with its worker and the
//! batch runs again, the list may be shorter: the calls took longer, or one failed. The task that takes the item is
//! already at the scheduler then, with its placeholders. So the placeholder of an item has the call that computes it,
//! and a worker that finds the item missing makes that call.

use bytes::Bytes;

use super::placeholder::{NUMBERS, Placeholder};
use super::{ArgumentError, Items, typed};
use crate::msgpack;
use crate::serialized::Serialized;

/// An item of a batch's result, and the call that computes it.
#[derive(Clone, Copy, Debug)]
pub struct ItemCall<'a> {
    /// The number of the item, from 0.
    pub item: u32,
    /// The name of the function.
    pub function: &'a str,
    /// The arguments of the call, a msgpack array without placeholders.
    pub args: &'a [u8],
}

impl ItemCall<'_> {
    /// Appends the placeholder for this item of the input with this number.
    pub fn write(&self, input: u32, to: &mut Vec<u8>) {
        let mut call = Vec::with_capacity(self.function.len() + 5 + self.args.len());
        msgpack::write_str(self.function, &mut call);
        call.extend_from_slice(self.args);
        Placeholder::write_item(input, self.item, &call, to);
    }
}

/// A call whose result is missing in the list where a placeholder expects it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingItem {
    /// The number of the input that lacks the item.
    input: u32,
    /// The name of the function.
    pub function: String,
    /// The arguments of the call.
    pub args: Bytes,
}

/// Returns the arguments of a [pick](super::PICK_FUNCTION): the placeholder for an item of the first input.
pub fn pick_args(item: &ItemCall<'_>) -> Vec<u8> {
    let mut args = Vec::new();
    msgpack::write_array_len(1, &mut args);
    item.write(0, &mut args);
    args
}

/// Returns the calls of those placeholders in `args` whose items are missing in `inputs`, the first for each input.
///
/// Errors in the arguments are left to [`decode_args`](super::decode_args).
pub fn missing_items(args: &Bytes, inputs: &[Serialized]) -> Vec<MissingItem> {
    let mut missing: Vec<MissingItem> = Vec::new();
    if inputs.is_empty() {
        // Without inputs, extensions are no placeholders.
        return missing;
    }
    let _ = msgpack::scan(args, |ext| {
        let Some(Ok(Placeholder::Item(input, item))) = Placeholder::of(&ext) else { return };
        let call = &ext.data[NUMBERS..];
        let is_known = missing.iter().any(|missing| missing.input == input);
        if call.is_empty() || is_known || has_item(inputs.get(input as usize), item) {
            return;
        }
        if let Ok(name) = msgpack::scan(call, |_| ()) {
            let (name, arguments) = call.split_at(name.len);
            if let Some(function) = msgpack::text(name) {
                let args = args.slice_ref(arguments);
                missing.push(MissingItem { input, function: function.to_owned(), args });
            }
        }
    });
    missing
}

/// Returns whether a list has an item. Anything else than a list counts as having it, and is refused later.
fn has_item(list: Option<&Serialized>, item: u32) -> bool {
    let Some(Ok(opened)) = list.map(typed::open) else { return true };
    let Ok(list) = opened.body.into_msgpack() else { return true };
    !matches!(msgpack::array(&list), Ok((count, _)) if count <= item as usize)
}

/// Returns `args` with the placeholders of missing items replaced. The results of the `missing` calls are the inputs
/// from the number `first` on.
pub fn fill_missing(args: &Bytes, missing: &[MissingItem], first: usize) -> Bytes {
    let mut filled = Vec::with_capacity(args.len());
    let mut done = 0;
    let _ = msgpack::scan(args, |ext| {
        let Some(Ok(Placeholder::Item(input, _))) = Placeholder::of(&ext) else { return };
        if let Some(at) = missing.iter().position(|missing| missing.input == input) {
            filled.extend_from_slice(&args[done..ext.start]);
            Placeholder::Input((first + at) as u32).write(&mut filled);
            done = ext.end;
        }
    });
    filled.extend_from_slice(&args[done..]);
    filled.into()
}

/// Returns the result of a [pick](super::PICK_FUNCTION): the input, or the item of one, that is the only argument.
///
/// # Errors
///
/// If the argument is no placeholder, or the input or item doesn't exist.
pub fn pick_item(args: &Bytes, inputs: &[Serialized]) -> Result<Serialized, ArgumentError> {
    let wrong = |why: &str| ArgumentError(format!("the item can't be picked: {why}"));
    let mut placeholder = None;
    let scanned = msgpack::scan(args, |ext| placeholder = Placeholder::of(&ext));
    scanned.map_err(|error| wrong(&error.to_string()))?;
    let Some(Ok(placeholder)) = placeholder else {
        return Err(wrong("the argument isn't a placeholder for an input"));
    };
    let (Placeholder::Input(number) | Placeholder::Item(number, _)) = placeholder;
    let input = inputs
        .get(number as usize)
        .ok_or_else(|| wrong(&format!("there is no input {number}, only {}", inputs.len())))?;
    match placeholder {
        Placeholder::Input(_) => Ok(input.clone()),
        Placeholder::Item(_, item) => {
            let items = Items::open(input).map_err(|error| wrong(&error.to_string()))?;
            items.object(item as usize).map_err(|why| wrong(&why))
        }
    }
}
