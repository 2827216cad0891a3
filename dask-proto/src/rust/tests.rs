//! The helpers that tests of values and arguments share.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::*;
use crate::msgpack::{self, MAX_DEPTH};
use crate::pack::{Pack, Packer};
use crate::pickle::Pickler;
use crate::serialized::{Content, Serialized};
use crate::value::{Map, Value};

mod arguments;
mod properties;
mod values;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: f64,
    name: Option<String>,
    tags: Vec<(char, i8)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    One(u32),
    Two(u8, u8),
    Named { point: Point },
    Within(Box<Shape>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Nest(Vec<Nest>);

fn there_and_back<
    T: Serialize + DeserializeOwned + Clone + PartialEq + std::fmt::Debug + 'static,
>(
    value: T,
) -> Serialized {
    let object = encode(value.clone()).unwrap();
    assert_eq!(decode::<T>(&object).as_ref(), Ok(&value));
    assert_eq!(object.header().unwrap().text("rust"), Some(std::any::type_name::<T>()));
    object
}

fn misfit<T: DeserializeOwned + std::fmt::Debug + 'static>(object: &Serialized) -> String {
    decode::<T>(object).unwrap_err().to_string()
}

fn msgpack<T: Serialize>(value: &T) -> Serialized {
    Serialized::msgpack(rmp_serde::to_vec_named(value).unwrap().into())
}

fn pickled(write: impl FnOnce(&mut Pickler)) -> Serialized {
    let mut pickler = Pickler::new();
    write(&mut pickler);
    Serialized::pickle(pickler.finish().into())
}

fn parsed(header: Vec<(&str, &dyn Pack)>, frames: Vec<Bytes>) -> Serialized {
    let mut packer = Packer::new();
    packer.fields(&[&header[..], &[("num-sub-frames", &(frames.len() as u64))]].concat());
    Serialized::from_wire(packer.into_msgpack().into(), frames)
}

fn args<A: Arguments>(args: Vec<u8>, inputs: Vec<Serialized>) -> Result<A, String> {
    decode_args("f", &args.into(), &mut Inputs::new(inputs)).map_err(|error| error.to_string())
}

/// An argument: plain msgpack, or a placeholder.
type Part<'a> = &'a dyn Fn(&mut Vec<u8>);

fn blob(parts: &[Part<'_>]) -> Vec<u8> {
    let mut blob = Vec::new();
    msgpack::write_array_len(parts.len(), &mut blob);
    parts.iter().for_each(|part| part(&mut blob));
    blob
}

fn plain<T: Serialize>(value: T) -> impl Fn(&mut Vec<u8>) {
    move |to| append(&value, to).unwrap()
}

fn placeholder(placeholder: Placeholder) -> impl Fn(&mut Vec<u8>) {
    move |to| placeholder.write(to)
}
