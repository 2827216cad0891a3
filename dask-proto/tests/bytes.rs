//! Properties of the protocol: messages are read as they were written, and no bytes cause a panic or reserve memory out
//! of proportion to their number.

use bytes::{Buf, Bytes};
use ensue_dask_proto::frame::{Limits, Outgoing, Reader};
use ensue_dask_proto::pack::{Batch, Pack, Packer};
use ensue_dask_proto::pickle::{self, Node, Pickler};
use ensue_dask_proto::serialized::{Pickled, Serialized};
use ensue_dask_proto::value::{Map, Member, Value};
use ensue_dask_proto::{WireError, unpack};
use proptest::prelude::*;

fn frames(message: &Outgoing) -> Vec<Bytes> {
    let mut reader = Reader::new(Limits::default());
    reader.feed(&message.to_vec());
    reader.message().unwrap().expect("all bytes were fed")
}

/// Returns the start of a message that announces these lengths.
fn forged(block: u64, count: u64, lengths: &[u64]) -> Vec<u8> {
    [block, count].iter().chain(lengths).flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn a_forged_length_reserves_nothing() {
    let mut reader = Reader::new(Limits::default());
    reader.feed(&forged(1 << 39, 2, &[1, 1 << 38]));
    reader.feed(&[0xc0; 1000]);
    assert!(matches!(reader.message(), Err(WireError::Malformed(_))));
    let mut reader = Reader::new(Limits::default());
    reader.feed(&forged(24 + (1 << 38) + 1, 2, &[1, 1 << 38]));
    for _ in 0..100 {
        assert_eq!(reader.message(), Ok(None));
        let space = reader.space().len();
        assert!(space <= 2 << 20, "{space}");
        reader.filled(10);
    }
}

#[test]
fn frames_that_do_not_fit_are_refused() {
    let next = |bytes: &[u8]| {
        let mut reader = Reader::new(Limits { message: 1000, frames: 10, head: 100 });
        reader.feed(bytes);
        reader.message()
    };
    assert!(matches!(next(&forged(1001, 1, &[])), Err(WireError::TooMuch { .. })));
    assert!(matches!(next(&forged(200, 11, &[])), Err(WireError::TooMuch { .. })));
    assert!(matches!(next(&forged(200, 1, &[101])), Err(WireError::TooMuch { .. })));
    assert!(matches!(next(&forged(32, 2, &[8, u64::MAX])), Err(WireError::TooMuch { .. })));
    assert!(matches!(next(&forged(8, 0, &[])), Err(WireError::Malformed(_))));
    assert!(matches!(next(&forged(15, 1, &[])), Err(WireError::Malformed(_))));
    assert!(matches!(next(&forged(20, 1, &[5])), Err(WireError::Malformed(_))));
    assert_eq!(next(&forged(16, 1, &[0])), Ok(Some(vec![Bytes::new()])));
}

#[test]
fn a_large_frame_has_memory_of_its_own() {
    let large = Serialized::bytes(vec![7; 1 << 20].into());
    let mut packer = Packer::new();
    large.pack(&mut packer);
    let message = packer.finish().to_vec();
    let mut reader = Reader::new(Limits::default());
    for _ in 0..2 {
        let (first, rest) = message.split_at(1000);
        reader.feed(first);
        assert_eq!(reader.message(), Ok(None));
        reader.feed(rest);
        let frames = reader.message().unwrap().expect("all bytes were fed");
        assert!(frames[2].len() == 1 << 20 && frames[2].is_unique());
    }
}

#[test]
fn nesting_is_bounded() {
    let deep = |open: &[u8]| Bytes::from(open.repeat(1 << 16));
    for open in [&b"\x91"[..], b"\x81\xc0", b"\xdd\0\0\0\x01", b"\xdf\xff\xff\xff\xff"] {
        assert!(unpack::message(&[deep(open)]).is_err());
    }
    let mut pickled = b"\x80\x04".to_vec();
    pickled.extend(b"(".repeat(1 << 16));
    pickled.extend(b"t".repeat(1 << 16));
    pickled.push(b'.');
    assert!(pickle::read(&pickled.into()).is_ok());
}

#[test]
fn a_frame_is_not_given_twice() {
    let object = |at: u8| [&b"\x81\xae__Serialized__"[..], &[at]].concat();
    let head = [&b"\x92"[..], &object(1), &object(1)].concat();
    let header = Bytes::from_static(b"\x81\xaenum-sub-frames\x01");
    let frames = [Bytes::from(head), header, Bytes::new()];
    assert!(matches!(unpack::message(&frames), Err(WireError::TooMuch { .. })));
    for at in [0, 2, 3, 0xff] {
        assert!(unpack::message(&[object(at).into(), frames[1].clone()]).is_err());
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (i64::MAX as u64 + 1..).prop_map(Value::Uint),
        (-1e9..1e9).prop_map(Value::Float),
        "[a-zé_]{0,40}".prop_map(Value::Str),
        payload().prop_map(Value::Bin),
        payload().prop_map(|bytes| Value::Serialized(Box::new(Serialized::bytes(bytes)))),
        payload().prop_map(|bytes| Value::Pickled(Box::new(Pickled::new(&bytes)))),
        (any::<i8>(), payload()).prop_map(|(kind, bytes)| Value::Ext(kind, bytes)),
        "[a-z]{1,9}".prop_map(|name| Value::Enum(Box::new(Member {
            name,
            module: "distributed.core".to_owned(),
            class: "Status".to_owned(),
        }))),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        let items = prop::collection::vec(inner.clone(), 0..20);
        let entries = prop::collection::vec(("[a-z]{0,9}".prop_map(Value::Str), inner), 0..8);
        prop_oneof![
            items.clone().prop_map(Value::Array),
            items.prop_map(Value::Set),
            entries.prop_map(|entries| Value::Map(Map(entries))),
        ]
    })
}

