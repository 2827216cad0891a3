//! Tests that a function gets the arguments that a client has encoded.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::*;
use crate::dask::PythonInputs;
use crate::dask::wire::rust::{Inputs, ItemCall};
use crate::task::seal::SEAL;
use crate::{Client, Handle, PortableInputs};

fn args<A: Arguments>(args: Vec<u8>, inputs: Vec<Serialized>) -> Result<A, String> {
    decode("f", &args.into(), &mut Inputs::new(inputs)).map_err(|problem| {
        assert_eq!(problem.kind, ProblemKind::Mismatch);
        problem.text
    })
}

/// Encodes inputs, whose results are their keys, and decodes them as a worker does.
fn arrives<A: Arguments + PartialEq + std::fmt::Debug>(
    inputs: impl PortableInputs<A>,
    expected: A,
) {
    let mut encoder = Encoder::new();
    inputs.visit_all(&mut encoder, SEAL);
    let encoded = encoder.finish().unwrap();
    let result = |key: &str| write(key.parse::<u64>().unwrap()).unwrap();
    let inputs = encoded.inputs.iter().map(|user| result(user.key()));
    let inputs: Vec<_> = inputs.collect();
    // The same with some results as items of lists.
    let spare = ItemCall { item: 2, function: "f", args: b"\x90" };
    let items: Vec<_> = (0..inputs.len()).map(|at| (at % 2 == 1).then_some(spare)).collect();
    let lists = encoded.inputs.iter().zip(&items).map(|(user, item)| match item {
        None => result(user.key()),
        Some(_) => write(vec![7, 8, user.key().parse::<u64>().unwrap()]).unwrap(),
    });
    let with_items = args::<A>(encoded.with_items(&items), lists.collect());
    assert_eq!(with_items.as_ref(), Ok(&expected));
    assert_eq!(args(encoded.msgpack, inputs), Ok(expected));
}

fn numbers(client: &Client, count: u64) -> Vec<Handle<u64>> {
    (0..count).map(|x| client.task().key(format!("{x}")).submit(async |x: u64| x, x)).collect()
}

fn refused<A>(inputs: impl PortableInputs<A>) -> String {
    let mut encoder = Encoder::new();
    inputs.visit_all(&mut encoder, SEAL);
    encoder.finish().err().unwrap()
}

#[test]
fn inputs_of_all_shapes_arrive() {
    let client = Client::builder().workers(0).build();
    let numbers = numbers(&client, 4);
    let [_, one, two, three] = &numbers[..] else { unreachable!() };
    arrives((), ());
    arrives(5_u8, (5_u8,));
    arrives((5_u8, "a".to_owned(), vec![1.5]), (5_u8, "a".to_owned(), vec![1.5]));
    arrives(
        (vec![1_u8, 255], Bytes::from_static(b"b")),
        (vec![1_u8, 255], Bytes::from_static(b"b")),
    );
    arrives(one, (1_u64,));
    arrives((two.clone(), one, 7_u8), (2_u64, 1_u64, 7_u8));
    let all = vec![0_u64, 1, 2, 3];
    arrives(&numbers, (all.clone(),));
    arrives(numbers.clone(), (all.clone(),));
    arrives(&numbers[..], (all.clone(),));
    arrives(numbers.clone().into_boxed_slice(), (all.clone(),));
    arrives(numbers.iter().collect::<Vec<_>>(), (all.clone(),));
    arrives([one, two], ([1_u64, 2],));
    arrives([one, two], (vec![1_u64, 2],));
    arrives(&[one.clone(), two.clone()], ([1_u64, 2],));
    arrives([one.clone(), two.clone()], ([1_u64, 2],));
    arrives(vec![numbers.clone(), vec![]], (vec![all.clone(), vec![]],));
    let nested = vec![numbers.clone()];
    arrives(&nested, (vec![all],));
    arrives((Some(one), None::<&Handle<u64>>), (Some(1_u64), None::<u64>));
    arrives((&Some(one.clone()), None::<Handle<u64>>), (Some(1_u64), None::<u64>));
    let map = BTreeMap::from([("x".to_owned(), three.clone())]);
    arrives(&map, (BTreeMap::from([("x".to_owned(), 3_u64)]),));
    arrives(map, (BTreeMap::from([("x".to_owned(), 3_u64)]),));
    let map = HashMap::from([((1_u8, 'x'), three.clone())]);
    arrives(&map, (HashMap::from([((1_u8, 'x'), 3_u64)]),));
    arrives(map, (HashMap::from([((1_u8, 'x'), 3_u64)]),));
}

