//! Tests of the readers: of messages that Dask itself has written, and of each type of message.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use ensue_dask_proto::capabilities::{self, Forms, Refusal, Version, by_release};
use ensue_dask_proto::client::SchedulerEvent;
use ensue_dask_proto::frame::{Limits, Outgoing, Reader};
use ensue_dask_proto::graph::GraphForm;
use ensue_dask_proto::pack::{Pack, Packer};
use ensue_dask_proto::pickle;
use ensue_dask_proto::serialized::{Collection, Content, Pickled};
use ensue_dask_proto::value::{Map, Value};
use ensue_dask_proto::worker::order::{Order, Priority};
use ensue_dask_proto::worker::register::{Beat, Registered};
use ensue_dask_proto::worker::serve::{Ask, Request, is_delivered};
use ensue_dask_proto::{WireError, call, failure, handshake, unpack};

/// Returns the messages that Dask has written, by name; see `tests/golden/golden.py`.
fn written() -> BTreeMap<String, Vec<Bytes>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/written.txt");
    let mut messages: BTreeMap<String, Vec<Bytes>> = BTreeMap::new();
    let mut name = String::new();
    for line in fs::read_to_string(path).unwrap().lines() {
        match line.strip_prefix("  ") {
            Some(frame) => messages.get_mut(&name).unwrap().push(unescape(frame)),
            None => {
                name = line.to_owned();
                messages.insert(name.clone(), Vec::new());
            }
        }
    }
    messages
}

fn unescape(line: &str) -> Bytes {
    let mut parts = line.split("\\x");
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    bytes.into()
}

fn read(name: &str) -> Map {
    match unpack::message(&written()[name]).unwrap() {
        Value::Map(map) => map,
        other => panic!("{name} is {other:?}"),
    }
}

fn object(name: &str) -> Content {
    let mut map = read(name);
    let data = map.take("data");
    let value = data.as_map().unwrap_or(&map).get("k").unwrap().clone();
    match value {
        Value::Serialized(object) => object.content().unwrap(),
        other => panic!("{name} is {other:?}"),
    }
}

fn bytes(text: &'static str) -> Content {
    Content::Bytes(vec![text.into()])
}

#[test]
fn exceptions_of_dask_are_read() {
    let text = |name: &str| {
        let exception =
            failure::exception(read(&format!("exception {name}")).get("exception").unwrap());
        (exception.to_string(), exception.cause.map(|cause| cause.to_string()))
    };
    let alone = |text: &str| (text.to_owned(), None);
    assert_eq!(text("division"), alone("ZeroDivisionError: division by zero"));
    assert_eq!(
        text("cause"),
        ("ValueError: ('a', 1)".to_owned(), Some("KeyError: 'k'".to_owned()))
    );
    assert_eq!(text("os"), alone("FileNotFoundError: [Errno 2] No such file or directory"));
    assert_eq!(text("key"), alone("KeyError: 'k'"));
    assert_eq!(text("nothing"), alone("RuntimeError"));
    assert_eq!(
        text("mixed"),
        alone(
            "ValueError: ([1, (2.5, None)], {'k': b'\\x00'}, {3}, <number of 26 bytes>, <ValueError>)"
        )
    );
    assert_eq!(text("own"), alone("Busted: text"));
}

#[test]
fn objects_of_dask_are_read() {
    assert_eq!(object("object bytes"), bytes("payload"));
    assert_eq!(object("object bytearray"), bytes("payload"));
    assert!(
        matches!(object("object int"), Content::Pickle(pickle, _) if &pickle[..] == b"\x80\x05K\x05.")
    );
    let Content::Items(Collection::List, items) = object("object list") else { panic!() };
    assert_eq!((items.len(), &items[1]), (3, &bytes("two")));
    let Content::Entries(entries) = object("object dict") else { panic!() };
    assert_eq!(entries[0], ("a".into(), bytes("x")));
    assert_eq!(entries[1].0, Value::Array(vec!["t".into(), 1.into()]));
    assert_eq!(object("object set"), Content::Items(Collection::Set, vec![bytes("one")]));
    assert!(matches!(object("object complex"), Content::Pickle(..)));
}

