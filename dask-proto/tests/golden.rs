//! Each message to a Dask cluster, compared byte for byte with `tests/golden/golden.txt`.
//!
//! `tests/golden/golden.py` reads that file with Dask itself. `ENSUE_GOLDEN=write`, in the environment of this test, makes
//! it update the file.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use bytes::{Buf, Bytes};
use ensue_dask_proto::capabilities::{self, Forms};
use ensue_dask_proto::frame::{Limits, Outgoing, Reader};
use ensue_dask_proto::graph::{Annotations, Arg, Call, Graph, GraphForm, UpdateGraph};
use ensue_dask_proto::pack::{Batch, Pack, Packer};
use ensue_dask_proto::serialized::Serialized;
use ensue_dask_proto::value::{Map, Member, Value};
use ensue_dask_proto::worker::register::{Flow, Metrics, Registration, Transfers, heartbeat};
use ensue_dask_proto::worker::report::{self, Run, StartStop, Stolen};
use ensue_dask_proto::worker::serve;
use ensue_dask_proto::{WireKey, call, client, handshake};

const OLD: Forms =
    Forms { graph: GraphForm::Header, cancel_has_reason: false, long_running_has_run: false };
const NEW: Forms =
    Forms { graph: GraphForm::Expression, cancel_has_reason: true, long_running_has_run: true };

fn batch(write: impl FnOnce(&mut Batch)) -> Outgoing {
    let mut batch = Batch::new();
    write(&mut batch);
    batch.finish()
}

fn versions() -> Map {
    let packages = Map(vec![("distributed".into(), "2026.8.0".into())]);
    Map(vec![("packages".into(), Value::Map(packages))])
}

/// Returns metrics with all fields set.
fn metrics() -> Metrics<'static> {
    Metrics {
        memory: 1 << 30,
        managed_bytes: 1000,
        spilled_memory: 20,
        spilled_disk: 10,
        cpu: 99.5,
        time: 1.5,
        task_counts: &[("executing", 1), ("memory", 2)],
        incoming: Transfers { bytes: 1, count: 2, total: 3 },
        outgoing: Transfers { bytes: 4, count: 5, total: 6 },
        bandwidth: 1e8,
        bandwidth_from: &[("tcp://127.0.0.1:2", (2e8, 2))],
        loop_interval: 0.02,
        files: 17,
        network: Flow { read: 1.0, write: 2.0 },
        disk: Flow { read: 3.0, write: 4.0 },
    }
}

/// Returns a graph with all types of arguments and all annotations.
fn graph() -> Graph {
    let mut graph = Graph::new();
    let plain = Annotations::default();
    let result = |key: &str| Arg::Result(key.into());
    let refs = Arg::Tuple(vec![result("inc-1"), Arg::List(vec![Arg::Int(1)])]);
    let args = vec![
        Arg::None,
        Arg::Bool(true),
        Arg::Int(-1),
        Arg::Int(i64::MAX.into()),
        Arg::Int(u64::MAX.into()),
        Arg::Float(0.5),
        Arg::Str("é".into()),
        Arg::Bytes(Bytes::from_static(b"\0\xff")),
        Arg::List(vec![result("add-1"), refs]),
        Arg::Dict(vec![(Arg::Str("k".into()), result("add-1"))]),
        Arg::Dict(vec![(Arg::Str("k".into()), Arg::Tuple(vec![]))]),
    ];
    let python = |module: &str, name: &str, args| Call::Python {
        module: module.into(),
        name: name.into(),
        args,
    };
    let add = vec![result("inc-1"), Arg::Int(2)];
    graph.add("add-1", &python("operator", "add", add), &plain);
    graph.add("all-1", &python("builtins", "print", args), &plain);
    let rust = Annotations { resources: vec![("rust".into(), 1.0)], ..plain };
    let ours = Annotations {
        priority: Some(-3),
        retries: Some(2),
        workers: ["w1".into(), "tcp://127.0.0.1:9".into()].into(),
        allow_other_workers: true,
        timeout: Some(2.5),
        ..rust.clone()
    };
    let call = |inputs: &[&str]| Call::Rust {
        function: "app::inc".into(),
        args: Bytes::from_static(b"\x91\xc0"),
        inputs: inputs.iter().map(|key| (*key).into()).collect(),
    };
    graph.add("inc-1", &call(&[]), &rust);
    graph.add("sum-1", &call(&["inc-1", "add-1", "inc-1"]), &ours);
    graph
}

fn one_task() -> Graph {
    let mut graph = Graph::new();
    let args = vec![Arg::Result("a".into()), Arg::Int(2)];
    graph.add(
        "s",
        &Call::Python { module: "operator".into(), name: "add".into(), args },
        &Annotations { priority: Some(3), ..Annotations::default() },
    );
    graph
}

