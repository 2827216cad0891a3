//! What is said of a task or a call that failed.

use bytes::Bytes;

use super::WireError;
use super::pickle::{self, Exception};
use super::serialized::Content;
use super::value::Value;

/// Reads what stands for an exception: text, a pickle, or an object that holds a pickle. Where it can't be
/// read, the exception says that.
pub fn exception(value: &Value) -> Exception {
    match read(value) {
        Ok(exception) => exception,
        Err(error) => unknown(format!("an exception that can't be read: {error}")),
    }
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
