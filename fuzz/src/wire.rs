//! The target `wire`: arbitrary bytes from the peer of a connection to a Dask cluster. Reading must not panic or
//! reserve memory out of proportion, and a message must survive writing and reading.

use bytes::Bytes;
use ensue_dask_proto::capabilities;
use ensue_dask_proto::client::SchedulerEvent;
use ensue_dask_proto::frame::{Limits, Reader};
use ensue_dask_proto::pack::{Pack, Packer};
use ensue_dask_proto::serialized::Content;
use ensue_dask_proto::value::{Map, Value};
use ensue_dask_proto::worker::order::Order;
use ensue_dask_proto::worker::register::{Beat, Registered};
use ensue_dask_proto::worker::serve::Request;
use ensue_dask_proto::{WireError, call, failure, handshake, pickle, unpack};

/// The buffer size that a reader may reserve whatever the input.
const MAX_RESERVED: usize = 1 << 16;

/// Runs the target. The first byte selects the format of the others.
pub(crate) fn run(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 4 {
        0 => stream(data),
        1 => frames(data),
        2 => pickled(&Bytes::copy_from_slice(data)),
        _ => asked(data),
    }
}

/// Reads the bytes of a connection, in pieces whose size is in the first byte.
fn stream(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    let limits = Limits { message: 1 << 40, frames: 1 << 20, head: 1 << 30 };
    let mut reader = Reader::new(limits);
    let mut fed = 0;
    for piece in data.chunks(1 + usize::from(*cut)) {
        reader.feed(piece);
        fed += piece.len();
        loop {
            match reader.message() {
                Ok(Some(frames)) => message(&frames),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(
            reader.space().len() <= MAX_RESERVED.max(fed),
            "too large a buffer for {fed} bytes"
        );
    }
}

/// Reads a message of frames, each preceded by a byte with its length.
fn frames(data: &[u8]) {
    let (mut left, mut frames) = (data, Vec::new());
    while let Some((len, rest)) = left.split_first() {
        let (frame, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        frames.push(Bytes::copy_from_slice(frame));
        left = rest;
    }
    message(&frames);
}

fn message(frames: &[Bytes]) {
    let _ = unpack::operations(frames, Ok);
    let Ok(value) = unpack::message(frames) else { return };
    let packed = pack(&value);
    // Encodings are compared, since a value may contain NaN.
    let again = unpack::message(&packed).expect("a message that was written");
    assert_eq!(packed, pack(&again), "{value:?}");
    values(&value);
    let _ = call::data_reply(value.clone());
    let _ = call::who_has_reply(value.clone());
    let _ = call::map_reply(value.clone()).map(|map| call::release(&map).map(str::to_owned));
    let _ = handshake::theirs(value.clone());
    let _ = Registered::read(value.clone());
    let _ = Beat::read(value.clone());
    let _ = Request::read(value.clone());
    if let Value::Map(map) = value {
        let _ = SchedulerEvent::read(map.clone());
        let _ = Order::read(map);
    }
}

fn pack(value: &Value) -> Vec<Bytes> {
    let mut packer = Packer::new();
    value.pack(&mut packer);
    let mut reader = Reader::new(Limits::default());
    reader.feed(&packer.finish().to_vec());
    let frames = reader.message().expect("a message that was written").expect("all bytes were fed");
    assert!(reader.is_between_messages());
    frames
}

/// Reads each value in every way that applies to it.
fn values(value: &Value) {
    if let Ok(key) = value.key() {
        assert_eq!(unpack::plain(key.as_msgpack()).and_then(|again| again.key()), Ok(key.clone()));
        assert_eq!(key.as_str(), value.as_str());
        let _ = key.to_string();
    }
    let _ = failure::exception(value).to_string();
    match value {
        Value::Array(items) | Value::Set(items) => items.iter().for_each(values),
        Value::Map(Map(entries)) => entries.iter().for_each(|(key, value)| {
            values(key);
            values(value);
        }),
        Value::Serialized(object) => match object.content() {
            Ok(content) => assert!(size(&content) <= object.nbytes(), "{object:?}"),
            Err(WireError::Compressed(_) | WireError::Malformed(_) | WireError::TooMuch { .. }) => {
            }
        },
        Value::Pickled(object) => object.pickle().iter().for_each(pickled),
        _ => {}
    }
}

/// Returns the number of bytes of an object's content that are in its frames.
fn size(content: &Content) -> u64 {
    match content {
        Content::Bytes(parts) => parts.iter().map(|part| part.len() as u64).sum(),
        Content::Pickle(pickle, buffers) => {
            (pickle.len() + buffers.iter().map(Bytes::len).sum::<usize>()) as u64
        }
        Content::Items(_, items) => items.iter().map(size).sum(),
        Content::Entries(entries) => entries.iter().map(|(_, value)| size(value)).sum(),
        Content::Plain(_) | Content::Error(_) | Content::Other(_) => 0,
    }
}

fn pickled(bytes: &Bytes) {
    if let Ok(exception) = pickle::exception(bytes) {
        let _ = exception.to_string();
    }
}

/// Reads a scheduler's reply to a query for its methods.
fn asked(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let fields = [("status", "OK"), ("result", text)];
    let reply = Map(fields.map(|(name, value)| (name.into(), value.into())).to_vec());
    if let Err(refusal) = capabilities::forms(Value::Map(reply), "2026.8.0") {
        let _ = refusal.to_string();
    }
    let _ = capabilities::by_release(text);
}
