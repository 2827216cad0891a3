//! Dask's protocol against stock schedulers and workers, of each release that `ENSUE_DASK` has an environment of: folders
//! with `bin/dask`, separated by colons. Without any, nothing is tested.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ensue::dask::Registry;
use ensue_dask_proto::capabilities::{self, Forms, by_release};
use ensue_dask_proto::client::{self, SchedulerEvent};
use ensue_dask_proto::graph::{Annotations, Arg, Call, Graph, UpdateGraph};
use ensue_dask_proto::serialized::{Content, Serialized};
use ensue_dask_proto::value::{Map, Value};
use ensue_dask_proto::worker::order::{Compute, Order};
use ensue_dask_proto::worker::register::{Beat, Metrics, Registered, Registration, heartbeat};
use ensue_dask_proto::worker::report::{self, Run, StartStop, Stolen};
use ensue_dask_proto::worker::serve::{self, Ask, Request};
use ensue_dask_proto::{WireKey, call, failure, handshake};
use ensue_tests_cluster::comm::Comm;
use ensue_tests_cluster::{Cluster, Setting, environments};

#[test]
fn stock_schedulers_and_workers_read_and_write_the_same_messages() {
    for environment in environments() {
        println!("Dask in {}", environment.display());
        talk(environment);
    }
}

fn talk(environment: PathBuf) {
    let cluster = Cluster::start(&Setting { environment, registry: Registry::new });
    let mut calls = Comm::connect(&cluster.address);
    let versions = call::map_reply(calls.call(call::versions())).unwrap();
    let release = call::release(&versions).unwrap().to_owned();
    let forms = capabilities::forms(calls.call(capabilities::question()), &release).unwrap();
    assert_eq!(Ok(forms), by_release(&release));

    let store = Store::default();
    let mut worker = Worker::join(&cluster.address, &versions, &store);
    let mut client = Client::join(&cluster.address, &versions, forms);

    compute(&mut client, &mut worker, &mut calls);
    fail_and_try_again(&mut client, &mut worker, &mut calls);
    cancel(&mut client, &mut worker);
    scatter(&mut client, &mut worker, &mut calls);
    let _python = cluster.python_worker("python");
    mix(&mut client, &mut worker, &mut calls);
    steal(&mut client, &mut worker);

    worker.stream.batch(report::close);
    client.stream.batch(client::close);
    let log = cluster.stop();
    assert!(!log.contains("Traceback"), "{log}");
}

/// The annotations of a Rust task.
fn ours() -> Annotations {
    Annotations {
        resources: vec![("rust".into(), 1.0)],
        priority: Some(1),
        retries: Some(1),
        ..Annotations::default()
    }
}

/// A call of a Rust function.
fn rust(function: &str, args: &'static [u8], inputs: &[&str]) -> Call {
    Call::Rust {
        function: function.into(),
        args: Bytes::from_static(args),
        inputs: inputs.iter().map(|key| (*key).into()).collect(),
    }
}

/// Two Rust tasks, one of which is an input of the other, and every way to fetch their results.
fn compute(client: &mut Client, worker: &mut Worker, calls: &mut Comm) {
    let mut graph = Graph::new();
    graph.add("inc-1", &rust("inc", b"one", &[]), &ours());
    graph.add("add-1", &rust("inc", b"two", &["inc-1", "inc-1"]), &ours());
    client.submit(&graph, &["inc-1", "add-1"], None);

    let first = worker.compute("inc-1");
    assert_eq!(first.resources, [("rust".to_owned(), 1.0)]);
    let rust = first.rust.as_ref().unwrap();
    assert_eq!((&*rust.function, &rust.args[..], &rust.inputs[..]), ("inc", &b"one"[..], &[][..]));
    worker.finish(&first, b"result one");
    client.in_memory("inc-1");
    let second = worker.compute("add-1");
    assert_eq!(second.rust.as_ref().unwrap().inputs, ["inc-1".into(), "inc-1".into()]);
    assert_eq!(second.who_has, [("inc-1".into(), vec![worker.address.clone()])]);
    assert_eq!(second.sizes, [("inc-1".into(), 10)]);
    worker.finish(&second, b"result two");
    client.in_memory("add-1");

    let who_has = call::who_has_reply(calls.call(call::who_has(&["add-1"]))).unwrap();
    assert_eq!(who_has, [("add-1".into(), vec![worker.address.clone()])]);
    assert_eq!(fetch(&worker.address, "add-1"), Content::Bytes(vec!["result two".into()]));
    let gathered = call::data_reply(calls.call(call::gather(&["add-1"], &call::FORMS))).unwrap();
    let call::Data::Here(data) = gathered else { panic!("{gathered:?}") };
    assert_eq!(content(&data[0].1), Content::Bytes(vec!["result two".into()]));

    client.stream.batch(|to| client::releases_keys(to, &["add-1", "inc-1"]));
    worker.freed(&["add-1", "inc-1"]);
}

