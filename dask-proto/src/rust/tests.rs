//! What the tests of values and arguments share.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::places::Place;
use super::*;
use crate::Portable;
use crate::dask::wire::pack::{Pack, Packer};
use crate::dask::wire::pickle::Pickler;
use crate::dask::wire::serialized::{Content, Serialized};
use crate::dask::wire::value::{Map, Value};

mod arguments;
mod encoded;
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

fn there_and_back<T: Portable + PartialEq + std::fmt::Debug>(value: T) -> Serialized {
    let object = write(value.clone()).unwrap();
    assert_eq!(read::<T>(&object).as_ref(), Ok(&value));
    assert_eq!(object.header().unwrap().text("rust"), Some(std::any::type_name::<T>()));
    object
}

fn misfit<T: Portable + std::fmt::Debug>(object: &Serialized) -> String {
    read::<T>(object).unwrap_err().to_string()
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
    decode("f", &args.into(), &mut Inputs::new(inputs)).map_err(|problem| {
        assert_eq!(problem.kind, ProblemKind::Mismatch);
        problem.text
    })
}

/// A list of plain msgpack and places.
type Part<'a> = &'a dyn Fn(&mut Vec<u8>);

fn blob(parts: &[Part<'_>]) -> Vec<u8> {
    let mut blob = Vec::new();
    value::array(parts.len(), &mut blob);
    parts.iter().for_each(|part| part(&mut blob));
    blob
}

fn plain<T: Serialize>(value: T) -> impl Fn(&mut Vec<u8>) {
    move |to| value::append(&value, to).unwrap()
}

fn place(place: Place) -> impl Fn(&mut Vec<u8>) {
    move |to| place.write(to)
}
