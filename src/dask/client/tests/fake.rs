//! Fake schedulers and workers, whose messages each test decides.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_io::{Timer, block_on};
use bytes::Bytes;
use futures_lite::future::{or, zip};

use crate::dask::Registry;
use crate::dask::client::Client;
use crate::dask::client::io::dask_future::DaskFuture;
use crate::dask::client::io::link::Link;
use crate::dask::client::io::shared::Pace;
use crate::dask::client::state::task_spec::TaskSpec;
use crate::dask::net::{Address, Comm, Io, Listener};
use crate::dask::wire::call::EMPTY;
use crate::dask::wire::frame::Outgoing;
use crate::dask::wire::graph::{Annotations, Call};
use crate::dask::wire::pack::{Batch, FieldMap, Fields, Pack, Packer, Pairs};
use crate::dask::wire::serialized::{Content, Serialized};
use crate::dask::wire::unpack;
use crate::dask::wire::value::{Map, Value};
use crate::dask::wire::worker::serve;

pub(super) const SOON: Duration = Duration::from_millis(100);
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn run<T>(test: impl Future<Output = T>) -> T {
    let late = async {
        Timer::after(Duration::from_secs(60)).await;
        panic!("the test hangs");
    };
    block_on(or(test, late))
}

pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    let late = async {
        Timer::after(PATIENCE).await;
        panic!("it takes too long");
    };
    or(future, late).await
}

/// A call to a fake, which waits for the test's answer.
pub(super) struct Asked {
    pub(super) op: String,
    pub(super) map: Map,
    pub(super) answer: Sender<Option<Outgoing>>,
}

impl Asked {
    pub(super) fn answer(self, message: Outgoing) {
        let _ = self.answer.try_send(Some(message));
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.map.get("keys").unwrap().texts()
    }
}

/// A counted connection.
struct Connection(Arc<AtomicUsize>);

