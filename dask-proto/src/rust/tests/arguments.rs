//! Tests of arguments that are values, and of those that are inputs.

use super::*;

#[test]
fn arguments_are_values_and_inputs() {
    assert_eq!(args::<()>(blob(&[]), vec![]), Ok(()));
    assert_eq!(args(blob(&[&plain(1), &plain("a")]), vec![]), Ok((1_u8, "a".to_owned())));
    let inputs = vec![encode(7_u64).unwrap(), encode("b".to_owned()).unwrap()];
    let both = blob(&[
        &placeholder(Placeholder::Input(1)),
        &plain(2),
        &placeholder(Placeholder::Input(0)),
    ]);
    assert_eq!(args(both, inputs.clone()), Ok(("b".to_owned(), 2_u8, 7_u64)));
    let within = |to: &mut Vec<u8>| {
        msgpack::write_array_len(3, to);
        Placeholder::Input(0).write(to);
        5.serialize(&mut rmp_serde::Serializer::new(&mut *to)).unwrap();
        Placeholder::Input(0).write(to);
    };
    assert_eq!(args(blob(&[&within]), inputs.clone()), Ok((vec![7_u64, 5, 7],)));
    let map = |to: &mut Vec<u8>| {
        to.push(0x81);
        to.push(9);
        Placeholder::Input(1).write(to);
    };
    assert_eq!(args(blob(&[&map]), inputs), Ok((BTreeMap::from([(9, "b".to_owned())]),)));
}

#[test]
fn bytes_of_an_input_are_not_copied() {
    let bytes = Bytes::from(vec![1; 1 << 20]);
    let inputs = vec![encode(bytes.clone()).unwrap()];
    let (got,) =
        args::<(Bytes,)>(blob(&[&placeholder(Placeholder::Input(0))]), inputs.clone()).unwrap();
    assert_eq!(got.as_ptr(), bytes.as_ptr());
    let within = |to: &mut Vec<u8>| {
        msgpack::write_array_len(1, to);
        Placeholder::Input(0).write(to);
    };
    assert_eq!(args(blob(&[&within]), inputs), Ok((vec![bytes],)));
}

#[test]
fn items_of_lists_are_inputs_too() {
    let mut list = ListWriter::<String>::new();
    ["a", "b", "c"].iter().for_each(|item| list.push((*item).to_owned()).unwrap());
    let inputs = vec![list.finish(false), encode(vec![vec![1_u8], vec![2, 3]]).unwrap()];
    let one = |item| blob(&[&placeholder(Placeholder::Item(0, item))]);
    assert_eq!(args(one(2), inputs.clone()), Ok(("c".to_owned(),)));
    assert_eq!(
        args::<(u64,)>(one(2), inputs.clone()).unwrap_err(),
        "argument 1 of `f` is a `String`, not a `u64`"
    );
    assert_eq!(
        args::<(String,)>(one(3), inputs.clone()).unwrap_err(),
        "argument 1 of `f` can't be read from the result of input 0 (from 0): it has 3 items, none with the number 3"
    );
    let within = |to: &mut Vec<u8>| {
        msgpack::write_array_len(2, to);
        Placeholder::Item(0, 1).write(to);
        Placeholder::Item(0, 0).write(to);
    };
    let both = blob(&[&within, &placeholder(Placeholder::Item(1, 1))]);
    assert_eq!(args(both, inputs), Ok((["b".to_owned(), "a".to_owned()], vec![2_u8, 3])));
    // A list of Python's.
    let inputs = vec![pickled(|to| {
        to.list(|to| (to.int(1), to.str("x")));
    })];
    assert_eq!(args(one(1), inputs.clone()), Ok(("x".to_owned(),)));
    let inputs = vec![encode(5_u8).unwrap()];
    assert!(args::<(u8,)>(one(1), inputs).unwrap_err().ends_with("it isn't a list"));
}

#[test]
fn a_list_of_bytes_is_one_of_bytes() {
    let mut list = ListWriter::<Vec<u8>>::new();
    list.push(vec![200_u8; 100]).unwrap();
    list.push(vec![]).unwrap();
    let list = list.finish(false);
    assert_eq!(list.frames()[0].len(), 5 + 2 + 100 + 2);
    assert_eq!(decode(&list), Ok(vec![vec![200_u8; 100], vec![]]));
    assert_eq!(
        args(blob(&[&placeholder(Placeholder::Item(0, 0))]), vec![list]),
        Ok((vec![200_u8; 100],))
    );
}