#[test]
fn objects_of_requested_serializers_are_read() {
    assert_eq!(object("msgpack int"), Content::Plain(5.into()));
    let items = vec![Content::Plain(1.into()), bytes("two")];
    assert_eq!(object("msgpack list"), Content::Items(Collection::List, items));
    let complex = "Could not serialize object of type complex".to_owned();
    assert_eq!(object("msgpack complex"), Content::Error(complex));
}

#[test]
fn parts_of_frames_are_joined() {
    let Content::Items(Collection::List, items) = object("split") else { panic!() };
    let parts = ["0123", "4567", "89"].map(Bytes::from).to_vec();
    assert_eq!(items[0], Content::Bytes(parts));
    assert_eq!(items[1], Content::Pickle(Bytes::from_static(b"\x80\x05K\x07."), vec![]));
    assert_eq!(items[2], bytes("ab"));
}

#[test]
fn a_compressed_object_is_passed_on_unchanged() {
    let Value::Serialized(object) = read("compressed").take("k") else { panic!() };
    assert_eq!(object.content(), Err(WireError::Compressed("zlib".to_owned())));
    let mut packer = Packer::new();
    packer.map(1);
    packer.str("k");
    object.pack(&mut packer);
    assert_eq!(frames(&packer.finish()), written()["compressed"]);
}

#[test]
fn keys_enumerations_and_pickles_of_dask_are_read() {
    let map = read("keys");
    let who_has = call::who_has_reply(map.get("who_has").unwrap().clone()).unwrap();
    let names: Vec<_> = who_has.iter().map(|(key, _)| key.to_string()).collect();
    assert_eq!(names, ["s", "3", "('t', 1, b'b', 0.5)"]);
    assert_eq!(who_has[2].1, ["a", "b"]);
    assert!(matches!(map.get("n"), Some(Value::Set(items)) if items.len() == 2));
    let mut map = read("pickled");
    assert_eq!(map.text("status"), Some("paused"));
    let Value::Pickled(pickled) = map.take("run_spec") else { panic!() };
    assert!(pickle::read(&pickled.pickle().unwrap()).is_ok());
}

fn map(fields: &[(&str, Value)]) -> Map {
    Map(fields.iter().map(|(name, value)| ((*name).into(), value.clone())).collect())
}

fn texts(items: &[&str]) -> Value {
    Value::Array(items.iter().map(|item| (*item).into()).collect())
}

#[test]
fn orders_are_read_and_may_have_unknown_fields() {
    let rust = map(&[
        ("fn", "app::inc".into()),
        ("args", Value::Bin("x".into())),
        ("deps", texts(&["a", "b", "a"])),
    ]);
    let order = map(&[
        ("op", "compute-task".into()),
        ("key", "s".into()),
        ("run_id", 7.into()),
        ("priority", Value::Array(vec![0.into(), Value::Float(-1.0), 3.into()])),
        ("stimulus_id", "compute-1".into()),
        ("who_has", Value::Map(map(&[("a", texts(&["tcp://a:1"]))]))),
        ("nbytes", Value::Map(map(&[("a", 17.into())]))),
        ("run_spec", Value::Pickled(Box::new(Pickled::new(b"N.")))),
        ("resource_restrictions", Value::Map(map(&[("rust", 1.into())]))),
        ("actor", Value::Bool(false)),
        ("annotations", Value::Map(map(&[("rust", Value::Map(rust)), ("span", "x".into())]))),
        ("span_id", Value::Nil),
        ("new", "thing".into()),
    ]);
    let Order::Compute(compute) = Order::read(order).unwrap() else { panic!() };
    assert_eq!((compute.key.as_str(), compute.run), (Some("s"), 7));
    assert_eq!((&*compute.stimulus, compute.resources[0].1), ("compute-1", 1.0));
    assert_eq!(compute.who_has, [("a".into(), vec!["tcp://a:1".to_owned()])]);
    assert_eq!(compute.sizes, [("a".into(), 17)]);
    let rust = compute.rust.unwrap();
    assert_eq!((&*rust.function, &rust.args[..], rust.inputs.len()), ("app::inc", &b"x"[..], 3));
    assert!(compute.priority < Priority(vec![0.0, -1.0, 4.0]));
    assert!(compute.priority > Priority(vec![0.0, -1.0]));

    let free =
        map(&[("op", "free-keys".into()), ("keys", texts(&["a"])), ("stimulus_id", "s".into())]);
    let expected = Order::Free { keys: vec!["a".into()], stimulus: "s".to_owned() };
    assert_eq!(Order::read(free), Ok(expected));
    let steal =
        map(&[("op", "steal-request".into()), ("key", "a".into()), ("stimulus_id", "s".into())]);
    assert_eq!(Order::read(steal), Ok(Order::Steal { key: "a".into(), stimulus: "s".to_owned() }));
    let other = map(&[("op", "dance".into())]);
    assert_eq!(Order::read(other), Ok(Order::Other("dance".to_owned())));
    assert!(Order::read(map(&[("op", "steal-request".into())])).is_err());
}

