//! Calls of functions in Python, with arguments as our own functions have them.

use std::sync::Arc;

use bytes::Bytes;

use crate::dask::client::state::task_spec::OwnedArg;
use crate::dask::codec::{Encode, Encoder, Place};
use crate::dask::wire::unpack;
use crate::dask::wire::value::{Map, Value};

/// What a Python function is called with: a bare argument, a tuple where there are several, and `()` where there is
/// none.
///
/// An argument is
///
/// * a [`Handle`](crate::Handle) or a reference to one, as the task's value in Python;
/// * a number, `bool`, `char`, `&str` or `String`, or [`Bytes`](bytes::Bytes), which are `bytes` there;
/// * a vector, slice or array of these, as a list; an `Option`, of which `None` is `None`; a `HashMap` or `BTreeMap`
///   as a dict;
/// * [`Plain`](crate::dask::Plain) of any other value that serde can write.
///
/// You never implement it yourself.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be what a Python function is called with",
    note = "arguments are handles, numbers, text, `Bytes`, and vectors, options and maps of these; write `Plain(value)` \
            for other values that are `Serialize`",
    note = "arguments are given bare where there is one, as a tuple `(&x, 7)` where there are several, and as `()` \
            where there is none"
)]
pub trait PythonInputs {
    #[doc(hidden)]
    fn encode_all(self, to: &mut Encoder);
}

impl PythonInputs for () {
    fn encode_all(self, to: &mut Encoder) {
        to.list(0);
    }
}

impl<X: Encode> PythonInputs for X {
    fn encode_all(self, to: &mut Encoder) {
        to.list(1);
        self.encode(to);
    }
}

macro_rules! tuples {
    ($count:literal $($X:ident $at:tt),*) => {
        impl<$($X: Encode),*> PythonInputs for ($($X,)*) {
            fn encode_all(self, to: &mut Encoder) {
                to.list($count);
                $(self.$at.encode(to);)*
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

/// The module of a function and its name there: `operator.add`, `len` of the module `builtins`, and with a colon where
/// the name has a dot, `builtins:bytes.join`.
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

/// The arguments that were encoded, as the scheduler wants them; `inputs` are the keys of the inputs.
pub(crate) fn python_args(args: &Bytes, inputs: &[Arc<str>]) -> Result<Vec<OwnedArg>, String> {
    let args = unpack::plain_shared(args).map_err(|error| error.to_string())?;
    match python_arg(args, inputs)? {
        OwnedArg::List(args) => Ok(args),
        _ => Err("the arguments of a Python function are no list".to_owned()),
    }
}

fn python_arg(value: Value, inputs: &[Arc<str>]) -> Result<OwnedArg, String> {
    Ok(match value {
        Value::Nil => OwnedArg::None,
        Value::Bool(it) => OwnedArg::Bool(it),
        Value::Int(it) => OwnedArg::Int(it.into()),
        Value::Uint(it) => OwnedArg::Int(it.into()),
        Value::Float(it) => OwnedArg::Float(it),
        Value::Str(it) => OwnedArg::Str(it),
        Value::Bin(it) => OwnedArg::Bytes(it),
        Value::Array(items) => {
            let items = items.into_iter().map(|item| python_arg(item, inputs));
            OwnedArg::List(items.collect::<Result<_, _>>()?)
        }
        Value::Map(Map(entries)) => {
            let entries = entries
                .into_iter()
                .map(|(name, value)| Ok((python_arg(name, inputs)?, python_arg(value, inputs)?)));
            OwnedArg::Dict(entries.collect::<Result<_, String>>()?)
        }
        Value::Ext(kind, data) => match Place::read(kind, &data) {
            Some(Place::Whole(input)) => match inputs.get(input as usize) {
                Some(key) => OwnedArg::Result(key.clone()),
                None => unreachable!("an encoder counts its inputs"),
            },
            _ => return Err(unfit()),
        },
        // Maps with names that mean something to Dask.
        Value::Set(_) | Value::Enum(_) | Value::Serialized(_) | Value::Pickled(_) => {
            return Err(unfit());
        }
    })
}

fn unfit() -> String {
    "an argument of a Python function is neither text, number, bytes, list, dict, `None` nor a handle".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn arguments_are_what_the_scheduler_wants() {
        use crate::Client;
        let client = Client::builder().workers(0).build();
        let x = client.submit(async || 1_u64, ());
        let y = client.submit(async || 2_u64, ());
        let mut encoder = Encoder::new();
        let map = std::collections::BTreeMap::from([("k", &y)]);
        let bytes = bytes::Bytes::from_static(b"b");
        (&x, vec![&y, &x], map, "a", u64::MAX, -1.5, None::<u8>, bytes).encode_all(&mut encoder);
        let encoded = encoder.finish().unwrap();
        assert_eq!(encoded.inputs.len(), 2);
        let keys = ["x-1".into(), "y-2".into()];
        let args = python_args(&encoded.msgpack.into(), &keys).unwrap();
        let (x, y) = (OwnedArg::Result("x-1".into()), OwnedArg::Result("y-2".into()));
        assert_eq!(
            args,
            [
                x.clone(),
                OwnedArg::List(vec![y.clone(), x]),
                OwnedArg::Dict(vec![(OwnedArg::Str("k".into()), y)]),
                OwnedArg::Str("a".into()),
                OwnedArg::Int(u64::MAX.into()),
                OwnedArg::Float(-1.5),
                OwnedArg::None,
                OwnedArg::Bytes(Bytes::from_static(b"b")),
            ]
        );
        for unfit in [vec![0x91, 0xd4, 9, 0], vec![0x90 - 0x10]] {
            assert!(python_args(&unfit.into(), &[]).is_err());
        }
    }
}