#[test]
fn arguments_that_do_not_fit_say_which() {
    let inputs = || vec![encode("b".to_owned()).unwrap()];
    let both = blob(&[&plain(1), &placeholder(Placeholder::Input(0))]);
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
    let none = args::<(u8,)>(blob(&[&placeholder(Placeholder::Input(1))]), inputs()).unwrap_err();
    assert!(none.contains("the task has fewer inputs"), "{none}");
    let bad = args::<(u8,)>(vec![0x91, 0xd4, 1, 0], inputs()).unwrap_err();
    assert!(bad.contains("the wrong length"), "{bad}");
    assert!(args::<(u8,)>(vec![0x91, 1, 1], vec![]).unwrap_err().contains("after its end"));
    assert!(args::<(u8, u8)>(vec![0x92, 1], vec![]).unwrap_err().contains("too early"));
    assert!(args::<()>(vec![], vec![]).unwrap_err().contains("too early"));
    assert!(args::<()>(vec![0x80], vec![]).unwrap_err().contains("isn't a list"));
}

#[test]
fn depth_counts_through_placeholders() {
    let deep = |levels: usize| [vec![0x91; levels], vec![0x90]].concat();
    let inputs = vec![Serialized::msgpack(deep(MAX_DEPTH - 2).into())];
    let within = |levels: usize| {
        move |to: &mut Vec<u8>| {
            to.extend(vec![0x91; levels]);
            Placeholder::Input(0).write(to);
        }
    };
    let read = |levels| args::<(Nest,)>(blob(&[&within(levels)]), inputs.clone());
    assert!(read(1).is_ok());
    assert!(read(2).unwrap_err().contains("levels deep"));
}

#[test]
fn a_placeholder_has_the_call_for_a_missing_item() {
    let list = |of: Vec<u64>| encode(of).unwrap();
    let mut blob = vec![0x93];
    for (input, item) in [(0, 1), (1, 3), (1, 3)] {
        ItemCall { item, function: "f", args: &[0x91, item as u8] }.write(input, &mut blob);
    }
    let args_of = |inputs| args::<(u64, u64, u64)>(blob.clone(), inputs).unwrap();
    let whole = vec![list(vec![1, 2]), list(vec![1, 2, 3, 4])];
    let bytes = Bytes::from(blob.clone());
    assert_eq!(missing_items(&bytes, &whole), []);
    assert_eq!(args_of(whole), (2, 4, 4));
    // The second list came back shorter.
    let mut short = vec![list(vec![1, 2]), list(vec![1, 2, 3])];
    let calls = missing_items(&bytes, &short);
    let [call] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!((&*call.function, &call.args[..]), ("f", &[0x91, 3][..]));
    let filled = fill_missing(&bytes, &calls, short.len());
    short.push(encode(40_u64).unwrap());
    assert_eq!(args::<(u64, u64, u64)>(filled.into(), short).unwrap(), (2, 40, 40));
    // Other errors are left to the decoder.
    assert_eq!(missing_items(&bytes, &[]), []);
    assert_eq!(missing_items(&bytes, &[encode(1_u8).unwrap(), encode(1_u8).unwrap()]), []);
    assert_eq!(missing_items(&Bytes::from_static(b"\xc1"), &[]), []);
}

#[test]
fn an_item_is_picked_as_the_value_it_was() {
    let args = |item| Bytes::from(pick_args(&ItemCall { item, function: "f", args: &[0x90] }));
    let mut list = ListWriter::new();
    for text in ["a", "b"] {
        list.push(text.to_owned()).unwrap();
    }
    let lists = [list.finish(true)];
    assert_eq!(decode::<String>(&pick_item(&args(1), &lists).unwrap()), Ok("b".to_owned()));
    assert!(decode::<u8>(&pick_item(&args(1), &lists).unwrap()).is_err());
    let error = pick_item(&args(2), &lists).unwrap_err();
    assert!(error.to_string().contains("it has 2 items, none with the number 2"), "{error}");
    let whole = fill_missing(&args(2), &missing_items(&args(2), &lists), 1);
    assert_eq!(
        decode::<u8>(&pick_item(&whole, &[&lists[..], &[encode(7_u8).unwrap()]].concat()).unwrap()),
        Ok(7)
    );
    for wrong in [&b"\x91\x01"[..], b"\xc1"] {
        assert!(pick_item(&Bytes::copy_from_slice(wrong), &[]).is_err());
    }
    assert!(pick_item(&args(0), &[]).is_err());
}