fn fail_and_try_again(client: &mut Client, worker: &mut Worker, calls: &mut Comm) {
    let mut graph = Graph::new();
    graph.add("bad-1", &rust("bad", b"", &[]), &ours());
    client.submit(&graph, &["bad-1"], None);
    for _ in 0..2 {
        let task = worker.compute("bad-1");
        worker.fail(&task, "it's broken");
    }
    assert_eq!(client.erred("bad-1"), "RuntimeError: it's broken");
    calls.call(call::retry("client", &["bad-1"]));
    let task = worker.compute("bad-1");
    worker.finish(&task, b"");
    client.in_memory("bad-1");
}

fn cancel(client: &mut Client, worker: &mut Worker) {
    let mut graph = Graph::new();
    graph.add("slow-1", &rust("slow", b"", &[]), &ours());
    client.submit(&graph, &["slow-1"], Some(&["slow-1"]));
    let task = worker.compute("slow-1");
    let forms = client.forms;
    worker.stream.batch(|to| report::long_running(to, &forms, &run(&task), 0.5));
    client.stream.batch(|to| client::cancel_keys(to, &forms, &["slow-1"], false, "a test"));
    client.wait("cancelled", |event| match event {
        SchedulerEvent::Cancelled { keys, .. } if keys == ["slow-1".into()] => Some(()),
        _ => None,
    });
    worker.freed(&["slow-1"]);
}

fn scatter(client: &mut Client, worker: &mut Worker, calls: &mut Comm) {
    let data = [(WireKey::from("data-1"), Serialized::bytes("scattered".into()))];
    calls.call(call::scatter("client", &data, None));
    client.in_memory("data-1");
    assert_eq!(fetch(&worker.address, "data-1"), Content::Bytes(vec!["scattered".into()]));
}

/// Python functions with results of Rust functions as inputs.
fn mix(client: &mut Client, worker: &mut Worker, calls: &mut Comm) {
    let python = Annotations { workers: ["python".into()].into(), ..Annotations::default() };
    let call = |module: &str, name: &str, args| Call::Python {
        module: module.into(),
        name: name.into(),
        args,
    };
    let data = || Arg::Result("data-1".into());
    let bytes = |bytes| Arg::Bytes(Bytes::from_static(bytes));
    let mut graph = Graph::new();
    let list = vec![Arg::List(vec![data(), Arg::Tuple(vec![Arg::Int(1)])])];
    let join = vec![bytes(b"+"), Arg::List(vec![data(), bytes(b"x")])];
    graph.add("len-1", &call("builtins", "len", vec![data()]), &python);
    graph.add("list-1", &call("builtins", "len", list), &python);
    graph.add("join-1", &call("builtins", "bytes.join", join), &python);
    graph.add("div-1", &call("operator", "truediv", vec![Arg::Int(1), Arg::Int(0)]), &python);
    graph.add("ours-1", &rust("f", b"", &["join-1"]), &ours());
    client.submit(&graph, &["len-1", "list-1", "join-1", "div-1", "ours-1"], None);
    client.all_in_memory(
        &["len-1", "list-1", "join-1"],
        "div-1",
        "ZeroDivisionError: division by zero",
    );

    let who_has = call::who_has_reply(calls.call(call::who_has(&["len-1"]))).unwrap();
    let address = &who_has[0].1[0];
    assert_eq!(fetch(address, "len-1"), Content::Plain(9.into()));
    assert_eq!(fetch(address, "list-1"), Content::Plain(2.into()));
    assert_eq!(fetch(address, "join-1"), Content::Bytes(vec!["scattered+x".into()]));

    let task = worker.compute("ours-1");
    let (key, addresses) = &task.who_has[0];
    assert_eq!((key.as_str(), &addresses[0]), (Some("join-1"), address));
    worker.stream.batch(|to| report::refresh_who_has(to, &["join-1".into()], "refresh"));
    let who_has = worker.wait("who has it", |order| match order {
        Order::WhoHas { who_has, .. } => Some(who_has),
        _ => None,
    });
    assert_eq!(who_has[0].1, [address.as_str()]);
    worker.store.lock().unwrap().insert("join-1".into(), Serialized::bytes("scattered+x".into()));
    worker.stream.batch(|to| report::has(to, &["join-1".into()], &task.stimulus));
    worker.stream.batch(|to| report::released(to, &"join-1".into(), &task.stimulus));
    worker.finish(&task, b"last");
    client.in_memory("ours-1");
}

