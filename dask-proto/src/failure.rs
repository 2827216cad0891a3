//! Errors of tasks and calls, as the other side reports them.

use bytes::Bytes;

use crate::WireError;
use crate::pickle::{self, Exception};
use crate::serialized::Content;
use crate::value::Value;

/// Reads an exception from a message: text, a pickle, or an object that contains a pickle.
///
/// If it can't be read, the text of the returned exception says so.
pub fn exception(value: &Value) -> Exception {
    match read(value) {
        Ok(exception) => exception,
        Err(error) => unknown(format!("an exception that can't be read: {error}")),
    }
}

/// Returns whether the scheduler has refused a graph because one of its tasks depends on a key that no longer exists.
///
/// Releases before 2025.4 fail with this `AttributeError` if the keys of `update-graph` aren't a set, before any task
/// of the graph exists. With a set they would refuse one of the dependent tasks, and keep the others, which can't run.
pub fn is_of_lost_dependencies(said: &Value, traceback: &Value) -> bool {
    let Exception { class, text, .. } = exception(said);
    // The same exception from a task would have a traceback.
    class == "AttributeError"
        && text == "'tuple' object has no attribute 'discard'"
        && is_none(traceback)
}

/// Returns whether a value is `None` in Python.
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

/// Reads a pickle of an exception, or of bytes that are such a pickle.
fn of_pickle(pickled: &Bytes) -> Result<Exception, WireError> {
    let objects = pickle::read(pickled)?;
    match objects.get(objects.root()) {
        pickle::Node::Bytes(inner) => pickle::exception(inner),
        _ => pickle::exception(pickled),
    }
}
