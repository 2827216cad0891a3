//! The target `values`: any bytes, as values and arguments from other machines. Nothing panics, recurses as deep as
//! the bytes say, or takes memory that they don't pay for; and what is read reads the same after it was written.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;
use ensue::Portable;
use ensue::dask::codec::{Arguments, Inputs, decode, read, write};
use ensue_dask_proto::serialized::Serialized;
use ensue_dask_proto::unpack;
use ensue_dask_proto::value::Value;
use serde::{Deserialize, Serialize};

/// A message that is an object in the frames that follow.
const OBJECT: &[u8] = b"\x81\xae__Serialized__\x01";

/// What serde reads by calling itself, without counting how deep.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Deep {
    End,
    In(Box<Deep>),
    Two(Option<Box<Deep>>, u8),
    Named { it: Vec<Deep> },
}

/// What looks at the bytes to know what it is.
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

/// The first byte says what the others are.
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

/// A part whose length the first byte tells, and what is left.
fn part(data: &[u8]) -> (Bytes, &[u8]) {
    let Some((len, rest)) = data.split_first() else { return (Bytes::new(), data) };
    let (part, rest) = rest.split_at(rest.len().min(usize::from(*len)));
    (Bytes::copy_from_slice(part), rest)
}

/// A header, and frames.
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

/// Arguments, and inputs that may be in their places.
fn arguments(data: &[u8]) {
    let (args, mut left) = part(data);
    let mut inputs = vec![write(vec![7_u64, 300]).expect("a list of numbers")];
    while let Some((kind, rest)) = left.split_first() {
        let (bytes, rest) = part(rest);
        left = rest;
        inputs.push(match kind % 4 {
            0 => Serialized::msgpack(bytes),
            1 => Serialized::pickle(bytes),
            2 => Serialized::bytes(bytes),
            _ => write(String::from_utf8_lossy(&bytes).into_owned()).expect("text"),
        });
    }
    called::<(Deep,)>(&args, &inputs);
    called::<(Any, Any)>(&args, &inputs);
    called::<(Vec<u64>, Bytes, Option<String>)>(&args, &inputs);
}

fn called<A: Arguments>(args: &Bytes, inputs: &[Serialized]) {
    for inputs in [inputs, &[]] {
        if let Err(problem) = decode::<A>("f", args, &mut Inputs::new(inputs.to_vec())) {
            assert!(problem.text.contains("`f`"), "{problem}");
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

/// Reads, writes and reads. Numbers that aren't equal to themselves may be in it.
fn again<T: Portable + Debug>(object: &Serialized) {
    let Ok(value) = read::<T>(object) else { return };
    let written = write(value.clone()).expect("what was read");
    let second = read::<T>(&written).expect("what was written");
    assert_eq!(write(second), Ok(written), "{value:?}");
}
