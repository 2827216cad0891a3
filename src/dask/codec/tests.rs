//! Values there and back, those of Python, and arguments.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::places::Place;
use super::*;
use crate::Portable;
use crate::dask::wire::pack::{Pack, Packer};
use crate::dask::wire::pickle::Pickler;
use crate::dask::wire::serialized::{Content, Serialized};
use crate::dask::wire::value::{Map, Value};

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

#[test]
fn values_come_back_as_they_were() {
    there_and_back(7_u64);
    there_and_back(u64::MAX);
    there_and_back(i64::MIN);
    there_and_back(i128::MIN);
    there_and_back(u128::MAX);
    there_and_back(-0.5_f32);
    there_and_back(f64::INFINITY);
    there_and_back('é');
    there_and_back("text".to_owned());
    there_and_back(true);
    there_and_back(Unit);
    there_and_back(Some(3_u8));
    there_and_back(None::<String>);
    there_and_back(((1_u8, "a".to_owned()), [1_i32, 2, 3]));
    there_and_back(BTreeMap::from([((1_u8, 2_u8), vec![1.5])]));
    there_and_back(HashMap::from([("a".to_owned(), Unit), ("b".to_owned(), Unit)]));
    there_and_back(std::time::Duration::from_millis(1500));
    let point = Point { x: 0.5, name: Some("p".into()), tags: vec![('a', -1)] };
    for shape in [
        Shape::Nothing,
        Shape::One(70_000),
        Shape::Two(1, 2),
        Shape::Named { point: point.clone() },
        Shape::Within(Box::new(Shape::Within(Box::new(Shape::Nothing)))),
    ] {
        there_and_back(shape);
    }
    // Python sees names.
    let object = there_and_back(point);
    let Content::Plain(Value::Map(map)) = object.content().unwrap() else { panic!("no map") };
    assert_eq!(map.text("name"), Some("p"));
    assert_eq!(map.get("x"), Some(&Value::Float(0.5)));
    assert_eq!(there_and_back(()).content(), Ok(Content::Plain(Value::Nil)));
}

#[test]
fn bytes_are_bytes_to_python_and_are_not_copied() {
    let bytes = Bytes::from(vec![7; 1 << 20]);
    let object = there_and_back(bytes.clone());
    assert_eq!(object.content(), Ok(Content::Bytes(vec![bytes.clone()])));
    assert_eq!(object.frames()[0].as_ptr(), bytes.as_ptr());
    assert_eq!(read::<Bytes>(&object).unwrap().as_ptr(), bytes.as_ptr());
    let vec = vec![1, 2, 3_u8];
    let at = vec.as_ptr();
    let object = write(vec).unwrap();
    assert_eq!(object.frames()[0].as_ptr(), at);
    there_and_back(Vec::<u8>::new());
    there_and_back(Bytes::new());
}

#[test]
fn another_type_of_rusts_is_an_error_naming_both() {
    let text = there_and_back("7".to_owned());
    assert_eq!(misfit::<u64>(&text), "a `String`, not a `u64`");
    assert_eq!(misfit::<Vec<Option<u8>>>(&text), "a `String`, not a `Vec<Option<u8>>`");
    assert_eq!(misfit::<Bytes>(&write(vec![1_u8]).unwrap()), "a `Vec<u8>`, not a `Bytes`");
    assert_eq!(misfit::<u32>(&write(1_u64).unwrap()), "a `u64`, not a `u32`");
    // Also where the header came through Python.
    let object =
        parsed(vec![("rust", &"a::B"), ("serializer", &"msgpack")], vec![Bytes::from_static(&[1])]);
    assert_eq!(misfit::<u8>(&object), "a `B`, not a `u8`");
}