/// A paused worker and an unexpected reply aren't errors.
fn steal(client: &mut Client, worker: &mut Worker) {
    worker.stream.batch(|to| {
        report::status(to, "paused", "pause");
        report::status(to, "running", "resume");
        report::stolen(to, &"unknown".into(), Stolen::Unknown, "steal");
        report::keep_alive(to);
    });
    client.stream.batch(client::heartbeat);
    client.stream.batch(|to| client::report_key(to, &"ours-1"));
    client.in_memory("ours-1");
    client.stream.batch(|to| client::desires_keys(to, &["ours-1"]));
}

fn fetch(address: &str, key: &str) -> Content {
    let mut comm = Comm::connect(address);
    let data = call::data_reply(comm.call(call::get_data(&[key], None, &call::FORMS))).unwrap();
    comm.send(call::delivered());
    let call::Data::Here(data) = data else { panic!("{data:?}") };
    assert_eq!(data[0].0.as_str(), Some(key));
    content(&data[0].1)
}

fn content(value: &Value) -> Content {
    match value {
        Value::Serialized(object) => object.content().unwrap(),
        Value::Bin(bytes) => Content::Bytes(vec![bytes.clone()]),
        other => panic!("{other:?}"),
    }
}

fn run(task: &Compute) -> Run<'_> {
    Run { key: &task.key, run: task.run, stimulus: &task.stimulus }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

struct Client {
    stream: Comm,
    forms: Forms,
}

impl Client {
    fn join(scheduler: &str, versions: &Map, forms: Forms) -> Self {
        let mut stream = Comm::connect(scheduler);
        stream.send(client::register("client", versions));
        let mut client = Self { stream, forms };
        let warning = client.wait("the stream", |event| match event {
            SchedulerEvent::Started { warning } => Some(warning),
            _ => None,
        });
        assert_eq!(warning, "");
        client
    }

    fn submit(&mut self, graph: &Graph, keys: &[&str], order: Option<&[&str]>) {
        let form = self.forms.graph;
        self.stream.batch(|to| UpdateGraph { graph, form, keys, order }.push(to));
    }

    fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(SchedulerEvent) -> Option<T>) -> T {
        self.stream.wait(what, |operation| wanted(SchedulerEvent::read(operation).unwrap()))
    }

    fn in_memory(&mut self, name: &str) {
        self.wait(name, |event| match event {
            SchedulerEvent::InMemory { ref key, .. } => (key.as_str() == Some(name)).then_some(()),
            SchedulerEvent::Erred { .. }
            | SchedulerEvent::Lost { .. }
            | SchedulerEvent::Cancelled { .. }
            | SchedulerEvent::Closed => {
                panic!("{event:?} instead of {name}")
            }
            _ => None,
        });
    }

    fn erred(&mut self, name: &str) -> String {
        self.wait(name, |event| match event {
            SchedulerEvent::Erred { key, exception, .. } if key.as_str() == Some(name) => {
                Some(failure::exception(&exception).to_string())
            }
            _ => None,
        })
    }

    fn all_in_memory(&mut self, names: &[&str], bad: &str, text: &str) {
        let mut left = [names, &[bad]].concat();
        self.wait("all", |event| {
            let done = match event {
                SchedulerEvent::InMemory { key, .. } => key,
                SchedulerEvent::Erred { key, exception, .. } => {
                    assert_eq!(failure::exception(&exception).to_string(), text);
                    assert_eq!(key.as_str(), Some(bad));
                    key
                }
                _ => return None,
            };
            left.retain(|name| done.as_str() != Some(name));
            left.is_empty().then_some(())
        });
    }
}

type Store = Arc<Mutex<HashMap<WireKey, Serialized>>>;

struct Worker {
    stream: Comm,
    address: String,
    store: Store,
}

