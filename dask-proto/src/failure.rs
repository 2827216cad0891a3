//! What is said of a task or a call that failed.

use bytes::Bytes;

use crate::WireError;
use crate::pickle::{self, Exception};
use crate::serialized::Content;
use crate::value::Value;

/// Reads what stands for an exception: text, a pickle, or an object that holds a pickle. Where it can't be
/// read, the exception says that.
pub fn exception(value: &Value) -> Exception {
    match read(value) {
        Ok(exception) => exception,
        Err(error) => unknown(format!("an exception that can't be read: {error}")),
    }
}

/// Whether this is how the scheduler refuses a graph since a task of it takes what is gone. Until 2025.3 it trips over
/// keys that aren't a set, before it has taken any of the tasks. With a set it would refuse one of those that take it, and
/// keep the others, which can't run.
pub fn is_of_lost_dependencies(said: &Value, traceback: &Value) -> bool {
    let Exception { class, text, .. } = exception(said);
    // The traceback of a task has what the task did.
    class == "AttributeError"
        && text == "'tuple' object has no attribute 'discard'"
        && is_none(traceback)
}

/// Whether it's Python's `None`.
fn is_none(value: &Value) -> bool {
    let Value::Serialized(object) = value else { return *value == Value::Nil };
    let Ok(Content::Bytes(pickled)) = object.content() else { return false };
    let objects = pickle::read(&pickled.concat().into());
    objects.is_ok_and(|objects| matches!(objects.get(objects.root()), pickle::Node::None))
}

fn unknown(text: String) -> Exception {
    Exception { class: "Exception".to_owned(), module: "builtins".to_owned(), text, cause: None }
}

fn read(value: &Value) -> Result<Exception, WireError> {
    match value {
        Value::Str(text) => Ok(unknown(text.clone())),
        Value::Bin(pickled) => pickle::exception(pickled),
        Value::Serialized(object) => match object.content()? {
            Content::Bytes(parts) => pickle::exception(&parts.concat().into()),
            Content::Pickle(pickled, _) => of_pickle(&pickled),
            Content::Error(text) => Ok(unknown(text)),
            Content::Plain(value) if !matches!(value, Value::Serialized(_)) => read(&value),
            _ => Err(WireError::malformed("an object of another kind")),
        },
        _ => Err(WireError::malformed("neither text nor a pickle")),
    }
}

/// A pickle of an exception, or of the bytes that are one.
fn of_pickle(pickled: &Bytes) -> Result<Exception, WireError> {
    let objects = pickle::read(pickled)?;
    match objects.get(objects.root()) {
        pickle::Node::Bytes(inner) => pickle::exception(inner),
        _ => pickle::exception(pickled),
    }
}
