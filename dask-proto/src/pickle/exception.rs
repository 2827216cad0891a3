//! Python exceptions, read from pickles.

use std::fmt;
use std::fmt::Write as _;

use bytes::Bytes;

use super::read::{Node, NodeId, Objects, read};
use crate::WireError;

/// The most levels and bytes of an exception's text. Its arguments may contain each other, and be shown without end.
const DEPTH: usize = 6;
const LENGTH: usize = 10_000;

/// A Python exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// The name of the class, without the module.
    pub class: String,
    /// The module of the class.
    pub module: String,
    /// The text, as `str` returns it.
    pub text: String,
    /// The exception that it was raised from.
    pub cause: Option<Box<Exception>>,
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.class)?;
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {}", self.text) }
    }
}

/// Reads a pickled exception.
///
/// Python pickles an exception as a call of its class, Dask as a call of a function in `tblib` with the class, the
/// arguments, the cause and the traceback.
///
/// # Errors
///
/// If the pickle is malformed, or not of an exception.
pub fn exception(pickle: &Bytes) -> Result<Exception, WireError> {
    let objects = read(pickle)?;
    describe(&objects, objects.root(), 0)
        .ok_or_else(|| WireError::malformed("a pickle that is no exception"))
}

fn describe(objects: &Objects, id: NodeId, depth: usize) -> Option<Exception> {
    let Node::Call { of, args, .. } = objects.get(id) else { return None };
    let (mut class, mut args, mut cause) = (*of, *args, None);
    if let Node::Class { module, name } = objects.get(class) {
        if module == "tblib.pickling_support" && name.starts_with("unpickle_exception") {
            let given = objects.items(args);
            class = *given.first()?;
            let how = *given.get(1)?;
            // Either the attributes, of which `args` is one, or the arguments themselves, by the release of tblib.
            args = objects.entry(how, "args").unwrap_or(how);
            cause = given.get(2).filter(|_| depth < DEPTH);
        }
    }
    let (module, class) = match objects.get(class) {
        Node::Class { module, name } => (module.clone(), name.clone()),
        // A class that is pickled by value: a call with the name among its arguments.
        Node::Call { args, .. } => {
            let name = objects.items(*args).iter().find_map(|arg| match objects.get(*arg) {
                Node::Str(name) => Some(name.clone()),
                _ => None,
            });
            (String::new(), name?)
        }
        _ => return None,
    };
    let text = match (&*class, objects.items(args)) {
        (_, []) => String::new(),
        // Python shows the `repr` of a missing key.
        ("KeyError", [one]) => shown(objects, *one),
        (_, [one]) => match objects.get(*one) {
            Node::Str(text) => text.clone(),
            _ => shown(objects, *one),
        },
        ("OSError" | "FileNotFoundError" | "PermissionError", [number, text, ..]) => {
            match objects.get(*text) {
                Node::Str(text) => format!("[Errno {}] {text}", shown(objects, *number)),
                _ => shown(objects, args),
            }
        }
        _ => shown(objects, args),
    };
    let cause = cause.and_then(|cause| describe(objects, *cause, depth + 1)).map(Box::new);
    Some(Exception { class, module, text, cause })
}

/// Returns an object as `repr` does in Python, approximately.
fn shown(objects: &Objects, id: NodeId) -> String {
    let mut text = String::new();
    show(objects, id, 0, &mut text);
    text
}

fn show(objects: &Objects, id: NodeId, depth: usize, to: &mut String) {
    if depth > DEPTH || to.len() > LENGTH {
        to.push('…');
        return;
    }
    let list = |open: &str, items: &[NodeId], close: &str, to: &mut String| {
        to.push_str(open);
        for (at, item) in items.iter().enumerate() {
            if to.len() > LENGTH {
                break;
            }
            to.push_str(if at == 0 { "" } else { ", " });
            show(objects, *item, depth + 1, to);
        }
        to.push_str(close);
    };
    // Writing to a `String` doesn't fail.
    let _ = match objects.get(id) {
        Node::None => write!(to, "None"),
        Node::Bool(true) => write!(to, "True"),
        Node::Bool(false) => write!(to, "False"),
        Node::Int(it) => write!(to, "{it}"),
        Node::LongInt(len) => write!(to, "<number of {len} bytes>"),
        Node::Float(it) => write!(to, "{it:?}"),
        Node::Str(it) if it.len() <= LENGTH => write!(to, "'{}'", it.replace('\'', "\\'")),
        Node::Bytes(it) if it.len() <= LENGTH => write!(to, "b'{}'", it.escape_ascii()),
        Node::Str(it) => write!(to, "<text of {} bytes>", it.len()),
        Node::Bytes(it) => write!(to, "<{} bytes>", it.len()),
        Node::Class { name, .. } => write!(to, "<{name}>"),
        Node::External => write!(to, "<buffer>"),
        Node::List(items) => {
            list("[", items, "]", to);
            Ok(())
        }
        Node::Tuple(items) => {
            list("(", items, if items.len() == 1 { ",)" } else { ")" }, to);
            Ok(())
        }
        Node::Set(items) => {
            list("{", items, "}", to);
            Ok(())
        }
        Node::Dict(entries) => {
            to.push('{');
            for (at, (key, value)) in entries.iter().enumerate() {
                if to.len() > LENGTH {
                    break;
                }
                to.push_str(if at == 0 { "" } else { ", " });
                show(objects, *key, depth + 1, to);
                to.push_str(": ");
                show(objects, *value, depth + 1, to);
            }
            to.push('}');
            Ok(())
        }
        Node::Call { of, args, .. } => {
            if let Node::Class { name, .. } = objects.get(*of) {
                to.push_str(name);
                list("(", objects.items(*args), ")", to);
            } else {
                to.push_str("<object>");
            }
            Ok(())
        }
    };
}