#[test]
fn what_python_made_is_read() {
    assert_eq!(read(&msgpack(&7)), Ok(7_u64));
    assert_eq!(read(&msgpack(&7)), Ok(7.0_f64));
    assert_eq!(read(&msgpack(&[1, 2])), Ok((1_u8, 2_u64)));
    assert_eq!(read(&msgpack(&"x")), Ok("x".to_owned()));
    let point = Point { x: 1.0, name: None, tags: vec![] };
    assert_eq!(read(&msgpack(&point)), Ok(point));
    let bytes = Serialized::bytes(Bytes::from_static(b"abc"));
    assert_eq!(read(&bytes), Ok(Bytes::from_static(b"abc")));
    assert_eq!(read(&bytes), Ok(b"abc".to_vec()));
    assert_eq!(read::<Vec<i32>>(&bytes), Ok(vec![97, 98, 99]));
    // In parts.
    let class = Bytes::from_static(crate::dask::wire::serialized::BYTES_CLASS);
    let parts = parsed(
        vec![("serializer", &"dask"), ("type", &"bytes"), ("type-serialized", &class)],
        vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")],
    );
    assert_eq!(read(&parts), Ok(Bytes::from_static(b"abc")));
    let cut = [Value::Int(2)];
    let first = [Value::Int(0)];
    let parts = parsed(
        vec![("serializer", &"msgpack"), ("split-num-sub-frames", &cut), ("split-offsets", &first)],
        vec![Bytes::from_static(&[0x92, 1]), Bytes::from_static(&[2])],
    );
    assert_eq!(read(&parts), Ok([1_u8, 2]));
}

#[test]
fn collections_of_python_are_read() {
    let bytes = Map(vec![
        ("serializer".into(), "dask".into()),
        ("type".into(), "bytes".into()),
        ("key".into(), "k".into()),
    ]);
    let number = Map(vec![("serializer".into(), "msgpack".into()), ("key".into(), 4.into())]);
    let headers = [Value::Map(bytes), Value::Map(number)];
    let lengths = [Value::Int(1), Value::Int(1)];
    let frames = vec![Bytes::from_static(b"a\xff"), Bytes::from_static(&[5])];
    let of = |kind: &'static str| {
        parsed(
            vec![
                ("is-collection", &true),
                ("sub-headers", &headers),
                ("frame-lengths", &lengths),
                ("type-serialized", &kind),
            ],
            frames.clone(),
        )
    };
    assert_eq!(read(&of("tuple")), Ok((Bytes::from_static(b"a\xff"), 5_u8)));
    assert_eq!(read(&of("list")), Ok((b"a\xff".to_vec(), 5_u8)));
    assert!(misfit::<u8>(&of("deque")).ends_with("Python object of the type `deque`"));

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Any {
        Number(u8),
        Text(String),
        Bytes(Bytes),
    }
    let dict = read::<BTreeMap<Any, Any>>(&of("dict")).unwrap();
    assert_eq!(dict[&Any::Text("k".into())], Any::Bytes(Bytes::from_static(b"a\xff")));
    assert_eq!(dict[&Any::Number(4)], Any::Number(5));
}

#[test]
fn pickles_of_plain_data_are_read() {
    let point = pickled(|to| {
        to.dict(|to| {
            to.str("x");
            to.int(3);
            to.str("name");
            to.none();
            to.str("tags");
            to.list(|to| to.tuple(|to| (to.str("a"), to.int(-1))));
        });
    });
    assert_eq!(read(&point), Ok(Point { x: 3.0, name: None, tags: vec![('a', -1)] }));
    assert_eq!(read(&pickled(|to| to.int(u64::MAX.into()))), Ok(u64::MAX));
    assert_eq!(read(&pickled(|to| to.int(i128::MIN + 7))), Ok(i128::MIN + 7));
    assert_eq!(read(&pickled(|to| to.bytes(b"ab"))), Ok(Bytes::from_static(b"ab")));
    assert_eq!(read(&pickled(|to| to.bool(true))), Ok(true));
    assert_eq!(read(&pickled(|to| to.empty_set())), Ok(Vec::<u8>::new()));
    assert_eq!(
        misfit::<f64>(&pickled(|to| to.call("numpy", "float64", |to| to.float(0.5)))),
        "no `f64`: it's a Python object made by `numpy.float64`"
    );
    assert_eq!(
        misfit::<f64>(&pickled(|to| to.global("os", "system"))),
        "no `f64`: it's the Python class or function `os.system`"
    );
}

#[test]
fn pickles_that_are_much_more_than_they_seem_are_refused() {
    // Lists of ten times the list before, which is remembered.
    let mut pickle = b"\x80\x04]".to_vec();
    for level in 0..9_u8 {
        pickle.extend_from_slice(&[b'q', level, b'0', b']', b'(']);
        pickle.extend([b'h', level].repeat(10));
        pickle.push(b'e');
    }
    pickle.push(b'.');
    let object = Serialized::pickle(pickle.into());
    assert_eq!(misfit::<String>(&object), "no `String`: it's much larger than its pickle");
    // A list that is in itself.
    let object = Serialized::pickle(Bytes::from_static(b"\x80\x04]q\x00h\x00a."));
    assert!(misfit::<String>(&object).ends_with("levels deep"));
}

