//! Tests of values that are encoded and decoded, and of those that Python encoded.

use super::*;

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

/// They would be decoded as `None`.
#[test]
fn a_some_that_holds_nothing_is_refused() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Within<T> {
        value: Option<T>,
        list: Vec<Shape>,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Thin(Option<u8>);
    fn refused<T: Serialize + 'static>(value: T) {
        let error = encode(value).unwrap_err().to_string();
        let expected =
            format!("a `{}` can't be sent: ", short_type_name(std::any::type_name::<T>()));
        let why = error.strip_prefix(&expected).unwrap_or_else(|| panic!("{error}"));
        assert_eq!(why, "a `Some` in it holds nothing, and would arrive as `None`");
    }
    refused(Some(None::<u8>));
    refused(Some(()));
    refused(Some(Some(Some(None::<u8>))));
    refused(Some(Thin(None)));
    refused(vec![None, Some(None::<u8>)]);
    refused((1, [Some(())]));
    refused(BTreeMap::from([(1, Some(()))]));
    refused(Ok::<_, ()>(Some(())));
    refused(Within { value: Some(None::<u8>), list: vec![] });
    there_and_back(None::<Option<u8>>);
    there_and_back(Some(Some(0xc0_u8)));
    there_and_back(Some(Thin(Some(1))));
    there_and_back((Some(Unit), None::<u8>));
    there_and_back(Some(vec![None, Some(0xc0_u8), None]));
    there_and_back(Some(((), None::<u8>)));
    there_and_back(Some(Within {
        value: None::<u8>,
        list: vec![Shape::Nothing, Shape::Two(1, 0xc0)],
    }));
    there_and_back(Some(Ok::<(), u8>(())));
    there_and_back(Some(Shape::Named { point: Point { x: 0.5, name: None, tags: vec![] } }));
    let mut list = ListWriter::new();
    list.push(Some(Some(1_u8))).unwrap();
    list.push(Some(None)).unwrap_err();
    assert_eq!(list.len(), 1);
}

#[test]
fn bytes_are_bytes_to_python_and_are_not_copied() {
    let bytes = Bytes::from(vec![7; 1 << 20]);
    let object = there_and_back(bytes.clone());
    assert_eq!(object.content(), Ok(Content::Bytes(vec![bytes.clone()])));
    assert_eq!(object.frames()[0].as_ptr(), bytes.as_ptr());
    assert_eq!(decode::<Bytes>(&object).unwrap().as_ptr(), bytes.as_ptr());
    let vec = vec![1, 2, 3_u8];
    let at = vec.as_ptr();
    let object = encode(vec).unwrap();
    assert_eq!(object.frames()[0].as_ptr(), at);
    there_and_back(Vec::<u8>::new());
    there_and_back(Bytes::new());
}

#[test]
fn another_type_of_rusts_is_an_error_naming_both() {
    let text = there_and_back("7".to_owned());
    assert_eq!(misfit::<u64>(&text), "a `String`, not a `u64`");
    assert_eq!(misfit::<Vec<Option<u8>>>(&text), "a `String`, not a `Vec<Option<u8>>`");
    assert_eq!(misfit::<Bytes>(&encode(vec![1_u8]).unwrap()), "a `Vec<u8>`, not a `Bytes`");
    assert_eq!(misfit::<u32>(&encode(1_u64).unwrap()), "a `u64`, not a `u32`");
    // Also where the header came through Python.
    let object =
        parsed(vec![("rust", &"a::B"), ("serializer", &"msgpack")], vec![Bytes::from_static(&[1])]);
    assert_eq!(misfit::<u8>(&object), "a `B`, not a `u8`");
}

#[test]
fn what_python_made_is_read() {
    assert_eq!(decode(&msgpack(&7)), Ok(7_u64));
    assert_eq!(decode(&msgpack(&7)), Ok(7.0_f64));
    assert_eq!(decode(&msgpack(&[1, 2])), Ok((1_u8, 2_u64)));
    assert_eq!(decode(&msgpack(&"x")), Ok("x".to_owned()));
    let point = Point { x: 1.0, name: None, tags: vec![] };
    assert_eq!(decode(&msgpack(&point)), Ok(point));
    let bytes = Serialized::bytes(Bytes::from_static(b"abc"));
    assert_eq!(decode(&bytes), Ok(Bytes::from_static(b"abc")));
    assert_eq!(decode(&bytes), Ok(b"abc".to_vec()));
    assert_eq!(decode::<Vec<i32>>(&bytes), Ok(vec![97, 98, 99]));
    // In parts.
    let class = Bytes::from_static(crate::serialized::BYTES_CLASS);
    let parts = parsed(
        vec![("serializer", &"dask"), ("type", &"bytes"), ("type-serialized", &class)],
        vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")],
    );
    assert_eq!(decode(&parts), Ok(Bytes::from_static(b"abc")));
    let cut = [Value::Int(2)];
    let first = [Value::Int(0)];
    let parts = parsed(
        vec![("serializer", &"msgpack"), ("split-num-sub-frames", &cut), ("split-offsets", &first)],
        vec![Bytes::from_static(&[0x92, 1]), Bytes::from_static(&[2])],
    );
    assert_eq!(decode(&parts), Ok([1_u8, 2]));
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
    assert_eq!(decode(&of("tuple")), Ok((Bytes::from_static(b"a\xff"), 5_u8)));
    assert_eq!(decode(&of("list")), Ok((b"a\xff".to_vec(), 5_u8)));
    assert!(misfit::<u8>(&of("deque")).ends_with("Python object of the type `deque`"));

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Any {
        Number(u8),
        Text(String),
        Bytes(Bytes),
    }
    let dict = decode::<BTreeMap<Any, Any>>(&of("dict")).unwrap();
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
    assert_eq!(decode(&point), Ok(Point { x: 3.0, name: None, tags: vec![('a', -1)] }));
    assert_eq!(decode(&pickled(|to| to.int(u64::MAX.into()))), Ok(u64::MAX));
    assert_eq!(decode(&pickled(|to| to.int(i128::MIN + 7))), Ok(i128::MIN + 7));
    assert_eq!(decode(&pickled(|to| to.bytes(b"ab"))), Ok(Bytes::from_static(b"ab")));
    assert_eq!(decode(&pickled(|to| to.bool(true))), Ok(true));
    assert_eq!(decode(&pickled(|to| to.empty_set())), Ok(Vec::<u8>::new()));
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
    let error = encode(Secret).unwrap_err();
    assert_eq!(error.to_string(), "a `Secret` can't be sent: it's secret");
}