impl Worker {
    fn join(scheduler: &str, versions: &Map, store: &Store) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let served = store.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let store = served.clone();
                thread::spawn(move || serve(Comm::new(stream.unwrap()), &store));
            }
        });
        let mut stream = Comm::connect(scheduler);
        let metrics = Metrics { bandwidth: 1e8, ..Metrics::default() };
        let registration = Registration {
            address: &address,
            name: "ours",
            server_id: "Worker-ours",
            threads: 2,
            memory_limit: Some(1 << 30),
            resources: &[("rust", 2.0)],
            directory: "/tmp",
            versions,
            pid: std::process::id().into(),
            now: now(),
            metrics: &metrics,
        };
        let joined = Registered::read(stream.call(registration.message())).unwrap();
        let Registered::Joined { heartbeat: seconds, warning } = joined else {
            panic!("{joined:?}")
        };
        assert!(seconds > 0.0 && warning.is_empty(), "{seconds} {warning}");
        let mut other = Comm::connect(scheduler);
        let taken = Registration { address: "tcp://127.0.0.1:1", ..registration };
        let refused = Registered::read(other.call(taken.message())).unwrap();
        assert!(matches!(&refused, Registered::Refused(text) if text.contains("name taken")));
        let mut calls = Comm::connect(scheduler);
        let executing = [("nothing".into(), 0.5)];
        let metrics = Metrics { bandwidth_from: &[("tcp://127.0.0.1:1", (1e8, 2))], ..metrics };
        let beat = Beat::read(calls.call(heartbeat(&address, now(), &metrics, &executing)));
        assert!(matches!(beat, Ok(Beat::Again(_))), "{beat:?}");
        let beat = Beat::read(calls.call(heartbeat("tcp://127.0.0.1:1", now(), &metrics, &[])));
        assert_eq!(beat, Ok(Beat::Unknown));
        Self { stream, address, store: store.clone() }
    }

    fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(Order) -> Option<T>) -> T {
        self.stream.wait(what, |operation| wanted(Order::read(operation).unwrap()))
    }

    fn compute(&mut self, name: &str) -> Compute {
        self.wait(name, |order| match order {
            Order::Compute(task) => Some(*task),
            _ => None,
        })
    }

    fn freed(&mut self, names: &[&str]) {
        let mut left = names.to_vec();
        self.wait("free-keys", |order| {
            if let Order::Free { keys, .. } = order {
                left.retain(|name| !keys.contains(&(*name).into()));
            }
            left.is_empty().then_some(())
        });
    }

    fn finish(&mut self, task: &Compute, result: &'static [u8]) {
        let result = Bytes::from_static(result);
        let size = result.len() as u64;
        self.store.lock().unwrap().insert(task.key.clone(), Serialized::bytes(result));
        let took = StartStop { start: now() - 0.1, stop: now() };
        self.stream.batch(|to| report::finished(to, &run(task), size, false, took));
    }

    fn fail(&mut self, task: &Compute, text: &str) {
        let took = StartStop { start: now() - 0.1, stop: now() };
        self.stream.batch(|to| report::erred(to, &run(task), "RuntimeError", text, took));
    }
}

/// Serves a connection to the worker.
fn serve(mut comm: Comm, store: &Store) {
    comm.send(handshake::ours());
    handshake::theirs(comm.receive().unwrap()).unwrap();
    while let Some(message) = comm.receive() {
        if serve::is_delivered(&message) {
            continue;
        }
        let request = Request::read(message).unwrap();
        let reply = match request.ask {
            Ask::GetData { keys, .. } => {
                let store = store.lock().unwrap();
                let data: Vec<_> = keys
                    .iter()
                    .filter_map(|key| Some((key.clone(), store.get(key)?.clone())))
                    .collect();
                serve::data(&data)
            }
            Ask::UpdateData { data } => {
                let sizes: Vec<_> = data.iter().map(|(key, _)| (key.clone(), 9)).collect();
                for (key, value) in data {
                    let Value::Serialized(object) = value else { panic!("{value:?}") };
                    store.lock().unwrap().insert(key, *object);
                }
                serve::updated(&sizes)
            }
            Ask::Ping => serve::pong(),
            Ask::Harmless(kind) => serve::harmless(kind),
            _ => serve::unknown(),
        };
        if request.reply {
            comm.send(reply);
        }
    }
}