#[test]
fn events_are_read() {
    let event = |fields: &[(&str, Value)]| SchedulerEvent::read(map(fields)).unwrap();
    assert_eq!(
        event(&[("op", "stream-start".into()), ("warning", "old".into()), ("error", "".into())]),
        SchedulerEvent::Started { warning: "old".to_owned() }
    );
    assert_eq!(
        event(&[("op", "key-in-memory".into()), ("key", 3.into()), ("type", Value::Nil)]),
        SchedulerEvent::InMemory {
            key: Value::Int(3).key().unwrap(),
            workers: vec![],
            is_partial: false
        }
    );
    assert_eq!(
        event(&[("op", "cancelled-keys".into()), ("keys", texts(&["a"]))]),
        SchedulerEvent::Cancelled { keys: vec!["a".into()], reason: None }
    );
    let SchedulerEvent::Erred { key, exception, .. } =
        event(&[("op", "task-erred".into()), ("key", "a".into()), ("exception", "text".into())])
    else {
        panic!()
    };
    assert_eq!((key.as_str(), failure::exception(&exception).text), (Some("a"), "text".to_owned()));
    assert_eq!(event(&[("op", "stream-closed".into())]), SchedulerEvent::Closed);
}

#[test]
fn replies_are_read() {
    let said = |fields: &[(&str, Value)]| Value::Map(map(fields));
    let failed = said(&[("status", "uncaught-error".into()), ("exception_text", "no".into())]);
    assert_eq!(
        call::data_reply(failed).unwrap_err().to_string(),
        "the call failed on the other side: no"
    );
    assert_eq!(call::reply(Value::Nil), Err(call::CallError::Nothing));
    let data = said(&[("k", Value::Nil)]);
    let data = call::data_reply(said(&[("status", "OK".into()), ("data", data)]));
    assert_eq!(data, Ok(call::Data::Here(vec![("k".into(), Value::Nil)])));
    assert_eq!(call::data_reply(said(&[("status", "busy".into())])), Ok(call::Data::Busy));
    let missing = said(&[("status", "error".into()), ("keys", texts(&["a"]))]);
    assert_eq!(call::data_reply(missing), Ok(call::Data::Missing(vec!["a".into()])));
    let joined = said(&[
        ("status", "OK".into()),
        ("heartbeat-interval", Value::Float(0.5)),
        ("time", Value::Float(1.0)),
        ("worker-plugins", Value::Nil),
    ]);
    let expected = Registered::Joined { heartbeat: 0.5, warning: String::new() };
    assert_eq!(Registered::read(joined.clone()), Ok(expected));
    assert_eq!(Beat::read(joined), Ok(Beat::Again(0.5)));
    assert_eq!(Beat::read(said(&[("status", "missing".into())])), Ok(Beat::Unknown));
    let refused = said(&[("status", "error".into()), ("message", "name taken".into())]);
    assert_eq!(Registered::read(refused), Ok(Registered::Refused("name taken".to_owned())));
    let versions = map(&[("packages", said(&[("distributed", "2026.8.0".into())]))]);
    assert_eq!(call::release(&versions), Some("2026.8.0"));
}

