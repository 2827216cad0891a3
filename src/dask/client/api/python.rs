//! Calls of Python functions: their names, and their arguments in the form of the graph.

use std::sync::Arc;

use bytes::Bytes;

use crate::client::visit::InputVisitor;
use crate::dask::codec::visit::Visit;
use crate::dask::wire::graph::Arg;
use crate::dask::wire::rust::Placeholder;
use crate::dask::wire::unpack;
use crate::dask::wire::value::{Map, Value};
use crate::task::seal::Seal;

/// The arguments of a Python function: a bare argument, a tuple of several, or `()` for none.
///
/// An argument is
///
/// * a [`Handle`](crate::Handle) or a reference to one, which becomes the task's value in Python;
/// * a number, `bool`, `char`, `&str` or `String`, or [`Bytes`], which becomes `bytes`;
/// * a vector, slice or array of these, which becomes a list; an `Option`, whose `None` becomes `None`; a `HashMap` or
///   `BTreeMap`, which becomes a dict;
/// * [`Plain`](crate::dask::Plain) of any other value that serde can serialize.
///
/// The trait is sealed: it can't be implemented outside of this crate.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an argument of a Python function",
    note = "arguments are handles, numbers, text, `Bytes`, and vectors, options and maps of these; write `Plain(value)` \
            for other values that are `Serialize`",
    note = "arguments are given bare where there is one, as a tuple `(&x, 7)` where there are several, and as `()` \
            where there is none"
)]
pub trait PythonInputs {
    #[doc(hidden)]
    fn visit_all<V: InputVisitor>(self, to: &mut V, _: Seal);
}

impl PythonInputs for () {
    fn visit_all<V: InputVisitor>(self, to: &mut V, _: Seal) {
        to.list(0);
    }
}

impl<X: Visit> PythonInputs for X {
    fn visit_all<V: InputVisitor>(self, to: &mut V, _: Seal) {
        to.list(1);
        self.visit(to);
    }
}

macro_rules! tuples {
    ($count:literal $($X:ident $at:tt),*) => {
        impl<$($X: Visit),*> PythonInputs for ($($X,)*) {
            fn visit_all<V: InputVisitor>(self, to: &mut V, _: Seal) {
                to.list($count);
                $(self.$at.visit(to);)*
            }
        }
    };
}

tuples!(1 X0 0);
tuples!(2 X0 0, X1 1);
tuples!(3 X0 0, X1 1, X2 2);
tuples!(4 X0 0, X1 1, X2 2, X3 3);
tuples!(5 X0 0, X1 1, X2 2, X3 3, X4 4);
tuples!(6 X0 0, X1 1, X2 2, X3 3, X4 4, X5 5);
tuples!(7 X0 0, X1 1, X2 2, X3 3, X4 4, X5 5, X6 6);
tuples!(8 X0 0, X1 1, X2 2, X3 3, X4 4, X5 5, X6 6, X7 7);
tuples!(9 X0 0, X1 1, X2 2, X3 3, X4 4, X5 5, X6 6, X7 7, X8 8);
tuples!(10 X0 0, X1 1, X2 2, X3 3, X4 4, X5 5, X6 6, X7 7, X8 8, X9 9);
tuples!(11 X0 0, X1 1, X2 2, X3 3, X4 4, X5 5, X6 6, X7 7, X8 8, X9 9, X10 10);
tuples!(12 X0 0, X1 1, X2 2, X3 3, X4 4, X5 5, X6 6, X7 7, X8 8, X9 9, X10 10, X11 11);

/// Splits the path of a function into its module and its name in that: `operator.add`, `len` of the module `builtins`,
/// and with a colon before a name with a dot, `builtins:bytes.join`.
pub(crate) fn python_name(path: &str) -> Result<(&str, &str), String> {
    let (module, name) =
        path.split_once(':').or_else(|| path.rsplit_once('.')).unwrap_or(("builtins", path));
    let is_name = |part: &str| {
        part.chars().all(|c| c == '_' || c.is_alphanumeric())
            && part.chars().next().is_some_and(|c| !c.is_numeric())
    };
    if module.split('.').chain(name.split('.')).all(is_name) {
        Ok((module, name))
    } else {
        Err(format!(
            "`{path}` isn't the name of a Python function: write `module.function`, or \
             `module:Class.method`"
        ))
    }
}