/// Nil or a list, which serde reads by trying one after the other.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Nothing(()),
    List(Vec<Untagged>),
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
        let mut shape = &super::decode::<Shape>(&nested(MAX_DEPTH)).unwrap();
        let mut levels = 0;
        while let Shape::Within(inner) = shape {
            shape = inner;
            levels += 1;
        }
        assert_eq!(levels, MAX_DEPTH);
        assert!(misfit::<Shape>(&nested(MAX_DEPTH + 1)).contains("levels deep"));
        assert!(misfit::<Shape>(&nested(1_000_000)).contains("levels deep"));
        // In a pickle.
        let pickle = [b"\x80\x04".to_vec(), vec![b']'; 300_000], vec![b'a'; 299_999], vec![b'.']];
        let object = Serialized::pickle(pickle.concat().into());
        assert!(misfit::<Shape>(&object).contains("levels deep"));
    };
    // Types that serde reads twice need more stack in a build without optimization.
    let untagged = || {
        let nested = [vec![0x91; MAX_DEPTH - 1], vec![0x90]].concat();
        super::decode::<Untagged>(&Serialized::msgpack(nested.into())).unwrap();
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(untagged).unwrap().join().unwrap();
    std::thread::Builder::new().stack_size(1 << 20).spawn(read).unwrap().join().unwrap();
}

/// An object as Python has written it.
fn of_python(value: &str) -> Serialized {
    let lines = include_str!("python.txt").lines();
    let line = lines.map(|line| line.split(' ')).find(|line| line.clone().next() == Some(value));
    let hex = |text: &str| -> Bytes {
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(byte).collect()
    };
    let mut parts = line.unwrap().skip(1).map(hex);
    Serialized::from_wire(parts.next().unwrap(), parts.collect())
}

#[test]
fn what_a_stock_worker_writes_is_read() {
    assert_eq!(decode(&of_python("7")), Ok(7_u64));
    assert_eq!(decode(&of_python("7")), Ok(7_i8));
    assert_eq!(decode(&of_python("-3")), Ok(-3.0_f32));
    assert_eq!(decode(&of_python("2**64-1")), Ok(u64::MAX));
    assert_eq!(decode(&of_python("2**100")), Ok(1_i128 << 100));
    assert_eq!(decode(&of_python("1.5")), Ok(1.5_f64));
    assert_eq!(decode(&of_python("'é'")), Ok("é".to_owned()));
    assert_eq!(decode(&of_python("None")), Ok(()));
    assert_eq!(decode(&of_python("None")), Ok(None::<u64>));
    assert_eq!(decode(&of_python("True")), Ok(Some(true)));
    assert_eq!(decode(&of_python("b'ab'")), Ok(Bytes::from_static(b"ab")));
    assert_eq!(decode(&of_python("b'ab'")), Ok(b"ab".to_vec()));
    assert_eq!(decode(&of_python("[1,'x']")), Ok((1_u8, "x".to_owned())));
    assert_eq!(decode(&of_python("(1,(2,3))")), Ok((1_u8, [2_u64, 3])));
    assert_eq!(decode(&of_python("{1:'x'}")), Ok(HashMap::from([(1_u64, 'x')])));
    assert_eq!(decode(&of_python("{1}")), Ok(std::collections::HashSet::from([1_u64])));
    assert_eq!(decode(&of_python("[]")), Ok(Vec::<String>::new()));

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Dict {
        a: i32,
        b: Vec<Option<f64>>,
    }
    assert_eq!(
        decode(&of_python("{'a':1,'b':[1.5,None]}")),
        Ok(Dict { a: 1, b: vec![Some(1.5), None] })
    );

    assert_eq!(
        misfit::<u64>(&of_python("1j")),
        "no `u64`: it's a Python object made by `builtins.complex`"
    );
    assert!(misfit::<Vec<u8>>(&of_python("range(3)")).contains("`builtins.range`"));
    assert_eq!(misfit::<u64>(&of_python("'é'")), "no `u64`: text is where it doesn't belong");
}
