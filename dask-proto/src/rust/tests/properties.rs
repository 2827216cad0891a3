//! Properties of any values and any bytes.

use proptest::prelude::*;

use super::*;

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
        prop_assert_eq!(decode(&encode(value.clone()).unwrap()), Ok(value));
    }

    #[test]
    fn any_arguments_come_back(
        values in proptest::collection::vec((any::<i64>(), any::<bool>()), 0..20),
        alone in (any::<String>(), any::<bool>()),
    ) {
        let mut inputs = Vec::new();
        let mut argument = |value: &dyn erased::Value, is_input: bool, to: &mut Vec<u8>| {
            if is_input {
                Placeholder::Input(inputs.len() as u32).write(to);
                inputs.push(value.object());
            } else {
                value.plain(to);
            }
        };
        let mut blob = Vec::new();
        msgpack::write_array_len(2, &mut blob);
        msgpack::write_array_len(values.len(), &mut blob);
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
        let _ = decode::<Shape>(&object);
        let _ = decode::<u64>(&object);
        let _ = decode::<Nest>(&object);
        let _ = decode::<Bytes>(&object);
    }

    #[test]
    fn any_arguments_are_read_or_refused(
        blob in proptest::collection::vec(any::<u8>(), 0..60),
        input in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let inputs = vec![Serialized::msgpack(input.into()), encode(3_u8).unwrap()];
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

    impl<T: Serialize + Clone + 'static> Value for T {
        fn object(&self) -> Serialized {
            encode(self.clone()).unwrap()
        }

        fn plain(&self, to: &mut Vec<u8>) {
            append(self, to).unwrap();
        }
    }
}
