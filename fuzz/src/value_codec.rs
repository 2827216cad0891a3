//! The target `values`: arbitrary bytes as values and arguments from other machines. Decoding must not panic, recurse
//! without limit or reserve memory out of proportion, and a decoded value must survive encoding and decoding.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;
use ensue_dask_proto::rust::{Arguments, Inputs, decode, decode_args, encode};
use ensue_dask_proto::serialized::Serialized;
use ensue_dask_proto::unpack;
use ensue_dask_proto::value::Value;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The first frame of a message that is an object in the other frames.
const OBJECT: &[u8] = b"\x81\xae__Serialized__\x01";

/// A type that serde decodes recursively, without a limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Deep {
    End,
    In(Box<Deep>),
    Two(Option<Box<Deep>>, u8),
    Named { it: Vec<Deep> },
}

/// A type that serde decodes by trying its variants.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Any {
    Nothing(()),
    Truth(bool),
    Number(i64),
    Float(f64),
    Text(String),
    List(Vec<Any>),
    Map(BTreeMap<String, Any>),
}

/// Runs the target. The first byte selects the format of the others.
pub(crate) fn run(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(data);
    match kind % 5 {
        0 => value(&Serialized::msgpack(bytes)),
        1 => value(&Serialized::pickle(bytes)),
        2 => value(&Serialized::bytes(bytes)),
        3 => {
            if let Some(object) = object(data) {
                value(&object);
            }
        }
        _ => arguments(data),
    }
}

/// Splits off a part whose length is in the first byte.
fn part(data: &[u8]) -> (Bytes, &[u8]) {
    let Some((len, rest)) = data.split_first() else { return (Bytes::new(), data) };
    let (part, rest) = rest.split_at(rest.len().min(usize::from(*len)));
    (Bytes::copy_from_slice(part), rest)
}

/// Returns an object of a header and frames.
fn object(data: &[u8]) -> Option<Serialized> {
    let (header, mut left) = part(data);
    let mut frames = vec![Bytes::from_static(OBJECT), header];
    while !left.is_empty() {
        let (frame, rest) = part(left);
        frames.push(frame);
        left = rest;
    }
    match unpack::message(&frames) {
        Ok(Value::Serialized(object)) => Some(*object),
        _ => None,
    }
}

/// Decodes arguments with inputs.
fn arguments(data: &[u8]) {
    let (args, mut left) = part(data);
    let mut inputs = vec![encode(vec![7_u64, 300]).expect("a list of numbers")];
    while let Some((kind, rest)) = left.split_first() {
        let (bytes, rest) = part(rest);
        left = rest;
        inputs.push(match kind % 4 {
            0 => Serialized::msgpack(bytes),
            1 => Serialized::pickle(bytes),
            2 => Serialized::bytes(bytes),
            _ => encode(String::from_utf8_lossy(&bytes).into_owned()).expect("text"),
        });
    }
    called::<(Deep,)>(&args, &inputs);
    called::<(Any, Any)>(&args, &inputs);
    called::<(Vec<u64>, Bytes, Option<String>)>(&args, &inputs);
}

fn called<A: Arguments>(args: &Bytes, inputs: &[Serialized]) {
    for inputs in [inputs, &[]] {
        if let Err(error) = decode_args::<A>("f", args, &mut Inputs::new(inputs.to_vec())) {
            assert!(error.to_string().contains("`f`"), "{error}");
        }
    }
}

fn value(object: &Serialized) {
    again::<()>(object);
    again::<u64>(object);
    again::<i128>(object);
    again::<(f32, char)>(object);
    again::<String>(object);
    again::<Option<Vec<u8>>>(object);
    again::<Bytes>(object);
    again::<Deep>(object);
    again::<Any>(object);
}

/// Decodes, encodes and decodes again. The encodings are compared, since a value may contain NaN.
fn again<T: Serialize + DeserializeOwned + Clone + Debug + 'static>(object: &Serialized) {
    let Ok(value) = decode::<T>(object) else { return };
    let encoded = encode(value.clone()).expect("a value that was decoded can be encoded");
    let second = decode::<T>(&encoded).expect("a value that was encoded can be decoded");
    assert_eq!(encode(second), Ok(encoded), "{value:?}");
}