#[test]
fn inputs_in_containers_of_containers_arrive() {
    let client = Client::builder().workers(0).build();
    let numbers = numbers(&client, 4);
    let [_, one, two, three] = &numbers[..] else { unreachable!() };
    let text = |text: &str| text.to_owned();
    let pairs = vec![(text("a"), one.clone()), (text("b"), two.clone())];
    arrives(pairs, (vec![(text("a"), 1_u64), (text("b"), 2)],));
    arrives((7_u8, (one, (text("x"), [two, three]))), (7_u8, (1_u64, (text("x"), [2_u64, 3]))));
    let lists = HashMap::from([(text("a"), vec![one.clone(), three.clone()])]);
    arrives(&lists, (HashMap::from([(text("a"), vec![1_u64, 3])]),));
    let tree = BTreeMap::from([(1_u8, vec![(vec![1_u8, 255], Some(two.clone())), (vec![], None)])]);
    let expected = BTreeMap::from([(1_u8, vec![(vec![1_u8, 255], Some(2_u64)), (vec![], None)])]);
    arrives(tree, (expected,));
    let fallible = vec![Ok(one), Err(text("none"))];
    arrives(fallible, (vec![Ok(1_u64), Err(text("none"))],));
    arrives([[one, two], [two, three]], ([[1_u64, 2], [2, 3]],));
}

#[test]
fn equal_tasks_are_one_input() {
    let client = Client::builder().workers(0).build();
    for count in [1, 15, 16, 17, 100] {
        let numbers = numbers(&client, count);
        let twice: Vec<_> = numbers.iter().chain(&numbers).collect();
        let mut encoder = Encoder::new();
        PortableInputs::<(Vec<u64>,)>::visit_all(twice.clone(), &mut encoder, SEAL);
        assert_eq!(encoder.finish().unwrap().inputs.len(), count as usize);
        let expected: Vec<_> = (0..count).chain(0..count).collect();
        arrives(twice, (expected,));
    }
}

#[test]
fn what_cannot_be_sent_is_refused() {
    #[derive(Clone, Deserialize)]
    struct Secret;
    impl Serialize for Secret {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("it's secret"))
        }
    }
    assert_eq!(refused::<(i32, Secret)>((1, Secret)), "a `Secret` can't be sent: it's secret");
    let client = Client::builder().workers(0).build();
    let handle = &numbers(&client, 1)[0];
    // Encoded as a placeholder is.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename = "_ExtStruct")]
    struct Ext((i8, Bytes));
    let ext = || Ext((1, Bytes::from_static(&[0; 4])));
    let error = refused::<(Ext, u64)>((ext(), handle));
    assert!(error.contains("msgpack extension"), "{error}");
    // Without handles there are no placeholders, and it's a value.
    arrives(ext(), (ext(),));
}

#[test]
fn arguments_for_python_are_inferred() {
    fn given(inputs: impl PythonInputs) -> Vec<u8> {
        let mut encoder = Encoder::new();
        inputs.visit_all(&mut encoder, SEAL);
        encoder.finish().unwrap().msgpack
    }
    let client = Client::builder().workers(0).build();
    let numbers = numbers(&client, 2);
    let x = &numbers[0];
    assert_eq!(given(()), [0x90]);
    assert_eq!(given(x), [0x91, 0xd6, 1, 0, 0, 0, 0]);
    assert_eq!(given((x, 5)), [0x92, 0xd6, 1, 0, 0, 0, 0, 5]);
    assert_eq!(given("a"), [0x91, 0xa1, b'a']);
    assert_eq!(given(("a", 1.5))[..3], [0x92, 0xa1, b'a']);
    assert_eq!(given((vec![1, 2], None::<u8>, true)), [0x93, 0x92, 1, 2, 0xc0, 0xc3]);
    assert_eq!(given((&numbers,)), given(numbers.clone()));
    assert_eq!(given(Bytes::from_static(b"b")), [0x91, 0xc4, 1, b'b']);
    assert_eq!(given((Plain((1, "b")),)), [0x91, 0x92, 1, 0xa1, b'b']);
    assert_eq!(given((HashMap::from([("k", x)]),))[..4], [0x91, 0x81, 0xa1, b'k']);
    assert_eq!(given([[&1_u8, &2]; 1]), [0x91, 0x91, 0x92, 1, 2]);
}