/// Decodes encoded arguments into those of the graph. `inputs` are the keys of the tasks that they refer to.
pub(super) fn python_args(args: &Bytes, inputs: &[Arc<str>]) -> Result<Vec<Arg>, String> {
    let args = unpack::plain_shared(args).map_err(|error| error.to_string())?;
    match python_arg(args, inputs)? {
        Arg::List(args) => Ok(args),
        _ => Err("the encoded arguments of a Python function aren't a list".to_owned()),
    }
}

fn python_arg(value: Value, inputs: &[Arc<str>]) -> Result<Arg, String> {
    Ok(match value {
        Value::Nil => Arg::None,
        Value::Bool(it) => Arg::Bool(it),
        Value::Int(it) => Arg::Int(it.into()),
        Value::Uint(it) => Arg::Int(it.into()),
        Value::Float(it) => Arg::Float(it),
        Value::Str(it) => Arg::Str(it.into()),
        Value::Bin(it) => Arg::Bytes(it),
        Value::Array(items) => {
            let items = items.into_iter().map(|item| python_arg(item, inputs));
            Arg::List(items.collect::<Result<_, _>>()?)
        }
        Value::Map(Map(entries)) => {
            let entries = entries
                .into_iter()
                .map(|(name, value)| Ok((python_arg(name, inputs)?, python_arg(value, inputs)?)));
            Arg::Dict(entries.collect::<Result<_, String>>()?)
        }
        Value::Ext(kind, data) => match Placeholder::read(kind, &data) {
            Some(Placeholder::Input(input)) => match inputs.get(input as usize) {
                Some(key) => Arg::Result(key.clone()),
                None => unreachable!("the encoder numbers the inputs that it returns"),
            },
            _ => return Err(unsupported()),
        },
        // Maps whose names have a meaning for Dask are decoded to these.
        Value::Set(_) | Value::Enum(_) | Value::Serialized(_) | Value::Pickled(_) => {
            return Err(unsupported());
        }
    })
}

fn unsupported() -> String {
    "an argument of a Python function is of an unsupported type: pass text, numbers, bytes, lists, dicts, `None` or \
     handles"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::seal::SEAL;

    #[test]
    fn names_have_a_module() {
        assert_eq!(python_name("len"), Ok(("builtins", "len")));
        assert_eq!(python_name("operator.add"), Ok(("operator", "add")));
        assert_eq!(python_name("numpy.linalg.norm"), Ok(("numpy.linalg", "norm")));
        assert_eq!(python_name("builtins:bytes.join"), Ok(("builtins", "bytes.join")));
        for wrong in
            ["", ".", "a.", ".a", "a b", "lambda: 3", "1a", "a:", ":a", "a:b:c", "os.system('x')"]
        {
            assert!(python_name(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
    }

    #[test]
    fn arguments_are_decoded_for_the_graph() {
        use crate::Client;
        use crate::dask::codec::Encoder;
        let client = Client::builder().workers(0).build();
        let x = client.submit(async || 1_u64, ());
        let y = client.submit(async || 2_u64, ());
        let mut encoder = Encoder::new();
        let map = std::collections::BTreeMap::from([("k", &y)]);
        let bytes = bytes::Bytes::from_static(b"b");
        (&x, vec![&y, &x], map, "a", u64::MAX, -1.5, None::<u8>, bytes)
            .visit_all(&mut encoder, SEAL);
        let encoded = encoder.finish().unwrap();
        assert_eq!(encoded.inputs.len(), 2);
        let keys = ["x-1".into(), "y-2".into()];
        let args = python_args(&encoded.msgpack.into(), &keys).unwrap();
        let (x, y) = (Arg::Result("x-1".into()), Arg::Result("y-2".into()));
        assert_eq!(
            args,
            [
                x.clone(),
                Arg::List(vec![y.clone(), x]),
                Arg::Dict(vec![(Arg::Str("k".into()), y)]),
                Arg::Str("a".into()),
                Arg::Int(u64::MAX.into()),
                Arg::Float(-1.5),
                Arg::None,
                Arg::Bytes(Bytes::from_static(b"b")),
            ]
        );
        for unfit in [vec![0x91, 0xd4, 9, 0], vec![0x90 - 0x10]] {
            assert!(python_args(&unfit.into(), &[]).is_err());
        }
    }
}