fn submission(graph: &Graph, form: GraphForm) -> Outgoing {
    let (keys, order) = (["sum-1", "all-1"], ["inc-1", "add-1", "sum-1", "all-1"]);
    let order = (form == GraphForm::Expression).then_some(&order[..]);
    batch(|to| UpdateGraph { graph, form, keys: &keys, order }.push(to))
}

/// Returns one or more messages of every type.
fn messages() -> Vec<(&'static str, Outgoing)> {
    let mut all = vec![
        ("handshake", handshake::ours()),
        ("identity", call::identity()),
        ("capabilities", capabilities::question()),
    ];
    all.extend(calls());
    all.extend(clients());
    all.extend(workers());
    all.extend(served());
    all
}

fn calls() -> Vec<(&'static str, Outgoing)> {
    let data = [(key("x"), Serialized::bytes(Bytes::from_static(b"payload")))];
    vec![
        ("versions", call::versions()),
        ("ping", call::ping()),
        ("who-has", call::who_has(&["a", "b"])),
        ("gather", call::gather(&["a"], &call::FORMS)),
        ("get-data", call::get_data(&["a"], Some("tcp://127.0.0.1:1"), &call::FORMS)),
        ("delivered", call::delivered()),
        ("scatter", call::scatter("client-1", &data, None)),
        ("update-data", call::update_data(&data)),
        ("retry", call::retry("client-1", &["a"])),
        ("retire-workers", call::retire_workers(&["tcp://127.0.0.1:1"])),
    ]
}

fn clients() -> Vec<(&'static str, Outgoing)> {
    let keys = ["a", "b"];
    vec![
        ("register-client", client::register("client-1", &versions())),
        ("update-graph, expression", submission(&graph(), GraphForm::Expression)),
        ("update-graph, header", submission(&graph(), GraphForm::Header)),
        ("client-releases-keys", batch(|to| client::releases_keys(to, &keys))),
        ("client-desires-keys", batch(|to| client::desires_keys(to, &keys))),
        ("cancel-keys, new", batch(|to| client::cancel_keys(to, &NEW, &keys, true, "why"))),
        ("cancel-keys, old", batch(|to| client::cancel_keys(to, &OLD, &keys, false, "why"))),
        ("report-key", batch(|to| client::report_key(to, &"a"))),
        ("heartbeat-client", batch(client::heartbeat)),
        ("close-client", batch(client::close)),
    ]
}

fn key(text: &str) -> WireKey {
    text.into()
}

fn workers() -> Vec<(&'static str, Outgoing)> {
    let tuple = Value::Array(vec!["x".into(), 1.into()]).key().unwrap();
    let (metrics, versions) = (metrics(), versions());
    let registration = Registration {
        address: "tcp://127.0.0.1:1",
        name: "w1",
        server_id: "Worker-1",
        threads: 2,
        memory_limit: Some(1 << 33),
        resources: &[("rust", 2.0)],
        directory: "/tmp",
        versions: &versions,
        pid: 7,
        now: 1.5,
        metrics: &metrics,
    };
    let inc = key("inc-1");
    let run = Run { key: &inc, run: 5, stimulus: "compute-1" };
    let took = StartStop { start: 1.0, stop: 1.5 };
    let executing = [(tuple.clone(), 0.5)];
    vec![
        ("register-worker", registration.message()),
        ("heartbeat-worker", heartbeat("tcp://127.0.0.1:1", 1.5, &metrics, &executing)),
        ("task-finished", batch(|to| report::finished(to, &run, 9, false, took))),
        ("task-finished, a part", batch(|to| report::finished(to, &run, 9, true, took))),
        ("task-erred", batch(|to| report::erred(to, &run, "LookupError", "it's broken", took))),
        ("add-keys", batch(|to| report::has(to, &[tuple.clone(), inc.clone()], "s"))),
        ("release-worker-data", batch(|to| report::released(to, &tuple, "s"))),
        ("steal-response", batch(|to| report::stolen(to, &inc, Stolen::Ready, "steal-1"))),
        ("steal-response, nothing", batch(|to| report::stolen(to, &inc, Stolen::Unknown, "s"))),
        ("request-refresh-who-has", batch(|to| report::refresh_who_has(to, &[tuple], "s"))),
        ("long-running, new", batch(|to| report::long_running(to, &NEW, &run, 0.5))),
        ("long-running, old", batch(|to| report::long_running(to, &OLD, &run, 0.5))),
        ("worker-status-change", batch(|to| report::status(to, "paused", "s"))),
        ("keep-alive", batch(report::keep_alive)),
        ("close-stream", batch(report::close)),
        (
            "several",
            batch(|to| {
                report::erred(to, &run, "RuntimeError", "one", took);
                report::erred(to, &run, "RuntimeError", "two", took);
            }),
        ),
    ]
}