#[test]
fn what_cannot_be_read_says_why() {
    assert_eq!(misfit::<u64>(&msgpack(&"a")), "no `u64`: text is where it doesn't belong");
    assert!(misfit::<u8>(&msgpack(&-1)).contains("`-1`"));
    assert!(
        misfit::<Point>(&msgpack(&BTreeMap::from([("x", 1)]))).contains("missing field `tags`")
    );
    assert!(
        misfit::<Vec<u8>>(&Serialized::msgpack(Bytes::from_static(&[0x92, 1])))
            .contains("too early")
    );
    assert!(
        misfit::<u8>(&Serialized::msgpack(Bytes::from_static(&[1, 1]))).contains("after its end")
    );
    let lz4 = [Value::from("lz4")];
    let object = parsed(
        vec![("serializer", &"msgpack"), ("compression", &lz4)],
        vec![Bytes::from_static(&[1])],
    );
    assert!(misfit::<u8>(&object).contains("compressed with lz4"));
    let object = parsed(vec![("serializer", &"error")], vec![Bytes::from_static(b"no way")]);
    assert_eq!(misfit::<u8>(&object), "no `u8`: it couldn't be sent: no way");
}

#[test]
fn what_cannot_be_written_names_the_type() {
    #[derive(Clone, Deserialize)]
    struct Secret;
    impl Serialize for Secret {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("it's secret"))
        }
    }
    let problem = write(Secret).unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Unserializable);
    assert_eq!(problem.text, "a `Secret` can't be sent: it's secret");
}