#[test]
fn calls_to_a_worker_are_read() {
    let call = |fields: &[(&str, Value)]| Request::read(Value::Map(map(fields))).unwrap();
    let request = call(&[("op", "get_data".into()), ("keys", texts(&["a"])), ("who", Value::Nil)]);
    assert_eq!(request.ask, Ask::GetData { keys: vec!["a".into()], who: None });
    assert!(request.reply && !request.close);
    let request = call(&[("op", "terminate".into()), ("reply", Value::Bool(false))]);
    assert!(!request.reply && matches!(request.ask, Ask::Terminate { .. }));
    assert!(matches!(call(&[("op", "actor_execute".into())]).ask, Ask::Other(..)));
    assert!(is_delivered(&unpack::message(&frames(&call::delivered())).unwrap()));
    assert!(Request::read("identity".into()).is_err());
}

#[test]
fn handshakes_are_read() {
    let ours = unpack::message(&frames(&handshake::ours())).unwrap();
    let expected = handshake::Handshake { pickle: 5, compression: None };
    assert_eq!(handshake::theirs(ours), Ok(expected));
    assert!(handshake::theirs(Value::Map(Map::default())).is_err());
}

const NEWEST: &str = "\
update_graph:self,client,expr_ser,keys,span_metadata,internal_priority,submitting_task,actors?,code?
stimulus_cancel:self,keys,client,force,reason,msg
handle_long_running:self,key,worker,run_id,compute_duration,stimulus_id
handle_task_finished:self,key,worker,stimulus_id,msg?*
add_client:self,comm,client,versions";

fn ask(text: &str) -> Result<Forms, Refusal> {
    let reply = map(&[("status", "OK".into()), ("result", text.into())]);
    capabilities::forms(Value::Map(reply), "2099.1.0")
}

#[test]
fn forms_follow_the_scheduler_s_parameters() {
    let newest = by_release("2026.8.0").unwrap();
    assert_eq!(ask(NEWEST), Ok(newest));
    let older = NEWEST.replace("expr_ser", "graph_header,graph_frames").replace(",reason,msg", "");
    let older = older.replace("run_id,", "").replace("force", "force?");
    assert_eq!(ask(&older), by_release("2024.12.1"));
}

#[test]
fn a_scheduler_with_unknown_parameters_is_refused() {
    let refusal = ask(&NEWEST.replace("comm,client", "comm,client,token")).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the scheduler (Dask 2099.1.0) isn't supported by this version: its `add_client` needs `token`"
    );
    let refusal = ask(&NEWEST.replace("span_metadata,", "")).unwrap_err();
    assert!(refusal.to_string().ends_with("its `update_graph` doesn't take `span_metadata`"));
    // An optional parameter is no reason to refuse.
    assert!(ask(&NEWEST.replace("comm,client", "comm,client,token?")).is_ok());
}

#[test]
fn the_release_decides_if_the_scheduler_does_not_answer() {
    let forms = |reply, release| capabilities::forms(reply, release);
    let blocked = map(&[("status", "uncaught-error".into()), ("exception_text", "blocked".into())]);
    let expected =
        Forms { graph: GraphForm::Header, cancel_has_reason: true, long_running_has_run: true };
    assert_eq!(forms(Value::Map(blocked.clone()), "2025.3.1"), Ok(expected));
    assert_eq!(forms(Value::Nil, "2025.3.1"), Ok(expected));
    let old = forms(Value::Map(blocked), "2024.8.2").unwrap_err();
    assert_eq!(old.to_string(), "the scheduler is Dask 2024.8.2; 2024.11.0 or later is needed");
    assert!(forms(Value::Nil, "unknown").is_err());
    assert_eq!(Version::parse("2026.8.0+3.gabc"), Some(Version(2026, 8, 0)));
}

fn frames(message: &Outgoing) -> Vec<Bytes> {
    let mut reader = Reader::new(Limits::default());
    reader.feed(&message.to_vec());
    reader.message().unwrap().expect("all bytes were fed")
}