fn served() -> Vec<(&'static str, Outgoing)> {
    let mut text = Packer::new();
    text.str("text");
    let msgpack = text.finish().to_vec()[24..].to_vec();
    let pickled = ensue_dask_proto::pickle::runtime_error("no");
    let data = [
        (key("bytes"), Serialized::bytes(Bytes::from_static(b"payload"))),
        (key("empty"), Serialized::bytes(Bytes::new())),
        (key("msgpack"), Serialized::msgpack(msgpack.into())),
        (key("pickle"), Serialized::pickle(pickled.into())),
    ];
    let status = Member {
        name: "running".into(),
        module: "distributed.core".into(),
        class: "Status".into(),
    };
    let values = Value::Array(vec![
        Value::Set(vec![1.into()]),
        Value::Enum(Box::new(status)),
        Value::Uint(u64::MAX),
        i64::MIN.into(),
    ]);
    vec![
        ("ok", call::ok()),
        ("failed", call::failed("no such thing")),
        ("data", serve::data(&data)),
        ("busy", serve::busy()),
        ("updated", serve::updated(&[(key("a"), 3)])),
        ("gathered", serve::gathered(&[])),
        ("gathered, not all", serve::gathered(&[key("a")])),
        ("keys", serve::keys(&[key("a")])),
        ("pong", serve::pong()),
        ("worker's identity", serve::identity("w", "tcp://a:1", "w1", "tcp://a:2")),
        ("not run", serve::not_run("no Python here")),
        ("unknown", serve::unknown()),
        ("profile", serve::harmless(serve::Harmless::Profile)),
        ("profile's times", serve::harmless(serve::Harmless::ProfileTimes)),
        ("monitor", serve::harmless(serve::Harmless::Monitor)),
        ("values", call::answer_value(&values)),
    ]
}

fn frames(message: &Outgoing) -> Vec<Bytes> {
    let mut reader = Reader::new(Limits::default());
    reader.feed(&message.to_vec());
    let frames = reader.message().unwrap().expect("all bytes were fed");
    assert!(reader.is_between_messages());
    frames
}

#[test]
fn messages_equal_the_golden_file() {
    let mut text = String::new();
    for (name, message) in messages() {
        writeln!(text, "{name}").unwrap();
        for frame in frames(&message) {
            writeln!(text, "  {}", frame.escape_ascii()).unwrap();
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/golden.txt");
    if env::var_os("ENSUE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap();
    for (ours, golden) in text.lines().zip(golden.lines()) {
        assert_eq!(ours, golden);
    }
    assert_eq!(text.len(), golden.len());
}

#[test]
fn a_message_begins_with_its_lengths() {
    let mut bytes = vec![36, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(b"\x82\xa2op\xa8identity\xa5reply\xc3");
    assert_eq!(call::identity().to_vec(), bytes);
    assert_eq!(call::identity().remaining(), bytes.len());
}

/// The pickle of one task, with Dask's names of classes in readable form.
#[test]
fn a_graph_equals_its_golden_pickle() {
    let pickle = one_task().finish(GraphForm::Expression);
    let golden: &[&[u8]] = &[
        b"\x80\x04\x8c\ndask._expr\x8c\x07HLGExpr\x93(",
        b"\x8c\x13dask.highlevelgraph\x8c\x0eHighLevelGraph\x93(",
        b"}(\x8c\x07layer-0\x8c\x13dask.highlevelgraph\x8c\x11MaterializedLayer\x93(",
        b"}(\x8c\x01s\x8c\x0fdask._task_spec\x8c\x04Task\x93(",
        b"\x8c\x01s\x8c\x08operator\x8c\x03add\x93",
        b"\x8c\x0fdask._task_spec\x8c\x07TaskRef\x93(\x8c\x01atR",
        b"J\x02\x00\x00\x00tRu",
        b"}(\x8c\x08priority\x8c\x08builtins\x8c\x07getattr\x93(",
        b"}(\x8c\x01sJ\x03\x00\x00\x00u\x8c\x03gettRu",
        b"tRu",
        b"}(\x8c\x07layer-0\x8futR",
        b"tR.",
    ];
    assert_eq!(pickle.escape_ascii().to_string(), golden.concat().escape_ascii().to_string());
}

#[test]
fn an_empty_batch_is_an_empty_list() {
    let message = batch(|_| ());
    assert_eq!(&frames(&message)[0][..], b"\xdd\0\0\0\0");
}

#[test]
fn packing_shares_large_bytes() {
    let large = Bytes::from(vec![7; 1 << 20]);
    let mut packer = Packer::new();
    Serialized::bytes(large.clone()).pack(&mut packer);
    let message = packer.finish();
    assert!(message.slices().iter().any(|slice| slice.as_ptr() == large.as_ptr()));
}