impl Connection {
    fn count(all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(1, Ordering::SeqCst);
        Self(all.clone())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A scheduler or worker whose answers the test gives.
pub(super) struct Fake {
    pub(super) address: Address,
    pub(super) calls: Receiver<Asked>,
    pub(super) streams: Receiver<Comm>,
    /// The number of open connections for calls.
    pub(super) connections: Arc<AtomicUsize>,
    /// Keeps its thread alive.
    pub(super) _io: Io,
}

const IMPATIENT: Pace = Pace {
    heartbeat: Duration::from_millis(20),
    doubt: SOON,
    // Longer than a loaded machine may keep the test from answering.
    silence: SOON.saturating_mul(20),
    again: Duration::from_millis(5),
};

impl Fake {
    pub(super) async fn start() -> Self {
        let io = Io::start("fake").unwrap();
        let listener = Listener::bind("127.0.0.1", 0, None).await.unwrap();
        let address = listener.address().clone();
        let (asked, calls) = async_channel::unbounded();
        let (streaming, streams) = async_channel::unbounded();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        io.spawn(async move {
            let serve = move |mut comm: Comm| {
                let (asked, streaming) = (asked.clone(), streaming.clone());
                let connection = Connection::count(&counted);
                async move {
                    let _connection = connection;
                    while let Ok(Some(frames)) = comm.receive().await {
                        let Ok(Value::Map(mut map)) = unpack::message(&frames) else { continue };
                        let op = map.take("op").string().unwrap();
                        if op == "register-client" {
                            return streaming.send(comm).await.unwrap();
                        }
                        let (answer, answered) = async_channel::bounded(1);
                        let _ = asked.send(Asked { op, map, answer }).await;
                        match answered.recv().await {
                            Ok(Some(answer)) => comm.send(answer).await.unwrap(),
                            _ => return,
                        }
                    }
                }
            };
            match listener.serve(serve).await {}
        })
        .detach();
        Self { address, calls, streams, connections, _io: io }
    }

    pub(super) async fn asked(&self, op: &str) -> Asked {
        let asked = soon(self.calls.recv()).await.unwrap();
        assert_eq!(asked.op, op);
        asked
    }

    pub(super) fn name(&self) -> String {
        self.address.to_string()
    }

    /// Accepts a client that waits for the scheduler for long.
    pub(super) async fn take(&self) -> (Link, Stream) {
        self.take_at(Pace { doubt: PATIENCE, silence: PATIENCE, ..IMPATIENT }).await
    }

    /// Accepts a client that soon doubts the scheduler.
    pub(super) async fn take_impatient(&self) -> (Link, Stream) {
        self.take_at(IMPATIENT).await
    }

    /// Accepts a client with its submit methods, and reports one worker with one thread.
    pub(super) async fn take_client(&self, registry: Registry) -> (Client, Stream) {
        let take = async {
            let stream = self.welcome().await;
            let resources = Pairs([("rust", 1.0)].into_iter());
            let worker = FieldMap(&[("nthreads", &1u64), ("resources", &resources)]);
            let workers = Pairs([("tcp://w:1", worker)].into_iter());
            let identity = message(&[("type", &"Scheduler"), ("workers", &workers)]);
            self.asked("identity").await.answer(identity);
            stream
        };
        let connect = Client::connect(self.name(), registry).into_future();
        let (client, stream) = zip(connect, take).await;
        (client.unwrap(), stream)
    }

    async fn welcome(&self) -> Stream {
        self.asked("identity").await.answer(message(&[("type", &"Scheduler")]));
        self.asked("versions").await.answer(versions());
        // As a scheduler that doesn't let clients run functions in it.
        self.asked("run_function").await.answer(nil());
        let mut stream = Stream::new(soon(self.streams.recv()).await.unwrap());
        stream.say(&[("op", &"stream-start"), ("warning", &"")]).await;
        stream
    }

    pub(super) async fn take_at(&self, pace: Pace) -> (Link, Stream) {
        let connect = Link::connect_at(pace, &self.address, None, PATIENCE);
        let (link, stream) = zip(connect, self.welcome()).await;
        (link.unwrap(), stream)
    }
}

pub(super) fn message(fields: &Fields<'_>) -> Outgoing {
    Packer::message(fields)
}

pub(super) fn nil() -> Outgoing {
    let mut packer = Packer::new();
    ().pack(&mut packer);
    packer.finish()
}

pub(super) fn versions() -> Outgoing {
    let packages = Pairs([("distributed", "2026.8.0")].into_iter());
    message(&[("packages", &packages)])
}

pub(super) fn who_has(keys: &[String], addresses: &[String]) -> Outgoing {
    let pairs: Vec<_> = keys.iter().map(|key| (key, addresses)).collect();
    let mut packer = Packer::new();
    Pairs(pairs.into_iter()).pack(&mut packer);
    packer.finish()
}

pub(super) fn data(keys: &[String]) -> Outgoing {
    let data: Vec<_> = keys
        .iter()
        .map(|key| (key.as_str().into(), Serialized::bytes(key.clone().into_bytes().into())))
        .collect();
    serve::data(&data)
}

/// The scheduler's end of a client's stream.
pub(super) struct Stream {
    pub(super) comm: Comm,
    pub(super) said: Vec<Map>,
    /// Whether probes are answered only by [`answer`](Self::answer); and the probes that aren't answered.
    pub(super) is_slow: bool,
    pub(super) probes: Vec<String>,
}

impl Stream {
    fn new(comm: Comm) -> Self {
        Self { comm, said: Vec::new(), is_slow: false, probes: Vec::new() }
    }

    /// Answers the next probe: the scheduler doesn't know its key.
    pub(super) async fn answer(&mut self) {
        while self.probes.is_empty() {
            let next = self.hear_any().await.unwrap();
            if next.text("op") != Some("heartbeat-client") {
                assert_eq!(next.text("op"), Some("report-key"));
                self.probes.push(next.text("key").unwrap().to_owned());
            }
        }
        let key = self.probes.remove(0);
        self.say(&[("op", &"cancelled-keys"), ("keys", &[key])]).await;
    }

    pub(super) async fn say(&mut self, operation: &Fields<'_>) {
        let mut batch = Batch::new();
        batch.push(operation);
        self.comm.send(batch.finish()).await.unwrap();
    }

    /// Reports that a task failed with this text.
    pub(super) async fn erred(&mut self, key: &str, text: &str) {
        self.say(&[("op", &"task-erred"), ("key", &key), ("exception", &text), ("traceback", &())])
            .await;
    }

    pub(super) async fn in_memory(&mut self, key: &str) {
        self.say(&[("op", &"key-in-memory"), ("key", &key)]).await;
    }

    /// Returns the next operation that is neither a heartbeat nor a probe; none at the end.
    pub(super) async fn hear(&mut self) -> Option<Map> {
        loop {
            let next = self.hear_any().await?;
            match (next.text("op"), next.text("key")) {
                (Some("heartbeat-client"), _) => {}
                (Some("report-key"), Some(key)) if key.starts_with("(ensue asks)") => {
                    self.probes.push(key.to_owned());
                    if !self.is_slow {
                        self.answer().await;
                    }
                }
                _ => return Some(next),
            }
        }
    }

    async fn hear_any(&mut self) -> Option<Map> {
        while self.said.is_empty() {
            let frames = soon(self.comm.receive()).await.unwrap()?;
            self.said = unpack::operations(&frames, Ok).unwrap();
            self.said.reverse();
        }
        self.said.pop()
    }

    pub(super) async fn expect(&mut self, op: &str) -> Map {
        let map = self.hear().await.unwrap();
        assert_eq!(map.text("op"), Some(op));
        map
    }

    /// Expects these keys, in one message or, if the client's thread was interrupted between them, in several.
    pub(super) async fn expect_keys(&mut self, op: &str, keys: &[&str]) {
        assert_eq!(self.hear_keys(op, keys.len()).await, keys);
    }

    /// Expects messages of this kind, until they have named so many keys.
    pub(super) async fn hear_keys(&mut self, op: &str, count: usize) -> Vec<String> {
        let mut heard = Vec::new();
        while heard.len() < count {
            let message = self.expect(op).await;
            heard.extend(message.get("keys").unwrap().texts());
        }
        heard
    }
}

pub(super) fn submit(link: &Link, key: &str, inputs: &[&str]) -> Arc<DaskFuture> {
    let inputs = inputs.iter().map(|key| Arc::from(*key)).collect();
    let call = Call::Rust { function: "f".into(), args: Bytes::from_static(b"\x90"), inputs };
    link.submit(TaskSpec {
        key: key.into(),
        call,
        annotations: Arc::new(Annotations::default()),
        is_alone: false,
    })
}

/// Waits until the client has handled all that the scheduler has said.
pub(super) async fn heard_all(link: &Link, stream: &mut Stream) -> Arc<DaskFuture> {
    let last = submit(link, "last-said", &[]);
    stream.in_memory(last.key()).await;
    soon(last.ended()).await.unwrap();
    last
}

pub(super) fn submit_python(link: &Link, key: &str) -> Arc<DaskFuture> {
    let call = Call::Python { module: "m".into(), name: "f".into(), args: Vec::new() };
    link.submit(TaskSpec { key: key.into(), call, annotations: Arc::default(), is_alone: false })
}

/// An identity with a Rust worker, a Python worker that is closing, and these Python workers.
pub(super) fn identity(python: &[&str]) -> Outgoing {
    let rust = Pairs([("rust", 4.0)].into_iter());
    let rust = FieldMap(&[("status", &"running"), ("resources", &rust)]);
    let others = FieldMap(&[("status", &"running"), ("resources", &EMPTY)]);
    let closing = FieldMap(&[("status", &"closing_gracefully"), ("resources", &EMPTY)]);
    let some = [("tcp://rust:1", rust), ("tcp://closing:1", closing)];
    let workers = some.into_iter().chain(python.iter().map(|address| (*address, others)));
    let workers: Vec<_> = workers.collect();
    message(&[("type", &"Scheduler"), ("workers", &Pairs(workers.into_iter()))])
}

/// Answers each poll of the workers with these Python workers, until `other` has ended.
pub(super) async fn identify<T>(fake: &Fake, python: &[&str], other: impl Future<Output = T>) -> T {
    let identify = async {
        loop {
            // Without a limit of time: there may be no poll.
            let asked = fake.calls.recv().await.unwrap();
            assert_eq!(asked.op, "identity");
            asked.answer(identity(python));
        }
    };
    soon(or(other, identify)).await
}

/// Answers each poll of the workers, until the client no longer polls them.
pub(super) async fn identify_while_polled(fake: &Fake, link: &Link, python: &[&str]) {
    let until_idle = async {
        while link.is_polling() {
            Timer::after(SOON / 10).await;
        }
    };
    identify(fake, python, until_idle).await;
}

pub(super) fn states(states: &[(&str, Option<&str>)]) -> Outgoing {
    let mut packer = Packer::new();
    Pairs(states.iter().map(|(key, state)| (key, state))).pack(&mut packer);
    packer.finish()
}

/// Returns those of these texts that a graph contains.
pub(super) fn mentioned<'a>(graph: &Map, addresses: &[&'a str]) -> Vec<&'a str> {
    let Some(Value::Serialized(graph)) = graph.get("expr_ser") else { panic!("{graph:?}") };
    let Content::Pickle(pickle, _) = graph.content().unwrap() else { panic!() };
    let is_in = |text: &&str| pickle.windows(text.len()).any(|part| part == text.as_bytes());
    addresses.iter().copied().filter(is_in).collect()
}

pub(super) fn bytes(value: Serialized) -> Vec<u8> {
    match value.content().unwrap() {
        Content::Bytes(parts) => parts.concat(),
        other => panic!("{other:?}"),
    }
}

/// Answers that there's a worker, and returns the scatter that follows.
pub(super) async fn scattering(fake: &Fake) -> Asked {
    fake.asked("ncores_running").await.answer(message(&[("tcp://w:1", &1u64)]));
    fake.asked("scatter").await
}

/// Submits tasks that take a value which is being scattered, so that they are held and sent in one graph.
pub(super) async fn together<T>(
    fake: &Fake,
    link: &Link,
    stream: &mut Stream,
    value: &str,
    submit: impl FnOnce() -> T,
) -> (Arc<DaskFuture>, T) {
    let value = link.scatter(value, Serialized::bytes("value".into()));
    let asked = scattering(fake).await;
    let submitted = submit();
    stream.in_memory(value.key()).await;
    asked.answer(data(&[]));
    (value, submitted)
}