fn payload() -> impl Strategy<Value = Bytes> {
    let any = prop::collection::vec(any::<u8>(), 0..400).prop_map(Bytes::from);
    prop_oneof![8 => any, 1 => (60_000..200_000usize).prop_map(|len| vec![7; len].into())]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn written_messages_are_read(value in value(), cuts in prop::collection::vec(1..70_000usize, 1..20)) {
        let mut packer = Packer::new();
        value.pack(&mut packer);
        let message = packer.finish();
        let sent = [message.to_vec(), message.to_vec()].concat();
        let mut reader = Reader::new(Limits::default());
        let (mut at, mut read) = (0, 0);
        for cut in cuts.iter().cycle() {
            if at == sent.len() {
                break;
            }
            let end = sent.len().min(at + cut);
            reader.feed(&sent[at..end]);
            at = end;
            while let Some(frames) = reader.message().unwrap() {
                prop_assert_eq!(&unpack::message(&frames).unwrap(), &value);
                read += 1;
            }
        }
        prop_assert_eq!(read, 2);
        prop_assert!(reader.is_between_messages());
    }

    #[test]
    fn a_message_can_be_written_in_pieces(
        frames in prop::collection::vec(payload(), 1..9),
        steps in prop::collection::vec(1..5000usize, 1..9),
    ) {
        let mut message = Outgoing::new(frames.clone());
        let whole = message.to_vec();
        let mut sent = Vec::new();
        for step in steps.iter().cycle() {
            if !message.has_remaining() {
                break;
            }
            let first: Vec<u8> = message.slices().iter().flat_map(|slice| slice.to_vec()).collect();
            let count = (*step).min(first.len());
            sent.extend_from_slice(&first[..count]);
            message.advance(count);
        }
        prop_assert_eq!(&sent, &whole);
        let mut reader = Reader::new(Limits::default());
        reader.feed(&whole);
        prop_assert_eq!(reader.message(), Ok(Some(frames)));
    }

    #[test]
    fn frames_may_come_after_the_first_block(
        frames in prop::collection::vec(payload(), 1..9),
        bundled in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Outgoing::new(frames.clone()).to_vec();
        let bundled = bundled.index(frames.len());
        let block = 8 + 8 * frames.len() + frames[..bundled].iter().map(Bytes::len).sum::<usize>();
        bytes[..8].copy_from_slice(&(block as u64).to_le_bytes());
        let mut reader = Reader::new(Limits::default());
        reader.feed(&bytes);
        prop_assert_eq!(reader.message(), Ok(Some(frames)));
    }

    #[test]
    fn batches_are_read_as_operations(names in prop::collection::vec("[a-z]{1,9}", 0..40)) {
        let mut batch = Batch::new();
        let payload = Serialized::bytes(Bytes::from_static(b"x"));
        names.iter().for_each(|name| batch.push(&[("op", name), ("data", &payload)]));
        prop_assert_eq!(batch.len(), names.len());
        let read = unpack::operations(&frames(&batch.finish()), Ok).unwrap();
        let ops: Vec<_> = read.iter().map(|map| map.text("op").unwrap().to_owned()).collect();
        prop_assert_eq!(ops, names);
    }

    #[test]
    fn numbers_and_text_in_pickles_are_read(int in any::<i128>(), shift in 0..127u32, text in "\\PC{0,300}") {
        let mut pickler = Pickler::new();
        pickler.tuple(|to| {
            to.int(int >> shift);
            to.str(&text);
            to.bytes(text.as_bytes());
        });
        let objects = pickle::read(&pickler.finish().into()).unwrap();
        let items: Vec<_> = objects.items(objects.root()).iter().map(|id| objects.get(*id)).collect();
        let bytes = Bytes::from(text.clone());
        prop_assert_eq!(items, [&Node::Int(int >> shift), &Node::Str(text), &Node::Bytes(bytes)]);
    }

    #[test]
    fn no_bytes_cause_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut reader = Reader::new(Limits::default());
        reader.feed(&bytes);
        while let Ok(Some(frames)) = reader.message() {
            let _ = unpack::message(&frames);
        }
        let _ = unpack::plain(&bytes);
        let _ = pickle::exception(&bytes.into());
    }
}