#[test]
fn depth_is_bounded_for_all_that_is_nested() {
    // serde's readers recurse for each level, those of enumerations without counting. Threads have this stack.
    let read = || {
        let nested = |levels: usize| {
            let mut bytes = Vec::new();
            for _ in 0..levels {
                bytes.extend_from_slice(b"\x81\xa6Within");
            }
            bytes.extend_from_slice(b"\xa7Nothing");
            Serialized::msgpack(bytes.into())
        };
        let mut shape = &super::read::<Shape>(&nested(scan::DEPTH)).unwrap();
        let mut levels = 0;
        while let Shape::Within(inner) = shape {
            shape = inner;
            levels += 1;
        }
        assert_eq!(levels, scan::DEPTH);
        assert!(misfit::<Shape>(&nested(scan::DEPTH + 1)).contains("levels deep"));
        assert!(misfit::<Shape>(&nested(1_000_000)).contains("levels deep"));
        // In a pickle.
        let pickle = [b"\x80\x04".to_vec(), vec![b']'; 300_000], vec![b'a'; 299_999], vec![b'.']];
        let object = Serialized::pickle(pickle.concat().into());
        assert!(misfit::<Shape>(&object).contains("levels deep"));
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(read).unwrap().join().unwrap();
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

#[test]
fn arguments_are_values_and_inputs() {
    assert_eq!(args::<()>(blob(&[]), vec![]), Ok(()));
    assert_eq!(args(blob(&[&plain(1), &plain("a")]), vec![]), Ok((1_u8, "a".to_owned())));
    let inputs = vec![write(7_u64).unwrap(), write("b".to_owned()).unwrap()];
    let both = blob(&[&place(Place::Whole(1)), &plain(2), &place(Place::Whole(0))]);
    assert_eq!(args(both, inputs.clone()), Ok(("b".to_owned(), 2_u8, 7_u64)));
    let within = |to: &mut Vec<u8>| {
        value::array(3, to);
        Place::Whole(0).write(to);
        5.serialize(&mut rmp_serde::Serializer::new(&mut *to)).unwrap();
        Place::Whole(0).write(to);
    };
    assert_eq!(args(blob(&[&within]), inputs.clone()), Ok((vec![7_u64, 5, 7],)));
    let map = |to: &mut Vec<u8>| {
        to.push(0x81);
        to.push(9);
        Place::Whole(1).write(to);
    };
    assert_eq!(args(blob(&[&map]), inputs), Ok((BTreeMap::from([(9, "b".to_owned())]),)));
}

#[test]
fn bytes_of_an_input_are_not_copied() {
    let bytes = Bytes::from(vec![1; 1 << 20]);
    let inputs = vec![write(bytes.clone()).unwrap()];
    let (got,) = args::<(Bytes,)>(blob(&[&place(Place::Whole(0))]), inputs.clone()).unwrap();
    assert_eq!(got.as_ptr(), bytes.as_ptr());
    let within = |to: &mut Vec<u8>| {
        value::array(1, to);
        Place::Whole(0).write(to);
    };
    assert_eq!(args(blob(&[&within]), inputs), Ok((vec![bytes],)));
}

#[test]
fn items_of_lists_are_inputs_too() {
    let mut list = value::List::<String>::new(3);
    ["a", "b", "c"].iter().for_each(|item| list.push((*item).to_owned()).unwrap());
    let inputs = vec![list.finish(), write(vec![vec![1_u8], vec![2, 3]]).unwrap()];
    let one = |item| blob(&[&place(Place::Item(0, item))]);
    assert_eq!(args(one(2), inputs.clone()), Ok(("c".to_owned(),)));
    assert_eq!(
        args::<(u64,)>(one(2), inputs.clone()).unwrap_err(),
        "argument 1 of `f` is a `String`, not a `u64`"
    );
    assert_eq!(
        args::<(String,)>(one(3), inputs.clone()).unwrap_err(),
        "argument 1 of `f` can't be made of the result of input 0 (from 0): it has 3 items, none with the number 3"
    );
    let within = |to: &mut Vec<u8>| {
        value::array(2, to);
        Place::Item(0, 1).write(to);
        Place::Item(0, 0).write(to);
    };
    let both = blob(&[&within, &place(Place::Item(1, 1))]);
    assert_eq!(args(both, inputs), Ok((["b".to_owned(), "a".to_owned()], vec![2_u8, 3])));
    // A list of Python's.
    let inputs = vec![pickled(|to| {
        to.list(|to| (to.int(1), to.str("x")));
    })];
    assert_eq!(args(one(1), inputs.clone()), Ok(("x".to_owned(),)));
    let inputs = vec![write(5_u8).unwrap()];
    assert!(args::<(u8,)>(one(1), inputs).unwrap_err().ends_with("it isn't a list"));
}

#[test]
fn a_list_of_bytes_is_one_of_bytes() {
    let mut list = value::List::<Vec<u8>>::new(2);
    list.push(vec![200_u8; 100]).unwrap();
    list.push(vec![]).unwrap();
    let list = list.finish();
    assert_eq!(list.frames()[0].len(), 1 + 2 + 100 + 2);
    assert_eq!(read(&list), Ok(vec![vec![200_u8; 100], vec![]]));
    assert_eq!(args(blob(&[&place(Place::Item(0, 0))]), vec![list]), Ok((vec![200_u8; 100],)));
}

#[test]
fn arguments_that_do_not_fit_say_which() {
    let inputs = || vec![write("b".to_owned()).unwrap()];
    let both = blob(&[&plain(1), &place(Place::Whole(0))]);
    assert_eq!(
        args::<(u8, u64)>(both.clone(), inputs()).unwrap_err(),
        "argument 2 of `f` is a `String`, not a `u64`"
    );
    assert_eq!(
        args::<(u8,)>(both.clone(), inputs()).unwrap_err(),
        "`f` takes 1 argument, and got 2"
    );
    assert!(
        args::<(String, String)>(both, inputs())
            .unwrap_err()
            .starts_with("argument 1 of `f` is no")
    );
    let none = args::<(u8,)>(blob(&[&place(Place::Whole(1))]), inputs()).unwrap_err();
    assert!(none.contains("there aren't so many"), "{none}");
    let bad = args::<(u8,)>(vec![0x91, 0xd4, 1, 0], inputs()).unwrap_err();
    assert!(bad.contains("bad numbers"), "{bad}");
    assert!(args::<(u8,)>(vec![0x91, 1, 1], vec![]).unwrap_err().contains("after its end"));
    assert!(args::<(u8, u8)>(vec![0x92, 1], vec![]).unwrap_err().contains("too early"));
    assert!(args::<()>(vec![], vec![]).unwrap_err().contains("too early"));
    assert!(args::<()>(vec![0x80], vec![]).unwrap_err().contains("isn't a list"));
}

#[test]
fn depth_counts_through_places() {
    let deep = |levels: usize| [vec![0x91; levels], vec![0x90]].concat();
    let inputs = vec![Serialized::msgpack(deep(scan::DEPTH - 2).into())];
    let within = |levels: usize| {
        move |to: &mut Vec<u8>| {
            to.extend(vec![0x91; levels]);
            Place::Whole(0).write(to);
        }
    };
    let read = |levels| args::<(Nest,)>(blob(&[&within(levels)]), inputs.clone());
    assert!(read(1).is_ok());
    assert!(read(2).unwrap_err().contains("levels deep"));
}

fn shapes() -> impl Strategy<Value = Shape> {
    let point = (any::<f64>(), any::<Option<String>>(), any::<Vec<(char, i8)>>())
        .prop_map(|(x, name, tags)| Point { x, name, tags });
    let leaf = prop_oneof![
        Just(Shape::Nothing),
        any::<u32>().prop_map(Shape::One),
        any::<(u8, u8)>().prop_map(|(a, b)| Shape::Two(a, b)),
        point.prop_map(|point| Shape::Named { point }),
    ];
    leaf.prop_recursive(5, 5, 1, |inner| inner.prop_map(|shape| Shape::Within(Box::new(shape))))
}

proptest! {
    #[test]
    fn any_value_comes_back(
        shapes in proptest::collection::vec(shapes(), 0..5),
        map in any::<BTreeMap<i64, (String, Option<u64>)>>(),
    ) {
        let value = (shapes, map);
        prop_assert_eq!(read(&write(value.clone()).unwrap()), Ok(value));
    }

    #[test]
    fn any_arguments_come_back(
        values in proptest::collection::vec((any::<i64>(), any::<bool>()), 0..20),
        alone in (any::<String>(), any::<bool>()),
    ) {
        let mut inputs = Vec::new();
        let mut argument = |value: &dyn erased::Value, is_input: bool, to: &mut Vec<u8>| {
            if is_input {
                Place::Whole(inputs.len() as u32).write(to);
                inputs.push(value.object());
            } else {
                value.plain(to);
            }
        };
        let mut blob = Vec::new();
        value::array(2, &mut blob);
        value::array(values.len(), &mut blob);
        for (value, is_input) in &values {
            argument(value, *is_input, &mut blob);
        }
        argument(&alone.0, alone.1, &mut blob);
        let list: Vec<_> = values.iter().map(|(value, _)| *value).collect();
        prop_assert_eq!(args::<(Vec<i64>, String)>(blob, inputs), Ok((list, alone.0)));
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        header in proptest::collection::vec(any::<u8>(), 0..60),
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..3),
        how in 0..4,
    ) {
        let mut frames: Vec<Bytes> = frames.into_iter().map(Bytes::from).collect();
        let object = match how {
            0 => Serialized::from_wire(header.into(), frames),
            1 => Serialized::msgpack(frames.pop().unwrap_or_default()),
            2 => Serialized::pickle(frames.pop().unwrap_or_default()),
            _ => parsed(vec![("rust", &"u64"), ("serializer", &"msgpack")], frames),
        };
        let _ = read::<Shape>(&object);
        let _ = read::<u64>(&object);
        let _ = read::<Nest>(&object);
        let _ = read::<Bytes>(&object);
    }

    #[test]
    fn any_arguments_are_read_or_refused(
        blob in proptest::collection::vec(any::<u8>(), 0..60),
        input in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let inputs = vec![Serialized::msgpack(input.into()), write(3_u8).unwrap()];
        let _ = args::<(Nest, u8)>(blob.clone(), inputs.clone());
        let _ = args::<(Shape,)>(blob, inputs);
    }
}

mod erased {
    use super::*;

    pub(super) trait Value {
        fn object(&self) -> Serialized;
        fn plain(&self, to: &mut Vec<u8>);
    }

    impl<T: Portable> Value for T {
        fn object(&self) -> Serialized {
            write(self.clone()).unwrap()
        }

        fn plain(&self, to: &mut Vec<u8>) {
            value::append(self, to).unwrap();
        }
    }
}
